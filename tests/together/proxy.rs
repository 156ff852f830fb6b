//! Every transport through an HTTP proxy that wants a login, to the emulator.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use azure_dps_core::{Endpoint, ErrorKind, Proxy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Auto, Https, Mqtt};
use azure_dps_emulator::Emulator;
use azure_dps_tests::dev1::{credential, enrolled};
use azure_dps_tests::emulated::PRIMARY;
use azure_dps_tests::{OpenProxy, RawPeer, device, endpoint_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Of making one connection.
const LIMIT: Duration = Duration::from_secs(15);
/// Each transport through a proxy, and the port that it asks the proxy for.
fn transports(emulator: &Emulator, proxy: &str, limit: Duration) -> Vec<(Arc<dyn Transport>, u16)> {
    let endpoint = endpoint_of(emulator).with_proxy(Proxy::new(proxy).unwrap());
    let endpoint = endpoint.with_connect_timeout(limit);
    let (https, mqtt, amqp) = (emulator.https_port(), emulator.mqtt_port(), emulator.amqp_port());
    vec![
        (Arc::new(Https::new(endpoint.clone())), https),
        (Arc::new(Mqtt::new(endpoint.clone().with_port(mqtt))), mqtt),
        (Arc::new(Mqtt::new(endpoint.clone()).with_websocket()), https),
        (Arc::new(Amqp::new(endpoint.clone().with_port(amqp))), amqp),
        (Arc::new(Amqp::new(endpoint.clone()).with_websocket()), https),
        (Arc::new(Auto::of([Arc::new(Mqtt::new(endpoint).with_websocket()) as _]).unwrap()), https),
    ]
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
        assert!(!format!("{name} {error:?} {error:#?} {error}").contains("hunter2"), "{name}");
    }
    assert_eq!(emulator.connections(), before, "no connection got through");
}

#[tokio::test]
async fn auto_and_the_service_client_send_a_refused_login_once() {
    let (emulator, proxy) = (enrolled().await, OpenProxy::start().await);
    let wrong = Proxy::new(&format!("http://user:hunter2@127.0.0.1:{}", proxy.port())).unwrap();
    let endpoint = endpoint_of(&emulator).with_proxy(wrong);
    let auto = Auto::new(endpoint.clone());
    let error = device(emulator.id_scope(), credential(), auto).register().await.unwrap_err();
    assert_eq!((error.kind(), proxy.asked().len()), (ErrorKind::Proxy, 1), "{error}");

    let policy = azure_dps_service::Credential::policy("p", PRIMARY.parse().unwrap());
    let service = azure_dps_service::ServiceClient::builder(endpoint, policy).build().unwrap();
    let error = service.enrollments().get("dev1").await.unwrap_err();
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

/// A proxy that answers every CONNECT like this, and how many it has heard.
async fn refusing(answer: &'static str) -> (RawPeer, Arc<AtomicUsize>) {
    let heard = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&heard);
    let peer = RawPeer::start(move |mut stream| {
        let count = Arc::clone(&count);
        async move {
            if stream.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    })
    .await;
    (peer, heard)
}

#[tokio::test]
async fn a_proxy_that_refuses_is_asked_once_on_every_transport() {
    let emulator = enrolled().await;
    for (answer, what) in [
        (
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\n\r\n",
            "requires other credentials (status 407)",
        ),
        ("HTTP/1.0 407 No\nProxy-Authenticate: Basic realm=x\n\n", "requires other credentials (status 407)"),
        ("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "refused to connect to this host"),
        ("HTTP/1.1 429 No\r\n\r\n", "refused to connect to this host"),
    ] {
        let (proxy, heard) = refusing(answer).await;
        let url = format!("http://user:hunter2@127.0.0.1:{}", proxy.port);
        let endpoint = endpoint_of(&emulator).with_proxy(Proxy::new(&url).unwrap());
        let mut all = transports(&emulator, &url, LIMIT);
        all.push((Arc::new(Auto::new(endpoint.clone())), 0));
        for (transport, _) in all {
            let name = format!("{transport:?}");
            let error = device(emulator.id_scope(), credential(), transport).register().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Proxy, "{name}: {error}");
            assert!(error.to_string().contains(what), "{name}: {error}");
            assert!(
                !format!("{name} {error:?} {error:#?} {error} {}", error.help()).contains("hunter2"),
                "{name}"
            );
            assert_eq!(heard.swap(0, Ordering::SeqCst), 1, "{name} {answer}");
        }
        let policy = azure_dps_service::Credential::policy("p", PRIMARY.parse().unwrap());
        let service = azure_dps_service::ServiceClient::builder(endpoint, policy).build().unwrap();
        let error = service.enrollments().get("dev1").await.unwrap_err();
        assert_eq!((error.kind(), heard.load(Ordering::SeqCst)), (ErrorKind::Proxy, 1), "{answer} {error}");
    }
}

#[tokio::test]
async fn a_port_that_the_proxy_refuses_does_not_end_auto_and_a_refused_login_does() {
    let emulator = enrolled().await;
    for (answer, asked) in [("HTTP/1.1 403 No\r\n\r\n", 2), ("HTTP/1.1 407 No\r\n\r\n", 1)] {
        let (proxy, heard) = refusing(answer).await;
        let endpoint = Endpoint::new("h.example").unwrap();
        let endpoint = endpoint.with_proxy(Proxy::new(&format!("127.0.0.1:{}", proxy.port)).unwrap());
        let error =
            device(emulator.id_scope(), credential(), Auto::new(endpoint)).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Proxy, "{error}");
        assert_eq!(heard.load(Ordering::SeqCst), asked, "ports 8883 and 443, each once: {error}");
    }
}

#[tokio::test]
async fn a_proxy_whose_name_is_unknown_is_named_with_the_target() {
    let emulator = enrolled().await;
    for (transport, port) in transports(&emulator, "http://proxy.invalid:3128", LIMIT) {
        let name = format!("{transport:?}");
        let error = device(emulator.id_scope(), credential(), transport).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{name}: {error}");
        let text = error.to_string();
        let target = format!("localhost:{port}");
        assert!(text.contains("the proxy proxy.invalid:3128") && text.contains(&target), "{name}: {text}");
    }
}
