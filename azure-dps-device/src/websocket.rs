//! A WebSocket as a stream of bytes, for the protocols that go through port 443.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use azure_dps_core::{Error, ErrorKind, Result};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use http::header::{HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_websockets::{ClientBuilder, Error as SocketError, Limits, Message, WebSocketStream, upgrade};

/// Asks the server of `authority` to speak `protocol` in a WebSocket.
///
/// # Errors
/// [`ErrorKind::Connect`] when it answers with anything but a WebSocket, [`ErrorKind::Protocol`] when it would speak
/// another protocol.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    authority: &str,
    protocol: &'static str,
) -> Result<WebSocket<S>> {
    let builder = ClientBuilder::new().uri(&format!("wss://{authority}{PATH}")).map_err(|why| {
        Error::new(ErrorKind::Config, format!("{authority:?} cannot stand in a URL")).with_source(why)
    })?;
    let opened = async {
        builder
            .limits(Limits::default().max_payload_len(Some(LARGEST_MESSAGE)))
            .add_header(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol))?
            .connect_on(stream)
            .await
    };
    let (socket, answer) = opened.await.map_err(|why| refused(authority, why))?;
    match answer.headers().get(SEC_WEBSOCKET_PROTOCOL) {
        Some(spoken) if spoken == protocol => Ok(WebSocket { socket, unread: Bytes::new(), closed: false }),
        _ => Err(Error::new(
            ErrorKind::Protocol,
            format!("{authority} opened a WebSocket for another protocol"),
        )),
    }
}

fn refused(authority: &str, why: SocketError) -> Error {
    let (kind, what) = match &why {
        SocketError::Upgrade(upgrade::Error::DidNotSwitchProtocols(status)) => {
            (ErrorKind::Connect, format!("opens no WebSocket (status {status})"))
        }
        SocketError::Io(why) => {
            if let Some(error) = Error::from_tls(why) {
                return error;
            }
            (ErrorKind::Connect, "closed the connection before a WebSocket was open".to_owned())
        }
        _ => (ErrorKind::Protocol, "did not answer as a WebSocket server".to_owned()),
    };
    Error::new(kind, format!("{authority} {what}")).with_source(why)
}

/// The payloads of binary messages as one stream. Pings are answered; a message of text is an error.
pub(crate) struct WebSocket<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
    /// The server said that it closes it.
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
                    let text = "the service sent a message of text";
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

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(context).map_err(into_io)
    }
}

/// What is no WebSocket is data that cannot be read; everything else happened below.
fn into_io(why: SocketError) -> io::Error {
    match why {
        SocketError::Io(why) => why,
        SocketError::AlreadyClosed => io::ErrorKind::ConnectionReset.into(),
        why => io::Error::new(io::ErrorKind::InvalidData, why),
    }
}

/// Source: DPS, communicate using MQTT over WebSockets.
const PATH: &str = "/$iothub/websocket";
/// Larger than any packet of the protocols inside.
const LARGEST_MESSAGE: usize = 512 * 1024;
