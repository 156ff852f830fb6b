//! Text inside paths, topics and tokens.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Makes text fit for one segment of a path, one value of a query, topic or token: everything but letters, digits and
/// `-._~` is percent-encoded.
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
