//! The certificate that the service issued for a request: its chain, checked before it is used.
//!
//! | chain | result |
//! | --- | --- |
//! | 1 to 6 certificates, the leaf first, each one signed by the next | accepted |
//! | none, or more than 6 | error |
//! | an entry that is not one certificate in base64, or has more than 32 KB | error that names its place |
//! | a leaf for another key than that of the request | error |
//! | a leaf whose common name is not that of the request (without regard to case) | error |
//! | a certificate that the next one did not sign, or names another issuer | error that names both |
//! | a certificate that has expired, or becomes valid more than 5 minutes from now | error |
//!
//! A signature that ring cannot check counts as right. The root may be missing. Whether the hub trusts the
//! last certificate is for the hub to decide.

use std::fmt;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use crate::certificate::{CLOCK_SKEW, Certificate, describe, moment};
use crate::certificate_request::CertificateRequest;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::identity::Identity;
use crate::models::attestation::certificate_text;
use crate::models::attestation::x509::X509CertificateInfo;
use crate::{pem, private_file};

/// A certificate that the service issued, with its chain: for the device's hub, until it expires.
///
/// The chain is checked against the request: see [`new`](Self::new). Cloning copies the certificates.
/// `Debug` shows subject and validity.
#[derive(Clone, PartialEq, Eq)]
pub struct IssuedCertificate {
    /// Leaf first.
    certificates: Vec<CertificateDer<'static>>,
    leaf: X509CertificateInfo,
    issuers: Vec<X509CertificateInfo>,
}

impl IssuedCertificate {
    /// Reads and checks a chain: certificates as base64 of DER, the leaf first, as in the member
    /// `issuedCertificateChain` of a registration state.
    ///
    /// The leaf must be for the key and the common name of `request`, each certificate must be signed by the
    /// next, and all must be valid at `now`. A certificate that becomes valid within 5 minutes is accepted,
    /// because the clock of the service may be ahead.
    ///
    /// # Errors
    /// [`ErrorKind::CertificateChain`]; the message names the certificate and what does not fit. With
    /// [`Error::not_before`] if only the time does not fit yet.
    pub fn new(chain: &[impl AsRef<str>], request: &CertificateRequest, now: OffsetDateTime) -> Result<Self> {
        let count = chain.len();
        if !(1..=MOST_CERTIFICATES).contains(&count) {
            return Err(refuse(format!(
                "the issued chain has {count} certificates; a chain has 1 to {MOST_CERTIFICATES}"
            )));
        }
        let certificates = chain.iter().enumerate().map(decode).collect::<Result<Vec<_>>>()?;
        let parsed = certificates.iter().enumerate().map(parse).collect::<Result<Vec<_>>>()?;
        let (Some((leaf, issuers)), [_, behind @ ..]) = (parsed.split_first(), parsed.as_slice()) else {
            return Err(refuse("the issued chain is empty"));
        };
        check_leaf(leaf, request)?;
        parsed.iter().zip(behind).try_for_each(|(certificate, next)| check_link(certificate, next))?;
        parsed.iter().try_for_each(|certificate| check_validity(&certificate.info(), now))?;
        let (leaf, issuers) = (leaf.info(), issuers.iter().map(Certificate::info).collect());
        drop(parsed);
        Ok(Self { certificates, leaf, issuers })
    }

    /// The description of the certificate that was issued to the device: subject, issuer, validity,
    /// thumbprints.
    pub fn leaf(&self) -> &X509CertificateInfo {
        &self.leaf
    }

    /// The descriptions of the certificates after the leaf, each the issuer of the one before. Empty if there
    /// are none.
    pub fn issuers(&self) -> &[X509CertificateInfo] {
        &self.issuers
    }

    /// The descriptions of all certificates, the leaf first.
    pub fn chain(&self) -> impl Iterator<Item = &X509CertificateInfo> {
        std::iter::once(&self.leaf).chain(&self.issuers)
    }

    /// The certificates in DER, the leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The chain as PEM text, the leaf first.
    pub fn to_pem(&self) -> String {
        self.certificates.iter().map(|der| pem::encode("CERTIFICATE", der)).collect()
    }

    /// Returns the identity with which the device signs in at its hub: this chain and the key of `request`.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`] when `request` has no key, or is not the request of this certificate.
    pub fn identity(&self, request: &CertificateRequest) -> Result<Identity> {
        Identity::from_signing_key(&self.certificates, self.key_of(request)?)
    }

    /// Writes the private key of `request` and this chain to one PEM file that only the current user can read
    /// (mode 0600 on Unix; on other systems the folder decides).
    /// [`Identity::from_pem_files`](Identity::from_pem_files) reads it, with the same file for both.
    ///
    /// The file appears complete or not at all, and a file of the same name is replaced: after a power
    /// failure there are the old chain and key, or the new ones. This call blocks.
    ///
    /// # Errors
    /// [`ErrorKind::Credential`] when the key is missing, cannot be exported or is that of another request,
    /// or when the file cannot be written; the message names it.
    pub fn write_pem(&self, request: &CertificateRequest, file: impl AsRef<Path>) -> Result<()> {
        self.key_of(request)?;
        let key = request.exportable_key()?;
        let chain = self.to_pem();
        let mut text = Zeroizing::new(String::with_capacity(key.len() + chain.len()));
        text.push_str(&key);
        text.push_str(&chain);
        private_file::write(file.as_ref(), text.as_bytes())
    }

    fn key_of(&self, request: &CertificateRequest) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>> {
        let key = request.signing_key()?;
        let leaf = self.certificates.first().and_then(Certificate::read);
        match leaf.is_some_and(|leaf| leaf.has_key(request.public_key())) {
            true => Ok(key),
            false => Err(Error::new(
                ErrorKind::Credential,
                format!(
                    "the private key does not belong to {}: give the request that was sent with this \
                     registration",
                    describe(&self.leaf)
                ),
            )),
        }
    }
}

impl fmt::Debug for IssuedCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssuedCertificate")
            .field("subject", &self.leaf.subject_name)
            .field("not_before", &moment(self.leaf.not_before_utc))
            .field("not_after", &moment(self.leaf.not_after_utc))
            .field("issuers", &self.issuers.len())
            .finish_non_exhaustive()
    }
}

fn decode((at, text): (usize, &impl AsRef<str>)) -> Result<CertificateDer<'static>> {
    let text = text.as_ref();
    if text.len() > LONGEST_TEXT {
        return Err(refuse(format!(
            "entry {} of the issued chain is too large: it has {} characters, and a certificate has at most \
             {LONGEST_TEXT}",
            at + 1,
            text.len()
        )));
    }
    match certificate_text::read(text) {
        Ok(der) => Ok(CertificateDer::from(der)),
        Err(why) => Err(refuse(format!("entry {} of the issued chain cannot be read: {why}", at + 1))),
    }
}

fn parse<'a>((at, der): (usize, &'a CertificateDer<'static>)) -> Result<Certificate<'a>> {
    Certificate::read(der).ok_or_else(|| {
        refuse(format!("entry {} of the issued chain is damaged: its content is not X.509 in DER", at + 1))
    })
}

fn check_leaf(leaf: &Certificate<'_>, request: &CertificateRequest) -> Result<()> {
    if !leaf.has_key(request.public_key()) {
        return Err(refuse(format!(
            "the first certificate of the issued chain is not for the key of the certificate signing request: \
             {}",
            describe(&leaf.info())
        )));
    }
    let wanted = request.common_name();
    match leaf.common_names().as_slice() {
        [name] if name.eq_ignore_ascii_case(wanted) => Ok(()),
        _ => Err(refuse(format!(
            "the issued certificate does not have the common name {wanted:?} of the certificate signing \
             request: {}",
            describe(&leaf.info())
        ))),
    }
}

fn check_link(certificate: &Certificate<'_>, next: &Certificate<'_>) -> Result<()> {
    if certificate.is_issued_in_the_name_of(next) && certificate.is_signed_with_the_key_of(next) {
        return Ok(());
    }
    Err(refuse(format!(
        "the issued chain is not in order: the certificate {} is not signed by the next one, {}",
        describe(&certificate.info()),
        describe(&next.info())
    )))
}

fn check_validity(info: &X509CertificateInfo, now: OffsetDateTime) -> Result<()> {
    let (of, now_text) = (describe(info), moment(now));
    if now > info.not_after_utc {
        return Err(refuse(format!(
            "the issued certificate {of} has expired; this machine's time is {now_text}: correct the clock, \
             or register again"
        )));
    }
    if now.saturating_add(CLOCK_SKEW) < info.not_before_utc {
        let message = format!(
            "the issued certificate {of} is not valid yet; this machine's time is {now_text}: correct the \
             clock"
        );
        return Err(refuse(message).with_not_before(info.not_before_utc));
    }
    Ok(())
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::CertificateChain, message)
}

/// As many as Microsoft's client for C stores.
const MOST_CERTIFICATES: usize = 6;
/// In characters of base64.
const LONGEST_TEXT: usize = 32 * 1024;

#[cfg(test)]
#[cfg(feature = "csr")]
mod tests;
