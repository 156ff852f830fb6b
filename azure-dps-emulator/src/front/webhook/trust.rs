//! Trust in https webhooks: the authorities of the machine, and those that the user of the emulator names.
//!
//! The first call to an https webhook reads the machine's authorities, on the blocking pool. Where the
//! platform verifies certificates itself (Windows, Apple, Android), it does. Elsewhere its authorities are
//! files: those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name; else the system's bundle; else its directory.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls_pki_types::CertificateDer;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

pub(super) type Failure = Box<dyn Error + Send + Sync>;

/// Whom the emulator trusts when it calls a webhook.
pub(super) struct Trust {
    given: Vec<CertificateDer<'static>>,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Trust {
    /// Trusts these authorities in addition to those of the machine.
    pub(super) fn new(given: Vec<CertificateDer<'static>>) -> Self {
        Trust { given, config: OnceCell::new() }
    }

    pub(super) async fn config(&self) -> Result<Arc<ClientConfig>, Failure> {
        let read = || async {
            let given = self.given.clone();
            spawn_blocking(move || client_config(given)).await?
        };
        self.config.get_or_try_init(read).await.cloned()
    }
}

fn client_config(given: Vec<CertificateDer<'static>>) -> Result<Arc<ClientConfig>, Failure> {
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(given, Arc::clone(&provider))
        .map_err(|error| io::Error::other(format!("no certificates to trust: {error}")))?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous() // The name in rustls for any custom verifier; this one verifies in full.
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(all(unix, not(target_os = "android"), not(target_vendor = "apple")))]
fn verifier(
    given: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    // An authority that cannot be read does not take the others' trust away.
    roots.add_parsable_certificates(authorities());
    for authority in given {
        roots.add(authority)?;
    }
    Ok(rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build()?)
}

/// The authorities of the machine. Its directory has those of its bundle once more, so one of them is enough.
#[cfg(all(unix, not(target_os = "android"), not(target_vendor = "apple")))]
fn authorities() -> Vec<CertificateDer<'static>> {
    let is_chosen = ["SSL_CERT_FILE", "SSL_CERT_DIR"].iter().any(|name| std::env::var_os(name).is_some());
    let bundle = openssl_probe::probe().cert_file.filter(|_| !is_chosen);
    let bundled = bundle.map(|file| rustls_native_certs::load_certs_from_paths(Some(&file), None).certs);
    match bundled.filter(|found| !found.is_empty()) {
        Some(found) => found,
        None => rustls_native_certs::load_native_certs().certs,
    }
}

#[cfg(not(all(unix, not(target_os = "android"), not(target_vendor = "apple"))))]
fn verifier(
    given: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Failure> {
    Ok(Arc::new(rustls_platform_verifier::Verifier::new_with_extra_roots(given, provider)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::pem;
    use crate::crypto::pki::Pki;

    #[tokio::test]
    async fn all_calls_share_what_was_read_once() {
        let root = Pki::new(["a"], 0).unwrap().root.certificate_pem;
        let given = pem::certificates(root.as_bytes()).unwrap();
        let trust = Trust::new(given.into_iter().map(CertificateDer::from).collect());

        let first = trust.config().await.unwrap();

        assert!(Arc::ptr_eq(&first, &trust.config().await.unwrap()));
    }
}
