//! Judges a JSON text before it is read: how many values it has, and how deeply they are nested. Pure.
//!
//! | text | values | levels |
//! | --- | --- | --- |
//! | a client's, and the answer of a webhook | 50,000 | 100 |
//! | a seed | any number | 100 |
//! | a saved state | 20 million | 127, which is what `serde_json` reads |
//!
//! A saved state wraps the values of clients in up to ten levels of its own.

use std::fmt;

/// The most values and levels of a text.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) values: usize,
    pub(crate) levels: usize,
}

/// The limit that a text breaks, as the rest of a sentence about the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Excess {
    Values(usize),
    Levels(usize),
}

impl Limits {
    /// Judges a text in pieces. It counts punctuation outside of strings, because each value begins after such a
    /// character.
    ///
    /// # Errors
    /// The first limit that the text breaks.
    pub(crate) fn check<'a>(self, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<(), Excess> {
        let mut bytes = pieces.into_iter().flatten();
        let (mut values, mut level) = (1_usize, 0_usize);
        while let Some(byte) = bytes.next() {
            match byte {
                b'[' | b'{' => (values, level) = (values + 1, level + 1),
                b',' => values += 1,
                b']' | b'}' => level = level.saturating_sub(1),
                b'"' => {
                    while let Some(byte) = bytes.next() {
                        match byte {
                            b'\\' => {
                                bytes.next();
                            }
                            b'"' => break,
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
            if values > self.values {
                return Err(Excess::Values(self.values));
            }
            if level > self.levels {
                return Err(Excess::Levels(self.levels));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values(most) => write!(f, "it has more than {most} values"),
            Self::Levels(most) => write!(f, "it is nested deeper than {most} levels"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_levels_are_counted_over_the_bounds_of_pieces() {
        let text = br#"{"a,\",[":[1,2]}"#;
        for at in 0..text.len() {
            let (first, rest) = text.split_at(at);
            let check = |values, levels| Limits { values, levels }.check([first, rest]);

            assert_eq!(check(4, 2), Ok(()), "{at}");
            assert_eq!(check(3, 2), Err(Excess::Values(3)), "{at}");
            assert_eq!(check(4, 1), Err(Excess::Levels(1)), "{at}");
        }
    }

    #[test]
    fn siblings_are_on_one_level() {
        let limits = Limits { values: 100, levels: 2 };

        assert_eq!(limits.check([b"[[],[],{},[1]]".as_slice()]), Ok(()));
        assert_eq!(limits.check([b"]]][[".as_slice()]), Ok(()), "what is not JSON is refused by its reader");
        assert_eq!(limits.check([b"[[],[{}]]".as_slice()]), Err(Excess::Levels(2)));
    }
}
