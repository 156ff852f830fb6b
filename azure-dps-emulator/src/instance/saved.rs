//! The state of the instance as a whole: saved, restored and kept in a file.

use std::mem;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::access::policy::Policy;
use crate::data_file::{DataFile, SaveError};
use crate::instance::Instance;
use crate::state::State;
use crate::state::saved::{SavedState, SavedText, StateError};
use crate::state::settings::ServerAuthority;

impl Instance {
    /// The state, which no request changes while it is written.
    ///
    /// # Errors
    /// No start could read it.
    pub(crate) fn saved(&self) -> Result<SavedText, StateError> {
        self.written(None)
    }

    /// The state with the authority of the server, for a later start.
    ///
    /// # Errors
    /// No start could read it.
    pub(crate) fn saved_for_a_start(&self) -> Result<SavedText, StateError> {
        self.written(self.settings.server_authority.as_ref())
    }

    fn written(&self, server: Option<&ServerAuthority>) -> Result<SavedText, StateError> {
        let text = self.state().saved(&self.settings, server)?;
        text.check()?;
        Ok(text)
    }

    /// Replaces the state, and begins a new journal. Connections of devices to hubs end.
    ///
    /// # Errors
    /// [`StateError`] if the text is not a state of this service. Nothing is changed then.
    pub(crate) fn restore(&self, text: &[u8]) -> Result<(), StateError> {
        let saved = SavedState::read(text)?;
        saved.check_same_service(&self.settings)?;
        let authority = Arc::new(saved.issuing_authority()?);
        self.replace(State::restored(saved, &self.settings, authority)?);
        Ok(())
    }

    /// Begins with a saved state, and with what the settings of the start add to it.
    ///
    /// # Errors
    /// [`StateError`] if the state breaks a rule.
    pub(crate) fn begin_with(&self, saved: SavedState) -> Result<(), StateError> {
        let authority = Arc::clone(self.state().issuance.authority());
        let mut state = State::restored(saved, &self.settings, authority)?;
        state.overlay(&self.settings);
        self.replace(state);
        Ok(())
    }

    /// Saves the state to the data file.
    ///
    /// # Errors
    /// [`SaveError`] if there is no such file, it cannot be written, or no start could read it.
    pub(crate) fn save(&self) -> Result<(), SaveError> {
        self.data_file()?.replace(|| self.pieces())
    }

    /// Saves the state to the data file for the last time, and gives the file free.
    ///
    /// # Errors
    /// As for [`save`](Self::save).
    pub(crate) fn save_at_the_end(&self) -> Result<(), SaveError> {
        self.data_file()?.replace_at_the_end(|| self.pieces())
    }

    fn data_file(&self) -> Result<&DataFile, SaveError> {
        self.settings.data_file.as_ref().ok_or(SaveError::NoFile)
    }

    fn pieces(&self) -> Result<impl Iterator<Item = Vec<u8>>, SaveError> {
        let text = self.saved_for_a_start().map_err(|error| SaveError::Unreadable(error.into()))?;
        Ok(text.into_pieces())
    }

    /// The access policies, which a restored state can replace.
    pub(crate) fn policies(&self) -> Vec<Policy> {
        self.state().gate.policies.clone()
    }

    /// The requests that may still read the whole state.
    pub(crate) fn state_reads(&self) -> &Arc<Semaphore> {
        &self.state_reads
    }

    /// The turn to replace the whole state.
    pub(crate) fn state_writes(&self) -> &Semaphore {
        &self.state_writes
    }

    /// Begins a new life with another state.
    pub(super) fn replace(&self, fresh: State) {
        let mut state = self.state();
        let fresh = State { life: state.life + 1, ..fresh };
        let gone = mem::replace(&mut *state, fresh);
        self.journal.clear();
        drop(state);
        // Not under the lock, because a large state takes a while.
        drop(gone);
    }
}
