//! X.509 identities on real TLS connections: what the server gets to see, and what its refusals become.
//!
//! The servers check clients with rustls' own verifier, so nothing agrees with the SDK by construction.
//! Server certificates that are expired, untrusted or for another name are in `sdk_on_bytes/https_faults.rs`.

use std::sync::{Arc, Mutex};

use azure_dps_core::http::{HttpAnswer, HttpClient, HttpMethod, HttpRequest};
use azure_dps_core::{CredentialKind, Endpoint, Error, ErrorKind, Identity};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{Signer, SigningKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureAlgorithm,
    SignatureScheme, SupportedProtocolVersion,
};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

#[tokio::test]
async fn the_whole_chain_is_sent_with_the_leaf_first() {
    let (root, rest) = pki();
    for version in VERSIONS {
        let server = Server::start(version, &signed_by(&root)).await;
        let (leaf, key) = leaf("sensor", &rest);
        let identity = Identity::from_pem(root.pem() + &leaf + &rest.pem(), key).unwrap();
        assert_eq!(server.ask(&identity).await.unwrap().status, 200);
        let seen = server.seen().pop().unwrap();
        assert_eq!(seen, identity.certificates());
        assert_eq!(seen, [der(&leaf), rest.der().clone(), root.der().clone()]);
    }
}

#[tokio::test]
async fn a_leaf_of_version_1_is_sent_and_signs() {
    let (pem, key) = (include_str!("../vectors/x509/v1.pem"), include_str!("../vectors/x509/v1.key"));
    let identity = Identity::from_pem(pem, key).unwrap();
    for version in VERSIONS {
        let server = Server::start(version, &(Arc::new(Raw(key)) as _)).await;
        server.ask(&identity).await.unwrap();
        assert_eq!(server.seen(), [identity.certificates()]);
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_exported_signs() {
    let (root, rest) = pki();
    let (leaf, key) = leaf("sensor", &rest);
    let identity = Identity::from_signing_key(&[leaf, rest.pem()], Arc::new(Token(load(&key)))).unwrap();
    for version in VERSIONS {
        let server = Server::start(version, &signed_by(&root)).await;
        server.ask(&identity).await.unwrap();
        assert_eq!(server.seen(), [identity.certificates()]);
    }
}

#[tokio::test]
async fn identities_of_one_endpoint_are_never_mixed_up() {
    let (root, rest) = pki();
    let devices = ["sensor-1", "sensor-2"].map(|name| {
        let (leaf, key) = leaf(name, &rest);
        Identity::from_pem(leaf + &rest.pem(), key).unwrap()
    });
    for version in VERSIONS {
        let server = Server::start(version, &perhaps_signed_by(&root)).await;
        let endpoint = server.endpoint();
        for _ in 0..3 {
            for device in &devices {
                get(&HttpClient::with_identity(&endpoint, device).unwrap()).await.unwrap();
                assert_eq!(server.seen().pop().unwrap(), device.certificates());
            }
            get(&HttpClient::new(&endpoint).unwrap()).await.unwrap();
            assert!(server.seen().pop().unwrap().is_empty());
        }
    }
}

/// In TLS 1.3 the refusal comes after the client's side of the handshake is done, when the request is under
/// way.
#[tokio::test]
async fn a_refused_certificate_is_a_refused_credential_in_both_versions_of_tls() {
    let (root, rest) = pki();
    let (strange_leaf, strange_key) = leaf("sensor", &pki().1);
    let (old_leaf, old_key) = leaf_until("sensor", &rest, OffsetDateTime::UNIX_EPOCH);
    let (leaf, key) = leaf("sensor", &rest);
    let wrong = Arc::new(Token(load(&strange_key)));
    let refused = [
        (Identity::from_pem(&leaf, &key), "UnknownCA", "all intermediates"),
        (Identity::from_pem(strange_leaf, strange_key), "UnknownCA", "make the CA known"),
        (Identity::from_pem(old_leaf + &rest.pem(), old_key), "CertificateExpired", "renew it"),
        (Identity::from_signing_key(&[leaf + &rest.pem()], wrong), "DecryptError", "belongs to another one"),
    ];
    for version in VERSIONS {
        let server = Server::start(version, &signed_by(&root)).await;
        for (identity, alert, help) in &refused {
            // Again and again, because the alert and the end of the connection may arrive in either order.
            for _ in 0..10 {
                let error = server.ask(identity.as_ref().unwrap()).await.unwrap_err();
                assert_refused(&error, alert, help);
            }
        }
        let error = get(&HttpClient::new(&server.endpoint()).unwrap()).await.unwrap_err();
        assert_eq!((error.kind(), error.credential()), (ErrorKind::Unauthorized, None), "{error:?}");
        assert!(
            error.to_string().starts_with("the server requires a client certificate and received none"),
            "{error}"
        );
        assert!(server.seen().is_empty());
    }
}

fn assert_refused(error: &Error, alert: &str, help: &str) {
    assert_eq!(error.kind(), ErrorKind::Unauthorized, "{alert}: {error:?}");
    assert_eq!(error.credential(), Some(CredentialKind::X509));
    assert_eq!(
        error.to_string(),
        format!("the server refused the client certificate with the TLS alert {alert}")
    );
    assert!(error.help().contains(help), "{}", error.help());
}

#[tokio::test]
async fn a_server_that_is_not_trusted_never_sees_the_identity() {
    let (root, rest) = pki();
    let (leaf, key) = leaf("sensor", &rest);
    let identity = Identity::from_pem(leaf + &rest.pem(), key).unwrap();
    let server = Server::start(&TLS13, &perhaps_signed_by(&root)).await;
    let endpoint = server.endpoint().trust_only(pki().0.pem()).unwrap();
    let error = get(&HttpClient::with_identity(&endpoint, &identity).unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(error.to_string().contains("signed by an unknown authority"), "{error}");
    assert!(server.seen().is_empty());
}

// The server

type Authority = CertifiedIssuer<'static, KeyPair>;

/// An HTTPS server that remembers the certificates of every client that it lets in.
struct Server {
    port: u16,
    ca_pem: String,
    seen: Arc<Mutex<Vec<Vec<CertificateDer<'static>>>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start(
        version: &'static SupportedProtocolVersion,
        clients: &Arc<dyn ClientCertVerifier>,
    ) -> Self {
        let ca = authority("Server CA", None);
        let (params, key) =
            (CertificateParams::new(["localhost".to_owned()]).unwrap(), KeyPair::generate().unwrap());
        let leaf = params.signed_by(&key, &ca).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_client_cert_verifier(Arc::clone(clients))
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let notes = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, notes) = (acceptor.clone(), Arc::clone(&notes));
                open.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let sent = stream.get_ref().1.peer_certificates().unwrap_or_default().to_vec();
                    notes.lock().unwrap().push(sent);
                    while stream.read(&mut [0; 4096]).await.is_ok_and(|length| length > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                        let _ = stream.flush().await;
                    }
                });
            }
        });
        Self { port, ca_pem: ca.pem(), seen, task }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::new("localhost").unwrap().with_port(self.port).trust_only(&self.ca_pem).unwrap()
    }

    fn seen(&self) -> Vec<Vec<CertificateDer<'static>>> {
        self.seen.lock().unwrap().clone()
    }

    async fn ask(&self, identity: &Identity) -> Result<HttpAnswer, Error> {
        get(&HttpClient::with_identity(&self.endpoint(), identity).unwrap()).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn get(client: &HttpClient) -> Result<HttpAnswer, Error> {
    client
        .send(HttpRequest { method: HttpMethod::Get, target: "/".into(), headers: Vec::new(), body: None })
        .await
}

fn signed_by(root: &Authority) -> Arc<dyn ClientCertVerifier> {
    WebPkiClientVerifier::builder_with_provider(roots(root), provider()).build().unwrap()
}

fn perhaps_signed_by(root: &Authority) -> Arc<dyn ClientCertVerifier> {
    WebPkiClientVerifier::builder_with_provider(roots(root), provider())
        .allow_unauthenticated()
        .build()
        .unwrap()
}

fn roots(root: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(root.der().clone()).unwrap();
    Arc::new(roots)
}

/// Lets every certificate pass without parsing it. In TLS 1.3 the signature is checked with the public half
/// of this key; for TLS 1.2 rustls offers no check without parsing.
#[derive(Debug)]
struct Raw(&'static str);

impl ClientCertVerifier for Raw {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = load(self.0);
        let algorithms = provider().signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key.public_key().unwrap(), signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

/// A key as a token holds it: it signs and exports nothing.
#[derive(Debug)]
struct Token(Arc<dyn SigningKey>);

impl SigningKey for Token {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(offered)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        None
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }
}

fn load(pem: &str) -> Arc<dyn SigningKey> {
    use rustls_pki_types::pem::PemObject as _;
    provider().key_provider.load_private_key(PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap()
}

fn der(pem: &str) -> CertificateDer<'static> {
    use rustls_pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

// A test PKI

/// A root, and an intermediate that it signs.
fn pki() -> (Authority, Authority) {
    let root = authority("Root", None);
    let intermediate = authority("Intermediate", Some(&root));
    (root, intermediate)
}

fn authority(name: &str, parent: Option<&Authority>) -> Authority {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    match parent {
        Some(parent) => CertifiedIssuer::signed_by(params, key, parent).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}

fn leaf(name: &str, issuer: &Authority) -> (String, String) {
    leaf_until(name, issuer, named(name).not_after)
}

fn leaf_until(name: &str, issuer: &Authority, until: OffsetDateTime) -> (String, String) {
    let (mut params, key) = (named(name), KeyPair::generate().unwrap());
    params.not_after = until;
    let leaf = params.signed_by(&key, issuer).unwrap();
    (leaf.pem(), key.serialize_pem())
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
