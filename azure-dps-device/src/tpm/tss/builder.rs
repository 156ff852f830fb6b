//! The options of [`TssTpm`](crate::TssTpm): how to reach the TPM, passwords and handles.

use std::fmt;
use std::path::Path;

use azure_dps_core::Sensitive;

use super::keys::{ENDORSEMENT_KEY, STORAGE_ROOT_KEY};

/// How to reach a TPM, and which passwords and handles to use; see
/// [`TssTpm::builder`](crate::TssTpm::builder).
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

    /// Uses another device node. Default `/dev/tpmrm0`. `/dev/tpm0` serves one process at a time and does not
    /// remove the objects of a killed process; prefer a node with a resource manager.
    #[must_use]
    pub fn device(self, node: impl AsRef<Path>) -> Self {
        self.tcti(format!("device:{}", node.as_ref().display()))
    }

    /// Uses the TPM behind a TCTI of libtss2: `device:/dev/tpmrm0` (the default),
    /// `swtpm:host=127.0.0.1,port=2321`, `tabrmd`.
    #[must_use]
    pub fn tcti(mut self, name: impl Into<String>) -> Self {
        self.tcti = name.into();
        self
    }

    /// Sets the password of the owner hierarchy, which persists keys. Default: empty.
    #[must_use]
    pub fn owner_password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.owner_password = password.into().into();
        self
    }

    /// Sets the password of the endorsement hierarchy, which authorizes the use of the endorsement key.
    /// Default: empty.
    #[must_use]
    pub fn endorsement_password(mut self, password: impl Into<Vec<u8>>) -> Self {
        self.endorsement_password = password.into().into();
        self
    }

    /// Sets the persistent handle of the endorsement key. Default `0x81010001`.
    #[must_use]
    pub fn endorsement_key(mut self, handle: u32) -> Self {
        self.endorsement_key = handle;
        self
    }

    /// Sets the persistent handle of the storage root key. Default `0x81000001`.
    #[must_use]
    pub fn storage_root_key(mut self, handle: u32) -> Self {
        self.storage_root_key = handle;
        self
    }

    /// Sets the persistent handle of the device's identity key. Default `0x81000100`. Two programs that
    /// register with one TPM need different handles.
    #[must_use]
    pub fn identity_key(mut self, handle: u32) -> Self {
        self.identity_key = handle;
        self
    }

    /// Sets whether the connection stays open as long as the [`TssTpm`](crate::TssTpm) lives. Default true.
    /// It is reopened when the TPM does not answer. With false, each call opens and closes a connection: for
    /// a TPM that serves one program at a time, as `/dev/tpm0` and the reference simulator do.
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
/// The handle that the official clients use.
const IDENTITY_KEY: u32 = 0x8100_0100;
