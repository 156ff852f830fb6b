//! A start with a saved state: what comes from the state, and what from the settings.
//!
//! | setting | wins |
//! | --- | --- |
//! | id scope | the state; a start with another one is refused |
//! | linked hubs, roles, access policies, CA certificates, certificate policies | those that the builder names |
//! | keys of access policies | the builder's, else those of the state |
//! | the rest of the state | the state |

use std::path::PathBuf;

use crate::access::policy::AccessPolicy;
use crate::builder::EmulatorBuilder;
use crate::data_file::DataFile;
use crate::shown_name::shown;
use crate::start_error::StartError;
use crate::state::saved::{LARGEST_MEBIBYTES, SavedSettings, SavedState, StateError};
use crate::state::settings::ServerAuthority;

impl EmulatorBuilder {
    /// Begins with the state that [`Emulator::state_json`](crate::Emulator::state_json) returned, and with its
    /// id scope, its access policies with their keys, its linked hubs and its certificate authorities.
    ///
    /// Access policies, roles, CA certificates and certificate policies of this builder are added, or replace
    /// those of the same names. Hubs of this builder replace those of the state. The state includes the
    /// allocation policy and the latencies. A [reset](crate::Emulator::reset) returns to the seed.
    pub fn state_json(mut self, json: impl Into<String>) -> Self {
        self.state = Some(json.into());
        self
    }

    /// Keeps the state in a file: the start reads it if it exists, as [`state_json`](Self::state_json) does, and
    /// [`Emulator::save`](crate::Emulator::save) and [`Emulator::shut_down`](crate::Emulator::shut_down)
    /// replace it. While the file exists, the seed is used for a reset only.
    ///
    /// One emulator at a time uses the file. A file beside it, whose name ends with `.lock`, says so.
    pub fn data_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.data_file = Some(path.into());
        self
    }

    /// Reads the state to begin with, and takes the settings from it that the builder does not name.
    pub(super) fn begin(&mut self) -> Result<Beginning, StartError> {
        let given = self.state.take();
        let kept = self.data_file.take().map(|path| self.open_data_file(path)).transpose()?.flatten();
        let saved = match (kept, given) {
            (Some(kept), _) => kept,
            (None, Some(given)) => SavedState::read(given.as_bytes()).map_err(StartError::State)?,
            (None, None) => return Ok(Beginning::default()),
        };
        self.take_settings(saved)
    }

    /// Opens the data file, and reads the state that it keeps.
    fn open_data_file(&mut self, path: PathBuf) -> Result<Option<SavedState>, StartError> {
        let unusable = |source| StartError::DataFile { path: path.clone(), source };
        let (file, text) = DataFile::open(&path, LARGEST_MEBIBYTES).map_err(unusable)?;
        let mut kept = None;
        if let Some(text) = text {
            kept = Some(SavedState::read(&text).map_err(StartError::State)?);
            file.check_replaceable(text).map_err(unusable)?;
        }
        if let Some(beside) = file.left_beside() {
            let (beside, path) = (shown(&beside), shown(&path));
            tracing::warn!(
                "{beside} has a state that an earlier run could not save to {path}, and is not used: rename it to \
                 use it, or delete it"
            );
        }
        self.settings.data_file = Some(file);
        Ok(kept)
    }

    fn take_settings(&mut self, mut saved: SavedState) -> Result<Beginning, StartError> {
        let SavedSettings { id_scope, hubs, gate, server_authority } =
            saved.take_settings().map_err(StartError::State)?;
        match &self.id_scope {
            Some(wanted) if *wanted != id_scope => {
                return Err(StartError::State(StateError::OtherService(format!(
                    "it is of ID scope {id_scope}, and this start is for {wanted}"
                ))));
            }
            _ => self.id_scope = Some(id_scope),
        }
        self.hubs.get_or_insert(hubs);
        for policy in &gate.policies {
            match self.policies.iter_mut().find(|own| own.name() == policy.name) {
                Some(own) if own.is_default() => *own = AccessPolicy::from(policy),
                Some(own) => own.complete(policy),
                None => self.policies.push(AccessPolicy::from(policy)),
            }
        }
        self.settings.gate.roles.complete(&gate.roles);
        Ok(Beginning { state: Some(saved), server_authority })
    }
}

/// The state to begin with, if there is one.
#[derive(Default)]
pub(super) struct Beginning {
    pub(super) state: Option<SavedState>,
    pub(super) server_authority: Option<ServerAuthority>,
}
