//! MQTT 3.1.1 in literal bytes: packets, and a conversation in them from either side.
//!
//! It shares no code with the SDK or the emulator.

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The first byte of a packet, and what follows its length.
pub type Packet = (u8, Vec<u8>);

pub const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=";
pub const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=";
pub const REPLIES: &str = "$dps/registrations/res/#";

/// Flags of CONNECT: a user name and a password, with a clean session or with the session of before.
pub const CLEAN: u8 = 0b1100_0010;
pub const NO_CLEAN: u8 = 0b1100_0000;
/// Flags of CONNECT: a user name, a clean session.
pub const NO_PASSWORD: u8 = 0b1000_0010;

pub fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let rest = parts.concat();
    let mut packet = vec![first];
    let mut length = rest.len();
    while length >= 0x80 {
        packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    packet.push(u8::try_from(length).unwrap());
    packet.extend(rest);
    packet
}

/// A text with its length.
pub fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

/// Takes a text with its length from the beginning.
pub fn take_text(bytes: &mut &[u8]) -> String {
    let length = 2 + usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let text = String::from_utf8(bytes[2..length].to_vec()).unwrap();
    *bytes = &bytes[length..];
    text
}

pub fn connect(flags: u8, keep_alive: u16, client_id: &str, user: &str, password: &str) -> Vec<u8> {
    connect_with(flags, keep_alive, &[client_id, user, password])
}

/// CONNECT with as many texts as the flags promise.
pub fn connect_with(flags: u8, keep_alive: u16, texts: &[&str]) -> Vec<u8> {
    let texts: Vec<u8> = texts.iter().flat_map(|part| text(part)).collect();
    packet(0x10, &[&text("MQTT"), &[4, flags], &keep_alive.to_be_bytes(), &texts])
}

/// SUBSCRIBE with the packet id 1.
pub fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    packet(0x82, &[&[0, 1], &text(filter), &[qos]])
}

pub fn publish(qos: u8, id: u16, topic: &str, body: &str) -> Vec<u8> {
    let id = id.to_be_bytes();
    packet(0x30 | qos << 1, &[&text(topic), if qos == 0 { &[] } else { &id }, body.as_bytes()])
}

pub fn puback(id: u16) -> Packet {
    (0x40, id.to_be_bytes().to_vec())
}

/// A PUBLISH that was heard.
#[derive(Debug)]
pub struct Published {
    pub first: u8,
    pub topic: String,
    pub id: Option<u16>,
    pub payload: Vec<u8>,
    /// The payload; `Null` if it is not JSON.
    pub body: Value,
}

impl Published {
    pub fn read((first, rest): Packet) -> Self {
        assert_eq!(first & 0xF0, 0x30, "PUBLISH");
        let mut rest = rest.as_slice();
        let topic = take_text(&mut rest);
        let id = (first & 0b110 != 0).then(|| {
            let id = u16::from_be_bytes([rest[0], rest[1]]);
            assert_ne!(id, 0);
            rest = &rest[2..];
            id
        });
        let body = serde_json::from_slice(rest).unwrap_or_default();
        Self { first, topic, id, payload: rest.to_vec(), body }
    }

    pub fn operation(&self) -> String {
        self.body["operationId"].as_str().unwrap().to_owned()
    }
}

/// One side of a conversation.
#[derive(Debug)]
pub struct MqttTalk<S> {
    pub stream: S,
}

impl<S: AsyncRead + AsyncWrite + Unpin> MqttTalk<S> {
    pub fn new(stream: S) -> Self {
        Self { stream }
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet; `None` at the end of the stream.
    pub async fn hear(&mut self) -> Option<Packet> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest).await.ok()?;
        Some((first, rest))
    }

    pub async fn publish(&mut self, qos: u8, id: u16, topic: &str, body: &str) {
        self.say(&publish(qos, id, topic, body)).await;
    }

    /// The next packet, which is a PUBLISH.
    pub async fn published(&mut self) -> Published {
        Published::read(self.hear().await.unwrap())
    }

    /// Sends the PUBACK that this message asks for, if any.
    pub async fn acknowledge(&mut self, message: &Published) {
        if let Some(id) = message.id {
            self.say(&packet(0x40, &[&id.to_be_bytes()])).await;
        }
    }
}
