//! TLS: what a test server presents, and clients that trust one authority only.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_emulator::KeyedCertificate;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, WantsVerifier};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client, server};

/// A client's side of a connection.
pub type ClientStream = client::TlsStream<TcpStream>;
/// A server's side of a connection.
pub type ServerStream = server::TlsStream<TcpStream>;

/// What a server presents itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Valid,
    WrongName,
    Expired,
}

pub(crate) fn server_config(certificate: Certificate) -> (ServerConfig, String) {
    let (chain, key, ca_pem) = presented(certificate);
    let config = server_builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    (config, ca_pem)
}

/// TLS settings of a server that asks for a certificate below this root, and accepts clients without one; and
/// the authority of the server.
pub fn asking_server(client_root_pem: &str) -> (ServerConfig, String) {
    let (chain, key, ca_pem) = presented(Certificate::Valid);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(client_root_pem)), provider);
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    (server_builder().with_client_cert_verifier(verifier).with_single_cert(chain, key).unwrap(), ca_pem)
}

fn server_builder() -> ConfigBuilder<ServerConfig, WantsVerifier> {
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
}

/// A certificate with its key, and the authority that signed it.
fn presented(certificate: Certificate) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>, String) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let name = if certificate == Certificate::WrongName { "elsewhere.example" } else { "localhost" };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if certificate == Certificate::Expired {
        params.not_before = time::OffsetDateTime::UNIX_EPOCH;
        params.not_after = time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(86_400);
    }
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &ca).unwrap();
    (vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()), ca.pem())
}

fn roots(ca_pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    roots
}

/// TLS settings of a client that trusts this authority and no other.
pub fn trusting(ca_pem: &str) -> ClientConfig {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(ca_pem))
        .with_no_client_auth()
}

/// A client that trusts this authority and presents the chain of this certificate.
pub fn presenting(ca_pem: &str, certificate: &KeyedCertificate) -> ClientConfig {
    let chain =
        CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes()).map(Result::unwrap).collect();
    presenting_chain(ca_pem, chain, &certificate.private_key_pem)
}

/// The same for a chain of another origin, and the private key of its leaf as PEM.
pub fn presenting_chain(ca_pem: &str, chain: Vec<CertificateDer<'static>>, key_pem: &str) -> ClientConfig {
    let mut config = trusting(ca_pem);
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    let key = CertifiedKey::from_der(chain, key, &provider).unwrap();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(key));
    config
}

/// Connects to a port of this machine, as a client that expects the name `localhost`.
pub async fn connect(port: u16, config: impl Into<Arc<ClientConfig>>) -> io::Result<ClientStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    TlsConnector::from(config.into()).connect("localhost".try_into().unwrap(), stream).await
}
