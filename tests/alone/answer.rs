//! A server that lets a device in and gives its request one answer, in literal frames.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Opening, Stream, open};

/// Answers the first request of a device over this transport.
pub(super) async fn give(stream: &mut Stream, transport: &str, body: &[u8]) -> Option<()> {
    match transport {
        "https" => https(stream, body).await,
        "mqtt" => mqtt(&mut Plain(stream), body).await,
        "amqp" => amqp(&mut Plain(stream), body).await,
        "mqtt-ws" => {
            open(stream, Opening::WebSocket).await?;
            mqtt(&mut Messages::over(stream), body).await
        }
        _ => {
            open(stream, Opening::WebSocket).await?;
            amqp(&mut Messages::over(stream), body).await
        }
    }
}

/// A way to send and hear bytes.
trait Line {
    async fn hear(&mut self, length: usize) -> Option<Vec<u8>>;
    async fn say(&mut self, bytes: &[u8]) -> Option<()>;
}

struct Plain<'s>(&'s mut Stream);

impl Line for Plain<'_> {
    async fn hear(&mut self, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.0.read_exact(&mut bytes).await.ok()?;
        Some(bytes)
    }

    async fn say(&mut self, bytes: &[u8]) -> Option<()> {
        self.0.write_all(bytes).await.ok()
    }
}

/// The binary messages of a WebSocket.
struct Messages<'s> {
    stream: &'s mut Stream,
    heard: Vec<u8>,
}

impl<'s> Messages<'s> {
    fn over(stream: &'s mut Stream) -> Self {
        Self { stream, heard: Vec::new() }
    }
}

impl Line for Messages<'_> {
    async fn hear(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.heard.len() < length {
            self.stream.read_u8().await.ok()?;
            let length = match self.stream.read_u8().await.ok()? & 0x7f {
                126 => self.stream.read_u16().await.ok()? as usize,
                short => short as usize,
            };
            let mut mask = [0; 4];
            self.stream.read_exact(&mut mask).await.ok()?;
            let mut part = vec![0; length];
            self.stream.read_exact(&mut part).await.ok()?;
            self.heard.extend(part.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
        Some(self.heard.drain(..length).collect())
    }

    async fn say(&mut self, bytes: &[u8]) -> Option<()> {
        for part in bytes.chunks(60_000) {
            let length = match part.len() as u16 {
                short @ ..126 => vec![short as u8],
                long => [&[126][..], &long.to_be_bytes()].concat(),
            };
            self.stream.write_all(&[&[0x82][..], &length, part].concat()).await.ok()?;
        }
        Some(())
    }
}

async fn https(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), body: &[u8]) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()
}

async fn mqtt(line: &mut impl Line, body: &[u8]) -> Option<()> {
    loop {
        let kind = line.hear(1).await?[0];
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = line.hear(1).await?[0];
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let packet = line.hear(length).await?;
        match kind >> 4 {
            1 => line.say(&[0x20, 2, 0, 0]).await?,
            8 => line.say(&[0x90, 3, packet[0], packet[1], 1]).await?,
            3 => {
                let topic = String::from_utf8_lossy(&packet[2..2 + usize::from(packet[1])]).into_owned();
                let (_, id) = topic.split_once("$rid=")?;
                let topic = format!("$dps/registrations/res/200/?$rid={id}");
                let rest = 2 + topic.len() + body.len();
                let mut publish = vec![0x30];
                publish
                    .extend([rest & 0x7f | 0x80, rest >> 7 & 0x7f | 0x80, rest >> 14].map(|part| part as u8));
                publish.extend([0, topic.len() as u8]);
                return line.say(&[&publish, topic.as_bytes(), body].concat()).await;
            }
            _ => {}
        }
    }
}

async fn amqp(line: &mut impl Line, body: &[u8]) -> Option<()> {
    line.hear(8).await?;
    line.say(b"AMQP\x03\x01\0\0\0\0\0\x15\x02\x01\0\0\0\x53\x40\xc0\x08\x01\xa3\x05PLAIN").await?;
    frame(line).await?;
    line.say(b"\0\0\0\x10\x02\x01\0\0\0\x53\x44\xc0\x03\x01\x50\0AMQP\0\x01\0\0").await?;
    line.hear(8).await?;
    let mut answered = false;
    loop {
        let heard = frame(line).await?;
        let [0, 0x53, code, ..] = heard[..] else { continue };
        match code {
            0x10 => line.say(&performative(0x10, &[&[0xa1, 1, b's']])).await?,
            0x11 => {
                let window: &[u8] = &[0x70, 0, 0, 0x40, 0];
                line.say(&performative(0x11, &[&[0x60, 0, 0], &[0x43], window, window])).await?;
            }
            0x12 => {
                // The name of the link, its handle, and whether the device receives.
                let list = heard.get(if heard[3] == 0xc0 { 6.. } else { 12.. })?;
                let (name, rest) = list.split_at_checked(2 + usize::from(list[1]))?;
                let (handle, rest) = rest.split_at_checked(if rest[0] == 0x43 { 1 } else { 2 })?;
                let role: &[u8] = if rest[0] == 0x41 { &[0x42] } else { &[0x41] };
                let (source, target): (&[u8], &[u8]) =
                    (&[0, 0x53, 0x28, 0xc0, 2, 1, 0x40], &[0, 0x53, 0x29, 0xc0, 2, 1, 0x40]);
                let null: &[u8] = &[0x40];
                let fields = [name, handle, role, null, null, source, target, null, null, &[0x43]];
                line.say(&performative(0x12, &fields)).await?;
                if role == [0x41] {
                    let (none, some): (&[u8], &[u8]) = (&[0x43], &[0x52, 100]);
                    line.say(&performative(0x13, &[none, some, none, some, handle, none, some])).await?;
                }
            }
            0x14 => {
                let accepted: &[u8] = &[0, 0x53, 0x24, 0x45];
                line.say(&performative(0x15, &[&[0x41], &[0x43], &[0x43], &[0x41], accepted])).await?;
                let length = u32::try_from(body.len()).ok()?.to_be_bytes();
                let message = [&[0, 0x53, 0x75, 0xb0][..], &length, body].concat();
                let mut parts = message.chunks(60_000).peekable();
                while let Some(part) = parts.next() {
                    let more: &[u8] = if parts.peek().is_some() { &[0x41] } else { &[0x42] };
                    let fields = [&[0x43][..], &[0x43], &[0xa0, 1, 0], &[0x43], &[0x41], more];
                    line.say(&with(performative(0x14, &fields), part)).await?;
                }
                answered = true;
            }
            // The device says goodbye.
            0x16..=0x18 if answered => return Some(()),
            _ => {}
        }
    }
}

/// The bytes behind the header of the next frame.
async fn frame(line: &mut impl Line) -> Option<Vec<u8>> {
    let length: [u8; 4] = line.hear(4).await?.try_into().ok()?;
    let rest = line.hear(u32::from_be_bytes(length) as usize - 4).await?;
    Some(rest[4..].to_vec())
}

fn performative(code: u8, fields: &[&[u8]]) -> Vec<u8> {
    let (content, count) = (fields.concat(), fields.len() as u8);
    let list = [&[0, 0x53, code, 0xc0, content.len() as u8 + 1, count][..], &content].concat();
    let length = (8 + list.len() as u32).to_be_bytes();
    [&length[..], &[2, 0, 0, 0], &list].concat()
}

/// A frame with a payload.
fn with(frame: Vec<u8>, payload: &[u8]) -> Vec<u8> {
    let length = ((frame.len() + payload.len()) as u32).to_be_bytes();
    [&length[..], &frame[4..], payload].concat()
}
