//! MQTT 3.1.1: turns packets into calls and answers into packets. It knows topics and the order of packets,
//! and no rule of the service. The user name of the CONNECT tells clients of the service from devices at their
//! hub, which [`hub`] serves.
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
mod connection;
mod delivery;
mod hub;
mod sessions;
mod topic;
mod wire;

pub(crate) use sessions::Sessions;

use std::sync::Arc;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck,
};
use tokio::io::{AsyncRead, AsyncWrite};

use self::client::Client;
use self::connection::{Connection, End, connack};
use self::topic::TopicRequest;
use crate::call::answer::Answer;
use crate::call::request::{DeviceOperation, DeviceRequest, Request};
use crate::call::schema::Body;
use crate::call::{Call, Handled};
use crate::front::delay::hold_back;
use crate::front::peer::Peer;
use crate::instance::Instance;
use crate::refusal::{Refusal, TAKEN_OVER};
use crate::state::fault::GARBAGE;

/// Serves one connection until either side ends it.
pub(crate) async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    instance: Arc<Instance>,
    sessions: Sessions,
) {
    let mut connection = Connection::new(stream, peer, instance);
    let served = match connection.first().await {
        Ok(connect) => match hub::Claimant::read(&connect) {
            Some(claimant) => hub::serve(&mut connection, claimant, &connect).await,
            None => Conversation { connection: &mut connection }.run(&connect, &sessions).await,
        },
        Err(end) => Err(end),
    };
    match served {
        Err(End::Cut) => return,
        Err(End::Refused { word, target, refusal }) => connection.note(word, &target, refusal),
        Err(End::Over) | Ok(()) => {}
    }
    connection.close().await;
}

/// The QoS of the client's subscription to the replies, if it has one.
#[derive(Default)]
struct Replies {
    granted: Option<QoS>,
}

/// A connection to the provisioning service.
struct Conversation<'c, S> {
    connection: &'c mut Connection<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<'_, S> {
    async fn run(&mut self, connect: &Connect, sessions: &Sessions) -> Result<(), End> {
        let client = match Client::read(connect) {
            Ok(client) => client,
            Err((code, cause)) => {
                hold_back(self.connection.instance.settings().latency).await;
                self.connection.send(connack(code)).await?;
                return Err(End::refused("CONNECT", &connect.client_id, Refusal::unauthorized(cause)));
            }
        };
        self.connection.is_from(client.target());
        self.admit(&client).await?;
        let mut seat = sessions.enter(&client.name.registration_id, self.connection.peer.connection);
        self.connection.send(connack(ConnectReturnCode::Success)).await?;
        let mut replies = Replies::default();
        loop {
            let packet = tokio::select! {
                packet = self.connection.next() => packet?,
                () = seat.taken() => {
                    let refusal = Refusal::new(TAKEN_OVER, "a newer connection has the same client id");
                    return Err(End::refused("CONNECT", client.target(), refusal));
                }
            };
            self.respond(packet, &client, &mut replies).await?;
        }
    }

    /// Judges whether the client may connect, and refuses it if not.
    async fn admit(&mut self, client: &Client) -> Result<(), End> {
        let call = self.call("CONNECT", client.target(), client, DeviceOperation::Connect, Vec::new());
        let handled = self.connection.instance.handle(call);
        self.connection.greet(&handled).await
    }

    async fn respond(&mut self, packet: Packet, client: &Client, replies: &mut Replies) -> Result<(), End> {
        match packet {
            Packet::Disconnect => Err(End::Over),
            Packet::PingReq => self.connection.send(Packet::PingResp).await,
            // Ignored, because replies are never sent again.
            Packet::PubAck(_) => Ok(()),
            Packet::Subscribe(subscribe) => {
                let (suback, granted) = grant(&subscribe)?;
                replies.granted = Some(granted);
                self.connection.send(Packet::SubAck(suback)).await
            }
            Packet::Unsubscribe(unsubscribe) => {
                if unsubscribe.topics.iter().any(|filter| filter == topic::REPLIES) {
                    replies.granted = None;
                }
                self.connection.send(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid))).await
            }
            Packet::Publish(publish) => self.answer(publish, client, replies).await,
            other => Err(self.connection.refuse(&other)),
        }
    }

    async fn answer(&mut self, publish: Publish, client: &Client, replies: &mut Replies) -> Result<(), End> {
        let path = topic::path(&publish.topic);
        let request = TopicRequest::parse(&publish.topic)
            .map_err(|cause| End::refused("PUBLISH", path, Refusal::invalid(cause)))?;
        match publish.qos {
            QoS::AtMostOnce => {}
            // Before the reply, because clients insist on this order.
            QoS::AtLeastOnce => self.connection.send(Packet::PubAck(PubAck::new(publish.pkid))).await?,
            QoS::ExactlyOnce => {
                return Err(End::refused("PUBLISH", path, Refusal::invalid("QoS 2 is not supported")));
            }
        }
        let operation = request.operation();
        let mut call = self.call("PUBLISH", path, client, operation, publish.payload.to_vec());
        let Some(qos) = replies.granted else {
            call.request = Err(Refusal::invalid("the client does not listen to replies: no SUBSCRIBE came"));
            self.connection.instance.handle(call);
            return Ok(());
        };
        let Handled { answer, delivery, delay, .. } = self.connection.instance.handle(call);
        hold_back(delay).await;
        for (id, copy) in (REPLY_ID..).zip(delivery::plan(delivery, request.rid).ok_or(End::Cut)?) {
            let mut reply = match copy.is_garbage {
                true => Publish::new(topic::reply(200, &copy.rid, None), qos, GARBAGE),
                false => reply(&answer, &copy.rid, qos),
            };
            reply.pkid = id;
            self.connection.send(Packet::Publish(reply)).await?;
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
            origin: self.connection.origin(word, target),
            authorization: client.token.clone(),
            certificates: Arc::clone(&self.connection.peer.certificates),
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

/// The packet id of every reply, whether it is acknowledged or not, as the service sends it.
const REPLY_ID: u16 = 2;
