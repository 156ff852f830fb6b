//! The rules for ids of enrollments and devices, and the ids that the emulator generates: counters in the
//! forms of the service.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Returns whether a text can be the id of an enrollment: 1 to 128 letters, digits, `:`, `.`, `_` and `-`, of
/// which the first is a letter or digit and the last a letter, digit or `-`.
pub(crate) fn is_valid(id: &str) -> bool {
    let bytes = id.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= 128
        && first.is_ascii_alphanumeric()
        && (last.is_ascii_alphanumeric() || *last == b'-')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b":._-".contains(b))
}

/// Why a text cannot be a device id at a hub, which has 1 to 128 ASCII letters, digits and characters of
/// `- : . + % _ # * ? ! ( ) , = @ ; $ '`. `.` and `..` name no device, because clients remove these segments from
/// the path of a URL.
pub(crate) fn why_not_a_device_id(id: &str) -> Option<String> {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "-:.+%_#*?!(),=@;$'".contains(c);
    if id.len() > 128 {
        return Some(format!("has {} characters, and a hub takes at most 128", id.chars().count()));
    }
    if matches!(id, "." | "..") {
        return Some(format!("is {id:?}, which clients remove from the path of a URL"));
    }
    let (at, foreign) = id.chars().enumerate().find(|(_, c)| !is_known(*c))?;
    Some(format!("has {foreign:?} at position {}, which no hub takes in the id of a device", at + 1))
}

/// The form of an id in which it is compared: in lower case, because ids are case-insensitive.
pub(crate) fn key(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// The id of a request, for `x-ms-request-id` and `trackingId`.
pub(crate) fn tracking(request: u64) -> String {
    format!("7ac81d00-0000-4000-8000-{request:012x}")
}

/// Generates ids by counting, so that the same requests get the same ids.
#[derive(Clone, Copy, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Ids {
    #[serde(with = "crate::saved::count")]
    count: u64,
}

impl Ids {
    /// The etag of a record: base64 of a quoted text in the form of a GUID, whose last group contains the
    /// time in seconds.
    pub(crate) fn etag(&mut self, now: OffsetDateTime) -> String {
        self.count += 1;
        let (count, seconds) = (self.count & 0xffff_ffff, now.unix_timestamp() & 0xffff_ffff);
        BASE64_STANDARD.encode(format!("\"{count:08x}-0000-0800-0000-{seconds:08x}0000\""))
    }

    pub(crate) fn operation(&mut self, registration_id: &str) -> String {
        self.count += 1;
        let digest = Sha256::digest(key(registration_id));
        let hash: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("5.{hash}.00000000-0000-4000-8000-{:012x}", self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_id_has_only_characters_that_hubs_accept() {
        for id in [
            "line-3",
            "X:1234;X:12",
            "a..",
            "...",
            "a+b",
            "a#b",
            "a%41",
            "-:.+%_#*?!(),=@;$'",
            &"x".repeat(128),
        ] {
            assert_eq!(why_not_a_device_id(id), None, "{id}");
        }
        for (id, wanted) in [
            ("line 3", "' ' at position 5"),
            ("a/b", "'/' at position 2"),
            ("Ünit", "'Ü' at position 1"),
            ("a&b", "'&' at position 2"),
            ("a\"b", "'\"' at position 2"),
            (".", "is \".\", which clients remove from the path"),
            ("..", "is \"..\", which clients remove from the path"),
            (&"x".repeat(129), "129 characters"),
        ] {
            assert!(why_not_a_device_id(id).is_some_and(|why| why.contains(wanted)), "{id}");
        }
    }

    #[test]
    fn ids_are_judged_by_length_characters_and_ends() {
        for id in ["a", "sensor-042", "SN:1.2_3-", "0", &"x".repeat(128)] {
            assert!(is_valid(id), "{id}");
        }
        for id in ["", "-a", ".a", "a.", "a_", "a:", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(!is_valid(id), "{id}");
        }
    }

    #[test]
    fn generated_ids_have_the_forms_of_the_service() {
        let mut ids = Ids::default();

        let tag = ids.etag(OffsetDateTime::from_unix_timestamp(0x6468_01e5).unwrap());
        assert_eq!(BASE64_STANDARD.decode(tag).unwrap(), b"\"00000001-0000-0800-0000-646801e50000\"");
        assert_eq!(ids.operation("Dev1"), "5.cf4b9c1f5eb31deb.00000000-0000-4000-8000-000000000002");
    }
}
