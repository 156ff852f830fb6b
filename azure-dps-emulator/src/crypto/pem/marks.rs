//! Finds the lines that a reader takes for a BEGIN or END line although they are not one, and says why they
//! are not.
//!
//! | line | reason |
//! | --- | --- |
//! | `&#45;&#45;&#45;&#45;&#45;BEGIN CERTIFICATE…`, `%2D…`, `-----BEGIN%20CERTIFICATE-----` | escapes |
//! | a tab, a no-break space, another dash, an invisible character, `_` or `+` in it | the character |
//! | `-----begin certificate-----` | not in capitals |
//! | `----BEGIN CERTIFICATE----`, `BEGIN CERTIFICATE` | the number of hyphens |
//! | `-----BEGINCERTIFICATE-----`, `----- BEGIN CERTIFICATE -----` | blanks |

/// The first of them: its line, counted from 1, and what is wrong with it.
pub(super) fn find(text: &str) -> Option<(usize, String)> {
    let text = text.replace("\r\n", "\n");
    let mut lines = text.split(['\n', '\r']).enumerate();
    lines.find_map(|(at, line)| Some((at + 1, fault(line)?)))
}

/// How many BEGIN or END lines of the exact form there are.
pub(super) fn count(text: &str) -> usize {
    text.matches("-----BEGIN ").count() + text.matches("-----END ").count()
}

fn fault(line: &str) -> Option<String> {
    if is_plainly_none(line) {
        return None;
    }
    let plain = unescape(line);
    if seen(&plain) <= count(line) {
        return None;
    }
    if plain != line {
        return Some(
            "is written with escapes, such as &#45; or %2D: write the characters themselves".to_owned(),
        );
    }
    let is_mark = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ' ' | '.' | '#');
    let trimmed = line.trim_matches([' ', '\t', '\u{feff}']);
    if let Some(c) = trimmed.chars().find(|c| !is_mark(*c)) {
        return Some(format!("has the character U+{:04X}, which does not belong there", u32::from(c)));
    }
    if line.contains(|c: char| c.is_ascii_lowercase()) {
        return Some("is not in capitals".to_owned());
    }
    let mut dashes = line.split(|c| c != '-').map(str::len);
    Some(if !line.contains('-') || dashes.any(|count| !count.is_multiple_of(5)) {
        "does not have five hyphens (-) on both sides".to_owned()
    } else {
        "has blanks in other places than behind BEGIN or END and in the label, or lacks one there".to_owned()
    })
}

/// Whether the first letters of a line in a body are those of a BEGIN or END line.
pub(super) fn begins_like_one(line: &str) -> bool {
    let mut letters = line.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_uppercase());
    let first = [letters.next(), letters.next(), letters.next()].map(Option::unwrap_or_default);
    matches!(&first, b"BEG" | b"END")
}

/// Whether a look at each byte shows that the line is not a BEGIN or END line, as with nearly all base64:
/// it has letters, digits, `+` and `/` only, and its first letters are those of neither word.
fn is_plainly_none(line: &str) -> bool {
    !begins_like_one(line)
        && line.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

/// How many BEGIN or END lines a person sees in a line: behind two hyphens or another dash, or with nothing
/// else.
fn seen(line: &str) -> usize {
    let upper = line.to_ascii_uppercase();
    let words = ["BEGIN", "END"].into_iter().flat_map(|word| upper.match_indices(word));
    let marks = words.filter(|(at, word)| {
        let (before, behind) =
            (upper.get(..*at).unwrap_or_default(), upper.get(at + word.len()..).unwrap_or_default());
        let is_exact = line.get(..at + word.len()).unwrap_or_default().ends_with(&format!("-----{word}"));
        if is_exact && !behind.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return true;
        }
        let is_dashed = before.ends_with("--") || before.ends_with(is_dash);
        is_dashed && has_label(behind)
    });
    let marks = marks.count();
    let words: String = upper.chars().filter(char::is_ascii_alphanumeric).collect();
    let label = words.strip_prefix("BEGIN").or_else(|| words.strip_prefix("END"));
    let is_alone = label.is_some_and(|label| LABELS.contains(&label));
    if is_alone { marks.max(1) } else { marks }
}

fn is_dash(c: char) -> bool {
    matches!(c, '\u{2010}'..='\u{2015}' | '\u{2212}')
}

/// Whether the text begins with the label of a certificate or key, whatever is between its letters.
fn has_label(text: &str) -> bool {
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).take(24).collect();
    LABELS.iter().any(|label| letters.starts_with(label))
}

/// Replaces the escapes of hyphens and blanks in HTML, URLs, JSON and quoted-printable text by the
/// characters.
fn unescape(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (character, length) = escape(rest).unwrap_or((first, first.len_utf8()));
        plain.push(character);
        rest = rest.get(length..).unwrap_or_default();
    }
    plain
}

/// The hyphen or blank for which the escape at the start of the text stands, and the length of the escape.
fn escape(text: &str) -> Option<(char, usize)> {
    let hex = |prefix: usize, digits: usize| {
        let code = u32::from_str_radix(text.get(prefix..prefix + digits)?, 16).ok()?;
        Some((char::from_u32(code)?, prefix + digits))
    };
    let (character, length) = match text.as_bytes() {
        [b'%' | b'=', ..] => hex(1, 2)?,
        [b'\\', b'u', ..] => hex(2, 4)?,
        [b'\\', b'x', ..] => hex(2, 2)?,
        [b'&', ..] => {
            let (name, _) = text.get(1..)?.split_once(';')?;
            let number = name.strip_prefix('#');
            let code = match number.and_then(|number| number.strip_prefix(['x', 'X'])) {
                Some(digits) => u32::from_str_radix(digits, 16).ok()?,
                None => match number {
                    Some(digits) => digits.parse().ok()?,
                    None => {
                        return NAMED
                            .contains(&name)
                            .then_some(('-', name.len() + 2))
                            .or_else(|| ["nbsp", "Tab"].contains(&name).then_some((' ', name.len() + 2)));
                    }
                },
            };
            (char::from_u32(code)?, name.len() + 2)
        }
        _ => return None,
    };
    match character {
        '-' | '\u{2010}'..='\u{2015}' | '\u{2212}' => Some(('-', length)),
        ' ' | '\t' | '\u{a0}' => Some((' ', length)),
        _ => None,
    }
}

/// The names of hyphens and dashes in HTML.
const NAMED: [&str; 6] = ["hyphen", "dash", "minus", "ndash", "mdash", "horbar"];
/// The labels of certificates and keys, without blanks.
const LABELS: [&str; 7] = [
    "CERTIFICATE",
    "X509CERTIFICATE",
    "TRUSTEDCERTIFICATE",
    "PRIVATEKEY",
    "RSAPRIVATEKEY",
    "ECPRIVATEKEY",
    "ENCRYPTEDPRIVATEKEY",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_what_is_wrong_with_the_line() {
        for (line, wanted) in [
            ("&#45;&#45;&#45;&#45;&#45;BEGIN CERTIFICATE&#45;&#45;&#45;&#45;&#45;", "escapes"),
            ("&#x2d;&#x2D;&#045;--BEGIN CERTIFICATE-----", "escapes"),
            ("&hyphen;&dash;---END PRIVATE KEY-----", "escapes"),
            ("%2D%2D%2D%2D%2DBEGIN%20CERTIFICATE%2D%2D%2D%2D%2D%0AMIIB", "escapes"),
            ("-----BEGIN%20CERTIFICATE-----%0AMIIB", "escapes"),
            ("-----BEGIN&nbsp;CERTIFICATE-----", "escapes"),
            ("\\u002d\\u002d\\u002d\\u002d\\u002dBEGIN CERTIFICATE-----", "escapes"),
            ("=2D=2D=2D=2D=2DBEGIN CERTIFICATE=2D=2D=2D=2D=2D", "escapes"),
            ("-----BEGIN+CERTIFICATE-----%0AMIIB", "U+002B"),
            ("-----BEGIN\tCERTIFICATE-----", "U+0009"),
            ("-----BEGIN\u{a0}CERTIFICATE-----", "U+00A0"),
            ("-----\u{200b}BEGIN CERTIFICATE-----", "U+200B"),
            ("\u{2014}BEGIN CERTIFICATE\u{2014}", "U+2014"),
            ("\u{ff0d}\u{ff0d}BEGIN CERTIFICATE", "U+FF0D"),
            ("-----BEGIN_CERTIFICATE-----", "U+005F"),
            ("-----begin certificate-----", "not in capitals"),
            ("----BEGIN CERTIFICATE----", "five hyphens"),
            ("---BEGIN CERTIFICATE-------", "five hyphens"),
            ("BEGIN CERTIFICATE", "five hyphens"),
            ("----- BEGIN CERTIFICATE -----", "blanks"),
            ("-----BEGINCERTIFICATE-----", "blanks"),
        ] {
            let found = find(&format!("text\r\n{line}\r\n"));
            assert!(
                found.as_ref().is_some_and(|(at, why)| *at == 2 && why.contains(wanted)),
                "{line:?}: {found:?}"
            );
        }
    }

    #[test]
    fn exact_lines_and_text_are_not_found() {
        for line in [
            "-----BEGIN CERTIFICATE-----",
            " \t-----END RSA PRIVATE KEY-----  ",
            "-----END CERTIFICATE----------BEGIN CERTIFICATE-----",
            "\u{feff}-----BEGIN CERTIFICATE-----AQID-----END CERTIFICATE-----",
            "# -- end of the chain --",
            "#--end of the chain",
            "---- begin of the bundle ----",
            "# front-end CERTIFICATE",
            "friendlyName: back-end private key",
            "the BEGIN CERTIFICATE line comes first",
            "&#45;&#45; text &#45;&#45;",
        ] {
            assert_eq!(find(line), None, "{line:?}");
        }
    }
}
