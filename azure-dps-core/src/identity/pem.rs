//! What stands in a PEM text: certificates and private keys, or why the one looked for is not there.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::SigningKey;
use rustls_pki_types::pem::{PemObject as _, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::refuse;
use crate::Result;

/// All certificates of a PEM text; at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = sections(pem, "certificate")?
        .into_iter()
        .filter_map(|(kind, der)| CertificateDer::from_pem(kind, der))
        .collect();
    match found.is_empty() {
        false => Ok(found),
        true if holds(pem, "PRIVATE KEY-----") => Err(refuse(
            "the certificate text holds a private key and no certificate: give the certificate, and the key as the key",
        )),
        true => Err(refuse(
            "the certificate text holds no \"BEGIN CERTIFICATE\": give the leaf and its intermediates as PEM",
        )),
    }
}

/// All private keys of a PEM text, ready to sign; at least one.
pub(super) fn signing_keys(pem: &[u8]) -> Result<Vec<Arc<dyn SigningKey>>> {
    if holds(pem, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(pem, "Proc-Type: 4,ENCRYPTED") {
        return Err(refuse(
            "the private key is encrypted: decrypt it with `openssl pkey -in encrypted.pem -out key.pem`",
        ));
    }
    let found: Vec<_> = sections(pem, "private key")?
        .into_iter()
        .filter_map(|(kind, der)| PrivateKeyDer::from_pem(kind, der))
        .map(signing_key)
        .collect::<Result<_>>()?;
    match found.is_empty() {
        false => Ok(found),
        true if holds(pem, "-----BEGIN CERTIFICATE-----") => Err(refuse(
            "the key text holds a certificate and no private key: give the key that was made with the certificate",
        )),
        true => Err(refuse(
            "the key text holds no \"BEGIN PRIVATE KEY\": give the private key as PEM (PKCS#8, PKCS#1 or SEC1)",
        )),
    }
}

/// A private key, ready to sign. The library's own error is left out, because it could quote the key.
pub(super) fn signing_key(key: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>> {
    ring::default_provider().key_provider.load_private_key(key).map_err(|_| {
        refuse("the private key cannot be used: give an RSA key of 2048 to 4096 bits or an EC key on P-256 or P-384")
    })
}

fn sections(pem: &[u8], what: &str) -> Result<Vec<(SectionKind, Vec<u8>)>> {
    let text = pem.strip_prefix(BYTE_ORDER_MARK).unwrap_or(pem);
    if text.first() == Some(&DER_SEQUENCE) {
        return Err(refuse(format!(
            "the {what} text is not PEM but binary: use `Identity::from_der`, or for a .pfx or .p12 file first \
             `openssl pkcs12 -in device.pfx -nodes -out device.pem`"
        )));
    }
    // A damaged line may be a key, so the library's error is left out here too.
    <(SectionKind, Vec<u8>)>::pem_slice_iter(text).collect::<std::result::Result<_, _>>().map_err(|_| {
        refuse(format!(
            "the {what} text is damaged: every \"-----BEGIN …-----\" and \"-----END …-----\" has to be a line of its \
             own with base64 between them"
        ))
    })
}

fn holds(pem: &[u8], mark: &str) -> bool {
    pem.windows(mark.len()).any(|window| window == mark.as_bytes())
}

/// Editors on Windows put it before the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What every DER certificate, key and PKCS#12 file begins with.
const DER_SEQUENCE: u8 = 0x30;
