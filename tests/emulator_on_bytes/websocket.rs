//! WebSockets on the emulator's HTTPS port: literal handshakes, frames and packets, no library.

// Clippy allows these in test functions only, and the helpers below are test code too.

use azure_dps_emulator::{Emulator, Fault, Operation, Pki, Protocol};
use azure_dps_tests::amqp_bytes::{
    AMQP, CLOSE as AMQP_CLOSE, MECHANISMS, OPEN, OUTCOME, SASL, Value, amqp_frame, fields_of, string,
};
use azure_dps_tests::dev1::*;
use azure_dps_tests::hub_device::{EVENTS, assigned, hub_connect};
use azure_dps_tests::journal::{last, requests};
use azure_dps_tests::mqtt_bytes::{CLEAN, REPLIES, connect, publish, subscribe};
use azure_dps_tests::read_body;
use azure_dps_tests::sasl_bytes::plain;
use azure_dps_tests::site::A;
use azure_dps_tests::tasks::{alive_tasks, settles};
use azure_dps_tests::tls::{ClientStream, presenting};
use azure_dps_tests::websocket_bytes::{BINARY, CLOSE, FIN, PING, PONG, TEXT, masked, read};
use azure_dps_tests::{HUNG, trusting};
use rustls::ClientConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=1";
const SERVICE: &str = "/$iothub/websocket";

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
        socket.say(BINARY, &sign_in()).await;
        assert_eq!(socket.hear().await, (BINARY, vec![0x20, 2, 0, 0]), "{path} {protocol}");
        socket.say(BINARY, &publish(0, 0, REGISTER, "{}")).await;
        socket.say(BINARY, &[0xE0, 0]).await;
        assert_eq!(socket.hear().await.0, CLOSE);
    }
    assert!(emulator.journal().iter().all(|entry| entry.protocol == "mqtt-ws"));
    assert_eq!(requests(&emulator), 5, "one on each connection");
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
        socket.say(BINARY, &SASL).await;
        assert_eq!(socket.bytes(8).await, SASL);
        socket.hear_frame(1, MECHANISMS).await;
        socket.say(BINARY, &plain(PYTHON)).await;
        assert_eq!(socket.hear_frame(1, OUTCOME).await[0], Value::Ubyte(0));
        socket.say(BINARY, &AMQP).await;
        assert_eq!(socket.bytes(8).await, AMQP);
        // open, then close; both are answered.
        socket.say(BINARY, &amqp_frame(OPEN, vec![string("c")])).await;
        socket.hear_frame(0, OPEN).await;
        socket.say(BINARY, &amqp_frame(AMQP_CLOSE, vec![])).await;
        socket.hear_frame(0, AMQP_CLOSE).await;
    }
}

#[tokio::test]
async fn a_registration_passes_and_the_faults_know_the_front() {
    let emulator = start().await;
    emulator.inject(Fault::throttle(1).over(Protocol::Mqtt)).unwrap();
    emulator.inject(Fault::status(503).over(Protocol::AmqpWs).on(Operation::Connect)).unwrap();
    let mut socket = Socket::open(&emulator, SERVICE, "mqtt").await;
    socket.say(BINARY, &sign_in()).await;
    socket.hear().await;
    socket.say(BINARY, &subscribe(REPLIES, 0)).await;
    socket.hear().await;
    socket.say(BINARY, &publish(0, 0, REGISTER, "{}")).await;
    let (_, reply) = socket.hear().await;
    let reply = String::from_utf8_lossy(&reply).into_owned();
    assert!(reply.contains("$dps/registrations/res/202/?$rid=1") && reply.contains("assigning"), "{reply}");

    let mut socket = Socket::open(&emulator, SERVICE, "AMQPWSB10").await;
    socket.say(BINARY, &[&SASL[..], &plain(PYTHON)].concat()).await;
    socket.bytes(8).await;
    socket.hear_frame(1, MECHANISMS).await;
    assert_eq!(socket.hear_frame(1, OUTCOME).await[0], Value::Ubyte(4));
}

#[tokio::test]
async fn a_device_reaches_its_hub_under_the_name_of_the_service_and_of_the_hub() {
    let site = assigned().await;
    for host in ["localhost", A] {
        let request = handshake(SERVICE, "mqtt").replace("Host: localhost", &format!("Host: {host}"));
        let emulator = &site.peer.emulator;
        let (head, mut socket) = Socket::shake(emulator, trusting(emulator.ca_pem()), &request).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{host}: {head}");
        socket.say(BINARY, &hub_connect()).await;
        assert_eq!(socket.hear().await, (BINARY, vec![0x20, 2, 0, 0]), "{host}");
        socket.say(BINARY, &publish(1, 7, EVENTS, "x")).await;
        assert_eq!(socket.hear().await, (BINARY, vec![0x40, 2, 0, 7]), "PUBACK");
        socket.say(BINARY, &[0xE0, 0]).await;
        assert_eq!(socket.hear().await.0, CLOSE);
    }
    assert_eq!(site.peer.emulator.telemetry(A, "dev1").len(), 2);
    assert_eq!(last(&site.peer.emulator).protocol, "mqtt-ws");
}

#[tokio::test]
async fn a_certificate_of_the_handshake_counts_inside() {
    let pki = Pki::new(["dev1"], 0).unwrap();
    let emulator = start_with(certified(&pki)).await;
    let config = presenting(emulator.ca_pem(), &pki.devices[0]);

    let (_, mut socket) = Socket::shake(&emulator, config, &handshake(SERVICE, "AMQPWSB10")).await;
    // No SASL.
    socket.say(BINARY, &AMQP).await;

    assert_eq!(socket.bytes(8).await, AMQP);
}

#[tokio::test]
async fn pings_are_answered_before_and_between_messages() {
    let emulator = start().await;
    let mut socket = Socket::open(&emulator, SERVICE, "mqtt").await;
    socket.say(PING, b"1").await;
    assert_eq!(socket.hear().await, (PONG, b"1".to_vec()));
    socket.say(BINARY, &sign_in()).await;
    assert_eq!(socket.hear().await.0, BINARY);
    socket.say(PING, b"").await;
    assert_eq!(socket.hear().await, (PONG, Vec::new()));
}

#[tokio::test]
async fn a_packet_may_be_many_messages_and_a_message_many_frames() {
    let emulator = start().await;
    let mut socket = Socket::open(&emulator, SERVICE, "mqtt").await;
    let bytes = sign_in();
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
    let before = alive_tasks();
    let mut mqtt = Socket::open(&emulator, SERVICE, "mqtt").await;
    mqtt.say(BINARY, &sign_in()).await;
    mqtt.hear().await;
    let mut amqp = Socket::open(&emulator, SERVICE, "AMQPWSB10").await;
    amqp.say(BINARY, &[&SASL[..], &plain(PYTHON), &AMQP].concat()).await;
    amqp.bytes(8).await;
    let idle = Socket::open(&emulator, SERVICE, "AMQPWSB10").await;

    drop((mqtt, amqp, idle));

    settles(|| alive_tasks() <= before).await;
}

struct Socket {
    stream: ClientStream,
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

    async fn shake(emulator: &Emulator, config: ClientConfig, request: &str) -> (String, Self) {
        let mut stream = azure_dps_tests::tls::connect(emulator.https_port(), config).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        let mut socket = Socket { stream, heard: Vec::new() };
        (socket.head().await, socket)
    }

    async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(timeout(HUNG, self.stream.read_u8()).await.unwrap().unwrap());
        }
        String::from_utf8(head).unwrap()
    }

    /// Sends the last frame of a message.
    async fn say(&mut self, opcode: u8, payload: &[u8]) {
        self.raw(FIN | opcode, payload).await;
    }

    async fn raw(&mut self, first: u8, payload: &[u8]) {
        self.stream.write_all(&masked(first, payload)).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next frame; the emulator sends none in pieces.
    async fn hear(&mut self) -> (u8, Vec<u8>) {
        let (first, is_masked, payload) = timeout(HUNG, read(&mut self.stream)).await.unwrap();
        assert!(first & 0xf0 == FIN && !is_masked);
        (first & 0x0f, payload)
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

    /// The fields of the next AMQP frame, which has this kind and performative.
    async fn hear_frame(&mut self, kind: u8, code: u8) -> Vec<Value> {
        let length: [u8; 4] = self.bytes(4).await.try_into().unwrap();
        let frame = self.bytes(u32::from_be_bytes(length) as usize - 4).await;
        assert_eq!(frame[..2], [2, kind]);
        fields_of(&frame[4..], code).0
    }
}

fn handshake(path: &str, protocol: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: {protocol}\r\n\r\n"
    )
}

/// CONNECT of `dev1`.
fn sign_in() -> Vec<u8> {
    connect(CLEAN, 60, "dev1", MQTT_USER, PYTHON)
}
