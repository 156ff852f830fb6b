//! Makes and signs a request, with a new key or with one that exists.

use std::cell::RefCell;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PublicKeyData, SignatureAlgorithm};
use rustls::SignatureScheme;
use rustls::sign::{Signer, SigningKey};
use rustls_pki_types::PrivateKeyDer;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::{Zeroize as _, Zeroizing};

use crate::certificate_request::key::RequestKey;
use crate::certificate_request::signed::{Signed, check_length};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::id::RegistrationId;
use crate::identity::key::Key;
use crate::identity::pem::{self, PrivateKey};

/// The curve of a new EC key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EcCurve {
    /// NIST P-384 (secp384r1), which Microsoft documents as supported. The default.
    #[default]
    P384,
    /// NIST P-256 (prime256v1), which Microsoft's own clients use.
    P256,
}

/// A new private key.
pub(super) fn new_key(curve: EcCurve) -> Result<PrivateKey> {
    let algorithm = match curve {
        EcCurve::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
        EcCurve::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
    };
    let mut pair = KeyPair::generate_for(algorithm).map_err(|why| {
        refuse("no private key could be made: the system has no random numbers").with_source(why)
    })?;
    let der = PrivateKeyDer::Pkcs8(pair.serialized_der().to_vec().into());
    pair.zeroize();
    Ok(Zeroizing::new(der))
}

/// The first private key in a PEM text.
pub(super) fn key_in_pem(text: &[u8]) -> Result<PrivateKey> {
    pem::private_keys(text)?.into_iter().next().ok_or_else(|| refuse("the key text has no private key"))
}

pub(super) fn key_in_der(der: &[u8]) -> Result<PrivateKey> {
    let key = PrivateKeyDer::try_from(der).map_err(|_| {
        refuse(
            "the private key is not PKCS#8, PKCS#1 or SEC1 in DER, or it is encrypted: for PEM text use \
             `CertificateRequest::from_key_pem`",
        )
    })?;
    Ok(Zeroizing::new(key.clone_key()))
}

/// A key in software, ready to sign.
pub(super) fn ready(der: PrivateKey) -> Result<RequestKey> {
    match Key::read(&der)? {
        Key::Whole(key) => Ok(RequestKey::new(key, Some(der))),
        Key::Half(_) => Err(refuse(
            "the private key lacks its public key, which a request needs: add it with `openssl ec -in \
             key.pem -out whole.pem`",
        )),
    }
}

/// Signs a request for this registration id.
pub(super) fn sign(id: &RegistrationId, key: &RequestKey) -> Result<Signed> {
    check_length(id)?;
    Signed::read(&request(id, &*key.signing_key())?).map_err(|why| {
        refuse("the private key made a signature that its public key does not verify").with_source(why)
    })
}

/// The request in DER, signed with `key`.
fn request(id: &RegistrationId, key: &dyn SigningKey) -> Result<Vec<u8>> {
    let public = key.public_key().ok_or_else(|| {
        refuse(
            "the signing key does not return its public key: implement `SigningKey::public_key`, or make the \
             request with the tool of the key and use `CertificateRequest::from_der`",
        )
    })?;
    let (_, public) = SubjectPublicKeyInfo::from_der(&public)
        .map_err(|_| refuse("the public key of the signing key is not a SubjectPublicKeyInfo in DER"))?;
    let (signer, algorithm) = SCHEMES
        .iter()
        .find_map(|(scheme, algorithm)| Some((key.choose_scheme(&[*scheme])?, *algorithm)))
        .ok_or_else(|| {
            refuse(
                "the signing key has no scheme that a request can have: ECDSA on P-384 or P-256, RSA with \
                 PKCS#1 padding, or Ed25519",
            )
        })?;
    let public_key = public.subject_public_key.data.to_vec();
    let subject = Subject { public_key, algorithm, signer, failure: RefCell::default() };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, id.as_str());
    match params.serialize_request(&subject) {
        Ok(request) => Ok(request.der().to_vec()),
        Err(why) => {
            let error = refuse("the private key could not sign the certificate signing request");
            Err(match subject.failure.take() {
                Some(failure) => error.with_source(failure),
                None => error.with_source(why),
            })
        }
    }
}

/// A key of rustls, as rcgen uses keys.
struct Subject {
    public_key: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
    signer: Box<dyn Signer>,
    /// The reason of the last signature that failed.
    failure: RefCell<Option<rustls::Error>>,
}

impl PublicKeyData for Subject {
    fn der_bytes(&self) -> &[u8] {
        &self.public_key
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for Subject {
    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rcgen::Error> {
        self.signer.sign(message).map_err(|why| {
            self.failure.replace(Some(why));
            rcgen::Error::RemoteKeyError
        })
    }
}

fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Credential, message)
}

/// In the order of preference; a key has those of its own algorithm.
static SCHEMES: [(SignatureScheme, &SignatureAlgorithm); 6] = [
    (SignatureScheme::ECDSA_NISTP384_SHA384, &rcgen::PKCS_ECDSA_P384_SHA384),
    (SignatureScheme::ECDSA_NISTP256_SHA256, &rcgen::PKCS_ECDSA_P256_SHA256),
    (SignatureScheme::RSA_PKCS1_SHA256, &rcgen::PKCS_RSA_SHA256),
    (SignatureScheme::RSA_PKCS1_SHA384, &rcgen::PKCS_RSA_SHA384),
    (SignatureScheme::RSA_PKCS1_SHA512, &rcgen::PKCS_RSA_SHA512),
    (SignatureScheme::ED25519, &rcgen::PKCS_ED25519),
];
