//! One MQTT connection: reads and writes packets within time limits, and records in the journal why it ended.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::v4::{ConnAck, Connect, ConnectReturnCode, Packet};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Framed;

use super::wire::{Wire, WireError};
use crate::call::answer::Delivery;
use crate::call::{Call, Handled, Origin};
use crate::front::delay::hold_back;
use crate::front::peer::Peer;
use crate::instance::Instance;
use crate::refusal::{REQUEST_TIMEOUT, Refusal};
use crate::state::fault::GARBAGE;

pub(super) struct Connection<S> {
    packets: Framed<S, Wire>,
    pub(super) peer: Peer,
    pub(super) instance: Arc<Instance>,
    /// The name of the client in the journal.
    name: String,
    /// The longest silence that the keep-alive of the client allows.
    silence: Option<Duration>,
    /// When the last packet came.
    heard: Instant,
}

/// Why a connection ends.
pub(super) enum End {
    /// The client closed it, or has been sent the reason.
    Over,
    /// A fault closes it without an answer.
    Cut,
    /// The client broke the protocol. The packet and its target are for the journal.
    Refused { word: &'static str, target: String, refusal: Refusal },
}

impl End {
    pub(super) fn refused(word: &'static str, target: &str, refusal: Refusal) -> Self {
        End::Refused { word, target: target.to_owned(), refusal }
    }

    fn unreadable(word: &'static str, target: &str, error: &WireError) -> Self {
        match error {
            // Many clients close the connection without a DISCONNECT.
            WireError::Gone(error) => {
                tracing::debug!(%error, "connection ended");
                End::Over
            }
            error => Self::refused(word, target, Refusal::invalid(error.to_string())),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(stream: S, peer: Peer, instance: Arc<Instance>) -> Self {
        let packets = Framed::new(stream, Wire::new());
        Connection { packets, peer, instance, name: String::new(), silence: None, heard: Instant::now() }
    }

    /// Waits for the CONNECT.
    pub(super) async fn first(&mut self) -> Result<Connect, End> {
        match timeout(CONNECT_DEADLINE, self.packets.next()).await {
            Ok(Some(Ok(Packet::Connect(connect)))) => {
                let keep_alive = Duration::from_secs(connect.keep_alive.into());
                self.silence = (connect.keep_alive != 0).then(|| keep_alive.mul_f32(1.5));
                Ok(connect)
            }
            Ok(Some(Ok(packet))) => {
                let cause = format!("{} came before CONNECT", name(&packet));
                Err(End::refused(name(&packet), "", Refusal::invalid(cause)))
            }
            Ok(Some(Err(error))) => {
                if matches!(error, WireError::Level) {
                    self.send(connack(ConnectReturnCode::RefusedProtocolVersion)).await?;
                }
                Err(End::unreadable("CONNECT", "", &error))
            }
            Ok(None) => Err(End::Over),
            Err(_) => {
                let refusal = Refusal::new(REQUEST_TIMEOUT, "no CONNECT came in time");
                Err(End::refused("CONNECT", "", refusal))
            }
        }
    }

    /// Sends the answer to a CONNECT, unless the client is admitted: then the caller sends it.
    pub(super) async fn greet(&mut self, handled: &Handled) -> Result<(), End> {
        hold_back(handled.delay).await;
        match handled.delivery {
            Delivery::HangUp => return Err(End::Cut),
            Delivery::Garbage => {
                // Errors do not matter, because the connection ends.
                let _sent =
                    timeout(WRITE_DEADLINE, self.packets.get_mut().write_all(GARBAGE.as_bytes())).await;
                return Err(End::Over);
            }
            Delivery::Stall => loop {
                self.next().await?;
            },
            Delivery::Plain | Delivery::WrongRid | Delivery::Twice => {}
        }
        let code = match handled.answer.status {
            200..=299 => return Ok(()),
            429 | 500.. => ConnectReturnCode::ServiceUnavailable,
            400 => ConnectReturnCode::BadUserNamePassword,
            _ => ConnectReturnCode::NotAuthorized,
        };
        self.send(connack(code)).await?;
        Err(End::Over)
    }

    /// Sets the name of the client, once its CONNECT is read.
    pub(super) fn is_from(&mut self, name: &str) {
        name.clone_into(&mut self.name);
        self.heard = Instant::now();
    }

    /// Waits for a packet, as long as the keep-alive allows. The future can be dropped and made again.
    pub(super) async fn next(&mut self) -> Result<Packet, End> {
        let next = self.packets.next();
        let packet = match self.silence {
            Some(limit) => timeout_at(self.heard + limit, next).await.map_err(|_| {
                let cause = format!("no packet came for {limit:?}, which is 1.5 times the keep-alive");
                End::refused("PINGREQ", &self.name, Refusal::new(REQUEST_TIMEOUT, cause))
            })?,
            None => next.await,
        };
        self.heard = Instant::now();
        match packet {
            Some(Ok(packet)) => Ok(packet),
            Some(Err(error)) => Err(End::unreadable("PUBLISH", &self.name, &error)),
            None => Err(End::Over),
        }
    }

    pub(super) async fn send(&mut self, packet: Packet) -> Result<(), End> {
        let word = name(&packet);
        match timeout(WRITE_DEADLINE, self.packets.send(packet)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::unreadable(word, &self.name, &error)),
            Err(_) => {
                let refusal =
                    Refusal::new(REQUEST_TIMEOUT, "the client does not read what the service sends");
                Err(End::refused(word, &self.name, refusal))
            }
        }
    }

    /// Refuses a packet that a connected client must not send.
    pub(super) fn refuse(&self, packet: &Packet) -> End {
        let cause = format!("a connected client must not send {}", name(packet));
        End::refused(name(packet), &self.name, Refusal::invalid(cause))
    }

    /// Sends queued bytes, such as a CONNACK, and closes TLS.
    pub(super) async fn close(&mut self) {
        let _done = timeout(CLOSE_DEADLINE, self.packets.close()).await;
    }

    /// Records in the journal a packet that no operation answers.
    pub(super) fn note(&self, word: &str, target: &str, refusal: Refusal) {
        self.instance.handle(Call::refused(self.origin(word, target), refusal));
    }

    pub(super) fn origin(&self, word: &str, target: &str) -> Origin {
        Origin {
            protocol: self.peer.protocol,
            connection: self.peer.connection,
            method: word.to_owned(),
            target: target.to_owned(),
        }
    }
}

pub(super) fn connack(code: ConnectReturnCode) -> Packet {
    // Sessions are never kept, whatever the client asks for.
    Packet::ConnAck(ConnAck::new(code, false))
}

fn name(packet: &Packet) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::ConnAck(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::SubAck(_) => "SUBACK",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingReq => "PINGREQ",
        Packet::PingResp => "PINGRESP",
        Packet::Disconnect => "DISCONNECT",
    }
}

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
