//! The desired or the reported properties of a twin: merges patches, and keeps the metadata of every member.
//!
//! | member of a patch | member so far | outcome |
//! | --- | --- | --- |
//! | null | any | removed |
//! | an object | an object | merged |
//! | an object | absent, or not an object | replaced, without the nulls in it |
//! | anything else | any | replaced |

use std::collections::{HashMap, HashSet};
use std::mem;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::clock;
use crate::json::{Map, Value};

/// Properties with their version, which every write increases.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Properties {
    values: Map,
    metadata: Map,
    #[serde(with = "crate::saved::count")]
    version: u64,
    /// Whether the metadata contains versions, which only desired properties have.
    numbered: bool,
}

impl Properties {
    pub(crate) fn desired(values: &Map, now: OffsetDateTime) -> Self {
        Self::new(values, true, now)
    }

    /// No properties, because the device has not reported any.
    pub(crate) fn reported(now: OffsetDateTime) -> Self {
        Self::new(&Map::new(), false, now)
    }

    fn new(values: &Map, numbered: bool, now: OffsetDateTime) -> Self {
        let stamp = Stamp::new(now, (numbered && !values.is_empty()).then_some(FIRST_VERSION));
        let (values, metadata) = merged(Map::new(), Map::new(), values, &stamp);
        Properties { values, metadata, version: FIRST_VERSION, numbered }
    }

    pub(crate) fn merge(&mut self, patch: &Map, now: OffsetDateTime) {
        self.version += 1;
        let stamp = Stamp::new(now, self.numbered.then_some(self.version));
        let (values, metadata) = (mem::take(&mut self.values), mem::take(&mut self.metadata));
        (self.values, self.metadata) = merged(values, metadata, patch, &stamp);
    }

    pub(crate) fn values(&self) -> &Map {
        &self.values
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// The form for the device: the values and `$version`.
    pub(crate) fn for_device(&self) -> Value {
        with_version(self.values.clone(), self.version)
    }

    /// The form for back ends, which has `$metadata` too.
    pub(crate) fn for_back_end(&self) -> Value {
        let mut members = self.values.clone();
        members.insert("$metadata".into(), self.metadata.clone().into());
        with_version(members, self.version)
    }
}

/// Adds `$version` to values or to a patch.
pub(crate) fn with_version(mut members: Map, version: u64) -> Value {
    members.insert("$version".into(), version.into());
    members.into()
}

/// The patch that turns some values into others.
pub(crate) fn difference(from: &Map, to: &Map) -> Map {
    let before: HashMap<&str, &Value> = from.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let after: HashSet<&str> = to.keys().map(String::as_str).collect();
    let removed = from.keys().filter(|name| !after.contains(name.as_str()));
    let removed = removed.map(|name| (name.clone(), Value::Null));
    let written = to.iter().map(|(name, value)| {
        let value = match (before.get(name.as_str()), value) {
            (Some(Value::Object(from)), Value::Object(to)) => difference(from, to).into(),
            _ => value.clone(),
        };
        (name.clone(), value)
    });
    removed.chain(written).collect()
}

/// When and with which version a member was written.
struct Stamp(Vec<(String, Value)>);

impl Stamp {
    fn new(now: OffsetDateTime, version: Option<u64>) -> Self {
        let updated = ("$lastUpdated".to_owned(), clock::timestamp(now).into());
        let version = version.map(|version| ("$lastUpdatedVersion".to_owned(), version.into()));
        Stamp([updated].into_iter().chain(version).collect())
    }
}

/// The values and the metadata after a patch. Linear in the number of members.
fn merged(values: Map, metadata: Map, patch: &Map, stamp: &Stamp) -> (Map, Map) {
    let changes: HashMap<&str, &Value> = patch.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let mut metadata: HashMap<String, Value> = metadata.into_iter().collect();
    let known: HashSet<String> = values.keys().cloned().collect();
    let (mut new_values, mut new_metadata) = (Vec::new(), stamp.0.clone());
    for (name, value) in values {
        let about = metadata.remove(&name).unwrap_or_default();
        let (value, about) = match changes.get(name.as_str()) {
            None => (value, about),
            Some(Value::Null) => continue,
            Some(change) => changed(value, about, change, stamp),
        };
        new_values.push((name.clone(), value));
        new_metadata.push((name, about));
    }
    for (name, change) in patch.iter().filter(|(name, change)| !change.is_null() && !known.contains(*name)) {
        let (value, about) = changed(Value::Null, Value::Null, change, stamp);
        new_values.push((name.clone(), value));
        new_metadata.push((name.clone(), about));
    }
    (new_values.into_iter().collect(), new_metadata.into_iter().collect())
}

fn changed(value: Value, about: Value, change: &Value, stamp: &Stamp) -> (Value, Value) {
    let Value::Object(patch) = change else {
        return (change.clone(), Value::Object(stamp.0.iter().cloned().collect()));
    };
    let (values, metadata) = match (value, about) {
        (Value::Object(values), Value::Object(metadata)) => (values, metadata),
        _ => (Map::new(), Map::new()),
    };
    let (values, metadata) = merged(values, metadata, patch, stamp);
    (values.into(), metadata.into())
}

const FIRST_VERSION: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    #[test]
    fn a_patch_merges_objects_replaces_the_rest_and_removes_nulls() {
        for (before, patch, after) in [
            (json!({"a": 1}), json!({"b": 2}), json!({"a": 1, "b": 2})),
            (json!({"a": 1}), json!({"a": null}), json!({})),
            (json!({"a": 1}), json!({"x": null}), json!({"a": 1})),
            (
                json!({"a": {"b": 1, "c": 2}}),
                json!({"a": {"b": null, "d": 3}}),
                json!({"a": {"c": 2, "d": 3}}),
            ),
            (json!({"a": 1}), json!({"a": {"b": null, "c": {"d": null}}}), json!({"a": {"c": {}}})),
            (json!({"a": {"b": 1}}), json!({"a": [1, null]}), json!({"a": [1, null]})),
            (json!({"a": {"b": 1}}), json!({"a": {}}), json!({"a": {"b": 1}})),
        ] {
            let mut properties = Properties::desired(&members(before.clone()), NOW);

            properties.merge(&members(patch.clone()), NOW);

            assert_eq!(Value::from(properties.values.clone()), after, "{before} {patch}");
            assert_eq!(properties.version(), 2);
        }
    }

    #[test]
    fn metadata_says_when_and_in_which_version_a_member_was_written() {
        let mut properties = Properties::desired(&members(json!({"a": {"b": 1}, "c": 1})), NOW);

        properties.merge(&members(json!({"a": {"d": true}})), NOW + time::Duration::SECOND);

        let first = json!({"$lastUpdated": "1970-01-01T00:00:00Z", "$lastUpdatedVersion": 1});
        let second = json!({"$lastUpdated": "1970-01-01T00:00:01Z", "$lastUpdatedVersion": 2});
        let mut wanted = second.clone();
        let members = wanted.as_object_mut().unwrap();
        let mut a = second.clone();
        a.as_object_mut().unwrap().insert("b".into(), first.clone());
        a.as_object_mut().unwrap().insert("d".into(), second);
        members.insert("a".into(), a);
        members.insert("c".into(), first);
        assert_eq!(properties.for_back_end()["$metadata"], wanted);
        assert_eq!(properties.for_device(), json!({"a": {"b": 1, "d": true}, "c": 1, "$version": 2}));
    }

    #[test]
    fn reported_metadata_has_no_versions() {
        let mut properties = Properties::reported(NOW);

        properties.merge(&members(json!({"a": 1})), NOW);

        let leaf = json!({"$lastUpdated": "1970-01-01T00:00:00Z"});
        let wanted = json!({"$lastUpdated": "1970-01-01T00:00:00Z", "a": leaf});
        assert_eq!(properties.for_back_end(), json!({"a": 1, "$metadata": wanted, "$version": 2}));
    }

    #[test]
    fn the_difference_turns_one_object_into_the_other() {
        let (from, to) = (json!({"a": {"b": 1, "c": 2}, "d": 1}), json!({"a": {"c": 3}, "e": {}}));

        let patch = difference(&members(from.clone()), &members(to.clone()));

        assert_eq!(Value::from(patch.clone()), json!({"d": null, "a": {"b": null, "c": 3}, "e": {}}));
        let mut properties = Properties::desired(&members(from), NOW);
        properties.merge(&patch, NOW);
        assert_eq!(Value::from(properties.values), to);
    }

    #[test]
    fn a_patch_with_very_many_members_is_merged_quickly() {
        let many = |n: u32| (0..n).map(|n| (format!("{n:x}"), json!(n))).collect::<Map>();
        let mut properties = Properties::reported(NOW);
        let begin = std::time::Instant::now();

        for _ in 0..3 {
            properties.merge(&many(50_000), NOW);
        }

        assert!(begin.elapsed().as_secs() < 20, "comparing each with each takes minutes");
    }

    fn members(value: Value) -> Map {
        value.as_object().unwrap().clone()
    }
}
