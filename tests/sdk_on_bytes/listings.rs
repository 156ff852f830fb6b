//! Listings of the service client. Expected values: requests of the official Python service client 1.0.0b1 of
//! the same content.

use azure_dps_core::ErrorKind;
use azure_dps_tests::back_end::{client, lines, listed, ok, refusal};
use azure_dps_tests::{Act, Peer, body, header};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

#[tokio::test]
async fn a_listing_asks_page_by_page_and_skips_empty_ones() {
    let peer =
        Peer::start([listed(&["a", "b"], Some("Mg==")), listed(&[], Some("NA==")), listed(&["c"], None)])
            .await;
    let listing = client(&peer).enrollments().list().page_size(2);
    let ids: Vec<_> = listing.map_ok(|enrollment| enrollment.registration_id).try_collect().await.unwrap();
    assert_eq!(ids, ["a", "b", "c"]);

    let requests = peer.requests();
    assert_eq!(lines(&peer), ["POST /enrollments/query"; 3]);
    assert_eq!(
        requests.iter().map(|r| header(r, "x-ms-continuation")).collect::<Vec<_>>(),
        [None, Some("Mg=="), Some("NA==")]
    );
    for request in &requests {
        assert_eq!(header(request, "x-ms-max-item-count"), Some("2"));
        assert_eq!(body(request), r#"{"query":"SELECT * FROM enrollments"}"#);
    }
}

#[tokio::test]
async fn a_listing_of_a_group_has_no_body_and_no_page_size_of_its_own() {
    let peer = Peer::start([ok(json!([{ "registrationId": "d", "status": "assigned" }]))]).await;
    let mut pages = client(&peer).registrations().of_group("plant:berlin");
    let page = pages.next_page().await.unwrap().unwrap();
    assert_eq!((page.items[0].registration_id.as_deref(), page.continuation), (Some("d"), None));
    assert_eq!(pages.next_page().await.unwrap(), None);
    assert_eq!(lines(&peer), ["POST /registrations/plant%3Aberlin/query"]);
    assert_eq!(body(&peer.requests()[0]), "");
    assert_eq!(header(&peer.requests()[0], "x-ms-max-item-count"), None);
}

#[tokio::test]
async fn a_listing_resumes_with_a_token_and_any_query_text() {
    let peer = Peer::start([listed(&["c"], None)]).await;
    let mut pages = client(&peer).enrollments().list().query_text("*").resume("Mg==");
    assert_eq!(pages.next_page().await.unwrap().unwrap().items.len(), 1);
    assert_eq!(header(&peer.requests()[0], "x-ms-continuation"), Some("Mg=="));
    assert_eq!(body(&peer.requests()[0]), r#"{"query":"*"}"#);
}

#[tokio::test]
async fn an_empty_continuation_is_the_end_and_a_circle_an_error() {
    let peer = Peer::start([listed(&["a"], Some(""))]).await;
    assert_eq!(client(&peer).enrollments().list().count().await, 1);

    let circles: [&[&str]; 2] = [&["MQ==", "MQ=="], &["MQ==", "Mg==", "MQ=="]];
    for circle in circles {
        let peer = Peer::start(circle.iter().map(|token| listed(&[], Some(token)))).await;
        let listing: Vec<_> = client(&peer).enrollments().list().collect().await;
        assert_eq!(listing.len(), 1);
        assert_eq!(listing[0].as_ref().unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn a_listing_that_ended_can_be_resumed_elsewhere() {
    let peer = Peer::start([listed(&["a", "b"], None), listed(&["c"], None)]).await;
    let mut listing = client(&peer).enrollments().list().page_size(2);
    listing.next().await.unwrap().unwrap();
    let mut resumed = listing.resume("Mg==");
    assert_eq!(resumed.next_page().await.unwrap().unwrap().items[0].registration_id, "c");
    assert_eq!(header(&peer.requests()[1], "x-ms-max-item-count"), Some("2"));
    assert_eq!(resumed.next_page().await.unwrap(), None);
}

#[tokio::test]
async fn a_listing_that_failed_ends_and_goes_on_where_it_was() {
    let refused = refusal("400 Bad Request", 400000);
    let peer = Peer::start([listed(&["a"], Some("MQ==")), refused, listed(&["b"], None)]).await;
    let mut listing = client(&peer).enrollments().list();
    assert_eq!(listing.next().await.unwrap().unwrap().registration_id, "a");
    assert!(listing.next().await.unwrap().is_err());
    assert!(listing.next().await.is_none());
    let page = listing.next_page().await.unwrap().unwrap();
    assert_eq!(page.items[0].registration_id, "b");
    assert_eq!(header(&peer.requests()[2], "x-ms-continuation"), Some("MQ=="));
}

/// Two records with something odd between them, and a record on the next page.
fn odd_pages(odd: &Value) -> [Act; 2] {
    let record = |id: &str| json!({ "registrationId": id, "attestation": { "type": "symmetricKey" } });
    let items = json!([record("a"), odd, record("b")]).to_string();
    [Act::json("200 OK", "x-ms-continuation: MQ==\r\n", &items), listed(&["c"], None)]
}

#[tokio::test]
async fn a_record_of_nulls_is_listed() {
    for member in [
        json!({ "attestation": null }),
        json!({ "capabilities": { "iotEdge": null } }),
        json!({ "reprovisionPolicy": { "updateHubAssignment": null, "migrateDeviceData": null } }),
        json!({ "customAllocationDefinition": { "webhookUrl": null, "apiVersion": null } }),
        json!({ "attestation": { "type": "tpm", "tpm": { "endorsementKey": null } } }),
        json!({ "iotHubs": [null] }),
        json!({ "attestation": { "type": "x509", "x509": { "clientCertificates": { "primary": { "info": {
            "subjectName": null, "sha1Thumbprint": null, "sha256Thumbprint": null, "issuerName": null,
            "notBeforeUtc": null, "notAfterUtc": null, "serialNumber": null, "version": null
        } } } } } }),
    ] {
        let mut odd = json!({ "registrationId": "odd", "attestation": { "type": "none" } });
        odd.as_object_mut().unwrap().extend(member.as_object().unwrap().clone());
        let peer = Peer::start(odd_pages(&odd)).await;
        let all: Vec<_> = client(&peer).enrollments().list().try_collect().await.unwrap();
        let ids: Vec<_> = all.iter().map(|record| record.registration_id.as_str()).collect();
        assert_eq!(ids, ["a", "odd", "b", "c"], "{member}");
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_itself_and_not_the_listing() {
    let marker = "marker-secret";
    for (odd, named) in [
        (json!({ "registrationId": "odd", "deviceId": 7, "attestation": { "type": marker } }), "\"odd\""),
        (json!({ "registrationId": "odd", "attestation": { "type": "x509", "x509": marker } }), "\"odd\""),
        (json!({ "registrationId": 7, "attestation": null }), "without an id"),
        (json!({ "registrationId": "x\r\ny", "iotHubs": marker }), "\"xy\""),
        (json!(marker), "without an id"),
        (json!(null), "without an id"),
    ] {
        let peer = Peer::start(odd_pages(&odd)).await;
        let listed: Vec<_> = client(&peer).enrollments().list().collect().await;
        let ids: Vec<_> = listed
            .iter()
            .map(|item| item.as_ref().ok().map(|record| record.registration_id.as_str()))
            .collect();
        assert_eq!(ids, [Some("a"), None, Some("b"), Some("c")], "{odd}");
        let error = listed[1].as_ref().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains(named), "{error}");
        assert!(!format!("{error} {error:?} {error:#?}").contains(marker), "{error:?}");

        let peer = Peer::start(odd_pages(&odd)).await;
        let mut pages = client(&peer).enrollments().list();
        let page = pages.next_page().await.unwrap().unwrap();
        assert_eq!((page.items.len(), page.unreadable.len()), (2, 1));
        assert_eq!(pages.next_page().await.unwrap().unwrap().items[0].registration_id, "c");
    }
}

#[tokio::test]
async fn a_page_that_a_stream_left_is_handed_out_and_a_dropped_wait_loses_nothing() {
    let peer = Peer::start([listed(&["a", "b", "c"], Some("MQ==")), listed(&["d"], None)]).await;
    let mut listing = client(&peer).enrollments().list();
    listing.next().await.unwrap().unwrap();
    let rest = listing.next_page().await.unwrap().unwrap();
    assert_eq!((rest.items.len(), rest.continuation.as_deref()), (2, Some("MQ==")));

    assert!(listing.next_page().now_or_never().is_none(), "a page takes more than one poll");
    assert_eq!(listing.next_page().await.unwrap().unwrap().items[0].registration_id, "d");
    assert_eq!(peer.requests().len(), 2);
}

#[tokio::test]
async fn a_page_of_no_items_is_not_asked_for() {
    let peer = Peer::start([]).await;
    let error = client(&peer).enrollments().list().page_size(0).next_page().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let error = client(&peer).registrations().of_group("").next_page().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
