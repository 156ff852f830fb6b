//! MQTT packets as literal bytes.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// Reads an MQTT packet: its first byte, and what follows the length. `None` at the end of the stream.
pub async fn mqtt_packet(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.ok()?;
    Some((first, rest))
}

/// One MQTT conversation in literal bytes.
#[derive(Debug)]
pub struct MqttTalk(pub(crate) TlsStream<TcpStream>);

impl MqttTalk {
    /// The next packet of the client: its first byte, and what stands behind the length. `None` at the end.
    pub async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        mqtt_packet(&mut self.0).await
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// A PUBLISH with QoS 1 and this packet id.
    pub async fn publish(&mut self, id: u8, topic: &str, body: &str) {
        let mut rest = vec![0, u8::try_from(topic.len()).unwrap()];
        rest.extend_from_slice(topic.as_bytes());
        rest.extend_from_slice(&[0, id]);
        rest.extend_from_slice(body.as_bytes());
        let mut packet = vec![0x32];
        let mut length = rest.len();
        while length >= 0x80 {
            packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        packet.push(u8::try_from(length).unwrap());
        packet.extend_from_slice(&rest);
        self.say(&packet).await;
    }
}
