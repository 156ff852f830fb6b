//! Certificates: reads them in every encoding that clients send, describes them as the service does, and
//! checks who signed whom.

use std::fmt;

use crate::crypto::{base64_text, der, pem};
use crate::json::{Value, json};
use crate::saved::saved_as_text;
use base64::prelude::{BASE64_STANDARD, Engine};
use rustls_pki_types::CertificateDer;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::asn1_rs::{Any, Tag};
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate, X509Version};

/// A parsed certificate. Two certificates are equal if all of their bytes are.
#[derive(Clone)]
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    pub(crate) subject: String,
    pub(crate) issuer: String,
    pub(crate) common_name: Option<String>,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
    /// Whether it belongs to an authority, which may sign other certificates.
    pub(crate) may_sign: bool,
    /// The most authorities that may be between it and a leaf.
    pub(crate) path_limit: Option<u32>,
    /// SHA-256 of the whole certificate.
    pub(crate) thumbprint: Fingerprint,
    /// The names as they are encoded.
    pub(crate) subject_name: Fingerprint,
    pub(crate) issuer_name: Fingerprint,
    pub(crate) public_key: Fingerprint,
    /// The identifier of its key, by which certificates below it may refer to it.
    pub(crate) key_identifier: Option<KeyIdentifier>,
    /// The identifier of its issuer's key, if it names one. Nothing is decided by it.
    pub(crate) issuer_key_identifier: Option<KeyIdentifier>,
}

/// SHA-256 of an encoded part of a certificate; parts are equal if their fingerprints are.
pub(crate) type Fingerprint = [u8; 32];

pub(crate) type KeyIdentifier = Box<[u8]>;

impl Certificate {
    /// Reads a certificate given as PEM, base64 of DER, or base64 of PEM.
    ///
    /// # Errors
    /// Says what the text is not.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        Self::from_der(&decode(text)?).map_err(str::to_owned)
    }

    /// Reads a certificate; the bytes must end with it.
    ///
    /// # Errors
    /// The bytes are not an X.509 certificate.
    pub(crate) fn from_der(der: &[u8]) -> Result<Self, &'static str> {
        let parsed = match X509Certificate::from_der(der) {
            Ok(([], parsed)) => parsed,
            _ => return Err(NOT_X509),
        };
        let validity = parsed.validity();
        let [not_before, not_after] =
            [validity.not_before, validity.not_after].map(|time| time.to_datetime());
        let [key_identifier, issuer_key_identifier] = key_identifiers(&parsed);
        Ok(Certificate {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            common_name: parsed.subject().iter_common_name().last().and_then(|name| text(name.attr_value())),
            may_sign: may_sign(&parsed),
            path_limit: parsed
                .basic_constraints()
                .ok()
                .flatten()
                .and_then(|constraints| constraints.value.path_len_constraint),
            thumbprint: fingerprint(der),
            subject_name: fingerprint(parsed.subject().as_raw()),
            issuer_name: fingerprint(parsed.issuer().as_raw()),
            public_key: fingerprint(parsed.public_key().raw),
            key_identifier,
            issuer_key_identifier,
            der: CertificateDer::from(der.to_vec()),
            not_before,
            not_after,
        })
    }

    pub(crate) fn der(&self) -> &[u8] {
        &self.der
    }

    /// The description that the service returns. It is written when a client asks for it: kept in each
    /// enrollment, it would take twice the memory of the certificate.
    pub(crate) fn info(&self) -> Value {
        let (serial, version) = match self.parsed() {
            Some(parsed) => (hex(parsed.raw_serial()), parsed.version().0.saturating_add(1)),
            None => Default::default(),
        };
        json!({
            "subjectName": self.subject,
            "sha1Thumbprint": self.sha1_thumbprint(),
            "sha256Thumbprint": self.sha256_thumbprint(),
            "issuerName": self.issuer,
            "notBeforeUtc": date_time(self.not_before),
            "notAfterUtc": date_time(self.not_after),
            "serialNumber": serial,
            "version": version,
        })
    }

    pub(crate) fn sha1_thumbprint(&self) -> String {
        hex(&Sha1::digest(self.der()))
    }

    pub(crate) fn sha256_thumbprint(&self) -> String {
        hex(&self.thumbprint)
    }

    /// Returns whether it names itself as its issuer and so is the end of a chain.
    pub(crate) fn is_self_issued(&self) -> bool {
        self.is_issued_by(self)
    }

    /// Returns whether its issuer has the name of the other certificate. That does not prove a signature.
    pub(crate) fn is_issued_by(&self, issuer: &Certificate) -> bool {
        self.issuer_name == issuer.subject_name
    }

    /// Returns whether the other certificate is an authority's and signed this one.
    pub(crate) fn is_signed_by(&self, issuer: &Certificate) -> bool {
        issuer.may_sign
            && self.is_issued_by(issuer)
            && self
                .parsed()
                .zip(issuer.parsed())
                .is_some_and(|(child, issuer)| child.verify_signature(Some(issuer.public_key())).is_ok())
    }

    fn parsed(&self) -> Option<X509Certificate<'_>> {
        X509Certificate::from_der(&self.der).ok().map(|(_, parsed)| parsed)
    }
}

saved_as_text!(
    Certificate,
    |certificate| BASE64_STANDARD.encode(certificate.der()),
    |text| BASE64_STANDARD.decode(text).ok().and_then(|der| Certificate::from_der(&der).ok()),
    "a certificate is not base64 of X.509 in DER"
);

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Certificate").field(&self.subject).finish()
    }
}

/// Version 1 has no extension that marks authorities; there, self-issued certificates count as authorities.
fn may_sign(parsed: &X509Certificate<'_>) -> bool {
    if parsed.version() == X509Version::V1 {
        return parsed.subject().as_raw() == parsed.issuer().as_raw();
    }
    let is_authority =
        parsed.basic_constraints().ok().flatten().is_some_and(|constraints| constraints.value.ca);
    let usage = parsed.key_usage().ok().flatten();
    is_authority && usage.is_none_or(|usage| usage.value.key_cert_sign())
}

/// The identifiers of the certificate's own key and of its issuer's key.
fn key_identifiers(parsed: &X509Certificate<'_>) -> [Option<KeyIdentifier>; 2] {
    let (mut own, mut issuer) = (None, None);
    for extension in parsed.extensions() {
        match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => own = Some(identifier.0.into()),
            ParsedExtension::AuthorityKeyIdentifier(authority) => {
                issuer = authority.key_identifier.as_ref().map(|identifier| identifier.0.into());
            }
            _ => {}
        }
    }
    [own, issuer]
}

fn fingerprint(part: &[u8]) -> Fingerprint {
    Sha256::digest(part).into()
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    // Base64 has no dashes.
    if text.starts_with("-----BEGIN ") {
        return from_pem(text.as_bytes());
    }
    let has_mark = |bytes: &[u8]| bytes.windows(PEM_MARK.len()).any(|word| word == PEM_MARK);
    match base64_text::decode(text) {
        Ok(bytes) if !der::is_der(&bytes) && has_mark(&bytes) => from_pem(&bytes),
        Ok(bytes) => Ok(bytes),
        Err(_) if has_mark(text.to_ascii_uppercase().as_bytes()) => from_pem(text.as_bytes()),
        Err(why) => Err(format!("is neither PEM nor base64: {why}")),
    }
}

/// Returns the one certificate of a PEM text, in DER.
///
/// # Errors
/// Says which block or line is wrong, or that there is another number of certificates.
pub(crate) fn from_pem(text: &[u8]) -> Result<Vec<u8>, String> {
    let mut found = pem::certificates(text)?;
    match found.len() {
        0 => Err("has no certificate in its PEM text".to_owned()),
        1 => Ok(found.remove(0)),
        several => Err(format!("has {several} certificates in its PEM text, and one belongs there")),
    }
}

/// The text of a name, in any string type that X.509 allows. T61 is read as Latin-1, as .NET does.
pub(crate) fn text(value: &Any<'_>) -> Option<String> {
    let wide = |width: usize| {
        let units = value.data.chunks(width);
        units.map(move |unit| unit.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)))
    };
    match value.tag() {
        Tag::T61String => Some(value.data.iter().copied().map(char::from).collect()),
        Tag::BmpString => {
            let units: Option<Vec<u16>> = wide(2).map(|unit| u16::try_from(unit).ok()).collect();
            String::from_utf16(&units?).ok()
        }
        Tag::UniversalString => wide(4).map(char::from_u32).collect(),
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::VisibleString | Tag::NumericString => {
            String::from_utf8(value.data.to_vec()).ok()
        }
        _ => None,
    }
}

/// Writes a time in the format of certificate descriptions.
pub(crate) fn date_time(time: OffsetDateTime) -> Option<String> {
    time.format(&Rfc3339).ok()
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default().to_ascii_uppercase();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

const PEM_MARK: &[u8] = b"BEGIN";
const NOT_X509: &str = "is not an X.509 certificate";

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};
    use rcgen::{CertificateParams, DnType, KeyPair, SerialNumber, date_time_ymd};

    use super::*;

    #[test]
    fn every_encoding_gives_the_same_description() {
        let certificate = certificate();
        let pem = certificate.pem();

        let info = describe(&pem).unwrap();

        assert_eq!(info["subjectName"], "CN=gw-7");
        assert_eq!(info["issuerName"], "CN=gw-7");
        assert_eq!(info["serialNumber"], "0A1B2C3D");
        assert_eq!(info["notBeforeUtc"], "2026-01-01T00:00:00Z");
        assert_eq!(info["notAfterUtc"], "2027-01-01T00:00:00Z");
        assert_eq!(info["version"], json!(3));
        assert_eq!(info["sha1Thumbprint"].as_str().unwrap().len(), 40);
        assert_eq!(info["sha256Thumbprint"].as_str().unwrap().len(), 64);
        assert_eq!(describe(&BASE64_STANDARD.encode(certificate.der())).unwrap(), info);
        let bag = format!("0 s:CN = gw-7\n{pem}");
        for text in [&bag, &BASE64_STANDARD.encode(&pem), &BASE64_STANDARD.encode(&bag)] {
            assert_eq!(describe(text).unwrap(), info, "{text}");
        }
    }

    #[test]
    fn an_unknown_version_is_described_as_it_is() {
        let der = certificate().der().to_vec();
        let (version, largest) = ([0xa0, 3, 2, 1, 2], [0xa0, 7, 2, 5, 0, 0xff, 0xff, 0xff, 0xff]);
        assert_eq!(
            (&der[..2], &der[4..6], &der[7..12]),
            (&[0x30, 0x82][..], &[0x30, 0x81][..], &version[..])
        );
        // Four bytes more, in the certificate and in the part that is signed.
        let length = (u16::from_be_bytes([der[2], der[3]]) + 4).to_be_bytes();
        let der = [&der[..2], &length, &der[4..6], &[der[6] + 4], &largest, &der[12..]].concat();
        assert_eq!(describe(&BASE64_STANDARD.encode(der)).unwrap()["version"], json!(u32::MAX));
    }

    #[test]
    fn a_common_name_is_read_in_every_string_type() {
        let read = |tag: Tag, data: &[u8]| text(&Any::from_tag_and_data(tag, data));
        for tag in [Tag::Utf8String, Tag::PrintableString, Tag::Ia5String, Tag::VisibleString, Tag::T61String]
        {
            assert_eq!(read(tag, b"unit-7").as_deref(), Some("unit-7"), "{tag:?}");
        }
        assert_eq!(read(Tag::T61String, b"\xe4").as_deref(), Some("\u{e4}"));
        assert_eq!(read(Tag::BmpString, b"\0u\0-\0\x37").as_deref(), Some("u-7"));
        assert_eq!(read(Tag::UniversalString, b"\0\0\0u\0\0\0\x37").as_deref(), Some("u7"));
        for (tag, data) in
            [(Tag::BmpString, &b"\xd8\0"[..]), (Tag::UniversalString, b"\xff\0\0\0"), (Tag::Integer, b"1")]
        {
            assert_eq!(read(tag, data), None);
        }
        let t61 = include_str!("../../../tests/vectors/x509/chains/cn-t61.pem");
        assert_eq!(Certificate::read(t61).unwrap().common_name.as_deref(), Some("unit-7"));
    }

    #[test]
    fn other_texts_are_refused() {
        let two = certificate().pem().repeat(2);
        assert_eq!(describe(&two).unwrap_err(), "has 2 certificates in its PEM text, and one belongs there");
        let not_base64 = "is neither PEM nor base64: there is '!' at position 18";
        assert_eq!(describe("not a certificate!").unwrap_err(), not_base64);
        let misspelt = certificate().pem().replace("-----BEGIN", "----BEGIN");
        assert!(describe(&misspelt).unwrap_err().contains("(line 1) that does not have five hyphens"));
        assert_eq!(describe("AAAA").unwrap_err(), NOT_X509);
        assert_eq!(describe("").unwrap_err(), NOT_X509);
        let longer = [certificate().der().as_ref(), &[0]].concat();
        assert_eq!(Certificate::from_der(&longer).unwrap_err(), NOT_X509);
        let key = KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(describe(&key).unwrap_err(), "has no certificate in its PEM text");
    }

    fn describe(text: &str) -> Result<Value, String> {
        Certificate::read(text).map(|certificate| certificate.info())
    }

    fn certificate() -> rcgen::Certificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "gw-7");
        params.serial_number = Some(SerialNumber::from(0x0A1B_2C3D));
        params.not_before = date_time_ymd(2026, 1, 1);
        params.not_after = date_time_ymd(2027, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap()
    }
}
