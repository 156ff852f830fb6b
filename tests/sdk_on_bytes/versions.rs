//! The api-version of the service client: what is sent with it, and what it keeps back.

use azure_dps_core::ErrorKind;
use azure_dps_core::models::{ApiVersion, BulkMode, EnrollmentGroup, IndividualEnrollment};
use azure_dps_service::ServiceClient;
use azure_dps_tests::back_end::{PRIMARY, SECONDARY, builder_for, enrollment, keys, mechanism, ok, stored};
use azure_dps_tests::{Act, Peer, body};
use serde_json::{Value, json};

fn client(peer: &Peer, version: impl Into<ApiVersion>) -> ServiceClient {
    builder_for(peer.endpoint()).api_version(version).build().unwrap()
}

fn with_policy() -> IndividualEnrollment {
    enrollment().with_certificate_policy("plants", "berlin", "thirty-days")
}

fn first_line(request: &str) -> &str {
    request.lines().next().unwrap()
}

/// Expected values: DPS service REST API 2026-11-01 and 2025-07-01-preview.
#[tokio::test]
async fn the_policy_of_each_version_is_sent_with_its_wire_names() {
    let shared = format!(
        "{{\"registrationId\":\"sensor-042\",\"attestation\":{{\"type\":\"symmetricKey\",\
         \"symmetricKey\":{{\"primaryKey\":\"{PRIMARY}\",\"secondaryKey\":\"{SECONDARY}\"}}}},"
    );
    for (version, sent, members) in [
        (
            "2026-11-01",
            with_policy(),
            "\"namespaceName\":\"plants\",\"certificateAuthorityName\":\"berlin\",\
             \"certificatePolicyName\":\"thirty-days\"}",
        ),
        (
            "2025-07-01-preview",
            enrollment().with_credential_policy("plants-policy"),
            "\"credentialPolicyName\":\"plants-policy\"}",
        ),
    ] {
        let expected = format!("{shared}{members}");
        let peer = Peer::start([Act::json("200 OK", "", &expected)]).await;
        let created = client(&peer, version).enrollments().create_or_update(&sent).await.unwrap();
        assert_eq!(created, sent);
        let request = &peer.requests()[0];
        let line = format!("PUT /enrollments/sensor-042?api-version={version} HTTP/1.1");
        assert_eq!((first_line(request), body(request)), (line.as_str(), expected.as_str()));
    }
}

#[tokio::test]
async fn a_member_that_the_version_does_not_know_is_refused_before_anything_is_sent() {
    let peer = Peer::start([]).await;
    let group =
        EnrollmentGroup::new("plant", keys()).with_certificate_policy("plants", "berlin", "thirty-days");
    for (version, individual, group) in [
        (ApiVersion::DEFAULT, with_policy(), group.clone()),
        (ApiVersion::V2025_07_01Preview, with_policy(), group),
        (
            ApiVersion::V2026_11_01,
            enrollment().with_credential_policy("p"),
            EnrollmentGroup::new("plant", keys()).with_credential_policy("p"),
        ),
    ] {
        let client = client(&peer, version.clone());
        let (individuals, groups) = (client.enrollments(), client.enrollment_groups());
        let plain = IndividualEnrollment::new("first", keys());
        for error in [
            individuals.create_or_update(&individual).await.unwrap_err(),
            individuals.replace(&individual).await.unwrap_err(),
            individuals.run_bulk_operation(BulkMode::Create, &[plain, individual]).await.unwrap_err(),
            groups.create_or_update(&group).await.unwrap_err(),
            groups.replace(&group).await.unwrap_err(),
            groups.run_bulk_operation(BulkMode::Create, &[group]).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(version.as_str()), "{error}");
            assert!(error.to_string().contains("ServiceClientBuilder::api_version"), "{error}");
        }
    }
    assert_eq!(peer.connections(), 0);
}

#[tokio::test]
async fn an_update_keeps_the_certificate_policy() {
    let read = stored(json!({
        "namespaceName": "plants", "certificateAuthorityName": "berlin", "certificatePolicyName": "thirty-days"
    }));
    let peer = Peer::start([ok(read.clone()), mechanism(PRIMARY), ok(read)]).await;
    client(&peer, ApiVersion::V2026_11_01)
        .enrollments()
        .update("sensor-042", |record| record.device_id = Some("d".into()))
        .await
        .unwrap();
    let written: Value = serde_json::from_str(body(&peer.requests()[2])).unwrap();
    assert_eq!(
        (&written["namespaceName"], &written["certificateAuthorityName"], &written["certificatePolicyName"]),
        (&json!("plants"), &json!("berlin"), &json!("thirty-days"))
    );
}

#[tokio::test]
async fn a_later_version_is_sent_as_written() {
    let peer = Peer::start([ok(stored(json!({})))]).await;
    client(&peer, "2027-05-01").enrollments().create_or_update(&with_policy()).await.unwrap();
    assert_eq!(
        first_line(&peer.requests()[0]),
        "PUT /enrollments/sensor-042?api-version=2027-05-01 HTTP/1.1"
    );
}

#[tokio::test]
async fn a_text_that_is_not_a_version_makes_no_client() {
    let peer = Peer::start([]).await;
    for text in ["", "2026-11-01&x=1", "2026-11-01\r\nx: y"] {
        let error = builder_for(peer.endpoint()).api_version(text).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("cannot be an api-version"), "{error}");
    }
}
