//! Splits a stream into the units that a fault can hit: TLS records, HTTP messages, packets and frames.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::header;

/// The kind of units in one direction of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// The header of a record is never encrypted.
    TlsRecords,
    Http,
    Mqtt,
    Amqp,
    /// One HTTP message, then frames.
    WebSocket,
}

impl Units {
    /// The bytes of the unit with this number, counted from 0; an error at the end of the stream.
    pub async fn next(self, number: usize, from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
        let mut taken = Taken { from, bytes: Vec::new() };
        match self {
            Self::TlsRecords => {
                let head = taken.take(5).await?;
                taken.take(integer(&head[3..])).await?;
            }
            Self::Http => taken.http().await?,
            Self::Mqtt => taken.mqtt().await?,
            Self::Amqp => {
                let head = taken.take(4).await?;
                let rest = if head == b"AMQP" { 4 } else { integer(&head).saturating_sub(4) };
                taken.take(rest).await?;
            }
            Self::WebSocket if number == 0 => taken.http().await?,
            Self::WebSocket => taken.frame().await?,
        }
        Ok(taken.bytes)
    }
}

/// The bytes of a unit so far, and the stream with the others.
struct Taken<R> {
    from: R,
    bytes: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Taken<R> {
    async fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut part = vec![0; length];
        self.from.read_exact(&mut part).await?;
        self.bytes.extend_from_slice(&part);
        Ok(part)
    }

    async fn until(&mut self, end: &[u8]) -> io::Result<String> {
        let mut part = Vec::new();
        while !part.ends_with(end) {
            part.extend(self.take(1).await?);
        }
        Ok(String::from_utf8_lossy(&part).into_owned())
    }

    async fn http(&mut self) -> io::Result<()> {
        let head = self.until(b"\r\n\r\n").await?;
        if header(&head, "transfer-encoding") == Some("chunked") {
            loop {
                let length = self.until(b"\r\n").await?;
                let length = usize::from_str_radix(length.trim(), 16).unwrap();
                self.take(length + 2).await?;
                if length == 0 {
                    return Ok(());
                }
            }
        }
        let length = header(&head, "content-length").map_or(0, |length| length.parse().unwrap());
        self.take(length).await.map(drop)
    }

    async fn mqtt(&mut self) -> io::Result<()> {
        self.take(1).await?;
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = self.take(1).await?[0];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return self.take(length).await.map(drop);
            }
        }
    }

    async fn frame(&mut self) -> io::Result<()> {
        let second = self.take(2).await?[1];
        let length = match second & 0x7f {
            126 => integer(&self.take(2).await?),
            127 => integer(&self.take(8).await?),
            length => usize::from(length),
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        self.take(mask + length).await.map(drop)
    }
}

fn integer(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte))
}
