//! The two kinds of enrollment: one device, or a group of devices.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::models::attestation::AttestationMechanism;
use crate::models::policy::{
    AllocationPolicy, CustomAllocationDefinition, DeviceCapabilities, ReprovisionPolicy,
};
use crate::models::registration::DeviceRegistrationState;
use crate::models::twin::{InitialTwin, TwinCollection};
use crate::models::{date_time, nulls};
use crate::open_enum::open_enum;
use crate::sensitive::OtherMembers;

/// The record that lets one device register.
///
/// ```
/// use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment, InitialTwin};
///
/// let enrollment = IndividualEnrollment::new("sensor-042", AttestationMechanism::symmetric_key_generated())
///     .with_device_id("line3-sensor-042")
///     .with_initial_twin(InitialTwin::new().with_tags([("site", "berlin")]));
/// ```
///
/// The service replaces the record as a whole. To change one that exists, read it, change it and write it
/// back; reading hides symmetric keys.
///
/// Source: DPS service REST API 2021-10-01, 2025-07-01-preview and 2026-11-01, IndividualEnrollment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[doc(alias = "Enrollment")]
#[non_exhaustive]
pub struct IndividualEnrollment {
    /// The id with which the device registers: up to 128 letters, digits and `-._:`; case does not matter.
    /// With X.509 it is the common name of the device's certificate.
    pub registration_id: String,
    /// The id of the device at its hub: 1 to 128 ASCII letters, digits and `-:.+%_#*?!(),=@;$'`. The service
    /// checks it. Avoid `#`, `+`, `?` and `%` with MQTT. Default: the registration id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_id: Option<String>,
    /// The device's registration record. The service returns it for a single enrollment, not in listings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registration_state: Option<DeviceRegistrationState>,
    /// How the device proves who it is.
    #[serde(
        default = "AttestationMechanism::absent",
        skip_serializing_if = "AttestationMechanism::is_absent"
    )]
    pub attestation: AttestationMechanism,
    /// What the device can do. Default: no IoT Edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<DeviceCapabilities>,
    /// One hub for the device; the older form of [`AllocationPolicy::Static`] with one entry in `iot_hubs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iot_hub_host_name: Option<String>,
    /// The twin that the device starts with. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_twin: Option<InitialTwin>,
    /// The version of the record, from the service. It is opaque; send it back unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Whether the device may register. Default: enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_status: Option<ProvisioningStatus>,
    /// What happens when the device registers again. Default: it may move, and its data moves with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reprovision_policy: Option<ReprovisionPolicy>,
    /// When the record was created. Only the service fills it.
    #[serde(default, with = "date_time::option", skip_serializing_if = "Option::is_none")]
    pub created_date_time_utc: Option<OffsetDateTime>,
    /// When the record was changed last. Only the service fills it.
    #[serde(default, with = "date_time::option", skip_serializing_if = "Option::is_none")]
    pub last_updated_date_time_utc: Option<OffsetDateTime>,
    /// How a hub is chosen. Default: the policy of the provisioning service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_policy: Option<AllocationPolicy>,
    /// Host names of the hubs to choose from, each linked to the provisioning service. Default: all linked
    /// hubs.
    #[serde(default, deserialize_with = "nulls::left_out", skip_serializing_if = "Option::is_none")]
    pub iot_hubs: Option<Vec<String>>,
    /// The webhook that chooses the hub, for [`AllocationPolicy::Custom`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_allocation_definition: Option<CustomAllocationDefinition>,
    /// Notes about the device, which the hub does not receive. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optional_device_information: Option<TwinCollection>,
    /// The Azure Device Registry namespace of the certificate policy: 3 to 64 lower-case letters, digits and
    /// `-`. Api-version 2026-11-01. Default: devices get no certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_name: Option<String>,
    /// The certificate authority of the policy, in that namespace: 3 to 63 letters, digits and `-`.
    /// Api-version 2026-11-01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority_name: Option<String>,
    /// The certificate policy of that authority: 3 to 63 letters, digits and `-`. Api-version 2026-11-01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_policy_name: Option<String>,
    /// The credential policy, as previews named the certificate policy. Api-version 2025-07-01-preview; not
    /// in 2026-11-01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_policy_name: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl IndividualEnrollment {
    /// An enrollment with the service's defaults. The registration id has 1 to 128 ASCII letters, digits,
    /// `-`, `.`, `_` and `:`; it is checked when the enrollment is sent.
    pub fn new(registration_id: impl Into<String>, attestation: AttestationMechanism) -> Self {
        Self {
            registration_id: registration_id.into(),
            device_id: None,
            registration_state: None,
            attestation,
            capabilities: None,
            iot_hub_host_name: None,
            initial_twin: None,
            etag: None,
            provisioning_status: None,
            reprovision_policy: None,
            created_date_time_utc: None,
            last_updated_date_time_utc: None,
            allocation_policy: None,
            iot_hubs: None,
            custom_allocation_definition: None,
            optional_device_information: None,
            namespace_name: None,
            certificate_authority_name: None,
            certificate_policy_name: None,
            credential_policy_name: None,
            other: OtherMembers::new(),
        }
    }

    /// Sets the id of the device at its hub.
    pub fn with_device_id(mut self, device_id: impl Into<String>) -> Self {
        self.device_id = Some(device_id.into());
        self
    }

    /// Sets notes about the device.
    pub fn with_optional_device_information(mut self, information: impl Into<TwinCollection>) -> Self {
        self.optional_device_information = Some(information.into());
        self
    }
}

/// The record that lets many devices register: all devices with a certificate from one authority, or with a
/// key derived from one group key.
///
/// Source: DPS service REST API 2021-10-01, 2025-07-01-preview and 2026-11-01, EnrollmentGroup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EnrollmentGroup {
    /// The name of the group.
    pub enrollment_group_id: String,
    /// How the devices prove who they are: X.509 with signing certificates or references to authorities, or a
    /// symmetric key.
    #[serde(
        default = "AttestationMechanism::absent",
        skip_serializing_if = "AttestationMechanism::is_absent"
    )]
    pub attestation: AttestationMechanism,
    /// What the devices can do. Default: no IoT Edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<DeviceCapabilities>,
    /// One hub for the devices; the older form of [`AllocationPolicy::Static`] with one entry in `iot_hubs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iot_hub_host_name: Option<String>,
    /// The twin that each device starts with. Default: empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_twin: Option<InitialTwin>,
    /// The version of the record, from the service. It is opaque; send it back unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// Whether the devices may register. Default: enabled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provisioning_status: Option<ProvisioningStatus>,
    /// What happens when a device registers again. Default: it may move, and its data moves with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reprovision_policy: Option<ReprovisionPolicy>,
    /// When the record was created. Only the service fills it.
    #[serde(default, with = "date_time::option", skip_serializing_if = "Option::is_none")]
    pub created_date_time_utc: Option<OffsetDateTime>,
    /// When the record was changed last. Only the service fills it.
    #[serde(default, with = "date_time::option", skip_serializing_if = "Option::is_none")]
    pub last_updated_date_time_utc: Option<OffsetDateTime>,
    /// How a hub is chosen. Default: the policy of the provisioning service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_policy: Option<AllocationPolicy>,
    /// Host names of the hubs to choose from, each linked to the provisioning service. Default: all linked
    /// hubs.
    #[serde(default, deserialize_with = "nulls::left_out", skip_serializing_if = "Option::is_none")]
    pub iot_hubs: Option<Vec<String>>,
    /// The webhook that chooses the hub, for [`AllocationPolicy::Custom`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom_allocation_definition: Option<CustomAllocationDefinition>,
    /// The Azure Device Registry namespace of the certificate policy: 3 to 64 lower-case letters, digits and
    /// `-`. Api-version 2026-11-01. Default: devices get no certificates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_name: Option<String>,
    /// The certificate authority of the policy, in that namespace: 3 to 63 letters, digits and `-`.
    /// Api-version 2026-11-01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority_name: Option<String>,
    /// The certificate policy of that authority: 3 to 63 letters, digits and `-`. Api-version 2026-11-01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_policy_name: Option<String>,
    /// The credential policy, as previews named the certificate policy. Api-version 2025-07-01-preview; not
    /// in 2026-11-01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_policy_name: Option<String>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl EnrollmentGroup {
    /// A group with the service's defaults. Its id has 1 to 128 ASCII letters, digits, `-`, `.`, `_` and `:`;
    /// it is checked when the group is sent.
    pub fn new(enrollment_group_id: impl Into<String>, attestation: AttestationMechanism) -> Self {
        Self {
            enrollment_group_id: enrollment_group_id.into(),
            attestation,
            capabilities: None,
            iot_hub_host_name: None,
            initial_twin: None,
            etag: None,
            provisioning_status: None,
            reprovision_policy: None,
            created_date_time_utc: None,
            last_updated_date_time_utc: None,
            allocation_policy: None,
            iot_hubs: None,
            custom_allocation_definition: None,
            namespace_name: None,
            certificate_authority_name: None,
            certificate_policy_name: None,
            credential_policy_name: None,
            other: OtherMembers::new(),
        }
    }
}

/// The setters of both kinds of enrollment.
macro_rules! shared_settings {
    ($($name:ident)+) => { $(
        impl $name {
            /// Sets what a device can do.
            pub fn with_capabilities(mut self, capabilities: DeviceCapabilities) -> Self {
                self.capabilities = Some(capabilities);
                self
            }

            /// Sets the twin that a device starts with.
            pub fn with_initial_twin(mut self, initial_twin: InitialTwin) -> Self {
                self.initial_twin = Some(initial_twin);
                self
            }

            /// Sets the version of the record to replace.
            pub fn with_etag(mut self, etag: impl Into<String>) -> Self {
                self.etag = Some(etag.into());
                self
            }

            /// Sets whether devices may register.
            pub fn with_provisioning_status(mut self, status: ProvisioningStatus) -> Self {
                self.provisioning_status = Some(status);
                self
            }

            /// Sets what happens when a device registers again.
            pub fn with_reprovision_policy(mut self, policy: ReprovisionPolicy) -> Self {
                self.reprovision_policy = Some(policy);
                self
            }

            /// Sets how a hub is chosen.
            pub fn with_allocation_policy(mut self, policy: AllocationPolicy) -> Self {
                self.allocation_policy = Some(policy);
                self
            }

            /// Sets the hubs to choose from, by host name.
            pub fn with_iot_hubs<H: Into<String>>(mut self, hubs: impl IntoIterator<Item = H>) -> Self {
                self.iot_hubs = Some(hubs.into_iter().map(Into::into).collect());
                self
            }

            /// Assigns the devices to this hub: sets its host name and [`AllocationPolicy::Static`].
            pub fn with_static_allocation(mut self, hub: impl Into<String>) -> Self {
                self.allocation_policy = Some(AllocationPolicy::Static);
                self.iot_hubs = Some(vec![hub.into()]);
                self
            }

            /// Lets a webhook choose the hub: sets its definition and [`AllocationPolicy::Custom`].
            pub fn with_custom_allocation(mut self, definition: CustomAllocationDefinition) -> Self {
                self.allocation_policy = Some(AllocationPolicy::Custom);
                self.custom_allocation_definition = Some(definition);
                self
            }

            /// Lets a certificate authority issue certificates to the devices: names its namespace in Azure
            /// Device Registry, the authority, and the policy for the certificates.
            ///
            /// A device that sends a certificate signing request with its registration then gets a
            /// certificate with its assignment. Api-version 2026-11-01 or later: a service client with
            /// another one refuses the enrollment before it sends anything.
            pub fn with_certificate_policy(
                mut self,
                namespace: impl Into<String>,
                authority: impl Into<String>,
                policy: impl Into<String>,
            ) -> Self {
                self.namespace_name = Some(namespace.into());
                self.certificate_authority_name = Some(authority.into());
                self.certificate_policy_name = Some(policy.into());
                self
            }

            /// Names the credential policy, as previews named what [`Self::with_certificate_policy`] sets.
            ///
            /// Api-version 2025-07-01-preview only: a service client with another one refuses the
            /// enrollment before it sends anything.
            pub fn with_credential_policy(mut self, policy: impl Into<String>) -> Self {
                self.credential_policy_name = Some(policy.into());
                self
            }
        }
    )+ };
}
shared_settings!(IndividualEnrollment EnrollmentGroup);

open_enum! {
    /// Whether the devices of an enrollment may register.
    ///
    /// Source: DPS service REST API 2021-10-01, `provisioningStatus` of an enrollment.
    pub enum ProvisioningStatus {
        /// They may.
        Enabled = "enabled",
        /// They may not. A disabled individual enrollment also blocks a device of a group. Devices that are
        /// already assigned keep their identity at the hub.
        Disabled = "disabled",
    }
}

#[cfg(test)]
mod tests {
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};
    use time::macros::datetime;

    use super::*;
    use crate::models::SymmetricKeyAttestation;

    type WriteBack = fn(Value) -> Value;

    /// Both kinds: the member with the id, and the function that reads a body and writes it back.
    const KINDS: [(&str, WriteBack); 2] = [
        ("registrationId", written_back::<IndividualEnrollment>),
        ("enrollmentGroupId", written_back::<EnrollmentGroup>),
    ];

    fn written_back<E: Serialize + DeserializeOwned>(body: Value) -> Value {
        serde_json::to_value(serde_json::from_value::<E>(body).unwrap()).unwrap()
    }

    /// Calls every setter that both kinds have.
    macro_rules! configured {
        ($enrollment:expr) => {
            $enrollment
                .with_provisioning_status(ProvisioningStatus::Disabled)
                .with_iot_hubs(["a.azure-devices.net"])
                .with_custom_allocation(CustomAllocationDefinition::new("https://f.example/x?code=marker-1"))
                .with_reprovision_policy(ReprovisionPolicy::never())
                .with_capabilities(DeviceCapabilities::iot_edge())
                .with_initial_twin(InitialTwin::new().with_desired([("interval", "marker-2")]))
                .with_certificate_policy("plants", "berlin", "thirty-days")
                .with_credential_policy("preview")
                .with_etag("\"e\"")
        };
    }

    fn keys() -> AttestationMechanism {
        AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new("marker-3", "marker-4"))
    }

    #[test]
    fn the_settings_of_both_kinds_are_written_with_the_wire_names() {
        let shared = json!({
            "attestation": {"type": "symmetricKey", "symmetricKey": {"primaryKey": "marker-3", "secondaryKey": "marker-4"}},
            "provisioningStatus": "disabled",
            "allocationPolicy": "custom",
            "iotHubs": ["a.azure-devices.net"],
            "customAllocationDefinition":
                {"webhookUrl": "https://f.example/x?code=marker-1", "apiVersion": "2021-10-01"},
            "reprovisionPolicy": {"updateHubAssignment": false, "migrateDeviceData": false},
            "capabilities": {"iotEdge": true},
            "initialTwin": {"properties": {"desired": {"interval": "marker-2"}}},
            "namespaceName": "plants",
            "certificateAuthorityName": "berlin",
            "certificatePolicyName": "thirty-days",
            "credentialPolicyName": "preview",
            "etag": "\"e\""
        });
        let individual = configured!(IndividualEnrollment::new("a", keys()));
        let group = configured!(EnrollmentGroup::new("a", keys()));
        for ((id, _), written) in KINDS
            .into_iter()
            .zip([serde_json::to_value(individual).unwrap(), serde_json::to_value(group).unwrap()])
        {
            let mut body = shared.clone();
            body[id] = json!("a");
            assert_eq!(written, body);
        }
    }

    #[test]
    fn an_individual_enrollment_also_has_a_device_id_and_notes() {
        let enrollment = IndividualEnrollment::new("a", AttestationMechanism::symmetric_key_generated())
            .with_device_id("line3-a")
            .with_optional_device_information([("batch", "7")]);
        assert_eq!(
            serde_json::to_value(enrollment).unwrap(),
            json!({
                "registrationId": "a", "attestation": {"type": "symmetricKey"}, "deviceId": "line3-a",
                "optionalDeviceInformation": {"batch": "7"}
            })
        );
    }

    #[test]
    fn a_static_allocation_is_the_policy_and_the_hub() {
        let group = EnrollmentGroup::new("g", AttestationMechanism::symmetric_key_generated());
        let group = group.with_static_allocation("a.azure-devices.net");
        assert_eq!(group.allocation_policy, Some(AllocationPolicy::Static));
        assert_eq!(group.iot_hubs.as_deref(), Some(&["a.azure-devices.net".to_owned()][..]));
    }

    #[test]
    fn words_and_members_of_a_later_version_survive_in_both_kinds() {
        for (id, written_back) in KINDS {
            let mut body = json!({
                "attestation": {"type": "later", "later": {"x": 1}},
                "provisioningStatus": "paused",
                "allocationPolicy": "random",
                "capabilities": {"iotEdge": false, "drone": true},
                "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true, "k": 1},
                "initialTwin": {"k": 1},
                "deviceTypeRefs": ["p"],
                "k": {"l": [null]},
                "etag": "\"0e00a1b2-0000-0700-0000-669f00aa0000\"",
                "createdDateTimeUtc": "2026-05-04T09:20:00.1234567Z"
            });
            body[id] = json!("a");
            assert_eq!(written_back(body.clone()), body, "{id}");
        }
        let body = json!({
            "registrationId": "a", "attestation": {"type": "none"}, "provisioningStatus": "paused",
            "registrationState": {"status": "dreaming", "k": 1},
            "createdDateTimeUtc": "2026-05-04T09:20:00.1234567Z"
        });
        let enrollment: IndividualEnrollment = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(enrollment.provisioning_status.as_ref().unwrap().as_str(), "paused");
        assert_eq!(enrollment.created_date_time_utc, Some(datetime!(2026-05-04 09:20:00.1234567 UTC)));
        assert_eq!(serde_json::to_value(&enrollment).unwrap(), body);
    }

    #[test]
    fn nulls_in_the_place_of_values_are_not_written_back_as_values_in_both_kinds() {
        for (id, written_back) in KINDS {
            let odd = json!({
                id: "odd", "attestation": null, "iotHubs": [null], "capabilities": {"iotEdge": null},
                "customAllocationDefinition": {"webhookUrl": null, "apiVersion": null},
                "reprovisionPolicy": {"updateHubAssignment": null, "migrateDeviceData": false}
            });
            let written = json!({
                id: "odd", "capabilities": {}, "customAllocationDefinition": {},
                "reprovisionPolicy": {"migrateDeviceData": false}
            });
            assert_eq!(written_back(odd), written);
        }
        let tpm: AttestationMechanism =
            serde_json::from_value(json!({"type": "tpm", "tpm": {"endorsementKey": null}})).unwrap();
        assert_eq!(serde_json::to_value(&tpm).unwrap(), json!({"type": "tpm", "tpm": {}}));
    }

    #[test]
    fn a_list_loses_its_nulls_and_an_empty_one_stays_empty_in_both_kinds() {
        for (id, written_back) in KINDS {
            for (came, written) in [
                (json!([null, "a.example"]), Some(json!(["a.example"]))),
                (json!([]), Some(json!([]))),
                (json!([null, null]), None),
                (json!(null), None),
            ] {
                assert_eq!(written_back(json!({id: "a", "iotHubs": came})).get("iotHubs"), written.as_ref());
            }
        }
    }

    #[test]
    fn an_attestation_may_be_missing_and_an_id_may_not() {
        for (id, written_back) in KINDS {
            assert_eq!(written_back(json!({id: "a"})), json!({id: "a"}));
        }
        assert!(serde_json::from_value::<EnrollmentGroup>(json!({"attestation": null})).is_err());
        assert!(serde_json::from_value::<IndividualEnrollment>(json!({"attestation": null})).is_err());
    }

    #[test]
    fn nulls_are_absent_in_both_kinds() {
        let shared = [
            "capabilities",
            "iotHubHostName",
            "initialTwin",
            "etag",
            "provisioningStatus",
            "reprovisionPolicy",
            "createdDateTimeUtc",
            "lastUpdatedDateTimeUtc",
            "allocationPolicy",
            "iotHubs",
            "customAllocationDefinition",
            "namespaceName",
            "certificateAuthorityName",
            "certificatePolicyName",
            "credentialPolicyName",
        ];
        let of_individuals = ["deviceId", "registrationState", "optionalDeviceInformation"];
        for (id, written_back) in KINDS {
            let plain = json!({id: "a", "attestation": {"type": "none"}});
            let mut body = plain.clone();
            for name in shared {
                body[name] = Value::Null;
            }
            if id == "registrationId" {
                for name in of_individuals {
                    body[name] = Value::Null;
                }
            }
            assert_eq!(written_back(body), plain);
        }
    }

    #[test]
    fn debug_shows_no_secret_of_either_kind() {
        let mut individual = configured!(IndividualEnrollment::new("sensor-042", keys()))
            .with_optional_device_information([("note", "marker-5")]);
        individual.registration_state = Some(
            serde_json::from_value(json!({"payload": "marker-6", "tpm": {"authenticationKey": "marker-7"}}))
                .unwrap(),
        );
        let mut group = configured!(EnrollmentGroup::new("sensor-042", keys()));
        for other in [&mut individual.other, &mut group.other] {
            other.insert("token".to_owned(), json!("marker-8"));
        }
        for shown in [format!("{individual:?} {individual:#?}"), format!("{group:?} {group:#?}")] {
            assert!(shown.contains("sensor-042") && shown.contains("token"), "{shown}");
            assert!(!shown.contains("marker"), "{shown}");
        }
    }
}
