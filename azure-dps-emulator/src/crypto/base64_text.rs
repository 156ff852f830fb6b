//! Decodes base64 as people copy it: white space is ignored, as in .NET. Errors do not show the text.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::report;

/// Decodes standard base64.
pub(crate) fn decode(text: &str) -> Result<Vec<u8>, NotBase64> {
    let packed: String = text.split_ascii_whitespace().collect();
    let is_known = |c: char| c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "+/=".contains(c);
    BASE64_STANDARD.decode(&packed).map_err(|_| match text.chars().enumerate().find(|(_, c)| !is_known(*c)) {
        Some((at, character)) => NotBase64::Character { character, position: at + 1 },
        None => NotBase64::CutOff,
    })
}

/// Why a text is not base64. It shows nothing that can be part of a key. `{:?}` is the message, and `{:#?}` shows
/// the structure.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotBase64 {
    /// The text has a character that base64 does not have.
    #[error("there is {character:?} at position {position}")]
    Character {
        /// The first such character.
        character: char,
        /// Its position in the text, counted in characters from 1.
        position: usize,
    },
    /// The characters are those of base64, but their number or the padding is wrong.
    #[error("it is cut off, or has '=' in the middle")]
    CutOff,
}

impl fmt::Debug for NotBase64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        report::debug(f, self, |f| match self {
            Self::Character { character, position } => {
                f.debug_struct("Character").field("character", character).field("position", position).finish()
            }
            Self::CutOff => f.write_str("CutOff"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_is_ignored_and_the_wrong_character_is_named() {
        assert_eq!(decode(" AQ\r\n I\tD\n").unwrap(), [1, 2, 3]);
        for (text, wanted) in [
            ("\"AQID\"", "there is '\"' at position 1"),
            ("AQ\u{a0}ID", "there is '\\u{a0}' at position 3"),
            ("AQ%3D", "there is '%' at position 3"),
            ("AQI", "it is cut off, or has '=' in the middle"),
            ("AQ==AQ==", "it is cut off, or has '=' in the middle"),
        ] {
            assert_eq!(decode(text).unwrap_err().to_string(), wanted);
        }
    }
}
