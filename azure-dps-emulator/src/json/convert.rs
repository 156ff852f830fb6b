//! Conversions into values, and from and to the values of `serde_json`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Number;

use super::map::Map;
use super::value::Value;

/// Types that [`json!`] accepts as a value.
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

/// Implements both conversions for a type: by reference for [`json!`], and by value for `into`.
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
    Map<Value>: members => Value::Object(members);
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

/// For results that users of the library get.
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

/// For arguments that users of the library pass.
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
