//! Orders certificates as they are sent: the leaf, then the issuer of each one before. Pure.

use std::sync::Arc;

use rustls::sign::SigningKey;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::error::{Error, Result};
use crate::identity::refusal::refuse;
use crate::models::attestation::x509::X509CertificateInfo;
use crate::sensitive::OtherMembers;

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
    let mut rest = Vec::<Parsed<'_>>::new();
    for der in given {
        if !rest.iter().any(|known| known.der == der) {
            rest.push(Parsed::new(der)?);
        }
    }
    let owner = keys.into_iter().find_map(|key| Some((rest.iter().position(|c| c.has_key(&*key))?, key)));
    let Some((at, key)) = owner else { return Err(belongs_to_none(&rest)) };

    let leaf = rest.remove(at);
    let mut issuers = Vec::new();
    while let Some(at) = issuers.last().unwrap_or(&leaf).issuer_among(&rest)? {
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
        issuers: issuers.iter().map(Parsed::info).collect(),
        key,
    })
}

/// A certificate for people: subject, issuer and validity.
pub(super) fn describe(info: &X509CertificateInfo) -> String {
    format!(
        "{:?} (issued by {:?}, valid from {} to {})",
        info.subject_name,
        info.issuer_name,
        moment(info.not_before_utc),
        moment(info.not_after_utc),
    )
}

/// A time for people.
pub(super) fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

struct Parsed<'a> {
    der: &'a CertificateDer<'static>,
    x509: X509Certificate<'a>,
}

impl<'a> Parsed<'a> {
    fn new(der: &'a CertificateDer<'static>) -> Result<Self> {
        match X509Certificate::from_der(der) {
            Ok(([], x509)) => Ok(Self { der, x509 }),
            _ => Err(refuse("a certificate is damaged: its content is not X.509 in DER")),
        }
    }

    /// Whether the key belongs to this certificate. A key that does not return its public key belongs to the
    /// first one.
    fn has_key(&self, key: &dyn SigningKey) -> bool {
        let Some(public) = key.public_key() else { return true };
        SubjectPublicKeyInfo::from_der(&public)
            .is_ok_and(|(_, public)| public.subject_public_key == self.x509.public_key().subject_public_key)
    }

    /// The index of the issuer in `others`; `None` when it is not among them or the certificate is
    /// self-signed.
    fn issuer_among(&self, others: &[Self]) -> Result<Option<usize>> {
        if self.is_issued_in_the_name_of(self) && self.is_signed_with_the_key_of(self) {
            return Ok(None);
        }
        let mut namesakes =
            others.iter().enumerate().filter(|(_, other)| self.is_issued_in_the_name_of(other)).peekable();
        let Some((_, namesake)) = namesakes.peek().copied() else { return Ok(None) };
        match namesakes.find(|(_, other)| self.is_signed_with_the_key_of(other)) {
            Some((at, _)) => Ok(Some(at)),
            None => Err(refuse(format!(
                "the certificate {} names {} as its issuer but is not signed with that key: give the \
                 issuer's certificate with the key that signed it",
                describe(&self.info()),
                describe(&namesake.info()),
            ))),
        }
    }

    fn is_issued_in_the_name_of(&self, other: &Self) -> bool {
        self.x509.issuer().as_raw() == other.x509.subject().as_raw()
    }

    /// False only when the signature was checked and is wrong. The service checks the signatures that ring
    /// cannot.
    fn is_signed_with_the_key_of(&self, other: &Self) -> bool {
        let key = other.x509.public_key();
        let is_checkable = match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => (2048..=8192).contains(&rsa.key_size()),
            _ => true,
        };
        let checked = self.x509.verify_signature(Some(key));
        !is_checkable || !matches!(checked, Err(X509Error::SignatureVerificationError))
    }

    fn common_names(&self) -> Vec<String> {
        self.x509.subject().iter_common_name().filter_map(|name| text(name.attr_value())).collect()
    }

    fn info(&self) -> X509CertificateInfo {
        let x509 = &self.x509;
        X509CertificateInfo {
            subject_name: name(x509.subject()),
            sha1_thumbprint: hex(&sha1::Sha1::digest(self.der)),
            sha256_thumbprint: hex(&Sha256::digest(self.der)),
            issuer_name: name(x509.issuer()),
            not_before_utc: x509.validity().not_before.to_datetime(),
            not_after_utc: x509.validity().not_after.to_datetime(),
            serial_number: hex(x509.raw_serial()),
            version: i32::try_from(x509.version().0).unwrap_or(i32::MAX).saturating_add(1),
            other: OtherMembers::new(),
        }
    }
}

/// The name as the service prints it: the most specific part first, which is the last one in the certificate.
fn name(name: &X509Name<'_>) -> String {
    let mut parts: Vec<_> = name.iter_rdn().cloned().collect();
    parts.reverse();
    X509Name::new(parts, name.as_raw()).to_string()
}

/// The text of a name, in any of the string types that X.520 allows. T61 is decoded as Latin-1, as in OpenSSL
/// and .NET.
fn text(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        Tag::T61String => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let (units, rest) = bytes.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            if rest.is_empty() { String::from_utf16(&units).ok() } else { None }
        }
        Tag::UniversalString => {
            let (units, rest) = bytes.as_chunks::<4>();
            let text = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit))).collect();
            if rest.is_empty() { text } else { None }
        }
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn belongs_to_none(certificates: &[Parsed<'_>]) -> Error {
    let names: Vec<_> = certificates.iter().map(|certificate| describe(&certificate.info())).collect();
    refuse(format!(
        "the private key does not belong to {}: give the key with which this certificate was made \
         (`openssl pkey -in key.pem -pubout` and `openssl x509 -in cert.pem -noout -pubkey` print the same)",
        names.join(" and "),
    ))
}
