//! Optional members of the body of a management request.

use crate::json::{Map, Value};

/// # Errors
/// The member is not a string.
pub(super) fn word<'a>(given: &'a Map, name: &str) -> Result<Option<&'a str>, String> {
    match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or_else(|| format!("{name} must be a string")),
    }
}

/// # Errors
/// The member is not a whole number of 32 bits.
pub(super) fn number(given: &Map, name: &str) -> Result<Option<u32>, String> {
    match given.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            number.map(Some).ok_or_else(|| format!("{name} must be a whole number, at most {}", u32::MAX))
        }
    }
}
