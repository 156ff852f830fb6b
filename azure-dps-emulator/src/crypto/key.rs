//! Symmetric keys: generates them, derives device keys from group keys, and signs with them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::refusal::{INTERNAL, Refusal};

/// Makes a key of 32 random bytes.
pub(crate) fn generate_key() -> Result<Vec<u8>, Refusal> {
    let mut key = vec![0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut key)
        .map_err(|_| Refusal::new(INTERNAL, "the system gives no random numbers"))?;
    Ok(key)
}

/// Derives the key of a device from the key of its group.
pub(crate) fn derive(group_key: &[u8], registration_id: &str) -> Vec<u8> {
    hmac(group_key, &[registration_id.as_bytes()])
}

/// A group key, from which many device keys can be derived: the part of the HMAC that depends on the group
/// key alone is computed once.
pub(crate) struct PreparedKey(Option<Hmac<Sha256>>);

impl PreparedKey {
    pub(crate) fn new(group_key: &[u8]) -> Self {
        PreparedKey(mac(group_key, &[]))
    }

    /// The same key as [`derive`] returns.
    pub(crate) fn derive(&self, registration_id: &str) -> Option<[u8; 32]> {
        let mut mac = self.0.clone()?;
        mac.update(registration_id.as_bytes());
        Some(mac.finalize().into_bytes().into())
    }
}

/// HMAC-SHA-256 of the parts, one after the other.
pub(crate) fn hmac(key: &[u8], message: &[&[u8]]) -> Vec<u8> {
    mac(key, message).map(|mac| mac.finalize().into_bytes().to_vec()).unwrap_or_default()
}

pub(crate) fn mac(key: &[u8], message: &[&[u8]]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?;
    message.iter().for_each(|part| mac.update(part));
    Some(mac)
}
