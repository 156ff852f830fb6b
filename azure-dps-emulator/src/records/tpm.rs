//! The public keys of a TPM, and the hub key that is sealed to it.

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use rsa::rand_core::OsRng;
use serde::{Deserialize, Serialize};

use crate::crypto::base64_text;
use crate::crypto::key::generate_key;
use crate::crypto::tpm_key::StorageKey;
use crate::crypto::tpm_seal;
use crate::json::{Value, json};
use crate::refusal::{INTERNAL, Refusal};

/// The public keys of a TPM.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Keys {
    endorsement: StorageKey,
    root: StorageKey,
}

impl Keys {
    /// Reads the member `tpm` of a registration.
    pub(crate) fn read(given: &Value) -> Result<Self, Refusal> {
        let [endorsement, root] =
            ["endorsementKey", "storageRootKey"].map(|name| read_key("tpm", given, name));
        Ok(Keys { endorsement: endorsement?, root: root? })
    }

    /// Returns whether the endorsement key is this one.
    pub(crate) fn is_endorsed_by(&self, endorsement: &StorageKey) -> bool {
        self.endorsement == *endorsement
    }

    /// Seals a new key and drops it, so that the device cannot sign a token that is accepted.
    pub(crate) fn seal_unknown_key(&self, registration_id: &str) -> Result<String, Refusal> {
        self.seal(&generate_key()?, registration_id)
    }

    /// Seals a key so that only this TPM can use it.
    pub(crate) fn seal(&self, key: &[u8], registration_id: &str) -> Result<String, Refusal> {
        let note = registration_id.as_bytes();
        let blob = tpm_seal::seal(&self.endorsement, &self.root, key, note, &mut OsRng)
            .map_err(|error| Refusal::new(INTERNAL, format!("no key can be sealed: {error}")))?;
        Ok(BASE64_STANDARD.encode(blob))
    }
}

/// The keys that a TPM proved to have, and its hub key.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Proven {
    #[serde(with = "crate::saved::shared")]
    keys: Arc<Keys>,
    hub_key: Option<HubKey>,
}

#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct HubKey {
    #[serde(with = "crate::saved::bytes")]
    key: Vec<u8>,
    /// The key sealed to the TPM, in base64.
    sealed: String,
}

impl Proven {
    pub(crate) fn new(keys: Arc<Keys>) -> Self {
        Proven { keys, hub_key: None }
    }

    /// Sets and seals the key that signs for the device at its hub: the known one, or a new one.
    pub(crate) fn deliver(&mut self, known: Option<&[u8]>, registration_id: &str) -> Result<(), Refusal> {
        let key = known.map_or_else(generate_key, |key| Ok(key.to_vec()))?;
        let sealed = self.keys.seal(&key, registration_id)?;
        self.hub_key = Some(HubKey { key, sealed });
        Ok(())
    }

    pub(crate) fn hub_key(&self) -> Option<&[u8]> {
        self.hub_key.as_ref().map(|delivered| delivered.key.as_slice())
    }

    /// The hub key sealed to the TPM, in base64.
    pub(crate) fn sealed(&self) -> Option<&str> {
        self.hub_key.as_ref().map(|delivered| delivered.sealed.as_str())
    }

    /// The keys as the device presents them.
    pub(crate) fn public_keys(&self) -> Value {
        let Keys { endorsement, root } = &*self.keys;
        json!({"endorsementKey": endorsement.to_base64(), "storageRootKey": root.to_base64()})
    }

    pub(crate) fn is_same_tpm(&self, other: &Self) -> bool {
        self.keys.endorsement == other.keys.endorsement
    }
}

/// Reads a key from the member `tpm` of a registration or of an attestation.
///
/// `path` is the name of the member in a refusal.
pub(crate) fn read_key(path: &str, given: &Value, name: &str) -> Result<StorageKey, Refusal> {
    let invalid = |what: String| Refusal::invalid(format!("{path}.{name} {what}"));
    let text = given[name].as_str().filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| invalid("is missing".into()))?;
    let bytes = base64_text::decode(text).map_err(|why| invalid(format!("is not base64: {why}")))?;
    StorageKey::read(&bytes).map_err(invalid)
}
