//! The trait of a TPM as the provisioning service uses it, and the types in its methods.

use std::fmt;

use azure_dps_core::{RegistrationId, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

/// A trusted platform module (TPM 2.0), as DPS uses it.
///
/// With the feature `tpm`, the type `TssTpm` uses the TPM of a Linux machine through libtss2. Implement this
/// trait for other ways to a TPM: your driver, a daemon that owns the TPM, the TPM Base Services of Windows.
/// Calls may block: the client makes them on the blocking pool and lets each run to its end, even after its
/// future is dropped. Calls therefore come from several threads, and a call of an abandoned registration may
/// still run when the next registration starts.
///
/// A registration calls [`public_keys`](Self::public_keys) (with AMQP again for each connection), then
/// [`answer`](Self::answer), and at its end [`import`](Self::import) with [`Slot::Identity`]. If it takes
/// close to an hour, it also calls [`sign`](Self::sign) with [`Slot::Challenge`]. After the registration,
/// [`HubAccess::sign_in`](crate::HubAccess::sign_in) calls `sign` with [`Slot::Identity`], also in later runs
/// of the program.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::{Arc, Mutex};
///
/// use azure_dps_device::core::{Error, ErrorKind, Result, SharedKey};
/// use azure_dps_device::{ActivationBlob, Credential, Slot, Tpm, TpmKeys};
///
/// /// The connection to the daemon that owns the TPM. This one keeps the keys itself; a real one must not.
/// #[derive(Debug, Default)]
/// struct Daemon {
///     keys: Mutex<HashMap<Slot, SharedKey>>,
/// }
///
/// impl Daemon {
///     // A real TPM activates `credential`, and imports `duplicate` with the key that this returns.
///     fn unwrap(&self, blob: &ActivationBlob<'_>) -> Result<SharedKey> {
///         String::from_utf8_lossy(blob.duplicate).parse()
///     }
/// }
///
/// impl Tpm for Daemon {
///     fn public_keys(&self) -> Result<TpmKeys> {
///         Ok(TpmKeys { endorsement_key: vec![0; 316], storage_root_key: vec![0; 284] })
///     }
///
///     fn import(&self, blob: &[u8], slot: Slot) -> Result<()> {
///         let key = self.unwrap(&ActivationBlob::parse(blob)?)?;
///         self.keys.lock().unwrap().insert(slot, key);
///         Ok(())
///     }
///
///     fn sign(&self, slot: Slot, message: &[u8]) -> Result<Vec<u8>> {
///         match self.keys.lock().unwrap().get(&slot) {
///             Some(key) => Ok(key.sign(message).to_vec()),
///             None => Err(Error::new(ErrorKind::Credential, "the TPM does not hold this key")),
///         }
///     }
/// }
///
/// let credential = Credential::tpm("gateway-7".parse()?, Arc::new(Daemon::default()));
/// # let daemon = Daemon::default();
/// # let key = b"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// # let blob = [&[0, 1, 0, 0, 1, 0, 0, 44][..], key, &[0, 1, 0, 0, 1, 0, 0, 0]].concat();
/// # assert!(daemon.sign(Slot::Identity, b"text").is_err());
/// # daemon.import(&blob, Slot::Identity)?;
/// # assert_eq!(daemon.sign(Slot::Identity, b"text")?.len(), 32);
/// # Ok::<(), Error>(())
/// ```
///
/// Source: DPS TPM attestation; TPM 2.0 library part 3, `TPM2_ActivateCredential`, `TPM2_Import` and
/// `TPM2_HMAC`.
pub trait Tpm: fmt::Debug + Send + Sync {
    /// Returns the public parts of the endorsement key and the storage root key. They must be the same in
    /// each call, because the service encrypts for the keys that it has seen first.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](azure_dps_core::ErrorKind::Credential) when the TPM cannot be reached or
    /// does not hold these keys.
    fn public_keys(&self) -> Result<TpmKeys>;

    /// Imports the key in `blob` into the TPM; [`ActivationBlob::parse`](crate::ActivationBlob::parse) splits
    /// the blob. The key for [`Slot::Challenge`] replaces the previous one and need not outlive this value.
    /// The TPM must keep the key for [`Slot::Identity`] across power cycles; the previous key must stay
    /// usable until the new one has been tested.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](azure_dps_core::ErrorKind::Credential) when the blob was made for another
    /// TPM or was modified. The keys in both slots are then unchanged, except that the one for
    /// [`Slot::Challenge`] may be gone.
    fn import(&self, blob: &[u8], slot: Slot) -> Result<()>;

    /// Answers the service's challenge: imports `blob` into [`Slot::Challenge`] and signs `message` with it.
    /// The default calls `import` and `sign`; implement it so that no other call can come between them.
    ///
    /// # Errors
    /// As [`import`](Self::import) and [`sign`](Self::sign).
    fn answer(&self, blob: &[u8], message: &[u8]) -> Result<Vec<u8>> {
        self.import(blob, Slot::Challenge)?;
        self.sign(Slot::Challenge, message)
    }

    /// Returns the HMAC-SHA256 of `message` with the key in `slot`: 32 bytes. A message is the text of a
    /// token, shorter than 1 KiB.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](azure_dps_core::ErrorKind::Credential) when the slot is empty or the TPM
    /// cannot be reached.
    fn sign(&self, slot: Slot, message: &[u8]) -> Result<Vec<u8>>;
}

/// A key of a [`Tpm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The key of the service's challenge, for one registration.
    Challenge,
    /// The key that the device uses at its hub.
    Identity,
}

/// The public keys of a [`Tpm`], each as the bytes of a `TPM2B_PUBLIC`. `Debug` does not show them.
#[derive(Clone, PartialEq, Eq)]
pub struct TpmKeys {
    /// The endorsement key, which the enrollment contains.
    pub endorsement_key: Vec<u8>,
    /// The storage root key, for which the service encrypts its keys.
    pub storage_root_key: Vec<u8>,
}

impl TpmKeys {
    /// Returns the endorsement key in base64, as an enrollment contains it. It identifies the device: do not
    /// log it.
    pub fn endorsement_key_base64(&self) -> String {
        BASE64.encode(&self.endorsement_key)
    }

    /// Returns the registration id that the official clients and tools use by default for a TPM: the SHA-256
    /// of the endorsement key in lower-case base32 without padding, 52 characters.
    ///
    /// ```
    /// use azure_dps_device::TpmKeys;
    ///
    /// let keys = TpmKeys { endorsement_key: b"abc".to_vec(), storage_root_key: vec![] };
    /// let id = keys.registration_id()?;
    /// assert_eq!(id.as_str(), "xj4bnp4pahh6uqkbidpf3lrceoyagyndsylxvhfucd7wd4qacwwq");
    /// # Ok::<(), azure_dps_device::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// Never fails in practice: the result is always a valid registration id.
    pub fn registration_id(&self) -> Result<RegistrationId> {
        RegistrationId::new(base32(&Sha256::digest(&self.endorsement_key)))
    }
}

impl fmt::Debug for TpmKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TpmKeys([redacted])")
    }
}

/// RFC 4648 in lower case, without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(5) {
        let bits = (0..5).fold(0_u64, |bits, i| bits << 8 | u64::from(chunk.get(i).copied().unwrap_or(0)));
        let digits = (chunk.len() * 8).div_ceil(5);
        text.extend((0..digits).map(|i| {
            let digit = (bits >> (35 - 5 * i)) as u8 & 31;
            char::from(if digit < 26 { b'a' + digit } else { b'2' + digit - 26 })
        }));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_that_of_the_standard() {
        let vectors = ["", "my", "mzxq", "mzxw6", "mzxw6yq", "mzxw6ytb", "mzxw6ytboi"];
        for (length, text) in vectors.into_iter().enumerate() {
            assert_eq!(base32(&b"foobar"[..length]), text);
        }
    }

    #[test]
    fn the_default_registration_id_matches_the_official_clients() {
        // Observed with the Node client and in a recorded registration of the live service.
        let endorsement_key = BASE64.decode(OBSERVED_KEY).unwrap();
        let keys = TpmKeys { endorsement_key, storage_root_key: vec![] };
        let id = keys.registration_id().unwrap();
        assert_eq!(id.as_str(), "6rek5qncnygnkzflohxz4u6zlfly6ktm4klsc7xrbgvesqyllnfa");
        assert_eq!(keys.endorsement_key_base64(), OBSERVED_KEY);
    }

    #[test]
    fn keys_do_not_show() {
        let keys = TpmKeys { endorsement_key: vec![1], storage_root_key: vec![2] };
        assert_eq!(format!("{keys:?}"), "TpmKeys([redacted])");
    }

    const OBSERVED_KEY: &str = "\
        AToAAQALAAMAsgAgg3GXZ0SEs/gakMyNRqXXJP1S124GUgtk8qHaGzMUaaoABgCAAEMAEAgAAAAAAAEAopqgkUBwtpr1sCgV\
        JcEZxsJtpmtOAt9K7SjGFe4hsp6DJ/dd2E5UFzBC+Jp8Fzqf5ukRBkqrAgIuAvHRsruIedk1uarJSLhbDpFLHxFd7iDNcYfr\
        vdgVNT2T9zrvkh2y04WuRQg2D5qf0tZF82jeTjR/YJK7uWhaRwWOwZ3b1XD9l6wFOrwK/Ic0PEsjneFXQzL0n9uKyuHmHNz+\
        wHppmOiMAabvnXXEin9ou7/iowY/+YhFm3j7atsVvxMI5HEM3Mq+W4imUuzPxVX7fZH+oWPKP5ofpWBTf+MdttGby1AjGnv8\
        JE69JriOYoZG2/4qbsfv9M7a7NFrBlaW7Rt36w==";
}
