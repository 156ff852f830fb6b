//! Bytes and packets: the codec, a check of the protocol level before it, and readable errors.

use std::{fmt, io};

use bytes::BytesMut;
use rumqttc::mqttbytes::Error;
use rumqttc::mqttbytes::v4::{Codec, Packet};
use tokio_util::codec::{Decoder, Encoder};

/// The codec of one connection.
pub(super) struct Wire {
    codec: Codec,
    greeted: bool,
}

impl Wire {
    pub(super) fn new() -> Self {
        let codec = Codec { max_incoming_size: LARGEST_PACKET, max_outgoing_size: usize::MAX };
        Wire { codec, greeted: false }
    }
}

impl Decoder for Wire {
    type Item = Packet;
    type Error = WireError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, WireError> {
        // A CONNECT of another level has another layout, which the codec would report as malformed.
        if !self.greeted && speaks_another_level(bytes) {
            return Err(WireError::Level);
        }
        let packet = self.codec.decode(bytes)?;
        self.greeted |= packet.is_some();
        Ok(packet)
    }
}

impl Encoder<Packet> for Wire {
    type Error = WireError;

    fn encode(&mut self, packet: Packet, bytes: &mut BytesMut) -> Result<(), WireError> {
        Ok(self.codec.encode(packet, bytes)?)
    }
}

/// Returns whether this is the beginning of a CONNECT for another protocol or level than MQTT 3.1.1.
fn speaks_another_level(bytes: &[u8]) -> bool {
    let Some((first, rest)) = bytes.split_first() else { return false };
    let length = rest.iter().take(4).take_while(|byte| *byte & 0x80 != 0).count() + 1;
    let body = rest.get(length..).unwrap_or_default();
    let ours = b"\x00\x04MQTT\x04";
    let seen = body.get(..ours.len()).unwrap_or(body);
    first >> 4 == CONNECT && !ours.starts_with(seen)
}

/// Why packets cannot be read from a connection, or written to it.
#[derive(Debug)]
pub(super) enum WireError {
    /// The protocol level of the client is not 4.
    Level,
    /// A packet announced this many bytes.
    TooLarge(usize),
    Malformed(Error),
    /// The connection is gone.
    Gone(io::Error),
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WireError::Level => f.write_str("the protocol level is not 4 (MQTT 3.1.1)"),
            WireError::TooLarge(size) => {
                write!(f, "a packet of {size} bytes is larger than {LARGEST_PACKET}")
            }
            WireError::Malformed(error) => write!(f, "malformed MQTT packet: {error}"),
            WireError::Gone(error) => write!(f, "the connection is gone: {error}"),
        }
    }
}

impl From<Error> for WireError {
    fn from(error: Error) -> Self {
        match error {
            Error::PayloadSizeLimitExceeded(size) => WireError::TooLarge(size),
            Error::Io(error) => WireError::Gone(error),
            error => WireError::Malformed(error),
        }
    }
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        WireError::Gone(error)
    }
}

const CONNECT: u8 = 1;
/// 256 KiB of payload, and room for the topic.
const LARGEST_PACKET: usize = 260 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_level_is_detected_at_the_first_byte_that_differs() {
        for other in [
            &b"\x10\x0c\x00\x04MQTT\x05"[..],
            b"\x10\x0c\x00\x04MQTT\x03",
            b"\x10\x8c\x01\x00\x06MQIsdp\x03",
            b"\x10\x0c\x00\x06",
        ] {
            assert!(speaks_another_level(other), "{other:?}");
        }
        for not_yet in [
            &b""[..],
            b"\x10",
            b"\x10\x8c",
            b"\x10\x0c\x00\x04MQ",
            b"\x10\x0c\x00\x04MQTT\x04\x02",
            b"\x30\x0c\x00\x06",
        ] {
            assert!(!speaks_another_level(not_yet), "{not_yet:?}");
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_make_the_codec_panic() {
        // A linear congruential generator: the same bytes in every run.
        let mut seed = 1_u64;
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        };
        for _ in 0..50_000 {
            let length = next() % 24;
            let mut bytes = BytesMut::from(&[next(), length][..]);
            // Small numbers, so that lengths inside the packet are often possible.
            bytes.extend((0..length).map(|_| next() >> (next() % 8)));
            let mut wire = Wire::new();
            while let Ok(Some(_)) = wire.decode(&mut bytes) {}
        }
    }

    #[test]
    fn a_packet_is_refused_by_its_length_before_it_has_arrived() {
        let mut bytes = BytesMut::from(&b"\x30\xff\xff\xff\x7f"[..]);

        let error = Wire::new().decode(&mut bytes).unwrap_err();

        assert_eq!(error.to_string(), "a packet of 268435455 bytes is larger than 266240");
    }
}
