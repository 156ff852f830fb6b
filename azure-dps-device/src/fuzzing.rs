//! Entry points for the fuzz targets under `fuzz/`: the readers of network data, on the caller's streams and
//! bytes. Compiled with `--cfg fuzzing` only; not part of the API.
#![allow(missing_docs)] // The targets document what they call.

use std::time::Duration;

use azure_dps_core::{Error, Result};
use fe2o3_amqp::types::definitions;
use fe2o3_amqp::types::messaging::Body;
use fe2o3_amqp::types::messaging::message::DecodeIntoMessage as _;
use fe2o3_amqp::types::primitives::Value;
use serde_amqp::read::SliceReader;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::stream::websocket;
use crate::transport::amqp::encoding::are_values;
use crate::transport::amqp::guard::Guard;
use crate::transport::amqp::{failure, message, sasl};
use crate::transport::contract::{Channel as _, Operation, Reply, Request, Session};
use crate::transport::mqtt::{MqttChannel, topic};

pub async fn sasl_sign_in<S>(stream: &mut S, session: &Session) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    sasl::sign_in(stream, HOST, HOST, LIMIT, session).await
}

pub async fn open_websocket<S>(stream: S, protocol: &str) -> Result<impl AsyncRead + AsyncWrite + Unpin>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    websocket::open(stream, HOST, protocol).await
}

/// Returns the bytes that the guard passes to the AMQP library, and whether it passed all pieces.
pub fn amqp_frames<'b>(pieces: impl Iterator<Item = &'b [u8]>) -> (Vec<u8>, bool) {
    let (mut guard, mut passed) = (Guard::new(false), Vec::new());
    for piece in pieces {
        match guard.pass(piece) {
            Ok(bytes) => passed.extend(bytes),
            Err(_) => return (passed, false),
        }
    }
    (passed, true)
}

/// Reads a message as a reply; `None` if the bytes are not a message or the guard would not pass them.
pub fn amqp_message(bytes: &[u8], id: &str) -> Option<Result<Option<Reply>>> {
    are_values(bytes).then_some(())?;
    let message = Body::<Value>::decode_message_from_reader(SliceReader::new(bytes)).ok()?;
    Some(message::reply(message, id))
}

/// Converts an error of the service to a reply and to an error; `None` as in [`amqp_message`].
pub fn amqp_error(bytes: &[u8]) -> Option<(Reply, Error)> {
    are_values(bytes).then_some(())?;
    let error: definitions::Error = serde_amqp::from_slice(bytes).ok()?;
    let reply = failure::reply(&error);
    let refused = failure::refused(&reply);
    Some((reply, refused))
}

/// Signs in, subscribes and sends one request.
pub async fn mqtt_exchange<S>(stream: S, session: &Session, operation: Operation) -> Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut channel = MqttChannel::new(stream, LIMIT, HOST.to_owned(), "MQTT");
    channel.sign_in(session).await?;
    channel.exchange(&Request { operation, authorization: None }).await
}

/// Status, request id and `retry-after`.
pub fn mqtt_topic(topic: &str) -> Option<(u16, &str, Option<Duration>)> {
    topic::Response::parse(topic).map(|response| (response.status, response.rid, response.retry_after))
}

pub fn mqtt_status_topic(rid: &str, operation_id: &str) -> String {
    topic::status(rid, operation_id)
}

const HOST: &str = "dps.example";
/// Never reached: the streams of the targets always have data, or end.
const LIMIT: Duration = Duration::from_secs(3600);
