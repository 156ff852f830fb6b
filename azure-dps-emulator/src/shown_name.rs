//! How messages show a name that a user gives. A key that is given in place of a name is not shown. Pure.
//!
//! | the name | is |
//! | --- | --- |
//! | has `-----BEGIN` or a line break | not shown: it is the content of a file |
//! | ends with `=`, or has 40 or more letters, digits and `+/-_=`, and nothing else | not shown: it may be a key |
//! | has a part between slashes and dots that ends with `=` | not shown: a suffix or a file was added to a key |
//! | another | shown |

use std::borrow::Cow;
use std::path::Path;

/// The name of a file, a variable or a policy.
pub fn shown<N: AsRef<Path> + ?Sized>(name: &N) -> Cow<'_, str> {
    let text = name.as_ref().to_string_lossy();
    let is_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/-_=".contains(&b);
    let may_be_key =
        |text: &str| text.ends_with('=') || (text.len() >= SHORTEST_KEY && text.bytes().all(is_base64));
    if may_be_key(&text)
        || text.split(['/', '\\', '.']).any(|part| part.ends_with('='))
        || text.contains('\n')
        || text.contains("-----BEGIN")
    {
        return Cow::Borrowed("(not shown, because it looks like a key)");
    }
    text
}

/// The length of a key of 30 bytes in base64.
const SHORTEST_KEY: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_may_be_a_key_is_not_shown() {
        for key in [
            "MDEyMzQ1Njc4OQ==",
            "/data/MDEyMzQ1Njc4OQ==.kept",
            "MDEyMzQ1Njc4OQ==/ca.pem",
            "/data/ab/+YzQ1Njc4OQ=.kept",
            &"ab/+".repeat(11),
            "-----BEGIN PRIVATE KEY-----",
            "MIGH\nMIGH",
        ] {
            assert_eq!(shown(key), "(not shown, because it looks like a key)");
        }
    }

    #[test]
    fn a_name_is_shown() {
        for name in [
            "seed.json",
            "/etc/dps/devices/of/the/second/factory/sensor-042.key",
            "/builds/2fd4e1c67a2d28fced849ee1bb76e7391b93eb12/state.json",
            "azure-iot-provisioning-integration-tests-2026.azure-devices.net",
            "a b",
            "",
        ] {
            assert_eq!(shown(name), name);
        }
    }
}
