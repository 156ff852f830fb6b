//! The body of an error answer, the same on the service API and the device API.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::models::{date_time, error_code};

/// The details of an error.
///
/// Every member may be missing, and an error answer may have another body.
///
/// Source: DPS service and device REST API 2021-10-01, ProvisioningServiceErrorDetails.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ProvisioningServiceErrorDetails {
    /// HTTP status times 1000 plus a sub-code, for example 404201. The set is not closed.
    #[serde(default, deserialize_with = "error_code::deserialize", skip_serializing_if = "Option::is_none")]
    pub error_code: Option<i32>,
    /// The id for support requests to Microsoft; equal to the response header `x-ms-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking_id: Option<String>,
    /// Text for people. Do not match on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Further information by name. A value that is not a string is kept as its JSON text.
    #[serde(default, deserialize_with = "texts", skip_serializing_if = "Option::is_none")]
    pub info: Option<BTreeMap<String, String>>,
    /// When the error happened, by the service's clock.
    #[serde(default, with = "date_time::option", skip_serializing_if = "Option::is_none")]
    pub timestamp_utc: Option<OffsetDateTime>,
}

fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    let values = Option::<BTreeMap<String, Value>>::deserialize(deserializer)?;
    Ok(values.map(|values| values.into_iter().map(|(name, value)| (name, text(value))).collect()))
}

fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn full_body_is_read() {
        let details: ProvisioningServiceErrorDetails = serde_json::from_value(json!({
            "errorCode": 409201, "trackingId": "7b1c", "message": "Enrollment already exists",
            "info": {"a": "b", "n": 3}, "timestampUtc": "2026-05-04T09:20:00.1234567Z"
        }))
        .unwrap();
        assert_eq!(details.error_code, Some(409201));
        assert_eq!(
            details.info.unwrap().into_iter().collect::<Vec<_>>(),
            [("a".to_owned(), "b".to_owned()), ("n".to_owned(), "3".to_owned())]
        );
        assert_eq!(details.timestamp_utc, Some(datetime!(2026-05-04 09:20:00.1234567 UTC)));
    }

    #[test]
    fn nulls_and_unknown_members_are_read() {
        let details: ProvisioningServiceErrorDetails = serde_json::from_value(json!({
            "errorCode": null, "trackingId": null, "message": null, "info": null, "timestampUtc": null, "new": 1
        }))
        .unwrap();
        assert_eq!(details, ProvisioningServiceErrorDetails::default());
        assert_eq!(serde_json::to_value(&details).unwrap(), json!({}));
    }
}
