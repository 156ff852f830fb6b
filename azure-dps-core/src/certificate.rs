//! One X.509 certificate, parsed: its names, its validity and its key, and which other one signed it. Pure.

use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use crate::models::attestation::x509::X509CertificateInfo;
use crate::sensitive::OtherMembers;

/// A certificate for people: subject, issuer and validity.
pub(crate) fn describe(info: &X509CertificateInfo) -> String {
    format!(
        "{:?} (issued by {:?}, valid from {} to {})",
        start(&info.subject_name),
        start(&info.issuer_name),
        moment(info.not_before_utc),
        moment(info.not_after_utc),
    )
}

/// As much of a name as an error shows: a peer can send names of any length.
fn start(name: &str) -> String {
    name.chars().take(LONGEST_SHOWN).collect()
}

/// A time for people.
pub(crate) fn moment(at: OffsetDateTime) -> String {
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// Whether `key`, the DER of a SubjectPublicKeyInfo, is the same as `other`.
pub(crate) fn is_key(key: &[u8], other: &SubjectPublicKeyInfo<'_>) -> bool {
    SubjectPublicKeyInfo::from_der(key)
        .is_ok_and(|(_, key)| key.subject_public_key == other.subject_public_key)
}

/// The common names of a subject, in its order: the last one is the most specific.
pub(crate) fn common_names(subject: &X509Name<'_>) -> Vec<String> {
    subject.iter_common_name().filter_map(|name| text(name.attr_value())).collect()
}

/// A parsed certificate, and its DER.
pub(crate) struct Certificate<'a> {
    pub(crate) der: &'a CertificateDer<'static>,
    x509: X509Certificate<'a>,
}

impl<'a> Certificate<'a> {
    /// `None` if the bytes are not exactly one certificate.
    pub(crate) fn read(der: &'a CertificateDer<'static>) -> Option<Self> {
        match X509Certificate::from_der(der) {
            Ok(([], x509)) => Some(Self { der, x509 }),
            _ => None,
        }
    }

    /// Whether this is the certificate of `key`, the DER of a SubjectPublicKeyInfo.
    pub(crate) fn has_key(&self, key: &[u8]) -> bool {
        is_key(key, self.x509.public_key())
    }

    pub(crate) fn is_issued_in_the_name_of(&self, other: &Self) -> bool {
        self.x509.issuer().as_raw() == other.x509.subject().as_raw()
    }

    /// False only when the signature was checked and is wrong. The service checks the signatures that ring
    /// cannot.
    pub(crate) fn is_signed_with_the_key_of(&self, other: &Self) -> bool {
        let key = other.x509.public_key();
        let is_checkable = match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => (2048..=8192).contains(&rsa.key_size()),
            _ => true,
        };
        let checked = self.x509.verify_signature(Some(key));
        !is_checkable || !matches!(checked, Err(X509Error::SignatureVerificationError))
    }

    /// In the order of the certificate: the last one is the most specific.
    pub(crate) fn common_names(&self) -> Vec<String> {
        common_names(self.x509.subject())
    }

    pub(crate) fn info(&self) -> X509CertificateInfo {
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

/// How far the clock of the issuer, or of the server, may be ahead of this machine's.
pub const CLOCK_SKEW: Duration = Duration::minutes(5);
const LONGEST_SHOWN: usize = 200;
