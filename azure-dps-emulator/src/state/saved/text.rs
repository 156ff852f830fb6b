//! The text of a saved state: written in pieces, and read within limits.

use std::io;
use std::mem;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::json::has_more_values;
use crate::state::saved::error::{StateError, VERSION};

/// A written state in pieces, so that a large one needs its own memory only.
pub(crate) struct SavedText {
    pieces: Vec<Vec<u8>>,
    last: Vec<u8>,
}

impl SavedText {
    pub(super) fn write(state: &impl Serialize) -> Self {
        let mut text = SavedText { pieces: Vec::new(), last: Vec::with_capacity(PIECE) };
        // Writing to memory does not fail, and all names of members are texts.
        if let Err(error) = serde_json::to_writer(&mut text, state) {
            tracing::error!(%error, "the state was not written as a whole");
        }
        text
    }

    /// The number of bytes.
    pub(crate) fn size(&self) -> u64 {
        let pieces = self.pieces.iter().chain([&self.last]).map(Vec::len).sum::<usize>();
        u64::try_from(pieces).unwrap_or_default()
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

    if text.len() > LARGEST {
        return Err(StateError::Invalid(format!("it is larger than {} MiB", LARGEST / 1024 / 1024)));
    }
    if has_more_values(text, MOST_VALUES) {
        return Err(StateError::Invalid(format!("it has more than {MOST_VALUES} values")));
    }
    let head: Head = serde_json::from_slice(text).map_err(|error| StateError::unreadable(&error))?;
    match head.version {
        None => Err(StateError::Invalid("it has no version, so it is not a state".to_owned())),
        Some(0) => Err(StateError::Invalid("there is no version 0".to_owned())),
        Some(version) if version > VERSION => Err(StateError::Newer(version)),
        Some(_) => serde_json::from_slice(text).map_err(|error| StateError::unreadable(&error)),
    }
}

const PIECE: usize = 64 * 1024;
/// Enough for several 100,000 devices with enrollments, registrations and twins.
pub(crate) const LARGEST: usize = 512 * 1024 * 1024;
/// A value takes up to a hundred bytes of memory. A device has about a hundred values.
const MOST_VALUES: usize = 20_000_000;
