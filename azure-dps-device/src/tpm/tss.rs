//! The TPM of this machine, through libtss2: its options, and the trait. Which commands the TPM gets is said
//! in `connection`.
//!
//! One connection is kept open. Each call leaves nothing in the TPM but persistent keys: what it loads is
//! removed at its end, also after an error.

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
/// The endorsement key and the storage root key are taken as they are found at their handles; what is there
/// is never overwritten. Missing keys are made from the standard templates and persisted. The device's
/// identity key is persisted when a registration ends, so that [`Credential::hub_token`] works in later runs
/// without registering again.
///
/// The process needs read and write access to the device node, usually through the group `tss`. For
/// development, [`tcti`](TssTpmBuilder::tcti) leads to a simulator.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use azure_dps_device::{Credential, DeviceClient, Https, TssTpm};
///
/// # async fn example() -> azure_dps_device::core::Result<()> {
/// let tpm = Arc::new(TssTpm::open()?);
/// let credential = Credential::from_tpm(tpm)?;
/// let assignment = DeviceClient::new("0ne00111111".parse()?, credential, Https::default()).register().await?;
/// println!("{}", assignment.hub());
/// # Ok(())
/// # }
/// ```
///
/// [`Credential::hub_token`]: crate::Credential::hub_token
pub struct TssTpm {
    options: TssTpmBuilder,
    /// Locked while the TPM is in use, so that calls from several threads take turns: a TPM without a
    /// resource manager has room for three objects.
    state: Mutex<State>,
}

struct State {
    connection: Option<Connection>,
    /// The key of the running challenge, wrapped by the storage root key.
    challenge: Option<Imported>,
}

impl TssTpm {
    /// Opens `/dev/tpmrm0`, with no passwords and the usual handles.
    ///
    /// # Errors
    /// As [`TssTpmBuilder::open`].
    pub fn open() -> Result<Self> {
        Self::builder().open()
    }

    /// Starts from the settings of [`open`](Self::open).
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
    /// Connects to the TPM. No key is read or made yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a handle is none of the owner's persistent ones, two are the same, or the
    /// TCTI is unknown; [`ErrorKind::Credential`] when the TPM cannot be reached.
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

/// The persistent handles that the owner may fill.
const OWNED: std::ops::RangeInclusive<u32> = 0x8100_0000..=0x817f_ffff;
