//! `null` where a member needs a value: it is read as the value that the member's absence means. For
//! `#[serde(deserialize_with = …)]` and `#[serde(default = …)]` only.

use serde::{Deserialize, Deserializer};

/// The default of the type.
pub(super) fn as_default<'de, T: Default + Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// `true`.
pub(super) fn as_true<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_else(always))
}

/// What a switch is that is on unless it is turned off.
pub(super) fn always() -> bool {
    true
}

/// A list without its nulls.
pub(super) fn left_out<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    let list = Option::<Vec<Option<T>>>::deserialize(deserializer)?;
    Ok(list.map(|list| list.into_iter().flatten().collect()))
}
