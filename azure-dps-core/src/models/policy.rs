//! The policies of an enrollment: which hub its devices get, what happens when they register again, what they
//! can do.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::models::api_version::ApiVersion;
use crate::models::nulls;
use crate::open_enum::open_enum;
use crate::redact::url_without_secrets;
use crate::sensitive::OtherMembers;

open_enum! {
    /// How the service chooses among the linked hubs.
    ///
    /// Source: DPS service REST API 2021-10-01, `allocationPolicy` of an enrollment. The resource manager
    /// spells the same words with a capital letter.
    pub enum AllocationPolicy {
        /// Evenly, by weight.
        Hashed = "hashed",
        /// The hub with the lowest latency to the device.
        GeoLatency = "geoLatency",
        /// The one hub in `iotHubs`.
        Static = "static",
        /// Your webhook chooses; see [`CustomAllocationDefinition`].
        Custom = "custom",
    }
}

/// The webhook that chooses a hub.
///
/// `Debug` shows the webhook's host and path and hides the query, which usually contains a function key.
///
/// Source: DPS service REST API 2021-10-01, CustomAllocationDefinition.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct CustomAllocationDefinition {
    /// The HTTPS address, with the key of the function in its query. Do not log it.
    #[serde(default, deserialize_with = "nulls::as_default", skip_serializing_if = "String::is_empty")]
    pub webhook_url: String,
    /// The API version of the objects that the webhook receives, at least `2018-09-01-preview`. Which one the
    /// service uses without it is not documented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<ApiVersion>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl CustomAllocationDefinition {
    /// A webhook that gets objects of the API version [`ApiVersion::DEFAULT`].
    pub fn new(webhook_url: impl Into<String>) -> Self {
        let api_version = Some(ApiVersion::DEFAULT);
        Self { webhook_url: webhook_url.into(), api_version, other: OtherMembers::new() }
    }

    /// Sets the API version of the objects that the webhook receives.
    pub fn with_api_version(mut self, api_version: impl Into<ApiVersion>) -> Self {
        self.api_version = Some(api_version.into());
        self
    }
}

impl fmt::Debug for CustomAllocationDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomAllocationDefinition")
            .field("webhook_url", &url_without_secrets(&self.webhook_url))
            .field("api_version", &self.api_version)
            .field("other", &self.other)
            .finish()
    }
}

/// What happens when a device that is already assigned registers again.
///
/// An enrollment without such a policy moves devices and migrates their data.
///
/// Source: DPS service REST API 2021-10-01, ReprovisionPolicy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ReprovisionPolicy {
    /// Whether the device may get another hub. The constructors set it; what the service does without it is
    /// not documented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_hub_assignment: Option<bool>,
    /// Whether the twin moves to the other hub too; otherwise the enrollment's initial twin applies. The
    /// constructors set it; what the service does without it is not documented.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migrate_device_data: Option<bool>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl ReprovisionPolicy {
    /// The device may get another hub, and its twin moves with it.
    pub fn reprovision_and_migrate() -> Self {
        Self::of(true, true)
    }

    /// The device may get another hub, and starts there with the enrollment's initial twin.
    pub fn reprovision_and_reset() -> Self {
        Self::of(true, false)
    }

    /// The device stays at its hub.
    pub fn never() -> Self {
        Self::of(false, false)
    }

    fn of(update_hub_assignment: bool, migrate_device_data: bool) -> Self {
        Self {
            update_hub_assignment: Some(update_hub_assignment),
            migrate_device_data: Some(migrate_device_data),
            other: OtherMembers::new(),
        }
    }
}

impl Default for ReprovisionPolicy {
    /// The behaviour of the service without a policy: [`ReprovisionPolicy::reprovision_and_migrate`].
    fn default() -> Self {
        Self::reprovision_and_migrate()
    }
}

/// What a device can do.
///
/// Source: DPS service REST API 2021-10-01, DeviceCapabilities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeviceCapabilities {
    /// Whether it runs IoT Edge. Default: it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iot_edge: Option<bool>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl DeviceCapabilities {
    /// A device that runs IoT Edge.
    pub fn iot_edge() -> Self {
        Self { iot_edge: Some(true), other: OtherMembers::new() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reprovision_policies_have_the_documented_members() {
        for (policy, update, migrate) in [
            (ReprovisionPolicy::reprovision_and_migrate(), true, true),
            (ReprovisionPolicy::reprovision_and_reset(), true, false),
            (ReprovisionPolicy::never(), false, false),
        ] {
            assert_eq!(
                serde_json::to_value(&policy).unwrap(),
                json!({"updateHubAssignment": update, "migrateDeviceData": migrate})
            );
        }
    }

    #[test]
    fn unknown_members_and_words_survive() {
        let body =
            json!({"webhookUrl": "https://f.example/x?code=1", "apiVersion": "2030-01-01", "k": {"l": []}});
        let definition: CustomAllocationDefinition = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(serde_json::to_value(&definition).unwrap(), body);
        let body = json!({"iotEdge": true, "k": 1});
        let capabilities: DeviceCapabilities = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(serde_json::to_value(&capabilities).unwrap(), body);
    }

    #[test]
    fn a_null_or_a_missing_member_is_not_written_back_as_a_value() {
        fn written<T: Serialize + serde::de::DeserializeOwned>(body: serde_json::Value) -> serde_json::Value {
            serde_json::to_value(serde_json::from_value::<T>(body).unwrap()).unwrap()
        }
        for body in [json!({}), json!({"updateHubAssignment": null, "migrateDeviceData": null})] {
            assert_eq!(written::<ReprovisionPolicy>(body), json!({}));
        }
        let half = json!({"migrateDeviceData": false});
        assert_eq!(written::<ReprovisionPolicy>(half.clone()), half);
        for body in [json!({}), json!({"iotEdge": null})] {
            assert_eq!(written::<DeviceCapabilities>(body), json!({}));
        }
        for body in [json!({}), json!({"webhookUrl": null, "apiVersion": null})] {
            assert_eq!(written::<CustomAllocationDefinition>(body), json!({}));
        }
    }

    #[test]
    fn debug_hides_the_query_of_the_webhook() {
        let definition = CustomAllocationDefinition::new("https://f.example/api/x?code=marker");
        let shown = format!("{definition:?}");
        assert!(shown.contains("https://f.example/api/x") && !shown.contains("marker"), "{shown}");
    }
}
