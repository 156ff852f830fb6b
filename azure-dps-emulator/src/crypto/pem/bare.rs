//! Finds the base64 of a certificate or key that has lost its BEGIN and END lines.
//!
//! It is a word that begins like DER: a sequence (0x30) of at least 64 bytes with the shortest length, in
//! which a sequence or an integer comes first, as in every certificate and key. At least 48 characters of
//! it are there, counted across blanks and line breaks, so that the width of its lines does not matter.
//! Fingerprints and hex dumps are shorter or have colons. A line that begins with `#` is a comment.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::crypto::der;

/// The position of the first one.
pub(super) fn find(text: &str) -> Option<usize> {
    let begins_word = |at: usize| !text.get(..at).unwrap_or_default().ends_with(is_base64);
    text.match_indices('M')
        .map(|(at, _)| at)
        .find(|at| begins_word(*at) && !is_comment(text, *at) && is_body(text, *at))
}

fn is_comment(text: &str, at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    before.rsplit(['\n', '\r']).next().is_some_and(|line| line.trim_start().starts_with('#'))
}

fn is_body(text: &str, at: usize) -> bool {
    let rest = text.get(at..).unwrap_or_default().chars();
    let packed: String = rest
        .filter(|c| !c.is_whitespace() && *c != '\u{feff}')
        .take_while(|c| is_base64(*c))
        .take(FEWEST)
        .collect();
    if packed.len() < FEWEST {
        return false;
    }
    let begin = BASE64_STANDARD.decode(packed).unwrap_or_default();
    let Some(total) = der::total_length(&begin) else { return false };
    let header =
        if total < 0x82 { 2 } else { 2 + usize::from(begin.get(1).copied().unwrap_or_default() & 0x7f) };
    begin.first() == Some(&0x30) && total >= SHORTEST && matches!(begin.get(header), Some(0x30 | 0x02))
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '+' || c == '/'
}

/// Characters, a multiple of four.
const FEWEST: usize = 48;
/// Bytes.
const SHORTEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("../../../../tests/vectors/x509/p384.pem");
    const KEY: &str = include_str!("../../../../tests/vectors/x509/p384-pkcs8.key");

    fn body(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    #[test]
    fn a_body_without_marks_is_found_at_any_width() {
        for body in [body(PEM), body(KEY)] {
            for width in [1, 10, 48, 64, 65, 76, body.len()] {
                let lines: Vec<_> =
                    body.as_bytes().chunks(width).map(|line| str::from_utf8(line).unwrap()).collect();
                for between in ["\n", "\r\n", "\r", "\n   ", "\n\n", " \t\n"] {
                    let text = format!("leaf of unit-7:\n{}\n", lines.join(between));
                    assert_eq!(find(&text), Some(16), "{width} {between:?}");
                }
            }
            assert_eq!(find(&format!("certificate: {body}")), Some(13));
        }
    }

    #[test]
    fn other_text_is_not_taken_for_one() {
        for text in [
            "Bag Attributes\n    friendlyName: MII\n    localKeyID: 30 82 01 0A 30 82 01 0A 30 82 01 0A 30 82 01 0A\n",
            "subject=CN = MIIB, O = M\nissuer=CN = ca",
            "    Modulus:\n        00:30:82:01:0a:02:82:01:01:00:c4:30:82:01:0a:02:82:01:01:00:c4\n",
            "sha256 Fingerprint=30:82:01:0A:30:82:01:0A:30:82:01:0A:30:82:01:0A:30:82:01:0A",
            "pin-sha256: MIIBCgKCAQEAxDCCAQoCggEBAMQwggEKAoIBAQDEAAA=",
            "MIIBCgKCAQEAxA",
            "# a front-end gateway, made MONDAY",
            "MY OWN WORDS ARE LETTERS OF THE ALPHABET AND NO MORE THAN THAT WHATEVER THEIR NUMBER MAY BE IN THE END",
        ] {
            assert_eq!(find(text), None, "{text:?}");
        }
        assert_eq!(find(&format!("# {}\n", body(PEM))), None);
    }
}
