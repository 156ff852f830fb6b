//! Base64 of a certificate or key that lost its BEGIN and END lines. Pure.
//!
//! A word is taken for it when it decodes to the start of a DER sequence of 64 bytes or more, whose first
//! member is a sequence or an integer, as in certificates and keys, and when 48 characters or more of it
//! are there. Blanks and line breaks do not count, so lines can have any width. Fingerprints are shorter,
//! hex dumps have colons, and a line that begins with `#` is a comment.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::der;

/// Its position in a text without blocks.
pub(super) fn find(text: &[u8]) -> Option<usize> {
    let mut is_comment = false;
    let mut before = b'\n';
    for (at, &byte) in text.iter().enumerate() {
        if matches!(before, b'\n' | b'\r') {
            is_comment = text.get(at..).unwrap_or_default().trim_ascii_start().starts_with(b"#");
        }
        // Base64 of 0x30 begins with this letter.
        if byte == b'M' && !is_comment && !is_base64(before) && begins(text.get(at..).unwrap_or_default()) {
            return Some(at);
        }
        before = byte;
    }
    None
}

fn begins(text: &[u8]) -> bool {
    // It may be a key.
    let mut packed = Zeroizing::new(Vec::with_capacity(FEWEST));
    for &byte in text {
        if is_base64(byte) {
            packed.push(byte);
        } else if !byte.is_ascii_whitespace() {
            break;
        }
        if packed.len() == FEWEST {
            break;
        }
    }
    let der = Zeroizing::new(BASE64.decode(&*packed).unwrap_or_default());
    let Some((tag, header, length)) = der::header(&der) else { return false };
    packed.len() == FEWEST
        && tag == der::SEQUENCE
        && header + length >= SHORTEST
        && matches!(der.get(header), Some(&(der::SEQUENCE | INTEGER)))
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/')
}

/// Characters; whole groups of four.
const FEWEST: usize = 48;
/// Bytes.
const SHORTEST: usize = 64;
const INTEGER: u8 = 0x02;

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = include_str!("../../../tests/vectors/x509/p384.pem");
    const KEY: &str = include_str!("../../../tests/vectors/x509/p384-pkcs8.key");

    fn body(pem: &str) -> String {
        pem.lines().filter(|line| !line.starts_with('-')).collect()
    }

    #[test]
    fn a_body_is_found_at_any_width() {
        for body in [body(PEM), body(KEY)] {
            for width in [1, 10, 48, 64, 65, 76, body.len()] {
                let lines: Vec<_> = body.as_bytes().chunks(width).collect();
                for between in ["\n", "\r\n", "\r", "\n   ", "\n\n", " \t\n"] {
                    let text = [&b"leaf of unit-7:\n"[..], &lines.join(between.as_bytes()), b"\n"].concat();
                    assert_eq!(find(&text), Some(16), "{width} {between:?}");
                }
            }
            assert_eq!(find(format!("certificate: {body}").as_bytes()), Some(13));
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
            assert_eq!(find(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(find(format!("  # {}\n", body(PEM)).as_bytes()), None);
    }
}
