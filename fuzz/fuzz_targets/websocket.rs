//! The device opens a WebSocket and reads it to its end. The peer opens it as it should, and the frames behind are the
//! input's; with the first flag the whole answer is the input's, with the right proof in place of `{accept}`.
#![no_main]

use azure_dps_core::ErrorKind;
use azure_dps_device::fuzzing::open_websocket;
use azure_dps_fuzz::{Peer, Script, block_on, typed};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

fuzz_target!(|input: &[u8]| {
    let Some(script) = Script::read(input) else { return };
    if script.flag(0) {
        block_on(hostile(script.pieces()));
    } else {
        let (read, closed) = block_on(polite(script.pieces()));
        let (payload, end) = reference(script.says);
        assert!(read == payload, "{read:?} is not {payload:?}");
        match end {
            End::Closed => assert!(closed),
            End::Broken => assert!(!closed, "an end without a close frame is no end"),
            End::Unknown => {}
        }
    }
});

async fn hostile(peer: Peer) {
    let peer = peer.opening(|heard, says| {
        let accept = accept(heard);
        let Some(at) = says.windows(PROOF.len()).position(|window| window == PROOF) else {
            return (says, 0);
        };
        ([&says[..at], accept.as_bytes(), &says[at + PROOF.len()..]].concat(), 0)
    });
    match open_websocket(peer, "mqtt").await {
        Ok(socket) => drop(read(socket).await),
        Err(error) => drop(typed(error, &[ErrorKind::Connect, ErrorKind::Protocol])),
    }
}

async fn polite(peer: Peer) -> (Vec<u8>, bool) {
    let peer = peer.opening(|heard, frames| {
        let accept = accept(heard);
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
        ([head.as_bytes(), &frames].concat(), 0)
    });
    match open_websocket(peer, "mqtt").await {
        Ok(socket) => read(socket).await,
        Err(error) => panic!("a good answer is refused: {error:?}"),
    }
}

/// Everything up to the end, and whether that is the end of the stream.
async fn read(mut socket: impl AsyncRead + Unpin) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    let closed = socket.read_to_end(&mut bytes).await.is_ok();
    (bytes, closed)
}

fn accept(request: &[u8]) -> String {
    let head = str::from_utf8(request).expect("a request in ASCII");
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(": "));
    let key = lines.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    derive_accept_key(key.expect("a key").1.as_bytes())
}

enum End {
    Closed,
    Broken,
    /// Either is right.
    Unknown,
}

/// The payload of binary messages in the frames of a server, and how they end (RFC 6455, section 5).
fn reference(mut frames: &[u8]) -> (Vec<u8>, End) {
    let (mut payload, mut message, mut fragmented) = (Vec::new(), Vec::new(), false);
    loop {
        let Some((head, body, rest)) = frame(frames) else { return (payload, End::Broken) };
        frames = rest;
        let (last, opcode) = (head & 0x80 != 0, head & 0x0f);
        match opcode {
            _ if head & 0x70 != 0 => return (payload, End::Broken),
            0 if fragmented => message.extend_from_slice(body),
            2 if !fragmented => message = body.to_vec(),
            // How soon text is refused is not said.
            1 => return (payload, End::Unknown),
            8 if last && body.len() <= 125 => {
                return (payload, if body.is_empty() { End::Closed } else { End::Unknown });
            }
            9 | 10 if last && body.len() <= 125 => continue,
            _ => return (payload, End::Broken),
        }
        fragmented = !last;
        if last {
            payload.append(&mut message);
        }
    }
}

/// The first byte of a frame, its payload, and the bytes behind it. A server masks nothing, and writes a length as
/// short as it can be.
fn frame(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[head, length], rest) = bytes.split_first_chunk()?;
    let (length, rest) = match length {
        126 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from(u16::from_be_bytes(*length)), rest)
        }
        127 => {
            let (length, rest) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*length), rest)
        }
        128.. => return None,
        length => (length.into(), rest),
    };
    let shortest = bytes.len() - rest.len()
        == if length < 126 {
            2
        } else if length < 65536 {
            4
        } else {
            10
        };
    if !shortest {
        return None;
    }
    let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    Some((head, body, rest))
}

const PROOF: &[u8] = b"{accept}";
