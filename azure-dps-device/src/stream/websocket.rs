//! A WebSocket as a stream of bytes, for MQTT and AMQP on port 443.

mod paced;

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use azure_dps_core::{Error, ErrorKind, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures_util::{Sink, Stream};
use sha1::{Digest as _, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_websockets::{ClientBuilder, Error as SocketError, Limits, Message, WebSocketStream};

use self::paced::Paced;
use crate::stream::head::{Head, status};

/// Opens a WebSocket for the subprotocol `protocol` at `authority`.
///
/// # Errors
/// [`ErrorKind::Connect`] when the server refuses the WebSocket, [`ErrorKind::Protocol`] when its answer is
/// not valid or names another subprotocol.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    authority: &str,
    protocol: &str,
) -> Result<WebSocket<S>> {
    // Not a secret: it only distinguishes this answer from a cached one.
    let part = || RandomState::new().hash_one(authority).to_ne_bytes();
    let key = BASE64.encode([part(), part()].concat());
    let request = format!(
        "GET {PATH} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n"
    );
    let asked = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        Head::read(&mut stream).await
    };
    let (kind, what) = match asked.await {
        Ok(Head::Whole(head)) => match judge(&head, &key, protocol) {
            Ok(()) => {
                let limits = Limits::default().max_payload_len(Some(LARGEST_MESSAGE));
                let socket = ClientBuilder::new().limits(limits).take_over(Paced::new(stream));
                return Ok(WebSocket { socket, unread: Bytes::new(), closed: false });
            }
            Err(refusal) => refusal,
        },
        Ok(Head::TooLong) => (ErrorKind::Protocol, NOT_WEBSOCKET.to_owned()),
        Err(why) => {
            let judged = Error::from_tls(&why, authority).filter(|error| error.kind() != ErrorKind::Io);
            return Err(judged.unwrap_or_else(|| {
                let message = format!("{authority} closed the connection before a WebSocket was open");
                Error::new(ErrorKind::Connect, message).with_source(why)
            }));
        }
    };
    Err(Error::new(kind, format!("{authority} {what}")))
}

/// Checks whether the answer to the request with `key` opens a WebSocket for `protocol` (RFC 6455, section
/// 4.1). The error completes a sentence that starts with the server's name.
fn judge(head: &[u8], key: &str, protocol: &str) -> std::result::Result<(), (ErrorKind, String)> {
    let nonsense = || (ErrorKind::Protocol, NOT_WEBSOCKET.to_owned());
    match status(head).ok_or_else(nonsense)? {
        101 => {}
        status => return Err((ErrorKind::Connect, format!("refused to open a WebSocket (status {status})"))),
    }
    let head = std::str::from_utf8(head).map_err(|_| nonsense())?;
    let header = |wanted: &str| {
        let mut headers = head.lines().filter_map(|line| line.split_once(':'));
        headers.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim())
    };
    let accept = BASE64.encode(Sha1::digest(format!("{key}{ACCEPT}")));
    let upgrades = header("upgrade").is_some_and(|to| to.eq_ignore_ascii_case("websocket"));
    if !upgrades || header("sec-websocket-accept") != Some(&accept) {
        return Err(nonsense());
    }
    match header("sec-websocket-protocol") == Some(protocol) {
        true => Ok(()),
        false => Err((ErrorKind::Protocol, "opened a WebSocket for another subprotocol".to_owned())),
    }
}

/// The payloads of binary messages as one stream. It answers pings; a text message is an error.
pub(crate) struct WebSocket<S> {
    socket: WebSocketStream<Paced<S>>,
    unread: Bytes,
    /// The server has sent a close frame.
    closed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(message)) if message.is_binary() => self.unread = message.into_payload().into(),
                Some(Ok(message)) if message.is_text() => {
                    let text = "the service sent a text message in the WebSocket";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                Some(Ok(message)) if message.is_close() => self.closed = true,
                Some(Ok(_)) => {}
                None if self.closed => return Poll::Ready(Ok(())),
                None => return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
                Some(Err(why)) => return Poll::Ready(Err(into_io(why))),
            }
        }
        let count = self.unread.len().min(bytes.remaining());
        bytes.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(context)).map_err(into_io)?;
        socket.start_send(Message::binary(Bytes::copy_from_slice(bytes))).map_err(into_io)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context).map_err(into_io)
    }

    /// Sends a close frame. The server's close frame is not awaited: it would cost a round trip and tell
    /// nothing.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Refused after the first close frame, whichever side sent it.
        let _ = Pin::new(&mut self.socket).start_send(Message::close(None, ""));
        ready!(Pin::new(&mut self.socket).poll_flush(context)).map_err(into_io)?;
        Pin::new(self.socket.get_mut()).poll_shutdown(context)
    }
}

/// A violation of the WebSocket protocol is invalid data; other errors come from the stream below.
fn into_io(why: SocketError) -> io::Error {
    match why {
        SocketError::Io(why) => why,
        SocketError::AlreadyClosed => io::ErrorKind::ConnectionReset.into(),
        why => io::Error::new(io::ErrorKind::InvalidData, why),
    }
}

/// Source: DPS, communicate using MQTT over WebSockets.
const PATH: &str = "/$iothub/websocket";
const NOT_WEBSOCKET: &str = "did not answer as a WebSocket server";
/// Source: RFC 6455, section 1.3.
const ACCEPT: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Larger than any packet of MQTT or AMQP.
const LARGEST_MESSAGE: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const OPENED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nconnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";

    #[test]
    fn the_answer_in_the_rfc_opens_a_websocket() {
        assert_eq!(judge(OPENED.as_bytes(), KEY, "mqtt"), Ok(()));
    }

    #[test]
    fn any_other_answer_does_not() {
        for (from, to, kind) in [
            ("101 Switching", "200 Not Switching", ErrorKind::Connect),
            ("HTTP/1.1", "SSH-2.0", ErrorKind::Protocol),
            ("Upgrade: WebSocket", "Upgrade: h2c", ErrorKind::Protocol),
            (
                "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=s3pPLMBiTxaQ9kYG",
                ErrorKind::Protocol,
            ),
            ("s3pP", "S3pP", ErrorKind::Protocol),
            ("Protocol: mqtt", "Protocol: AMQPWSB10", ErrorKind::Protocol),
            ("Sec-WebSocket-Protocol: mqtt\r\n", "", ErrorKind::Protocol),
        ] {
            let refusal = judge(OPENED.replace(from, to).as_bytes(), KEY, "mqtt").unwrap_err();
            assert_eq!(refusal.0, kind, "{to}: {}", refusal.1);
        }
    }
}
