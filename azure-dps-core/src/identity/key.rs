//! Private keys, ready to sign. Pure.
//!
//! | key | result |
//! | --- | --- |
//! | RSA of 2048 to 4096 bits with an exponent from 65537 on, EC on P-256 or P-384, Ed25519 | used |
//! | EC without its public key, or with a compressed one | used with the public key of the certificate |
//! | other RSA keys, RSA-PSS, other curves, explicit curves | error that names the kind and the remedy |
//!
//! Whether DPS accepts Ed25519 is not documented.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::sign::SigningKey;
use rustls_pki_types::{PrivateKeyDer, PrivateSec1KeyDer};
use sec1::der::asn1::{AnyRef, ObjectIdentifier, UintRef};
use sec1::der::{Encode as _, Reader as _, SliceReader};
use sec1::pkcs8::PrivateKeyInfo;
use sec1::{EcParameters, EcPrivateKey};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::identity::refusal::refuse;

/// A private key.
pub(crate) enum Key {
    Whole(Arc<dyn SigningKey>),
    /// An EC key without its public key, which the certificate provides.
    Half(Half),
}

pub(crate) struct Half {
    curve: ObjectIdentifier,
    scalar: Zeroizing<Vec<u8>>,
}

impl Key {
    /// Parses a key. The error does not include the library's message, because it could quote the key.
    ///
    /// # Errors
    /// A key that cannot sign here; the message names its kind.
    pub(crate) fn read(der: &PrivateKeyDer<'_>) -> Result<Self> {
        match load(der.clone_key()) {
            Some(key) => Ok(Key::Whole(key)),
            None => match der {
                PrivateKeyDer::Pkcs8(pkcs8) => read_pkcs8(pkcs8.secret_pkcs8_der()),
                PrivateKeyDer::Pkcs1(pkcs1) => Err(unusable_rsa(pkcs1.secret_pkcs1_der())),
                PrivateKeyDer::Sec1(sec1) => read_sec1(sec1.secret_sec1_der(), None),
                _ => Err(unreadable()),
            },
        }
    }

    /// The complete key, if it is complete or belongs to one of the certificates.
    pub(super) fn complete(self, certificates: &[impl AsRef<[u8]>]) -> Option<Arc<dyn SigningKey>> {
        match self {
            Key::Whole(key) => Some(key),
            Key::Half(half) => {
                certificates.iter().find_map(|certificate| half.complete(certificate.as_ref()))
            }
        }
    }
}

impl Half {
    /// The library refuses the public key of another certificate, because the two do not match.
    fn complete(&self, certificate: &[u8]) -> Option<Arc<dyn SigningKey>> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let whole = EcPrivateKey {
            private_key: &self.scalar,
            parameters: Some(EcParameters::NamedCurve(self.curve)),
            public_key: Some(&certificate.public_key().subject_public_key.data),
        };
        load(PrivateSec1KeyDer::from(whole.to_der().ok()?).into())
    }
}

fn load(key: PrivateKeyDer<'static>) -> Option<Arc<dyn SigningKey>> {
    ring::default_provider().key_provider.load_private_key(key).ok()
}

fn read_pkcs8(der: &[u8]) -> Result<Key> {
    let info = PrivateKeyInfo::try_from(der).map_err(|_| unreadable())?;
    match info.algorithm.oid {
        RSA => Err(unusable_rsa(info.private_key)),
        RSA_PSS => Err(refuse(
            "the private key is restricted to RSA-PSS, which this TLS library does not use: make a key with \
             `openssl ecparam -name prime256v1 -genkey -noout` or `openssl genrsa 2048`, and a certificate \
             for it",
        )),
        EC => match info.algorithm.parameters_oid() {
            Ok(curve) => read_sec1(info.private_key, Some(curve)),
            Err(_) => Err(explicit_curve()),
        },
        other => {
            Err(refuse(format!("the private key has the algorithm {other}, which cannot be used: {GIVE}")))
        }
    }
}

fn read_sec1(der: &[u8], curve: Option<ObjectIdentifier>) -> Result<Key> {
    // The type does not support explicit parameters.
    let key = EcPrivateKey::try_from(der)
        .map_err(|_| if is_sec1(der) { explicit_curve() } else { unreadable() })?;
    let named = key.parameters.and_then(|parameters| parameters.named_curve());
    let curve = curve.or(named).ok_or_else(explicit_curve)?;
    let size: usize = match curve {
        P256 => 32,
        P384 => 48,
        other => {
            let name = match other {
                P521 => "P-521 (secp521r1)".to_owned(),
                SECP256K1 => "secp256k1".to_owned(),
                other => other.to_string(),
            };
            return Err(refuse(format!(
                "the private key is an EC key on the curve {name}, which cannot be used: {GIVE}"
            )));
        }
    };
    let missing = size.checked_sub(key.private_key.len()).ok_or_else(unreadable)?;
    let mut scalar = Zeroizing::new(vec![0; missing]);
    scalar.extend_from_slice(key.private_key);
    Ok(Key::Half(Half { curve, scalar }))
}

/// Whether it starts like an EC private key: version 1 and an octet string.
fn is_sec1(der: &[u8]) -> bool {
    let begins = |reader: &mut SliceReader<'_>| {
        reader.sequence(|inner| {
            let version: u8 = inner.decode()?;
            let scalar: AnyRef<'_> = inner.decode()?;
            while !inner.is_finished() {
                inner.decode::<AnyRef<'_>>()?;
            }
            Ok(version == 1 && scalar.value().len() >= 16)
        })
    };
    SliceReader::new(der).and_then(|mut reader| begins(&mut reader)).unwrap_or(false)
}

fn unusable_rsa(der: &[u8]) -> Error {
    let numbers = SliceReader::new(der).and_then(|mut reader| {
        reader.sequence(|inner| {
            let _version: u8 = inner.decode()?;
            let (modulus, exponent): (UintRef<'_>, UintRef<'_>) = (inner.decode()?, inner.decode()?);
            while !inner.is_finished() {
                inner.decode::<AnyRef<'_>>()?;
            }
            Ok((bits(modulus.as_bytes()), exponent.as_bytes()))
        })
    });
    match numbers {
        Ok((bits, _)) if !(2048..=4096).contains(&bits) => {
            refuse(format!("the private key is an RSA key of {bits} bits, which cannot be used: {GIVE}"))
        }
        Ok((_, exponent)) if exponent.len() < 3 => refuse(
            "the private key is an RSA key with a public exponent below 65537, which this TLS library does \
             not use: make the key again with `openssl genrsa 2048`, and a certificate for it",
        ),
        _ => unreadable(),
    }
}

fn bits(number: &[u8]) -> usize {
    let zeros = number.first().map_or(0, |first| first.leading_zeros() as usize);
    (number.len() * 8).saturating_sub(zeros)
}

fn explicit_curve() -> Error {
    refuse(
        "the private key has explicit curve parameters: replace them by the name of the curve with \
         `openssl ec -in key.pem -param_enc named_curve -out named.pem`",
    )
}

fn unreadable() -> Error {
    refuse(format!("the private key cannot be used: its content is damaged, or has an unknown form; {GIVE}"))
}

const GIVE: &str = "give an RSA key of 2048 to 4096 bits or an EC key on P-256 or P-384";
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const SECP256K1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.10");
