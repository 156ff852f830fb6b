//! The connection to a hub against peers that play literal bytes: the names that it asks for, the WebSocket, the
//! proxy, and every way it can go wrong.
//!
//! Expected values: the request of the official Node.js device client for a WebSocket; RFC 6455.

use std::time::{Duration, Instant};

use azure_dps_core::{Endpoint, Error, ErrorKind, Proxy};
use azure_dps_device::{Assignment, Credential, HubAccess, HubStream};
use azure_dps_tests::registration::{ID, KEY, credential};
use azure_dps_tests::sas;
use azure_dps_tests::tls::ServerStream;
use azure_dps_tests::websocket_bytes::{BINARY, FIN};
use azure_dps_tests::{CLOSED_PORT, Certificate, OpenProxy, RawPeer, TlsListener, header};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::websocket::{Socket, accepted, handshake};
use super::x509::{Server, chain, presented};

/// The name in the certificate of [`Certificate::WrongName`].
const HUB: &str = "elsewhere.example";

fn access_of(credential: Credential) -> HubAccess {
    HubAccess::new(credential, &Assignment::new(HUB, ID).unwrap()).unwrap()
}

/// The way to a hub that is dialled at another place.
fn access(endpoint: Endpoint) -> HubAccess {
    access_of(credential()).with_endpoint(endpoint)
}

/// A connection attempt on another task, which needs both to be `Send`.
fn connect(access: HubAccess) -> JoinHandle<Result<HubStream, Error>> {
    tokio::spawn(async move { access.connect().await })
}

async fn refused(access: HubAccess) -> Error {
    connect(access).await.unwrap().unwrap_err()
}

fn asked_for(stream: &ServerStream) -> Option<&str> {
    stream.get_ref().1.server_name()
}

#[tokio::test]
async fn bytes_go_both_ways_as_they_are() {
    let listener = TlsListener::start().await;
    let connecting = connect(access(listener.endpoint()));
    let mut server = listener.accept_stream().await;
    assert_eq!(asked_for(&server), Some("localhost"), "TLS asks for the endpoint's host");
    let mut stream = connecting.await.unwrap().unwrap();
    stream.write_all(b"\x10\x00").await.unwrap();
    stream.flush().await.unwrap();
    let mut heard = [0; 2];
    server.read_exact(&mut heard).await.unwrap();
    server.write_all(b"\x20\x02\x00\x00").await.unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!((&heard, &answer), (b"\x10\x00", b"\x20\x02\x00\x00"));
    drop(stream);
    assert_eq!(server.read(&mut heard).await.unwrap_or_default(), 0, "dropping it closes the connection");
}

#[tokio::test]
async fn an_address_of_the_hub_is_verified_by_the_hubs_name_when_that_is_set() {
    let listener = TlsListener::presenting(Certificate::WrongName).await;
    let connecting = connect(access(listener.endpoint()).with_hub_as_server_name());
    let server = listener.accept_stream().await;
    assert_eq!(asked_for(&server), Some(HUB));
    connecting.await.unwrap().unwrap();

    let before = access_of(credential()).with_hub_as_server_name().with_endpoint(listener.endpoint());
    let _connecting = connect(before.with_websocket());
    let (server, head) = handshake(&listener).await;
    assert_eq!((asked_for(&server), header(&head, "host")), (Some(HUB), Some(HUB)));

    let other = TlsListener::start().await;
    let access = access(other.endpoint()).with_hub_as_server_name();
    let (error, ()) = tokio::join!(refused(access), other.fail_to_accept());
    assert_eq!(error.kind(), ErrorKind::Tls, "another server at that address: {error}");
}

#[test]
fn the_password_is_what_another_program_signs() {
    let now = time::OffsetDateTime::from_unix_timestamp(4_000_000_000).unwrap();
    for id in ["sensor", "a#1%+$'!(),:=@;*?"] {
        let access = HubAccess::new(credential(), &Assignment::new(HUB, id).unwrap()).unwrap();
        let sign_in = access.sign_in(Duration::from_secs(600), now).unwrap();
        assert_eq!(sign_in.password(), Some(sas::for_hub(KEY, HUB, id, 4_000_000_600).as_str()));
    }
}

#[tokio::test]
async fn a_websocket_is_asked_for_as_the_official_clients_do() {
    let listener = TlsListener::start().await;
    let _connecting = connect(access(listener.endpoint()).with_websocket());
    let (_stream, head) = handshake(&listener).await;
    assert!(head.starts_with("GET /$iothub/websocket HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "sec-websocket-protocol"), Some("mqtt"));
    assert_eq!(header(&head, "host"), Some(format!("localhost:{}", listener.port).as_str()));
}

#[tokio::test]
async fn a_websocket_carries_the_bytes_in_binary_messages() {
    let listener = TlsListener::start().await;
    let connecting = connect(access(listener.endpoint()).with_websocket());
    let mut socket = Socket::accept(&listener).await;
    let mut stream = connecting.await.unwrap().unwrap();
    stream.write_all(b"\x10\x00").await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(socket.hear().await, (BINARY, b"\x10\x00".to_vec()));
    socket.say(FIN | BINARY, b"\x20\x02\x00\x00").await;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"\x20\x02\x00\x00");
}

#[tokio::test]
async fn without_an_endpoint_the_hub_itself_is_dialled() {
    let hub = |name: &str| HubAccess::new(credential(), &Assignment::new(name, ID).unwrap()).unwrap();
    for (access, place) in
        [(hub("hub.invalid"), "hub.invalid:8883"), (hub("hub.invalid").with_websocket(), "hub.invalid:443")]
    {
        let error = refused(access).await;
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.to_string().contains(place), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_is_asked_for_the_endpoint() {
    let (listener, proxy) = (TlsListener::start().await, OpenProxy::start().await);
    let endpoint = listener.endpoint().with_proxy(Proxy::new(&proxy.url()).unwrap());
    for websocket in [false, true] {
        let access = access(endpoint.clone());
        let access = if websocket { access.with_websocket() } else { access };
        let connecting = connect(access);
        if websocket {
            Socket::accept(&listener).await;
        } else {
            listener.accept_stream().await;
        }
        connecting.await.unwrap().unwrap();
        assert_eq!(proxy.asked(), [format!("localhost:{}", listener.port)]);
    }
    let wrong = Proxy::new(&format!("http://user:hunter2@127.0.0.1:{}", proxy.port())).unwrap();
    let error = refused(access(listener.endpoint().with_proxy(wrong))).await;
    assert_eq!(error.kind(), ErrorKind::Proxy, "{error}");
    assert!(!format!("{error} {error:?} {error:#?}").contains("hunter2"));
}

#[tokio::test]
async fn a_certificate_that_does_not_fit_is_a_typed_error() {
    let stranger = TlsListener::start().await;
    for (certificate, ca_pem) in [
        (Certificate::WrongName, None),
        (Certificate::Expired, None),
        (Certificate::Valid, Some(&stranger.ca_pem)),
    ] {
        let listener = TlsListener::presenting(certificate).await;
        let mut endpoint = listener.endpoint();
        if let Some(ca_pem) = ca_pem {
            endpoint = endpoint.trust_only(ca_pem).unwrap();
        }
        for access in [access(endpoint.clone()), access(endpoint).with_websocket()] {
            let (error, ()) = tokio::join!(refused(access), listener.fail_to_accept());
            assert_eq!(error.kind(), ErrorKind::Tls, "{certificate:?}: {error}");
            assert!(error.help().contains("add its CA"), "{}", error.help());
        }
    }
}

#[tokio::test]
async fn a_peer_that_is_silent_at_any_step_is_left_within_the_limit() {
    let limit = Duration::from_millis(300);
    let (silent, listener) = (RawPeer::silent().await, TlsListener::start().await);
    let raw =
        Endpoint::new("localhost").unwrap().with_port(silent.port).trust_only(&listener.ca_pem).unwrap();
    let proxy = Proxy::new(&format!("http://127.0.0.1:{}", silent.port)).unwrap();
    let proxied = listener.endpoint().with_proxy(proxy).with_connect_timeout(limit);
    let in_websocket = listener.endpoint().with_connect_timeout(limit);
    let holding = tokio::spawn(async move {
        let held = handshake(&listener).await;
        std::future::pending::<()>().await;
        drop(held);
    });
    let started = Instant::now();
    for (step, access) in [
        ("TLS", access(raw.with_connect_timeout(limit))),
        ("the proxy", access(proxied)),
        ("the WebSocket", access(in_websocket).with_websocket()),
    ] {
        let error = refused(access).await;
        assert_eq!(error.kind(), ErrorKind::Connect, "{step}: {error}");
        assert!(error.to_string().contains("within 300ms"), "{step}: {error}");
    }
    holding.abort();
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_server_that_opens_no_websocket_is_a_typed_error() {
    for (answer, kind) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", ErrorKind::Connect),
        ("\x20\x02\x00\x05 not HTTP\r\n\r\n", ErrorKind::Protocol),
    ] {
        let listener = TlsListener::start().await;
        let connecting = connect(access(listener.endpoint()).with_websocket());
        let (mut stream, _) = handshake(&listener).await;
        stream.write_all(answer.as_bytes()).await.unwrap();
        assert_eq!(connecting.await.unwrap().unwrap_err().kind(), kind, "{answer:?}");
    }
    let listener = TlsListener::start().await;
    let connecting = connect(access(listener.endpoint()).with_websocket());
    let (mut stream, head) = handshake(&listener).await;
    stream.write_all(accepted(&head, "Sec-WebSocket-Protocol: AMQPWSB10\r\n").as_bytes()).await.unwrap();
    assert_eq!(connecting.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_port_without_a_listener_is_a_typed_error() {
    let endpoint = Endpoint::new("127.0.0.1").unwrap().with_port(CLOSED_PORT);
    assert_eq!(refused(access(endpoint)).await.kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_certificate_that_the_hub_refuses_is_known_from_the_first_read() {
    let (own, other) = (chain(ID), chain(ID));
    let server = Server::trusting(&[&other.root]).await;
    let access = access_of(Credential::x509(own.identity).unwrap()).with_endpoint(server.endpoint());
    let connecting = connect(access);
    server.accept().await.unwrap_err();
    let mut stream = connecting.await.unwrap().unwrap();
    let failure = stream.read_u8().await.unwrap_err();
    assert_eq!(Error::from_tls(&failure, "the hub").unwrap().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_device_with_a_certificate_presents_it_and_has_no_password() {
    let own = chain(ID);
    let server = Server::trusting(&[&own.root]).await;
    let access = access_of(Credential::x509(own.identity).unwrap()).with_endpoint(server.endpoint());
    let now = time::OffsetDateTime::now_utc();
    assert_eq!(access.sign_in(Duration::from_secs(60), now).unwrap().password(), None);
    let connecting = connect(access.clone());
    let stream = server.accept().await.unwrap();
    assert_eq!(presented(&stream)[0], own.leaf);
    connecting.await.unwrap().unwrap();
    // A library that dials by itself presents the same.
    assert!(access.client_config().unwrap().client_auth_cert_resolver.has_certs());
}
