//! The one TLS client configuration: protocol versions, roots, and the client's certificate.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::identity::Identity;
use crate::pem;

mod platform;
#[cfg(all(unix, not(target_os = "android"), not(target_vendor = "apple")))]
mod trust_store;
mod web_pki;

/// The authorities that may sign a server certificate. No value trusts every certificate.
#[derive(Clone)]
pub(crate) struct TrustRoots {
    choice: Choice,
    /// Built once and shared by all clones.
    verifier: Arc<OnceLock<Arc<dyn ServerCertVerifier>>>,
    /// The configuration without an identity, shared likewise: it keeps the TLS sessions that can be resumed.
    anonymous: Arc<OnceLock<Arc<ClientConfig>>>,
}

#[derive(Clone)]
enum Choice {
    /// The platform's roots and these.
    Platform(Vec<CertificateDer<'static>>),
    /// Only these.
    Only(Vec<CertificateDer<'static>>),
}

impl TrustRoots {
    pub(crate) fn platform() -> Self {
        static SHARED: OnceLock<TrustRoots> = OnceLock::new();
        SHARED.get_or_init(|| Choice::Platform(Vec::new()).into()).clone()
    }

    pub(crate) fn only(pem: &[u8]) -> Result<Self> {
        Ok(Choice::Only(certificates(pem)?).into())
    }

    pub(crate) fn and(mut self, pem: &[u8]) -> Result<Self> {
        let (Choice::Platform(roots) | Choice::Only(roots)) = &mut self.choice;
        roots.extend(certificates(pem)?);
        Ok(self.choice.into())
    }

    /// A configuration with the shared verifier; the one without an identity is shared too.
    pub(crate) fn client_config(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
        match (identity, self.anonymous.get()) {
            (Some(_), _) => self.new_client_config(identity),
            (None, Some(made)) => Ok(Arc::clone(made)),
            (None, None) => {
                let made = self.new_client_config(None)?;
                Ok(Arc::clone(self.anonymous.get_or_init(|| made)))
            }
        }
    }

    fn new_client_config(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(ring::default_provider());
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| Error::new(ErrorKind::Tls, "TLS 1.2 and 1.3 are not available").with_source(why))?
            .dangerous() // rustls requires this word for every verifier but its own; ours verifies in full.
            .with_custom_certificate_verifier(verifier);
        Ok(Arc::new(match identity {
            Some(identity) => builder.with_client_cert_resolver(identity.resolver()),
            None => builder.with_no_client_auth(),
        }))
    }

    pub(crate) fn reads_trust_store(&self) -> bool {
        matches!(self.choice, Choice::Platform(_)) && self.verifier.get().is_none() && !platform::is_read()
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        if let Some(made) = self.verifier.get() {
            return Ok(Arc::clone(made));
        }
        let made = self.choice.verifier(Arc::clone(provider))?;
        Ok(Arc::clone(self.verifier.get_or_init(|| made)))
    }
}

impl Choice {
    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
        match self {
            Self::Platform(extra) => platform::verifier(extra, provider),
            Self::Only(roots) => {
                web_pki::verifier(web_pki::with(RootCertStore::empty(), roots)?.into(), provider)
            }
        }
    }
}

impl From<Choice> for TrustRoots {
    fn from(choice: Choice) -> Self {
        Self { choice, verifier: Arc::default(), anonymous: Arc::default() }
    }
}

impl fmt::Debug for TrustRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.choice {
            Choice::Platform(extra) => write!(f, "the platform's and {} more", extra.len()),
            Choice::Only(roots) => write!(f, "{} given", roots.len()),
        }
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let unreadable = |fault: pem::Fault| {
        Error::new(ErrorKind::Config, format!("the trusted certificates cannot be read: {fault}"))
    };
    let blocks = pem::blocks(text).map_err(unreadable)?;
    let found = pem::certificates(&blocks);
    if found.is_empty() {
        return Err(Error::new(
            ErrorKind::Config,
            "the trusted certificates have no \"-----BEGIN CERTIFICATE-----\": give them as PEM",
        ));
    }
    Ok(found.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_and_identities_share_one_verifier() {
        let root = include_str!("../../tests/vectors/x509/root.pem");
        let pem = include_str!("../../tests/vectors/x509/v1.pem");
        let key = include_str!("../../tests/vectors/x509/v1.key");
        let identity = Identity::from_pem(pem, key).unwrap();

        let roots = TrustRoots::only(root.as_bytes()).unwrap();
        let copy = roots.clone();
        assert!(roots.client_config(Some(&identity)).unwrap().client_auth_cert_resolver.has_certs());
        let made = Arc::clone(copy.verifier.get().unwrap());
        assert!(!copy.client_config(None).unwrap().client_auth_cert_resolver.has_certs());
        assert!(Arc::ptr_eq(&made, roots.verifier.get().unwrap()));

        let more = copy.and(root.as_bytes()).unwrap();
        assert!(more.verifier.get().is_none(), "other roots, another verifier");
        assert!(roots.verifier.get().is_some());
        assert!(Arc::ptr_eq(&TrustRoots::platform().verifier, &TrustRoots::platform().verifier));
    }

    #[test]
    fn all_clones_share_the_configuration_without_an_identity() {
        let root = include_str!("../../tests/vectors/x509/root.pem");
        let roots = TrustRoots::only(root.as_bytes()).unwrap();
        let copy = roots.clone();
        let made = roots.client_config(None).unwrap();
        assert!(Arc::ptr_eq(&made, &copy.client_config(None).unwrap()));
        let more = copy.and(root.as_bytes()).unwrap();
        assert!(!Arc::ptr_eq(&made, &more.client_config(None).unwrap()), "other roots, other sessions");
    }

    #[test]
    fn every_root_of_a_text_is_trusted() {
        let glued = include_str!("../../tests/vectors/x509/chains/roots-glued.pem");
        let root = include_str!("../../tests/vectors/x509/root.pem");
        for text in [glued.to_owned(), format!("\u{feff}{root}{glued}"), format!("{root}\u{feff}{root}")] {
            let roots = TrustRoots::only(text.as_bytes()).unwrap();
            assert_eq!(format!("{roots:?}"), format!("{} given", text.matches("BEGIN CERTIFICATE").count()));
        }
    }

    #[test]
    fn roots_that_are_not_certificates_are_refused() {
        for pem in ["", "not pem", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n"] {
            assert_eq!(TrustRoots::only(pem.as_bytes()).unwrap_err().kind(), ErrorKind::Config, "{pem:?}");
        }
    }
}
