//! JSON values whose objects keep their members in the order in which they were written, as the service does.
//!
//! The `Value` of `serde_json` sorts members unless its feature `preserve_order` is on, which Cargo would
//! then turn on in the whole build of a user. Text is read and written by `serde_json` all the same.

mod map;
mod text;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Index;

pub(crate) use map::Map;
use serde_json::Number;
pub(crate) use text::read;

/// Any JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Value {
    #[default]
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Array(Vec<Value>),
    Object(Map),
}

impl Value {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    pub(crate) fn is_boolean(&self) -> bool {
        matches!(self, Value::Bool(_))
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self, Value::String(_))
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self, Value::Object(_))
    }

    pub(crate) fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub(crate) fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(number) => number.as_i64(),
            _ => None,
        }
    }

    pub(crate) fn as_u64(&self) -> Option<u64> {
        match self {
            Value::Number(number) => number.as_u64(),
            _ => None,
        }
    }

    pub(crate) fn as_f64(&self) -> Option<f64> {
        match self {
            Value::Number(number) => number.as_f64(),
            _ => None,
        }
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn as_array(&self) -> Option<&Vec<Value>> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn as_object(&self) -> Option<&Map> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    pub(crate) fn as_object_mut(&mut self) -> Option<&mut Map> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The member of an object.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.as_object_mut()?.get_mut(name)
    }

    /// The value at the end of a path of member names, each behind a `/`.
    pub(crate) fn pointer(&self, path: &str) -> Option<&Value> {
        path.strip_prefix('/')?.split('/').try_fold(self, |value, name| value.get(name))
    }
}

/// The member of an object, or null if there is none.
impl Index<&str> for Value {
    type Output = Value;

    fn index(&self, name: &str) -> &Value {
        self.get(name).unwrap_or(&Value::Null)
    }
}

impl PartialEq<str> for Value {
    fn eq(&self, text: &str) -> bool {
        self.as_str() == Some(text)
    }
}

impl PartialEq<&str> for Value {
    fn eq(&self, text: &&str) -> bool {
        self == *text
    }
}

impl<T: Into<Value>> FromIterator<T> for Value {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        Value::Array(items.into_iter().map(Into::into).collect())
    }
}

/// What [`json!`] takes for a value.
pub(crate) trait ToJson {
    fn to_json(&self) -> Value;
}

impl<T: ToJson + ?Sized> ToJson for &T {
    fn to_json(&self) -> Value {
        (**self).to_json()
    }
}

impl<T: ToJson> ToJson for Option<T> {
    fn to_json(&self) -> Value {
        self.as_ref().map_or(Value::Null, ToJson::to_json)
    }
}

impl<T: ToJson> ToJson for [T] {
    fn to_json(&self) -> Value {
        self.iter().map(ToJson::to_json).collect()
    }
}

impl<T: ToJson> ToJson for Vec<T> {
    fn to_json(&self) -> Value {
        self.as_slice().to_json()
    }
}

impl<T: ToJson> ToJson for BTreeMap<String, T> {
    fn to_json(&self) -> Value {
        Value::Object(self.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
    }
}

impl ToJson for str {
    fn to_json(&self) -> Value {
        Value::String(self.to_owned())
    }
}

/// Types that have a value of their own, by reference for [`json!`] and by value for `into`.
macro_rules! converts {
    ($($from:ty: $given:ident => $value:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($given: $from) -> Self {
                $value
            }
        }

        impl ToJson for $from {
            fn to_json(&self) -> Value {
                Value::from(self.clone())
            }
        }
    )*};
}

converts! {
    bool: flag => Value::Bool(flag);
    i32: number => Value::Number(number.into());
    i64: number => Value::Number(number.into());
    u8: number => Value::Number(number.into());
    u16: number => Value::Number(number.into());
    u32: number => Value::Number(number.into());
    u64: number => Value::Number(number.into());
    usize: number => Value::Number(number.into());
    f64: number => Number::from_f64(number).map_or(Value::Null, Value::Number);
    String: text => Value::String(text);
    Cow<'_, str>: text => Value::String(text.into_owned());
    Map: members => Value::Object(members);
}

impl ToJson for Value {
    fn to_json(&self) -> Value {
        self.clone()
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Self {
        Value::Array(items)
    }
}

/// For what users of the library are given.
impl From<Value> for serde_json::Value {
    fn from(value: Value) -> Self {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => flag.into(),
            Value::Number(number) => number.into(),
            Value::String(text) => text.into(),
            Value::Array(items) => items.into_iter().map(serde_json::Value::from).collect(),
            Value::Object(members) => {
                members.into_iter().map(|(name, value)| (name, serde_json::Value::from(value))).collect()
            }
        }
    }
}

/// For what users of the library give.
impl From<serde_json::Value> for Value {
    fn from(value: serde_json::Value) -> Self {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(flag) => flag.into(),
            serde_json::Value::Number(number) => Value::Number(number),
            serde_json::Value::String(text) => text.into(),
            serde_json::Value::Array(items) => items.into_iter().collect(),
            serde_json::Value::Object(members) => {
                Value::Object(members.into_iter().map(|(name, value)| (name, value.into())).collect())
            }
        }
    }
}

/// Makes a [`Value`] from JSON as it is written. Names, values and items may be expressions; a name or an
/// item of more than one token stands in parentheses.
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
    fn members_stay_in_the_order_in_which_they_were_written() {
        let (name, tags) = ("zeta", read(br#"{"b":1,"a":{"d":2.5,"c":[]}}"#).unwrap());

        let value = json!({name: null, (name.to_uppercase()): [true, {}], "tags": tags, "count": 1 + 1});

        assert_eq!(
            value.to_string(),
            r#"{"zeta":null,"ZETA":[true,{}],"tags":{"b":1,"a":{"d":2.5,"c":[]}},"count":2}"#
        );
    }

    #[test]
    fn values_of_users_come_and_go_whole() {
        let own = json!({"b": [1, null, (-2), 0.5, "x", false], "a": {}});

        let theirs = serde_json::Value::from(own.clone());

        assert_eq!(theirs, serde_json::json!({"a": {}, "b": [1, null, -2, 0.5, "x", false]}));
        assert_eq!(Value::from(theirs), own);
    }

    #[test]
    fn what_is_not_there_reads_as_null() {
        let value = json!({"a": {"b": 1}});

        assert_eq!(value["a"]["b"].as_u64(), Some(1));
        assert_eq!(value["x"]["b"], Value::Null);
        assert_eq!(value.pointer("/a/b"), Some(&json!(1)));
        assert_eq!((value.pointer("/a/c"), value.pointer("a")), (None, None));
    }
}
