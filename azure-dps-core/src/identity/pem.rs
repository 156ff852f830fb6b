//! The certificates and private keys of a PEM text, or the reason why they are missing.

use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::der;
use crate::error::{Error, Result};
use crate::identity::key::Key;
use crate::identity::refusal::refuse;
use crate::pem::{self, Block};

/// A private key in DER, which is wiped when it is dropped.
pub(crate) type PrivateKey = Zeroizing<PrivateKeyDer<'static>>;

/// All certificates of a PEM text; at least one.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let blocks = blocks(text, "certificate")?;
    let found = pem::certificates(&blocks);
    if found.is_empty() {
        return Err(refuse(match blocks.iter().any(|block| pem::is_key(&block.label)) {
            true => {
                "the certificate text has a private key and no certificate: give the certificate, and the \
                 key as the key"
            }
            false => {
                "the certificate text has no \"-----BEGIN CERTIFICATE-----\": give the leaf and its \
                 intermediates as PEM"
            }
        }));
    }
    Ok(found.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect())
}

/// All private keys of a PEM text, ready to sign; at least one.
pub(super) fn keys(text: &[u8]) -> Result<Vec<Key>> {
    private_keys(text)?.iter().map(|der| Key::read(der)).collect()
}

/// All private keys of a PEM text; at least one.
pub(crate) fn private_keys(text: &[u8]) -> Result<Vec<PrivateKey>> {
    let blocks = blocks(text, "private key")?;
    let mut keys = Vec::new();
    for block in &blocks {
        let der = block.der.to_vec();
        match block.label.as_str() {
            "ENCRYPTED PRIVATE KEY" => return Err(encrypted()),
            _ if block.is_encrypted => return Err(encrypted()),
            "PRIVATE KEY" => keys.push(Zeroizing::new(PrivateKeyDer::Pkcs8(der.into()))),
            "RSA PRIVATE KEY" => keys.push(Zeroizing::new(PrivateKeyDer::Pkcs1(der.into()))),
            "EC PRIVATE KEY" => keys.push(Zeroizing::new(PrivateKeyDer::Sec1(der.into()))),
            "OPENSSH PRIVATE KEY" => {
                return Err(refuse(
                    "the private key has the OpenSSH format: convert it in place with `ssh-keygen -p -m \
                     PKCS8 -f key`",
                ));
            }
            label if pem::is_key(label) => {
                return Err(refuse(format!(
                    "the key text has a \"-----BEGIN {label}-----\", which cannot be used: give PKCS#8, \
                     PKCS#1 or SEC1"
                )));
            }
            _ => {}
        }
    }
    if keys.is_empty() {
        return Err(refuse(match blocks.iter().any(|block| block.label.ends_with("CERTIFICATE")) {
            true => {
                "the key text has a certificate and no private key: give the key that was made with the \
                 certificate"
            }
            false => {
                "the key text has no \"-----BEGIN PRIVATE KEY-----\": give the private key as PEM (PKCS#8, \
                 PKCS#1 or SEC1)"
            }
        }));
    }
    Ok(keys)
}

fn blocks(text: &[u8], what: &str) -> Result<Vec<Block>> {
    if der::is_der(text) {
        return Err(refuse(format!(
            "the {what} text is not PEM but binary: use `Identity::from_der`, or for a .pfx or .p12 file \
             first `openssl pkcs12 -in device.pfx -nodes -out device.pem`"
        )));
    }
    pem::blocks(text).map_err(|fault| damaged(what, &fault))
}

fn damaged(what: &str, fault: &pem::Fault) -> Error {
    refuse(format!("the {what} text cannot be read: {fault}"))
}

fn encrypted() -> Error {
    refuse("the private key is encrypted: decrypt it with `openssl pkey -in encrypted.pem -out key.pem`")
}
