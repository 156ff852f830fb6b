//! The code of an error, read leniently: a number, or its digits as text. For `#[serde(deserialize_with =
//! …)]` and for errors that are read member by member.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// A code that is not a number counts as absent, so that the rest of the answer is not lost.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    Ok(read(&Value::deserialize(deserializer)?))
}

pub(super) fn read(value: &Value) -> Option<i32> {
    match value {
        Value::Number(_) => value.as_i64()?.try_into().ok(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_code_is_a_number_or_its_digits() {
        for (value, code) in [
            (json!(409_201), Some(409_201)),
            (json!("409201"), Some(409_201)),
            (json!(" 412 "), Some(412)),
            (json!("Conflict"), None),
            (json!(""), None),
            (json!(null), None),
            (json!(true), None),
            (json!(1.5), None),
            (json!(99_999_999_999_u64), None),
            (json!([409_201]), None),
        ] {
            assert_eq!(read(&value), code, "{value}");
        }
    }
}
