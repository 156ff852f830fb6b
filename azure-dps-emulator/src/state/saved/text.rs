//! The text of a saved state: written in pieces, and read within limits.

use std::io;
use std::mem;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::json::Limits;
use crate::state::saved::error::{StateError, VERSION};

/// A written state in pieces, so that a large one needs its own memory only.
pub(crate) struct SavedText {
    pieces: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl SavedText {
    /// # Errors
    /// A value has no form in JSON.
    pub(super) fn write(state: &impl Serialize) -> Result<Self, StateError> {
        let mut text = SavedText { pieces: Vec::new(), last: Vec::with_capacity(PIECE) };
        match serde_json::to_writer(&mut text, state) {
            Ok(()) => Ok(text),
            Err(error) => Err(StateError::Invalid(format!("it cannot be written as JSON: {error}"))),
        }
    }

    /// Checks that a later start can read the text.
    ///
    /// # Errors
    /// Says which limit it breaks.
    pub(crate) fn check(&self) -> Result<(), StateError> {
        let pieces = || self.pieces.iter().chain([&self.last]).map(Vec::as_slice);
        check(pieces().map(<[u8]>::len).sum(), pieces(), LARGEST, LIMITS)
    }

    /// The number of bytes.
    pub(crate) fn size(&self) -> u64 {
        let pieces = self.pieces.iter().chain([&self.last]).map(Vec::len).sum::<usize>();
        u64::try_from(pieces).unwrap_or_default()
    }

    /// The whole text.
    ///
    /// # Errors
    /// It is not UTF-8, which JSON always is.
    pub(crate) fn into_string(self) -> Result<String, StateError> {
        let text = self.into_pieces().collect::<Vec<_>>().concat();
        String::from_utf8(text).map_err(|error| StateError::Invalid(format!("it is not UTF-8: {error}")))
    }

    /// The pieces in their order.
    pub(crate) fn into_pieces(self) -> impl Iterator<Item = Vec<u8>> + Send {
        self.pieces.into_iter().chain([self.last])
    }
}

impl io::Write for SavedText {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.last.len() + bytes.len() > PIECE && !self.last.is_empty() {
            self.pieces.push(mem::replace(&mut self.last, Vec::with_capacity(PIECE)));
        }
        self.last.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a state, whose version is checked first.
///
/// # Errors
/// [`StateError`] if the text is not a state, or one of a later version.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, StateError> {
    #[derive(Deserialize)]
    struct Head {
        version: Option<u64>,
    }

    check(text.len(), [text], LARGEST, LIMITS)?;
    let head: Head = serde_json::from_slice(text).map_err(|error| StateError::unreadable(&error))?;
    match head.version {
        None => Err(StateError::Invalid("it has no version, so it is not a state".to_owned())),
        Some(0) => Err(StateError::Invalid("there is no version 0".to_owned())),
        Some(version) if version > VERSION => Err(StateError::Newer(version)),
        Some(_) => serde_json::from_slice(text).map_err(|error| StateError::unreadable(&error)),
    }
}

/// Refuses a text that would take too much memory, or that `serde_json` does not read.
fn check<'a>(
    size: usize,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    largest: usize,
    limits: Limits,
) -> Result<(), StateError> {
    if size > largest {
        return Err(StateError::Invalid(format!("it is larger than {} MiB", largest / 1024 / 1024)));
    }
    limits.check(pieces).map_err(|excess| StateError::Invalid(excess.to_string()))
}

const PIECE: usize = 64 * 1024;
/// Enough for several 100,000 devices with enrollments, registrations and twins.
pub(crate) const LARGEST: usize = LARGEST_MEBIBYTES * 1024 * 1024;
pub(crate) const LARGEST_MEBIBYTES: usize = 512;
/// A value takes up to a hundred bytes of memory. A device has about a hundred values. `serde_json` reads 127
/// levels.
const LIMITS: Limits = Limits { values: 20_000_000, levels: 127 };

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_value_without_a_form_in_json_is_an_error_and_not_half_a_text() {
        let pair_as_name = BTreeMap::from([((1, 2), 3)]);

        let error = SavedText::write(&("before", pair_as_name)).err().unwrap();

        assert!(error.to_string().contains("it cannot be written as JSON: key must be a string"), "{error}");
    }

    #[test]
    fn a_text_beyond_a_limit_is_refused() {
        let pieces = || [b"[1,".as_slice(), b"2]"];

        let check = |largest, values, levels| check(5, pieces(), largest, Limits { values, levels });
        assert_eq!(check(5, 3, 1), Ok(()));
        let refused = |largest, values, levels| check(largest, values, levels).unwrap_err().to_string();
        assert_eq!(refused(4, 3, 1), "the state cannot be restored: it is larger than 0 MiB");
        assert_eq!(refused(5, 2, 1), "the state cannot be restored: it has more than 2 values");
        assert_eq!(refused(5, 3, 0), "the state cannot be restored: it is nested deeper than 0 levels");
    }

    #[test]
    fn a_written_text_that_could_not_be_read_is_refused() {
        let text = SavedText::write(&vec![0; LIMITS.values]).ok().unwrap();

        let wanted = "the state cannot be restored: it has more than 20000000 values";
        assert_eq!(text.check().unwrap_err().to_string(), wanted);
    }

    #[test]
    fn the_deepest_text_that_may_be_written_can_be_read() {
        let deep =
            |levels: usize| (1..levels).fold(serde_json::json!([]), |inner, _| serde_json::json!([inner]));
        let text = |levels| SavedText::write(&deep(levels)).ok().unwrap();

        assert_eq!(text(LIMITS.levels).check(), Ok(()));
        let bytes: Vec<u8> = text(LIMITS.levels).into_pieces().flatten().collect();
        assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        let wanted = "the state cannot be restored: it is nested deeper than 127 levels";
        assert_eq!(text(LIMITS.levels + 1).check().unwrap_err().to_string(), wanted);
    }
}
