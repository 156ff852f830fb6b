//! WebSockets on the emulator's HTTPS port judged over the wire: literal handshakes, frames and packets, no library.
//!
//! The token was signed by another program and ends in the year 2100.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use azure_dps_emulator::{Emulator, Fault, Operation, Pki, Protocol};
use azure_dps_tests::{Shown, read_body, trusting};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const TOKEN: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev1&sig=P1wMru%2FbYLuUEm38goUGiCB1G0FvU29FyUvULNCa0Us%3D&se=4102444800";
const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SASL: &[u8; 8] = b"AMQP\x03\x01\0\0";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=1";
const SERVICE: &str = "/$iothub/websocket";

const BINARY: u8 = 2;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

#[tokio::test]
async fn mqtt_is_found_by_every_path_and_spelling() {
    let emulator = start().await;
    for (path, protocol) in [
        (SERVICE, "mqtt"),
        (SERVICE, "MQTT"),
        ("/", "mqtt"),
        ("/mqtt", "mqtt"),
        ("/$iothub/websocket?iothub-no-client-cert=true", "mqtt"),
    ] {
        let mut socket = Socket::open(&emulator, path, protocol).await;
        socket.say(BINARY, &connect(TOKEN)).await;
        assert_eq!(socket.hear().await, (BINARY, vec![0x20, 2, 0, 0]), "{path} {protocol}");
        socket.say(BINARY, &publish(REGISTER, "{}")).await;
        socket.say(BINARY, &[0xE0, 0]).await;
        assert_eq!(socket.hear().await.0, CLOSE);
    }
    assert!(emulator.journal().iter().all(|entry| entry.protocol == "mqtt-ws"));
    let requests: u64 = emulator.journal().iter().map(|entry| 1 + entry.repeats).sum();
    assert_eq!(requests, 5, "a request each, to which nobody listened");
}

#[tokio::test]
async fn amqp_is_found_by_every_path_and_spelling() {
    let emulator = start().await;
    for (path, protocol) in [
        (SERVICE, "AMQPWSB10"),
        ("/$iothub/websocket?iothub-no-client-cert=true", "AMQPWSB10"),
        ("/", "AMQPWSB10"),
        ("/", "amqp"),
    ] {
        let mut socket = Socket::open(&emulator, path, protocol).await;
        socket.say(BINARY, SASL).await;
        assert_eq!(socket.bytes(8).await, SASL);
        let offers = socket.frame().await;
        assert_eq!(offers[4..7], [0, 0x53, 0x40]);
        socket.say(BINARY, &plain(TOKEN)).await;
        assert_eq!(socket.frame().await[4..], [0, 0x53, 0x44, 0xc0, 3, 1, 0x50, 0]);
        socket.say(BINARY, b"AMQP\0\x01\0\0").await;
        assert_eq!(socket.bytes(8).await, b"AMQP\0\x01\0\0");
        // open, then close; both are answered.
        socket.say(BINARY, b"\0\0\0\x11\x02\0\0\0\0\x53\x10\xc0\x04\x01\xa1\x01c").await;
        assert_eq!(socket.frame().await[4..7], [0, 0x53, 0x10]);
        socket.say(BINARY, b"\0\0\0\x0c\x02\0\0\0\0\x53\x18\x45").await;
        assert_eq!(socket.frame().await[4..7], [0, 0x53, 0x18]);
    }
}

#[tokio::test]
async fn a_registration_passes_and_the_faults_know_the_front() {
    let emulator = start().await;
    emulator.inject(Fault::throttle(1).over(Protocol::Mqtt)).unwrap();
    emulator.inject(Fault::status(503).over(Protocol::AmqpWs).on(Operation::Connect)).unwrap();
    let mut socket = Socket::open(&emulator, SERVICE, "mqtt").await;
    socket.say(BINARY, &connect(TOKEN)).await;
    socket.hear().await;
    socket.say(BINARY, &packet(0x82, &[&[0, 1], &text("$dps/registrations/res/#"), &[0]])).await;
    socket.hear().await;
    socket.say(BINARY, &publish(REGISTER, "{}")).await;
    let (_, reply) = socket.hear().await;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    assert!(reply.contains("$dps/registrations/res/202/?$rid=1") && reply.contains("assigning"), "{reply}");

    let mut socket = Socket::open(&emulator, SERVICE, "AMQPWSB10").await;
    socket.say(BINARY, &[&SASL[..], &plain(TOKEN)].concat()).await;
    socket.bytes(8).await;
    socket.frame().await;
    assert_eq!(socket.frame().await.last(), Some(&4));
}

#[tokio::test]
async fn a_certificate_of_the_handshake_counts_inside() {
    let pki = Pki::new(["dev1"], 0).unwrap();
    let certificates = json!({"primary": {"certificate": pki.root.certificate_pem}});
    let attestation = json!({"type": "x509", "x509": {"signingCertificates": certificates}});
    let seed = json!({"enrollmentGroups": [{"enrollmentGroupId": "plant", "attestation": attestation}]});
    let emulator = Shown(Emulator::builder().seed_json(seed.to_string()).start().await.unwrap());
    let chain =
        CertificateDer::pem_slice_iter(pki.devices[0].chain_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(pki.devices[0].private_key_pem.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();

    let (_, mut socket) = Socket::shake(&emulator, config, &handshake(SERVICE, "AMQPWSB10")).await;
    // No SASL.
    socket.say(BINARY, b"AMQP\0\x01\0\0").await;

    assert_eq!(socket.bytes(8).await, b"AMQP\0\x01\0\0");
}

#[tokio::test]
async fn pings_are_answered_before_and_between_messages() {
    let emulator = start().await;
    let mut socket = Socket::open(&emulator, SERVICE, "mqtt").await;
    socket.say(PING, b"1").await;
    assert_eq!(socket.hear().await, (PONG, b"1".to_vec()));
    socket.say(BINARY, &connect(TOKEN)).await;
    assert_eq!(socket.hear().await.0, BINARY);
    socket.say(PING, b"").await;
    assert_eq!(socket.hear().await, (PONG, Vec::new()));
}

#[tokio::test]
async fn a_packet_may_be_many_messages_and_a_message_many_frames() {
    let emulator = start().await;
    let mut socket = Socket::open(&emulator, SERVICE, "mqtt").await;
    let bytes = connect(TOKEN);
    let (first, rest) = bytes.split_at(bytes.len() / 2);
    for byte in first {
        socket.say(BINARY, &[*byte]).await;
    }
    // One message in three frames, the first of them empty.
    socket.raw(BINARY, &[]).await;
    socket.raw(0, &rest[..10]).await;
    socket.say(0, &rest[10..]).await;
    assert_eq!(socket.hear().await, (BINARY, vec![0x20, 2, 0, 0]));
    // Two packets in one message.
    socket.say(BINARY, &[0xC0, 0, 0xC0, 0]).await;
    assert_eq!(socket.bytes(4).await, [0xD0, 0, 0xD0, 0]);
}

#[tokio::test]
async fn text_ends_the_connection() {
    let emulator = start().await;
    for protocol in ["mqtt", "AMQPWSB10"] {
        let mut socket = Socket::open(&emulator, SERVICE, protocol).await;
        socket.say(TEXT, b"CONNECT").await;
        assert_eq!(socket.hear().await.0, CLOSE, "{protocol}");
    }
}

#[tokio::test]
async fn what_no_client_sends_is_answered_by_http() {
    let emulator = start().await;
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13";
    for (request, wanted) in [
        (handshake("/else", "mqtt"), "404 "),
        (handshake(SERVICE, "chat"), "400 "),
        (
            format!(
                "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n\r\n"
            ),
            "400 ",
        ),
        (handshake(SERVICE, "mqtt").replace("-Key:", "-Nothing:"), "400 "),
        (handshake(SERVICE, "mqtt").replace(": 13", ": 8"), "400 "),
        (format!("GET {SERVICE} HTTP/1.1\r\nHost: localhost\r\n\r\n"), "404 "),
    ] {
        let (head, _) = Socket::shake(&emulator, trusting(emulator.ca_pem()), &request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {wanted}")), "{request}\n{head}");
        let entry = emulator.journal().pop().unwrap();
        assert_eq!((entry.protocol, entry.method.as_str()), ("https", "GET"));
    }
}

#[tokio::test]
async fn https_goes_before_on_the_same_connection() {
    let emulator = start().await;
    let request = format!("GET /else HTTP/1.1\r\nHost: localhost\r\n\r\n{}", handshake("/mqtt", "mqtt"));
    let (head, mut socket) = Socket::shake(&emulator, trusting(emulator.ca_pem()), &request).await;
    assert!(head.starts_with("HTTP/1.1 404"), "{head}");
    read_body(&mut socket.stream, &head).await;
    assert!(socket.head().await.starts_with("HTTP/1.1 101"));
}

#[tokio::test]
async fn a_client_that_is_gone_leaves_nothing_behind() {
    let emulator = start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let mut mqtt = Socket::open(&emulator, SERVICE, "mqtt").await;
    mqtt.say(BINARY, &connect(TOKEN)).await;
    mqtt.hear().await;
    let mut amqp = Socket::open(&emulator, SERVICE, "AMQPWSB10").await;
    amqp.say(BINARY, &[&SASL[..], &plain(TOKEN), b"AMQP\0\x01\0\0"].concat()).await;
    amqp.bytes(8).await;
    let idle = Socket::open(&emulator, SERVICE, "AMQPWSB10").await;

    drop((mqtt, amqp, idle));

    let waiting = async {
        while tasks() > before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap();
}

struct Socket {
    stream: TlsStream<TcpStream>,
    /// Of binary messages, what was heard and not yet asked for.
    heard: Vec<u8>,
}

impl Socket {
    async fn open(emulator: &Emulator, path: &str, protocol: &str) -> Self {
        let (head, socket) =
            Self::shake(emulator, trusting(emulator.ca_pem()), &handshake(path, protocol)).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let lower = head.to_lowercase();
        assert!(
            lower.contains("\r\nsec-websocket-accept: ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
            "{head}"
        );
        assert!(head.contains(&format!(": {protocol}\r\n")), "{head}");
        socket
    }

    async fn shake(emulator: &Emulator, config: rustls::ClientConfig, request: &str) -> (String, Self) {
        let stream = TcpStream::connect(("127.0.0.1", emulator.https_port())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut socket = Socket { stream, heard: Vec::new() };
        (socket.head().await, socket)
    }

    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(self.raw_bytes(1).await);
        }
        String::from_utf8(head).unwrap()
    }

    async fn raw_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        timeout(DEADLINE, self.stream.read_exact(&mut bytes)).await.unwrap().unwrap();
        bytes
    }

    /// Sends the last frame of a message.
    async fn say(&mut self, opcode: u8, payload: &[u8]) {
        self.raw(0x80 | opcode, payload).await;
    }

    async fn raw(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match u8::try_from(payload.len()) {
            Ok(length @ ..126) => frame.push(0x80 | length),
            _ => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        self.stream.write_all(&frame).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next frame; the emulator sends none in pieces.
    async fn hear(&mut self) -> (u8, Vec<u8>) {
        let head = self.raw_bytes(2).await;
        assert_eq!(head[0] & 0xf0, 0x80);
        let length = match head[1] {
            126 => {
                let length = self.raw_bytes(2).await;
                usize::from(u16::from_be_bytes([length[0], length[1]]))
            }
            length => usize::from(length),
        };
        (head[0] & 0x0f, self.raw_bytes(length).await)
    }

    /// So many bytes of binary messages.
    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.heard.len() < count {
            let (opcode, payload) = self.hear().await;
            assert_eq!(opcode, BINARY);
            self.heard.extend(payload);
        }
        self.heard.drain(..count).collect()
    }

    /// What stands behind the length of an AMQP frame.
    async fn frame(&mut self) -> Vec<u8> {
        let length: [u8; 4] = self.bytes(4).await.try_into().unwrap();
        self.bytes(u32::from_be_bytes(length) as usize - 4).await
    }
}

fn handshake(path: &str, protocol: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
}

fn connect(token: &str) -> Vec<u8> {
    let user = "0ne00EMU1A7/registrations/dev1/api-version=2019-03-31";
    packet(0x10, &[&text("MQTT"), &[4, 0xC2, 0, 60], &text("dev1"), &text(user), &text(token)])
}

fn publish(topic: &str, body: &str) -> Vec<u8> {
    packet(0x30, &[&text(topic), body.as_bytes()])
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let rest = parts.concat();
    let length = u8::try_from(rest.len() & 0x7f).unwrap();
    let more = u8::try_from(rest.len() >> 7).unwrap();
    [&[first, length | 0x80, more][..], &rest].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// A SASL frame that chooses PLAIN.
fn plain(token: &str) -> Vec<u8> {
    let response = format!("\x000ne00EMU1A7/registrations/dev1\0{token}");
    let fields = [&b"\xa3\x05PLAIN\xb0"[..], &u32_of(response.len()), response.as_bytes()].concat();
    let list = [&[0xd0][..], &u32_of(fields.len() + 4), &u32_of(2), &fields].concat();
    [&u32_of(list.len() + 11)[..], b"\x02\x01\0\0\0\x53\x41", &list].concat()
}

fn u32_of(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_be_bytes()
}

async fn start() -> Shown {
    let keys = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY}});
    let enrollment = json!({"registrationId": "dev1", "attestation": keys});
    let seed = json!({"enrollments": [enrollment]}).to_string();
    Shown(Emulator::builder().seed_json(seed).start().await.unwrap())
}

const DEADLINE: Duration = Duration::from_secs(10);
