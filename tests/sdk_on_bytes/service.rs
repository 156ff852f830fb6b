//! The service client against a peer without semantics: what is sent, literally, and what becomes of lost answers.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use azure_dps_core::models::{
    AttestationMechanism, BulkMode, EnrollmentGroup, IndividualEnrollment, SymmetricKeyAttestation,
};
use azure_dps_core::{Endpoint, Error, ErrorKind, RetryPolicy, SasToken};
use azure_dps_service::{Credential, ServiceClient};
use azure_dps_tests::{Act, Certificate, Peer, body, closed_port, header};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECONDARY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const POLICY_KEY: &str = "n1ZYBqNSQr08ap5qh6o5wovRBSw0OVmAY6KrDrW1pas=";

fn keys() -> AttestationMechanism {
    AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(PRIMARY, SECONDARY))
}

fn enrollment() -> IndividualEnrollment {
    IndividualEnrollment::new("sensor-042", keys())
}

fn primary_key(attestation: &AttestationMechanism) -> &str {
    attestation.as_symmetric_key().unwrap().primary_key.as_deref().unwrap()
}

fn client(peer: &Peer) -> ServiceClient {
    client_for(peer.endpoint())
}

fn client_for(endpoint: Endpoint) -> ServiceClient {
    let credential = Credential::policy("provisioningserviceowner", POLICY_KEY.parse().unwrap());
    let retry = RetryPolicy::new().with_retries(2).with_first_pause(Duration::from_millis(1));
    ServiceClient::builder(endpoint, credential).retry(retry).build().unwrap()
}

fn stored(changes: Value) -> Value {
    let now = OffsetDateTime::now_utc().format(&Rfc3339).unwrap();
    let mut record = json!({
        "registrationId": "sensor-042", "attestation": { "type": "symmetricKey" }, "etag": "\"0e00a1b2\"",
        "provisioningStatus": "enabled", "capabilities": { "iotEdge": false }, "allocationPolicy": "hashed",
        "reprovisionPolicy": { "updateHubAssignment": true, "migrateDeviceData": true },
        "createdDateTimeUtc": now, "lastUpdatedDateTimeUtc": now
    });
    record.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    record
}

fn ok(body: Value) -> Act {
    Act::json("200 OK", "", &body.to_string())
}

fn mechanism(primary: &str) -> Act {
    ok(
        json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": primary, "secondaryKey": SECONDARY } }),
    )
}

fn refusal(status: &str, code: i32) -> Act {
    Act::json(status, "", &json!({ "errorCode": code, "trackingId": "t", "message": "no" }).to_string())
}

fn lines(peer: &Peer) -> Vec<String> {
    let line =
        |request: String| request.lines().next().unwrap().replace("?api-version=2021-10-01 HTTP/1.1", "");
    peer.requests().into_iter().map(line).collect()
}

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
    let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.maybe_applied());
    assert!(error.to_string().ends_with("; the request may have been applied"), "{error}");
    assert_eq!(peer.requests().len(), 2);
}

#[tokio::test]
async fn a_lost_create_that_meets_a_different_record_of_another_client_is_a_conflict_without_doubt() {
    let other = || ok(stored(json!({ "deviceId": "other" })));
    let peer = Peer::start([Act::Stall, other(), refusal("409 Conflict", 409201), other()]).await;
    let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
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
async fn a_call_ends_with_its_deadline() {
    let peer = Peer::start([Act::Stall]).await;
    let endpoint = peer.endpoint().with_exchange_timeout(Duration::from_secs(60));
    let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
    let service =
        ServiceClient::builder(endpoint, credential).timeout(Duration::from_millis(200)).build().unwrap();
    let error = service.enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.maybe_applied());
}

#[tokio::test]
async fn what_cannot_be_reached_trusted_or_understood_is_a_typed_error() {
    let nobody = Endpoint::new("localhost").unwrap().with_port(closed_port().await);
    let error = client_for(nobody).enrollments().get("a").await.unwrap_err();
    assert_eq!((error.kind(), error.maybe_applied()), (ErrorKind::Connect, false));

    let peer = Peer::with(Certificate::Expired, []).await;
    assert_eq!(client(&peer).enrollments().get("a").await.unwrap_err().kind(), ErrorKind::Tls);

    for garbage in ["<html>", "", "[]", r#"{"registrationId":7,"attestation":{"type":"none"}}"#] {
        let peer = Peer::start([Act::json("200 OK", "", garbage)]).await;
        let error = client(&peer).enrollments().get("a").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{garbage:?}");
    }
    let peer = Peer::start([Act::AnswerAndClose("220 smtp.example ESMTP\r\n".into())]).await;
    assert_eq!(client(&peer).enrollments().get("a").await.unwrap_err().kind(), ErrorKind::Protocol);
}

// What is repeated: one test for each row of the table in the README of the service crate.

fn fault(status: &str) -> Act {
    refusal(status, 0)
}

/// What may be done when the answer to an operation is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Repeated,
    Gone,
    LookedAfter,
}

/// Every operation that sends one request, and its row.
const OPERATIONS: [(&str, Row); 17] = [
    ("get", Row::Repeated),
    ("get of a group", Row::Repeated),
    ("get of a record", Row::Repeated),
    ("attestation_mechanism", Row::Repeated),
    ("list", Row::Repeated),
    ("of_group", Row::Repeated),
    ("replace", Row::Repeated),
    ("bulk update", Row::Repeated),
    ("bulk update of groups", Row::Repeated),
    ("delete", Row::Gone),
    ("delete_if_match", Row::Gone),
    ("delete of a record", Row::Gone),
    ("bulk delete", Row::Gone),
    ("create_or_update", Row::LookedAfter),
    ("create_or_update of a group", Row::LookedAfter),
    ("bulk create", Row::LookedAfter),
    ("bulk update if match", Row::LookedAfter),
];

async fn carry_out(service: &ServiceClient, operation: &str) -> Result<(), Error> {
    let (enrollments, groups, records) =
        (service.enrollments(), service.enrollment_groups(), service.registrations());
    let (item, group) = ([tagged("\"0\"")], [EnrollmentGroup::new("g", keys())]);
    let bulk = |mode: BulkMode| enrollments.run_bulk_operation(mode, &item);
    match operation {
        "get" => enrollments.get("s").await.map(drop),
        "get of a group" => groups.get("g").await.map(drop),
        "get of a record" => records.get("s").await.map(drop),
        "attestation_mechanism" => enrollments.attestation_mechanism("s").await.map(drop),
        "list" => enrollments.list().next_page().await.map(drop),
        "of_group" => records.of_group("g").next_page().await.map(drop),
        "replace" => enrollments.replace(&enrollment()).await.map(drop),
        "bulk update" => bulk(BulkMode::Update).await.map(drop),
        "bulk update of groups" => groups.run_bulk_operation(BulkMode::Update, &group).await.map(drop),
        "delete" => enrollments.delete("s").await,
        "delete_if_match" => enrollments.delete_if_match("s", "\"0\"").await,
        "delete of a record" => records.delete("s").await,
        "bulk delete" => bulk(BulkMode::Delete).await.map(drop),
        "create_or_update" => enrollments.create_or_update(&enrollment()).await.map(drop),
        "create_or_update of a group" => groups.create_or_update(&group[0]).await.map(drop),
        "bulk create" => bulk(BulkMode::Create).await.map(drop),
        _ => bulk(BulkMode::UpdateIfMatchETag).await.map(drop),
    }
}

fn tagged(etag: &str) -> IndividualEnrollment {
    enrollment().with_etag(etag)
}

/// The answer that an operation takes for success.
fn success(operation: &str) -> Act {
    match operation {
        "attestation_mechanism" => mechanism(PRIMARY),
        "list" | "of_group" => ok(json!([])),
        "get of a record" => ok(json!({ "registrationId": "s" })),
        _ if operation.ends_with("of a group") => {
            ok(json!({ "enrollmentGroupId": "g", "attestation": { "type": "symmetricKey" } }))
        }
        _ if operation.starts_with("bulk") => ok(json!({ "isSuccessful": true })),
        _ if operation.starts_with("delete") => Act::json("204 No Content", "", ""),
        _ => ok(stored(json!({}))),
    }
}

#[tokio::test]
async fn throttling_and_unavailability_are_waited_out_by_every_operation() {
    for (operation, _) in OPERATIONS {
        for status in ["408 Request Timeout", "429 Too Many Requests", "503 Service Unavailable"] {
            let peer = Peer::start([fault(status), success(operation)]).await;
            carry_out(&client(&peer), operation).await.unwrap();
            let requests = peer.requests();
            assert_eq!(requests.len(), 2, "{operation} {status}");
            assert_eq!(requests[0].lines().next(), requests[1].lines().next());
        }
    }
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    for (operation, _) in OPERATIONS {
        let endpoint = Endpoint::new("localhost").unwrap().with_port(closed_port().await);
        let error = carry_out(&client_for(endpoint), operation).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{operation}");
        assert!(!error.maybe_applied(), "{operation}");
    }
}

#[tokio::test]
async fn the_service_says_how_long_to_wait() {
    let slow = Act::json("429 Too Many Requests", "Retry-After: 1\r\n", "{}");
    let peer = Peer::start([slow, ok(stored(json!({})))]).await;
    let start = Instant::now();
    client(&peer).enrollments().get("sensor-042").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1), "the back-off of this client is a millisecond");
}

/// A service with room for so many requests in any two seconds.
fn quota(room: usize) -> impl FnMut(&str) -> Act {
    let (window, mut passed) = (Duration::from_secs(2), VecDeque::new());
    move |_| {
        let now = Instant::now();
        while passed.front().is_some_and(|at| now - *at >= window) {
            passed.pop_front();
        }
        if passed.len() < room {
            passed.push_back(now);
            return ok(stored(json!({})));
        }
        let left = (window - (now - passed[0])).as_millis().div_ceil(1000);
        Act::json("429 Too Many Requests", &format!("Retry-After: {left}\r\n"), "{}")
    }
}

#[tokio::test]
async fn hundreds_of_calls_at_once_wait_for_each_other_and_few_are_refused() {
    let peer = Peer::answering(quota(100)).await;
    let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
    let endpoint = peer.endpoint().with_exchange_timeout(Duration::from_secs(30));
    // All of them take some eight seconds, more than one call has from when it is let through.
    let service =
        ServiceClient::builder(endpoint, credential).timeout(Duration::from_secs(6)).build().unwrap();
    let get = async |service: ServiceClient| service.enrollments().get("sensor-042").await;
    let calls = (0..500).map(|_| get(service.clone()));
    for outcome in futures_util::future::join_all(calls).await {
        outcome.unwrap();
    }
    let refused = peer.requests().len() - 500;
    assert!((1..=100).contains(&refused), "{refused}");
}

#[tokio::test]
async fn without_retries_a_throttled_call_fails_and_nobody_waits_for_it() {
    let peer =
        Peer::start([Act::json("429 Too Many Requests", "Retry-After: 60\r\n", "{}"), ok(stored(json!({})))])
            .await;
    let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
    let service =
        ServiceClient::builder(peer.endpoint(), credential).retry(RetryPolicy::never()).build().unwrap();
    assert!(service.enrollments().get("a").await.unwrap_err().is_throttled());
    let start = Instant::now();
    service.enrollments().get("a").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn throttling_is_bounded_by_the_time_of_the_call_and_not_by_a_count() {
    let mut throttled = 0;
    let peer = Peer::answering(move |_| {
        throttled += 1;
        if throttled <= 20 { fault("429 Too Many Requests") } else { ok(stored(json!({}))) }
    })
    .await;
    let patient = |peer: &Peer, limit| {
        let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
        let retry = RetryPolicy::new()
            .with_first_pause(Duration::from_millis(10))
            .with_longest_pause(Duration::from_millis(10));
        ServiceClient::builder(peer.endpoint(), credential).retry(retry).timeout(limit).build().unwrap()
    };
    patient(&peer, Duration::from_secs(60)).enrollments().get("sensor-042").await.unwrap();

    let peer = Peer::answering(|_| fault("429 Too Many Requests")).await;
    let service = patient(&peer, Duration::from_secs(1));
    let error = service.enrollments().get("sensor-042").await.unwrap_err();
    assert!(error.is_throttled() || error.kind() == ErrorKind::Timeout, "{error}");
    assert!(peer.requests().len() > 10);
}

#[tokio::test]
async fn a_pause_that_ends_after_the_deadline_ends_the_call_at_once() {
    let peer = Peer::start([Act::json("429 Too Many Requests", "Retry-After: 3600\r\n", "{}")]).await;
    let error = client(&peer).enrollments().get("sensor-042").await.unwrap_err();
    assert!(error.is_throttled());
    assert_eq!(error.service().unwrap().retry_after, Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn lost_answers_and_faults_of_the_service_are_repeated_where_that_changes_nothing() {
    for (operation, _) in OPERATIONS.into_iter().filter(|(_, row)| *row != Row::LookedAfter) {
        let peer = Peer::start([fault("500 Internal Server Error"), Act::Close, success(operation)]).await;
        carry_out(&client(&peer), operation).await.unwrap();
        assert_eq!(peer.requests().len(), 3, "{operation}");
    }
    let peer = Peer::start([fault("502 Bad Gateway"), success("replace")]).await;
    client(&peer).enrollments().replace(&enrollment()).await.unwrap();
    assert_eq!(header(&peer.requests()[1], "if-match"), Some("*"));
}

#[tokio::test]
async fn a_repeated_delete_takes_not_found_as_success() {
    let not_found = || refusal("404 Not Found", 404201);
    for operation in ["delete", "delete_if_match", "delete of a record"] {
        for lost in [Act::Close, fault("504 Gateway Timeout")] {
            let peer = Peer::start([lost, not_found()]).await;
            carry_out(&client(&peer), operation).await.unwrap();
        }
        for unsent in [vec![not_found()], vec![fault("429 Too Many Requests"), not_found()]] {
            let peer = Peer::start(unsent).await;
            let error = carry_out(&client(&peer), operation).await.unwrap_err();
            assert!(error.is_not_found() && !error.maybe_applied(), "{operation}: it never was there");
        }
    }
}

#[tokio::test]
async fn the_doubt_of_one_attempt_stays_with_the_call() {
    let ends = [
        refusal("401 Unauthorized", 401002),
        Act::json("429 Too Many Requests", "Retry-After: 3600\r\n", "{}"),
        refusal("412 Precondition Failed", 412001),
    ];
    for operation in ["replace", "delete", "bulk update", "bulk delete"] {
        for end in ends.clone() {
            let peer = Peer::start([Act::Close, end]).await;
            let error = carry_out(&client(&peer), operation).await.unwrap_err();
            assert!(error.maybe_applied(), "{operation}: {error}");
        }
    }
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
async fn an_answer_that_cannot_be_read_leaves_a_write_in_doubt() {
    let garbage = || Act::json("200 OK", "", "<html>");
    let peer = Peer::start([garbage(), ok(stored(json!({}))), mechanism(PRIMARY)]).await;
    client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap();

    for operation in ["replace", "bulk update", "bulk delete"] {
        let peer = Peer::start([garbage()]).await;
        let error = carry_out(&client(&peer), operation).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.maybe_applied(), "{operation}");
    }
}

#[tokio::test]
async fn the_time_limit_is_that_of_the_whole_call() {
    let stall = || Act::Stall;
    let peer = Peer::start([stall(), stall(), stall(), stall()]).await;
    let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
    let limit = Duration::from_millis(400);
    let service = ServiceClient::builder(peer.endpoint(), credential).timeout(limit).build().unwrap();
    let start = Instant::now();
    let error = service.enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert!(error.maybe_applied());
    assert!(start.elapsed() < 2 * limit, "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_call_whose_time_is_over_tells_what_failed_before() {
    let slow = Act::json(
        "503 Service Unavailable",
        "",
        r#"{"errorCode":503000,"trackingId":"t-9","message":"busy"}"#,
    );
    let peer = Peer::start([slow, Act::Stall]).await;
    let endpoint = peer.endpoint().with_exchange_timeout(Duration::from_secs(60));
    let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
    let retry = RetryPolicy::new().with_first_pause(Duration::from_millis(1));
    let builder = ServiceClient::builder(endpoint, credential).retry(retry);
    let error = builder
        .timeout(Duration::from_millis(300))
        .build()
        .unwrap()
        .enrollments()
        .get("a")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("/enrollments/a"), "{error}");
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("t-9"));
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
async fn a_repeated_bulk_delete_takes_not_found_as_success() {
    let errors = json!({ "isSuccessful": false, "errors": [
        { "registrationId": "sensor-042", "errorCode": 404201, "errorStatus": "not found" },
        { "registrationId": "sensor-043", "errorCode": 412001, "errorStatus": "changed" }
    ] });
    let items = [enrollment(), IndividualEnrollment::new("sensor-043", keys())];
    let peer = Peer::start([Act::Close, ok(errors.clone())]).await;
    let result = client(&peer).enrollments().run_bulk_operation(BulkMode::Delete, &items).await.unwrap();
    assert_eq!(result.errors.len(), 1);
    assert!(!result.is_successful && result.errors[0].is_precondition_failed());

    let peer = Peer::start([ok(errors)]).await;
    let result = client(&peer).enrollments().run_bulk_operation(BulkMode::Delete, &items).await.unwrap();
    assert_eq!(result.errors.len(), 2, "nothing was repeated");
}

#[tokio::test]
async fn a_create_that_was_lost_on_its_way_is_sent_again() {
    for lost in [fault("500 Internal Server Error"), fault("504 Gateway Timeout"), Act::Close, Act::Stall] {
        let peer = Peer::start([lost, refusal("404 Not Found", 404201), ok(stored(json!({})))]).await;
        client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap();
        let [put, get] = ["PUT /enrollments/sensor-042", "GET /enrollments/sensor-042"];
        assert_eq!(lines(&peer), [put, get, put]);
    }
}

#[tokio::test]
async fn a_lost_bulk_create_succeeds_when_all_records_are_there() {
    let record = || ok(stored(json!({})));
    let peer = Peer::start([Act::Close, record(), mechanism(PRIMARY)]).await;
    let result =
        client(&peer).enrollments().run_bulk_operation(BulkMode::Create, &[enrollment()]).await.unwrap();
    assert!(result.is_successful);

    let items = [enrollment(), IndividualEnrollment::new("sensor-043", keys())];
    let unreadable = refusal("401 Unauthorized", 401002);
    let peer = Peer::start([Act::Close, record(), mechanism(PRIMARY), unreadable]).await;
    let error = client(&peer).enrollments().run_bulk_operation(BulkMode::Create, &items).await.unwrap_err();
    assert!(error.maybe_applied());
    assert_eq!(lines(&peer).last().unwrap(), "GET /enrollments/sensor-043");
}

#[tokio::test]
async fn a_repeated_conditional_bulk_update_is_not_at_odds_with_itself() {
    let changed = json!({ "isSuccessful": false, "errors": [
        { "registrationId": "sensor-042", "errorCode": 412001, "errorStatus": "changed" }
    ] });
    let found = |etag: &str| {
        [
            fault("503 Service Unavailable"),
            ok(changed.clone()),
            ok(stored(json!({ "etag": etag }))),
            mechanism(PRIMARY),
        ]
    };
    let mode = BulkMode::UpdateIfMatchETag;
    let peer = Peer::start(found("\"1\"")).await;
    let result =
        client(&peer).enrollments().run_bulk_operation(mode.clone(), &[tagged("\"0\"")]).await.unwrap();
    assert!(result.is_successful, "the first attempt was applied");
    let peer = Peer::start(found("\"0\"")).await;
    let result = client(&peer).enrollments().run_bulk_operation(mode, &[tagged("\"0\"")]).await.unwrap();
    assert!(result.errors[0].is_precondition_failed(), "nobody wrote");
}

#[tokio::test]
async fn a_repeated_bulk_create_is_not_at_odds_with_itself() {
    let conflicts = json!({ "isSuccessful": false, "errors": [
        { "registrationId": "sensor-042", "errorCode": 409201, "errorStatus": "exists" },
        { "registrationId": "sensor-043", "errorCode": 409, "errorStatus": "exists" }
    ] });
    let items = [enrollment(), IndividualEnrollment::new("sensor-043", keys())];
    let peer = Peer::start([
        fault("503 Service Unavailable"),
        ok(conflicts),
        ok(stored(json!({}))),
        mechanism(PRIMARY),
        ok(stored(json!({ "registrationId": "sensor-043", "deviceId": "of-somebody-else" }))),
    ])
    .await;
    let result = client(&peer).enrollments().run_bulk_operation(BulkMode::Create, &items).await.unwrap();
    assert_eq!(result.errors.iter().map(|error| error.id()).collect::<Vec<_>>(), [Some("sensor-043")]);
}

#[tokio::test]
async fn decisions_of_the_service_are_final() {
    let decisions =
        ["400 Bad Request", "401 Unauthorized", "404 Not Found", "409 Conflict", "412 Precondition Failed"];
    for status in decisions {
        for (operation, _) in OPERATIONS {
            let peer = Peer::start([fault(status)]).await;
            let error = carry_out(&client(&peer), operation).await.unwrap_err();
            assert!(!error.maybe_applied(), "{operation} {status}");
            assert_eq!(peer.requests().len(), 1, "{operation} {status}");
        }
    }
}

// Bulk and listings. Expected values: requests of the official Python service client 1.0.0b1 of the same content.

#[tokio::test]
async fn a_bulk_operation_is_a_post_to_the_collection() {
    let done = || ok(json!({ "isSuccessful": true, "errors": null }));
    let peer = Peer::start([done(), done()]).await;
    let service = client(&peer);
    let tpm = IndividualEnrollment::new("s-2", AttestationMechanism::tpm("AToA")).with_etag("\"1\"");
    let result = service.enrollments().run_bulk_operation(BulkMode::UpdateIfMatchETag, &[tpm]).await.unwrap();
    assert!(result.is_successful && result.errors.is_empty());
    let group = EnrollmentGroup::new("plant", keys());
    let _ = service.enrollment_groups().run_bulk_operation(BulkMode::Delete, &[group]).await.unwrap();

    assert_eq!(lines(&peer), ["POST /enrollments", "POST /enrollmentGroups"]);
    let sent: Value = serde_json::from_str(body(&peer.requests()[0])).unwrap();
    assert_eq!(
        sent,
        json!({ "mode": "updateIfMatchETag", "enrollments": [
            { "registrationId": "s-2", "attestation": { "type": "tpm", "tpm": { "endorsementKey": "AToA" } }, "etag": "\"1\"" }
        ] })
    );
    let sent: Value = serde_json::from_str(body(&peer.requests()[1])).unwrap();
    assert_eq!(
        (&sent["mode"], &sent["enrollmentGroups"][0]["enrollmentGroupId"]),
        (&json!("delete"), &json!("plant"))
    );
}

#[tokio::test]
async fn a_bulk_operation_of_too_many_or_no_items_is_not_sent() {
    let peer = Peer::start([]).await;
    let enrollments = client(&peer).enrollments();
    let many: Vec<_> = (0..11).map(|n| IndividualEnrollment::new(format!("s-{n}"), keys())).collect();
    let error = enrollments.run_bulk_operation(BulkMode::Create, &many).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(
        error.to_string().contains("at most 10 items, not 11") && error.to_string().contains("chunks(10)")
    );
    let error = enrollments.run_bulk_operation(BulkMode::Create, &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    let twice = [enrollment(), IndividualEnrollment::new("SENSOR-042", keys())];
    let error = enrollments.run_bulk_operation(BulkMode::Create, &twice).await.unwrap_err();
    assert!(error.to_string().contains("\"SENSOR-042\" is twice in"), "{error}");
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn a_private_key_in_the_place_of_a_certificate_is_never_sent() {
    let peer = Peer::start([]).await;
    let enrollments = client(&peer).enrollments();
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let wrong = [IndividualEnrollment::new("s", AttestationMechanism::x509_client(key.as_str()))];
    let errors = [
        enrollments.create_or_update(&wrong[0]).await.unwrap_err(),
        enrollments.replace(&wrong[0]).await.unwrap_err(),
        enrollments.run_bulk_operation(BulkMode::Create, &wrong).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("private key"), "{error}");
    }
    assert!(peer.requests().is_empty());
}

fn listed(ids: &[&str], continuation: Option<&str>) -> Act {
    let record = |id: &&str| json!({ "registrationId": id, "attestation": { "type": "symmetricKey" } });
    let items: Vec<_> = ids.iter().map(record).collect();
    let more = continuation.map(|token| format!("x-ms-continuation: {token}\r\n")).unwrap_or_default();
    Act::json("200 OK", &format!("{more}x-ms-item-type: Enrollment\r\n"), &Value::from(items).to_string())
}

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
        assert!(!format!("{error} {error:?}").contains(marker), "{error:?}");

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

#[tokio::test]
async fn a_ready_token_is_sent_as_it_is_and_its_expiry_told_when_it_is_refused() {
    let text = "SharedAccessSignature sr=h&sig=c2ln&se=1767225600&skn=p";
    let peer = Peer::start([refusal("401 Unauthorized", 401000)]).await;
    let credential = Credential::token(SasToken::parse(text).unwrap());
    let service = ServiceClient::builder(peer.endpoint(), credential)
        .product("back-office/1.2")
        .unwrap()
        .product("east")
        .unwrap()
        .build()
        .unwrap();
    let error = service.enrollments().get("a").await.unwrap_err();
    assert!(error.to_string().contains("which has expired"), "{error}");
    let request = &peer.requests()[0];
    assert_eq!(header(request, "authorization"), Some(text));
    assert!(header(request, "user-agent").unwrap().ends_with(" (Rust) back-office/1.2 east"));
}

#[tokio::test]
async fn a_product_that_is_not_printable_ascii_is_refused_where_it_is_set() {
    let peer = Peer::start([]).await;
    let credential = Credential::policy("p", PRIMARY.parse().unwrap());
    let error =
        ServiceClient::builder(peer.endpoint(), credential).product("back-office\r\nx: y").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}
