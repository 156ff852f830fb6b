//! The one TLS client configuration, and what a TLS failure means to the caller.

use std::error::Error as StdError;
use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use rustls_platform_verifier::Verifier;

use crate::{Error, ErrorKind, Result};

/// Whose signature on a server certificate counts.
#[derive(Clone)]
pub(crate) enum TrustRoots {
    /// The platform's roots, and these.
    Platform(Vec<CertificateDer<'static>>),
    /// These alone.
    Only(Vec<CertificateDer<'static>>),
}

impl TrustRoots {
    pub(crate) fn only(pem: &[u8]) -> Result<Self> {
        certificates(pem).map(Self::Only)
    }

    pub(crate) fn and(mut self, pem: &[u8]) -> Result<Self> {
        let (Self::Platform(roots) | Self::Only(roots)) = &mut self;
        roots.extend(certificates(pem)?);
        Ok(self)
    }

    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|why| {
                Error::new(ErrorKind::Tls, "TLS 1.2 and 1.3 are not available").with_source(why)
            })?;
        let config = match self {
            Self::Platform(extra) => builder
                .dangerous() // rustls' word for any verifier but its own; the platform's verifies in full.
                .with_custom_certificate_verifier(platform_verifier(extra, provider)?)
                .with_no_client_auth(),
            Self::Only(roots) => builder.with_root_certificates(store(roots)?).with_no_client_auth(),
        };
        Ok(Arc::new(config))
    }
}

impl fmt::Debug for TrustRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform(extra) => write!(f, "the platform's and {} more", extra.len()),
            Self::Only(roots) => write!(f, "{} given", roots.len()),
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    let found =
        CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<Vec<_>, _>>().map_err(|why| {
            Error::new(ErrorKind::Config, "the trusted certificates are not PEM").with_source(why)
        })?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::Config, "the trusted certificates hold no \"BEGIN CERTIFICATE\""));
    }
    Ok(found)
}

fn store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|why| {
            Error::new(ErrorKind::Config, "a trusted certificate cannot be used as a root").with_source(why)
        })?;
    }
    Ok(store)
}

/// Reading the platform's store takes milliseconds, so the verifier without extra roots is made once a process.
fn platform_verifier(
    extra: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>> {
    static SHARED: OnceLock<Arc<Verifier>> = OnceLock::new();
    if let (true, Some(shared)) = (extra.is_empty(), SHARED.get()) {
        return Ok(Arc::clone(shared) as _);
    }
    let verifier = Verifier::new_with_extra_roots(extra.iter().cloned(), provider).map_err(|why| {
        Error::new(
            ErrorKind::Tls,
            "the platform has no usable trust store: install its CA certificates or name the roots to trust",
        )
        .with_source(why)
    })?;
    let verifier = Arc::new(verifier);
    Ok(if extra.is_empty() { Arc::clone(SHARED.get_or_init(|| verifier)) as _ } else { verifier as _ })
}

impl Error {
    /// What a failure below the application means, if TLS is somewhere in its chain of causes: the server's
    /// certificate refused ([`ErrorKind::Tls`]) or ours ([`ErrorKind::Unauthorized`]). For writers of transports.
    pub fn from_tls(failure: &(dyn StdError + 'static)) -> Option<Self> {
        let found = rustls_error_in(failure)?;
        let (kind, message) = explain(found);
        Some(Self::new(kind, message).with_source(found.clone()))
    }
}

fn rustls_error_in<'a>(failure: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(failure);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        // An `io::Error` passes over the error that it wraps when asked for its source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

fn explain(error: &rustls::Error) -> (ErrorKind, String) {
    use AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(why) => {
            let why = match why {
                // A root of the same name with another key gives `BadSignature`: an emulator that was started again.
                CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                    "is signed by no root that is trusted here"
                }
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                    "is not valid yet"
                }
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    "is for another host name"
                }
                CertificateError::Revoked => "is revoked",
                _ => "is not acceptable",
            };
            (ErrorKind::Tls, format!("the server's certificate {why}"))
        }
        rustls::Error::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired),
        ) => (
            ErrorKind::Unauthorized,
            format!("the server refused our certificate with the TLS alert {alert:?}"),
        ),
        _ => (ErrorKind::Tls, "the TLS handshake failed".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tls_failure_is_found_under_io_errors() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let outer = std::io::Error::other(std::io::Error::new(std::io::ErrorKind::InvalidData, inner));
        let error = Error::from_tls(&outer).unwrap();
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert!(error.to_string().contains("no root that is trusted here"));
        assert!(Error::from_tls(&std::io::Error::other("reset")).is_none());
    }

    #[test]
    fn an_alert_about_our_certificate_is_a_refused_credential() {
        let refused = |alert| Error::from_tls(&rustls::Error::AlertReceived(alert)).unwrap().kind();
        assert_eq!(refused(AlertDescription::UnknownCA), ErrorKind::Unauthorized);
        assert_eq!(refused(AlertDescription::HandshakeFailure), ErrorKind::Tls);
    }

    #[test]
    fn roots_that_are_no_certificates_are_refused() {
        for pem in ["", "not pem", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n"] {
            assert_eq!(TrustRoots::only(pem.as_bytes()).unwrap_err().kind(), ErrorKind::Config, "{pem:?}");
        }
    }
}
