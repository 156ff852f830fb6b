//! Bulk operations of the service client. Expected values: requests of the official Python service client
//! 1.0.0b1 of the same content.

use azure_dps_core::ErrorKind;
use azure_dps_core::models::{AttestationMechanism, BulkMode, EnrollmentGroup, IndividualEnrollment};
use azure_dps_tests::back_end::{
    PRIMARY, client, enrollment, fault, keys, lines, mechanism, ok, refusal, stored, tagged,
};
use azure_dps_tests::{Act, Peer, body};
use serde_json::{Value, json};

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
    assert!(result.errors[0].is_precondition_failed(), "no other client wrote");
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
