//! A WebSocket as a stream of bytes, for the protocols that go through port 443.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use azure_dps_core::{Error, ErrorKind, Result};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::http::Uri;
use tokio_tungstenite::tungstenite::protocol::{Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Error as SocketError};

/// Asks the server of `authority` to speak `protocol` in a WebSocket.
///
/// # Errors
/// [`ErrorKind::Connect`] when it answers with anything but a WebSocket, [`ErrorKind::Protocol`] when it would speak
/// another protocol.
pub(crate) async fn open<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    authority: &str,
    protocol: &str,
) -> Result<WebSocket<S>> {
    let uri: Uri = format!("wss://{authority}{PATH}").parse().map_err(|why| {
        Error::new(ErrorKind::Config, format!("{authority:?} cannot stand in a URL")).with_source(why)
    })?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(protocol);
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE))
        .max_write_buffer_size(LARGEST_BACKLOG);
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(WebSocket { socket, unread: Bytes::new() }),
        Err(why) => Err(refused(authority, why)),
    }
}

fn refused(authority: &str, why: SocketError) -> Error {
    let (kind, what) = match &why {
        SocketError::Http(answer) => {
            (ErrorKind::Connect, format!("opens no WebSocket (status {})", answer.status().as_u16()))
        }
        SocketError::Io(why) => {
            if let Some(error) = Error::from_tls(why) {
                return error;
            }
            (ErrorKind::Connect, CLOSED.to_owned())
        }
        SocketError::Protocol(ProtocolError::HandshakeIncomplete) => (ErrorKind::Connect, CLOSED.to_owned()),
        SocketError::Protocol(ProtocolError::SecWebSocketSubProtocolError(_)) => {
            (ErrorKind::Protocol, "opened a WebSocket for another protocol".to_owned())
        }
        _ => (ErrorKind::Protocol, "did not answer as a WebSocket server".to_owned()),
    };
    Error::new(kind, format!("{authority} {what}")).with_source(why)
}

/// The payloads of binary messages as one stream. Pings are answered; a message of text is an error.
pub(crate) struct WebSocket<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(context)) {
                Some(Ok(Message::Binary(payload))) => self.unread = payload,
                Some(Ok(Message::Text(_))) => {
                    let text = "the service sent a message of text";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
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
        socket.start_send(Message::Binary(Bytes::copy_from_slice(bytes))).map_err(into_io)?;
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
        SocketError::ConnectionClosed | SocketError::AlreadyClosed => io::ErrorKind::ConnectionReset.into(),
        SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            io::ErrorKind::ConnectionReset.into()
        }
        why => io::Error::new(io::ErrorKind::InvalidData, why),
    }
}

const CLOSED: &str = "closed the connection before a WebSocket was open";
/// Source: DPS, communicate using MQTT over WebSockets.
const PATH: &str = "/$iothub/websocket";
/// Larger than any packet of the protocols inside.
const LARGEST_MESSAGE: usize = 512 * 1024;
const LARGEST_BACKLOG: usize = 1024 * 1024;
