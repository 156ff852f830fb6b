//! The TPM of this machine, through libtss2: its options, and the trait. Which commands the TPM gets is said in `chip`.
//!
//! One connection is kept open. Each call leaves nothing in the TPM but persistent keys: what it loads is removed at its
//! end, also after an error.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use azure_dps_core::{Error, ErrorKind, Result, Sensitive};

use crate::{ActivationBlob, Slot, Tpm, TpmKeys};

mod chip;
mod fault;
mod keys;

use chip::{Chip, Imported};
use keys::{ENDORSEMENT_KEY, STORAGE_ROOT_KEY};

/// The TPM 2.0 of a Linux machine, reached through libtss2 (feature `tpm`).
///
/// The endorsement key and the storage root key are taken as they are found at their handles; what is there is never
/// overwritten. Missing keys are made from the standard templates and persisted. The device's identity key is persisted
/// when a registration ends, so that [`Credential::hub_token`] works in later runs without registering again.
///
/// The process needs read and write access to the device node, usually through the group `tss`. For development,
/// [`tcti`](TssTpmBuilder::tcti) leads to a simulator.
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
    /// Locked while the TPM is in use, so that calls from several threads take turns: a TPM without a resource manager has
    /// room for three objects.
    state: Mutex<State>,
}

struct State {
    chip: Option<Chip>,
    /// The key of the running challenge, wrapped by the storage root key.
    challenge: Option<Imported>,
}

/// How to reach a TPM and what to use in it; [`TssTpm::builder`].
#[derive(Clone)]
pub struct TssTpmBuilder {
    tcti: String,
    owner_password: Sensitive<Vec<u8>>,
    endorsement_password: Sensitive<Vec<u8>>,
    endorsement_key: u32,
    storage_root_key: u32,
    identity_key: u32,
    keep_open: bool,
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
        TssTpmBuilder {
            tcti: format!("device:{RESOURCE_MANAGER}"),
            owner_password: Vec::new().into(),
            endorsement_password: Vec::new().into(),
            endorsement_key: ENDORSEMENT_KEY.handle,
            storage_root_key: STORAGE_ROOT_KEY.handle,
            identity_key: IDENTITY_KEY,
            keep_open: true,
        }
    }

    fn with_chip<T>(&self, work: impl FnOnce(&mut Chip, &mut Option<Imported>) -> Result<T>) -> Result<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chip = match state.chip.take().and_then(Chip::still_there) {
            Some(chip) => chip,
            None => Chip::connect(&self.options)?,
        };
        let outcome = work(&mut chip, &mut state.challenge);
        state.chip = chip.tidy().filter(|_| self.options.keep_open);
        outcome
    }
}

impl TssTpmBuilder {
    /// Uses another device node. `/dev/tpm0` serves one process at a time and does not tidy up after one that was
    /// killed; prefer one with a resource manager.
    #[must_use]
    pub fn device(self, node: impl AsRef<Path>) -> Self {
        self.tcti(format!("device:{}", node.as_ref().display()))
    }

    /// Uses what a TCTI of libtss2 leads to: `device:/dev/tpmrm0`, `swtpm:host=127.0.0.1,port=2321`, `tabrmd`.
    #[must_use]
    pub fn tcti(mut self, name: impl Into<String>) -> Self {
        self.tcti = name.into();
        self
    }

    /// The password of the owner hierarchy, which persists keys. Empty unless set.
    #[must_use]
    pub fn owner_password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.owner_password = password.into().into();
        self
    }

    /// The password of the endorsement hierarchy, which lets the endorsement key be used. Empty unless set.
    #[must_use]
    pub fn endorsement_password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.endorsement_password = password.into().into();
        self
    }

    /// The persistent handle of the endorsement key; `0x81010001` unless set.
    #[must_use]
    pub fn endorsement_key(mut self, handle: u32) -> Self {
        self.endorsement_key = handle;
        self
    }

    /// The persistent handle of the storage root key; `0x81000001` unless set.
    #[must_use]
    pub fn storage_root_key(mut self, handle: u32) -> Self {
        self.storage_root_key = handle;
        self
    }

    /// The persistent handle of the device's identity key; `0x81000100` unless set. Two programs that register with one
    /// TPM need two.
    #[must_use]
    pub fn identity_key(mut self, handle: u32) -> Self {
        self.identity_key = handle;
        self
    }

    /// Whether the connection stays open for as long as the [`TssTpm`] lives; true unless set. It is made anew when the TPM
    /// does not answer on it any more. Without it each call has a connection of its own, for what serves one program at a
    /// time: `/dev/tpm0`, the reference simulator.
    #[must_use]
    pub fn keep_open(mut self, keep_open: bool) -> Self {
        self.keep_open = keep_open;
        self
    }

    /// Connects to the TPM. No key is read or made yet.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a handle is none of the owner's persistent ones, two are the same, or the TCTI is
    /// unknown; [`ErrorKind::Credential`] when the TPM cannot be reached.
    pub fn open(self) -> Result<TssTpm> {
        let handles = [self.endorsement_key, self.storage_root_key, self.identity_key];
        for (i, handle) in handles.iter().enumerate() {
            if !OWNED.contains(handle) || handles.iter().skip(i + 1).any(|other| other == handle) {
                let why = "the three keys need different handles from 0x81000000 to 0x817fffff";
                return Err(Error::new(ErrorKind::Config, format!("{handle:#x} cannot be used: {why}")));
            }
        }
        let chip = Chip::connect(&self)?;
        let chip = self.keep_open.then_some(chip);
        Ok(TssTpm { options: self, state: Mutex::new(State { chip, challenge: None }) })
    }
}

impl Tpm for TssTpm {
    fn public_keys(&self) -> Result<TpmKeys> {
        self.with_chip(|chip, _| {
            Ok(TpmKeys {
                endorsement_key: chip.endorsement_key()?.public,
                storage_root_key: chip.storage_root_key()?.public,
            })
        })
    }

    fn import(&self, blob: &[u8], slot: Slot) -> Result<()> {
        let blob = ActivationBlob::parse(blob)?;
        self.with_chip(|chip, challenge| {
            *challenge = None;
            let key = chip.import(&blob)?;
            match slot {
                Slot::Challenge => *challenge = Some(key),
                Slot::Identity => chip.install(&key)?,
            }
            Ok(())
        })
    }

    fn answer(&self, blob: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        let blob = ActivationBlob::parse(blob)?;
        self.with_chip(|chip, challenge| {
            *challenge = None;
            let key = challenge.insert(chip.import(&blob)?);
            chip.sign_with(key, message)
        })
    }

    fn sign(&self, slot: Slot, message: &[u8]) -> Result<Vec<u8>> {
        self.with_chip(|chip, challenge| match (slot, challenge) {
            (Slot::Identity, _) => chip.sign(message),
            (Slot::Challenge, Some(key)) => chip.sign_with(key, message),
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

impl fmt::Debug for TssTpmBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TssTpmBuilder").field("tcti", &self.tcti).finish_non_exhaustive()
    }
}

const RESOURCE_MANAGER: &str = "/dev/tpmrm0";
/// Where the official clients keep it too.
const IDENTITY_KEY: u32 = 0x8100_0100;
/// The persistent handles that the owner may fill.
const OWNED: std::ops::RangeInclusive<u32> = 0x8100_0000..=0x817f_ffff;
