//! MQTT inside a WebSocket against a peer that speaks literal frames: the handshake, and every way it can go wrong.
//!
//! Expected values: RFC 6455, and the handshake of the official Node.js device client 1.9.1.

use azure_dps_core::{Endpoint, ErrorKind};
use azure_dps_device::Mqtt;
use azure_dps_tests::mqtt_bytes::publish;
use azure_dps_tests::registration::{self, Registration, assigned, credential};
use azure_dps_tests::tls::ServerStream;
use azure_dps_tests::websocket_bytes::{BINARY, CLOSE, FIN, PING, PONG, TEXT, read, unmasked};
use azure_dps_tests::{PATIENCE, TlsListener, device, pass};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn register(endpoint: Endpoint) -> Registration {
    registration::register(device("0ne00ABCDEF", credential(), Mqtt::new(endpoint).with_websocket()))
}

/// One connection after its handshake, in literal frames.
pub(super) struct Socket(pub(super) ServerStream);

impl Socket {
    pub(super) async fn accept(listener: &TlsListener) -> Self {
        let (mut stream, head) = handshake(listener).await;
        stream.write_all(accepted(&head, "Sec-WebSocket-Protocol: mqtt\r\n").as_bytes()).await.unwrap();
        Self(stream)
    }

    /// Sends one frame, which a server does not mask.
    pub(super) async fn say(&mut self, first: u8, payload: &[u8]) {
        self.0.write_all(&unmasked(first, payload)).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Sends bytes as a message of one-byte fragments, with a ping between each two.
    async fn crumble(&mut self, bytes: &[u8]) {
        for (at, byte) in bytes.iter().enumerate() {
            let fin = if at + 1 == bytes.len() { FIN } else { 0 };
            self.say(if at == 0 { BINARY } else { 0 } | fin, &[*byte]).await;
            if fin == 0 {
                self.say(FIN | PING, b"?").await;
            }
        }
    }

    /// The next message that is not a pong: its opcode and payload. A client masks them.
    pub(super) async fn hear(&mut self) -> (u8, Vec<u8>) {
        loop {
            let (first, is_masked, payload) = read(&mut self.0).await;
            assert!(is_masked, "a client masks what it sends");
            if first & 0x0f != PONG {
                return (first & 0x0f, payload);
            }
            assert_eq!(payload, b"?");
        }
    }

    async fn signed_in(listener: &TlsListener) -> Self {
        let mut socket = Self::accept(listener).await;
        let (opcode, connect) = socket.hear().await;
        assert_eq!((opcode, connect[0]), (BINARY, 0x10), "CONNECT");
        socket.crumble(&[0x20, 2, 0, 0]).await;
        let subscribe = socket.hear().await.1;
        assert_eq!(subscribe[0], 0x82, "SUBSCRIBE");
        socket.crumble(&[0x90, 3, subscribe[2], subscribe[3], 1]).await;
        let publish = socket.hear().await.1;
        assert_eq!(publish[0] & 0xf0, 0x30, "PUBLISH");
        socket
    }
}

/// The literal head of the request for a WebSocket.
pub(super) async fn handshake(listener: &TlsListener) -> (ServerStream, String) {
    let mut stream = listener.accept_stream().await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap())
}

pub(super) fn accepted(head: &str, more: &str) -> String {
    let key = azure_dps_tests::header(head, "sec-websocket-key").unwrap();
    let digest = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = BASE64_STANDARD.encode(digest);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn the_handshake_is_that_of_the_official_clients() {
    let listener = TlsListener::start().await;
    let _registering = register(listener.endpoint());
    let (_stream, head) = handshake(&listener).await;
    assert!(head.starts_with("GET /$iothub/websocket HTTP/1.1\r\n"), "{head}");
    let header = |name: &str| azure_dps_tests::header(&head, name).unwrap().to_owned();
    assert_eq!(header("sec-websocket-protocol"), "mqtt");
    assert_eq!(header("sec-websocket-version"), "13");
    assert_eq!(header("upgrade").to_lowercase(), "websocket");
    assert_eq!(header("host"), format!("localhost:{}", listener.port));
}

#[tokio::test]
async fn fragments_of_one_byte_and_pings_do_not_matter() {
    let listener = TlsListener::start().await;
    let registering = register(listener.endpoint());
    let mut socket = Socket::signed_in(&listener).await;
    let topic = "$dps/registrations/res/200/?$rid=2";
    socket.crumble(&publish(0, 0, topic, &assigned())).await;
    let assignment = registering.await.unwrap().unwrap();
    assert_eq!((assignment.hub(), assignment.summary().unwrap().transport), ("hub.example", "MQTT-WS"));
}

#[tokio::test]
async fn the_goodbye_is_a_close_frame_whose_answer_is_not_awaited() {
    let listener = TlsListener::start().await;
    let registering = register(listener.endpoint());
    let mut socket = Socket::signed_in(&listener).await;
    socket.say(FIN | BINARY, &publish(0, 0, "$dps/registrations/res/200/?$rid=2", &assigned())).await;
    let (opcode, disconnect) = socket.hear().await;
    assert_eq!((opcode, disconnect[0]), (BINARY, 0xe0), "DISCONNECT");
    assert_eq!(socket.hear().await.0, CLOSE & 0x0f);
    assert_eq!(socket.0.read(&mut [0; 1]).await.unwrap(), 0, "and the connection ends");
    registering.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_that_opens_no_websocket_is_a_typed_error() {
    let cases: [(&str, ErrorKind, &str); 5] = [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", ErrorKind::Connect, "status 403"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ErrorKind::Connect, "status 200"),
        ("", ErrorKind::Connect, "closed the connection"),
        ("220 smtp.example ESMTP\r\n\r\n", ErrorKind::Protocol, "did not answer as a WebSocket server"),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            ErrorKind::Protocol,
            "did not answer as a WebSocket server",
        ),
    ];
    for (answer, kind, part) in cases {
        let listener = TlsListener::start().await;
        let registering = register(listener.endpoint());
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = handshake(&listener).await;
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
        });
        let error = registering.await.unwrap().unwrap_err();
        serving.abort();
        assert_eq!(error.kind(), kind, "{answer:?}: {error}");
        assert!(error.to_string().contains(part), "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_wrong_accept_header_is_not_an_answer_of_a_websocket_server() {
    for (from, to) in [("Accept: ", "Accept: AAAA"), ("=\r\n", "=AAAAAAAAAAAAAAAA\r\n")] {
        let listener = TlsListener::start().await;
        let registering = register(listener.endpoint());
        let (mut stream, head) = handshake(&listener).await;
        let answer = accepted(&head, "Sec-WebSocket-Protocol: mqtt\r\n").replacen(from, to, 1);
        stream.write_all(answer.as_bytes()).await.unwrap();
        let error = registering.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("did not answer as a WebSocket server"), "{error}");
    }
}

#[tokio::test]
async fn a_websocket_for_another_protocol_is_refused() {
    for more in ["", "Sec-WebSocket-Protocol: AMQPWSB10\r\n"] {
        let listener = TlsListener::start().await;
        let registering = register(listener.endpoint());
        let (mut stream, head) = handshake(&listener).await;
        stream.write_all(accepted(&head, more).as_bytes()).await.unwrap();
        let error = registering.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{more:?}: {error}");
        assert!(error.to_string().contains("for another subprotocol"), "{error}");
    }
}

#[tokio::test]
async fn text_and_malformed_frames_end_the_registration() {
    for (first, payload) in [(FIN | TEXT, &b"hello"[..]), (FIN | 3, b"x"), (0xC0 | BINARY, b"x")] {
        let listener = TlsListener::start().await;
        let registering = register(listener.endpoint());
        let mut socket = Socket::signed_in(&listener).await;
        socket.say(first, payload).await;
        let error = registering.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{first:#x}: {error}");
    }
}

#[tokio::test]
async fn a_frame_that_is_longer_than_any_packet_is_not_waited_for() {
    let listener = TlsListener::start().await;
    let registering = register(listener.endpoint());
    let mut socket = Socket::signed_in(&listener).await;
    socket.0.write_all(&[FIN | BINARY, 127, 0, 0, 0, 0, 0x40, 0, 0, 0]).await.unwrap();
    socket.0.flush().await.unwrap();
    assert_eq!(registering.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn a_websocket_that_is_closed_in_the_middle_is_a_lost_connection() {
    let listener = TlsListener::start().await;
    let registering = register(listener.endpoint());
    for _ in 0..3 {
        let mut socket = Socket::signed_in(&listener).await;
        socket.say(FIN | CLOSE, &[0x03, 0xE8]).await;
    }
    let error = registering.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io, "{error}");
}

#[tokio::test]
async fn a_peer_that_stalls_in_the_handshake_is_left_within_the_limit() {
    let listener = TlsListener::start().await;
    let registering = register(listener.endpoint());
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(handshake(&listener).await);
        pass(PATIENCE).await;
    }
    let error = registering.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("within 30s"), "{error}");
}
