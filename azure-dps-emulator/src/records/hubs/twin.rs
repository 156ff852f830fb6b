//! A twin: tags and desired properties, which back ends write, and reported properties, which the device
//! writes.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::json::{Map, Value, json};
use crate::records::hubs::properties::{Properties, difference};
use crate::records::hubs::twin_rules::Part;

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Twin {
    /// Changes with each write of a back end.
    #[serde(with = "crate::saved::count")]
    tag: u64,
    /// Counts all writes.
    #[serde(with = "crate::saved::count")]
    version: u64,
    tags: Map,
    desired: Properties,
    reported: Properties,
}

/// A write of a back end. Absent parts stay as they are.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct TwinWrite {
    pub(crate) tags: Option<Map>,
    pub(crate) desired: Option<Map>,
    /// Whether the parts are replaced, and not merged.
    pub(crate) replaces: bool,
}

impl Twin {
    /// A twin with the tags and desired properties of an enrollment's `initialTwin`.
    pub(crate) fn initial(given: &Value, tag: u64, now: OffsetDateTime) -> Self {
        let part = |path: &str| given.pointer(path).and_then(Value::as_object).cloned().unwrap_or_default();
        Twin {
            tag,
            version: 1,
            tags: part("/tags"),
            desired: Properties::desired(&part("/properties/desired"), now),
            reported: Properties::reported(now),
        }
    }

    /// The tag without quotes.
    pub(crate) fn etag(&self) -> String {
        BASE64_STANDARD.encode(self.tag.to_be_bytes())
    }

    /// Carries out a write of a back end, and returns the patch of the desired properties, if they were
    /// written.
    ///
    /// # Errors
    /// Says which limit the write breaks. Nothing is written then.
    pub(crate) fn write(
        &mut self,
        write: TwinWrite,
        tag: u64,
        now: OffsetDateTime,
    ) -> Result<Option<Map>, String> {
        let TwinWrite { tags, desired, replaces } = write;
        let patch = |given: Option<Map>, before: &Map, part: Part| {
            let patch = given.map(|given| if replaces { difference(before, &given) } else { given });
            patch.as_ref().map_or(Ok(()), |patch| part.check_patch(patch))?;
            Ok::<_, String>(patch)
        };
        let tags = patch(tags, &self.tags, Part::Tags)?;
        let desired = patch(desired, self.desired.values(), Part::Desired)?;
        let mut after = self.clone();
        if let Some(patch) = tags {
            let mut tags = Properties::desired(&after.tags, now);
            tags.merge(&patch, now);
            Part::Tags.check_size(tags.values())?;
            after.tags = tags.values().clone();
        }
        if let Some(patch) = &desired {
            after.desired.merge(patch, now);
            Part::Desired.check_size(after.desired.values())?;
        }
        *self = Twin { tag, version: self.version + 1, ..after };
        Ok(desired)
    }

    /// Merges a patch of the device, and returns the new version of the reported properties.
    ///
    /// # Errors
    /// Says which limit the patch breaks. Nothing is written then.
    pub(crate) fn report(&mut self, patch: &Map, now: OffsetDateTime) -> Result<u64, String> {
        Part::Reported.check_patch(patch)?;
        let mut reported = self.reported.clone();
        reported.merge(patch, now);
        Part::Reported.check_size(reported.values())?;
        self.reported = reported;
        self.version += 1;
        Ok(self.reported.version())
    }

    pub(crate) fn desired_version(&self) -> u64 {
        self.desired.version()
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The form for the device.
    pub(crate) fn for_device(&self) -> Value {
        json!({"desired": (self.desired.for_device()), "reported": (self.reported.for_device())})
    }

    pub(crate) fn tags(&self) -> &Map {
        &self.tags
    }

    /// The properties in the form for back ends.
    pub(crate) fn properties(&self) -> Value {
        json!({"desired": (self.desired.for_back_end()), "reported": (self.reported.for_back_end())})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn a_write_merges_or_replaces_the_parts_that_it_has() {
        let mut twin = twin();
        let tags = |twin: &Twin| Value::from(twin.tags().clone());
        let etag = twin.etag();

        let patch = twin.write(merging(None, Some(json!({"b": 2}))), 2, NOW).unwrap();
        assert_eq!(patch.map(Value::from), Some(json!({"b": 2})));
        assert_eq!(twin.for_device()["desired"], json!({"a": 1, "b": 2, "$version": 2}));
        assert_eq!((tags(&twin), twin.version()), (json!({"n": 1}), 2));
        assert_ne!(twin.etag(), etag);

        assert_eq!(twin.write(merging(Some(json!({"m": 2})), None), 3, NOW), Ok(None));
        assert_eq!((tags(&twin), twin.desired_version()), (json!({"n": 1, "m": 2}), 2));

        let replacing = TwinWrite { replaces: true, ..merging(Some(json!({"k": 3})), Some(json!({"b": 3}))) };
        let patch = twin.write(replacing, 4, NOW).unwrap().unwrap();
        assert_eq!(Value::from(patch), json!({"a": null, "b": 3}), "the patch for the device");
        assert_eq!(twin.for_device()["desired"], json!({"b": 3, "$version": 3}));
        assert_eq!(tags(&twin), json!({"k": 3}));
    }

    #[test]
    fn a_refused_write_changes_nothing() {
        let mut twin = twin();
        let etag = twin.etag();
        let large = "x".repeat(4_000);
        let large = json!({"a": large, "b": large, "c": large});

        for refused in [
            merging(Some(large.clone()), Some(json!({"b": 2}))),
            merging(Some(json!({"m": 2})), Some(json!({"$b": 2}))),
        ] {
            twin.write(refused, 2, NOW).unwrap_err();
            assert_eq!((twin.version(), twin.etag()), (1, etag.clone()));
            assert_eq!(Value::from(twin.tags().clone()), json!({"n": 1}));
        }
        let report = (0..9).map(|n| (n.to_string(), large["a"].clone())).collect::<Map>();
        assert!(twin.report(&report, NOW).unwrap_err().starts_with("the reported properties would have"));
        assert_eq!(twin.for_device()["reported"], json!({"$version": 1}));
    }

    #[test]
    fn reports_count_their_own_version_and_keep_the_tag() {
        let mut twin = twin();
        let etag = twin.etag();

        assert_eq!(twin.report(json!({"fan": "on"}).as_object().unwrap(), NOW), Ok(2));
        assert_eq!(twin.report(json!({"fan": null}).as_object().unwrap(), NOW), Ok(3));

        assert_eq!(
            twin.for_device(),
            json!({"desired": {"a": 1, "$version": 1}, "reported": {"$version": 3}})
        );
        assert_eq!((twin.etag(), twin.version()), (etag, 3));
    }

    fn twin() -> Twin {
        Twin::initial(&json!({"tags": {"n": 1}, "properties": {"desired": {"a": 1}}}), 1, NOW)
    }

    fn merging(tags: Option<Value>, desired: Option<Value>) -> TwinWrite {
        let map = |value: Value| value.as_object().unwrap().clone();
        TwinWrite { tags: tags.map(map), desired: desired.map(map), replaces: false }
    }
}
