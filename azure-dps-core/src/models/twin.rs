//! The initial twin of a device at its IoT hub.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::sensitive::{OtherMembers, json_object};

json_object! {
    /// A free JSON object: tags, desired properties, or information about a device.
    ///
    /// The specification lists the members `version`, `count` and `metadata`, which belong to a class of the
    /// server. Real records contain only user keys, so this is a plain map. `Debug` prints only the names,
    /// because device configuration may contain credentials.
    ///
    /// Numbers keep their digits when a record is read and written back: integers from -2^63 to 2^64-1, and
    /// floating point numbers of 64 bits. An integer beyond that, such as a 20-digit ICCID, becomes a
    /// floating point number and loses digits: send it as a string. A number beyond 1.8e308 is an error.
    ///
    /// IoT Hub refuses keys with `$`, `.` or a space, more than ten levels, tags over 8 KB and desired
    /// properties over 32 KB, when it creates the device.
    ///
    /// ```
    /// use azure_dps_core::models::TwinCollection;
    /// use serde_json::json;
    ///
    /// let tags = TwinCollection::from([("site", "berlin")]);
    /// let desired = TwinCollection::try_from(json!({ "interval": 30, "wifi": { "ssid": "plant" } }))?;
    /// assert_eq!(desired["interval"], 30);
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    ///
    /// Source: DPS service REST API 2021-10-01, TwinCollection.
    pub struct TwinCollection;
}

impl<K: Into<String>, V: Into<Value>, const N: usize> From<[(K, V); N]> for TwinCollection {
    fn from(members: [(K, V); N]) -> Self {
        members.into_iter().collect()
    }
}

impl TryFrom<Value> for TwinCollection {
    type Error = serde_json::Error;

    /// Takes a JSON object.
    ///
    /// # Errors
    /// The value is not a JSON object.
    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match value {
            Value::Object(members) => Ok(Self::from(members)),
            _ => Err(serde::de::Error::custom("a twin is a JSON object")),
        }
    }
}

/// The twin of a device when the service creates the device at a hub.
///
/// ```
/// use azure_dps_core::models::InitialTwin;
///
/// let twin = InitialTwin::new().with_tags([("site", "berlin")]).with_desired([("interval", 30)]);
/// ```
///
/// Source: DPS service REST API 2021-10-01, InitialTwin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[doc(alias = "TwinState")]
#[non_exhaustive]
pub struct InitialTwin {
    /// Tags, which only the back end can read. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<TwinCollection>,
    /// Properties, of which only the desired ones can be set here. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub properties: Option<InitialTwinProperties>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

impl InitialTwin {
    /// A twin without tags and properties.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the tags.
    pub fn with_tags(mut self, tags: impl Into<TwinCollection>) -> Self {
        self.tags = Some(tags.into());
        self
    }

    /// Sets the desired properties.
    pub fn with_desired(mut self, desired: impl Into<TwinCollection>) -> Self {
        self.properties.get_or_insert_default().desired = Some(desired.into());
        self
    }
}

/// The properties part of an [`InitialTwin`].
///
/// Source: DPS service REST API 2021-10-01, InitialTwinProperties.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct InitialTwinProperties {
    /// The desired properties: the configuration of the device by the back end. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<TwinCollection>,
    /// Members that this crate does not know.
    #[serde(flatten)]
    pub other: OtherMembers,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_keep_their_digits() {
        for number in [
            "14.646918791571295",
            "0.1",
            "1e-7",
            "5e-324",
            "1.7976931348623157e308",
            "-9223372036854775808",
            "18446744073709551615",
        ] {
            let twin: TwinCollection = serde_json::from_str(&format!("{{\"n\":{number}}}")).unwrap();
            let read: f64 = twin["n"].as_f64().unwrap();
            assert_eq!(read.to_bits(), number.parse::<f64>().unwrap().to_bits(), "{number}");
            let written = serde_json::to_string(&twin).unwrap();
            assert_eq!(serde_json::from_str::<TwinCollection>(&written).unwrap(), twin, "{number}");
        }
        assert!(serde_json::from_str::<TwinCollection>("{\"n\":1e999}").is_err());
    }

    #[test]
    fn keys_that_the_specification_names_are_plain_keys() {
        let body = json!({
            "tags": {"version": "A2", "count": [1, null], "metadata": {"$lastUpdated": 7}},
            "properties": {"desired": {"a": {"b": null}}, "reported": {"x": 1}},
            "added": {"later": true}
        });
        let twin: InitialTwin = serde_json::from_value(body.clone()).unwrap();
        assert_eq!(serde_json::to_value(&twin).unwrap(), body);
    }

    #[test]
    fn debug_shows_names_only() {
        let twin = InitialTwin::new()
            .with_tags([("site", "marker-tag")])
            .with_desired([("password", "marker-desired")]);
        let shown = format!("{twin:?} {twin:#?}");
        assert!(shown.contains("site") && shown.contains("password"), "{shown}");
        assert!(!shown.contains("marker"), "{shown}");
    }

    #[test]
    fn nulls_are_none() {
        let twin: InitialTwin = serde_json::from_value(json!({"tags": null, "properties": null})).unwrap();
        assert_eq!(twin, InitialTwin::new());
    }

    #[test]
    fn only_an_object_is_a_twin() {
        assert!(TwinCollection::try_from(json!([1])).is_err());
        assert!(serde_json::from_value::<TwinCollection>(json!("x")).is_err());
    }
}
