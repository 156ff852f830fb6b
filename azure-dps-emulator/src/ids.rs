//! The rule for registration and group ids, and the ids that the service hands out: counters in the service's forms.

use base64::prelude::{BASE64_STANDARD, Engine};
use sha2::{Digest, Sha256};

/// Tells whether a text can be the id of an enrollment: 1 to 128 letters, digits, `:`, `.`, `_` and `-`, the first one
/// a letter or digit and the last one a letter, digit or `-`.
pub(crate) fn is_valid(id: &str) -> bool {
    let bytes = id.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    bytes.len() <= 128
        && first.is_ascii_alphanumeric()
        && (last.is_ascii_alphanumeric() || *last == b'-')
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b":._-".contains(b))
}

/// The form of an id under which records are kept: ids are compared without regard to case.
pub(crate) fn key(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// The id of a request, as `x-ms-request-id` and `trackingId` carry it.
pub(crate) fn tracking(request: u64) -> String {
    format!("7ac81d00-0000-4000-8000-{request:012x}")
}

/// Counts what the service names by itself; equal histories get equal names.
#[derive(Default)]
pub(crate) struct Ids {
    count: u64,
}

impl Ids {
    /// The tag of an enrollment; its quotes are part of it.
    pub(crate) fn etag(&mut self) -> String {
        self.count += 1;
        format!("\"{0:08x}-0000-0700-0000-{0:08x}\"", self.count)
    }

    /// The tag of a registration record: base64 of a quoted tag.
    pub(crate) fn registration_etag(&mut self) -> String {
        BASE64_STANDARD.encode(self.etag())
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
    fn ids_are_judged_by_length_characters_and_ends() {
        for id in ["a", "sensor-042", "SN:1.2_3-", "0", &"x".repeat(128)] {
            assert!(is_valid(id), "{id}");
        }
        for id in ["", "-a", ".a", "a.", "a_", "a:", "a b", "a/b", "ä", &"x".repeat(129)] {
            assert!(!is_valid(id), "{id}");
        }
    }

    #[test]
    fn handed_out_ids_have_the_forms_of_the_service() {
        let mut ids = Ids::default();

        assert_eq!(ids.etag(), "\"00000001-0000-0700-0000-00000001\"");
        let decoded = BASE64_STANDARD.decode(ids.registration_etag()).unwrap();
        assert_eq!(decoded, b"\"00000002-0000-0700-0000-00000002\"");
        assert_eq!(ids.operation("Dev1"), "5.cf4b9c1f5eb31deb.00000000-0000-4000-8000-000000000003");
    }
}
