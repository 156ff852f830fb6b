//! The service client: against the emulator for what it means, against a peer without semantics for what is sent and
//! for lost answers.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::time::Duration;

use azure_dps_core::models::{
    AttestationMechanism, AttestationType, EnrollmentGroup, IndividualEnrollment, InitialTwin,
    ProvisioningStatus, SymmetricKeyAttestation,
};
use azure_dps_core::{Endpoint, ErrorKind, RetryPolicy};
use azure_dps_emulator::Emulator;
use azure_dps_service::{Credential, ServiceClient};
use azure_dps_tests::{Act, Certificate, Peer, Shown, body, closed_port, endpoint_of, header, service_of};
use serde_json::{Value, json};

const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECONDARY: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";
const POLICY_KEY: &str = "n1ZYBqNSQr08ap5qh6o5wovRBSw0OVmAY6KrDrW1pas=";

async fn emulator() -> (Shown, ServiceClient) {
    let emulator = Emulator::start().await.unwrap();
    let service = service_of(&emulator);
    (Shown(emulator), service)
}

fn keys() -> AttestationMechanism {
    AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(PRIMARY, SECONDARY))
}

fn enrollment() -> IndividualEnrollment {
    IndividualEnrollment::new("sensor-042", keys())
}

fn primary_key(attestation: &AttestationMechanism) -> &str {
    attestation.as_symmetric_key().unwrap().primary_key.as_deref().unwrap()
}

#[tokio::test]
async fn an_enrollment_is_created_read_changed_and_deleted() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    let twin = InitialTwin::new().with_tags([("site", "berlin")]);
    let created = enrollments
        .create_or_update(&enrollment().with_device_id("line-3").with_initial_twin(twin.clone()))
        .await
        .unwrap();
    assert_eq!(primary_key(&created.attestation), PRIMARY);
    assert!(created.etag.is_some() && created.created_date_time_utc.is_some());

    let read = enrollments.get("SENSOR-042").await.unwrap();
    assert_eq!((read.device_id.as_deref(), &read.initial_twin), (Some("line-3"), &Some(twin)));
    assert_eq!(read.etag, created.etag);
    assert!(
        read.attestation.as_symmetric_key().is_none_or(|keys| keys.primary_key.is_none()),
        "keys are hidden"
    );

    let changed = enrollments
        .update("sensor-042", |e| e.provisioning_status = Some(ProvisioningStatus::Disabled))
        .await
        .unwrap();
    assert_eq!(changed.provisioning_status, Some(ProvisioningStatus::Disabled));
    assert_eq!(primary_key(&changed.attestation), PRIMARY);
    assert_ne!(changed.etag, created.etag);

    enrollments.delete("sensor-042").await.unwrap();
    assert!(enrollments.get("sensor-042").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_group_is_created_read_changed_and_deleted() {
    let (_emulator, service) = emulator().await;
    let groups = service.enrollment_groups();
    let created = groups.create_or_update(&EnrollmentGroup::new("plant", keys())).await.unwrap();
    assert_eq!(groups.get("plant").await.unwrap().etag, created.etag);
    let changed = groups.update("plant", |group| group.iot_hubs = Some(vec![])).await.unwrap();
    assert_eq!(primary_key(&changed.attestation), PRIMARY);
    assert_eq!(primary_key(&groups.attestation_mechanism("plant").await.unwrap()), PRIMARY);
    groups.delete_if_match("plant", &changed.etag.unwrap()).await.unwrap();
    assert!(groups.get("plant").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn keys_left_out_are_generated_and_shown_by_the_attestation_mechanism() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    let generated = IndividualEnrollment::new("gen", AttestationMechanism::symmetric_key_generated());
    let created = enrollments.create_or_update(&generated).await.unwrap();
    let mechanism = enrollments.attestation_mechanism("gen").await.unwrap();
    assert_eq!(mechanism.attestation_type(), AttestationType::SymmetricKey);
    assert_eq!(primary_key(&mechanism), primary_key(&created.attestation));
}

#[tokio::test]
async fn a_second_create_is_a_conflict_and_says_what_to_do() {
    let (emulator, service) = emulator().await;
    service.enrollments().create_or_update(&enrollment()).await.unwrap();
    let error = service.enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert!(error.is_conflict() && !error.may_have_been_applied());
    assert_eq!(error.service().unwrap().code, Some(409201));
    assert!(error.help().contains("`update`"), "{}", error.help());
    assert_eq!(emulator.journal().len(), 2, "a conflict is neither repeated nor looked after");
}

#[tokio::test]
async fn a_stale_tag_is_refused_and_replace_ignores_it() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    let first = enrollments.create_or_update(&enrollment()).await.unwrap();
    let second = enrollments.create_or_update(&first).await.unwrap();
    assert_ne!(first.etag, second.etag);

    let stale = first.etag.clone().unwrap();
    assert!(enrollments.create_or_update(&first).await.unwrap_err().is_precondition_failed());
    assert!(enrollments.delete_if_match("sensor-042", &stale).await.unwrap_err().is_precondition_failed());
    enrollments.replace(&first).await.unwrap();
    assert!(
        enrollments.replace(&IndividualEnrollment::new("nobody", keys())).await.unwrap_err().is_not_found()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_loses_the_race_reads_again() {
    let (_emulator, service) = emulator().await;
    let enrollments = service.enrollments();
    enrollments.create_or_update(&enrollment()).await.unwrap();
    let (mut rounds, rival) = (0, service.enrollments());
    let changed = enrollments
        .update("sensor-042", |record| {
            rounds += 1;
            record.device_id = Some(format!("round-{rounds}"));
            if rounds == 1 {
                // Somebody else writes between the read and the write.
                let rival = rival.clone();
                let write = async move { rival.replace(&enrollment()).await };
                std::thread::scope(|scope| {
                    scope.spawn(|| tokio::runtime::Runtime::new().unwrap().block_on(write).unwrap());
                });
            }
        })
        .await
        .unwrap();
    assert_eq!((rounds, changed.device_id.as_deref()), (2, Some("round-2")));
}

#[tokio::test]
async fn a_wrong_policy_key_is_refused_and_the_cause_named() {
    let (emulator, _) = emulator().await;
    let credential = Credential::policy("provisioningserviceowner", POLICY_KEY.parse().unwrap());
    let service = ServiceClient::builder(endpoint_of(&emulator), credential).build().unwrap();
    let error = service.enrollments().get("sensor-042").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.help().contains("connection string"), "{}", error.help());
    assert_eq!(emulator.journal().len(), 1, "a refused credential is not tried again");
}

#[tokio::test]
async fn malformed_input_is_refused_before_anything_is_sent() {
    let (emulator, service) = emulator().await;
    for id in ["", ".", ".."] {
        assert_eq!(service.enrollments().get(id).await.unwrap_err().kind(), ErrorKind::Config);
    }
    let hub =
        format!("HostName=h.azure-devices.net;SharedAccessKeyName=iothubowner;SharedAccessKey={PRIMARY}");
    let error = ServiceClient::from_connection_string(&hub).unwrap_err();
    assert!(error.to_string().contains("IoT hub"), "{error}");
    assert!(emulator.journal().is_empty());
}

#[tokio::test]
async fn the_service_names_the_member_that_it_does_not_take() {
    let (_emulator, service) = emulator().await;
    let broken = enrollment().with_iot_hubs(["elsewhere.azure-devices.net"]);
    let error = service.enrollments().create_or_update(&broken).await.unwrap_err();
    assert_eq!((error.kind(), error.service().unwrap().status), (ErrorKind::Service, 400));
    assert!(error.to_string().contains("iotHubs"), "{error}");
}

// From here on: a peer without semantics.

fn client(peer: &Peer) -> ServiceClient {
    client_for(peer.endpoint())
}

fn client_for(endpoint: Endpoint) -> ServiceClient {
    let credential = Credential::policy("provisioningserviceowner", POLICY_KEY.parse().unwrap());
    let retry = RetryPolicy::new().retries(2).first(Duration::from_millis(1));
    ServiceClient::builder(endpoint, credential).retry(retry).build().unwrap()
}

fn stored(changes: Value) -> Value {
    let mut record = json!({
        "registrationId": "sensor-042", "attestation": { "type": "symmetricKey" }, "etag": "\"0e00a1b2\"",
        "provisioningStatus": "enabled", "capabilities": { "iotEdge": false }, "allocationPolicy": "hashed",
        "reprovisionPolicy": { "updateHubAssignment": true, "migrateDeviceData": true },
        "createdDateTimeUtc": "2026-01-01T00:00:00.0000000Z", "lastUpdatedDateTimeUtc": "2026-01-01T00:00:00.0000000Z"
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
async fn a_lost_create_that_was_not_applied_says_that_it_may_have_been() {
    let cases = [
        ("absent", refusal("404 Not Found", 404201)),
        ("another record", ok(stored(json!({ "deviceId": "other" })))),
        ("the record cannot be read", refusal("401 Unauthorized", 401002)),
    ];
    for (case, found) in cases {
        let peer = Peer::start([Act::Stall, found]).await;
        let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{case}");
        assert!(error.may_have_been_applied());
        assert!(error.to_string().ends_with("; the request may have been applied"), "{error}");
        assert_eq!(peer.requests().len(), 2);
    }
}

#[tokio::test]
async fn a_lost_create_of_somebody_elses_keys_is_no_success() {
    let peer = Peer::start([Act::Close, ok(stored(json!({}))), mechanism(SECONDARY)]).await;
    let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert!(error.may_have_been_applied());
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
async fn reads_and_replacements_are_repeated_and_creates_are_not() {
    let fault = || refusal("500 Internal Server Error", 500000);
    let peer = Peer::start([fault(), Act::Close, ok(stored(json!({})))]).await;
    client(&peer).enrollments().get("sensor-042").await.unwrap();
    assert_eq!(peer.requests().len(), 3);

    let peer = Peer::start([fault(), ok(stored(json!({})))]).await;
    client(&peer).enrollments().replace(&enrollment()).await.unwrap();
    assert_eq!(header(&peer.requests()[1], "if-match"), Some("*"));

    let peer = Peer::start([fault(), refusal("404 Not Found", 404201)]).await;
    let error = client(&peer).enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert_eq!(error.service().unwrap().status, 500);
    assert!(error.may_have_been_applied());
}

#[tokio::test]
async fn a_repeated_delete_finds_the_record_gone() {
    let peer = Peer::start([Act::Close, refusal("404 Not Found", 404201)]).await;
    client(&peer).enrollments().delete("sensor-042").await.unwrap();
    let peer = Peer::start([refusal("404 Not Found", 404201)]).await;
    assert!(client(&peer).enrollments().delete("sensor-042").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn a_pause_that_ends_after_the_deadline_ends_the_call_at_once() {
    let peer = Peer::start([Act::json("429 Too Many Requests", "Retry-After: 3600\r\n", "{}")]).await;
    let error = client(&peer).enrollments().get("sensor-042").await.unwrap_err();
    assert!(error.is_throttled());
    assert_eq!(error.service().unwrap().retry_after, Some(Duration::from_secs(3600)));
}

#[tokio::test]
async fn a_call_ends_with_its_deadline() {
    let peer = Peer::start([Act::Stall]).await;
    let endpoint = peer.endpoint().exchange_timeout(Duration::from_secs(60));
    let credential = Credential::policy("p", POLICY_KEY.parse().unwrap());
    let service =
        ServiceClient::builder(endpoint, credential).timeout(Duration::from_millis(200)).build().unwrap();
    let error = service.enrollments().create_or_update(&enrollment()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.may_have_been_applied());
}

#[tokio::test]
async fn what_cannot_be_reached_trusted_or_understood_is_a_typed_error() {
    let nobody = Endpoint::new("localhost").unwrap().with_port(closed_port().await);
    let error = client_for(nobody).enrollments().get("a").await.unwrap_err();
    assert_eq!((error.kind(), error.may_have_been_applied()), (ErrorKind::Connect, false));

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
