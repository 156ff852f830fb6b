//! Reads and writes JSON text with `serde_json`, within limits: each value takes a hundred bytes of memory, and a
//! saved state, which wraps the values of clients, has to be readable again.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Error, Number};

use super::limits::Limits;
use super::map::Map;
use super::value::Value;

/// Reads a client's text, which must be one value with at most 50,000 values in it, in at most [`DEEPEST`] levels.
pub(crate) fn read(text: &[u8]) -> Result<Value, Error> {
    read_within(CLIENT, text)
}

/// Reads a text from the user of the emulator, with any number of values in at most [`DEEPEST`] levels.
pub(crate) fn read_any(text: &str) -> Result<Value, Error> {
    read_within(Limits { values: usize::MAX, ..CLIENT }, text.as_bytes())
}

fn read_within(limits: Limits, text: &[u8]) -> Result<Value, Error> {
    limits.check([text]).map_err(serde::de::Error::custom)?;
    serde_json::from_slice(text)
}

/// The most levels of a value from outside. Twins have 10; the rest is for payloads.
pub(crate) const DEEPEST: usize = 100;
/// Ten enrollments with large twins have about 20,000 values.
const CLIENT: Limits = Limits { values: 50_000, levels: DEEPEST };

/// The value as text without white space.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Number(number) => number.serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(items) => serializer.collect_seq(items),
            Value::Object(members) => members.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

impl Serialize for Map<Value> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (name, value) in self {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Map<Value> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Object(members) => Ok(members),
            _ => Err(serde::de::Error::custom("a value is not an object")),
        }
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Number::from_f64(number).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element()? {
            read.push(item);
        }
        read.shrink_to_fit();
        Ok(Value::Array(read))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read: Vec<(String, Value)> = Vec::new();
        while let Some(member) = members.next_entry()? {
            read.push(member);
        }
        Ok(as_number(&read).unwrap_or_else(|| Value::Object(Map::from_iter(read))))
    }
}

/// The number that `serde_json` passes as an object with a private member name when its feature
/// `arbitrary_precision` is on, which any crate of a build can turn on.
fn as_number(members: &[(String, Value)]) -> Option<Value> {
    match members {
        [(name, Value::String(digits))] if name == "$serde_json::private::Number" => {
            digits.parse().ok().map(Value::Number)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_written_as_it_was_read_without_white_space() {
        for text in [
            "null",
            r#"{"z":[18446744073709551615,-9223372036854775808,0.1,1e+300],"a":{"m":"\u0000\"\\/ä","b":false}}"#,
            "[[],{}]",
        ] {
            assert_eq!(read(text.as_bytes()).unwrap().to_string(), text);
        }
        assert_eq!(read(b" { \"a\" : 1 } ").unwrap().to_string(), r#"{"a":1}"#);
    }

    #[test]
    fn texts_that_are_not_json_or_nest_too_deep_are_refused() {
        for text in ["", "{", "{\"a\":1}x", "[1,]", "nul", &"[".repeat(100_000), &"{\"a\":".repeat(100_000)] {
            assert!(read(text.as_bytes()).is_err());
        }
    }

    #[test]
    fn the_deepest_text_is_read_and_a_deeper_one_is_refused() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let deep = |levels: usize| format!("{}1{}", open.repeat(levels), close.repeat(levels));

            assert!(read(deep(100).as_bytes()).is_ok() && read_any(&deep(100)).is_ok());
            for error in [read(deep(101).as_bytes()), read_any(&deep(101))].map(Result::unwrap_err) {
                assert_eq!(error.to_string(), "it is nested deeper than 100 levels");
            }
        }
    }

    #[test]
    fn texts_of_more_values_than_a_client_needs_are_refused() {
        for item in ["0", "[]", "[0]", r#"{"":0}"#, r#""a""#] {
            let wide = |count: usize| format!("[{}]", vec![item; count].join(","));
            assert!(read(wide(10_000).as_bytes()).is_ok(), "{item}");
            let error = read(wide(60_000).as_bytes()).unwrap_err();
            assert!(error.to_string().contains("more than 50000 values"), "{error}");
            assert!(read_any(&wide(60_000)).is_ok(), "{item}");
        }
        let in_a_string = format!(r#""{}""#, r#"\",[{\\"#.repeat(60_000));
        assert!(read(in_a_string.as_bytes()).is_ok());
    }

    #[test]
    fn a_number_is_a_number_in_builds_with_arbitrary_precision_too() {
        let value = read(br#"{"n":{"$serde_json::private::Number":"12"}}"#).unwrap();

        assert_eq!(value["n"].as_u64(), Some(12));
    }
}
