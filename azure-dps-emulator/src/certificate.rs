//! Certificates of X.509 enrollments: the encodings that clients send, and the description that the service returns.

use base64::prelude::{BASE64_STANDARD, Engine};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use time::format_description::well_known::Rfc3339;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

/// Describes a certificate given as PEM, base64 of DER, or base64 of PEM.
pub(crate) fn describe(text: &str) -> Result<Value, &'static str> {
    let der = decode(text)?;
    let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| NOT_X509)?;
    Ok(json!({
        "subjectName": certificate.subject().to_string(),
        "issuerName": certificate.issuer().to_string(),
        "sha1Thumbprint": hex(&Sha1::digest(&der)),
        "sha256Thumbprint": hex(&Sha256::digest(&der)),
        "serialNumber": hex(certificate.raw_serial()),
        "notBeforeUtc": date_time(certificate.validity().not_before).ok_or(NOT_X509)?,
        "notAfterUtc": date_time(certificate.validity().not_after).ok_or(NOT_X509)?,
        "version": certificate.version().0 + 1,
    }))
}

fn decode(text: &str) -> Result<Vec<u8>, &'static str> {
    if text.contains(PEM_MARK) {
        return from_pem(text.as_bytes());
    }
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes = BASE64_STANDARD.decode(packed).map_err(|_| "is neither PEM nor base64")?;
    if bytes.starts_with(PEM_MARK.as_bytes()) { from_pem(&bytes) } else { Ok(bytes) }
}

fn from_pem(pem: &[u8]) -> Result<Vec<u8>, &'static str> {
    CertificateDer::from_pem_slice(pem)
        .map(|der| der.to_vec())
        .map_err(|_| "has no certificate in its PEM text")
}

fn date_time(time: ASN1Time) -> Option<String> {
    time.to_datetime().format(&Rfc3339).ok()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

const PEM_MARK: &str = "-----BEGIN";
const NOT_X509: &str = "is not an X.509 certificate";

#[cfg(test)]
mod tests {
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
        assert_eq!(info["version"], 3);
        assert_eq!(info["sha1Thumbprint"].as_str().unwrap().len(), 40);
        assert_eq!(info["sha256Thumbprint"].as_str().unwrap().len(), 64);
        assert_eq!(describe(&BASE64_STANDARD.encode(certificate.der())).unwrap(), info);
        assert_eq!(describe(&BASE64_STANDARD.encode(&pem)).unwrap(), info);
    }

    #[test]
    fn other_texts_are_refused() {
        assert_eq!(describe("not a certificate!").unwrap_err(), "is neither PEM nor base64");
        assert_eq!(describe("AAAA").unwrap_err(), NOT_X509);
        assert_eq!(describe("").unwrap_err(), NOT_X509);
        let key = KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(describe(&key).unwrap_err(), "has no certificate in its PEM text");
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
