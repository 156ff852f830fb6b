//! MQTT 3.1.1: turns packets into calls and answers into packets. It knows topics and the order of packets,
//! and no rule of the service.
//!
//! | packet | answer |
//! | --- | --- |
//! | CONNECT | CONNACK: 0 accepted, 1 wrong level, 3 fault, 4 malformed user name, 5 refused; no session |
//! | SUBSCRIBE to the reply topic | SUBACK; QoS 2 is granted as 1 |
//! | UNSUBSCRIBE | UNSUBACK |
//! | PUBLISH to a topic of the service | PUBACK if QoS 1, then the reply |
//! | PINGREQ | PINGRESP |
//! | DISCONNECT | the connection ends |
//! | anything else, or silence for too long | the connection ends, and the journal says why |

mod client;
mod sessions;
mod topic;
mod wire;

pub(crate) use sessions::Sessions;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode,
    UnsubAck,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::codec::Framed;

use self::client::Client;
use self::topic::TopicRequest;
use self::wire::{Wire, WireError};
use crate::call::answer::{Answer, Delivery};
use crate::call::request::{DeviceOperation, DeviceRequest, Request};
use crate::call::schema::Body;
use crate::call::{Call, Handled, Origin};
use crate::front::delay::hold_back;
use crate::front::peer::Peer;
use crate::instance::Instance;
use crate::refusal::{REQUEST_TIMEOUT, Refusal, TAKEN_OVER};
use crate::state::fault::GARBAGE;

/// Serves one connection until either side ends it.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    instance: Arc<Instance>,
    sessions: Sessions,
) {
    let mut connection = Connection { packets: Framed::new(stream, Wire::new()), peer, instance };
    match connection.run(&sessions).await {
        Err(End::Cut) => return,
        Err(End::Refused { word, target, refusal }) => connection.note(word, &target, refusal),
        Err(End::Over) | Ok(()) => {}
    }
    // Sends queued bytes, such as a CONNACK, and closes TLS.
    let _done = timeout(CLOSE_DEADLINE, connection.packets.close()).await;
}

/// Why a connection ends.
enum End {
    /// The client closed it, or has been sent the reason.
    Over,
    /// A fault closes it without an answer.
    Cut,
    /// The client broke the protocol. The packet and its target are for the journal.
    Refused { word: &'static str, target: String, refusal: Refusal },
}

impl End {
    fn refused(word: &'static str, target: &str, refusal: Refusal) -> Self {
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

/// The QoS of the client's subscription to the replies, if it has one.
#[derive(Default)]
struct Replies {
    granted: Option<QoS>,
}

struct Connection<S> {
    packets: Framed<S, Wire>,
    peer: Peer,
    instance: Arc<Instance>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    async fn run(&mut self, sessions: &Sessions) -> Result<(), End> {
        let connect = self.first().await?;
        let client = match Client::read(&connect) {
            Ok(client) => client,
            Err((code, cause)) => {
                hold_back(self.instance.settings().latency).await;
                self.send(connack(code)).await?;
                return Err(End::refused("CONNECT", &connect.client_id, Refusal::unauthorized(cause)));
            }
        };
        self.admit(&client).await?;
        let mut seat = sessions.enter(&client.name.registration_id, self.peer.connection);
        self.send(connack(ConnectReturnCode::Success)).await?;
        let mut replies = Replies::default();
        loop {
            let packet = tokio::select! {
                packet = self.next(&client) => packet?,
                () = seat.taken() => {
                    let refusal = Refusal::new(TAKEN_OVER, "a newer connection has the same client id");
                    return Err(End::refused("CONNECT", client.target(), refusal));
                }
            };
            self.respond(packet, &client, &mut replies).await?;
        }
    }

    /// Waits for the CONNECT.
    async fn first(&mut self) -> Result<Connect, End> {
        match timeout(CONNECT_DEADLINE, self.packets.next()).await {
            Ok(Some(Ok(Packet::Connect(connect)))) => Ok(connect),
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

    /// Judges whether the client may connect, and refuses it if not.
    async fn admit(&mut self, client: &Client) -> Result<(), End> {
        let call = self.call("CONNECT", client.target(), client, DeviceOperation::Connect, Vec::new());
        let handled = self.instance.handle(call);
        hold_back(handled.delay).await;
        match handled.delivery {
            Delivery::HangUp => return Err(End::Cut),
            Delivery::Garbage => {
                // Errors do not matter: the connection ends.
                let _sent =
                    timeout(WRITE_DEADLINE, self.packets.get_mut().write_all(GARBAGE.as_bytes())).await;
                return Err(End::Over);
            }
            Delivery::Stall => loop {
                self.next(client).await?;
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

    async fn respond(&mut self, packet: Packet, client: &Client, replies: &mut Replies) -> Result<(), End> {
        match packet {
            Packet::Disconnect => Err(End::Over),
            Packet::PingReq => self.send(Packet::PingResp).await,
            // Ignored, because replies are never sent again.
            Packet::PubAck(_) => Ok(()),
            Packet::Subscribe(subscribe) => {
                let (suback, granted) = grant(&subscribe)?;
                replies.granted = Some(granted);
                self.send(Packet::SubAck(suback)).await
            }
            Packet::Unsubscribe(unsubscribe) => {
                if unsubscribe.topics.iter().any(|filter| filter == topic::REPLIES) {
                    replies.granted = None;
                }
                self.send(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid))).await
            }
            Packet::Publish(publish) => self.answer(publish, client, replies).await,
            other => {
                let cause = format!("a connected client must not send {}", name(&other));
                Err(End::refused(name(&other), client.target(), Refusal::invalid(cause)))
            }
        }
    }

    async fn answer(&mut self, publish: Publish, client: &Client, replies: &mut Replies) -> Result<(), End> {
        let path = topic::path(&publish.topic);
        let request = TopicRequest::parse(&publish.topic)
            .map_err(|cause| End::refused("PUBLISH", path, Refusal::invalid(cause)))?;
        match publish.qos {
            QoS::AtMostOnce => {}
            // Before the reply, because clients insist on this order.
            QoS::AtLeastOnce => self.send(Packet::PubAck(PubAck::new(publish.pkid))).await?,
            QoS::ExactlyOnce => {
                return Err(End::refused("PUBLISH", path, Refusal::invalid("QoS 2 is not supported")));
            }
        }
        let operation = request.operation();
        let mut call = self.call("PUBLISH", path, client, operation, publish.payload.to_vec());
        let Some(qos) = replies.granted else {
            call.request = Err(Refusal::invalid("the client does not listen to replies: no SUBSCRIBE came"));
            self.instance.handle(call);
            return Ok(());
        };
        let Handled { answer, delivery, delay, .. } = self.instance.handle(call);
        hold_back(delay).await;
        let wrong_rid = format!("wrong-{}", request.rid);
        let (rid, copies) = match delivery {
            Delivery::Plain | Delivery::Garbage => (request.rid, 1),
            Delivery::WrongRid => (wrong_rid.as_str(), 1),
            Delivery::Twice => (request.rid, 2),
            Delivery::Stall => return Ok(()),
            Delivery::HangUp => return Err(End::Cut),
        };
        let mut reply = match delivery {
            Delivery::Garbage => Publish::new(topic::reply(200, rid, None), qos, GARBAGE),
            _ => reply(&answer, rid, qos),
        };
        for id in REPLY_ID..REPLY_ID + copies {
            reply.pkid = id;
            self.send(Packet::Publish(reply.clone())).await?;
        }
        Ok(())
    }

    fn call(
        &self,
        word: &str,
        target: &str,
        client: &Client,
        operation: DeviceOperation,
        bytes: Vec<u8>,
    ) -> Call {
        Call {
            origin: self.origin(word, target),
            authorization: client.token.clone(),
            certificates: Arc::clone(&self.peer.certificates),
            for_tpm: false,
            api_version: client.name.api_version.clone(),
            body: Body { bytes, json: true },
            request: Ok(Request::Device(DeviceRequest {
                id_scope: client.name.id_scope.clone(),
                registration_id: client.name.registration_id.clone(),
                operation,
            })),
        }
    }

    /// Records in the journal a packet that no operation answers.
    fn note(&self, word: &str, target: &str, refusal: Refusal) {
        self.instance.handle(Call::refused(self.origin(word, target), refusal));
    }

    fn origin(&self, word: &str, target: &str) -> Origin {
        Origin {
            protocol: self.peer.protocol,
            connection: self.peer.connection,
            method: word.to_owned(),
            target: target.to_owned(),
        }
    }

    async fn next(&mut self, client: &Client) -> Result<Packet, End> {
        let next = self.packets.next();
        let packet = match client.silence {
            Some(limit) => timeout(limit, next).await.map_err(|_| {
                let cause = format!("no packet came for {limit:?}, which is 1.5 times the keep-alive");
                End::refused("PINGREQ", client.target(), Refusal::new(REQUEST_TIMEOUT, cause))
            })?,
            None => next.await,
        };
        match packet {
            Some(Ok(packet)) => Ok(packet),
            Some(Err(error)) => Err(End::unreadable("PUBLISH", client.target(), &error)),
            None => Err(End::Over),
        }
    }

    async fn send(&mut self, packet: Packet) -> Result<(), End> {
        let word = name(&packet);
        match timeout(WRITE_DEADLINE, self.packets.send(packet)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::unreadable(word, "", &error)),
            Err(_) => {
                let refusal =
                    Refusal::new(REQUEST_TIMEOUT, "the client does not read what the service sends");
                Err(End::refused(word, "", refusal))
            }
        }
    }
}

fn connack(code: ConnectReturnCode) -> Packet {
    // Sessions are never kept, whatever the client asks for.
    Packet::ConnAck(ConnAck::new(code, false))
}

/// Grants a subscription to the replies; the service has no other topics to subscribe to.
fn grant(subscribe: &Subscribe) -> Result<(SubAck, QoS), End> {
    let mut granted = QoS::AtMostOnce;
    let mut codes = Vec::new();
    for filter in &subscribe.filters {
        if filter.path != topic::REPLIES {
            let refusal = Refusal::invalid(format!("clients can subscribe to {} only", topic::REPLIES));
            return Err(End::refused("SUBSCRIBE", &filter.path, refusal));
        }
        granted = match filter.qos {
            QoS::AtMostOnce => QoS::AtMostOnce,
            QoS::AtLeastOnce | QoS::ExactlyOnce => QoS::AtLeastOnce,
        };
        codes.push(SubscribeReasonCode::Success(granted));
    }
    Ok((SubAck::new(subscribe.pkid, codes), granted))
}

fn reply(answer: &Answer, rid: &str, qos: QoS) -> Publish {
    // Clients parse every body, and an empty body is not JSON.
    let body = answer.body.as_ref().map_or_else(|| "{}".to_owned(), ToString::to_string);
    Publish::new(topic::reply(answer.status, rid, answer.retry_after), qos, body)
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

/// The packet id of every reply, whether it is acknowledged or not, as the service sends it.
const REPLY_ID: u16 = 2;
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);
