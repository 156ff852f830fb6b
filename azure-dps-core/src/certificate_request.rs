//! A certificate signing request (CSR) for a registration, and the private key that belongs to it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::sign::SigningKey;
use zeroize::Zeroizing;

use self::key::RequestKey;
use self::signed::Signed;
use crate::error::Result;
use crate::id::RegistrationId;
use crate::private_file;

mod key;
#[cfg(feature = "csr")]
mod make;
mod signed;

#[cfg(feature = "csr")]
pub use make::EcCurve;

/// A certificate signing request (CSR), and the private key of the certificate that it asks for.
///
/// The device sends the request when it registers, and the service issues a certificate with the device's
/// assignment. The key stays here: it is never sent, and `Debug` does not show it.
///
/// | constructor | key |
/// | --- | --- |
/// | `generate`, `generate_on` (feature `csr`) | a new EC key on P-384 (default) or P-256 |
/// | `from_key_pem`, `from_key_file`, `from_key_der` (feature `csr`) | a key that you have, RSA or EC |
/// | `from_signing_key` (feature `csr`) | a key that cannot be exported, such as one in an HSM |
/// | [`from_pem`](Self::from_pem), [`from_der`](Self::from_der) | none: another program made the request |
///
/// The subject of a request has exactly one common name, which is the registration id, character for
/// character. Each constructor checks the request: its form, its signature, its common name, and its size of
/// at most 8 KB as base64. Cloning is cheap.
///
/// ```
/// # #[cfg(feature = "csr")] {
/// use azure_dps_core::CertificateRequest;
///
/// let request = CertificateRequest::generate(&"sensor-042".parse()?)?;
/// assert_eq!(request.common_name(), "sensor-042");
/// # }
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
///
/// Source: DPS device REST API 2026-11-01, DeviceRegistration; Azure IoT, "Certificate issuance".
#[derive(Clone)]
#[doc(alias = "CSR")]
pub struct CertificateRequest {
    signed: Arc<Signed>,
    key: Option<RequestKey>,
}

impl CertificateRequest {
    /// Reads a request that another program made, in DER (PKCS#10). It has no key here.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the bytes are not a request, the signature is
    /// wrong or cannot be checked, the subject does not have exactly one common name, or the request is too
    /// large. Signatures of RSA (2048 bits and more), EC (P-256, P-384) and Ed25519 keys can be checked.
    pub fn from_der(der: impl AsRef<[u8]>) -> Result<Self> {
        Ok(Self { signed: Arc::new(Signed::read(der.as_ref())?), key: None })
    }

    /// Reads a request that another program made from PEM text (`CERTIFICATE REQUEST`). It has no key here,
    /// even if the text contains one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the text cannot be read as PEM or does not have
    /// exactly one request, and as for [`from_der`](Self::from_der).
    pub fn from_pem(pem: impl AsRef<[u8]>) -> Result<Self> {
        Ok(Self { signed: Arc::new(Signed::read_pem(pem.as_ref())?), key: None })
    }

    /// Reads a request in the form in which it is sent: base64 of its DER. It has no key here.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the text is not base64, and as for
    /// [`from_der`](Self::from_der).
    pub fn from_base64(text: &str) -> Result<Self> {
        Ok(Self { signed: Arc::new(Signed::read_base64(text)?), key: None })
    }

    /// The common name of the subject, which has to be the registration id.
    pub fn common_name(&self) -> &str {
        &self.signed.common_name
    }

    /// The request in DER (PKCS#10).
    pub fn der(&self) -> &[u8] {
        &self.signed.der
    }

    /// The request as it is sent: base64 of its DER, without line breaks.
    pub fn to_base64(&self) -> &str {
        &self.signed.base64
    }

    /// The public key that the request asks to certify, as DER of a SubjectPublicKeyInfo.
    pub fn public_key(&self) -> &[u8] {
        &self.signed.public_key
    }

    /// Whether the private key is here.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// The same request without its private key.
    #[must_use]
    pub fn without_key(&self) -> Self {
        Self { signed: Arc::clone(&self.signed), key: None }
    }

    /// Checks, before anything is sent, that the common name is the registration id, character for character.
    /// The device client does this before each registration.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when it is another one.
    pub fn check(&self, registration_id: &RegistrationId) -> Result<()> {
        self.signed.check(registration_id)
    }

    /// The private key as PEM text. It is a secret. `None` if there is no key, or if it cannot be exported.
    pub fn key_pem(&self) -> Option<Zeroizing<String>> {
        self.key.as_ref()?.to_pem()
    }

    /// Writes the private key to a PEM file that only the current user can read (mode 0600 on Unix; on other
    /// systems the folder decides). `from_key_file` and [`Identity::from_pem_files`](crate::Identity) read
    /// it.
    ///
    /// The file appears complete or not at all: the key is written beside it, and then renamed. A file of the
    /// same name is replaced. This call blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) when there is no key or it cannot be exported,
    /// or when the file cannot be written; the message names it.
    pub fn write_key(&self, file: impl AsRef<Path>) -> Result<()> {
        let pem = self.exportable_key()?;
        private_file::write(file.as_ref(), pem.as_bytes())
    }

    pub(crate) fn exportable_key(&self) -> Result<Zeroizing<String>> {
        self.signing_key()?;
        self.key_pem().ok_or_else(key::sealed)
    }

    /// The key that signs, for the identity.
    pub(crate) fn signing_key(&self) -> Result<Arc<dyn SigningKey>> {
        self.key.as_ref().map(RequestKey::signing_key).ok_or_else(key::missing)
    }
}

#[cfg(feature = "csr")]
impl CertificateRequest {
    /// Makes a request with a new EC key on P-384. Feature `csr`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the id is longer than 64 characters, which a
    /// common name cannot be. [`ErrorKind::Credential`](crate::ErrorKind::Credential) when the system has no
    /// random numbers.
    pub fn generate(id: &RegistrationId) -> Result<Self> {
        Self::generate_on(id, EcCurve::default())
    }

    /// Makes a request with a new EC key on this curve. Feature `csr`.
    ///
    /// # Errors
    /// As [`generate`](Self::generate).
    pub fn generate_on(id: &RegistrationId, curve: EcCurve) -> Result<Self> {
        Self::sign(id, make::ready(make::new_key(curve)?)?)
    }

    /// Makes a request with the first private key in a PEM text: PKCS#8 (`PRIVATE KEY`), PKCS#1
    /// (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`); RSA of 2048 to 4096 bits, or EC on P-384 or P-256.
    /// Feature `csr`.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) when the text has no private key, or one that
    /// cannot be used; the message names the kind of key and the remedy.
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when the id is longer than 64 characters.
    pub fn from_key_pem(id: &RegistrationId, pem: impl AsRef<[u8]>) -> Result<Self> {
        Self::sign(id, make::ready(make::key_in_pem(pem.as_ref())?)?)
    }

    /// Makes a request with the key in a PEM file, for example one that [`write_key`](Self::write_key) wrote.
    /// Feature `csr`. This call blocks.
    ///
    /// # Errors
    /// As [`from_key_pem`](Self::from_key_pem), and [`ErrorKind::Credential`](crate::ErrorKind::Credential)
    /// when the file cannot be read; the message names it.
    pub fn from_key_file(id: &RegistrationId, file: impl AsRef<Path>) -> Result<Self> {
        Self::from_key_pem(id, &*private_file::read(file.as_ref())?)
    }

    /// Makes a request with a private key in DER: PKCS#8, PKCS#1 or SEC1. Feature `csr`.
    ///
    /// # Errors
    /// As [`from_key_pem`](Self::from_key_pem).
    pub fn from_key_der(id: &RegistrationId, der: &[u8]) -> Result<Self> {
        Self::sign(id, make::ready(make::key_in_der(der)?)?)
    }

    /// Makes a request with a key that cannot be exported, such as one in a PKCS#11 token or another HSM: an
    /// object that signs, as for [`Identity::from_signing_key`](crate::Identity::from_signing_key). Feature
    /// `csr`. The key signs once, on this thread.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) when the key does not return its
    /// [`SigningKey::public_key`], has no signature scheme that a request can have, cannot sign, or signs
    /// with another key than its public one. [`ErrorKind::Config`](crate::ErrorKind::Config) when the id is
    /// longer than 64 characters.
    pub fn from_signing_key(id: &RegistrationId, key: Arc<dyn SigningKey>) -> Result<Self> {
        Self::sign(id, RequestKey::new(key, None))
    }

    fn sign(id: &RegistrationId, key: RequestKey) -> Result<Self> {
        Ok(Self { signed: Arc::new(make::sign(id, &key)?), key: Some(key) })
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest")
            .field("common_name", &self.common_name())
            .field("has_key", &self.has_key())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(feature = "csr")]
mod tests;
