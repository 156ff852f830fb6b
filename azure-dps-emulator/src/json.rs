//! JSON values whose objects keep the order of their members, as the service does.
//!
//! The `Value` of `serde_json` sorts members unless its feature `preserve_order` is on, which Cargo would
//! turn on for the whole build of a user. `serde_json` still parses and writes the text.

mod convert;
mod limits;
mod map;
mod text;
mod value;

pub(crate) use convert::ToJson;
pub(crate) use limits::Limits;
pub(crate) use text::{DEEPEST, read, read_any};
pub(crate) use value::Value;

/// The members of an object.
pub(crate) type Map = map::Map<Value>;

/// Makes a [`Value`] from JSON syntax. Names, values and items can be expressions; a name or an item of more
/// than one token needs parentheses.
macro_rules! json {
    (@into $members:ident) => {};
    (@into $members:ident $name:tt : null $(, $($rest:tt)*)?) => {
        $members.insert($name.into(), $crate::json::Value::Null);
        $crate::json::json!(@into $members $($($rest)*)?);
    };
    (@into $members:ident $name:tt : { $($inner:tt)* } $(, $($rest:tt)*)?) => {
        $members.insert($name.into(), $crate::json::json!({ $($inner)* }));
        $crate::json::json!(@into $members $($($rest)*)?);
    };
    (@into $members:ident $name:tt : [ $($inner:tt)* ] $(, $($rest:tt)*)?) => {
        $members.insert($name.into(), $crate::json::json!([ $($inner)* ]));
        $crate::json::json!(@into $members $($($rest)*)?);
    };
    (@into $members:ident $name:tt : $value:expr $(, $($rest:tt)*)?) => {
        $members.insert($name.into(), $crate::json::json!($value));
        $crate::json::json!(@into $members $($($rest)*)?);
    };
    (null) => { $crate::json::Value::Null };
    ({}) => { $crate::json::Value::Object($crate::json::Map::new()) };
    ([]) => { $crate::json::Value::Array(Vec::new()) };
    ({ $($members:tt)+ }) => {{
        let mut members = $crate::json::Map::new();
        $crate::json::json!(@into members $($members)+);
        $crate::json::Value::Object(members)
    }};
    ([ $($item:tt),+ $(,)? ]) => { $crate::json::Value::Array(vec![$($crate::json::json!($item)),+]) };
    ($value:expr) => { $crate::json::ToJson::to_json(&$value) };
}
pub(crate) use json;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_the_order_in_which_they_were_written() {
        let (name, tags) = ("zeta", read(br#"{"b":1,"a":{"d":2.5,"c":[]}}"#).unwrap());

        let value = json!({name: null, (name.to_uppercase()): [true, {}], "tags": tags, "count": 1 + 1});

        assert_eq!(
            value.to_string(),
            r#"{"zeta":null,"ZETA":[true,{}],"tags":{"b":1,"a":{"d":2.5,"c":[]}},"count":2}"#
        );
    }

    #[test]
    fn values_survive_the_conversion_to_serde_json_and_back() {
        let own = json!({"b": [1, null, (-2), 0.5, "x", false], "a": {}});

        let theirs = serde_json::Value::from(own.clone());

        assert_eq!(theirs, serde_json::json!({"a": {}, "b": [1, null, -2, 0.5, "x", false]}));
        assert_eq!(Value::from(theirs), own);
    }

    #[test]
    fn an_absent_member_reads_as_null() {
        let value = json!({"a": {"b": 1}});

        assert_eq!(value["a"]["b"].as_u64(), Some(1));
        assert_eq!(value["x"]["b"], Value::Null);
        assert_eq!(value.pointer("/a/b"), Some(&json!(1)));
        assert_eq!((value.pointer("/a/c"), value.pointer("a")), (None, None));
    }
}
