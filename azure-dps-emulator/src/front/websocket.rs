//! WebSockets on the HTTPS port: the upgrade to MQTT or AMQP, and messages as a stream of bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use futures_util::{Sink, Stream};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_websockets::{Error, Limits, Message, ServerBuilder, WebSocketStream};

use crate::call::request::Protocol;
use crate::refusal::{Refusal, UNKNOWN_PATH};

/// A valid request to upgrade the connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upgrade {
    pub(super) protocol: Protocol,
    accept: String,
    /// In the spelling of the client, which some clients insist on.
    subprotocol: Option<HeaderValue>,
}

impl Upgrade {
    /// Reads a request; `None` if it does not ask for a WebSocket.
    pub(super) fn read(path: &str, headers: &HeaderMap) -> Option<Result<Self, Refusal>> {
        let wanted = words(headers, header::UPGRADE).any(|word| word.eq_ignore_ascii_case("websocket"));
        wanted.then(|| Self::judge(path, headers))
    }

    fn judge(path: &str, headers: &HeaderMap) -> Result<Self, Refusal> {
        let path = path.to_ascii_lowercase().replace("%24", "$");
        let path = path.trim_end_matches('/');
        if !PATHS.contains(&path) {
            return Err(Refusal::new(UNKNOWN_PATH, "there is no WebSocket at this path"));
        }
        let key = headers.get(header::SEC_WEBSOCKET_KEY);
        let key = key.ok_or_else(|| Refusal::invalid("the request has no Sec-WebSocket-Key"))?;
        if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Refusal::invalid("Sec-WebSocket-Version is not 13"));
        }
        let offers: Vec<&str> = words(headers, header::SEC_WEBSOCKET_PROTOCOL).collect();
        let chosen = offers.iter().find_map(|offer| Some((protocol(offer)?, *offer)));
        let (protocol, subprotocol) = match chosen {
            Some((protocol, offer)) => (protocol, HeaderValue::from_str(offer).ok()),
            None if offers.is_empty() && path == MQTT_PATH => (Protocol::MqttWs, None),
            None => return Err(Refusal::invalid("Sec-WebSocket-Protocol names neither mqtt nor AMQPWSB10")),
        };
        Ok(Upgrade { protocol, accept: accept(key), subprotocol })
    }

    pub(super) fn response<B: Default>(self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.extend(
            HeaderValue::try_from(self.accept).ok().map(|accept| (header::SEC_WEBSOCKET_ACCEPT, accept)),
        );
        headers.extend(self.subprotocol.map(|protocol| (header::SEC_WEBSOCKET_PROTOCOL, protocol)));
        response
    }
}

fn protocol(subprotocol: &str) -> Option<Protocol> {
    let is = |word: &str| subprotocol.eq_ignore_ascii_case(word);
    match () {
        () if is("mqtt") => Some(Protocol::MqttWs),
        () if is("AMQPWSB10") || is("amqp") => Some(Protocol::AmqpWs),
        () => None,
    }
}

/// The comma-separated words of a header, which can be repeated.
fn words(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// The value of `Sec-WebSocket-Accept` (RFC 6455, section 4.2.2).
fn accept(key: &HeaderValue) -> String {
    let digest =
        Sha1::new().chain_update(key.as_bytes()).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    BASE64_STANDARD.encode(digest.finalize())
}

/// The payloads of binary messages as one stream of bytes. Pings are answered; a text message is an error.
pub(super) struct Messages<S> {
    socket: WebSocketStream<S>,
    unread: Bytes,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Messages<S> {
    pub(super) fn over(stream: S) -> Self {
        let limits = Limits::default().max_payload_len(Some(LARGEST_MESSAGE));
        Messages { socket: ServerBuilder::new().limits(limits).serve(stream), unread: Bytes::new() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Messages<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unread.is_empty() {
            match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) if message.is_binary() => self.unread = message.into_payload().into(),
                Some(Ok(message)) if message.is_text() => {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "the client sent text");
                    return Poll::Ready(Err(error));
                }
                Some(Ok(message)) if message.is_close() => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                None => return Poll::Ready(Ok(())),
                Some(Err(error)) => return Poll::Ready(Err(into_io(error))),
            }
        }
        let count = self.unread.len().min(bytes.remaining());
        bytes.put_slice(&self.unread.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Messages<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.socket);
        ready!(socket.as_mut().poll_ready(cx)).map_err(into_io)?;
        socket.start_send(Message::binary(Bytes::copy_from_slice(bytes))).map_err(into_io)?;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx).map_err(into_io)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_close(cx).map_err(into_io)
    }
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

const MQTT_PATH: &str = "/mqtt";
/// In lower case and without a slash at the end.
const PATHS: [&str; 3] = ["/$iothub/websocket", MQTT_PATH, ""];
const LARGEST_MESSAGE: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_client_finds_its_protocol() {
        for (path, protocol, wanted) in [
            ("/$iothub/websocket", "mqtt", Protocol::MqttWs),
            ("/$iothub/websocket", "MQTT", Protocol::MqttWs),
            ("/", "mqtt", Protocol::MqttWs),
            ("/mqtt", "mqtt", Protocol::MqttWs),
            ("/$iothub/websocket", "AMQPWSB10", Protocol::AmqpWs),
            ("/%24IotHub/WebSocket/", "AMQPWSB10", Protocol::AmqpWs),
            ("/", "AMQPWSB10", Protocol::AmqpWs),
            ("/", "chat, amqp, mqtt", Protocol::AmqpWs),
        ] {
            let upgrade = read(path, &[("sec-websocket-protocol", protocol)]).unwrap();
            assert_eq!(upgrade.protocol, wanted, "{path} {protocol}");
            let echo = upgrade.subprotocol.unwrap();
            assert!(protocol.contains(echo.to_str().unwrap()), "{echo:?}");
        }
    }

    #[test]
    fn a_path_can_name_the_protocol() {
        assert_eq!(read("/mqtt", &[]).unwrap().protocol, Protocol::MqttWs);
        for (path, headers, wanted) in [
            ("/", &[][..], 400_000),
            ("/mqtt", &[("sec-websocket-protocol", "chat")], 400_000),
            ("/else", &[("sec-websocket-protocol", "mqtt")], 404_000),
        ] {
            assert_eq!(read(path, headers).unwrap_err().code, wanted, "{path}");
        }
    }

    #[test]
    fn the_key_is_answered_as_in_the_rfc() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");

        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_request_without_an_upgrade_is_not_a_websocket() {
        assert!(Upgrade::read("/", &HeaderMap::new()).is_none());
    }

    fn read(path: &str, more: &[(&'static str, &str)]) -> Result<Upgrade, Refusal> {
        let handshake = [
            ("upgrade", "WebSocket"),
            ("connection", "keep-alive, Upgrade"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ];
        let mut headers = HeaderMap::new();
        for (name, value) in handshake.iter().chain(more) {
            headers.append(*name, value.parse().unwrap());
        }
        Upgrade::read(path, &headers).unwrap()
    }
}
