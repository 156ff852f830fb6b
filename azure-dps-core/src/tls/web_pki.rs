//! Verification of servers against a store of roots.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::CertificateDer;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;

/// A verifier that trusts these roots.
pub(super) fn verifier(
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>> {
    match WebPkiServerVerifier::builder_with_provider(roots, provider).build() {
        Ok(verifier) => Ok(verifier),
        Err(why) => Err(Error::new(ErrorKind::Config, "the trusted certificates cannot be used as roots")
            .with_source(why)),
    }
}

/// Adds roots to a store.
pub(super) fn with(mut store: RootCertStore, roots: &[CertificateDer<'static>]) -> Result<RootCertStore> {
    for root in roots {
        store.add(root.clone()).map_err(|why| {
            Error::new(ErrorKind::Config, "a trusted certificate cannot be used as a root").with_source(why)
        })?;
    }
    Ok(store)
}
