//! Which TLS failures are tried again, on every transport and by the service client: real peers, and damage
//! on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use azure_dps_core::{ConnectionString, Endpoint, Error, ErrorKind, RetryPolicy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Https, Mqtt};
use azure_dps_emulator::Emulator;
use azure_dps_service::ServiceClient;
use azure_dps_tests::dev1::{credential, enrolled};
use azure_dps_tests::{RawPeer, device, endpoint_of};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

type Make = fn(Endpoint) -> Arc<dyn Transport>;

/// Each transport, and the port of the emulator that takes it.
fn transports(emulator: &Emulator) -> [(&'static str, u16, Make); 5] {
    let (https, mqtt, amqp) = (emulator.https_port(), emulator.mqtt_port(), emulator.amqp_port());
    [
        ("HTTPS", https, |endpoint| Arc::new(Https::new(endpoint))),
        ("MQTT", mqtt, |endpoint| Arc::new(Mqtt::new(endpoint))),
        ("MQTT-WS", https, |endpoint| Arc::new(Mqtt::new(endpoint).with_websocket())),
        ("AMQP", amqp, |endpoint| Arc::new(Amqp::new(endpoint))),
        ("AMQP-WS", https, |endpoint| Arc::new(Amqp::new(endpoint).with_websocket())),
    ]
}

async fn register(emulator: &Emulator, endpoint: Endpoint, make: Make) -> Result<(), Error> {
    device(emulator.id_scope(), credential(), make(endpoint)).register().await.map(drop)
}

async fn read(emulator: &Emulator, endpoint: Endpoint) -> Result<(), Error> {
    let connection: ConnectionString = emulator.service_connection_string().parse().unwrap();
    let retry = RetryPolicy::new().with_retries(2).with_first_pause(std::time::Duration::from_millis(1));
    let builder = ServiceClient::builder(endpoint, (&connection).into()).retry(retry);
    builder.build().unwrap().enrollments().get("dev1").await.map(drop)
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// The client's first flight is answered with these bytes.
    Answer(&'static [u8]),
    Reset,
    /// A byte in this record of the client, or of the server, is another one.
    Client(usize),
    Server(usize),
}

/// Leads to the emulator, and does harm to the first connection; counts connections.
async fn harming(server: u16, harm: Harm) -> (RawPeer, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    let peer = RawPeer::start(move |mut client| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            match harm {
                Harm::Answer(bytes) if first => {
                    let _ = client.read(&mut [0; 4096]).await;
                    let _ = client.write_all(bytes).await;
                    let _ = client.shutdown().await;
                    let _ = client.read(&mut [0; 4096]).await;
                }
                // Unread bytes make the close a reset.
                Harm::Reset if first => drop(client.read_u8().await),
                _ => {
                    let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let (Harm::Client(_) | Harm::Server(_), true) = (harm, first) else {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                        return;
                    };
                    let (up, down) = match harm {
                        Harm::Client(record) => (record, usize::MAX),
                        Harm::Server(record) => (usize::MAX, record),
                        _ => (usize::MAX, usize::MAX),
                    };
                    let ((client_in, client_out), (server_in, server_out)) = (client.split(), server.split());
                    tokio::join!(damage(client_in, server_out, up), damage(server_in, client_out, down));
                }
            }
        }
    })
    .await;
    (peer, connections)
}

/// Passes TLS records on and changes the last byte of one.
async fn damage(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, damaged: usize) {
    for record in 0.. {
        let mut head = [0; 5];
        if from.read_exact(&mut head).await.is_err() {
            break;
        }
        let mut body = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
        if from.read_exact(&mut body).await.is_err() {
            break;
        }
        if record == damaged {
            *body.last_mut().unwrap() ^= 1;
        }
        if to.write_all(&[&head[..], &body].concat()).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

#[tokio::test]
async fn a_handshake_that_breaks_off_is_made_again() {
    let emulator = enrolled().await;
    for harm in [
        Harm::Answer(b"\x15\x03\x03\x00\x02\x02\x50"), // internal_error
        Harm::Answer(b"\x15\x03\x03\x00\x02\x02\x0a"), // unexpected_message
        Harm::Answer(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        Harm::Answer(b"\x16\x03\x03\x00\x04\x63\x00\x00\x00"),
        Harm::Answer(b""),
        Harm::Reset,
    ] {
        for (name, port, make) in transports(&emulator) {
            let (relay, connections) = harming(port, harm).await;
            let result = register(&emulator, endpoint_of(&emulator).with_port(relay.port), make).await;
            assert!(result.is_ok(), "{name} {harm:?}: {result:?}");
            assert_eq!(connections.load(Ordering::SeqCst), 2, "{name} {harm:?}");
        }
        let (relay, connections) = harming(emulator.https_port(), harm).await;
        let result = read(&emulator, endpoint_of(&emulator).with_port(relay.port)).await;
        assert!(result.is_ok(), "service client {harm:?}: {result:?}");
        assert_eq!(connections.load(Ordering::SeqCst), 2, "service client {harm:?}");
    }
}

#[tokio::test]
async fn what_comes_again_with_the_same_offer_or_certificate_is_final() {
    let emulator = enrolled().await;
    for (harm, kind) in [
        (Harm::Answer(b"\x15\x03\x03\x00\x02\x02\x28"), ErrorKind::Tls), // handshake_failure
        (Harm::Answer(b"\x15\x03\x03\x00\x02\x02\x46"), ErrorKind::Tls), // protocol_version
        (Harm::Answer(b"\x15\x03\x03\x00\x02\x02\x78"), ErrorKind::Tls), // no_application_protocol
        (Harm::Answer(b"\x15\x03\x03\x00\x02\x02\x2a"), ErrorKind::Unauthorized), // bad_certificate
        (Harm::Answer(b"\x15\x03\x03\x00\x02\x02\x30"), ErrorKind::Unauthorized), // unknown_ca
        (Harm::Answer(b"\x15\x03\x03\x00\x02\x02\x74"), ErrorKind::Unauthorized), // certificate_required
    ] {
        for (name, port, make) in transports(&emulator) {
            let (relay, connections) = harming(port, harm).await;
            let endpoint = endpoint_of(&emulator).with_port(relay.port);
            let error = register(&emulator, endpoint, make).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{name} {harm:?}: {error}");
            assert_eq!(connections.load(Ordering::SeqCst), 1, "{name} {harm:?}");
        }
        let (relay, connections) = harming(emulator.https_port(), harm).await;
        let error = read(&emulator, endpoint_of(&emulator).with_port(relay.port)).await.unwrap_err();
        assert_eq!(error.kind(), kind, "service client {harm:?}: {error}");
        assert_eq!(connections.load(Ordering::SeqCst), 1, "service client {harm:?}");
    }
}

#[tokio::test]
async fn a_connection_whose_records_are_damaged_is_made_again() {
    let emulator = enrolled().await;
    for (name, port, make) in transports(&emulator) {
        // The first records of both sides are the handshake; damage there can look like a certificate that is
        // refused.
        for harm in (3..6).flat_map(|record| [Harm::Client(record), Harm::Server(record + 4)]) {
            let (relay, connections) = harming(port, harm).await;
            let result = register(&emulator, endpoint_of(&emulator).with_port(relay.port), make).await;
            assert!(result.is_ok(), "{name} {harm:?}: {result:?}");
            assert!(connections.load(Ordering::SeqCst) <= 2, "{name} {harm:?}");
        }
    }
}
