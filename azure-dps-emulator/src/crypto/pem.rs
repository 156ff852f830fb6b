//! Reads the certificates and keys in a PEM text.
//!
//! What cannot be read is an error. If it were skipped, as most readers do, a typing error would silently
//! remove a certificate that the user wants to trust.
//!
//! | text | result |
//! | --- | --- |
//! | blocks with any line ending, indentation, blanks in the body, byte order marks | read |
//! | text around blocks | skipped |
//! | a block with an unknown label, PGP armor, PKCS#7 | error about the label, whatever the body is |
//! | a body with another character than base64 has | error that names the character |
//! | a line that is nearly a BEGIN or END line | error, see [`marks`] |
//! | base64 of a certificate or key without BEGIN and END lines | error, see [`bare`] |
//! | DER, UTF-16, other bytes | error that names the form |

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::crypto::der;

mod bare;
mod marks;

/// A block whose body is not decoded yet.
struct Block<'a> {
    /// Counted from 1.
    number: usize,
    label: &'a str,
    body: &'a str,
}

/// The certificates in a PEM text, in DER. Keys, parameters and requests are skipped.
///
/// # Errors
/// Says which block or line is wrong.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    match plain_certificate(text) {
        Some(certificate) => Ok(vec![certificate]),
        None => certificates_in_blocks(text),
    }
}

fn certificates_in_blocks(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut certificates = Vec::new();
    for block in blocks(text)? {
        match block.label {
            "CERTIFICATE" | "X509 CERTIFICATE" => certificates.push(block.decode()?),
            // OpenSSL appends its trust settings to the certificate.
            "TRUSTED CERTIFICATE" => {
                let mut der = block.decode()?;
                der.truncate(der::total_length(&der).unwrap_or(der.len()));
                certificates.push(der);
            }
            _ => {}
        }
    }
    Ok(certificates)
}

/// The certificate of a text in the form that programs write: one block and nothing else, without blanks in its
/// body. It is read in one go, because a seed can have very many of them; `None` for any other text.
fn plain_certificate(text: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(text).ok()?.trim_ascii();
    let body = text.strip_prefix("-----BEGIN CERTIFICATE-----")?.strip_suffix("-----END CERTIFICATE-----")?;
    let mut packed = String::with_capacity(body.len());
    for line in body.lines() {
        if marks::begins_like_one(line) {
            return None;
        }
        packed.push_str(line);
    }
    BASE64_STANDARD.decode(packed).ok().filter(|der| !der.is_empty())
}

/// The one private key in a PEM text, in PKCS#8.
///
/// # Errors
/// Says which block or line is wrong, or that there is another number of keys or a key in another form.
pub(crate) fn private_key(text: &[u8]) -> Result<Vec<u8>, String> {
    let blocks = blocks(text)?;
    let keys: Vec<_> = blocks.iter().filter(|block| block.label.ends_with("PRIVATE KEY")).collect();
    match keys.as_slice() {
        [key] if key.label == "PRIVATE KEY" => key.decode(),
        [key] => Err(format!(
            "has a private key with the label `{}`: write it as PKCS#8 with `openssl pkcs8 -topk8 -nodes`",
            key.label
        )),
        [] => Err("has no private key".to_owned()),
        keys => Err(format!("has {} private keys, and one belongs there", keys.len())),
    }
}

impl Block<'_> {
    fn decode(&self) -> Result<Vec<u8>, String> {
        let Block { number, body, .. } = self;
        let packed: String = body.split(|c: char| c.is_ascii_whitespace() || c == '\u{feff}').collect();
        if packed.is_empty() {
            return Err(format!("has a block {number} with nothing between its BEGIN and END lines"));
        }
        let is_foreign = |c: &char| !(c.is_ascii_alphanumeric() || "+/=".contains(*c));
        BASE64_STANDARD.decode(&packed).map_err(|_| match packed.chars().find(is_foreign) {
            Some(c) => format!(
                "has a block {number} with a body that is not base64: there is the character U+{:04X}",
                u32::from(c)
            ),
            None => format!(
                "has a block {number} with a body that is not base64: it is cut off, or has '=' in the middle"
            ),
        })
    }
}

fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, String> {
    if der::is_der(text) {
        return Err(
            "is DER: write a certificate as PEM with `openssl x509 -inform DER -in ca.cer -out ca.pem`"
                .into(),
        );
    }
    let text = std::str::from_utf8(text).map_err(|_| "is not text in UTF-8".to_owned())?;
    if text.contains('\0') {
        return Err("is UTF-16, in whole or in part: save it as UTF-8".to_owned());
    }
    if let Some((line, why)) = marks::find(text) {
        return Err(format!("has a BEGIN or END line (line {line}) that {why}"));
    }
    let mut blocks = Vec::new();
    // Five dashes separate: text, BEGIN and a label, the body, END and the label, text.
    let mut pieces = text.split("-----");
    while let Some(piece) = pieces.next() {
        let number = blocks.len() + 1;
        let Some(label) = piece.strip_prefix("BEGIN ") else {
            if piece.starts_with("END ") {
                return Err(format!("has an END line without a BEGIN line before block {number}"));
            }
            if bare::find(piece).is_some() {
                return Err(format!(
                    "has base64 of a certificate or key without its BEGIN and END lines before block {number}: \
                     add the lines, or remove it"
                ));
            }
            continue;
        };
        check_label(label, number)?;
        let (body, end) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
        if end.strip_prefix("END ") != Some(label) {
            return Err(format!(
                "has a block {number} that does not end with the END line of its BEGIN line"
            ));
        }
        blocks.push(Block { number, label, body });
    }
    match (marks::count(text), 2 * blocks.len()) {
        (found, read) if found == read => Ok(blocks),
        (found, read) => Err(format!(
            "has {found} BEGIN and END lines, of which {read} can be read: each has five hyphens on both sides"
        )),
    }
}

/// Refuses labels of blocks that are neither certificates nor common in files that have them.
fn check_label(label: &str, number: usize) -> Result<(), String> {
    if label.contains(['\n', '\r']) {
        return Err(format!("has a block {number} whose BEGIN line lacks five hyphens behind its label"));
    }
    if label.split(' ').any(str::is_empty) {
        return Err(format!("has a block {number} with a blank too many in its BEGIN line"));
    }
    let is_known = CERTIFICATES.contains(&label) || PASSED.iter().any(|passed| label.ends_with(passed));
    if is_known && !label.starts_with("PGP ") {
        return Ok(());
    }
    Err(format!("has a block {number} that is not a certificate: `{}`", label.escape_debug()))
}

/// The labels of certificates. Attribute certificates are skipped.
const CERTIFICATES: [&str; 4] =
    ["CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", "ATTRIBUTE CERTIFICATE"];
/// The ends of the labels of other blocks that files with certificates contain.
const PASSED: [&str; 5] = ["PRIVATE KEY", "PUBLIC KEY", "PARAMETERS", "CERTIFICATE REQUEST", "X509 CRL"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ONE: &str = "-----BEGIN CERTIFICATE-----\nAQID\n-----END CERTIFICATE-----\n";

    #[test]
    fn certificates_are_found_in_any_layout_of_the_text() {
        let other = "-----BEGIN TRUSTED CERTIFICATE-----\nMAIFADAA\n-----END TRUSTED CERTIFICATE-----\n";
        let plain = format!("{ONE}{other}");
        for text in [
            plain.clone(),
            plain.replace('\n', "\r\n"),
            plain.replace('\n', "\n\t "),
            plain.replace('\n', ""),
            format!("\u{feff}{ONE}\u{feff}{other}"),
            format!(
                "subject: the BEGIN\n{ONE}-----BEGIN EC PARAMETERS-----\nBgg=\n-----END EC PARAMETERS-----\n{other}"
            ),
        ] {
            assert_eq!(
                certificates(text.as_bytes()).unwrap(),
                [vec![1, 2, 3], vec![0x30, 2, 5, 0]],
                "{text:?}"
            );
        }
        assert_eq!(certificates(b"none").unwrap(), [[0; 0]; 0]);
    }

    #[test]
    fn what_programs_write_is_read_in_one_go() {
        for text in [ONE.to_owned(), ONE.replace('\n', "\r\n"), ONE.trim_end().to_owned()] {
            assert_eq!(plain_certificate(text.as_bytes()), Some(vec![1, 2, 3]), "{text:?}");
        }
        for text in
            [ONE.repeat(2), ONE.replace("AQID", "AQI"), ONE.replace("AQID\n", ""), format!("# leaf\n{ONE}")]
        {
            assert_eq!(plain_certificate(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn words_with_a_hyphen_are_text() {
        for comment in ["# front-end gateway", "friendlyName: back-end sensor", "#--end of the chain--"] {
            assert_eq!(certificates(format!("{comment}\n{ONE}").as_bytes()).unwrap().len(), 1, "{comment}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_an_error_with_its_true_reason() {
        let bare = include_str!("../../../tests/vectors/x509/p384.pem");
        let bare: String = bare.lines().filter(|line| !line.starts_with('-')).collect();
        let pgp = |label: &str| {
            format!("-----BEGIN {label}-----\nVersion: 1\n\nAQID\n=ab12\n-----END {label}-----\n")
        };
        for (text, wanted) in [
            (
                format!("{ONE}{}", ONE.replace("-----BEGIN", "----BEGIN")),
                "(line 4) that does not have five hyphens",
            ),
            (format!("{ONE}{}", ONE.replace('-', "&#45;")), "(line 4) that is written with escapes"),
            (format!("{ONE}-----begin certificate-----"), "(line 4) that is not in capitals"),
            (format!("{ONE}\u{2014}BEGIN CERTIFICATE"), "(line 4) that has the character U+2014"),
            (ONE.replace("BEGIN ", "BEGIN\t"), "(line 1) that has the character U+0009"),
            (ONE.replace("BEGIN ", "BEGIN\u{a0}"), "(line 1) that has the character U+00A0"),
            (ONE.replace("BEGIN ", "BEGIN  "), "block 1 with a blank too many in its BEGIN line"),
            (ONE.replace("CERTIFICATE-", "CERTIFICATE -"), "block 1 with a blank too many in its BEGIN line"),
            (
                ONE.replace("AQID", "AQ\u{a0}ID"),
                "block 1 with a body that is not base64: there is the character U+00A0",
            ),
            (
                ONE.replace("AQID", "AQ\u{b}ID"),
                "block 1 with a body that is not base64: there is the character U+000B",
            ),
            (
                ONE.replace("AQID", "AQ!D"),
                "block 1 with a body that is not base64: there is the character U+0021",
            ),
            (ONE.replace("AQID", "AQI"), "block 1 with a body that is not base64: it is cut off"),
            (ONE.replace("AQID", " \t"), "block 1 with nothing between its BEGIN and END lines"),
            (
                format!("{ONE}-----BGIN X-----AQID------END X-----"),
                "has 3 BEGIN and END lines, of which 2 can be read",
            ),
            (format!("{ONE}AQID\n-----END CERTIFICATE-----"), "END line without a BEGIN line before block 2"),
            (format!("{ONE}-----BEGIN CERTIFICATE-----\nAQID"), "block 2 that does not end"),
            (
                ONE.replace("CERTIFICATE-----\nA", "CERTIFICATE----\nA"),
                "block 1 whose BEGIN line lacks five hyphens",
            ),
            (ONE.replace("CERTIFICATE", "CERTIFCATE"), "block 1 that is not a certificate: `CERTIFCATE`"),
            (
                ONE.replace("CERTIFICATE", "OLD CERTIFICATE"),
                "block 1 that is not a certificate: `OLD CERTIFICATE`",
            ),
            (pgp("PGP MESSAGE"), "block 1 that is not a certificate: `PGP MESSAGE`"),
            (pgp("PGP PRIVATE KEY BLOCK"), "block 1 that is not a certificate: `PGP PRIVATE KEY BLOCK`"),
            (pgp("PKCS7"), "block 1 that is not a certificate: `PKCS7`"),
            (
                format!("{ONE}{bare}\n"),
                "base64 of a certificate or key without its BEGIN and END lines before block 2",
            ),
            (format!("leaf\n{bare}\n{ONE}"), "without its BEGIN and END lines before block 1"),
        ] {
            let why = certificates(text.as_bytes()).unwrap_err();
            assert!(why.contains(wanted), "{text:?}: {why}");
            assert!(!why.contains("AQ"), "{why}");
        }
    }

    #[test]
    fn blanks_in_a_body_are_skipped() {
        for body in ["A QI D", "AQ\tID", "AQ\r\n\r\nID", "  AQID  ", "\u{feff}AQID"] {
            assert_eq!(certificates(ONE.replace("AQID", body).as_bytes()).unwrap(), [[1, 2, 3]], "{body:?}");
        }
    }

    #[test]
    fn a_private_key_is_one_in_pkcs_8() {
        let key = ONE.replace("CERTIFICATE", "PRIVATE KEY");
        assert_eq!(private_key(format!("{ONE}{key}").as_bytes()).unwrap(), [1, 2, 3]);
        for (text, wanted) in [
            (ONE.to_owned(), "has no private key"),
            (key.repeat(2), "has 2 private keys"),
            (format!("{key}{}", key.replace("PRIVATE", "EC PRIVATE")), "has 2 private keys"),
            (key.replace("PRIVATE", "EC PRIVATE"), "the label `EC PRIVATE KEY`"),
        ] {
            assert!(private_key(text.as_bytes()).unwrap_err().contains(wanted), "{text:?}");
        }
    }

    #[test]
    fn other_forms_are_named() {
        let der = [&[0x30, 0x82, 1, 0][..], &[0xff; 256]].concat();
        assert!(certificates(&der).unwrap_err().contains("is DER"));
        assert!(certificates(&der[1..]).unwrap_err().contains("not text"));
        assert_eq!(certificates(format!("0 s:CN = a\n{ONE}").as_bytes()).unwrap().len(), 1);
        assert!(certificates(b"\xff\xfe-\0").is_err());
        let wide: Vec<u8> = ONE.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let appended = [ONE.as_bytes(), &wide].concat();
        assert!(certificates(&appended).unwrap_err().contains("UTF-16"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn there_are_never_fewer_certificates_than_marks(
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("-----BEGIN CERTIFICATE-----".to_owned()),
                    Just("-----END CERTIFICATE-----".to_owned()),
                    Just(ONE.to_owned()),
                    Just(ONE.trim_end().to_owned()),
                    Just("-".to_owned()),
                    "[\r\n \t\u{feff}]{0,3}",
                    "[ -~]{0,12}",
                ],
                0..16,
            )
        ) {
            let text = pieces.concat();
            if let Ok(found) = certificates(text.as_bytes()) {
                prop_assert_eq!(found.len(), text.matches("-----BEGIN ").count());
                prop_assert_eq!(found.len(), text.matches("-----END ").count());
            }
        }

        #[test]
        fn a_plain_text_is_read_like_any_other(
            body in proptest::collection::vec(
                proptest::sample::select(vec![
                    "AQID", "MAA=", "BEGIN", "END", "CERTIFICATE", "-----", " ", "\n", "\r\n", "\r", "", "\u{feff}", "e",
                ]),
                0..8,
            ),
        ) {
            let text = ONE.replace("AQID", &body.concat());
            let plain = plain_certificate(text.as_bytes());
            if let Some(plain) = plain {
                prop_assert_eq!(certificates_in_blocks(text.as_bytes()), Ok(vec![plain]), "{:?}", text);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = certificates(&bytes);
        }
    }
}
