//! X.509 credentials against a TLS server without semantics: what is presented, what is sent, and what refusals mean.
#![allow(clippy::expect_used)] // Test code.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use azure_dps_core::{Endpoint, ErrorKind, Identity};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Credential, Https, HubAccess, Mqtt};
use azure_dps_tests::{device, header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use time::{Duration as Days, OffsetDateTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

pub(super) type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str, issuer: Option<&Authority>) -> Authority {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    match issuer {
        Some(issuer) => CertifiedIssuer::signed_by(params, key, issuer).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    }
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Days::days(1);
    params.not_after = OffsetDateTime::now_utc() + Days::days(1);
    params
}

/// Root, two intermediates, and the device's leaf; the PEM is in no order.
pub(super) struct Chain {
    pub(super) root: Authority,
    pub(super) leaf: CertificateDer<'static>,
    lower: Authority,
    upper: Authority,
    pub(super) identity: Identity,
}

pub(super) fn chain(name: &str) -> Chain {
    let root = authority("root", None);
    let upper = authority("upper", Some(&root));
    let lower = authority("lower", Some(&upper));
    let key = KeyPair::generate().unwrap();
    let leaf = params(name).signed_by(&key, &lower).unwrap();
    let pem = format!("{}{}{}", upper.pem(), leaf.pem(), lower.pem());
    let identity = Identity::from_pem(pem, key.serialize_pem()).unwrap();
    Chain { root, leaf: leaf.der().clone(), lower, upper, identity }
}

pub(super) struct Server {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    ca_pem: String,
}

impl Server {
    /// A server that asks for a certificate and trusts these authorities.
    pub(super) async fn trusting(authorities: &[&Authority]) -> Self {
        let mut roots = RootCertStore::empty();
        authorities.iter().for_each(|root| roots.add(root.der().clone()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let ca = authority("server root", None);
        let key = KeyPair::generate().unwrap();
        let leaf =
            CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        Self {
            listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            ca_pem: ca.pem(),
        }
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        let port = self.listener.local_addr().unwrap().port();
        Endpoint::new("localhost").unwrap().with_port(port).trust_only(&self.ca_pem).unwrap()
    }

    pub(super) async fn accept(&self) -> std::io::Result<TlsStream<tokio::net::TcpStream>> {
        let (stream, _) = self.listener.accept().await?;
        self.acceptor.accept(stream).await
    }
}

pub(super) fn presented(stream: &TlsStream<tokio::net::TcpStream>) -> Vec<CertificateDer<'static>> {
    stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|der| der.clone().into_owned())
        .collect()
}

async fn hear(stream: &mut TlsStream<tokio::net::TcpStream>) -> Vec<u8> {
    let mut bytes = vec![0; 8192];
    let length = stream.read(&mut bytes).await.unwrap();
    bytes.truncate(length);
    bytes
}

/// The kind of handshake with which a device connects, and the leaf that the server knows it by. The first answer is
/// `refusal`.
async fn handshake(
    server: &Server,
    transport: &Arc<dyn Transport>,
    identity: &Identity,
    refusal: &[u8],
) -> (HandshakeKind, CertificateDer<'static>) {
    let credential = Credential::x509(identity.clone()).unwrap();
    let client = device("0ne00ABCDEF", credential, Arc::clone(transport));
    let refusing = async {
        let mut stream = server.accept().await.unwrap();
        hear(&mut stream).await;
        stream.write_all(refusal).await.unwrap();
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        let leaf = presented(&stream).swap_remove(0);
        // The device has read the tickets when it is gone.
        let _ = stream.read_to_end(&mut Vec::new()).await;
        (kind, leaf)
    };
    let (refused, seen) = tokio::join!(client.register(), refusing);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unauthorized);
    seen
}

#[tokio::test]
async fn a_second_connection_of_an_identity_resumes_its_session_and_no_other() {
    let (one, other) = (chain("dev-1"), chain("dev-1"));
    let server = Server::trusting(&[&one.root, &other.root]).await;
    let transports: [(Arc<dyn Transport>, &[u8]); 2] = [
        (Arc::new(Mqtt::new(server.endpoint())), &[0x20, 2, 0, 5]),
        (Arc::new(Amqp::new(server.endpoint())), b"AMQP\x03\x01\0\0"),
    ];
    for (transport, refusal) in &transports {
        for (device, kind) in [
            (&one, HandshakeKind::Full),
            (&one, HandshakeKind::Resumed),
            (&other, HandshakeKind::Full),
            (&other, HandshakeKind::Resumed),
            (&one, HandshakeKind::Resumed),
        ] {
            let seen = handshake(&server, transport, &device.identity, refusal).await;
            assert_eq!(seen, (kind, device.leaf.clone()), "{transport:?}");
        }
    }
}

const ASSIGNED: &str = r#"{"operationId":"o","status":"assigned","registrationState":{"registrationId":"dev-1","assignedHub":"h.azure-devices.net","deviceId":"dev-1","status":"assigned"}}"#;

fn assigned() -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{ASSIGNED}",
        ASSIGNED.len()
    )
}

fn register(
    identity: &Identity,
    transport: impl Transport + 'static,
) -> tokio::task::JoinHandle<azure_dps_core::Result<azure_dps_device::Assignment>> {
    let device = device("0ne00ABCDEF", Credential::x509(identity.clone()).unwrap(), transport);
    tokio::spawn(async move { device.register().await })
}

#[tokio::test]
async fn https_presents_the_whole_chain_in_order_and_sends_no_token() {
    let chain = chain("dev-1");
    let server = Server::trusting(&[&chain.root]).await;
    let registering = register(&chain.identity, Https::new(server.endpoint()));
    let mut stream = server.accept().await.unwrap();
    assert_eq!(
        presented(&stream),
        [chain.leaf.clone(), chain.lower.der().clone(), chain.upper.der().clone()]
    );
    let request = String::from_utf8(hear(&mut stream).await).unwrap();
    assert!(request.starts_with("PUT /0ne00ABCDEF/registrations/dev-1/register?api-version=2021-10-01 "));
    assert_eq!(header(&request, "authorization"), None);
    stream.write_all(assigned().as_bytes()).await.unwrap();
    let assignment = registering.await.unwrap().unwrap();
    assert_eq!(assignment.hub(), "h.azure-devices.net");
}

/// Expected values: the CONNECT packet of the official Node.js device client 1.9.1 with a certificate.
#[tokio::test]
async fn mqtt_presents_the_whole_chain_and_a_user_name_without_a_password() {
    let chain = chain("dev-1");
    let server = Server::trusting(&[&chain.root]).await;
    let _registering = register(&chain.identity, Mqtt::new(server.endpoint()));
    let mut stream = server.accept().await.unwrap();
    assert_eq!(presented(&stream).len(), 3);
    let connect = hear(&mut stream).await;
    assert_eq!(connect[0], 0x10);
    let name = connect.windows(4).position(|four| four == b"MQTT").unwrap();
    let flags = connect[name + 5];
    assert_eq!(flags, 0b1000_0010, "a user name, no password, a clean session");
    assert!(connect.ends_with(b"%28Rust%29"), "the user name ends there");
}

#[tokio::test]
async fn an_alert_about_our_certificate_is_a_refused_credential_on_every_transport() {
    let chain = chain("dev-1");
    let server = Server::trusting(&[&authority("stranger", None)]).await;
    let transports: [Arc<dyn Transport>; 2] =
        [Arc::new(Https::new(server.endpoint())), Arc::new(Mqtt::new(server.endpoint()))];
    for transport in transports {
        let name = format!("{transport:?}");
        let registering = register(&chain.identity, transport);
        server.accept().await.unwrap_err();
        let error = registering.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized, "{name}: {error:?}");
        assert!(error.to_string().contains("UnknownCA"), "{error}");
        assert!(error.help().contains("certificate"), "{}", error.help());
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_refused_before_anything_is_sent() {
    let server = Server::trusting(&[&authority("root", None)]).await;
    let key = KeyPair::generate().unwrap();
    let mut expired = params("dev-1");
    expired.not_after = OffsetDateTime::now_utc() - Days::hours(1);
    let pem = expired.self_signed(&key).unwrap().pem();
    let identity = Identity::from_pem(pem, key.serialize_pem()).unwrap();
    let error = register(&identity, Https::new(server.endpoint())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(error.to_string().contains("CN=dev-1"), "{error}");

    let other = Credential::x509_as("dev-2".parse().unwrap(), chain("dev-1").identity);
    let error = device("0ne00ABCDEF", other, Mqtt::new(server.endpoint())).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credential);
    assert!(error.to_string().contains("dev-2") && error.to_string().contains("dev-1"), "{error}");

    let connected = tokio::time::timeout(Duration::from_millis(50), server.listener.accept()).await;
    assert!(connected.is_err(), "a client connected");
}

#[tokio::test]
async fn devices_share_no_connection_and_one_device_keeps_its_own() {
    let (one, two) = (chain("dev-1"), chain("dev-2"));
    let server = Server::trusting(&[&one.root, &two.root]).await;
    let https = Https::new(server.endpoint());

    let first = register(&one.identity, https.clone());
    let mut of_one = server.accept().await.unwrap();
    hear(&mut of_one).await;
    of_one.write_all(assigned().as_bytes()).await.unwrap();
    first.await.unwrap().unwrap();

    let again = register(&one.identity, https.clone());
    hear(&mut of_one).await;
    of_one.write_all(assigned().as_bytes()).await.unwrap();
    again.await.unwrap().unwrap();

    let second = register(&two.identity, https);
    let mut of_two = server.accept().await.unwrap();
    assert_eq!(presented(&of_two)[0], two.leaf);
    hear(&mut of_two).await;
    of_two.write_all(assigned().as_bytes()).await.unwrap();
    let assignment = second.await.unwrap().unwrap();

    let credential = Credential::x509(two.identity).unwrap();
    let now = OffsetDateTime::now_utc();
    let access = HubAccess::new(credential, &assignment).unwrap();
    let sign_in = access.sign_in(Duration::from_secs(60), now).unwrap();
    assert_eq!((sign_in.password(), sign_in.expires(), sign_in.renew_at()), (None, None, None));
    let late =
        access.sign_in(Duration::from_secs(60), now + Duration::from_secs(36_500 * 86_400)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Credential, "the certificate has expired by then: {late}");
}
