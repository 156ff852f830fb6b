//! The X.509 identity of a device: a certificate chain and its private key, checked before anything is sent.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::certificate::{CLOCK_SKEW, describe, moment};
use crate::der;
use crate::error::{Error, Result};
use crate::error_kind::CredentialKind;
use crate::id::RegistrationId;
use crate::models::attestation::x509::X509CertificateInfo;
use crate::{file_name, private_file};

mod chain;
pub(crate) mod key;
pub(crate) mod pem;
mod refusal;

use chain::Chain;
use key::Key;
use refusal::refuse;

/// The X.509 identity of a device: a certificate chain and its private key.
///
/// Give the device's certificate (the leaf) and all intermediates, in any order; the root is optional. The
/// leaf is the certificate of the private key; each further certificate has to be the issuer of the one
/// before. The device sends the complete chain, because the service compares a group's enrollment with every
/// certificate in it and does not fetch missing ones. For an individual enrollment the leaf alone is enough;
/// it may be self-signed and of version 1.
///
/// Keys may be RSA (2048 to 4096 bits) or EC (P-256, P-384). Ed25519 keys load too, but whether DPS accepts
/// them is not documented. Cloning is cheap. `Debug` shows subject and validity.
///
/// ```no_run
/// use azure_dps_core::{Endpoint, Identity};
///
/// let identity = Identity::from_pem_files("/etc/device/chain.pem", "/etc/device/key.pem")?;
/// println!("{} until {}", identity.info().subject_name, identity.info().not_after_utc);
/// let tls = Endpoint::global().client_config_with(&identity)?;
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
///
/// Source: DPS concepts, "X.509 certificate attestation".
#[derive(Clone)]
#[doc(alias = "SecurityProviderX509")]
pub struct Identity(Arc<Inner>);

struct Inner {
    leaf: X509CertificateInfo,
    /// In the order of the certificate.
    common_names: Vec<String>,
    issuers: Vec<X509CertificateInfo>,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Parses chain and key from PEM text; both may be the same text.
    ///
    /// Certificates may have the label `CERTIFICATE`, `X509 CERTIFICATE` or `TRUSTED CERTIFICATE`. The key
    /// may be PKCS#8 (`PRIVATE KEY`), PKCS#1 (`RSA PRIVATE KEY`) or SEC1 (`EC PRIVATE KEY`); an EC key
    /// without its public key takes it from the certificate. Byte order marks, indentation, any line ending,
    /// and blocks without a line break between them are accepted. Parameters, public keys, requests and text
    /// between blocks are skipped. Every other block, and a certificate or key that lost its BEGIN and END
    /// lines, is an error, so that a chain is never shorter than its file.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) when a text has no certificate or no private
    /// key, a block cannot be read (the message names it and its line), the key is encrypted or belongs to
    /// another certificate, or a certificate does not link to the chain.
    pub fn from_pem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        Self::assemble(&pem::certificates(chain.as_ref())?, pem::keys(key.as_ref())?)
    }

    /// Reads chain and key from PEM files; both may be the same file. The files are read once, here.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) as for [`from_pem`](Self::from_pem), and when
    /// a file cannot be read; the message names the file.
    pub fn from_pem_files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        let (chain, key) = (chain.as_ref(), key.as_ref());
        let certificates =
            pem::certificates(&read(chain)?).map_err(|why| at(&file_name::shown(chain), &why))?;
        let keys = pem::keys(&read(key)?).map_err(|why| at(&file_name::shown(key), &why))?;
        let both = format!("{} with the key {}", file_name::shown(chain), file_name::shown(key));
        Self::assemble(&certificates, keys).map_err(|why| at(&both, &why))
    }

    /// Makes an identity from certificates and a key in DER; the key as PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) as for [`from_pem`](Self::from_pem).
    pub fn from_der(chain: &[impl AsRef<[u8]>], key: &[u8]) -> Result<Self> {
        let key = PrivateKeyDer::try_from(key).map_err(|_| {
            refuse(
                "the private key is not PKCS#8, PKCS#1 or SEC1 in DER, or it is encrypted: convert it with \
                 `openssl pkey -in key.der -inform DER -outform DER -out plain.der`",
            )
        })?;
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_ref().to_vec())).collect();
        Self::assemble(&chain, vec![Key::read(&key)?])
    }

    /// Makes an identity with a key that cannot be exported, such as one in a PKCS#11 token or another HSM:
    /// an object that signs.
    ///
    /// Each part of `chain` is one certificate in DER (its length fits the part exactly), or PEM text with any
    /// number. If the key implements
    /// [`SigningKey::public_key`], it is compared with the certificates. Otherwise the first certificate is
    /// the leaf, and a wrong key is only detected when the server refuses the handshake.
    ///
    /// The key signs once for each full TLS handshake, on the thread that runs the handshake. On a
    /// multi-threaded tokio runtime wrap a slow signature in `tokio::task::block_in_place`.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) as for [`from_pem`](Self::from_pem).
    ///
    /// # Examples
    /// ```
    /// use std::sync::Arc;
    ///
    /// use azure_dps_core::rustls::pki_types::SubjectPublicKeyInfoDer;
    /// use azure_dps_core::rustls::sign::{Signer, SigningKey};
    /// use azure_dps_core::rustls::{self, SignatureAlgorithm, SignatureScheme};
    /// use azure_dps_core::{Identity, Result};
    ///
    /// /// An EC P-256 key in a token. `Token` represents the session of a PKCS#11 library.
    /// #[derive(Clone, Debug)]
    /// struct TokenKey {
    ///     token: Arc<Token>,
    ///     public_key: Vec<u8>, // DER, "SubjectPublicKeyInfo"
    /// }
    ///
    /// impl SigningKey for TokenKey {
    ///     fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
    ///         offered.contains(&self.scheme()).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    ///     }
    ///
    ///     fn algorithm(&self) -> SignatureAlgorithm {
    ///         SignatureAlgorithm::ECDSA
    ///     }
    ///
    ///     fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
    ///         Some(self.public_key.as_slice().into())
    ///     }
    /// }
    ///
    /// impl Signer for TokenKey {
    ///     /// Signs the SHA-256 of `message`; returns DER, "ECDSA-Sig-Value".
    ///     fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rustls::Error> {
    ///         self.token.ecdsa_sha256(message).map_err(|why| rustls::Error::General(why.to_string()))
    ///     }
    ///
    ///     fn scheme(&self) -> SignatureScheme {
    ///         SignatureScheme::ECDSA_NISTP256_SHA256
    ///     }
    /// }
    ///
    /// fn identity(token: Arc<Token>, chain_pem: &str, public_key: Vec<u8>) -> Result<Identity> {
    ///     Identity::from_signing_key(&[chain_pem], Arc::new(TokenKey { token, public_key }))
    /// }
    /// # #[derive(Debug)]
    /// # struct Token;
    /// # impl Token {
    /// #     fn ecdsa_sha256(&self, _: &[u8]) -> std::io::Result<Vec<u8>> { Ok(Vec::new()) }
    /// # }
    /// ```
    pub fn from_signing_key(chain: &[impl AsRef<[u8]>], key: Arc<dyn SigningKey>) -> Result<Self> {
        let mut certificates = Vec::new();
        for part in chain.iter().map(AsRef::as_ref) {
            match der::is_der(part) {
                true => certificates.push(CertificateDer::from(part.to_vec())),
                false => certificates.extend(pem::certificates(part)?),
            }
        }
        Self::assemble(&certificates, vec![Key::Whole(key)])
    }

    fn assemble(certificates: &[CertificateDer<'static>], keys: Vec<Key>) -> Result<Self> {
        if certificates.is_empty() {
            return Err(refuse("no certificate was given: give the leaf and its intermediates"));
        }
        let keys = keys.into_iter().filter_map(|key| key.complete(certificates)).collect();
        let Chain { certificates, leaf, common_names, issuers, key } = chain::order(certificates, keys)?;
        let certified = Arc::new(CertifiedKey::new(certificates, key));
        Ok(Self(Arc::new(Inner { leaf, common_names, issuers, certified })))
    }

    /// Checks what makes the service refuse a device, before anything is sent: the registration id is a
    /// common name of the leaf (without regard to case) and no longer than 64 characters, and every
    /// certificate is valid at `now`, as in [`check_validity`](Self::check_validity).
    ///
    /// The device client does this before each registration. Whether a leaf without a common name is
    /// accepted, and which of several counts, is the service's to decide.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) naming the certificate and the remedy.
    pub fn check(&self, registration_id: &RegistrationId, now: OffsetDateTime) -> Result<()> {
        let id = registration_id.as_str();
        let fits = |name: &String| name.eq_ignore_ascii_case(id);
        if let (Some(name), false) = (self.common_name(), self.0.common_names.iter().any(fits)) {
            return Err(refuse(format!(
                "the registration id {id:?} is not the common name {name:?} of the certificate {}: register \
                 as {name:?}, or use the certificate that was made for {id:?}",
                describe(self.info()),
            )));
        }
        if id.len() > LONGEST_COMMON_NAME {
            return Err(refuse(format!(
                "the registration id {id:?} has {} characters; with X.509 it is a common name, which has at \
                 most {LONGEST_COMMON_NAME}: choose a shorter one",
                id.len(),
            )));
        }
        self.check_validity(now)
    }

    /// Checks that every certificate is valid at `now`. A certificate that becomes valid within 5 minutes is
    /// accepted, because the clock of this machine may be behind.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) naming the certificate and the remedy; with
    /// [`Error::not_before`] if a certificate is not valid yet.
    pub fn check_validity(&self, now: OffsetDateTime) -> Result<()> {
        std::iter::once(self.info()).chain(self.issuers()).try_for_each(|info| check_validity(info, now))
    }

    /// The registration id in the leaf's common name.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`](crate::ErrorKind::Credential) when the leaf has no common name, or one that
    /// is not a registration id.
    pub fn registration_id(&self) -> Result<RegistrationId> {
        let of = describe(self.info());
        let name = self.common_name().ok_or_else(|| {
            refuse(format!("the certificate {of} has no common name: pass the registration id explicitly"))
        })?;
        if name.chars().count() > LONGEST_COMMON_NAME {
            return Err(refuse(format!(
                "the common name of the certificate {of} has more than {LONGEST_COMMON_NAME} characters and \
                 cannot be a registration id: request a certificate with a shorter one"
            )));
        }
        RegistrationId::new(name).map_err(|why| {
            refuse(format!(
                "the common name of the certificate {of} cannot be a registration id ({why}): request a \
                 certificate with another one"
            ))
        })
    }

    /// The common name in the leaf's subject, if it has one. Of several it is the last and most specific one,
    /// which .NET, in which the service is written, uses as the simple name of a certificate.
    pub fn common_name(&self) -> Option<&str> {
        self.0.common_names.last().map(String::as_str)
    }

    /// The description of the leaf, in the form in which the service returns it: subject, issuer,
    /// thumbprints, validity.
    pub fn info(&self) -> &X509CertificateInfo {
        &self.0.leaf
    }

    /// The descriptions of the certificates after the leaf, in the order in which they are sent. Empty if
    /// there are none.
    pub fn issuers(&self) -> &[X509CertificateInfo] {
        &self.0.issuers
    }

    /// The certificates in the order in which they are sent, the leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0.certified.cert
    }

    /// rustls' usual way to set a client certificate parses the leaf and refuses version 1; this one does not
    /// parse it.
    pub(crate) fn resolver(&self) -> Arc<dyn ResolvesClientCert> {
        Arc::new(SingleCertAndKey::from(Arc::clone(&self.0.certified)))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let info = self.info();
        f.debug_struct("Identity")
            .field("subject", &info.subject_name)
            .field("not_before", &moment(info.not_before_utc))
            .field("not_after", &moment(info.not_after_utc))
            .finish_non_exhaustive()
    }
}

fn check_validity(info: &X509CertificateInfo, now: OffsetDateTime) -> Result<()> {
    let (of, now_text) = (describe(info), moment(now));
    if now > info.not_after_utc {
        return Err(refuse(format!(
            "the certificate {of} has expired; this machine's time is {now_text}: renew it, or correct the \
             clock"
        )));
    }
    if now.saturating_add(CLOCK_SKEW) < info.not_before_utc {
        let message = format!(
            "the certificate {of} is not valid yet; this machine's time is {now_text}: correct the clock, or \
             wait"
        );
        return Err(refuse(message).with_not_before(info.not_before_utc));
    }
    Ok(())
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    private_file::read(file).map_err(|why| why.with_credential(CredentialKind::X509))
}

fn at(place: &impl fmt::Display, why: &Error) -> Error {
    refuse(format!("{place}: {why}"))
}

/// Source: RFC 5280, upper bound of a common name.
const LONGEST_COMMON_NAME: usize = 64;

#[cfg(test)]
mod tests;
