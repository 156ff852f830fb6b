//! Date-times on the wire: RFC 3339 in UTC. For `#[serde(with = …)]` only.
//!
//! Read: any number of fractional digits; what is finer than a nanosecond is cut off. A text without offset
//! counts as UTC, because servers written in .NET print an unset value as `0001-01-01T00:00:00`. Written: UTC
//! with `Z` and at most seven fractional digits, the precision of the service.

use serde::{Deserialize, Deserializer, Serializer, de, ser};
use time::macros::datetime;
use time::{OffsetDateTime, UtcOffset, error, format_description::well_known::Rfc3339};

pub(super) fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&print(*at).map_err(ser::Error::custom)?)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map_or(Ok(unset()), |text| read(&text)).map_err(de::Error::custom)
}

/// What `null` is read as where there has to be a date-time: what servers written in .NET print for an unset
/// one.
pub(super) fn unset() -> OffsetDateTime {
    datetime!(0001-01-01 00:00 UTC)
}

pub(super) fn is_unset(at: &OffsetDateTime) -> bool {
    *at == unset()
}

/// The same for `Option<OffsetDateTime>`; the field also needs `default` and `skip_serializing_if`.
pub(super) mod option {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        at: &Option<OffsetDateTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<OffsetDateTime>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| read(&text)).transpose().map_err(de::Error::custom)
    }
}

fn read(text: &str) -> Result<OffsetDateTime, error::Parse> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|first| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339).map_err(|_| first))
}

fn print(at: OffsetDateTime) -> Result<String, error::Format> {
    let utc = at.checked_to_offset(UtcOffset::UTC).unwrap_or(at);
    let ticks = utc.nanosecond() / NANOSECONDS_PER_TICK * NANOSECONDS_PER_TICK;
    utc.replace_nanosecond(ticks).unwrap_or(utc).format(&Rfc3339)
}

const NANOSECONDS_PER_TICK: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_precision_is_read_and_seven_digits_are_printed() {
        for (text, printed) in [
            ("2026-05-04T09:20:00Z", "2026-05-04T09:20:00Z"),
            ("2026-05-04T09:20:00.5Z", "2026-05-04T09:20:00.5Z"),
            ("2026-05-04T09:20:00.760Z", "2026-05-04T09:20:00.76Z"),
            ("2026-05-04T09:20:00.1234567Z", "2026-05-04T09:20:00.1234567Z"),
            ("2026-05-04T09:20:00.123456789Z", "2026-05-04T09:20:00.1234567Z"),
            ("2026-05-04T09:20:00.1234567899Z", "2026-05-04T09:20:00.1234567Z"),
            ("2026-05-04T11:20:00.0000000+02:00", "2026-05-04T09:20:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("0001-01-01T00:00:00", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.9999999Z", "9999-12-31T23:59:59.9999999Z"),
        ] {
            assert_eq!(print(read(text).unwrap()).unwrap(), printed, "{text}");
        }
    }

    #[test]
    fn extreme_offsets_do_not_panic() {
        for text in ["9999-12-31T23:59:59-05:00", "0000-01-01T00:00:00+05:00"] {
            if let Ok(at) = read(text) {
                let _ = print(at);
            }
        }
    }

    #[test]
    fn other_text_is_refused() {
        for text in ["", "Z", "yesterday", "2026-05-04", "2026-13-04T09:20:00Z"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
