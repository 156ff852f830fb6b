//! What the service client repeats: a test for each row of the table in the README of its crate.

use azure_dps_core::models::{BulkMode, EnrollmentGroup};
use azure_dps_core::{Endpoint, Error, ErrorKind};
use azure_dps_service::ServiceClient;
use azure_dps_tests::back_end::{
    PRIMARY, client, client_for, enrollment, fault, keys, mechanism, ok, refusal, stored, tagged,
};
use azure_dps_tests::{Act, CLOSED_PORT, Peer, header};
use serde_json::json;

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
        let endpoint = Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
        let error = carry_out(&client_for(endpoint), operation).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{operation}");
        assert!(!error.maybe_applied(), "{operation}");
    }
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
