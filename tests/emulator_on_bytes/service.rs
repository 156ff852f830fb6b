//! The emulator's service API judged over the wire: listings, bulk operations, rights, roles, quotas and billing; traits
//! of official service clients; and two sets of bodies, one that is accepted and one that is refused.
//!
//! Literal requests, and tokens that this file signs itself; nothing of the SDK. Contract: docs/wire/service-api.md.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use azure_dps_emulator::{
    AccessPolicy, Emulator, EmulatorBuilder, EntraRole, Fault, Operation, Quotas, Right,
};
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use azure_dps_tests::{Shown, header, read_answer, trusting};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A token for the default policy that another program signed.
const OWNER: &str = "SharedAccessSignature sr=localhost&sig=fKT4xk%2BZLj1uxZzFcfAmLftBywuB9Y7c9SWGxupnvrE%3D&skn=provisioningserviceowner&se=4102444800";
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const OTHER_KEY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const VERSION: &str = "?api-version=2021-10-01";
const ALL: &str = r#"{"query":"SELECT * FROM enrollments"}"#;

// Listings

#[tokio::test]
async fn a_listing_goes_on_page_by_page_and_in_the_order_of_ids_if_it_is_told_to() {
    let mut peer = Peer::of(Emulator::builder().list_by_id()).await;
    for id in ["c", "A", "b", "E", "d"] {
        peer.enroll(id).await;
    }

    let mut head = "x-ms-max-item-count: 2\r\n".to_owned();
    let mut pages = Vec::new();
    loop {
        let page = peer.ask("POST", "/enrollments/query", &head, ALL).await;
        assert_eq!(page.status, 200, "{}", page.body);
        assert_eq!(page.header("x-ms-item-type"), Some("Enrollment"));
        assert_eq!(page.header("x-ms-max-item-count"), None, "the service never tells it");
        pages.push(page.ids("registrationId"));
        let Some(token) = page.header("x-ms-continuation") else { break };
        head = format!("x-ms-max-item-count: 2\r\nx-ms-continuation: {token}\r\n");
    }

    assert_eq!(pages, [vec!["A", "b"], vec!["c", "d"], vec!["E"]]);
}

#[tokio::test]
async fn the_last_page_has_no_token_even_when_it_is_full() {
    let mut peer = Peer::start().await;
    let empty = peer.ask("POST", "/enrollments/query", "", ALL).await;
    assert_eq!((empty.status, &empty.body, empty.header("x-ms-continuation")), (200, &json!([]), None));
    assert_eq!(empty.header("x-ms-item-type"), Some("Enrollment"), "clients throw without it");
    peer.enroll("a").await;
    peer.enroll("b").await;

    let first = peer.ask("POST", "/enrollments/query", "x-ms-max-item-count: 1\r\n", ALL).await;
    let next = format!("x-ms-max-item-count: 1\r\nx-ms-continuation: {}\r\n", first.token());
    let second = peer.ask("POST", "/enrollments/query", &next, ALL).await;

    assert_eq!(first.ids("registrationId"), ["a"]);
    assert_eq!(second.ids("registrationId"), ["b"]);
    assert_eq!(second.header("x-ms-continuation"), None);
}

#[tokio::test]
async fn a_listing_has_the_order_of_a_store_with_partitions_whatever_the_page_size() {
    let mut peer = Peer::start().await;
    for n in (0..30).rev() {
        peer.enroll(&format!("s-{n:02}")).await;
    }

    let mut orders = Vec::new();
    for size in [100, 7, 1] {
        let (mut ids, mut head) = (Vec::new(), format!("x-ms-max-item-count: {size}\r\n"));
        loop {
            let page = peer.ask("POST", "/enrollments/query", &head, ALL).await;
            ids.extend(page.ids("registrationId"));
            let Some(token) = page.header("x-ms-continuation") else { break };
            head = format!("x-ms-max-item-count: {size}\r\nx-ms-continuation: {token}\r\n");
        }
        orders.push(ids);
    }

    // Made in descending order: where one id is followed by a greater one, another partition begins.
    let begins = orders[0].windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!((1..5).contains(&begins), "{:?}", orders[0]);
    assert_eq!(sorted(orders[0].clone()).len(), 30);
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
}

#[tokio::test]
async fn members_have_the_order_of_the_service_and_what_users_give_has_theirs() {
    let mut peer = Peer::start().await;
    let twin = r#""initialTwin":{"tags":{"z":1,"a":{"y":[{"q":2,"c":null}],"b":0.1}},"properties":{"desired":{"n":1,"m":"x"}}}"#;
    let information = r#""optionalDeviceInformation":{"serial":7,"batch":{"year":2026,"line":"b"}}"#;
    let body = format!(
        r#"{{"provisioningStatus":"disabled",{twin},"reprovisionPolicy":{{"migrateDeviceData":false,"updateHubAssignment":true}},{information},"attestation":{{"type":"symmetricKey"}},"deviceId":"d","registrationId":"dev1"}}"#
    );

    let put = peer.ask("PUT", "/enrollments/dev1", "", &body).await;
    let read = peer.ask("GET", "/enrollments/dev1", "", "").await;
    let listed = peer.ask("POST", "/enrollments/query", "", ALL).await;

    let policy = r#""reprovisionPolicy":{"updateHubAssignment":true,"migrateDeviceData":false}"#;
    for told in [&put, &read, &listed] {
        let places = [
            r#""registrationId":"dev1""#,
            r#""deviceId":"d""#,
            information,
            r#""attestation":{"type":"symmetricKey""#,
            twin,
            r#""etag":"#,
            r#""provisioningStatus":"disabled""#,
            policy,
            r#""createdDateTimeUtc":"#,
            r#""lastUpdatedDateTimeUtc":"#,
        ]
        .map(|member| told.text.find(member).unwrap_or_else(|| panic!("{member}: {}", told.text)));
        assert!(places.is_sorted(), "{}", told.text);
    }
}

#[tokio::test]
async fn items_are_as_get_tells_them_but_without_registration_state() {
    let mut peer = Peer::start().await;
    peer.enroll_group("plant").await;
    peer.put("/enrollments/dev1", &json!({"registrationId": "dev1", "attestation": own_keys()})).await;
    let register = "/0ne00EMU1A7/registrations/dev1/register";
    assert_eq!(peer.ask_as("PUT", register, &device_token("dev1", KEY), "", "{}").await.status, 202);
    let mut told = peer.ask("GET", "/enrollments/dev1", "", "").await.body;
    assert_eq!(told["registrationState"]["status"], "assigning");
    assert!(told.as_object_mut().unwrap().remove("registrationState").is_some());

    let listed = peer.ask("POST", "/enrollments/query", "", ALL).await;
    let groups = peer.ask("POST", "/enrollmentgroups/query", "", ALL).await;

    assert_eq!(listed.body, json!([told]));
    assert!(!listed.body.to_string().contains(KEY));
    assert_eq!(groups.header("x-ms-item-type"), Some("EnrollmentGroup"));
    assert_eq!(groups.body, json!([peer.ask("GET", "/enrollmentGroups/plant", "", "").await.body]));
}

#[tokio::test]
async fn the_query_must_be_there_and_may_say_anything() {
    let mut peer = Peer::start().await;
    peer.enroll("a").await;

    for text in ["", "*", "SELECT * FROM nothing WHERE 1 = 0", "DROP"] {
        let body = json!({"query": text}).to_string();
        assert_eq!(peer.ask("POST", "/enrollments/query", "", &body).await.ids("registrationId"), ["a"]);
    }
    for (body, message) in [
        ("", "the body is not JSON"),
        ("[]", "the body is not a JSON object"),
        ("{}", "query is missing"),
        (r#"{"query":null}"#, "query is missing"),
        (r#"{"query":1}"#, "query must be a string"),
        (r#"{"query":"*","top":1}"#, "no api-version knows top"),
    ] {
        for path in ["/enrollments/query", "/enrollmentGroups/query"] {
            let answer = peer.ask("POST", path, "", body).await;
            assert_eq!((answer.status, answer.message()), (400, message));
        }
    }
    let untyped =
        peer.ask_typed("POST", "/enrollments/query", OWNER, "Content-Type: text/plain\r\n", ALL).await;
    assert_eq!(untyped.status, 415);
}

#[tokio::test]
async fn query_as_an_id_means_the_query() {
    let mut peer = Peer::start().await;
    let body = json!({"registrationId": "query", "attestation": {"type": "symmetricKey"}}).to_string();

    for (method, path) in
        [("PUT", "/enrollments/query"), ("GET", "/enrollmentGroups/QUERY"), ("DELETE", "/enrollments/query")]
    {
        assert_eq!(peer.ask(method, path, "", &body).await.status, 405, "{method} {path}");
    }
    assert_eq!(peer.ask("POST", "/Enrollments/Query/", "", ALL).await.status, 200);
}

#[tokio::test]
async fn a_page_has_1_to_100_items() {
    let mut peer = Peer::start().await;

    for n in 0..101 {
        peer.enroll(&format!("s-{n}")).await;
    }

    let mut sizes = Vec::new();
    for asked in [None, Some("1"), Some("100"), Some("101"), Some("2147483647")] {
        let head = asked.map(|asked| format!("x-ms-max-item-count: {asked}\r\n")).unwrap_or_default();
        sizes.push(peer.ask("POST", "/enrollments/query", &head, ALL).await.ids("registrationId").len());
    }
    assert_eq!(sizes, [100, 1, 100, 100, 100]);
    for wrong in ["0", "-1", "many", "1.0", ""] {
        let head = format!("x-ms-max-item-count: {wrong}\r\n");
        let page = peer.ask("POST", "/enrollments/query", &head, ALL).await;
        assert_eq!((page.status, page.message()), (400, "x-ms-max-item-count must be a whole number from 1"));
    }
}

#[tokio::test]
async fn a_token_is_good_on_a_new_connection_more_than_once_and_among_writes() {
    let mut peer = Peer::start().await;
    for id in ["b", "d", "f", "h"] {
        peer.enroll(id).await;
    }
    let first = peer.ask("POST", "/enrollments/query", "x-ms-max-item-count: 2\r\n", ALL).await;
    let seen = first.ids("registrationId");
    let left: Vec<String> = peer.listed().await.into_iter().filter(|id| !seen.contains(id)).collect();
    assert_eq!((seen.len(), left.len()), (2, 2));
    let head = format!("x-ms-max-item-count: 2\r\nx-ms-continuation: {}\r\n", first.token());

    peer.reconnect().await;
    for _ in 0..2 {
        let rest = peer.ask("POST", "/enrollments/query", &head, ALL).await;
        assert_eq!(sorted(rest.ids("registrationId")), left);
    }
    for id in &seen {
        assert_eq!(peer.ask("DELETE", &format!("/enrollments/{id}"), "", "").await.status, 204);
    }
    for id in ["a", "c", "e"] {
        peer.enroll(id).await;
    }
    let head = head.replace("max-item-count: 2", "max-item-count: 100");
    let rest = peer.ask("POST", "/enrollments/query", &head, ALL).await.ids("registrationId");
    assert!(left.iter().all(|id| rest.contains(id)), "not lost, though the record of the token has gone");
    assert!(!rest.iter().any(|id| seen.contains(id)), "not repeated");
}

#[tokio::test]
async fn a_token_that_is_none_or_another_listings_is_refused() {
    let mut peer = Peer::start().await;
    for id in ["a", "b"] {
        peer.enroll(id).await;
    }
    let page = peer.ask("POST", "/enrollments/query", "x-ms-max-item-count: 1\r\n", ALL).await;
    let token = page.token().to_owned();

    for (path, token, message) in [
        ("/enrollmentGroups/query", token.as_str(), "x-ms-continuation is the token of another listing"),
        ("/registrations/a/query", token.as_str(), "x-ms-continuation is the token of another listing"),
        ("/enrollments/query", "2", "x-ms-continuation is no token of this service"),
        ("/enrollments/query", "", "x-ms-continuation is no token of this service"),
    ] {
        let head = format!("x-ms-continuation: {token}\r\n");
        let answer = peer.ask("POST", path, &head, ALL).await;
        assert_eq!((answer.status, answer.message()), (400, message), "{path} {token}");
    }
}

#[tokio::test]
async fn records_of_a_group_are_listed_as_long_as_they_exist() {
    let mut peer = Peer::start().await;
    for group in ["plant", "depot"] {
        peer.enroll_group(group).await;
    }
    // Both groups have the same key; the first one by its id lets the devices in.
    for id in ["s-2", "s-1"] {
        peer.register(id).await;
    }

    let listed = peer.ask("POST", "/registrations/DEPOT/query", "x-ms-max-item-count: 1\r\n", "").await;
    assert_eq!(listed.status, 200);
    assert_eq!(listed.header("x-ms-item-type"), Some("DeviceRegistration"));
    let first = listed.ids("registrationId").remove(0);
    assert_eq!(listed.body, json!([peer.ask("GET", &format!("/registrations/{first}"), "", "").await.body]));
    let head = format!("x-ms-continuation: {}\r\n", listed.token());
    let rest = peer.ask("POST", "/registrations/depot/query", &head, "").await.ids("registrationId");
    assert_eq!(sorted([vec![first], rest].concat()), ["s-1", "s-2"]);
    let other = peer.ask("POST", "/registrations/plant/query", "", "").await;
    assert_eq!((other.body, peer.cause()), (json!([]), None), "the group exists and has let nobody in");

    assert_eq!(peer.ask("DELETE", "/enrollmentGroups/depot", "", "").await.status, 204);
    let kept = peer.ask("POST", "/registrations/depot/query", "", "").await;
    assert_eq!(sorted(kept.ids("registrationId")), ["s-1", "s-2"]);
}

#[tokio::test]
async fn an_unknown_group_lists_nothing_and_the_journal_says_why() {
    let mut peer = Peer::start().await;

    for (path, group) in [("nobody", "nobody"), ("registrations%2Fplant", "registrations/plant")] {
        let answer = peer.ask("POST", &format!("/registrations/{path}/query"), "", "").await;
        assert_eq!((answer.status, &answer.body), (200, &json!([])));
        assert_eq!(answer.header("x-ms-item-type"), Some("DeviceRegistration"));
        assert_eq!(peer.cause(), Some(format!("there is no enrollment group {group}, and no record of one")));
    }
}

// Bulk operations

#[tokio::test]
async fn a_bulk_operation_creates_replaces_by_tag_and_deletes() {
    let mut peer = Peer::start().await;
    let enabled = json!([{"registrationId": "a", "attestation": own_keys()}, {"registrationId": "b", "attestation": own_keys()}]);
    let all_done = json!({"isSuccessful": true, "errors": []});

    let created = peer.bulk("/enrollments", json!({"mode": "create", "enrollments": enabled})).await;
    assert_eq!((created.status, &created.body), (200, &all_done), "the records are not told");
    let tag = peer.ask("GET", "/enrollments/a", "", "").await.body["etag"].clone();

    let mut disabled = enabled.clone();
    disabled[0]["provisioningStatus"] = "disabled".into();
    let update = |items: &Value| json!({"mode": "update", "enrollments": items});
    let refused = peer.bulk("/enrollments", update(&disabled)).await;
    let there = |id: &str| json!({"registrationId": id, "errorCode": 409_201, "errorStatus": "Enrollment already exists."});
    let errors = json!({"isSuccessful": false, "errors": [there("a"), there("b")]});
    assert_eq!((refused.status, refused.body), (200, errors), "items without a tag update nothing");
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.body["etag"], tag);

    disabled[0]["etag"] = tag.clone();
    disabled[1]["etag"] = "\"*\"".into();
    assert_eq!(peer.bulk("/enrollments", update(&disabled)).await.body, all_done);
    let stale = peer.bulk("/enrollments", update(&json!([disabled[0]]))).await;
    assert_eq!(stale.body["errors"][0]["errorCode"], 412_001);
    let replaced = peer.ask("GET", "/enrollments/a", "", "").await.body;
    assert_eq!(replaced["provisioningStatus"], "disabled");
    assert_ne!(replaced["etag"], tag, "every replacement has a new tag");

    for mode in ["updateIfMatchETag", "updateIfMatchEtag"] {
        let tag = peer.ask("GET", "/enrollments/a", "", "").await.body["etag"].clone();
        let item = json!({"registrationId": "a", "attestation": own_keys(), "etag": tag});
        let matched = peer.bulk("/enrollments", json!({"mode": mode, "enrollments": [item]})).await;
        assert_eq!(matched.body, all_done, "{mode}");
    }
    let gone = json!({"mode": "delete", "enrollments": [{"registrationId": "A"}, {"registrationId": "b", "attestation": {}}]});
    assert_eq!(peer.bulk("/enrollments", gone).await.body, all_done);
    assert_eq!(peer.emulator.enrollments(), json!({"enrollments": [], "enrollmentGroups": []}));
}

#[tokio::test]
async fn an_answer_is_dated_by_the_clock_that_dates_records() {
    let mut peer = Peer::start().await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(784_111_777));
    let record = json!({"registrationId": "a", "attestation": own_keys()}).to_string();
    let answer = peer.ask("PUT", "/enrollments/a", "", &record).await;
    assert_eq!(answer.header("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let created = answer.body["createdDateTimeUtc"].as_str().unwrap();
    assert!(created.starts_with("1994-11-06T08:49:37"), "{created}");
}

#[tokio::test]
async fn an_empty_tag_counts_as_none() {
    let mut peer = Peer::start().await;
    peer.enroll("a").await;
    for (mode, code) in [("create", 409_201), ("update", 409_201), ("updateIfMatchETag", 400_000)] {
        let item = json!({"registrationId": "a", "attestation": own_keys(), "etag": ""});
        let refused = peer.bulk("/enrollments", json!({"mode": mode, "enrollments": [item]})).await;
        assert_eq!(refused.body["errors"][0]["errorCode"], code, "{mode}");
    }
    let record = json!({"registrationId": "a", "attestation": own_keys()}).to_string();
    for empty in ["If-Match:\r\n", "If-Match:  \r\n"] {
        assert_eq!(peer.ask("PUT", "/enrollments/a", empty, &record).await.code(), 409_201);
    }
    let gone = json!({"mode": "delete", "enrollments": [{"registrationId": "a", "etag": ""}]});
    assert_eq!(peer.bulk("/enrollments", gone).await.body["isSuccessful"], true);
    peer.enroll("a").await;
    assert_eq!(peer.ask("DELETE", "/enrollments/a", "If-Match:\r\n", "").await.status, 204);
}

#[tokio::test]
async fn items_that_fail_are_told_in_order_and_the_others_are_carried_out() {
    let mut peer = Peer::start().await;
    peer.enroll("there").await;
    let stale = "\"00000009-0000-0700-0000-00000009\"";
    let key = json!({"type": "symmetricKey"});
    let run = |mode: &str, items: Value| json!({"mode": mode, "enrollments": items});
    let error = |id: &str, code: u32, status: &str| json!({"registrationId": id, "errorCode": code, "errorStatus": status});

    let created = run(
        "create",
        json!([
            {"registrationId": "there", "attestation": key},
            {"registrationId": "one", "attestation": key},
            {"registrationId": "bare"},
            {"registrationId": "-bad", "attestation": key},
            {"registrationId": "odd", "attestation": key, "iotHubs": 5},
            {"registrationId": "two", "attestation": key},
        ]),
    );
    let answer = peer.bulk("/enrollments", created).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        json!({"isSuccessful": false, "errors": [
            error("there", 409_201, "Enrollment already exists."),
            error("bare", 400_000, "attestation is missing"),
            error("-bad", 400_000, "registrationId is not a valid id"),
            error("odd", 400_000, "iotHubs must be an array of strings"),
        ]})
    );
    let cause = peer.cause().unwrap();
    assert!(
        cause.starts_with("4 of 6 failed: there (409201: Enrollment already exists.); bare (400000: "),
        "{cause}"
    );
    assert_eq!(peer.listed().await, ["one", "there", "two"]);

    let updated = run("update", json!([{"registrationId": "none", "attestation": key}]));
    assert_eq!(
        peer.bulk("/enrollments", updated).await.body["errors"],
        json!([error("none", 404_201, "Enrollment not found")])
    );
    let matched = run(
        "updateIfMatchETag",
        json!([
            {"registrationId": "one", "attestation": key},
            {"registrationId": "two", "attestation": key, "etag": stale},
            {"registrationId": "there", "attestation": key, "etag": 7},
            {"registrationId": "none", "attestation": key, "etag": stale},
        ]),
    );
    assert_eq!(
        peer.bulk("/enrollments", matched).await.body["errors"],
        json!([
            error("one", 400_000, "etag is missing"),
            error("two", 412_001, "ETag is invalid"),
            error("there", 400_000, "etag must be a string"),
            error("none", 404_201, "Enrollment not found"),
        ])
    );
    let deleted = run(
        "delete",
        json!([
            {"registrationId": "one", "etag": stale},
            {"registrationId": "none"},
            {"registrationId": "two"},
        ]),
    );
    assert_eq!(
        peer.bulk("/enrollments", deleted).await.body["errors"],
        json!([error("one", 412_001, "ETag is invalid"), error("none", 404_201, "Enrollment not found")])
    );
    assert_eq!(peer.listed().await, ["one", "there"]);
}

#[tokio::test]
async fn groups_are_run_in_bulk_too_and_their_records_stay() {
    let mut peer = Peer::start().await;
    let group = json!({"enrollmentGroupId": "plant", "attestation": own_keys()});
    let run = |mode: &str| json!({"mode": mode, "enrollmentGroups": [group]});
    assert_eq!(peer.bulk("/enrollmentGroups", run("create")).await.body["isSuccessful"], true);
    let again = peer.bulk("/enrollmentGroups", run("create")).await;
    assert_eq!(
        again.body["errors"],
        json!([{"enrollmentGroupId": "plant", "errorCode": 409_202, "errorStatus": "EnrollmentGroup already exists."}])
    );
    peer.register("s-1").await;

    assert_eq!(peer.bulk("/enrollmentgroups/", run("delete")).await.body["isSuccessful"], true);

    let records = peer.ask("POST", "/registrations/plant/query", "", "").await;
    assert_eq!(records.ids("registrationId"), ["s-1"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_structure_refuses_the_whole_bulk_operation() {
    let mut peer = Peer::start().await;
    let item = |id: &str| json!({"registrationId": id, "attestation": {"type": "symmetricKey"}});
    let eleven: Vec<Value> = (0..11).map(|number| item(&format!("a{number}"))).collect();

    for (body, message) in [
        (json!({"mode": "create", "enrollments": eleven}), "enrollments has 11 items; 10 are the most"),
        (json!({"mode": "create", "enrollments": []}), "enrollments is empty"),
        (json!({"mode": "create"}), "enrollments is missing"),
        (
            json!({"mode": "create", "enrollments": [item("a"), item("b"), item("A")]}),
            "enrollments[2].registrationId: A is there twice",
        ),
        (json!({"enrollments": [item("a")]}), "mode is missing"),
        (
            json!({"mode": "replace", "enrollments": [item("a")]}),
            "mode must be one of create, update, updateIfMatchETag, delete",
        ),
        (
            json!({"mode": "create", "enrollments": [item("a"), {"attestation": {"type": "symmetricKey"}}]}),
            "enrollments[1].registrationId is missing",
        ),
        (
            json!({"mode": "create", "enrollments": [item("a"), {"registrationId": "b", "colour": "red"}]}),
            "no api-version knows enrollments[1].colour",
        ),
        (json!({"mode": "create", "enrollmentGroups": [item("a")]}), "no api-version knows enrollmentGroups"),
    ] {
        let answer = peer.bulk("/enrollments", body).await;
        assert_eq!((answer.status, answer.code(), answer.message()), (400, 400_000, message));
    }
    assert_eq!(peer.listed().await, [""; 0], "nothing was applied");
    let ten = json!({"mode": "create", "enrollments": eleven[..10]});
    assert_eq!(peer.bulk("/enrollments", ten).await.body["isSuccessful"], true);
}

// Rights and roles

#[tokio::test]
async fn every_operation_needs_its_right() {
    let policies = [
        ("er", Right::EnrollmentRead),
        ("ew", Right::EnrollmentWrite),
        ("rr", Right::RegistrationStatusRead),
        ("rw", Right::RegistrationStatusWrite),
        ("sc", Right::ServiceConfig),
    ];
    let mut builder = Emulator::builder();
    for (name, right) in policies {
        builder = builder.access_policy(AccessPolicy::new(name, [right]).with_primary_key(KEY));
    }
    let mut peer = Peer::of(builder).await;
    let put = r#"{"registrationId":"a","attestation":{"type":"symmetricKey"}}"#;
    let bulk = r#"{"mode":"delete","enrollmentGroups":[{"enrollmentGroupId":"a"}]}"#;

    for (method, path, body, allowed, wanted) in [
        ("PUT", "/enrollments/a", put, &["ew"][..], "EnrollmentWrite"),
        ("GET", "/enrollments/a", "", &["er"], "EnrollmentRead"),
        ("POST", "/enrollments/query", ALL, &["er"], "EnrollmentRead"),
        ("POST", "/enrollmentGroups/query", ALL, &["er"], "EnrollmentRead"),
        (
            "POST",
            "/enrollments/a/attestationmechanism",
            "",
            &["er", "ew"],
            "EnrollmentRead or EnrollmentWrite",
        ),
        ("POST", "/enrollmentGroups", bulk, &["ew"], "EnrollmentWrite"),
        ("DELETE", "/enrollmentGroups/a", "", &["ew"], "EnrollmentWrite"),
        ("GET", "/registrations/a", "", &["rr"], "RegistrationStatusRead"),
        ("POST", "/registrations/a/query", "", &["rr"], "RegistrationStatusRead"),
        ("DELETE", "/registrations/a", "", &["rw"], "RegistrationStatusWrite"),
    ] {
        for (name, _) in policies {
            let answer = peer.ask_as(method, path, &service_token(name, KEY), "", body).await;
            if allowed.contains(&name) {
                assert_ne!(answer.status, 401, "{name} {method} {path}");
            } else {
                assert_eq!((answer.status, answer.code()), (401, 401_000), "{name} {method} {path}");
                assert_eq!(answer.message(), "Unauthorized");
                assert_eq!(peer.cause(), Some(format!("policy {name} lacks the right {wanted}")));
            }
        }
    }
}

#[tokio::test]
async fn every_policy_has_two_keys_and_a_connection_string() {
    let reader = AccessPolicy::new("reader", [Right::EnrollmentRead]).with_secondary_key(OTHER_KEY);
    let mut peer = Peer::of(Emulator::builder().access_policy(reader)).await;
    let port = peer.emulator.https_port();
    assert_eq!(peer.emulator.policy_names(), ["provisioningserviceowner", "reader"]);
    assert_eq!(peer.emulator.connection_string("nobody"), None);
    let owner = peer.emulator.connection_string("provisioningserviceowner");
    assert_eq!(owner.as_deref(), Some(peer.emulator.service_connection_string().as_str()));

    let string = peer.emulator.connection_string("reader").unwrap();
    let prefix = format!("HostName=localhost:{port};SharedAccessKeyName=reader;SharedAccessKey=");
    let generated = string.strip_prefix(&prefix).unwrap();
    assert_eq!(BASE64.decode(generated).unwrap().len(), 32);
    for key in [generated, OTHER_KEY] {
        let answer = peer.ask_as("GET", "/enrollments/a", &service_token("reader", key), "", "").await;
        assert_eq!(answer.status, 404);
    }
    let second = "dGhpcy1lbXVsYXRvci1rZXktaXMtdGhlLXNlY29uZCE=";
    let answer = peer
        .ask_as("GET", "/enrollments/a", &service_token("provisioningserviceowner", second), "", "")
        .await;
    assert_eq!(answer.status, 404);
    for (token, code, cause) in [
        (service_token("reader", KEY), 401_002, "signature does not match the key of policy reader"),
        (
            service_token("writer", KEY),
            401_000,
            "the token names none of the policies provisioningserviceowner, reader",
        ),
    ] {
        let answer = peer.ask_as("GET", "/enrollments/a", &token, "", "").await;
        assert_eq!((answer.status, answer.code(), peer.cause().as_deref()), (401, code, Some(cause)));
    }
}

#[tokio::test]
async fn the_default_policy_can_be_replaced() {
    let narrow = AccessPolicy::new("provisioningserviceowner", [Right::EnrollmentRead]).with_primary_key(KEY);
    let mut peer = Peer::of(Emulator::builder().access_policy(narrow)).await;

    let token = service_token("provisioningserviceowner", KEY);
    assert_eq!(peer.ask_as("GET", "/enrollments/a", &token, "", "").await.status, 404);
    assert_eq!(peer.ask_as("DELETE", "/enrollments/a", &token, "", "").await.status, 401);
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.code(), 401_002);
}

#[tokio::test]
async fn an_entra_token_is_judged_by_its_claims_and_not_by_its_signature() {
    let mut peer = Peer::start().await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let claims = |rest: Value| {
        let mut claims = json!({"aud": "https://azure-devices-provisioning.net", "exp": 1_800_000_060});
        claims.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        format!("Bearer eyJhbGciOiJSUzI1NiJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims.to_string()))
    };

    for good in [
        json!({}),
        json!({"aud": "https://azure-devices-provisioning.net/", "oid": "x", "nbf": 1_800_000_000}),
        json!({"exp": 1_800_000_000 - 300, "nbf": 1_800_000_000 + 300}),
    ] {
        let answer = peer.ask_as("DELETE", "/enrollments/a", &claims(good), "", "").await;
        assert_eq!(answer.status, 404, "nobody has a role, so everybody may do everything");
    }
    for (token, cause) in [
        (claims(json!({"exp": 1_799_999_699})), "the bearer token expired 301 s ago"),
        (claims(json!({"nbf": 1_800_000_301})), "the bearer token is valid in 301 s only"),
        (
            claims(json!({"aud": "https://iothubs.azure.net"})),
            "aud of the bearer token is not https://azure-devices-provisioning.net",
        ),
        (claims(json!({"exp": null})), "exp of the bearer token is not a number of seconds"),
        ("Bearer opaque".to_owned(), "the bearer token has not three segments"),
    ] {
        let answer = peer.ask_as("GET", "/enrollments/a", &token, "", "").await;
        assert_eq!((answer.status, answer.code(), peer.cause().as_deref()), (401, 401_000, Some(cause)));
    }
    let register = "/0ne00EMU1A7/registrations/a/register";
    let answer = peer.ask_as("PUT", register, &claims(json!({})), "", "{}").await;
    assert_eq!((answer.status, answer.code()), (401, 401_000), "the device API takes no such token");
    assert_eq!(peer.cause().as_deref(), Some("the credential is not a SharedAccessSignature"));
}

#[tokio::test]
async fn a_minted_token_expires_by_the_clock_of_the_emulator() {
    let mut peer = Peer::start().await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let token = format!("Bearer {}", peer.emulator.entra_token("oid-1", Duration::from_secs(60)));

    assert_eq!(peer.ask_as("GET", "/enrollments/a", &token, "", "").await.status, 404);
    peer.emulator.advance_clock(Duration::from_secs(60 + 301));
    assert_eq!(peer.ask_as("GET", "/enrollments/a", &token, "", "").await.status, 401);
}

#[tokio::test]
async fn roles_decide_as_soon_as_somebody_has_one() {
    let builder = Emulator::builder()
        .entra_role("READER-oid", EntraRole::DataReader)
        .entra_role("writer-oid", EntraRole::DataContributor);
    let mut peer = Peer::of(builder).await;
    let bearer =
        |principal: &str| format!("Bearer {}", peer.emulator.entra_token(principal, Duration::from_secs(60)));
    let (reader, writer, stranger) = (bearer("reader-oid"), bearer("writer-oid"), bearer("stranger"));
    let put = r#"{"registrationId":"a","attestation":{"type":"symmetricKey"}}"#;
    let bulk = r#"{"mode":"delete","enrollments":[{"registrationId":"a"}]}"#;

    for (method, path, body, reads) in [
        ("PUT", "/enrollments/a", put, false),
        ("GET", "/enrollments/a", "", true),
        ("POST", "/enrollments/query", ALL, true),
        ("POST", "/enrollments/a/attestationmechanism", "", false),
        ("POST", "/enrollments", bulk, false),
        ("DELETE", "/enrollmentGroups/a", "", false),
        ("GET", "/registrations/a", "", true),
        ("POST", "/registrations/a/query", "", true),
        ("DELETE", "/registrations/a", "", false),
    ] {
        assert_ne!(peer.ask_as(method, path, &writer, "", body).await.status, 401, "{method} {path}");
        assert_eq!(peer.ask_as(method, path, &stranger, "", body).await.status, 401);
        assert_eq!(peer.cause().as_deref(), Some("principal stranger has no role"));
        let answer = peer.ask_as(method, path, &reader, "", body).await;
        assert_eq!(answer.status != 401, reads, "{method} {path}");
        if !reads {
            assert_eq!(peer.cause().as_deref(), Some("principal reader-oid is no more than a DataReader"));
        }
    }
}

// Quotas and billing

#[tokio::test]
async fn the_service_quota_answers_429_until_there_is_a_place() {
    let quotas = Quotas::documented().with_service_operations(2);
    let mut peer = Peer::of(Emulator::builder().quotas(quotas)).await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    let strange = service_token("provisioningserviceowner", KEY);
    assert_eq!(peer.ask_as("GET", "/enrollments/a", &strange, "", "").await.status, 401, "takes no place");

    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.status, 404);
    peer.emulator.advance_clock(Duration::from_millis(20_500));
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.status, 404);
    let throttled = peer.ask("GET", "/enrollments/a", "", "").await;

    assert_eq!((throttled.status, throttled.code()), (429, 429_001));
    assert_eq!(throttled.header("retry-after"), Some("40"), "39.5 s, rounded up");
    assert_eq!(peer.cause().as_deref(), Some("quota: 2 service operations per minute"));
    peer.emulator.advance_clock(Duration::from_millis(39_500));
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.status, 404);
    peer.emulator.reset();
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_060));
    assert_eq!(peer.ask("GET", "/enrollments/a", "", "").await.status, 404, "a reset forgets what counted");
}

#[tokio::test]
async fn registrations_and_polls_have_quotas_of_their_own() {
    let quotas = Quotas::documented().with_registrations(2).with_polls(1);
    let mut peer = Peer::of(Emulator::builder().quotas(quotas).polls(9)).await;
    peer.emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    peer.enroll_group("plant").await;
    let mut polls = Vec::new();
    for id in ["s-1", "s-2"] {
        let register = format!("/0ne00EMU1A7/registrations/{id}/register");
        let token = group_device_token(id);
        let begun = peer.ask_as("PUT", &register, &token, "", "{}").await;
        assert_eq!(begun.status, 202);
        let operation = begun.body["operationId"].as_str().unwrap();
        polls.push((format!("/0ne00EMU1A7/registrations/{id}/operations/{operation}"), token));
    }

    let third = peer
        .ask_as("PUT", "/0ne00EMU1A7/registrations/s-3/register", &group_device_token("s-3"), "", "{}")
        .await;
    assert_eq!((third.status, third.code(), third.header("retry-after")), (429, 429_001, Some("60")));
    assert_eq!(peer.cause().as_deref(), Some("quota: 2 device registrations per minute"));
    for (poll, token) in &polls {
        assert_eq!(
            peer.ask_as("GET", poll, token, "", "").await.status,
            202,
            "each device has its own place"
        );
        let again = peer.ask_as("GET", poll, token, "", "").await;
        assert_eq!(
            (again.status, again.header("retry-after"), again.header("location")),
            (429, Some("10"), None)
        );
    }
    peer.emulator.advance_clock(Duration::from_secs(10));
    assert_eq!(peer.ask_as("GET", &polls[0].0, &polls[0].1, "", "").await.status, 202);
}

#[tokio::test]
async fn groups_of_each_type_are_limited_when_there_are_quotas() {
    let mut peer = Peer::of(Emulator::builder().quotas(Quotas::documented().with_groups(1))).await;
    let keys = |id: &str| json!({"enrollmentGroupId": id, "attestation": {"type": "symmetricKey"}});
    let x509 = json!({"type": "x509", "x509": {"caReferences": {"primary": "root"}}});
    let x509 = |id: &str| json!({"enrollmentGroupId": id, "attestation": x509});
    peer.put("/enrollmentGroups/a", &keys("a")).await;
    peer.put("/enrollmentGroups/b", &x509("b")).await;

    let refused = peer.ask("PUT", "/enrollmentGroups/c", "", &keys("c").to_string()).await;
    assert_eq!(refused.code(), 400_000);
    assert_eq!(refused.message(), "there are 1 enrollment groups with attestation.type symmetricKey already");
    let changed = peer.ask("PUT", "/enrollmentGroups/a", "If-Match: *\r\n", &x509("a").to_string()).await;
    assert_eq!(changed.code(), 400_000, "another type needs room too");
    assert_eq!(peer.cause().as_deref(), Some("quota: 1 groups of each attestation type"));
    let same = peer.ask("PUT", "/enrollmentGroups/a", "If-Match: *\r\n", &keys("a").to_string()).await;
    assert_eq!(same.status, 200);
    let bulk = json!({"mode": "create", "enrollmentGroups": [keys("d")]});
    assert_eq!(peer.bulk("/enrollmentGroups", bulk).await.body["errors"][0]["errorCode"], 400_000);
}

#[tokio::test]
async fn what_was_carried_out_is_billed_and_waiting_is_free() {
    let mut peer = Peer::of(Emulator::builder().manage_port(0).polls(1)).await;
    peer.enroll_group("plant").await;
    peer.register("s-1").await;
    peer.ask("POST", "/enrollments/query", "", ALL).await;
    let items: Vec<Value> =
        ["a", "b"].map(|id| json!({"registrationId": id, "attestation": own_keys()})).to_vec();
    peer.bulk("/enrollments", json!({"mode": "create", "enrollments": items})).await;
    let lookup = "/0ne00EMU1A7/registrations/s-1";
    assert_eq!(peer.ask_as("POST", lookup, &group_device_token("s-1"), "", "{}").await.status, 200);
    peer.emulator.inject(Fault::throttle(1).on(Operation::Service)).unwrap();
    for status in [429, 404] {
        assert_eq!(peer.ask("GET", "/enrollments/none", "", "").await.status, status);
    }

    let billed = peer.emulator.billed_operations();
    assert_eq!(
        (billed.service, billed.registrations),
        (3, 1),
        "a group, a page, a bulk operation; a registration"
    );
    assert_eq!(peer.manage("GET /billing").await, json!({"service": 3, "registrations": 1}));
    peer.emulator.reset();
    assert_eq!(peer.manage("GET /billing").await, json!({"service": 0, "registrations": 0}));
}

// Traits of official clients

#[tokio::test]
async fn the_node_client_ends_the_bulk_path_with_a_slash_and_writes_groups_in_lower_case() {
    let mut peer = Peer::start().await;
    let head = "Accept: application/json\r\nRequest-Id: 66637297-ee10-4344-b4f2-6e1dd96b3da3\r\n\
                User-Agent: azure-iot-provisioning-service/1.10.1\r\n";
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}});
    let bulk = json!({"mode": "create", "enrollments": [{"registrationId": "first", "attestation": tpm}]});
    let answer = peer.ask("POST", "/enrollments/", head, &bulk.to_string()).await;
    assert_eq!(answer.body, json!({"isSuccessful": true, "errors": []}));
    peer.enroll_group("Plant").await;

    let mechanism = peer.ask("POST", "/enrollmentgroups/Plant/attestationmechanism", head, "").await;
    assert_eq!(mechanism.body["symmetricKey"]["primaryKey"], KEY);
    peer.register("s-1").await;
    let query = r#"{"query":"*"}"#;
    let states = peer.ask("POST", "/registrations/Plant/query", head, query).await;
    assert_eq!(states.ids("registrationId"), ["s-1"]);
    assert_eq!(peer.ask("POST", "/enrollments/query", head, query).await.ids("registrationId"), ["first"]);
}

#[tokio::test]
async fn the_java_client_posts_an_empty_object_for_an_attestation_mechanism() {
    let mut peer = Peer::start().await;
    peer.put("/enrollments/dev1", &json!({"registrationId": "dev1", "attestation": own_keys()})).await;

    let head = "Request-Id: 1001\r\nAccept: application/json\r\nAccept-Charset: utf-8\r\n";
    let mechanism = peer.ask("POST", "/enrollments/dev1/attestationmechanism", head, "{}").await;

    assert_eq!((mechanism.status, &mechanism.body["symmetricKey"]["primaryKey"]), (200, &json!(KEY)));
}

/// It compares header names byte by byte, quotes every tag, and posts a query specification for registrations.
#[tokio::test]
async fn the_csharp_client_quotes_the_wildcard_and_needs_header_names_in_lower_case() {
    let mut peer = Peer::start().await;
    peer.enroll("a").await;
    peer.enroll("b").await;
    let body = r#"{"registrationId":"a","attestation":{"type":"symmetricKey"}}"#;
    assert_eq!(peer.ask("PUT", "/enrollments/a", "If-Match: \"*\"\r\n", body).await.status, 200);

    let head = "x-ms-max-item-count: 1\r\n";
    let page = peer.ask("POST", "/enrollments/query", head, ALL).await;
    for name in ["x-ms-item-type: Enrollment", "x-ms-continuation: ", "x-ms-request-id: "] {
        assert!(page.head.contains(&format!("\r\n{name}")), "{}", page.head);
    }
    let failed = peer.ask("GET", "/enrollments/none", "", "").await;
    assert!(failed.head.contains("\r\nx-ms-error-code: 404201\r\n"), "{}", failed.head);
    assert_eq!(peer.ask("POST", "/registrations/plant/query", head, ALL).await.body, json!([]));
    assert_eq!(peer.ask("DELETE", "/enrollments/a", "If-Match: \"*\"\r\n", "").await.status, 204);
}

// Bodies

#[tokio::test]
async fn every_valid_body_is_accepted() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("../vectors/valid-bodies.json")).unwrap();
    let mut peer = Peer::start().await;
    for vector in &vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let target = format!("{}?api-version={}", text("path"), text("apiVersion"));
        let answer = peer.ask(text("method"), &target, "", &vector["body"].to_string()).await;
        assert_eq!(answer.status, 200, "{}: {}", text("name"), answer.body);
        if text("method") == "POST" {
            assert_eq!(answer.body, json!({"isSuccessful": true, "errors": []}), "{}", text("name"));
        } else {
            for (member, value) in vector["body"].as_object().unwrap() {
                let told = &answer.body[member];
                let kept = told == value || READ_ONLY.contains(&member.as_str()) || value.is_null();
                assert!(kept || member == "attestation", "{}: {member} is told as {told}", text("name"));
            }
            // Several have the same certificate, which may be in one individual enrollment only.
            if vector["body"].pointer("/attestation/x509/clientCertificates").is_some() {
                assert_eq!(peer.ask("DELETE", text("path"), "", "").await.status, 204);
            }
        }
    }
    assert_eq!(vectors.len(), 41, "a vector was lost or added");
}

/// They are placeholders: their attestation type is `none` next to the details of all others.
#[tokio::test]
async fn every_published_placeholder_body_is_refused_and_the_member_is_named() {
    let vectors: Vec<Value> =
        serde_json::from_str(include_str!("../vectors/service-2021-10-01.json")).unwrap();
    let mut peer = Peer::start().await;
    let mut refused = Vec::new();
    for vector in vectors.iter().filter(|vector| vector["direction"] == "request") {
        let body = &vector["body"];
        let answer = match vector["model"].as_str().unwrap() {
            "IndividualEnrollment" => {
                let path = format!("/enrollments/{}", body["registrationId"].as_str().unwrap());
                peer.ask("PUT", &path, "", &body.to_string()).await
            }
            "EnrollmentGroup" => {
                let path = format!("/enrollmentGroups/{}", body["enrollmentGroupId"].as_str().unwrap());
                peer.ask("PUT", &path, "", &body.to_string()).await
            }
            "BulkEnrollmentOperation" => peer.bulk("/enrollments", body.clone()).await,
            "BulkEnrollmentGroupOperation" => peer.bulk("/enrollmentGroups", body.clone()).await,
            _ => continue,
        };
        // What is wrong with an item of a bulk operation is told about that item.
        let (code, message) = match answer.status {
            200 => (&answer.body["errors"][0]["errorCode"], &answer.body["errors"][0]["errorStatus"]),
            _ => (&answer.body["errorCode"], &answer.body["message"]),
        };
        assert_eq!(code, 400_000, "{}: {}", vector["name"], answer.body);
        refused.push((vector["name"].as_str().unwrap().to_owned(), message.as_str().unwrap().to_owned()));
    }

    let message = |name: &str| match name {
        "EnrollmentGroup_CreateOrUpdate minimum request"
        | "EnrollmentGroup_RunBulkOperation minimum request" => {
            "attestation.type none is not possible for an enrollment group"
        }
        "IndividualEnrollment_CreateOrUpdate minimum request"
        | "IndividualEnrollment_RunBulkOperation minimum request" => {
            "attestation.type none is not possible for an individual enrollment"
        }
        _ => "attestation.tpm does not belong to attestation.type none",
    };
    for (name, told) in &refused {
        assert_eq!(told, message(name), "{name}");
    }
    assert_eq!(refused.len(), 8, "none of them is valid");
    assert_eq!(peer.emulator.enrollments(), json!({"enrollments": [], "enrollmentGroups": []}));
}

/// One connection to an emulator.
struct Peer {
    emulator: Shown,
    stream: TlsStream<TcpStream>,
}

struct Answer {
    status: u16,
    head: String,
    text: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    fn token(&self) -> &str {
        self.header("x-ms-continuation").unwrap()
    }

    fn ids(&self, member: &str) -> Vec<String> {
        let items = self.body.as_array().unwrap_or_else(|| panic!("{}", self.body));
        items.iter().map(|item| item[member].as_str().unwrap().to_owned()).collect()
    }

    fn code(&self) -> u32 {
        self.body["errorCode"].as_u64().unwrap_or_default().try_into().unwrap()
    }

    fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }
}

impl Peer {
    async fn start() -> Self {
        Self::of(Emulator::builder().polls(1)).await
    }

    async fn of(builder: EmulatorBuilder) -> Self {
        let emulator = Shown(builder.start().await.unwrap());
        let stream = connect(&emulator).await;
        Self { emulator, stream }
    }

    async fn reconnect(&mut self) {
        self.stream = connect(&self.emulator).await;
    }

    /// The cause of the last entry in the journal.
    fn cause(&self) -> Option<String> {
        self.emulator.journal().pop().unwrap().cause
    }

    /// The ids of all individual enrollments, sorted.
    async fn listed(&mut self) -> Vec<String> {
        sorted(self.ask("POST", "/enrollments/query", "", ALL).await.ids("registrationId"))
    }

    async fn enroll(&mut self, id: &str) {
        let body = json!({"registrationId": id, "attestation": {"type": "symmetricKey"}});
        self.put(&format!("/enrollments/{id}"), &body).await;
    }

    /// A group whose primary key is `KEY`.
    async fn enroll_group(&mut self, id: &str) {
        let body = json!({"enrollmentGroupId": id, "attestation": own_keys()});
        self.put(&format!("/enrollmentGroups/{id}"), &body).await;
    }

    async fn put(&mut self, path: &str, body: &Value) {
        let answer = self.ask("PUT", path, "", &body.to_string()).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    }

    async fn bulk(&mut self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, "", &body.to_string()).await
    }

    /// Registers a device through a group whose primary key is `KEY`.
    async fn register(&mut self, id: &str) {
        let (path, token) = (format!("/0ne00EMU1A7/registrations/{id}"), group_device_token(id));
        let begun = self.ask_as("PUT", &format!("{path}/register"), &token, "", "{}").await;
        let poll = format!("{path}/operations/{}", begun.body["operationId"].as_str().unwrap());
        for status in [202, 200] {
            assert_eq!(self.ask_as("GET", &poll, &token, "", "").await.status, status);
        }
    }

    async fn ask(&mut self, method: &str, path: &str, head: &str, body: &str) -> Answer {
        self.ask_as(method, path, OWNER, head, body).await
    }

    async fn ask_as(&mut self, method: &str, path: &str, token: &str, head: &str, body: &str) -> Answer {
        let head = format!("Content-Type: application/json; charset=utf-8\r\n{head}");
        self.ask_typed(method, path, token, &head, body).await
    }

    async fn ask_typed(&mut self, method: &str, path: &str, token: &str, head: &str, body: &str) -> Answer {
        let version = if path.contains('?') { "" } else { VERSION };
        let request = format!(
            "{method} {path}{version} HTTP/1.1\r\nHost: localhost:{}\r\nAuthorization: {token}\r\n{head}Content-Length: {}\r\n\r\n{body}",
            self.emulator.https_port(),
            body.len(),
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let (head, body) = read_answer(&mut self.stream).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: serde_json::from_str(&body).unwrap_or_default(), text: body }
    }

    async fn manage(&self, request: &str) -> Value {
        let mut stream =
            TcpStream::connect(("127.0.0.1", self.emulator.manage_port().unwrap())).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    }
}

async fn connect(emulator: &Emulator) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", emulator.https_port())).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(trusting(emulator.ca_pem()))).connect(name, stream).await.unwrap()
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort_unstable();
    ids
}

fn own_keys() -> Value {
    json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY}})
}

fn service_token(policy: &str, key: &str) -> String {
    format!("{}&skn={policy}", sign("localhost", &BASE64.decode(key).unwrap()))
}

fn device_token(id: &str, key: &str) -> String {
    sign(&format!("0ne00EMU1A7/registrations/{id}"), &BASE64.decode(key).unwrap())
}

/// A token of a device of a group whose primary key is `KEY`.
fn group_device_token(id: &str) -> String {
    let derived = mac(&BASE64.decode(KEY).unwrap(), id);
    sign(&format!("0ne00EMU1A7/registrations/{id}"), &derived)
}

fn sign(resource: &str, key: &[u8]) -> String {
    let signature = BASE64.encode(mac(key, &format!("{resource}\n4102444800")));
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se=4102444800")
}

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

const READ_ONLY: &[&str] = &["registrationState", "etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc"];
