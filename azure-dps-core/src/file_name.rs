//! The names of files in errors: a text that is, or may be, a secret in place of a name is not shown. Pure.
//!
//! | the name | is |
//! |---|---|
//! | has `-----BEGIN` or a line break | refused: it is the content of a file |
//! | ends with `=`, or has 40 or more letters, digits and `+/-_=`, and nothing else | used, and not shown: it may be a key |
//! | another | used and shown |

use std::borrow::Cow;
use std::path::Path;

/// Why a name cannot be that of a file, as the rest of a sentence that does not repeat the name.
pub(crate) fn fault(file: &Path) -> Option<&'static str> {
    let name = file.as_os_str().as_encoded_bytes();
    let is_content = name.contains(&b'\n') || name.windows(BEGIN.len()).any(|part| part == BEGIN);
    is_content.then_some(
        "is PEM text or has a line break, so it is not the name of a file: write the text to a file, and give \
         the name of that file",
    )
}

/// A name as errors show it.
pub(crate) fn shown(file: &Path) -> Cow<'_, str> {
    let name = file.to_string_lossy();
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b);
    let may_be_key = name.ends_with('=') || (name.len() >= SHORTEST_KEY && name.bytes().all(is_base64));
    if may_be_key || fault(file).is_some() {
        return Cow::Borrowed("(its name is not shown, because it looks like a key)");
    }
    name
}

const BEGIN: &[u8] = b"-----BEGIN";
/// The length of a key of 30 bytes in base64.
const SHORTEST_KEY: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_refused_and_not_shown() {
        for content in [
            "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n",
            "-----BEGIN EC PRIVATE KEY-----\\nMIGH",
            " -----BEGIN CERTIFICATE-----MIGH",
            "MIGH\nMIGH",
        ] {
            let file = Path::new(content);
            assert!(fault(file).is_some_and(|why| !why.contains("MIGH")), "{content}");
            assert!(!shown(file).contains("MIGH"), "{content}");
        }
    }

    #[test]
    fn a_name_that_may_be_a_key_is_used_and_not_shown() {
        for key in ["MDEyMzQ1Njc4OQ==", "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0w", &"ab/+".repeat(46)] {
            let file = Path::new(key);
            assert_eq!(fault(file), None, "{key}");
            assert!(!shown(file).contains(key), "{key}");
        }
    }

    #[test]
    fn a_name_is_shown() {
        for name in
            ["/run/secrets/key.pem", "key", "/etc/dps/devices/of/the/second/factory/sensor-042.key", "a b"]
        {
            let file = Path::new(name);
            assert_eq!((fault(file), &*shown(file)), (None, name));
        }
    }
}
