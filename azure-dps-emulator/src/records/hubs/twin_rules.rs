//! The limits of twins: names, depths, values and sizes. They are those of the documentation of IoT Hub.
//!
//! | part | limit |
//! | --- | --- |
//! | a name | 1 KiB, without `.`, `$`, spaces and control characters |
//! | a text | 4 KiB |
//! | objects in objects | 10 levels |
//! | tags | 8 KiB |
//! | desired properties, reported properties | 32 KiB each |
//!
//! A size counts names and texts by their bytes, numbers as 8 and booleans as 4 bytes.

use crate::json::{Map, Value};

/// A part of a twin that has its own size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Tags,
    Desired,
    Reported,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::Tags => "tags",
            Part::Desired => "desired properties",
            Part::Reported => "reported properties",
        }
    }

    fn limit(self) -> usize {
        match self {
            Part::Tags => 8 * 1024,
            Part::Desired | Part::Reported => 32 * 1024,
        }
    }

    /// Judges the names, values and depth of a patch.
    ///
    /// # Errors
    /// Says which rule the patch breaks, and where.
    pub(crate) fn check_patch(self, patch: &Map) -> Result<(), String> {
        check_members(patch, 1).map_err(|why| format!("{}: {why}", self.name()))
    }

    /// Judges the size of the part after a write.
    ///
    /// # Errors
    /// Says how large the part would be.
    pub(crate) fn check_size(self, values: &Map) -> Result<(), String> {
        let (size, limit) = (members_size(values), self.limit());
        match size > limit {
            true => {
                Err(format!("the {} would have {size} bytes, and {limit} bytes are the most", self.name()))
            }
            false => Ok(()),
        }
    }
}

fn check_members(members: &Map, level: usize) -> Result<(), String> {
    if level > DEEPEST {
        return Err(format!("objects are nested deeper than {DEEPEST} levels"));
    }
    members.iter().try_for_each(|(name, value)| {
        check_name(name)?;
        check_value(name, value, level)
    })
}

fn check_name(name: &str) -> Result<(), String> {
    let shown: String = name.chars().take(64).collect();
    if name.is_empty() {
        return Err("a name is empty".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Err(format!("the name {shown}… is longer than {LONGEST_NAME} bytes"));
    }
    match name.chars().find(|c| c.is_control() || ".$ ".contains(*c)) {
        Some(c) => Err(format!("the name {shown:?} contains {c:?}")),
        None => Ok(()),
    }
}

fn check_value(name: &str, value: &Value, level: usize) -> Result<(), String> {
    match value {
        Value::String(text) if text.len() > LONGEST_TEXT => {
            Err(format!("the text of {name} is longer than {LONGEST_TEXT} bytes"))
        }
        Value::Object(members) => check_members(members, level + 1),
        Value::Array(_) if level > DEEPEST => Err(format!("objects are nested deeper than {DEEPEST} levels")),
        Value::Array(items) => items.iter().try_for_each(|item| check_value(name, item, level + 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn members_size(members: &Map) -> usize {
    members.iter().map(|(name, value)| name.len() + value_size(value)).sum()
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(value_size).sum(),
        Value::Object(members) => members_size(members),
    }
}

const DEEPEST: usize = 10;
const LONGEST_NAME: usize = 1024;
const LONGEST_TEXT: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::json;

    #[test]
    fn a_patch_that_breaks_a_rule_is_refused_with_the_place() {
        let deep = |levels: usize| (1..levels).fold(json!({"x": 1}), |inner, _| json!({"x": inner}));
        let refused = |patch: Value| Part::Desired.check_patch(patch.as_object().unwrap()).unwrap_err();

        for (patch, why) in [
            (json!({"a.b": 1}), "desired properties: the name \"a.b\" contains '.'"),
            (json!({"a": {"$b": 1}}), "desired properties: the name \"$b\" contains '$'"),
            (json!({"a": [{"b c": 1}]}), "desired properties: the name \"b c\" contains ' '"),
            (json!({"a\n": 1}), "desired properties: the name \"a\\n\" contains '\\n'"),
            (json!({"": 1}), "desired properties: a name is empty"),
            (json!({"a": ("x".repeat(4097))}), "desired properties: the text of a is longer than 4096 bytes"),
            (deep(11), "desired properties: objects are nested deeper than 10 levels"),
        ] {
            assert_eq!(refused(patch), why);
        }
        assert!(refused(json!({("n".repeat(1025)): 1})).ends_with("is longer than 1024 bytes"));
        for patch in [deep(10), json!({"a": null, "b": [1, "x", {"c": true}]}), json!({})] {
            assert_eq!(Part::Desired.check_patch(patch.as_object().unwrap()), Ok(()), "{patch}");
        }
    }

    #[test]
    fn arrays_in_arrays_count_as_levels() {
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        let patch = json!({"a": deep});

        assert!(Part::Reported.check_patch(patch.as_object().unwrap()).is_err());
    }

    #[test]
    fn each_part_has_its_size() {
        for (part, limit) in [(Part::Tags, 8192), (Part::Desired, 32_768), (Part::Reported, 32_768)] {
            let sized = |size: usize| {
                let texts = (0..size / 1024).map(|n| (format!("{n:02}"), Value::from("x".repeat(1022))));
                texts.collect::<Map>()
            };
            assert_eq!(part.check_size(&sized(limit)), Ok(()));
            let mut larger = sized(limit);
            larger.insert("n".into(), json!(true));
            let why = part.check_size(&larger).unwrap_err();
            assert!(why.contains(&format!("would have {} bytes, and {limit} bytes", limit + 5)), "{why}");
        }
    }
}
