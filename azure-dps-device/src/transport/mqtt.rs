//! Registration over MQTT 3.1.1: one connection, one subscription, one publish for every request and every
//! reply.
//!
//! rumqttc decodes and encodes packets; this file is the session. Wire form: `docs/wire/device-mqtt.md`.

use std::time::Duration;

use azure_dps_core::{Endpoint, Error, ErrorKind, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use rumqttc::mqttbytes::v4::{
    Codec, ConnAck, Connect, ConnectReturnCode, Login, Packet, PubAck, Publish, SubAck, Subscribe,
    SubscribeReasonCode,
};
use rumqttc::mqttbytes::{Error as CodecError, QoS};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::Framed;

use self::topic::{REPLIES, Response};
use crate::stream::{self, Dialer, Stream};
use crate::transport::contract::{
    Auth, BoxFuture, Channel, Facts, Operation, Purpose, Reply, Request, Session, Transport,
};

pub(crate) mod topic;

/// The MQTT transport: port 8883, or port 443 [in a WebSocket](Self::with_websocket). Every registration
/// opens a connection.
///
/// It supports symmetric keys and X.509. Over MQTT the service offers neither TPM attestation nor a status
/// look-up.
///
/// ```
/// use azure_dps_device::Mqtt;
///
/// let global = Mqtt::default();
/// # let _ = global;
/// ```
#[derive(Clone, Debug)]
pub struct Mqtt {
    dialer: Dialer,
}

impl Mqtt {
    /// Reaches the service at `endpoint`. `Mqtt::default()` reaches the global one.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { dialer: Dialer::new(endpoint, stream::MQTT) }
    }

    /// Uses a WebSocket, on port 443 unless the endpoint names another: for networks that block port 8883.
    #[cfg(feature = "ws")]
    #[must_use]
    pub fn with_websocket(self) -> Self {
        Self { dialer: self.dialer.with_carrier(stream::MQTT_WS) }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self::new(Endpoint::default())
    }
}

impl Transport for Mqtt {
    fn check(&self, session: &Session) -> Result<()> {
        match (session.auth(), session.purpose()) {
            (Auth::Tpm(_), _) => Err(unsupported("the service does not accept TPMs over MQTT")),
            (_, Purpose::Lookup) => Err(unsupported(NO_LOOKUP)),
            (_, Purpose::Register) => Ok(()),
        }
    }

    fn port(&self) -> Option<u16> {
        Some(self.dialer.port())
    }

    fn host(&self) -> Option<&str> {
        Some(self.dialer.host())
    }

    fn name(&self) -> Option<&str> {
        Some(self.dialer.name())
    }

    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        Box::pin(async move {
            let stream = self.dialer.connect(session.auth().identity()).await?;
            let limit = self.dialer.endpoint().exchange_timeout();
            let mut channel = MqttChannel::new(stream, limit, self.dialer.place(), self.dialer.name());
            channel.sign_in(&session).await?;
            Ok(Box::new(channel) as Box<dyn Channel>)
        })
    }
}

pub(crate) struct MqttChannel<S> {
    packets: Framed<S, Codec>,
    /// How long one exchange may take.
    limit: Duration,
    place: String,
    name: &'static str,
    /// The last packet id that was used.
    sent: u16,
}

impl<S: Stream> Channel for MqttChannel<S> {
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            let until = Instant::now() + self.limit;
            let id = self.next_id();
            let rid = id.to_string();
            let (topic, body) = match &request.operation {
                Operation::Register { body } => (topic::register(&rid), body.clone()),
                Operation::Status { operation_id } => (topic::status(&rid, operation_id), Vec::new()),
                Operation::Lookup { .. } => return Err(unsupported(NO_LOOKUP)),
            };
            let mut publish = Publish::new(topic, QoS::AtLeastOnce, body);
            publish.pkid = id;
            self.send(Packet::Publish(publish), until).await?;
            loop {
                match self.receive(until).await? {
                    // The reply may arrive before the acknowledgement, and after a late reply to an earlier
                    // request.
                    Packet::Publish(publish) => {
                        if let Some(reply) = self.reply(publish, &rid, until).await? {
                            return Ok(reply);
                        }
                    }
                    Packet::PubAck(_) | Packet::PingResp => {}
                    other => return Err(unexpected(&other)),
                }
            }
        })
    }

    fn idle(&mut self, wait: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let end = Instant::now() + wait;
            let mut next_ping = Instant::now() + PING_EVERY;
            let mut answer_due = None;
            loop {
                let until = answer_due.unwrap_or(next_ping).min(end);
                match timeout_at(until, self.packets.next()).await {
                    Ok(packet) => match self.received(packet)? {
                        Packet::PingResp => {
                            answer_due = None;
                            next_ping = Instant::now() + PING_EVERY;
                        }
                        Packet::PubAck(_) => {}
                        Packet::Publish(publish) => {
                            self.acknowledge(&publish, Instant::now() + self.limit).await?;
                        }
                        other => return Err(unexpected(&other)),
                    },
                    Err(_) if Instant::now() >= end => return Ok(()),
                    Err(_) if answer_due.is_some() => return Err(self.silent()),
                    Err(_) => {
                        let due = Instant::now() + self.limit;
                        self.send(Packet::PingReq, due).await?;
                        answer_due = Some(due);
                    }
                }
            }
        })
    }

    fn close(mut self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let closing = async {
                self.packets.send(Packet::Disconnect).await?;
                self.packets.close().await
            };
            // The registration is over: errors while closing do not matter.
            let _ = timeout(self.limit, closing).await;
        })
    }

    fn facts(&self) -> Facts {
        Facts { name: self.name, operations_survive: false }
    }
}

impl<S: Stream> MqttChannel<S> {
    pub(crate) fn new(stream: S, limit: Duration, place: String, name: &'static str) -> Self {
        let codec = Codec { max_incoming_size: LARGEST_PACKET, max_outgoing_size: LARGEST_PACKET };
        Self { packets: Framed::new(stream, codec), limit, place, name, sent: 0 }
    }

    pub(crate) async fn sign_in(&mut self, session: &Session) -> Result<()> {
        let until = Instant::now() + self.limit;
        let mut connect = Connect::new(session.registration_id().as_str());
        connect.keep_alive = KEEP_ALIVE;
        connect.login = Some(Login {
            username: topic::user_name(session),
            password: match session.auth() {
                Auth::Token(token) => token.expose().to_owned(),
                // The codec does not send an empty password.
                Auth::Certificate(_) | Auth::Tpm(_) => String::new(),
            },
        });
        self.send(Packet::Connect(connect), until).await?;
        match self.receive(until).await? {
            Packet::ConnAck(ConnAck { code, .. }) => accepted(code)?,
            _ => {
                let message = format!("{} does not speak MQTT", self.place);
                return Err(Error::new(ErrorKind::Protocol, message));
            }
        }
        let id = self.next_id();
        let mut subscribe = Subscribe::new(REPLIES, QoS::AtLeastOnce);
        subscribe.pkid = id;
        self.send(Packet::Subscribe(subscribe), until).await?;
        match self.receive(until).await? {
            Packet::SubAck(SubAck { pkid, return_codes }) if pkid == id => match return_codes.first() {
                Some(SubscribeReasonCode::Success(_)) => Ok(()),
                _ => Err(Error::new(
                    ErrorKind::Unauthorized,
                    "the service refused the subscription to its replies",
                )),
            },
            other => Err(unexpected(&other)),
        }
    }

    /// Ids are unique within a connection. 0 is not a valid id.
    fn next_id(&mut self) -> u16 {
        self.sent = self.sent.checked_add(1).unwrap_or(1);
        self.sent
    }

    /// Acknowledges a publish, and returns it if it is the reply to `rid`.
    async fn reply(&mut self, publish: Publish, rid: &str, until: Instant) -> Result<Option<Reply>> {
        self.acknowledge(&publish, until).await?;
        let Some(response) = Response::parse(&publish.topic) else {
            return Err(Error::new(ErrorKind::Protocol, "the service published to an unexpected topic"));
        };
        Ok((response.rid == rid).then(|| Reply {
            status: response.status,
            retry_after: response.retry_after,
            body: publish.payload.to_vec(),
        }))
    }

    async fn acknowledge(&mut self, publish: &Publish, until: Instant) -> Result<()> {
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce => self.send(Packet::PubAck(PubAck::new(publish.pkid)), until).await,
            QoS::ExactlyOnce => Err(Error::new(ErrorKind::Protocol, "the service published with QoS 2")),
        }
    }

    async fn send(&mut self, packet: Packet, until: Instant) -> Result<()> {
        match timeout_at(until, self.packets.send(packet)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(self.failure(why)),
            Err(_) => Err(self.silent()),
        }
    }

    async fn receive(&mut self, until: Instant) -> Result<Packet> {
        match timeout_at(until, self.packets.next()).await {
            Ok(packet) => self.received(packet),
            Err(_) => Err(self.silent()),
        }
    }

    fn received(&self, packet: Option<Result<Packet, CodecError>>) -> Result<Packet> {
        match packet {
            Some(Ok(packet)) => Ok(packet),
            Some(Err(why)) => Err(self.failure(why)),
            None => Err(Error::new(ErrorKind::Io, format!("{} closed the connection", self.place))),
        }
    }

    fn silent(&self) -> Error {
        stream::silent(&self.place, self.limit)
    }

    fn failure(&self, why: CodecError) -> Error {
        match why {
            CodecError::Io(why) => stream::lost(&self.place, why),
            CodecError::OutgoingPacketTooLarge { .. } => {
                Error::new(ErrorKind::Config, "the payload is too large: the packet exceeds 256 KiB")
                    .with_source(why)
            }
            why => Error::new(ErrorKind::Protocol, "the answer is not valid MQTT 3.1.1").with_source(why),
        }
    }
}

/// CONNACK return codes (MQTT 3.1.1, section 3.2.2.3) as kinds.
fn accepted(code: ConnectReturnCode) -> Result<()> {
    let (kind, message) = match code {
        ConnectReturnCode::Success => return Ok(()),
        ConnectReturnCode::RefusedProtocolVersion => {
            (ErrorKind::Protocol, "the server does not speak MQTT 3.1.1")
        }
        ConnectReturnCode::BadClientId => (ErrorKind::Unauthorized, "the service refused the client id"),
        ConnectReturnCode::ServiceUnavailable => (ErrorKind::Connect, "the service is unavailable"),
        ConnectReturnCode::BadUserNamePassword => {
            (ErrorKind::Unauthorized, "the service refused the user name or the token")
        }
        ConnectReturnCode::NotAuthorized => {
            (ErrorKind::Unauthorized, "the service refused the device's credential")
        }
    };
    Err(Error::new(kind, format!("{message} (CONNACK {})", code as u8)))
}

fn unsupported(what: &str) -> Error {
    Error::new(ErrorKind::Unsupported, format!("{what}: use HTTPS"))
}

fn unexpected(packet: &Packet) -> Error {
    let name = match packet {
        Packet::ConnAck(_) => "CONNACK",
        Packet::SubAck(_) => "SUBACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PingResp => "PINGRESP",
        _ => "a packet that only clients may send",
    };
    Error::new(ErrorKind::Protocol, format!("the service sent an unexpected {name}"))
}

const NO_LOOKUP: &str = "the service does not offer a status look-up over MQTT";
/// In seconds. The server may close a connection that is silent for one and a half times as long.
const KEEP_ALIVE: u16 = 60;
const PING_EVERY: Duration = Duration::from_secs(30);
/// 256 KiB of payload, and the topic.
const LARGEST_PACKET: usize = 256 * 1024 + 1024;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn channel() -> (MqttChannel<DuplexStream>, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1024);
        (MqttChannel::new(ours, LIMIT, "peer".into(), "MQTT"), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_alive() {
        let (mut channel, mut peer) = channel();
        let answering = tokio::spawn(async move {
            let mut pings = 0;
            while let Ok(packet) = peer.read_u16().await {
                assert_eq!(packet, 0xC000, "PINGREQ");
                pings += 1;
                peer.write_all(&[0xD0, 0]).await.unwrap();
            }
            pings
        });
        let started = Instant::now();
        channel.idle(Duration::from_secs(100)).await.unwrap();
        assert_eq!(started.elapsed(), Duration::from_secs(100));
        drop(channel);
        assert_eq!(answering.await.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_answer_a_ping_is_lost() {
        let (mut channel, _peer) = channel();
        let started = Instant::now();
        let error = channel.idle(Duration::from_secs(100)).await.unwrap_err();
        assert_eq!((error.kind(), started.elapsed()), (ErrorKind::Io, PING_EVERY + LIMIT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_the_peer_closes_while_idle_fails_at_once() {
        let (mut channel, peer) = channel();
        drop(peer);
        let started = Instant::now();
        assert_eq!(channel.idle(Duration::from_secs(100)).await.unwrap_err().kind(), ErrorKind::Io);
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
