//! Percent-encoding for paths, topics and tokens.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Encodes text as one segment of a path, or one value of a query, a topic or a token: everything except
/// letters, digits and `-._~` is percent-encoded.
///
/// ```
/// assert_eq!(azure_dps_core::plumbing::percent_encode("plant/berlin 3"), "plant%2Fberlin%203");
/// ```
///
/// Source: RFC 3986, section 2.3.
pub fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
