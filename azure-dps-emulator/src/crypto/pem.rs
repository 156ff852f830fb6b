//! Reads the certificates in a PEM text.
//!
//! A BEGIN or END line that cannot be read is an error. If it were skipped, as most readers do, a typing
//! error would silently remove a certificate that the user wants to trust.

use base64::prelude::{BASE64_STANDARD, Engine};

/// The certificates in a PEM text, in DER. Keys, parameters and requests are skipped.
///
/// Byte order marks, indentation, any line ending and blocks without a line break between them are accepted.
///
/// # Errors
/// Says which block or line is wrong.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let text = std::str::from_utf8(text).map_err(|_| "is not text in UTF-8".to_owned())?;
    if text.contains('\0') {
        return Err("is UTF-16, in whole or in part: save it as UTF-8".to_owned());
    }
    let mut certificates = Vec::new();
    let mut read = 0;
    // Five dashes separate: text, BEGIN and a label, the body, END and the label, text.
    let mut pieces = text.split("-----");
    while let Some(piece) = pieces.next() {
        let Some(label) = piece.strip_prefix("BEGIN ") else {
            if piece.starts_with("END ") {
                return Err(format!("has an END line without a BEGIN line behind block {read}"));
            }
            continue;
        };
        read += 1;
        let (body, end) = (pieces.next().unwrap_or_default(), pieces.next().unwrap_or_default());
        if end.strip_prefix("END ") != Some(label) {
            return Err(format!("has a block {read} that does not end with the END line of its BEGIN line"));
        }
        let der = || decode(body).ok_or_else(|| format!("has a block {read} with a body that is not base64"));
        match label {
            "CERTIFICATE" | "X509 CERTIFICATE" => certificates.push(der()?),
            // OpenSSL appends its trust settings to the certificate.
            "TRUSTED CERTIFICATE" => certificates.push(without_trailer(der()?)),
            label if PASSED.iter().any(|passed| label.ends_with(passed)) => {}
            _ => {
                return Err(format!(
                    "has a block {read} that is not a certificate: `{}`",
                    label.escape_debug()
                ));
            }
        }
    }
    for word in ["BEGIN ", "END "] {
        let marks = count_of_marks(text, word);
        if marks != read {
            return Err(format!(
                "has {marks} {word}lines, of which {read} can be read: they have five dashes and capitals"
            ));
        }
    }
    match text.split(['\n', '\r']).position(is_misspelt) {
        Some(line) => Err(format!(
            "has a BEGIN or END line that is misspelt, behind {line} other lines: it has five dashes and \
             capitals"
        )),
        None => Ok(certificates),
    }
}

fn decode(body: &str) -> Option<Vec<u8>> {
    let packed: String = body.chars().filter(|c| !c.is_ascii_whitespace() && *c != '\u{feff}').collect();
    BASE64_STANDARD.decode(packed).ok().filter(|der| !der.is_empty())
}

/// Keeps the first DER element only.
fn without_trailer(mut der: Vec<u8>) -> Vec<u8> {
    let length = match der.as_slice() {
        [_, 0x82, high, low, ..] => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        [_, 0x81, length, ..] => 3 + usize::from(*length),
        [_, length @ 0..=0x7f, ..] => 2 + usize::from(*length),
        _ => der.len(),
    };
    der.truncate(length);
    der
}

/// How often the word follows two hyphens or another dash, in any letter case. A single hyphen does not
/// count, because it can be part of a word such as "front-end".
fn count_of_marks(text: &str, word: &str) -> usize {
    let is_dash = |c: char| matches!(c, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}');
    text.match_indices(is_dash)
        .filter(|(at, dash)| {
            let (before, rest) = (text.get(..*at), text.get(at + dash.len()..).unwrap_or_default());
            let is_hyphen_alone = *dash == "-" && !before.unwrap_or_default().ends_with('-');
            !is_hyphen_alone && rest.get(..word.len()).is_some_and(|found| found.eq_ignore_ascii_case(word))
        })
        .count()
}

/// Returns whether a line has the words of a BEGIN or END line and nothing else, but is not one, because of
/// other dashes, blanks or invisible characters.
fn is_misspelt(line: &str) -> bool {
    let words: String = line.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
    let words = words.to_ascii_uppercase();
    let label = words.strip_prefix("BEGIN").or_else(|| words.strip_prefix("END"));
    let is_known = |label: &str| label.ends_with("CERTIFICATE") || label.ends_with("PRIVATEKEY");
    label.is_some_and(is_known) && !line.contains("-----BEGIN ") && !line.contains("-----END ")
}

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
    fn a_line_that_a_person_takes_for_a_mark_is_an_error_and_words_with_a_hyphen_are_text() {
        for mark in [
            "----- BEGIN CERTIFICATE -----",
            "BEGIN CERTIFICATE",
            "-----BEGINCERTIFICATE-----",
            "\u{ff0d}BEGIN CERTIFICATE",
        ] {
            let text = format!("{ONE}{mark}\nAQID\n{}", mark.replace("BEGIN", "END"));
            assert!(certificates(text.as_bytes()).unwrap_err().contains("misspelt"), "{mark}");
        }
        for comment in ["# front-end gateway", "friendlyName: back-end sensor"] {
            assert_eq!(certificates(format!("{comment}\n{ONE}").as_bytes()).unwrap().len(), 1, "{comment}");
        }
    }

    #[test]
    fn a_begin_or_end_line_that_cannot_be_read_is_an_error() {
        for (text, wanted) in [
            (
                format!("{ONE}{}", ONE.replace("-----BEGIN", "----BEGIN")),
                "END line without a BEGIN line behind block 1",
            ),
            (format!("{ONE}-----begin certificate-----"), "has 2 BEGIN lines, of which 1 can be read"),
            (format!("{ONE}\u{2014}BEGIN CERTIFICATE"), "has 2 BEGIN lines, of which 1 can be read"),
            (format!("{ONE}-----BGIN X-----AQID------END X-----"), "has 2 END lines, of which 1 can be read"),
            (format!("{ONE}-----BEGIN CERTIFICATE-----\nAQID"), "block 2 that does not end"),
            (ONE.replace("AQID", "AQ!D"), "block 1 with a body that is not base64"),
            (ONE.replace("AQID", ""), "block 1 with a body that is not base64"),
            (ONE.replace("CERTIFICATE", "CERTIFCATE"), "block 1 that is not a certificate: `CERTIFCATE`"),
        ] {
            let why = certificates(text.as_bytes()).unwrap_err();
            assert!(why.contains(wanted), "{text:?}: {why}");
        }
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
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = certificates(&bytes);
        }
    }
}
