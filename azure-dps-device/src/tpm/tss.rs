//! The TPM of this machine, through libtss2: opening it, and the trait. `connection.rs` sends the commands.
//!
//! One connection stays open. Each call leaves only persistent keys in the TPM: it removes the objects that
//! it has loaded when it ends, also after an error.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use azure_dps_core::{Error, ErrorKind, Result};

pub use self::builder::TssTpmBuilder;
use self::connection::{Connection, Imported};
use crate::tpm::blob::ActivationBlob;
use crate::tpm::contract::{Slot, Tpm, TpmKeys};

mod builder;
mod connection;
mod keys;
mod response;

/// The TPM 2.0 of a Linux machine, reached through libtss2 (feature `tpm`).
///
/// The endorsement key and the storage root key are used as they are found at their handles and are never
/// overwritten. Missing keys are created from the standard templates and persisted. The device's identity key
/// is persisted when a registration ends, so that [`HubAccess::sign_in`] works in later runs without another
/// registration.
///
/// The process needs read and write access to the device node, usually through the group `tss`. For
/// development, [`tcti`](TssTpmBuilder::tcti) connects to a simulator.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use azure_dps_device::{Credential, DeviceClient, Https, TssTpm};
///
/// # async fn example() -> azure_dps_device::core::Result<()> {
/// let tpm = Arc::new(TssTpm::open()?);
/// let credential = Credential::from_tpm(tpm)?;
/// let device = DeviceClient::new("0ne00111111".parse()?, credential, Https::default());
/// let assignment = device.register().await?;
/// println!("{}", assignment.hub());
/// # Ok(())
/// # }
/// ```
///
/// [`HubAccess::sign_in`]: crate::HubAccess::sign_in
pub struct TssTpm {
    options: TssTpmBuilder,
    /// Locked during a call, so that calls from several threads take turns: a TPM without a resource manager
    /// has room for only three objects.
    state: Mutex<State>,
}

struct State {
    connection: Option<Connection>,
    /// The key of the current challenge, encrypted by the storage root key.
    challenge: Option<Imported>,
}

impl TssTpm {
    /// Opens `/dev/tpmrm0` without passwords and with the usual handles.
    ///
    /// # Errors
    /// As [`TssTpmBuilder::open`].
    pub fn open() -> Result<Self> {
        Self::builder().open()
    }

    /// Returns a builder with the settings of [`open`](Self::open).
    pub fn builder() -> TssTpmBuilder {
        TssTpmBuilder::new()
    }

    fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Connection, &mut Option<Imported>) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = match state.connection.take().and_then(Connection::still_there) {
            Some(connection) => connection,
            None => Connection::connect(&self.options)?,
        };
        let outcome = work(&mut connection, &mut state.challenge);
        state.connection = connection.tidy().filter(|_| self.options.keep_open);
        outcome
    }
}

impl TssTpmBuilder {
    /// Connects to the TPM. It does not read or create keys yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a handle is not in the owner's range of persistent handles, two handles are
    /// equal, or the TCTI is unknown; [`ErrorKind::Credential`] when the TPM cannot be reached.
    pub fn open(self) -> Result<TssTpm> {
        let handles = [self.endorsement_key, self.storage_root_key, self.identity_key];
        for (i, handle) in handles.iter().enumerate() {
            if !OWNED.contains(handle) || handles.iter().skip(i + 1).any(|other| other == handle) {
                let why = "the three keys need different handles from 0x81000000 to 0x817fffff";
                return Err(Error::new(ErrorKind::Config, format!("{handle:#x} cannot be used: {why}")));
            }
        }
        let connection = Connection::connect(&self)?;
        let connection = self.keep_open.then_some(connection);
        Ok(TssTpm { options: self, state: Mutex::new(State { connection, challenge: None }) })
    }
}

impl Tpm for TssTpm {
    fn public_keys(&self) -> Result<TpmKeys> {
        self.with_connection(|connection, _| {
            Ok(TpmKeys {
                endorsement_key: connection.endorsement_key()?.public,
                storage_root_key: connection.storage_root_key()?.public,
            })
        })
    }

    fn import(&self, blob: &[u8], slot: Slot) -> Result<()> {
        let blob = ActivationBlob::parse(blob)?;
        self.with_connection(|connection, challenge| {
            *challenge = None;
            let key = connection.import(&blob)?;
            match slot {
                Slot::Challenge => *challenge = Some(key),
                Slot::Identity => connection.install(&key)?,
            }
            Ok(())
        })
    }

    fn answer(&self, blob: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        let blob = ActivationBlob::parse(blob)?;
        self.with_connection(|connection, challenge| {
            *challenge = None;
            let key = challenge.insert(connection.import(&blob)?);
            connection.sign_with(key, message)
        })
    }

    fn sign(&self, slot: Slot, message: &[u8]) -> Result<Vec<u8>> {
        self.with_connection(|connection, challenge| match (slot, challenge) {
            (Slot::Identity, _) => connection.sign(message),
            (Slot::Challenge, Some(key)) => connection.sign_with(key, message),
            (Slot::Challenge, None) => {
                Err(Error::new(ErrorKind::Credential, "the service has not challenged this TPM"))
            }
        })
    }
}

impl fmt::Debug for TssTpm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TssTpm").field(&self.options).finish()
    }
}

/// The persistent handles that the owner may use.
const OWNED: std::ops::RangeInclusive<u32> = 0x8100_0000..=0x817f_ffff;
