//! The private key of a request: it signs, and a key in software can be written as PEM.

use std::sync::Arc;

use rustls::sign::SigningKey;
use rustls_pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::error_kind::ErrorKind;
use crate::identity::pem::PrivateKey;
use crate::pem;

#[derive(Clone)]
pub(super) struct RequestKey {
    signing: Arc<dyn SigningKey>,
    /// `None` for a key that cannot be exported.
    der: Option<Arc<PrivateKey>>,
}

impl RequestKey {
    #[cfg(feature = "csr")]
    pub(super) fn new(signing: Arc<dyn SigningKey>, der: Option<PrivateKey>) -> Self {
        Self { signing, der: der.map(Arc::new) }
    }

    pub(super) fn signing_key(&self) -> Arc<dyn SigningKey> {
        Arc::clone(&self.signing)
    }

    pub(super) fn to_pem(&self) -> Option<Zeroizing<String>> {
        let der = self.der.as_deref()?;
        let label = match **der {
            PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
            PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        Some(Zeroizing::new(pem::encode(label, der.secret_der())))
    }
}

pub(super) fn missing() -> Error {
    Error::new(
        ErrorKind::Credential,
        "the certificate signing request has no private key here, because another program made it: use \
         `Identity::from_pem_files`, or `Identity::from_signing_key`, with the issued chain and the key of \
         that program",
    )
}

pub(super) fn sealed() -> Error {
    Error::new(
        ErrorKind::Credential,
        "the private key cannot be written: it is an object that signs and cannot be exported",
    )
}
