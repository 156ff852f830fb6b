//! The handle's calls about the saved state.

use std::mem;
use std::sync::Arc;

use tokio::task::spawn_blocking;

use crate::data_file::SaveError;
use crate::emulator::Emulator;
use crate::state::saved::StateError;

impl Emulator {
    /// Everything that changes while the emulator runs, with all keys, as JSON for
    /// [`EmulatorBuilder::state_json`](crate::EmulatorBuilder::state_json) or
    /// [`restore_state`](Self::restore_state). It contains the private keys of both authorities.
    ///
    /// The journal, connections, waiting calls of methods and the counts of quotas are not in it. Settings that
    /// do not change while the emulator runs are not in it either, except the id scope, the linked hubs, the
    /// access policies and the roles.
    ///
    /// No request is answered while the text is written, which takes about a second for 100,000 devices.
    ///
    /// # Errors
    /// [`StateError`] if no start could read the state, mostly because it is too large.
    ///
    /// # Examples
    ///
    /// ```
    /// use azure_dps_emulator::Emulator;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let emulator = Emulator::start().await?;
    /// let state = emulator.state_json()?;
    ///
    /// let same = Emulator::builder().state_json(state).start().await?;
    /// assert_eq!(same.ca_pem(), emulator.ca_pem());
    /// # Ok(())
    /// # }
    /// ```
    pub fn state_json(&self) -> Result<String, StateError> {
        self.instance.saved_for_a_start()?.into_string()
    }

    /// Replaces the whole state, keys included, and begins a new journal. Connections of devices to hubs end.
    /// The authority of the server stays the one of this start.
    ///
    /// # Errors
    /// [`StateError`] if the text is not a state, is one of a later version, breaks a rule, or belongs to an
    /// emulator with another id scope or other hubs. Nothing is changed then.
    pub fn restore_state(&self, json: &str) -> Result<(), StateError> {
        self.instance.restore(json.as_bytes())
    }

    /// Saves the state to the [data file](crate::EmulatorBuilder::data_file).
    ///
    /// # Errors
    /// [`SaveError`] if there is no such file, or it cannot be replaced. It has its earlier contents then.
    pub fn save(&self) -> Result<(), SaveError> {
        self.instance.save()
    }

    /// Stops the emulator, and then saves the state to the data file, if there is one.
    ///
    /// Dropping the handle stops the emulator without saving.
    ///
    /// # Errors
    /// [`SaveError`] if the file cannot be replaced. It has its earlier contents then.
    pub async fn shut_down(mut self) -> Result<(), SaveError> {
        // Few requests change the state after it is saved: those whose connection or blocking work has not
        // ended yet. Their clients see the end of the connection, and cannot count on the change.
        mem::take(&mut self.tasks).shutdown().await;
        let instance = Arc::clone(&self.instance);
        match spawn_blocking(move || instance.save_at_the_end()).await {
            Ok(Err(SaveError::NoFile)) => Ok(()),
            Ok(saved) => saved,
            Err(stopped) => Err(SaveError::Stopped(stopped.into())),
        }
    }
}
