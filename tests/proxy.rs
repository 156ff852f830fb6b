//! Every transport through an HTTP proxy that wants a login, to the emulator.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment, SymmetricKeyAttestation};
use azure_dps_core::{ErrorKind, Proxy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Auto, Credential, Https, Mqtt};
use azure_dps_emulator::Emulator;
use azure_dps_tests::{OpenProxy, RawPeer, Shown, device, endpoint_of, service_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Of making one connection.
const LIMIT: Duration = Duration::from_secs(15);
const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

async fn enrolled() -> Shown {
    let emulator = Shown(Emulator::start().await.unwrap());
    let keys = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
    let record = IndividualEnrollment::new("dev-1", keys);
    service_of(&emulator).enrollments().create_or_update(&record).await.unwrap();
    emulator
}

/// Each transport through a proxy, and the port that it asks the proxy for.
fn transports(emulator: &Emulator, proxy: &str, limit: Duration) -> Vec<(Arc<dyn Transport>, u16)> {
    let endpoint = endpoint_of(emulator).with_proxy(Proxy::new(proxy).unwrap());
    let endpoint = endpoint.connect_timeout(limit);
    let (https, mqtt, amqp) = (emulator.https_port(), emulator.mqtt_port(), emulator.amqp_port());
    vec![
        (Arc::new(Https::new(endpoint.clone())), https),
        (Arc::new(Mqtt::new(endpoint.clone().with_port(mqtt))), mqtt),
        (Arc::new(Mqtt::new(endpoint.clone()).websocket()), https),
        (Arc::new(Amqp::new(endpoint.clone().with_port(amqp))), amqp),
        (Arc::new(Amqp::new(endpoint.clone()).websocket()), https),
        (Arc::new(Auto::of([Arc::new(Mqtt::new(endpoint).websocket()) as _]).unwrap()), https),
    ]
}

fn credential() -> Credential {
    Credential::symmetric_key("dev-1".parse().unwrap(), KEY.parse().unwrap())
}

#[tokio::test]
async fn every_transport_registers_through_a_proxy_with_a_login() {
    let (emulator, proxy) = (enrolled().await, OpenProxy::start().await);
    for (transport, port) in transports(&emulator, &proxy.url(), LIMIT) {
        let name = format!("{transport:?}");
        device(emulator.id_scope(), credential(), transport).register().await.unwrap();
        assert_eq!(proxy.asked(), [format!("localhost:{port}")], "{name}");
    }
}

#[tokio::test]
async fn a_proxy_may_be_named_by_an_ipv6_address() {
    if std::net::UdpSocket::bind("[::]:0").is_err() {
        return; // Some containers have no IPv6.
    }
    let (emulator, proxy) = (enrolled().await, OpenProxy::start().await);
    let url = proxy.url().replace("127.0.0.1", "[::ffff:127.0.0.1]");
    for (transport, port) in transports(&emulator, &url, LIMIT) {
        let name = format!("{transport:?}");
        device(emulator.id_scope(), credential(), transport).register().await.unwrap();
        assert_eq!(proxy.asked(), [format!("localhost:{port}")], "{name}");
    }
}

#[tokio::test]
async fn a_proxy_that_opens_no_tunnel_or_is_silent_is_named() {
    let emulator = enrolled().await;
    let forbidding = RawPeer::start(|mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let silent = RawPeer::silent().await;
    let brief = Duration::from_millis(300);
    for (port, limit, kind, part) in [
        (forbidding.port, LIMIT, ErrorKind::Proxy, "refused to connect to this host"),
        (silent.port, brief, ErrorKind::Connect, " within 300ms"),
    ] {
        for (transport, _) in transports(&emulator, &format!("http://127.0.0.1:{port}"), limit) {
            let name = format!("{transport:?}");
            let error = device(emulator.id_scope(), credential(), transport).register().await.unwrap_err();
            assert_eq!(error.kind(), kind, "{name}: {error}");
            let text = error.to_string();
            assert!(
                text.contains(&format!("the proxy 127.0.0.1:{port} ")) && text.contains(part),
                "{name}: {text}"
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_login_is_sent_once_and_not_shown() {
    let (emulator, proxy) = (enrolled().await, OpenProxy::start().await);
    let before = emulator.connections();
    let url = format!("http://user:hunter2@127.0.0.1:{}", proxy.port());
    for (transport, _) in transports(&emulator, &url, LIMIT) {
        let name = format!("{transport:?}");
        let error = device(emulator.id_scope(), credential(), transport).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Proxy, "{name}: {error}");
        assert_eq!(proxy.asked().len(), 1, "{name}");
        let refusal = format!("the proxy 127.0.0.1:{} requires other credentials (status 407)", proxy.port());
        assert!(error.to_string().contains(&refusal), "{name}: {error}");
        assert!(!format!("{name} {error:?} {error}").contains("hunter2"), "{name}");
    }
    assert_eq!(emulator.connections(), before, "nobody got through");
}

#[tokio::test]
async fn auto_and_the_service_client_send_a_refused_login_once() {
    let (emulator, proxy) = (enrolled().await, OpenProxy::start().await);
    let wrong = Proxy::new(&format!("http://user:hunter2@127.0.0.1:{}", proxy.port())).unwrap();
    let endpoint = endpoint_of(&emulator).with_proxy(wrong);
    let auto = Auto::new(endpoint.clone());
    let error = device(emulator.id_scope(), credential(), auto).register().await.unwrap_err();
    assert_eq!((error.kind(), proxy.asked().len()), (ErrorKind::Proxy, 1), "{error}");

    let policy = azure_dps_service::Credential::policy("p", KEY.parse().unwrap());
    let service = azure_dps_service::ServiceClient::builder(endpoint, policy).build().unwrap();
    let error = service.enrollments().get("dev-1").await.unwrap_err();
    assert_eq!((error.kind(), proxy.asked().len()), (ErrorKind::Proxy, 1), "{error}");
}

#[tokio::test]
async fn a_login_that_is_not_configured_is_told_from_one_that_is_refused() {
    let (emulator, proxy) = (enrolled().await, OpenProxy::start().await);
    for (transport, _) in transports(&emulator, &format!("http://127.0.0.1:{}", proxy.port()), LIMIT) {
        let name = format!("{transport:?}");
        let error = device(emulator.id_scope(), credential(), transport).register().await.unwrap_err();
        assert!(error.to_string().contains("none are configured (status 407)"), "{name}: {error}");
    }
}
