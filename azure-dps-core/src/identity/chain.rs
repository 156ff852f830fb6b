//! Orders certificates as they are sent: the leaf, then the issuer of each one before. Pure.

use std::sync::Arc;

use rustls::sign::SigningKey;
use rustls_pki_types::CertificateDer;

use crate::certificate::{Certificate, describe};
use crate::error::{Error, Result};
use crate::identity::refusal::refuse;
use crate::models::attestation::x509::X509CertificateInfo;

/// A chain in order, and the key of its leaf.
pub(super) struct Chain {
    /// Leaf first, as they are sent.
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) leaf: X509CertificateInfo,
    /// In the order of the certificate: the last one is the most specific.
    pub(super) common_names: Vec<String>,
    /// All but the leaf.
    pub(super) issuers: Vec<X509CertificateInfo>,
    pub(super) key: Arc<dyn SigningKey>,
}

/// Orders certificates; the leaf is the certificate of one of the keys.
///
/// A repeated certificate counts once. One that is not part of the chain is an error.
pub(super) fn order(given: &[CertificateDer<'static>], keys: Vec<Arc<dyn SigningKey>>) -> Result<Chain> {
    let mut rest = Vec::<Certificate<'_>>::new();
    for der in given {
        if !rest.iter().any(|known| known.der == der) {
            rest.push(parse(der)?);
        }
    }
    let owner = keys.into_iter().find_map(|key| Some((rest.iter().position(|c| belongs(&*key, c))?, key)));
    let Some((at, key)) = owner else { return Err(belongs_to_none(&rest)) };

    let leaf = rest.remove(at);
    let mut issuers = Vec::new();
    while let Some(at) = issuer_among(issuers.last().unwrap_or(&leaf), &rest)? {
        issuers.push(rest.remove(at));
    }
    if let Some(stray) = rest.first() {
        return Err(refuse(format!(
            "the certificate {} is not part of the chain, which ends with {}: add the certificate between \
             them, or remove this one",
            describe(&stray.info()),
            describe(&issuers.last().unwrap_or(&leaf).info()),
        )));
    }
    Ok(Chain {
        certificates: std::iter::once(&leaf).chain(&issuers).map(|link| link.der.clone()).collect(),
        leaf: leaf.info(),
        common_names: leaf.common_names(),
        issuers: issuers.iter().map(Certificate::info).collect(),
        key,
    })
}

fn parse<'a>(der: &'a CertificateDer<'static>) -> Result<Certificate<'a>> {
    Certificate::read(der).ok_or_else(|| refuse("a certificate is damaged: its content is not X.509 in DER"))
}

/// Whether the key belongs to this certificate. A key that does not return its public key belongs to the
/// first one.
fn belongs(key: &dyn SigningKey, certificate: &Certificate<'_>) -> bool {
    key.public_key().is_none_or(|public| certificate.has_key(&public))
}

/// The index of the issuer in `others`; `None` when it is not among them or the certificate is self-signed.
fn issuer_among(certificate: &Certificate<'_>, others: &[Certificate<'_>]) -> Result<Option<usize>> {
    if certificate.is_issued_in_the_name_of(certificate) && certificate.is_signed_with_the_key_of(certificate)
    {
        return Ok(None);
    }
    let namesakes = others.iter().enumerate();
    let mut namesakes = namesakes.filter(|(_, other)| certificate.is_issued_in_the_name_of(other)).peekable();
    let Some((_, namesake)) = namesakes.peek().copied() else { return Ok(None) };
    match namesakes.find(|(_, other)| certificate.is_signed_with_the_key_of(other)) {
        Some((at, _)) => Ok(Some(at)),
        None => Err(refuse(format!(
            "the certificate {} names {} as its issuer but is not signed with that key: give the issuer's \
             certificate with the key that signed it",
            describe(&certificate.info()),
            describe(&namesake.info()),
        ))),
    }
}

fn belongs_to_none(certificates: &[Certificate<'_>]) -> Error {
    let names: Vec<_> = certificates.iter().map(|certificate| describe(&certificate.info())).collect();
    refuse(format!(
        "the private key does not belong to {}: give the key with which this certificate was made \
         (`openssl pkey -in key.pem -pubout` and `openssl x509 -in cert.pem -noout -pubkey` print the same)",
        names.join(" and "),
    ))
}
