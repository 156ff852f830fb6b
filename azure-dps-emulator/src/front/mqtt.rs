//! MQTT 3.1.1: from packets to calls and from answers to packets. It knows topics and packet order, and no rule.
//!
//! | packet | answer |
//! | --- | --- |
//! | CONNECT | CONNACK, session present 0: 0 accepted, 1 wrong level, 4 user name malformed, 5 refused |
//! | SUBSCRIBE | SUBACK; replies are granted with QoS 0 or 1, every other filter is refused |
//! | UNSUBSCRIBE | UNSUBACK |
//! | PUBLISH to a topic of the service | PUBACK if QoS 1, then the reply |
//! | PINGREQ | PINGRESP |
//! | DISCONNECT | the connection ends |
//! | anything else, or nothing for too long | the connection ends, and the journal says why |

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rumqttc::mqttbytes::v4::{
    Codec, ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, Subscribe,
    SubscribeReasonCode, UnsubAck,
};
use rumqttc::mqttbytes::{Error, Protocol, QoS};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::Framed;

use self::topic::{Asked, UserName};
use crate::answer::{Answer, REQUEST_TIMEOUT, Refusal};
use crate::device::DeviceOperation;
use crate::schema::Body;
use crate::service::{Call, Origin, RefuseAt, Request, Service};

mod topic;

/// Who is connected: of two connections with one client id the older one ends (MQTT 3.1.1, section 3.1.4).
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<String, Owner>>>);

/// The connection that has a client id; dropping `newer` tells it that it has no longer.
struct Owner {
    connection: u64,
    _newer: oneshot::Sender<()>,
}

impl Sessions {
    /// Gives what resolves when a newer connection takes the client id over.
    fn enter(&self, client_id: &str, connection: u64) -> oneshot::Receiver<()> {
        let (newer, taken_over) = oneshot::channel();
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(client_id.to_ascii_lowercase(), Owner { connection, _newer: newer });
        taken_over
    }

    fn leave(&self, client_id: &str, connection: u64) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = client_id.to_ascii_lowercase();
        if sessions.get(&key).is_some_and(|owner| owner.connection == connection) {
            sessions.remove(&key);
        }
    }
}

/// Serves one connection until either side ends it.
pub(super) async fn serve(
    stream: TlsStream<TcpStream>,
    connection: u64,
    service: Arc<Service>,
    sessions: Sessions,
) {
    let codec = Codec { max_incoming_size: LARGEST_PACKET, max_outgoing_size: LARGEST_PACKET };
    let mut talk = Talk { packets: Framed::new(stream, codec), connection, service };
    let Ok(Some(client)) = talk.sign_in().await else { return };
    let taken_over = sessions.enter(&client.name.registration_id, connection);
    tokio::select! {
        ended = talk.requests(&client) => {
            if let Err(Ended(cause)) = ended {
                talk.note("PUBLISH", &client.name.registration_id, Refusal::invalid(cause));
            }
        }
        _ = taken_over => {
            let cause = "another connection with the same client id took over";
            talk.note("CONNECT", &client.name.registration_id, Refusal::invalid(cause));
        }
    }
    sessions.leave(&client.name.registration_id, connection);
}

/// A client that was let in.
struct Client {
    name: UserName,
    token: Option<String>,
    /// How long it may be silent.
    silence: Option<Duration>,
}

/// Why a connection ends before the client ended it.
struct Ended(String);

struct Talk {
    packets: Framed<TlsStream<TcpStream>, Codec>,
    connection: u64,
    service: Arc<Service>,
}

impl Talk {
    /// Judges the CONNECT; `None` when the client was refused.
    async fn sign_in(&mut self) -> Result<Option<Client>, Ended> {
        let connect = match timeout(CONNECT_DEADLINE, self.packets.next()).await {
            Ok(Some(Ok(Packet::Connect(connect)))) if connect.protocol == Protocol::V4 => connect,
            Ok(Some(Ok(Packet::Connect(_)) | Err(Error::InvalidProtocolLevel(_)))) => {
                self.note("CONNECT", "", Refusal::invalid("the protocol level is not 4 (MQTT 3.1.1)"));
                self.send(connack(ConnectReturnCode::RefusedProtocolVersion)).await?;
                return Ok(None);
            }
            Ok(Some(Ok(_))) => {
                self.note("CONNECT", "", Refusal::invalid("the first packet is no CONNECT"));
                return Ok(None);
            }
            Ok(Some(Err(error))) => {
                self.note("CONNECT", "", Refusal::invalid(format!("the first packet is not MQTT: {error}")));
                return Ok(None);
            }
            Ok(None) => return Ok(None),
            Err(_) => {
                self.note("CONNECT", "", Refusal::new(REQUEST_TIMEOUT, "no CONNECT came in time"));
                return Ok(None);
            }
        };
        let client = match client(&connect) {
            Ok(client) => client,
            Err((code, cause)) => {
                self.note("CONNECT", &connect.client_id, Refusal::unauthorized(cause));
                self.send(connack(code)).await?;
                return Ok(None);
            }
        };
        if self.service.settings().refuse_at == RefuseAt::Connect {
            let answer = self.ask("CONNECT", "", &client, DeviceOperation::SignIn, Vec::new());
            if answer.status != 200 {
                self.send(connack(ConnectReturnCode::NotAuthorized)).await?;
                return Ok(None);
            }
        }
        self.send(connack(ConnectReturnCode::Success)).await?;
        Ok(Some(client))
    }

    /// Answers packets until the client ends the connection.
    async fn requests(&mut self, client: &Client) -> Result<(), Ended> {
        let mut replies = None;
        let mut sent = 0_u16;
        loop {
            match self.receive(client.silence).await? {
                None | Some(Packet::Disconnect) => return Ok(()),
                Some(Packet::PingReq) => self.send(Packet::PingResp).await?,
                Some(Packet::Subscribe(subscribe)) => {
                    let (suback, granted) = grant(&subscribe);
                    replies = granted.or(replies);
                    self.send(Packet::SubAck(suback)).await?;
                }
                Some(Packet::Publish(publish)) => {
                    let asked = Asked::parse(&publish.topic)
                        .ok_or_else(|| Ended(format!("{} is no topic for requests", publish.topic)))?;
                    match publish.qos {
                        QoS::AtMostOnce => {}
                        // Clients insist on the acknowledgement before the reply.
                        QoS::AtLeastOnce => self.send(Packet::PubAck(PubAck::new(publish.pkid))).await?,
                        QoS::ExactlyOnce => return Err(Ended("QoS 2 is not supported".into())),
                    }
                    let operation = asked.operation();
                    let answer = self.ask("PUBLISH", asked.path, client, operation, publish.payload.to_vec());
                    let Some(qos) = replies else {
                        return Err(Ended("the client did not subscribe to the replies".into()));
                    };
                    sent = sent.checked_add(1).unwrap_or(1);
                    self.send(Packet::Publish(reply(&answer, asked.rid, qos, sent))).await?;
                }
                // A client may wait for the answer to this before it says goodbye.
                Some(Packet::Unsubscribe(unsubscribe)) => {
                    replies = None;
                    self.send(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid))).await?;
                }
                Some(Packet::PubAck(_)) => {}
                Some(_) => return Err(Ended("a packet came that clients do not send here".into())),
            }
        }
    }

    fn ask(
        &self,
        word: &str,
        path: &str,
        client: &Client,
        operation: DeviceOperation,
        bytes: Vec<u8>,
    ) -> Answer {
        let call = Call {
            origin: self.origin(word, path),
            authorization: client.token.clone(),
            api_version: client.name.api_version.clone(),
            body: Body { bytes, json: true },
            request: Ok(Request::Device {
                id_scope: client.name.id_scope.clone(),
                registration_id: client.name.registration_id.clone(),
                operation,
            }),
        };
        self.service.handle(call).answer
    }

    /// Puts into the journal what no operation answers.
    fn note(&self, word: &str, client_id: &str, refusal: Refusal) {
        self.service.handle(Call {
            origin: self.origin(word, client_id),
            authorization: None,
            api_version: None,
            body: Body::default(),
            request: Err(refusal),
        });
    }

    fn origin(&self, word: &str, target: &str) -> Origin {
        Origin { front: "mqtt", connection: self.connection, method: word.into(), target: target.into() }
    }

    async fn receive(&mut self, silence: Option<Duration>) -> Result<Option<Packet>, Ended> {
        let next = self.packets.next();
        let packet = match silence {
            Some(limit) => timeout(limit, next)
                .await
                .map_err(|_| Ended("the client was silent for longer than its keep-alive allows".into()))?,
            None => next.await,
        };
        match packet {
            Some(Ok(packet)) => Ok(Some(packet)),
            // The client is gone without a DISCONNECT, as many are.
            None | Some(Err(Error::Io(_))) => Ok(None),
            Some(Err(error)) => Err(Ended(format!("a packet cannot be read: {error}"))),
        }
    }

    async fn send(&mut self, packet: Packet) -> Result<(), Ended> {
        match timeout(WRITE_DEADLINE, self.packets.send(packet)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended(format!("an answer could not be sent: {error}"))),
            Err(_) => Err(Ended("the client does not read its answers".into())),
        }
    }
}

fn client(connect: &Connect) -> Result<Client, (ConnectReturnCode, String)> {
    let malformed = |cause: &str| (ConnectReturnCode::BadUserNamePassword, cause.to_owned());
    let login = connect.login.as_ref().ok_or_else(|| malformed("the CONNECT has no user name"))?;
    let name = UserName::parse(&login.username).ok_or_else(|| {
        malformed("the user name is not {idScope}/registrations/{registrationId}/api-version=…")
    })?;
    if !name.registration_id.eq_ignore_ascii_case(&connect.client_id) {
        let cause = format!("the client id {} is not the registration id", connect.client_id);
        return Err((ConnectReturnCode::NotAuthorized, cause));
    }
    let keep_alive = Duration::from_secs(connect.keep_alive.into());
    Ok(Client {
        name,
        token: Some(login.password.clone()).filter(|token| !token.is_empty()),
        silence: (connect.keep_alive != 0).then(|| keep_alive.mul_f32(1.5)),
    })
}

fn connack(code: ConnectReturnCode) -> Packet {
    // No session is ever kept, whatever the client asks for.
    Packet::ConnAck(ConnAck::new(code, false))
}

/// Grants replies and nothing else; the service has no other topic to listen to.
fn grant(subscribe: &Subscribe) -> (SubAck, Option<QoS>) {
    let mut granted = None;
    let codes = subscribe.filters.iter().map(|filter| match (filter.path.as_str(), filter.qos) {
        (topic::REPLIES, QoS::AtMostOnce) => {
            granted = Some(QoS::AtMostOnce);
            SubscribeReasonCode::Success(QoS::AtMostOnce)
        }
        (topic::REPLIES, _) => {
            granted = Some(QoS::AtLeastOnce);
            SubscribeReasonCode::Success(QoS::AtLeastOnce)
        }
        _ => SubscribeReasonCode::Failure,
    });
    let codes = codes.collect();
    (SubAck::new(subscribe.pkid, codes), granted)
}

fn reply(answer: &Answer, rid: &str, qos: QoS, id: u16) -> Publish {
    let body = answer.body.as_ref().map(ToString::to_string).unwrap_or_else(|| "{}".into());
    let mut publish = Publish::new(topic::reply(answer.status, rid, answer.retry_after), qos, body);
    publish.pkid = id;
    publish
}

const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// 256 KiB of payload, and the topic.
const LARGEST_PACKET: usize = 256 * 1024 + 1024;
