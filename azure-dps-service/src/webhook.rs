//! For custom allocation functions: the request in which the service asks for a hub, and the response.
//!
//! The service asks once for each registration through an enrollment with
//! [`AllocationPolicy::Custom`](azure_dps_core::models::AllocationPolicy::Custom): a POST to the URL of its
//! [`CustomAllocationDefinition`](azure_dps_core::models::CustomAllocationDefinition). [`answer`] turns the
//! body of that request into the status and the body of the response, so that it works with any HTTP server
//! or function host. The host has to authenticate the caller: the URL usually contains a key in its query.
//!
//! ```
//! use azure_dps_service::webhook::{self, AllocationRequest, AllocationResponse, Rejected};
//!
//! async fn choose(request: AllocationRequest) -> Result<AllocationResponse, Rejected> {
//!     let model = request.payload().and_then(|payload| payload["modelId"].as_str());
//!     let wanted = if model == Some("dtmi:contoso:camera;1") { "video" } else { "plain" };
//!     let hub = request.linked_hubs.iter().find(|hub| hub.starts_with(wanted));
//!     let hub = hub.ok_or_else(|| Rejected::new(format!("no hub for {wanted} devices is linked")))?;
//!     Ok(AllocationResponse::new(hub))
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! // In a handler of your HTTP server:
//! let body = br#"{"deviceRuntimeContext":{"registrationId":"camera-7","payload":{"modelId":"dtmi:contoso:camera;1"}},
//!     "enrollmentGroup":{"enrollmentGroupId":"cameras","attestation":{"type":"x509"}},
//!     "linkedHubs":["plain.azure-devices.net","video.azure-devices.net"]}"#;
//! let response = webhook::answer(body, choose).await;
//! assert_eq!(response.status, 200);
//! assert_eq!(response.body, br#"{"iotHubHostName":"video.azure-devices.net"}"#);
//! # }
//! ```
//!
//! The time that the service waits is not documented. Answer within a few seconds, and return the same answer
//! for the same request, because the service may ask again.
//!
//! Source: DPS, custom allocation policies.

use std::fmt;

use azure_dps_core::Sensitive;
use azure_dps_core::models::{
    EnrollmentGroup, IndividualEnrollment, InitialTwin, OtherMembers, TpmAttestation,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The request of the service: a device that needs a hub.
///
/// It has either `individual_enrollment` or `enrollment_group`. The records have no keys and certificates,
/// and the query of the webhook's URL is masked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AllocationRequest {
    /// The individual enrollment of the device, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub individual_enrollment: Option<IndividualEnrollment>,
    /// The enrollment group of the device, if it registers through one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_group: Option<EnrollmentGroup>,
    /// The device.
    pub device_runtime_context: DeviceRuntimeContext,
    /// Host names of the hubs to choose from: those of the enrollment, or all linked ones. Under
    /// [`ReprovisionPolicy::never`](azure_dps_core::models::ReprovisionPolicy::never) only the hub that the
    /// device has.
    pub linked_hubs: Vec<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl AllocationRequest {
    /// The id that the device registers with.
    pub fn registration_id(&self) -> &str {
        &self.device_runtime_context.registration_id
    }

    /// The payload of the device. Do not trust it without checking.
    pub fn payload(&self) -> Option<&Value> {
        self.device_runtime_context.payload.as_deref()
    }

    /// The host name of the hub that the device has, if it was assigned before.
    pub fn current_hub(&self) -> Option<&str> {
        self.device_runtime_context.current_iot_hub_host_name.as_deref()
    }
}

/// The device that needs a hub. It has one of `x509`, `symmetric_key` and `tpm`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceRuntimeContext {
    /// The id that it registers with.
    pub registration_id: String,
    /// The host name of its hub, if it was assigned before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_iot_hub_host_name: Option<String>,
    /// Its id at that hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_device_id: Option<String>,
    /// The certificate that it presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509: Option<ShownCertificate>,
    /// Present when it signed with a symmetric key; an object without members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<OtherMembers>,
    /// The public keys of its TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmAttestation>,
    /// Its payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Sensitive<Value>>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

/// The certificate that a device presented.
///
/// Source: published allocation functions; the documentation does not describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ShownCertificate {
    /// Base64 of the leaf certificate in DER.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

/// The hub for a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AllocationResponse {
    /// The host name of the hub, one of [`AllocationRequest::linked_hubs`].
    pub iot_hub_host_name: String,
    /// The initial twin of the device, instead of the enrollment's. The service uses it when the device gets
    /// its first hub, and when the device moves and its data is reset. Default: the enrollment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_twin: Option<InitialTwin>,
    /// The data for the device, the `payload` of its registration. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Sensitive<Value>>,
}

impl AllocationResponse {
    /// A response with this hub, by host name.
    pub fn new(iot_hub_host_name: impl Into<String>) -> Self {
        Self { iot_hub_host_name: iot_hub_host_name.into(), initial_twin: None, payload: None }
    }

    /// Sets the initial twin of the device.
    #[must_use]
    pub fn with_initial_twin(mut self, twin: InitialTwin) -> Self {
        self.initial_twin = Some(twin);
        self
    }

    /// Sets the data for the device.
    #[must_use]
    pub fn with_payload(mut self, payload: impl Into<Value>) -> Self {
        self.payload = Some(payload.into().into());
        self
    }
}

/// The device gets no hub. Its registration fails with the code 400207.
///
/// `Display` and `{:?}` are the reason in one line, which is what a `main` or a log needs; `{:#?}` shows the
/// structure.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .reason.replace(char::is_control, " "))]
pub struct Rejected {
    reason: String,
}

impl Rejected {
    /// A rejection with a reason for the logs of the function and the service. The device may see the reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

impl fmt::Debug for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.alternate() {
            true => f.debug_struct("Rejected").field("reason", &self.reason).finish(),
            false => fmt::Display::fmt(self, f),
        }
    }
}

/// The response to the service, JSON (`Content-Type: application/json`).
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WebhookResponse {
    /// The HTTP status: 200 with a hub, 400 without one.
    pub status: u16,
    /// The body. It may contain the payload for the device.
    pub body: Vec<u8>,
}

impl fmt::Debug for WebhookResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Parses the body of a request, calls `choose`, and checks the hub that it returns.
///
/// The response has status 400 and the body `{"message": reason}` when the body is not a request, when
/// `choose` rejects the device, and when the hub is not one of `linkedHubs`. Then the registration fails, and
/// the service logs the status.
pub async fn answer<C, F>(body: &[u8], choose: C) -> WebhookResponse
where
    C: FnOnce(AllocationRequest) -> F,
    F: Future<Output = Result<AllocationResponse, Rejected>>,
{
    match chosen(body, choose).await {
        Ok(body) => WebhookResponse { status: 200, body },
        Err(why) => {
            tracing::warn!(target: "dps_service", reason = %why, "the device was rejected");
            WebhookResponse { status: 400, body: json!({ "message": why.reason }).to_string().into_bytes() }
        }
    }
}

async fn chosen<C, F>(body: &[u8], choose: C) -> Result<Vec<u8>, Rejected>
where
    C: FnOnce(AllocationRequest) -> F,
    F: Future<Output = Result<AllocationResponse, Rejected>>,
{
    // The message of serde quotes values, so only the position is reported.
    let request: AllocationRequest = serde_json::from_slice(body).map_err(|why| {
        let (line, column) = (why.line(), why.column());
        Rejected::new(format!("the body is not an allocation request (line {line}, column {column})"))
    })?;
    let hubs = request.linked_hubs.clone();
    let response = choose(request).await?;
    let hub = &response.iot_hub_host_name;
    if !hubs.iter().any(|linked| linked.eq_ignore_ascii_case(hub)) {
        return Err(Rejected::new(format!("the chosen hub {hub:?} is not one of the linked hubs")));
    }
    serde_json::to_vec(&response).map_err(|_| Rejected::new("the answer cannot be written as JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejection_is_its_reason_in_one_line() {
        let rejected = Rejected::new("no place\nfor it");
        assert_eq!(format!("{rejected:?} {rejected}"), "no place for it no place for it");
        assert_eq!(format!("{rejected:#?}"), "Rejected {\n    reason: \"no place\\nfor it\",\n}");
    }

    /// Members as the documentation of custom allocation policies lists them.
    const REQUEST: &str = r#"{
        "enrollmentGroup": {
            "enrollmentGroupId": "plant-berlin",
            "attestation": { "type": "symmetricKey" },
            "capabilities": { "iotEdge": false },
            "etag": "\"0e00a1b2-0000-0700-0000-669f00aa0000\"",
            "provisioningStatus": "enabled",
            "reprovisionPolicy": { "updateHubAssignment": true, "migrateDeviceData": true },
            "createdDateTimeUtc": "2026-05-04T09:15:27.1234567Z",
            "lastUpdatedDateTimeUtc": "2026-05-04T09:15:27.1234567Z",
            "allocationPolicy": "custom",
            "iotHubs": ["a.azure-devices.net", "b.azure-devices.net"],
            "customAllocationDefinition": { "webhookUrl": "https://alloc.example/api/pick?****", "apiVersion": "2021-10-01" }
        },
        "deviceRuntimeContext": {
            "registrationId": "sensor-042",
            "currentIotHubHostName": "a.azure-devices.net",
            "currentDeviceId": "sensor-042",
            "symmetricKey": {},
            "payload": { "modelId": "dtmi:contoso:sensor;1" },
            "later": [1]
        },
        "linkedHubs": ["a.azure-devices.net", "b.azure-devices.net"]
    }"#;

    async fn hub(name: &str) -> WebhookResponse {
        answer(REQUEST.as_bytes(), |_| async { Ok(AllocationResponse::new(name)) }).await
    }

    fn message(response: &WebhookResponse) -> String {
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        body["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn a_request_is_parsed_without_losing_a_member() {
        let request: AllocationRequest = serde_json::from_str(REQUEST).unwrap();
        assert_eq!(request.registration_id(), "sensor-042");
        assert_eq!(request.current_hub(), Some("a.azure-devices.net"));
        assert_eq!(request.payload(), Some(&json!({ "modelId": "dtmi:contoso:sensor;1" })));
        assert_eq!(request.enrollment_group.as_ref().unwrap().enrollment_group_id, "plant-berlin");
        let (read, sent): (Value, Value) =
            (serde_json::to_value(&request).unwrap(), serde_json::from_str(REQUEST).unwrap());
        assert_eq!(read, sent);
    }

    #[tokio::test]
    async fn the_answer_has_the_documented_members() {
        let response = answer(REQUEST.as_bytes(), |request| async move {
            let twin = InitialTwin::new().with_tags([("line", "3")]).with_desired([("interval", 10)]);
            let hub = request.linked_hubs.last().cloned().unwrap();
            Ok(AllocationResponse::new(hub).with_initial_twin(twin).with_payload(json!({ "endpoint": "x" })))
        })
        .await;
        assert_eq!(response.status, 200);
        assert_eq!(
            serde_json::from_slice::<Value>(&response.body).unwrap(),
            json!({
                "iotHubHostName": "b.azure-devices.net",
                "initialTwin": { "tags": { "line": "3" }, "properties": { "desired": { "interval": 10 } } },
                "payload": { "endpoint": "x" }
            })
        );
    }

    #[tokio::test]
    async fn a_body_that_is_not_a_request_is_refused_without_quoting_it() {
        for body in
            ["", "[]", "{}", r#"{"deviceRuntimeContext":{"registrationId":"secret"},"linkedHubs":"secret"}"#]
        {
            let response = answer(body.as_bytes(), |_| async { Ok(AllocationResponse::new("a")) }).await;
            assert_eq!(response.status, 400, "{body}");
            assert!(
                message(&response).contains("not an allocation request")
                    && !message(&response).contains("secret"),
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn a_rejected_device_and_a_hub_that_is_not_linked_fail_the_registration() {
        let rejected = answer(REQUEST.as_bytes(), |_| async { Err(Rejected::new("not on the list")) }).await;
        assert_eq!((rejected.status, message(&rejected).as_str()), (400, "not on the list"));
        let foreign = hub("c.azure-devices.net").await;
        assert_eq!(foreign.status, 400);
        assert!(message(&foreign).contains("c.azure-devices.net"));
        assert_eq!(hub("B.azure-devices.net").await.status, 200, "host names have no case");
    }

    #[tokio::test]
    async fn debug_shows_no_payload() {
        let request: AllocationRequest = serde_json::from_str(&REQUEST.replace("dtmi", "marker")).unwrap();
        let response = AllocationResponse::new("h").with_payload("marker");
        let shown = format!("{request:?} {response:?} {:?}", hub("marker").await);
        assert!(!shown.contains("marker"), "{shown}");
    }
}
