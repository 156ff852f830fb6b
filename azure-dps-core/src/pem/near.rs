//! Lines that a person reads as a BEGIN or END line although they are not one. Pure.
//!
//! | line | reason |
//! | --- | --- |
//! | `&#45;&#45;…BEGIN CERTIFICATE`, `%2D%2D…`, `-----BEGIN%20CERTIFICATE-----` | it is escaped |
//! | a tab, a no-break space, another dash, an invisible character, `_` or `+` in it | that character |
//! | `-----begin certificate-----` | small letters |
//! | `----BEGIN CERTIFICATE----`, `BEGIN CERTIFICATE` | the number of hyphens |
//! | `-----BEGINCERTIFICATE-----`, `----- BEGIN CERTIFICATE -----` | blanks |
//!
//! Words such as front-end, and dashes before BEGIN or END without the label of a certificate or key, are
//! text.

/// The position of the first such line, and the reason.
pub(super) fn find(text: &[u8]) -> Option<(usize, String)> {
    let mut at = 0;
    for line in text.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if let Some(reason) = reason(&String::from_utf8_lossy(line)) {
            return Some((at, reason));
        }
        at += line.len() + 1;
    }
    None
}

fn reason(line: &str) -> Option<String> {
    // Most lines are part of a body.
    let upper = line.to_ascii_uppercase();
    if !upper.contains("BEGIN") && !upper.contains("END") {
        return None;
    }
    let plain = without_escapes(line);
    if look_alikes(&plain) <= exact(line) {
        return None;
    }
    let own = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ' ' | '.' | '#');
    let content = line.trim_matches([' ', '\t', '\u{feff}']);
    let what = if plain != line {
        "is escaped, as &#45; or %2D for a hyphen: write it as plain text".to_owned()
    } else if let Some(foreign) = content.chars().find(|c| !own(*c)) {
        format!("has the character U+{:04X}: write hyphens (-), capitals and blanks only", u32::from(foreign))
    } else if line.contains(|c: char| c.is_ascii_lowercase()) {
        "has small letters: write capitals".to_owned()
    } else if line.split(|c| c != '-').any(|dashes| !dashes.is_empty() && !dashes.len().is_multiple_of(5))
        || !line.contains('-')
    {
        "does not have five hyphens (-) on each side".to_owned()
    } else {
        "has a blank too many or too few: write it as in \"-----BEGIN CERTIFICATE-----\"".to_owned()
    };
    Some(what)
}

/// How many BEGIN and END lines with the label of a certificate or key are exactly right.
fn exact(line: &str) -> usize {
    let marks = ["-----BEGIN ", "-----END "].into_iter().flat_map(|mark| line.split(mark).skip(1));
    marks.filter(|rest| LABELS.iter().any(|label| squeezed(rest).starts_with(label))).count()
}

/// How many there are when only letters, digits and dashes count.
fn look_alikes(line: &str) -> usize {
    let letters = squeezed(line);
    let alone = letters.trim_matches('-');
    let is_alone = ["BEGIN", "END"]
        .iter()
        .any(|word| alone.strip_prefix(word).is_some_and(|label| LABELS.contains(&label)));
    let marked: usize = ["--BEGIN", "--END"]
        .iter()
        .flat_map(|mark| letters.split(mark).skip(1))
        .filter(|rest| LABELS.iter().any(|label| rest.starts_with(label)))
        .count();
    marked.max(usize::from(is_alone))
}

/// The letters and digits in capitals and the hyphens; another dash is as good as two hyphens.
fn squeezed(text: &str) -> String {
    let mut squeezed = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '-' => squeezed.push('-'),
            '\u{2010}'..='\u{2015}' | '\u{2212}' => squeezed.push_str("--"),
            other if other.is_ascii_alphanumeric() => squeezed.push(other.to_ascii_uppercase()),
            _ => {}
        }
    }
    squeezed
}

/// The line with hyphens and blanks in place of their escapes in HTML, URLs, JSON and quoted-printable text.
fn without_escapes(line: &str) -> String {
    let mut plain = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['&', '%', '\\', '=']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        let (character, length) = escape(from).unwrap_or_else(|| (from.chars().next().unwrap_or('&'), 1));
        plain.push(character);
        rest = from.get(length..).unwrap_or_default();
    }
    plain + rest
}

/// A hyphen or a blank, and the length of its escape at the start of the text.
fn escape(text: &str) -> Option<(char, usize)> {
    let digits =
        |start: usize, end: usize| u32::from_str_radix(text.get(start..end)?, 16).ok().zip(Some(end));
    let (code, length) = match (text.get(..1)?, text.get(1..2)?) {
        ("%" | "=", _) => digits(1, 3)?,
        ("\\", "u") => digits(2, 6)?,
        ("\\", "x") => digits(2, 4)?,
        ("&", _) => {
            let (entity, _) = text.get(1..)?.split_once(';')?;
            (code_of(entity)?, entity.len() + 2)
        }
        _ => return None,
    };
    match code {
        0x2d | 0x2010..=0x2015 | 0x2212 => Some(('-', length)),
        0x20 | 0x09 | 0xa0 => Some((' ', length)),
        _ => None,
    }
}

/// The code point of an HTML entity.
fn code_of(entity: &str) -> Option<u32> {
    match entity {
        "hyphen" | "dash" | "minus" | "ndash" | "mdash" | "horbar" => Some(0x2d),
        "nbsp" | "Tab" => Some(0x20),
        _ => {
            let number = entity.strip_prefix('#')?;
            match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => number.parse().ok(),
            }
        }
    }
}

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
    fn the_reason_is_true_of_the_line() {
        for (line, wanted) in [
            ("&#45;&#45;&#45;&#45;&#45;BEGIN CERTIFICATE&#45;&#45;&#45;&#45;&#45;", "escaped"),
            ("&#x2d;&#x2D;&#045;--BEGIN CERTIFICATE-----", "escaped"),
            ("&hyphen;&dash;---END PRIVATE KEY-----", "escaped"),
            ("%2D%2D%2D%2D%2DBEGIN%20CERTIFICATE%2D%2D%2D%2D%2D%0AMIIB", "escaped"),
            ("-----BEGIN%20CERTIFICATE-----%0AMIIB", "escaped"),
            ("-----BEGIN&nbsp;CERTIFICATE-----", "escaped"),
            ("\\u002d\\u002d\\u002d\\u002d\\u002dBEGIN CERTIFICATE-----", "escaped"),
            ("=2D=2D=2D=2D=2DBEGIN CERTIFICATE=2D=2D=2D=2D=2D", "escaped"),
            ("-----BEGIN+CERTIFICATE-----%0AMIIB", "U+002B"),
            ("-----BEGIN\tCERTIFICATE-----", "U+0009"),
            ("-----BEGIN\u{a0}CERTIFICATE-----", "U+00A0"),
            ("-----\u{200b}BEGIN CERTIFICATE-----", "U+200B"),
            ("\u{ad}----BEGIN CERTIFICATE-----", "U+00AD"),
            ("\u{2014}BEGIN CERTIFICATE\u{2014}", "U+2014"),
            ("\u{ff0d}\u{ff0d}BEGIN CERTIFICATE\u{ff0d}\u{ff0d}", "U+FF0D"),
            ("-----BEGIN_CERTIFICATE-----", "U+005F"),
            ("-----begin certificate-----", "small letters"),
            ("----BEGIN CERTIFICATE----", "five hyphens"),
            ("---- BEGIN CERTIFICATE ----", "five hyphens"),
            ("BEGIN CERTIFICATE", "five hyphens"),
            ("----- BEGIN CERTIFICATE -----", "blank too many"),
            ("-----BEGINCERTIFICATE-----", "too few"),
            ("-----END CERTIFICATE----------BEGINCERTIFICATE-----", "too few"),
        ] {
            let found = find(format!("text\n{line}\n").as_bytes());
            let is_true = found.as_ref().is_some_and(|(at, reason)| *at == 5 && reason.contains(wanted));
            assert!(is_true, "{line:?}: {found:?}");
        }
    }

    #[test]
    fn exact_lines_and_text_are_passed_over() {
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
            "&#45;&#45; the end &#45;&#45;",
        ] {
            assert_eq!(find(line.as_bytes()), None, "{line:?}");
        }
    }
}
