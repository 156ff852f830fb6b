//! The PEM reader for chains, private keys, trusted roots and the certificates of enrollments. Pure.
//!
//! It is stricter than common readers, which skip what they cannot read: a skipped intermediate would later
//! cause a refusal by the service that nothing on the device explains. Everything that a person would take
//! for a block is therefore either read or an error, so that the reader never returns fewer blocks than the
//! text has.
//!
//! | text | result |
//! | --- | --- |
//! | blocks with any line ending, indentation, blanks and tabs in the body, text around them | read |
//! | blocks without a line break between them: `-----END X----------BEGIN X-----` | read |
//! | a byte order mark at the start, or between files that were joined | read |
//! | a line that is nearly a BEGIN or END line ([`near`]) | error that names the difference |
//! | base64 of a certificate or key without BEGIN and END lines ([`unmarked`]) | error |
//! | BEGIN without END, END without BEGIN, labels that differ | error |
//! | an unknown label, PGP armor, PKCS#7 | error about the label, whatever the body is |
//! | a body that is not base64: quotes, `\n` as two characters, no-break spaces | error that names them |
//! | DER, other bytes that are not text | error |
//! | UTF-16, whole or in part, as PowerShell's `>` and `>>` write it | error |

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::{base64_text, der};

mod near;
mod unmarked;

/// The content between a BEGIN line and its END line, which may be a private key.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) der: Zeroizing<Vec<u8>>,
    /// Whether the RFC 1421 headers declare the content as encrypted.
    #[cfg_attr(not(any(feature = "tls", test)), expect(dead_code, reason = "only an identity has keys"))]
    pub(crate) is_encrypted: bool,
}

impl Block {
    fn certificate(&self) -> Option<&[u8]> {
        match self.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => Some(&self.der),
            // OpenSSL's trust settings follow the certificate.
            "TRUSTED CERTIFICATE" => Some(der::element(&self.der).map_or(&self.der, |first| first.whole)),
            _ => None,
        }
    }
}

/// The position of a block, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Counted from 1.
    pub(crate) block: usize,
    /// The line of its BEGIN, counted from 1.
    pub(crate) line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {} (line {})", self.block, self.line)
    }
}

/// Why a text cannot be read. It quotes only labels of the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `None` when it concerns the whole text.
    pub(crate) place: Option<Place>,
    pub(crate) what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some(place) => write!(f, "{place}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

/// Returns every block of a text, in order. Empty when the text has no BEGIN or END line.
///
/// # Errors
/// The first BEGIN or END line that cannot be read.
pub(crate) fn blocks(text: &[u8]) -> Result<Vec<Block>, Fault> {
    if der::is_der(text) {
        let what = "the text is not PEM but binary: write a certificate as PEM with \
                    `openssl x509 -inform DER -in ca.cer -out ca.pem`"
            .to_owned();
        return Err(Fault { place: None, what });
    }
    if is_utf_16(text) {
        let what = "the text is UTF-16, in whole or in part, as PowerShell writes it with `>` and `>>`: \
                    save it as UTF-8, or copy the file"
            .to_owned();
        return Err(Fault { place: None, what });
    }
    if let Some((at, what)) = near::find(text) {
        let block = 1 + marks(text.get(..at).unwrap_or_default()).iter().filter(|mark| mark.is_begin).count();
        let place = Place { block, line: line_of(text, at) };
        return Err(Fault { place: Some(place), what: format!("a BEGIN or END line {what}") });
    }
    let mut blocks = Vec::new();
    let mut behind = 0;
    let marks = marks(text);
    let mut marks = marks.iter().peekable();
    while let Some(begin) = marks.next() {
        check_outside(text, behind..begin.at, blocks.len())?;
        let place = Place { block: blocks.len() + 1, line: line_of(text, begin.at) };
        let fault = |what: String| Fault { place: Some(place), what };
        let label = begin.label.map_err(|what| fault(what.to_owned()))?;
        if !begin.is_begin {
            return Err(fault(format!("\"-----END {label}-----\" has no BEGIN line before it")));
        }
        check_label(label).map_err(fault)?;
        let end = marks.next_if(|next| !next.is_begin);
        let end =
            end.ok_or_else(|| fault(format!("\"-----BEGIN {label}-----\" has no END line behind it")))?;
        if end.label.map_err(|what| fault(what.to_owned()))? != label {
            return Err(fault(format!(
                "\"-----BEGIN {label}-----\" ends with the END line of another label"
            )));
        }
        let body = text.get(begin.behind..end.at).unwrap_or_default();
        let (der, is_encrypted) = decode(body).map_err(fault)?;
        blocks.push(Block { label: label.to_owned(), der, is_encrypted });
        behind = end.behind;
    }
    check_outside(text, behind..text.len(), blocks.len())?;
    if blocks.is_empty() && (text.contains(&0) || std::str::from_utf8(text).is_err()) {
        let what = "the bytes are neither PEM nor complete DER: the file may be cut off, or a .pfx or .p12 file, which \
                    `openssl pkcs12 -in device.pfx -nodes -out device.pem` converts"
            .to_owned();
        return Err(Fault { place: None, what });
    }
    Ok(blocks)
}

/// Refuses a certificate or key outside the blocks.
fn check_outside(text: &[u8], range: std::ops::Range<usize>, blocks: usize) -> Result<(), Fault> {
    let start = range.start;
    let Some(at) = unmarked::find(text.get(range).unwrap_or_default()) else { return Ok(()) };
    let place = Place { block: blocks + 1, line: line_of(text, start + at) };
    let what =
        "there is base64 of a certificate or key without its BEGIN and END lines: add the lines, as in \
                \"-----BEGIN CERTIFICATE-----\" and \"-----END CERTIFICATE-----\", or remove it"
            .to_owned();
    Err(Fault { place: Some(place), what })
}

/// The certificates among the blocks, in DER. Skips the other blocks.
pub(crate) fn certificates(blocks: &[Block]) -> Vec<&[u8]> {
    blocks.iter().filter_map(Block::certificate).collect()
}

/// Refuses every label but those of certificates and keys and those that are common beside them.
fn check_label(label: &str) -> Result<(), String> {
    match label {
        "PKCS7" | "CMS" | "PKCS #7 SIGNED DATA" => Err(format!(
            "\"-----BEGIN {label}-----\" has certificates in PKCS#7: write them as PEM with \
             `openssl pkcs7 -in chain.p7b -print_certs -out chain.pem`"
        )),
        _ if label.split(' ').any(str::is_empty) => Err(format!(
            "\"-----BEGIN {label}-----\" has a blank too many: remove it here and in the END line"
        )),
        _ if label.starts_with("PGP ") => Err(format!(
            "\"-----BEGIN {label}-----\" is OpenPGP, which is neither an X.509 certificate nor its key: remove the \
             block"
        )),
        _ if BESIDE.contains(&label) || is_key(label) => Ok(()),
        _ => Err(format!(
            "\"-----BEGIN {label}-----\" is neither a certificate nor a private key: correct the label, or remove \
             the block"
        )),
    }
}

/// A block in lines of 64 characters.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(BASE64.encode(der));
    // The key's text must not remain in memory that a growing string has left.
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Whether the label is that of a private key in any form.
pub(crate) fn is_key(label: &str) -> bool {
    label.ends_with("PRIVATE KEY")
}

/// Certificates, and the other blocks that openssl writes beside certificates and keys.
const BESIDE: [&str; 13] = [
    "CERTIFICATE",
    "X509 CERTIFICATE",
    "TRUSTED CERTIFICATE",
    "ATTRIBUTE CERTIFICATE",
    "EC PARAMETERS",
    "DH PARAMETERS",
    "X9.42 DH PARAMETERS",
    "DSA PARAMETERS",
    "PUBLIC KEY",
    "RSA PUBLIC KEY",
    "X509 CRL",
    "CERTIFICATE REQUEST",
    "NEW CERTIFICATE REQUEST",
];

/// Whether there is UTF-16 in the text: by its mark, or by dashes of two bytes.
fn is_utf_16(text: &[u8]) -> bool {
    let wide_dashes = |four: &[u8]| matches!(four, [b'-', 0, b'-', 0] | [0, b'-', 0, b'-']);
    text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") || text.windows(4).any(wide_dashes)
}

/// A BEGIN or an END, anywhere in the text.
struct Mark<'a> {
    is_begin: bool,
    /// The position of its first dash.
    at: usize,
    /// The position behind its last dash.
    behind: usize,
    label: Result<&'a str, &'static str>,
}

/// Finds the BEGIN and END lines, which may share a line with others.
fn marks(text: &[u8]) -> Vec<Mark<'_>> {
    let mut marks = Vec::new();
    let mut from = 0;
    while let Some(found) =
        text.get(from..).and_then(|rest| rest.windows(DASHES.len()).position(|window| window == DASHES))
    {
        let at = from + found;
        from = at + 1;
        let rest = text.get(at..).unwrap_or_default();
        let Some((is_begin, after)) = rest
            .strip_prefix(b"-----BEGIN ")
            .map(|after| (true, after))
            .or_else(|| rest.strip_prefix(b"-----END ").map(|after| (false, after)))
        else {
            continue;
        };
        let near = after.get(..after.len().min(LONGEST_LABEL + DASHES.len())).unwrap_or_default();
        let line = near.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        let label = match line.windows(DASHES.len()).position(|window| window == DASHES) {
            Some(end) => match std::str::from_utf8(line.get(..end).unwrap_or_default()) {
                Ok(label) if is_label(label) => Ok(label),
                _ => Err(
                    "the label of a BEGIN or END line has characters other than capitals, digits, blanks, \
                     '.' and '#'",
                ),
            },
            None => Err("a BEGIN or END line has no five dashes (-) behind its label"),
        };
        let behind = text.len() - after.len() + label.map_or(0, |label| label.len() + DASHES.len());
        from = behind.max(from);
        marks.push(Mark { is_begin, at, behind, label });
    }
    marks
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= LONGEST_LABEL
        && label.bytes().all(|byte| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b' ' | b'.' | b'#'))
}

/// Decodes a body. Returns its bytes, and whether its headers declare them as encrypted.
fn decode(body: &[u8]) -> Result<(Zeroizing<Vec<u8>>, bool), String> {
    let mut packed = Zeroizing::new(Vec::with_capacity(body.len()));
    let mut is_encrypted = false;
    let mut in_headers = true;
    for line in body.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line).trim_ascii();
        if in_headers && line.contains(&b':') {
            is_encrypted |= line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED");
            continue;
        }
        in_headers &= line.is_empty() || packed.is_empty();
        packed.extend(line.iter().filter(|byte| !byte.is_ascii_whitespace()));
    }
    if packed.is_empty() {
        return Err("there is nothing between its BEGIN and END lines".to_owned());
    }
    let der = BASE64.decode(&*packed).map_err(|_| why_not_base64(&packed))?;
    Ok((Zeroizing::new(der), is_encrypted))
}

/// A body may be a key, so the reason shows no character that base64 has.
fn why_not_base64(packed: &[u8]) -> String {
    if packed.windows(2).any(|window| window == b"\\n") {
        return "it has \\n as two characters instead of line breaks: write real line breaks".to_owned();
    }
    if packed.contains(&b'"') || packed.contains(&b'\'') {
        return "there are quotation marks between its BEGIN and END lines: remove them".to_owned();
    }
    let damaged = "it is damaged: the text between its BEGIN and END lines";
    let Ok(text) = std::str::from_utf8(packed) else { return format!("{damaged} is not UTF-8") };
    let is_base64 = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    match text.chars().find(|c| !is_base64(c)) {
        Some(foreign) => {
            format!("{damaged} has the character U+{:04X}, which base64 does not have", u32::from(foreign))
        }
        None => match base64_text::decode(text) {
            Ok(_) => format!("{damaged} is not base64"),
            Err(why) => format!("{damaged} is not base64: {why}"),
        },
    }
}

/// The line of a position. Lines end with a line feed, a carriage return, or both.
fn line_of(text: &[u8], at: usize) -> usize {
    let before = text.get(..at).unwrap_or_default();
    let returns =
        before.iter().enumerate().filter(|(at, byte)| **byte == b'\r' && before.get(at + 1) != Some(&b'\n'));
    1 + before.iter().filter(|byte| **byte == b'\n').count() + returns.count()
}

const DASHES: &[u8] = b"-----";
const LONGEST_LABEL: usize = 64;
/// Editors on Windows write it before the first line, and joining files leaves it between blocks.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";
    const OTHER: &str = "-----BEGIN TRUSTED CERTIFICATE-----\nBAUG\n-----END TRUSTED CERTIFICATE-----\n";

    fn found(text: &str) -> Vec<(String, Vec<u8>)> {
        let blocks = blocks(text.as_bytes()).unwrap_or_else(|fault| panic!("{text:?}: {fault}"));
        blocks.into_iter().map(|block| (block.label, block.der.to_vec())).collect()
    }

    fn fault(text: &str) -> String {
        blocks(text.as_bytes()).err().unwrap_or_else(|| panic!("{text:?} was read")).to_string()
    }

    #[test]
    fn blocks_are_found_in_any_layout() {
        let both =
            [("CERTIFICATE".to_owned(), vec![1, 2, 3]), ("TRUSTED CERTIFICATE".to_owned(), vec![4, 5, 6])];
        let plain = format!("{ONE}{OTHER}");
        for text in [
            plain.clone(),
            plain.replace('\n', "\r\n"),
            plain.replace('\n', "\r"),
            plain.replace('\n', " \t\n"),
            plain.replace('\n', "\n    "),
            plain.replace("-----\n-----BEGIN", "----------BEGIN"),
            plain.replace('\n', ""),
            plain.replace('\n', "\n\n"),
            format!("\u{feff}{ONE}\u{feff}{OTHER}"),
            format!(
                "Bag Attributes\n    localKeyID: 01\nsubject=CN = the BEGIN of it\n{ONE}\n# the END of it\n{OTHER}end"
            ),
        ] {
            assert_eq!(found(&text), both, "{text:?}");
        }
        assert_eq!(found("no mark at all, neither BEGIN nor END"), []);
    }

    #[test]
    fn every_begin_or_end_line_that_cannot_be_read_is_an_error_with_its_position() {
        for (text, wanted) in [
            (
                format!("{ONE}-----BEGIN CERTIFICATE-----\nAQID"),
                "block 2 (line 4): \"-----BEGIN CERTIFICATE-----\" has no END line",
            ),
            (
                format!("{ONE}AQID\n-----END CERTIFICATE-----"),
                "block 2 (line 5): \"-----END CERTIFICATE-----\" has no BEGIN line",
            ),
            (
                format!("-----BEGIN CERTIFICATE-----\nAQID\n{ONE}"),
                "block 1 (line 1): \"-----BEGIN CERTIFICATE-----\" has no END line",
            ),
            (
                ONE.replace("END CERTIFICATE", "END X509 CRL"),
                "block 1 (line 1): \"-----BEGIN CERTIFICATE-----\" ends with the END line of another label",
            ),
            (
                format!("{ONE}{}", ONE.replace("-----BEGIN", "----BEGIN")),
                "block 2 (line 4): a BEGIN or END line does not have five hyphens",
            ),
            (
                ONE.replace("-----BEGIN", "\u{2014}BEGIN"),
                "block 1 (line 1): a BEGIN or END line has the character U+2014",
            ),
            (ONE.to_lowercase(), "block 1 (line 1): a BEGIN or END line has small letters"),
            (
                ONE.replace("CERTIFICATE-----\nAQID", "CERTIFICATE----\nAQID"),
                "block 1 (line 1): a BEGIN or END line has no five dashes",
            ),
            (ONE.replace("AQID", "AQ\"ID"), "block 1 (line 1): there are quotation marks"),
            (ONE.replace('\n', "\\n"), "block 1 (line 1): it has \\n as two characters"),
            (ONE.replace("AQID", "AQI"), "block 1 (line 1): it is damaged"),
            (ONE.replace("AQID", ""), "block 1 (line 1): there is nothing between its BEGIN and END lines"),
        ] {
            let shown = fault(&text);
            assert!(shown.starts_with(wanted), "{text:?}: {shown}");
            assert!(!shown.contains("AQ"), "{shown}");
        }
    }

    #[test]
    fn the_reason_names_what_does_not_belong_in_a_line_or_body() {
        let damaged = "it is damaged: the text between its BEGIN and END lines";
        for (text, wanted) in [
            (ONE.replace('-', "&#45;"), "a BEGIN or END line is escaped"),
            (ONE.replace("BEGIN ", "BEGIN\t"), "a BEGIN or END line has the character U+0009"),
            (ONE.replace("BEGIN ", "BEGIN\u{a0}"), "a BEGIN or END line has the character U+00A0"),
            (ONE.replace("BEGIN ", "BEGIN  "), "\"-----BEGIN  CERTIFICATE-----\" has a blank too many"),
            (ONE.replace("E-----", "E -----"), "\"-----BEGIN CERTIFICATE -----\" has a blank too many"),
            (ONE.replace("AQID", "AQ\u{a0}ID"), &format!("{damaged} has the character U+00A0")),
            (ONE.replace("AQID", "AQ\u{b}ID"), &format!("{damaged} has the character U+000B")),
            (ONE.replace("AQID", "AQI"), &format!("{damaged} is not base64: its 3 characters")),
            (
                ONE.replace("AQID", "AQ==AQID"),
                &format!("{damaged} is not base64: there is a '=' before its end"),
            ),
            (ONE.replace("AQID", " \t"), "there is nothing between its BEGIN and END lines"),
        ] {
            let shown = fault(&text);
            assert!(shown.starts_with(&format!("block 1 (line 1): {wanted}")), "{text:?}: {shown}");
        }
    }

    #[test]
    fn utf_16_is_reported() {
        let wide: Vec<u8> = ONE.encode_utf16().flat_map(u16::to_le_bytes).collect();

        let appended = [ONE.repeat(3).as_bytes(), &wide].concat();
        for text in [[&b"\xff\xfe"[..], &wide].concat(), wide, appended] {
            assert!(blocks(&text).err().unwrap().to_string().contains("UTF-16"));
        }
    }

    #[test]
    fn binary_is_reported() {
        let der = [&[0x30, 0x82, 1, 0][..], &[0xff; 256]].concat();
        let shown = |bytes: &[u8]| blocks(bytes).err().unwrap().to_string();
        assert!(shown(&der).contains("not PEM but binary: write a certificate as PEM"), "{}", shown(&der));
        let indefinite = [&[0x30, 0x80][..], &[0xff; 256]].concat();
        for bytes in [&der[..200], &[&der[..], &[7]].concat(), &indefinite] {
            assert!(shown(bytes).contains("neither PEM nor complete DER"), "{}", shown(bytes));
        }
    }

    #[test]
    fn a_text_that_begins_with_a_zero_is_not_binary() {
        for first in ["0 s:CN = device\n   i:CN = ca\n", "0\n", "0\u{2014}first\n", "0\u{20ac}\n"] {
            assert_eq!(found(&format!("{first}{ONE}")).len(), 1, "{first:?}");
        }
    }

    #[test]
    fn an_unknown_label_is_the_error_whatever_the_body_is() {
        for label in [
            "PGP MESSAGE",
            "PGP PUBLIC KEY BLOCK",
            "PGP PRIVATE KEY BLOCK",
            "PKCS7",
            "CERTIFCATE",
            "OLD CERTIFICATE",
        ] {
            for body in ["Version: 1\n\nAQID\n=ab12", "AQ!D", ""] {
                let text = format!("{ONE}-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
                let shown = fault(&text);
                assert!(
                    shown.starts_with(&format!("block 2 (line 4): \"-----BEGIN {label}-----\" ")),
                    "{shown}"
                );
            }
        }
        let signed = "-----BEGIN PGP SIGNED MESSAGE-----\n\ntext\n-----BEGIN PGP SIGNATURE-----\n-----END PGP SIGNATURE-----";
        assert!(fault(signed).contains("is OpenPGP"), "{}", fault(signed));
    }

    #[test]
    fn a_body_without_begin_and_end_lines_is_an_error_with_its_position() {
        let body: String = include_str!("../../tests/vectors/x509/p384.pem")
            .lines()
            .filter(|line| !line.starts_with('-'))
            .collect();
        for (text, wanted) in [
            (format!("{ONE}\n{body}\n"), "block 2 (line 5): there is base64 of a certificate or key without"),
            (format!("leaf\n{body}\n{ONE}"), "block 1 (line 2): there is base64"),
            (format!("{ONE}# ca\n{body}\n{OTHER}"), "block 2 (line 5): there is base64"),
            (body.clone(), "block 1 (line 1): there is base64"),
        ] {
            assert!(fault(&text).starts_with(wanted), "{text}: {}", fault(&text));
        }
    }

    #[test]
    fn blanks_and_tabs_in_a_body_are_skipped() {
        for body in ["A QI D", "AQ\tID", "AQ\r\n\r\nID", "  AQID  ", "\u{feff}AQID"] {
            assert_eq!(
                found(&ONE.replace("AQID", body)),
                [("CERTIFICATE".to_owned(), vec![1, 2, 3])],
                "{body:?}"
            );
        }
    }

    #[test]
    fn labels_can_have_a_dot() {
        let parameters = ONE.replace("CERTIFICATE", "X9.42 DH PARAMETERS");
        let blocks = blocks(format!("{parameters}{ONE}").as_bytes()).unwrap_or_default();
        assert_eq!(certificates(&blocks), [[1, 2, 3]]);
    }

    #[test]
    fn words_with_a_hyphen_are_text() {
        for comment in [
            "# front-end gateway",
            "    friendlyName: back-end sensor",
            "subject=CN = front-end CA",
            "# begin here",
            "#--end of the chain--",
            "---- begin of the bundle ----",
        ] {
            assert_eq!(found(&format!("{comment}\n{ONE}{comment}")).len(), 1, "{comment}");
        }
    }

    #[test]
    fn headers_say_whether_the_content_is_encrypted() {
        let key = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAQID\n-----END RSA PRIVATE KEY-----";

        let block = &blocks(key.as_bytes()).unwrap()[0];

        assert_eq!((block.is_encrypted, &**block.der), (true, &[1, 2, 3][..]));
        assert!(!blocks(ONE.as_bytes()).unwrap()[0].is_encrypted);
    }

    #[test]
    fn trust_settings_behind_a_certificate_are_cut_off() {
        let text = OTHER.replace("BAUG", "MAIFADAA");
        assert_eq!(certificates(&blocks(text.as_bytes()).unwrap()), [[0x30, 2, 5, 0]]);
        let damaged = OTHER.replace("BAUG", "MAUB");
        assert_eq!(certificates(&blocks(damaged.as_bytes()).unwrap()), [[0x30, 5, 1]]);
    }

    proptest! {
        #[test]
        fn there_are_never_fewer_blocks_than_marks(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("-----BEGIN CERTIFICATE-----".to_owned()),
                    Just("-----END CERTIFICATE-----".to_owned()),
                    Just("-----BEGIN TRUSTED CERTIFICATE-----".to_owned()),
                    Just("AQID".to_owned()),
                    Just("-".to_owned()),
                    "[\r\n \t\u{feff}]{0,3}",
                    "[ -~]{0,12}",
                ],
                0..24,
            )
        ) {
            let text = pieces.concat();
            if let Ok(blocks) = blocks(text.as_bytes()) {
                prop_assert_eq!(blocks.len(), text.matches("-----BEGIN ").count());
                prop_assert_eq!(blocks.len(), text.matches("-----END ").count());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = blocks(&bytes);
        }
    }
}
