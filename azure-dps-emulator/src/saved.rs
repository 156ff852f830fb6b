//! How values look in a saved state, where that differs from how the emulator keeps them.
//!
//! The records of the emulator derive their saved form. `tests/emulator_on_bytes/state.rs` reads a state that
//! an earlier emulator wrote, so that a change of the form is noticed.

use serde::{Serialize, Serializer};

/// The items of a collection, which are made one by one while they are written.
pub(crate) struct Each<F>(pub(crate) F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// A counter. One that is too high is neither read, so that counting on from it never overflows, nor written,
/// because no start could read it.
pub(crate) mod count {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

    use super::{COUNT_TOO_HIGH, HIGHEST_COUNT};

    pub(crate) fn serialize<S: Serializer>(count: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        if *count > HIGHEST_COUNT {
            return Err(ser::Error::custom(COUNT_TOO_HIGH));
        }
        count.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let count = u64::deserialize(deserializer)?;
        if count > HIGHEST_COUNT { Err(de::Error::custom(COUNT_TOO_HIGH)) } else { Ok(count) }
    }
}

/// More than any emulator reaches, and half of what the 12 hexadecimal digits at the end of an id can show.
pub(crate) const HIGHEST_COUNT: u64 = 1 << 47;
/// The beginning of the error about a counter.
pub(crate) const COUNT_TOO_HIGH: &str = "a counter is above 140737488355328";

/// Bytes as base64.
pub(crate) mod bytes {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64_STANDARD.decode(text).map_err(|_| D::Error::custom("a text is not base64"))
    }
}

/// A time in the form of RFC 3339, with all of its digits.
pub(crate) mod at {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use time::format_description::well_known::Rfc3339;
    use time::{OffsetDateTime, UtcOffset};

    pub(crate) fn serialize<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
        // Records have times of the emulator's clock, whose years have four digits.
        serializer.serialize_str(&time.format(&Rfc3339).unwrap_or_default())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<OffsetDateTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time = OffsetDateTime::parse(&text, &Rfc3339).ok();
        // Times are shown as those of UTC.
        let time = time.and_then(|time| time.checked_to_offset(UtcOffset::UTC));
        time.ok_or_else(|| D::Error::custom("a time is not of RFC 3339"))
    }
}

/// A time, or null.
pub(crate) mod at_or_never {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use time::OffsetDateTime;

    #[derive(Serialize, Deserialize)]
    struct At(#[serde(with = "super::at")] OffsetDateTime);

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        time.map(At).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OffsetDateTime>, D::Error> {
        Ok(Option::<At>::deserialize(deserializer)?.map(|At(time)| time))
    }
}

/// A shared value as the value.
pub(crate) mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize + ?Sized, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// Implements the saved form of a type that is written as a text.
macro_rules! saved_as_text {
    ($type:ty, $write:expr, $read:expr, $what:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let write: fn(&$type) -> String = $write;
                serializer.serialize_str(&write(self))
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let read: fn(&str) -> Option<$type> = $read;
                let text = String::deserialize(deserializer)?;
                read(&text).ok_or_else(|| serde::de::Error::custom($what))
            }
        }
    };
}
pub(crate) use saved_as_text;
