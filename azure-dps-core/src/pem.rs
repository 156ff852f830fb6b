//! The PEM reader for chains, private keys, trusted roots and the certificates of enrollments. Pure.
//!
//! It is stricter than common readers, which skip what they cannot read: a skipped intermediate would later cause
//! a refusal by the service that nothing on the device explains. Every BEGIN or END line that a person would
//! see is therefore either read or an error, so that the reader never returns fewer blocks than the text has.
//!
//! | text | result |
//! | --- | --- |
//! | blocks with any line ending, indentation, trailing blanks, text around them | read |
//! | blocks without a line break between them: `-----END X----------BEGIN X-----` | read |
//! | a byte order mark at the start, or between files that were joined | read |
//! | a misspelt BEGIN or END line (`----BEGIN`, `—BEGIN`, `-----begin`) | error |
//! | BEGIN without END, END without BEGIN, labels that differ | error |
//! | a body that is not base64: quotes, `\n` as two characters, other characters | error that names them |
//! | DER, other bytes that are not text | error |
//! | UTF-16, whole or in part, as PowerShell's `>` and `>>` write it | error |

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

use crate::der;

/// The content between a BEGIN line and its END line, which may be a private key.
pub(crate) struct Block {
    pub(crate) label: String,
    pub(crate) der: Zeroizing<Vec<u8>>,
    /// Whether the RFC 1421 headers declare the content as encrypted.
    #[cfg_attr(not(any(feature = "tls", test)), expect(dead_code, reason = "only an identity has keys"))]
    pub(crate) is_encrypted: bool,
    pub(crate) place: Place,
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
    let marks = marks(text);
    let mut blocks = Vec::new();
    let mut marks = marks.iter().peekable();
    while let Some(begin) = marks.next() {
        let place = Place { block: blocks.len() + 1, line: line_of(text, begin.at) };
        let fault = |what: String| Fault { place: Some(place), what };
        let label = begin.label.map_err(|what| fault(what.to_owned()))?;
        if !begin.is_begin {
            return Err(fault(format!("\"-----END {label}-----\" has no BEGIN line before it")));
        }
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
        blocks.push(Block { label: label.to_owned(), der, is_encrypted, place });
    }
    if let Some(at) = misspelt_line(text) {
        let place = Place { block: blocks.len() + 1, line: line_of(text, at) };
        return Err(Fault { place: Some(place), what: MISSPELT.to_owned() });
    }
    if blocks.is_empty() && (text.contains(&0) || std::str::from_utf8(text).is_err()) {
        let what = "the bytes are neither PEM nor complete DER: the file may be cut off, or a .pfx or .p12 file, which \
                    `openssl pkcs12 -in device.pfx -nodes -out device.pem` converts"
            .to_owned();
        return Err(Fault { place: None, what });
    }
    Ok(blocks)
}

/// The certificates among the blocks, in DER. Skips other blocks that are common in such files.
///
/// # Errors
/// A block that may contain certificates in another form, or has an unknown and perhaps misspelt label.
pub(crate) fn certificates(blocks: &[Block]) -> Result<Vec<&[u8]>, Fault> {
    let mut certificates = Vec::new();
    for Block { label, der, place, .. } in blocks {
        match label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => certificates.push(der.as_slice()),
            // OpenSSL's trust settings follow the certificate.
            "TRUSTED CERTIFICATE" => {
                certificates.push(der::element(der).map_or(der.as_slice(), |first| first.whole));
            }
            label => check_foreign(label, *place)?,
        }
    }
    Ok(certificates)
}

/// Refuses a block of another kind, unless it is common beside certificates and keys.
pub(crate) fn check_foreign(label: &str, place: Place) -> Result<(), Fault> {
    let fault = |what: String| Err(Fault { place: Some(place), what });
    match label {
        "PKCS7" | "CMS" | "PKCS #7 SIGNED DATA" => fault(format!(
            "\"-----BEGIN {label}-----\" has certificates in PKCS#7: write them as PEM with \
             `openssl pkcs7 -in chain.p7b -print_certs -out chain.pem`"
        )),
        _ if label.ends_with("CERTIFICATE") || BESIDE.contains(&label) || is_key(label) => Ok(()),
        _ => fault(format!(
            "\"-----BEGIN {label}-----\" is neither a certificate nor a private key: remove the block"
        )),
    }
}

/// Whether the label is that of a private key in any form.
pub(crate) fn is_key(label: &str) -> bool {
    label.ends_with("PRIVATE KEY")
}

/// The other blocks that openssl writes beside certificates and keys.
const BESIDE: [&str; 9] = [
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

/// Finds everything that a person would take for a BEGIN or END line: the word behind a dash of any kind, and
/// a label.
fn marks(text: &[u8]) -> Vec<Mark<'_>> {
    let mut marks = Vec::new();
    let mut from = 0;
    while let Some(at) = text
        .get(from..)
        .and_then(|rest| rest.iter().position(|byte| matches!(byte, b'B' | b'b' | b'E' | b'e')))
    {
        let word = from + at;
        from = word + 1;
        let rest = text.get(word..).unwrap_or_default();
        let begin = starts_with_word(rest, b"BEGIN");
        let Some(length) = begin.or_else(|| starts_with_word(rest, b"END")) else { continue };
        let before = text.get(..word).unwrap_or_default();
        if !ends_with_dash(before) {
            continue;
        }
        let exact = before.ends_with(DASHES) && matches!(rest.get(..length), Some(b"BEGIN" | b"END"));
        let after = rest.get(length + 1..).unwrap_or_default();
        let near = after.get(..after.len().min(LONGEST_LABEL + DASHES.len())).unwrap_or_default();
        let line = near.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
        let label = match line.windows(DASHES.len()).position(|window| window == DASHES) {
            Some(end) if exact => match std::str::from_utf8(line.get(..end).unwrap_or_default()) {
                Ok(label) if is_label(label) => Ok(label),
                _ => Err(
                    "the label of a BEGIN or END line has characters other than capitals, digits, blanks, \
                     '.' and '#'",
                ),
            },
            _ if !exact => Err(MISSPELT),
            _ => Err("a BEGIN or END line has no five dashes (-) behind its label"),
        };
        let behind = word + length + 1 + label.map_or(0, |label| label.len() + DASHES.len());
        from = behind.max(from);
        let at = if exact { word - DASHES.len() } else { word };
        marks.push(Mark { is_begin: begin.is_some(), at, behind, label });
    }
    marks
}

/// Finds a line that has only the words of a BEGIN or END line but is not one, because of other dashes or
/// blanks, or invisible characters in between. Returns the position of the line.
fn misspelt_line(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let letters = line.iter().filter(|byte| byte.is_ascii_alphanumeric());
        let words: Vec<u8> = letters.take(LONGEST_LABEL).map(u8::to_ascii_uppercase).collect();
        let label = words.strip_prefix(b"BEGIN").or_else(|| words.strip_prefix(b"END"));
        let is_exact = [&b"-----BEGIN "[..], b"-----END "]
            .iter()
            .any(|mark| line.windows(mark.len()).any(|window| window == *mark));
        if !is_exact && label.is_some_and(|label| LABELS.contains(&label)) {
            return Some(at);
        }
        at += line.len() + 1;
    }
    None
}

/// The length of the word, if the text starts with it in any case and a blank follows.
fn starts_with_word(text: &[u8], word: &[u8]) -> Option<usize> {
    let found = text.get(..word.len())?.eq_ignore_ascii_case(word) && text.get(word.len()) == Some(&b' ');
    found.then_some(word.len())
}

/// Two hyphens, because a single one is part of words such as front-end, or one of the dashes by which word
/// processors replace them (U+2010 to U+2015, U+2212).
fn ends_with_dash(text: &[u8]) -> bool {
    matches!(text, [.., b'-', b'-'] | [.., 0xe2, 0x80, 0x90..=0x95] | [.., 0xe2, 0x88, 0x92])
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
    let der = BASE64.decode(&*packed).map_err(|_| why_not_base64(&packed).to_owned())?;
    Ok((Zeroizing::new(der), is_encrypted))
}

/// A body may be a key, so the reason names only the kind of the wrong character.
fn why_not_base64(packed: &[u8]) -> &'static str {
    if packed.windows(2).any(|window| window == b"\\n") {
        "it has \\n as two characters instead of line breaks: write real line breaks"
    } else if packed.contains(&b'"') || packed.contains(&b'\'') {
        "there are quotation marks between its BEGIN and END lines: remove them"
    } else {
        "it is damaged: the text between its BEGIN and END lines is not base64, or is cut off"
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
const MISSPELT: &str = "a BEGIN or END line is misspelt: it has five dashes (-) and capitals, as in \
     \"-----BEGIN CERTIFICATE-----\"";
/// The labels of certificates and keys, without blanks.
const LABELS: [&[u8]; 7] = [
    b"CERTIFICATE",
    b"X509CERTIFICATE",
    b"TRUSTEDCERTIFICATE",
    b"PRIVATEKEY",
    b"RSAPRIVATEKEY",
    b"ECPRIVATEKEY",
    b"ENCRYPTEDPRIVATEKEY",
];
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
                "block 2 (line 4): a BEGIN or END line is misspelt",
            ),
            (ONE.replace("-----BEGIN", "\u{2014}BEGIN"), "block 1 (line 1): a BEGIN or END line is misspelt"),
            (ONE.to_lowercase(), "block 1 (line 1): a BEGIN or END line is misspelt"),
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
    fn a_line_that_looks_like_a_begin_or_end_line_is_an_error() {
        for mark in [
            "----- BEGIN CERTIFICATE -----",
            "---- BEGIN CERTIFICATE ----",
            "BEGIN CERTIFICATE",
            "-----BEGINCERTIFICATE-----",
            "\u{ff0d}\u{ff0d}BEGIN CERTIFICATE\u{ff0d}\u{ff0d}",
            "\u{ad}----BEGIN CERTIFICATE-----",
            "-----\u{200b}BEGIN CERTIFICATE-----",
            "-----BEGIN\tCERTIFICATE-----",
            "-----BEGIN\u{a0}CERTIFICATE-----",
        ] {
            let shown = fault(&format!("{ONE}{mark}\nAQID\n{}", mark.replace("BEGIN", "END")));
            assert!(
                shown.starts_with("block 2 (line 4): a BEGIN or END line is misspelt"),
                "{mark:?}: {shown}"
            );
        }
    }

    #[test]
    fn labels_can_have_a_dot() {
        let parameters = ONE.replace("CERTIFICATE", "X9.42 DH PARAMETERS");
        let blocks = blocks(format!("{parameters}{ONE}").as_bytes()).unwrap_or_default();
        assert_eq!(certificates(&blocks).unwrap(), [[1, 2, 3]]);
    }

    #[test]
    fn words_with_a_hyphen_are_text() {
        for comment in [
            "# front-end gateway",
            "    friendlyName: back-end sensor",
            "subject=CN = front-end CA",
            "# begin here",
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
        assert_eq!(certificates(&blocks(text.as_bytes()).unwrap()).unwrap(), [[0x30, 2, 5, 0]]);
        let damaged = OTHER.replace("BAUG", "MAUB");
        assert_eq!(certificates(&blocks(damaged.as_bytes()).unwrap()).unwrap(), [[0x30, 5, 1]]);
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
