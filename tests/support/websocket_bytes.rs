//! WebSocket frames in literal bytes: RFC 6455.

use tokio::io::{AsyncRead, AsyncReadExt as _};

pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;
/// The bit of the last frame of a message.
pub const FIN: u8 = 0x80;

/// A frame as a server sends it, without a mask.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&head(first, 0, payload.len()), payload].concat()
}

/// A frame as a client sends it.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [1, 2, 3, 4];
    let mut frame = head(first, 0x80, payload.len());
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

fn head(first: u8, mask: u8, length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(length @ ..126) => vec![first, mask | length],
        _ => [&[first, mask | 126], &u16::try_from(length).unwrap().to_be_bytes()[..]].concat(),
    }
}

/// The next frame: its first byte, whether it has a mask, and its payload without the mask.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> (u8, bool, Vec<u8>) {
    let [first, second] = [stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap()];
    let length = match second & 0x7f {
        126 => usize::from(stream.read_u16().await.unwrap()),
        length => usize::from(length),
    };
    let mut mask = [0; 4];
    if second & 0x80 != 0 {
        stream.read_exact(&mut mask).await.unwrap();
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).await.unwrap();
    payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    (first, second & 0x80 != 0, payload)
}
