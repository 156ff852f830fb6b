//! A TPM in memory, for devices of the SDK.

use std::sync::{Arc, LazyLock, Mutex};

use azure_dps_core::{Error, ErrorKind, Result};
use azure_dps_device::{Slot, Tpm, TpmKeys};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::soft_tpm::SoftTpm;

/// A TPM in memory.
#[derive(Debug)]
pub struct Chip {
    soft: Arc<SoftTpm>,
    held: Mutex<[Option<Vec<u8>>; 2]>,
}

impl Chip {
    pub fn new() -> Self {
        // Its keys take long to make.
        static SOFT: LazyLock<Arc<SoftTpm>> = LazyLock::new(|| Arc::new(SoftTpm::new()));
        Self { soft: Arc::clone(&SOFT), held: Mutex::default() }
    }
}

impl Default for Chip {
    fn default() -> Self {
        Self::new()
    }
}

impl Tpm for Chip {
    fn public_keys(&self) -> Result<TpmKeys> {
        let (endorsement_key, storage_root_key) = (self.soft.endorsement_key(), self.soft.storage_root_key());
        Ok(TpmKeys { endorsement_key, storage_root_key })
    }

    fn import(&self, blob: &[u8], slot: Slot) -> Result<()> {
        let key = self.soft.open(blob).map_err(|why| Error::new(ErrorKind::Credential, why))?;
        self.held.lock().unwrap()[slot as usize] = Some(key);
        Ok(())
    }

    fn sign(&self, slot: Slot, message: &[u8]) -> Result<Vec<u8>> {
        let held = self.held.lock().unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(held[slot as usize].as_ref().unwrap()).unwrap();
        mac.update(message);
        Ok(mac.finalize().into_bytes().to_vec())
    }
}
