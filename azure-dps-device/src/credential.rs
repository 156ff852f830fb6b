//! Credentials: a symmetric key, a certificate or a TPM, and the tokens made from them.

use std::fmt;
use std::sync::Arc;

use azure_dps_core::{
    CredentialKind, GroupKey, IdScope, RegistrationId, Result, SasToken, SharedKey, UnsignedSas,
};
#[cfg(feature = "tls")]
use azure_dps_core::{Error, ErrorKind, Identity};
use time::OffsetDateTime;

use crate::registration_token;
use crate::tpm::contract::{Slot, Tpm};
use crate::transport::contract::Auth;

/// The credential that proves a device's identity, with the device's registration id. Cloning is cheap.
///
/// ```
/// use azure_dps_device::Credential;
///
/// let key = "YWGfx6psUG2GN+2JfRsJbaVugWxYb8ZAofr1S3X3L6w=".parse()?;
/// let credential = Credential::symmetric_key("sensor-042".parse()?, key);
/// # Ok::<(), azure_dps_device::core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Credential {
    id: RegistrationId,
    secret: Secret,
}

#[derive(Clone)]
enum Secret {
    Key(SharedKey),
    #[cfg(feature = "tls")]
    Certificate(Identity, Names),
    Tpm(Arc<dyn Tpm>),
}

/// Whether the registration id must be a common name of the leaf certificate.
#[cfg(feature = "tls")]
#[derive(Clone, Copy)]
enum Names {
    Compared,
    NotCompared,
}

impl Credential {
    /// A symmetric key: the primary or secondary key of the device's individual enrollment, or a key derived
    /// from an enrollment group's key in advance.
    pub fn symmetric_key(id: RegistrationId, key: SharedKey) -> Self {
        Self { id, secret: Secret::Key(key) }
    }

    /// Derives the device's key from the key of its enrollment group. Real devices hold only the derived key;
    /// this is for simulations and gateways that hold the group's key.
    pub fn from_group(group: &GroupKey, id: RegistrationId) -> Self {
        let key = group.derive(&id);
        Self::symmetric_key(id, key)
    }

    /// A certificate chain and its private key. The registration id is the common name of the leaf.
    ///
    /// ```no_run
    /// use azure_dps_device::Credential;
    /// use azure_dps_device::core::Identity;
    ///
    /// let identity = Identity::from_pem_files("/etc/device/chain.pem", "/etc/device/key.pem")?;
    /// let credential = Credential::x509(identity)?;
    /// # Ok::<(), azure_dps_device::core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Credential`] when the leaf has no common name, or one that is not a valid registration
    /// id.
    #[cfg(feature = "tls")]
    pub fn x509(identity: Identity) -> Result<Self> {
        let id = identity.registration_id()?;
        Ok(Self::x509_as(id, identity))
    }

    /// A certificate chain, its private key, and an explicit registration id: for a leaf with several common
    /// names, or without one.
    ///
    /// If the leaf has common names and the id is not one of them, a registration fails before anything is
    /// sent.
    #[cfg(feature = "tls")]
    pub fn x509_as(id: RegistrationId, identity: Identity) -> Self {
        Self { id, secret: Secret::Certificate(identity, Names::Compared) }
    }

    /// A certificate chain, its private key, and any registration id: only the service decides whether they
    /// match.
    ///
    /// DPS documents that the registration id must be the common name of the leaf. Use this if an instance is
    /// known to accept another one; otherwise [`x509_as`](Self::x509_as) finds the mistake without a
    /// connection.
    #[cfg(feature = "tls")]
    pub fn x509_with_any_name(id: RegistrationId, identity: Identity) -> Self {
        Self { id, secret: Secret::Certificate(identity, Names::NotCompared) }
    }

    /// A TPM whose endorsement key is enrolled under this registration id.
    pub fn tpm(id: RegistrationId, tpm: Arc<dyn Tpm>) -> Self {
        Self { id, secret: Secret::Tpm(tpm) }
    }

    /// A TPM with the registration id that is derived from its endorsement key; see
    /// [`TpmKeys::registration_id`]. This call blocks while it reads the TPM's keys.
    ///
    /// # Errors
    /// As [`Tpm::public_keys`].
    ///
    /// [`TpmKeys::registration_id`]: crate::TpmKeys::registration_id
    pub fn from_tpm(tpm: Arc<dyn Tpm>) -> Result<Self> {
        let id = tpm.public_keys()?.registration_id()?;
        Ok(Self::tpm(id, tpm))
    }

    /// The registration id.
    pub fn registration_id(&self) -> &RegistrationId {
        &self.id
    }

    /// Signs a token for the device at its hub; `None` with a certificate, which needs no token. The hub knows
    /// the key that registered the device; for a TPM the service creates a separate key.
    pub(crate) fn hub_token(
        &self,
        hub: &str,
        device_id: &str,
        expires: OffsetDateTime,
    ) -> Result<Option<SasToken>> {
        if self.kind() == CredentialKind::X509 {
            return Ok(None);
        }
        self.sign(UnsignedSas::for_hub_device(hub, device_id, expires), Slot::Identity).map(Some)
    }

    /// Signs a token for the registration. With a TPM it fails until the TPM has answered a challenge.
    pub(crate) fn registration_token(&self, scope: &IdScope, now: OffsetDateTime) -> Result<SasToken> {
        self.sign(registration_token::unsigned(scope, &self.id, now)?, Slot::Challenge)
    }

    /// Checks what can be checked without the service: the validity and the names of a certificate.
    pub(crate) fn check(&self, now: OffsetDateTime) -> Result<()> {
        match &self.secret {
            #[cfg(feature = "tls")]
            Secret::Certificate(identity, Names::Compared) => identity.check(&self.id, now),
            #[cfg(feature = "tls")]
            Secret::Certificate(identity, Names::NotCompared) => identity.check_validity(now),
            Secret::Key(_) | Secret::Tpm(_) => {
                let _ = now;
                Ok(())
            }
        }
    }

    /// How the connection is authenticated; `None` if each connection needs a token.
    pub(crate) fn auth(&self) -> Option<Auth> {
        match &self.secret {
            Secret::Key(_) => None,
            #[cfg(feature = "tls")]
            Secret::Certificate(identity, _) => Some(Auth::Certificate(identity.clone())),
            Secret::Tpm(tpm) => Some(Auth::Tpm(Arc::clone(tpm))),
        }
    }

    pub(crate) fn as_tpm(&self) -> Option<&Arc<dyn Tpm>> {
        match &self.secret {
            Secret::Tpm(tpm) => Some(tpm),
            _ => None,
        }
    }

    pub(crate) fn kind(&self) -> CredentialKind {
        match self.secret {
            Secret::Key(_) => CredentialKind::SymmetricKey,
            #[cfg(feature = "tls")]
            Secret::Certificate(..) => CredentialKind::X509,
            Secret::Tpm(_) => CredentialKind::Tpm,
        }
    }

    fn sign(&self, unsigned: UnsignedSas, slot: Slot) -> Result<SasToken> {
        match &self.secret {
            Secret::Key(key) => Ok(unsigned.sign(key)),
            #[cfg(feature = "tls")]
            Secret::Certificate(..) => Err(Error::new(
                ErrorKind::Unsupported,
                "a certificate cannot sign tokens: it authenticates the connection itself",
            )),
            Secret::Tpm(tpm) => {
                let signature = tpm.sign(slot, unsigned.message().as_bytes())?;
                Ok(unsigned.with_signature(&signature))
            }
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(_) => f.write_str("SymmetricKey"),
            #[cfg(feature = "tls")]
            Self::Certificate(identity, _) => identity.fmt(f),
            Self::Tpm(_) => f.write_str("Tpm"),
        }
    }
}
