//! The registration of a device: its request, the answers, and the record that the service keeps.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::models::attestation::tpm::TpmAttestation;
use crate::models::attestation::x509::X509CertificateInfo;
use crate::models::{date_time, error_code};
use crate::open_enum::open_enum;
use crate::sensitive::{OtherMembers, Sensitive};

/// The body with which a device registers, or looks up its registration.
///
/// Source: DPS device REST API 2021-10-01, DeviceRegistration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[doc(alias = "ProvisioningRegistrationAdditionalData")]
#[non_exhaustive]
pub struct DeviceRegistration {
    /// The registration id, as in the path of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<String>,
    /// The public keys of the device's TPM; TPM attestation only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmAttestation>,
    /// Data for the webhook that chooses a hub, an object by the specification. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Sensitive<Value>>,
    /// A certificate signing request for the certificate that the service issues: base64 of PKCS#10 in DER,
    /// without line breaks; api-version 2026-11-01 or 2025-07-01-preview. Only a registration has it, not a
    /// look-up. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csr: Option<Sensitive<String>>,
    /// Further members, such as those of a later API version.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl DeviceRegistration {
    /// A request for this registration id.
    pub fn new(registration_id: impl Into<String>) -> Self {
        Self { registration_id: Some(registration_id.into()), ..Self::default() }
    }

    /// Adds the public keys of the device's TPM.
    pub fn with_tpm(mut self, tpm: TpmAttestation) -> Self {
        self.tpm = Some(tpm);
        self
    }

    /// Adds data for the webhook that chooses a hub.
    pub fn with_payload(mut self, payload: impl Into<Value>) -> Self {
        self.payload = Some(payload.into().into());
        self
    }

    /// Adds a certificate signing request: base64 of PKCS#10 in DER, without line breaks.
    pub fn with_csr(mut self, csr: impl Into<Sensitive<String>>) -> Self {
        self.csr = Some(csr.into());
        self
    }
}

/// The answer to a registration request and to each poll.
///
/// Source: DPS device REST API 2021-10-01, RegistrationOperationStatus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct RegistrationOperationStatus {
    /// The id of the operation to poll. The specification requires it; answers without it are parsed too, so
    /// that they can be reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
    /// The progress of the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnrollmentStatus>,
    /// The record. Missing or incomplete until the registration has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_state: Option<DeviceRegistrationState>,
}

/// The registration record of a device, as the service returns it to the back end and to the device.
///
/// Every member may be missing. `tpm`, `x509` and `symmetric_key` come on the device API only. The service
/// fills it; `Default` makes an empty one for tests.
///
/// Source: DPS service REST API 2021-10-01 and 2026-11-02-preview, DeviceRegistrationState; DPS device REST
/// API of the same versions, DeviceRegistrationResult.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[doc(alias = "DeviceRegistrationResult")]
#[doc(alias = "RegistrationResult")]
#[non_exhaustive]
pub struct DeviceRegistrationState {
    /// The registration id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_id: Option<String>,
    /// When the device first registered.
    #[serde(default, with = "date_time::option", skip_serializing_if = "Option::is_none")]
    pub created_date_time_utc: Option<OffsetDateTime>,
    /// When the record was last changed.
    #[serde(default, with = "date_time::option", skip_serializing_if = "Option::is_none")]
    pub last_updated_date_time_utc: Option<OffsetDateTime>,
    /// The host name of the device's hub, once it is assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned_hub: Option<String>,
    /// The id of the device at its hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The progress of the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<EnrollmentStatus>,
    /// What happened to the device's data; only with [`EnrollmentStatus::Assigned`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub substatus: Option<AssignedDeviceSubstatus>,
    /// Six digits, of which the first three are an HTTP status; only with [`EnrollmentStatus::Failed`].
    #[serde(default, deserialize_with = "error_code::deserialize", skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i32>,
    /// Text for people, sometimes JSON from the hub; only with [`EnrollmentStatus::Failed`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// The version of the record, from the service. It is opaque; send it back unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Data for the device from the webhook that chose the hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Sensitive<Value>>,
    /// The encrypted hub key of a device with a TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmRegistrationResult>,
    /// The certificates by which the device registered; may be an empty object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub x509: Option<X509RegistrationResult>,
    /// The certificates that the service issued for the device's certificate signing request, as it sent
    /// them: a list of base64 of DER, the leaf first. The form is not checked, so that no answer with an
    /// assignment is lost. Only in the result of a registration with a request, on the device API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issued_certificate_chain: Option<Sensitive<Value>>,
    /// The group through which a device with a symmetric key registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symmetric_key: Option<SymmetricKeyRegistrationResult>,
    /// The kind of the assigned hub. Api-version 2026-11-02-preview; missing means
    /// [`ConnectionProfile::Classic`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_profile: Option<ConnectionProfile>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

/// The TPM part of a [`DeviceRegistrationState`].
///
/// Source: DPS device REST API 2021-10-01, TpmRegistrationResult.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TpmRegistrationResult {
    /// Base64 of the key for the hub, encrypted so that only the device's TPM can decrypt it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_key: Option<Sensitive<String>>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

/// The X.509 part of a [`DeviceRegistrationState`].
///
/// Source: DPS device REST API 2021-10-01, X509RegistrationResult.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct X509RegistrationResult {
    /// The certificate that the device presented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_info: Option<X509CertificateInfo>,
    /// The group through which the device registered; missing for an individual enrollment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_group_id: Option<String>,
    /// The authority of that group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing_certificate_info: Option<X509CertificateInfo>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

/// The symmetric-key part of a [`DeviceRegistrationState`].
///
/// Source: DPS device REST API 2021-10-01, SymmetricKeyRegistrationResult.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct SymmetricKeyRegistrationResult {
    /// The group through which the device registered; missing for an individual enrollment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrollment_group_id: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

/// The body of the 401 that starts the challenge of a device with a TPM: the device decrypts the key in its
/// TPM, signs a token and sends the request again.
///
/// Source: answers of the device API over HTTPS; the specification does not describe it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[doc(alias = "TpmChallengeResponse")]
#[non_exhaustive]
pub struct TpmChallenge {
    /// Text for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Base64 of the signing key, encrypted so that only the device's TPM can decrypt it. Without it the
    /// answer is an ordinary refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication_key: Option<Sensitive<String>>,
    /// The same key unencrypted; null in production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unencrypted_authentication_key: Option<Sensitive<String>>,
    /// The `skn` of the token, `registration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_name: Option<String>,
}

open_enum! {
    /// The progress of a registration.
    ///
    /// Source: DPS service and device REST API 2021-10-01, EnrollmentStatus.
    #[doc(alias = "ProvisioningRegistrationStatusType")]
    pub enum EnrollmentStatus {
        /// Not started.
        Unassigned = "unassigned",
        /// In progress.
        Assigning = "assigning",
        /// The device has a hub.
        Assigned = "assigned",
        /// Ended without a hub; the record says why.
        Failed = "failed",
        /// The enrollment is disabled.
        Disabled = "disabled",
    }
}

open_enum! {
    /// What happened to the data of a device that is assigned.
    ///
    /// Source: DPS service and device REST API 2021-10-01, AssignedDeviceSubstatus.
    #[doc(alias = "ProvisioningRegistrationSubstatusType")]
    #[doc(alias = "EnrollmentSubstatus")]
    pub enum AssignedDeviceSubstatus {
        /// The first assignment, or the same hub again.
        InitialAssignment = "initialAssignment",
        /// The device got another hub, and its twin moved with it.
        DeviceDataMigrated = "deviceDataMigrated",
        /// The device got another hub, and its twin was reset.
        DeviceDataReset = "deviceDataReset",
        /// The hub knew the device and the service did not, for example after its record was deleted. The
        /// twin is kept.
        ReprovisionedToInitialAssignment = "reprovisionedToInitialAssignment",
    }
}

open_enum! {
    /// The kind of an IoT hub, which decides how devices connect to it.
    ///
    /// Source: DPS service and device REST API 2026-11-02-preview, `connectionProfile`.
    pub enum ConnectionProfile {
        /// MQTT 3.1.1, AMQP and HTTPS, with tokens or certificates.
        Classic = "classic",
        /// MQTT 5, with certificates only.
        MqttV5 = "mqttV5",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn request_has_only_what_was_set() {
        assert_eq!(
            serde_json::to_value(DeviceRegistration::new("dev1")).unwrap(),
            json!({"registrationId": "dev1"})
        );
        let request = DeviceRegistration::new("dev1")
            .with_tpm(TpmAttestation::new("ek").with_storage_root_key("srk"))
            .with_payload(json!({"model": 7}))
            .with_csr("MIIB");
        assert_eq!(
            serde_json::to_value(request).unwrap(),
            json!({"registrationId": "dev1", "tpm": {"endorsementKey": "ek", "storageRootKey": "srk"},
                "payload": {"model": 7}, "csr": "MIIB"})
        );
    }

    #[test]
    fn assigned_answer_is_read() {
        let body = json!({"operationId": "5.316a", "status": "assigned", "registrationState": {
            "registrationId": "dev1", "createdDateTimeUtc": "2022-08-31T22:02:50.5163352Z",
            "assignedHub": "contoso.azure-devices.net", "deviceId": "dev1", "status": "assigned",
            "substatus": "initialAssignment", "lastUpdatedDateTimeUtc": "2022-08-31T22:02:50.7370676Z",
            "etag": "IjYxMDAi", "x509": {}, "payload": "text", "generationId": "1"
        }});
        let answer: RegistrationOperationStatus = serde_json::from_value(body.clone()).unwrap();
        let state = answer.registration_state.as_ref().unwrap();
        assert_eq!(state.status, Some(EnrollmentStatus::Assigned));
        assert_eq!(state.created_date_time_utc, Some(datetime!(2022-08-31 22:02:50.5163352 UTC)));
        assert_eq!(state.x509, Some(X509RegistrationResult::default()));
        assert_eq!(state.other["generationId"], "1");
        assert_eq!(serde_json::to_value(&answer).unwrap(), body);
    }

    #[test]
    fn unknown_words_and_members_survive() {
        let body = json!({"status": "blacklisted", "substatus": "teleported", "connectionProfile": "mqttV6",
            "issuedCertificateChain": ["a", 7], "tpm": {"k": 1}, "x509": {"k": 2}, "symmetricKey": {"k": 3}});
        let state: DeviceRegistrationState = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(state.status.as_ref().unwrap().as_str(), "blacklisted");
        assert_eq!(state.connection_profile.as_ref().unwrap().as_str(), "mqttV6");
        assert_eq!(serde_json::to_value(&state).unwrap(), body);
    }

    #[test]
    fn the_kind_of_the_hub_is_read() {
        for (word, profile) in
            [("classic", ConnectionProfile::Classic), ("mqttV5", ConnectionProfile::MqttV5)]
        {
            let state: DeviceRegistrationState =
                serde_json::from_value(json!({ "connectionProfile": word })).unwrap();
            assert_eq!(state.connection_profile, Some(profile));
        }
    }

    #[test]
    fn nulls_are_absent() {
        let answer: RegistrationOperationStatus = serde_json::from_value(json!({
            "operationId": null, "status": null, "registrationState": {
                "registrationId": null, "createdDateTimeUtc": null, "lastUpdatedDateTimeUtc": null,
                "assignedHub": null, "deviceId": null, "status": null, "substatus": null, "errorCode": null,
                "errorMessage": null, "etag": null, "payload": null, "tpm": null, "x509": null, "symmetricKey": null,
                "connectionProfile": null, "issuedCertificateChain": null
            }
        }))
        .unwrap();
        assert_eq!(answer.registration_state, Some(DeviceRegistrationState::default()));
        let request: DeviceRegistration =
            serde_json::from_value(json!({"registrationId": "a", "tpm": null, "payload": null, "csr": null}))
                .unwrap();
        assert_eq!(request, DeviceRegistration::new("a"));
    }

    #[test]
    fn challenge_is_read() {
        let challenge: TpmChallenge = serde_json::from_value(json!({
            "message": "Authorization required, resend request using supplied key",
            "authenticationKey": "AAAA", "unencryptedAuthenticationKey": null, "keyName": "registration"
        }))
        .unwrap();
        assert_eq!(challenge.authentication_key.unwrap().as_str(), "AAAA");
        assert_eq!(challenge.unencrypted_authentication_key, None);
    }

    #[test]
    fn debug_never_shows_a_secret() {
        let request = DeviceRegistration::new("dev1")
            .with_tpm(TpmAttestation::new("marker-1").with_storage_root_key("marker-2"))
            .with_payload(json!({"secret": "marker-3"}))
            .with_csr("marker-10");
        let answer: RegistrationOperationStatus = serde_json::from_value(json!({"registrationState": {
            "payload": {"a": "marker-4"}, "tpm": {"authenticationKey": "marker-5", "k": "marker-6"},
            "issuedCertificateChain": ["marker-7"]
        }}))
        .unwrap();
        let challenge: TpmChallenge = serde_json::from_value(json!({
            "authenticationKey": "marker-8", "unencryptedAuthenticationKey": "marker-9"
        }))
        .unwrap();
        let shown = format!("{request:?} {request:#?} {answer:?} {answer:#?} {challenge:?}");
        assert!(
            shown.contains("dev1") && shown.contains("issued_certificate_chain: Some([redacted])"),
            "{shown}"
        );
        assert!(!shown.contains("marker"), "{shown}");
    }
}
