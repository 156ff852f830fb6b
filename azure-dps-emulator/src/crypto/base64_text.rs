//! Decodes base64 as people copy it: white space is ignored, as in .NET. Errors do not show the text.

use base64::prelude::{BASE64_STANDARD, Engine};

/// Decodes standard base64.
///
/// # Errors
/// Names the character that is not base64 and its position, or says that the text is cut off. The text itself
/// is not shown, because it may be a key.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, String> {
    let packed: String = text.split_ascii_whitespace().collect();
    BASE64_STANDARD.decode(&packed).map_err(|_| {
        let is_known = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "+/=".contains(c);
        match text.chars().enumerate().find(|(_, c)| !is_known(*c)) {
            Some((at, c)) => format!("is not base64: there is {c:?} at position {}", at + 1),
            None => "is not base64: it is cut off, or has '=' in the middle".to_owned(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_ignored_and_the_wrong_character_is_named() {
        assert_eq!(decode(" AQ\r\n I\tD\n").unwrap(), [1, 2, 3]);
        for (text, wanted) in [
            ("\"AQID\"", "is not base64: there is '\"' at position 1"),
            ("AQ%3D", "is not base64: there is '%' at position 3"),
            ("AQI", "is not base64: it is cut off, or has '=' in the middle"),
            ("AQ==AQ==", "is not base64: it is cut off, or has '=' in the middle"),
        ] {
            assert_eq!(decode(text).unwrap_err(), wanted);
        }
    }
}
