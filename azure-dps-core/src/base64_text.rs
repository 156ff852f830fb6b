//! Reads base64 with the line breaks that `openssl rand -base64` and `base64` write. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use zeroize::Zeroizing;

/// Decodes standard base64. It skips white space, as .NET does, in which the service is written.
///
/// # Errors
/// The message names the wrong character and its position, or reports that the text is cut off. Since the
/// text may be a key, the message shows only a character that cannot be part of a key.
pub(crate) fn decode(text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let packed: Zeroizing<String> =
        Zeroizing::new(text.chars().filter(|character| !character.is_ascii_whitespace()).collect());
    BASE64.decode(packed.as_bytes()).map(Zeroizing::new).map_err(|_| reason(text, &packed))
}

fn reason(text: &str, packed: &str) -> String {
    let foreign = |character: char| {
        !(character.is_ascii_alphanumeric()
            || matches!(character, '+' | '/' | '=')
            || character.is_ascii_whitespace())
    };
    if let Some((at, character)) = text.chars().enumerate().find(|(_, character)| foreign(*character)) {
        let place = at + 1;
        return match character {
            '"' | '\'' | '\u{201c}' | '\u{201d}' => {
                format!(
                    "there is a quotation mark at position {place}: give the text without quotation marks"
                )
            }
            '%' => format!(
                "there is a '%' at position {place}: it is percent-encoded, so write %2B as +, %2F as /, %3D \
                 as ="
            ),
            '-' | '_' => format!(
                "there is a '{character}' at position {place}: it has the URL-safe alphabet, and DPS uses \
                 '+' and '/'"
            ),
            '*' => format!("there is a '*' at position {place}: a tool masked the text when it was shown"),
            '\\' => format!("there is a '\\' at position {place}: write real line breaks, or none"),
            '\u{feff}' => format!("there is a byte order mark at position {place}: save the file without it"),
            other if other.is_ascii_graphic() => {
                format!("there is a '{other}' at position {place}, which base64 does not have")
            }
            other => format!(
                "there is the character U+{:04X} at position {place}, which base64 does not have",
                u32::from(other)
            ),
        };
    }
    if packed.len().is_multiple_of(4) && !packed.trim_end_matches('=').contains('=') {
        return "its last group has bits that its padding does not allow: copy it again".to_owned();
    }
    let content = packed.trim_end_matches('=');
    if content.contains('=') {
        return "there is a '=' before its end: give one text, and only up to its end".to_owned();
    }
    format!(
        "its {} characters are not a whole number of groups of four: copy it again, including the '=' at its \
         end",
        packed.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_skipped_wherever_it_is() {
        for text in ["CQkJCQ==", " CQkJ\r\nCQ==\n", "C Q k J\tC Q = ="] {
            assert_eq!(decode(text).unwrap().as_slice(), [9; 4], "{text:?}");
        }
        let wrapped = format!("{}\n{}", "CQkJ".repeat(16), "CQkJ".repeat(5) + "CQ==");
        assert_eq!(decode(&wrapped).unwrap().as_slice(), [9; 64]);
    }

    #[test]
    fn the_reason_names_the_character_and_shows_nothing_else() {
        for (text, wanted) in [
            ("\"CQkJCQ==\"", "a quotation mark at position 1"),
            ("CQkJCQ%3D%3D", "a '%' at position 7: it is percent-encoded"),
            ("CQkJ-Q==", "a '-' at position 5: it has the URL-safe alphabet"),
            ("****", "a '*' at position 1: a tool masked the text"),
            ("CQkJ\\nCQ==", "a '\\' at position 5"),
            ("CQkJ;Q==", "a ';' at position 5, which base64 does not have"),
            ("\u{feff}CQkJCQ==", "a byte order mark at position 1"),
            ("CQkJ\u{e4}", "the character U+00E4 at position 5"),
            ("CQkJCQ==CQkJCQ==", "a '=' before its end"),
            ("CQkJCQ", "its 6 characters are not a whole number of groups of four"),
            ("CQkJCQ=", "its 7 characters are not a whole number of groups of four"),
        ] {
            let reason = decode(text).unwrap_err();
            assert!(reason.contains(wanted), "{text:?}: {reason}");
            assert!(!reason.contains("CQ"), "{reason}");
        }
        assert!(!decode("CQkJCR==").unwrap_err().contains("CQ"));
    }
}
