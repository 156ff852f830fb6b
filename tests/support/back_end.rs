//! What a service answers to a back end, and clients of the SDK for a peer that answers so.

use std::time::Duration;

use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment, SymmetricKeyAttestation};
use azure_dps_core::{Endpoint, RetryPolicy};
use azure_dps_service::{Credential, ServiceClient, ServiceClientBuilder};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub use crate::emulated::{PRIMARY, SECONDARY};
use crate::{Act, Peer};

pub const POLICY_KEY: &str = "n1ZYBqNSQr08ap5qh6o5wovRBSw0OVmAY6KrDrW1pas=";

pub fn keys() -> AttestationMechanism {
    AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(PRIMARY, SECONDARY))
}

pub fn enrollment() -> IndividualEnrollment {
    IndividualEnrollment::new("sensor-042", keys())
}

pub fn primary_key(attestation: &AttestationMechanism) -> &str {
    attestation.as_symmetric_key().unwrap().primary_key.as_deref().unwrap()
}

pub fn client(peer: &Peer) -> ServiceClient {
    client_for(peer.endpoint())
}

pub fn client_for(endpoint: Endpoint) -> ServiceClient {
    builder_for(endpoint).build().unwrap()
}

pub fn builder_for(endpoint: Endpoint) -> ServiceClientBuilder {
    let credential = Credential::policy("provisioningserviceowner", POLICY_KEY.parse().unwrap());
    let retry = RetryPolicy::new().with_retries(2).with_first_pause(Duration::from_millis(1));
    ServiceClient::builder(endpoint, credential).retry(retry)
}

pub fn stored(changes: Value) -> Value {
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

pub fn ok(body: Value) -> Act {
    Act::json("200 OK", "", &body.to_string())
}

pub fn mechanism(primary: &str) -> Act {
    ok(
        json!({ "type": "symmetricKey", "symmetricKey": { "primaryKey": primary, "secondaryKey": SECONDARY } }),
    )
}

pub fn refusal(status: &str, code: i32) -> Act {
    Act::json(status, "", &json!({ "errorCode": code, "trackingId": "t", "message": "no" }).to_string())
}

pub fn lines(peer: &Peer) -> Vec<String> {
    let line =
        |request: String| request.lines().next().unwrap().replace("?api-version=2021-10-01 HTTP/1.1", "");
    peer.requests().into_iter().map(line).collect()
}

pub fn fault(status: &str) -> Act {
    refusal(status, 0)
}

pub fn tagged(etag: &str) -> IndividualEnrollment {
    enrollment().with_etag(etag)
}

pub fn listed(ids: &[&str], continuation: Option<&str>) -> Act {
    let record = |id: &&str| json!({ "registrationId": id, "attestation": { "type": "symmetricKey" } });
    let items: Vec<_> = ids.iter().map(record).collect();
    let more = continuation.map(|token| format!("x-ms-continuation: {token}\r\n")).unwrap_or_default();
    Act::json("200 OK", &format!("{more}x-ms-item-type: Enrollment\r\n"), &Value::from(items).to_string())
}
