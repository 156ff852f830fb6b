//! Every transport through an HTTP proxy that wants a login, to the emulator.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::sync::{Arc, Mutex};

use azure_dps_core::models::{AttestationMechanism, IndividualEnrollment, SymmetricKeyAttestation};
use azure_dps_core::{ErrorKind, Proxy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Auto, Credential, Https, Mqtt};
use azure_dps_emulator::Emulator;
use azure_dps_tests::{RawPeer, Shown, device, endpoint_of, service_of};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
/// `user:pa:ss`, percent-encoded in the URL of the proxy.
const LOGIN: &str = "Proxy-Authorization: Basic dXNlcjpwYTpzcw==\r\n";

/// A proxy that opens tunnels to where it is asked to, for those who know the login; and whom it was asked for.
async fn proxy() -> (RawPeer, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let peer = RawPeer::start(move |mut stream| {
        let seen = Arc::clone(&seen);
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
            seen.lock().unwrap().push(target.clone());
            if !head.to_lowercase().contains(&LOGIN.to_lowercase()) {
                let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(refusal.as_bytes()).await.unwrap();
                return;
            }
            stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
            let mut target = TcpStream::connect(target).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut target).await;
        }
    })
    .await;
    (peer, asked)
}

async fn enrolled() -> Shown {
    let emulator = Shown(Emulator::start().await.unwrap());
    let keys = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
    let record = IndividualEnrollment::new("dev-1", keys);
    service_of(&emulator).enrollments().create_or_update(&record).await.unwrap();
    emulator
}

/// Each transport through a proxy, and the port that it asks the proxy for.
fn transports(emulator: &Emulator, proxy: &str) -> Vec<(Arc<dyn Transport>, u16)> {
    let endpoint = endpoint_of(emulator).with_proxy(Proxy::new(proxy).unwrap());
    let (https, mqtt) = (emulator.https_port(), emulator.mqtt_port());
    vec![
        (Arc::new(Https::new(endpoint.clone())), https),
        (Arc::new(Mqtt::new(endpoint.clone().with_port(mqtt))), mqtt),
        (Arc::new(Mqtt::new(endpoint.clone()).websocket()), https),
        (Arc::new(Auto::of([Arc::new(Mqtt::new(endpoint).websocket()) as _]).unwrap()), https),
    ]
}

fn credential() -> Credential {
    Credential::symmetric_key("dev-1".parse().unwrap(), KEY.parse().unwrap())
}

#[tokio::test]
async fn every_transport_registers_through_a_proxy_with_a_login() {
    let (emulator, (proxy, asked)) = (enrolled().await, proxy().await);
    let url = format!("http://user:pa%3Ass@127.0.0.1:{}", proxy.port);
    for (transport, port) in transports(&emulator, &url) {
        let name = format!("{transport:?}");
        device(emulator.id_scope(), credential(), transport).register().await.unwrap();
        let asked = std::mem::take(&mut *asked.lock().unwrap());
        assert_eq!(asked, [format!("localhost:{port}")], "{name}");
    }
}

#[tokio::test]
async fn a_wrong_login_is_a_connect_error_that_does_not_show_it() {
    let (emulator, (proxy, _)) = (enrolled().await, proxy().await);
    let before = emulator.connections();
    let url = format!("http://user:hunter2@127.0.0.1:{}", proxy.port);
    for (transport, _) in transports(&emulator, &url) {
        let name = format!("{transport:?}");
        let error = device(emulator.id_scope(), credential(), transport).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Connect, "{name}: {error}");
        assert!(!format!("{name} {error:?} {error}").contains("hunter2"), "{name}");
    }
    assert_eq!(emulator.connections(), before, "nobody got through");
}
