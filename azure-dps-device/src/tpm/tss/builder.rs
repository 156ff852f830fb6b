//! The options of [`TssTpm`](crate::TssTpm): the way to the TPM, passwords and handles.

use std::fmt;
use std::path::Path;

use azure_dps_core::Sensitive;

use super::keys::{ENDORSEMENT_KEY, STORAGE_ROOT_KEY};

/// How to reach a TPM and what to use in it; [`TssTpm::builder`].
#[derive(Clone)]
pub struct TssTpmBuilder {
    pub(super) tcti: String,
    pub(super) owner_password: Sensitive<Vec<u8>>,
    pub(super) endorsement_password: Sensitive<Vec<u8>>,
    pub(super) endorsement_key: u32,
    pub(super) storage_root_key: u32,
    pub(super) identity_key: u32,
    pub(super) keep_open: bool,
}

impl TssTpmBuilder {
    pub(super) fn new() -> Self {
        Self {
            tcti: format!("device:{RESOURCE_MANAGER}"),
            owner_password: Vec::new().into(),
            endorsement_password: Vec::new().into(),
            endorsement_key: ENDORSEMENT_KEY.handle,
            storage_root_key: STORAGE_ROOT_KEY.handle,
            identity_key: IDENTITY_KEY,
            keep_open: true,
        }
    }

    /// Uses another device node. `/dev/tpm0` serves one process at a time and does not tidy up after one that
    /// was killed; prefer one with a resource manager.
    #[must_use]
    pub fn device(self, node: impl AsRef<Path>) -> Self {
        self.tcti(format!("device:{}", node.as_ref().display()))
    }

    /// Uses what a TCTI of libtss2 leads to: `device:/dev/tpmrm0`, `swtpm:host=127.0.0.1,port=2321`,
    /// `tabrmd`.
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

    /// The persistent handle of the device's identity key; `0x81000100` unless set. Two programs that
    /// register with one TPM need two.
    #[must_use]
    pub fn identity_key(mut self, handle: u32) -> Self {
        self.identity_key = handle;
        self
    }

    /// Whether the connection stays open for as long as the [`TssTpm`] lives; true unless set. It is made
    /// anew when the TPM does not answer on it any more. Without it each call has a connection of its own,
    /// for what serves one program at a time: `/dev/tpm0`, the reference simulator.
    #[must_use]
    pub fn keep_open(mut self, keep_open: bool) -> Self {
        self.keep_open = keep_open;
        self
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
