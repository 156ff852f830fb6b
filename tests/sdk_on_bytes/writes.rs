//! Writes of the service client: what is sent, literally, and what becomes of lost answers.

use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment};
use azure_dps_core::{ErrorKind, Result};
use azure_dps_tests::back_end::{
    PRIMARY, SECONDARY, client, enrollment, fault, lines, mechanism, ok, primary_key, refusal, stored,
};
use azure_dps_tests::tasks::settles;
use azure_dps_tests::{Act, PATIENCE, Peer, after_silence, body, header};
use serde_json::{Value, json};

/// Expected values: requests of the official Node.js service client 1.11.2 of the same content.
#[tokio::test]
async fn a_create_is_a_put_without_if_match() {
    let peer = Peer::start([ok(stored(json!({})))]).await;
    client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap();
    let request = &peer.requests()[0];
    assert!(request.starts_with("PUT /enrollments/sensor-042?api-version=2021-10-01 HTTP/1.1\r\n"));
    assert_eq!(
        body(request),
        format!(
            "{{\"registrationId\":\"sensor-042\",\"attestation\":{{\"type\":\"symmetricKey\",\
             \"symmetricKey\":{{\"primaryKey\":\"{PRIMARY}\",\"secondaryKey\":\"{SECONDARY}\"}}}}}}"
        )
    );
    assert_eq!(header(request, "content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(header(request, "if-match"), None);
    let token = header(request, "authorization").unwrap();
    let resource = format!("SharedAccessSignature sr=localhost%3A{}&sig=", peer.port);
    assert!(token.starts_with(&resource) && token.ends_with("&skn=provisioningserviceowner"), "{token}");
}

#[tokio::test]
async fn the_tag_is_sent_as_it_was_read() {
    let peer = Peer::start([ok(stored(json!({}))), Act::json("204 No Content", "", "")]).await;
    let enrollments = client(&peer).enrollments();
    enrollments.create_or_update(&enrollment().with_etag("\"0e00a1b2\"")).await.unwrap();
    enrollments.delete_if_match("sensor-042", "\"0e00a1b2\"").await.unwrap();
    for request in peer.requests() {
        assert_eq!(header(&request, "if-match"), Some("\"0e00a1b2\""));
    }
}

#[tokio::test]
async fn an_update_carries_the_keys_and_the_members_of_newer_versions() {
    let read = stored(json!({ "memberOfANewerVersion": { "a": 1 } }));
    let peer = Peer::start([ok(read.clone()), mechanism(PRIMARY), ok(read)]).await;
    client(&peer)
        .enrollments()
        .update("sensor-042", |record| record.device_id = Some("d".into()))
        .await
        .unwrap();
    assert_eq!(
        lines(&peer),
        [
            "GET /enrollments/sensor-042",
            "POST /enrollments/sensor-042/attestationmechanism",
            "PUT /enrollments/sensor-042"
        ]
    );
    let written = &peer.requests()[2];
    assert_eq!(header(written, "if-match"), Some("\"0e00a1b2\""));
    let written: Value = serde_json::from_str(body(written)).unwrap();
    assert_eq!(written["attestation"]["symmetricKey"]["primaryKey"], PRIMARY);
    assert_eq!(written["memberOfANewerVersion"], json!({ "a": 1 }));
    assert_eq!(written["deviceId"], "d");
}

#[tokio::test]
async fn a_lost_create_that_was_applied_is_a_success() {
    let peer = Peer::start([Act::Close, ok(stored(json!({}))), mechanism(PRIMARY)]).await;
    let created = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap();
    assert_eq!(created.etag.as_deref(), Some("\"0e00a1b2\""));
    assert_eq!(primary_key(&created.attestation), PRIMARY);
    assert_eq!(lines(&peer)[..2], ["PUT /enrollments/sensor-042", "GET /enrollments/sensor-042"]);
}

#[tokio::test]
async fn a_create_whose_outcome_stays_unclear_says_that_it_may_have_been_applied() {
    let unreadable = [Act::Stall, refusal("401 Unauthorized", 401002)];
    let peer = Peer::start(unreadable).await;
    let error = create_at_silent(&peer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.maybe_applied());
    assert!(error.to_string().ends_with("; the request may have been applied"), "{error}");
    assert_eq!(peer.requests().len(), 2);
}

#[tokio::test]
async fn a_lost_create_that_meets_a_different_record_of_another_client_is_a_conflict_without_doubt() {
    let other = || ok(stored(json!({ "deviceId": "other" })));
    let peer = Peer::start([Act::Stall, other(), refusal("409 Conflict", 409201), other()]).await;
    let error = create_at_silent(&peer).await.unwrap_err();
    assert!(error.is_conflict() && !error.maybe_applied(), "{error}");
}

#[tokio::test]
async fn a_create_that_meets_an_older_record_is_a_conflict_without_doubt() {
    let old = "2020-01-01T00:00:00Z";
    let older = || ok(stored(json!({ "createdDateTimeUtc": old, "lastUpdatedDateTimeUtc": old })));
    let peer = Peer::start([Act::Close, older(), refusal("409 Conflict", 409201), older()]).await;
    let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert!(error.is_conflict() && !error.maybe_applied(), "{error}");
}

#[tokio::test]
async fn a_lost_create_that_meets_other_keys_is_a_conflict_without_doubt() {
    let theirs = || [ok(stored(json!({}))), mechanism(SECONDARY)];
    let acts = [vec![Act::Close], theirs().into(), vec![refusal("409 Conflict", 409201)], theirs().into()];
    let peer = Peer::start(acts.concat()).await;
    let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert!(error.is_conflict() && !error.maybe_applied());
}

#[tokio::test]
async fn a_lost_conditional_write_is_settled_too() {
    let tpm = |etag| {
        stored(json!({ "attestation": { "type": "tpm", "tpm": { "endorsementKey": "AToA" } }, "etag": etag }))
    };
    let record =
        IndividualEnrollment::new("sensor-042", AttestationMechanism::tpm("AToA")).with_etag("\"1\"");
    let peer = Peer::start([Act::Close, ok(tpm("\"2\""))]).await;
    let written = client(&peer).enrollments().create_or_update(&record).await.unwrap();
    assert_eq!(written.etag.as_deref(), Some("\"2\""));
    assert_eq!(lines(&peer), ["PUT /enrollments/sensor-042", "GET /enrollments/sensor-042"]);
}

#[tokio::test]
async fn a_conflict_after_a_throttled_attempt_is_looked_after() {
    let slow = Act::json("503 Service Unavailable", "Retry-After: 0\r\n", "{}");
    let peer = Peer::start([
        slow,
        refusal("409 Conflict", 409201),
        ok(stored(json!({ "attestation": { "type": "symmetricKey" } }))),
        mechanism(PRIMARY),
    ])
    .await;
    client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap();
}

#[tokio::test]
async fn a_conflict_after_an_attempt_that_was_not_carried_out_is_a_conflict() {
    let peer = Peer::start([fault("429 Too Many Requests"), refusal("409 Conflict", 409201)]).await;
    let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert!(error.is_conflict() && !error.maybe_applied());
}

#[tokio::test]
async fn a_lost_create_that_meets_an_equal_but_older_record_is_a_conflict_without_doubt() {
    // Another client created it before the write began, and it was changed since.
    let found = || ok(stored(json!({ "createdDateTimeUtc": "2020-01-01T00:00:00Z" })));
    let peer = Peer::start([Act::Close, found(), refusal("409 Conflict", 409201), found()]).await;
    let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert!(error.is_conflict() && !error.maybe_applied());
}

#[tokio::test]
async fn an_update_that_was_lost_on_its_way_is_sent_again() {
    let read = || ok(stored(json!({})));
    let written = ok(stored(json!({ "deviceId": "line-3", "etag": "\"0e00a1b3\"" })));
    let peer = Peer::start([read(), mechanism(PRIMARY), Act::Close, read(), written]).await;
    let edit = |record: &mut IndividualEnrollment| record.device_id = Some("line-3".into());
    client(&peer).enrollments().update("sensor-042", edit).await.unwrap();
    let writes: Vec<_> = peer.requests().into_iter().filter(|request| request.starts_with("PUT ")).collect();
    assert_eq!(body(&writes[0]), body(&writes[1]));
    assert_eq!(header(&writes[1], "if-match"), Some("\"0e00a1b2\""));
}

#[tokio::test]
async fn an_edit_that_may_have_been_applied_is_not_applied_again() {
    let read = || ok(stored(json!({})));
    let changed = || ok(stored(json!({ "deviceId": "of-somebody-else", "etag": "\"0e00a1b4\"" })));
    let refused = refusal("412 Precondition Failed", 412001);
    let peer = Peer::start([read(), mechanism(PRIMARY), Act::Close, changed(), refused, changed()]).await;
    let edit = |record: &mut IndividualEnrollment| record.device_id = Some("line-3".into());
    let error = client(&peer).enrollments().update("sensor-042", edit).await.unwrap_err();
    assert!(error.is_precondition_failed() && error.maybe_applied(), "{error}");
}

#[tokio::test]
async fn an_update_cannot_change_the_id() {
    let peer = Peer::start([ok(stored(json!({}))), mechanism(PRIMARY)]).await;
    let edit = |record: &mut IndividualEnrollment| record.registration_id = "other".into();
    let error = client(&peer).enrollments().update("sensor-042", edit).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("\"other\""), "{error}");
}

#[tokio::test]
async fn a_create_that_was_lost_on_its_way_is_sent_again() {
    for lost in [fault("500 Internal Server Error"), fault("504 Gateway Timeout"), Act::Close, Act::Stall] {
        let is_silent = matches!(lost, Act::Stall);
        let peer = Peer::start([lost, refusal("404 Not Found", 404201), ok(stored(json!({})))]).await;
        match is_silent {
            true => create_at_silent(&peer).await.unwrap(),
            false => client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap(),
        };
        let [put, get] = ["PUT /enrollments/sensor-042", "GET /enrollments/sensor-042"];
        assert_eq!(lines(&peer), [put, get, put]);
    }
}

/// Creates the enrollment at a peer that is silent at first, until that has taken too long.
async fn create_at_silent(peer: &Peer) -> Result<IndividualEnrollment> {
    let service = client(peer);
    let call = tokio::spawn(async move { service.enrollments().create_or_update(&enrollment()).await });
    settles(|| peer.requests().len() == 1).await;
    after_silence(2 * PATIENCE, call).await
}
