//! A device at its hub: turns its packets into calls, and what the hub has for it into packets.
//!
//! | packet | answer |
//! | --- | --- |
//! | CONNECT | CONNACK: 0 accepted, 2 wrong client id, 3 fault, 4 malformed user name, 5 refused |
//! | SUBSCRIBE | SUBACK; see [`subscriptions`] |
//! | PUBLISH to a topic of the hub | PUBACK if QoS 1, then the answer, if the topic has one |
//! | PUBACK | the message to the device is settled |
//! | UNSUBSCRIBE, PINGREQ | UNSUBACK, PINGRESP |
//! | DISCONNECT | the connection ends |
//! | anything else, QoS 2, a larger message, silence for too long | the connection ends, and the journal says why |
//!
//! The hub ends the connection when the token expires, when a newer connection has the device id, when the device
//! is disabled or deleted, and when the user of the emulator asks for it.

mod claimant;
mod subscriptions;
mod topic;

pub(super) use claimant::Claimant;

use std::collections::HashMap;
use std::future;
use std::time::Duration;

use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use self::subscriptions::{NotGranted, Subscriptions};
use self::topic::Asked;
use super::connection::{Connection, End, connack};
use super::delivery;
use crate::call::answer::Delivery;
use crate::call::hub::{AtHub, AtHubOperation};
use crate::call::request::Request;
use crate::call::schema::Body;
use crate::call::{Call, Handled};
use crate::front::delay::hold_back;
use crate::instance::at_hubs::{Seat, Step};
use crate::records::hubs::link::{Ending, Push};
use crate::records::hubs::properties::with_version;
use crate::refusal::{DISABLED, INVALID, Refusal, TAKEN_OVER, TOO_LARGE, UNAUTHORIZED};
use crate::state::fault::GARBAGE;

/// Serves a device from its CONNECT on.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    claimant: Claimant,
    connect: &Connect,
) -> Result<(), End> {
    connection.is_from(&connect.client_id);
    if let Err((code, cause)) = claimant.device_id() {
        hold_back(connection.instance.settings().latency).await;
        connection.send(connack(code)).await?;
        return Err(End::refused("CONNECT", &connect.client_id, Refusal::unauthorized(cause)));
    }
    let mut call = call(connection, &claimant, "CONNECT", &claimant.client_id, AtHubOperation::Connect);
    call.authorization.clone_from(&claimant.token);
    call.certificates = connection.peer.certificates.clone();
    let handled = connection.instance.handle(call);
    // Taken before the answer, so that it is left on every way out.
    let seat = (200..300).contains(&handled.answer.status).then(|| {
        let linked = connection.instance.settings().linked(&claimant.hub);
        let hub = linked.map_or(claimant.hub.as_str(), |hub| &hub.host_name);
        Seat::take(&connection.instance, hub, &claimant.client_id, connection.peer.connection)
    });
    connection.greet(&handled).await?;
    let Some(seat) = seat else { return Ok(()) };
    connection.send(connack(ConnectReturnCode::Success)).await?;
    let (subscriptions, in_flight) = (Subscriptions::default(), HashMap::new());
    Session { connection, claimant, seat, subscriptions, in_flight, last_id: 0 }.run().await
}

fn call<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &Connection<S>,
    claimant: &Claimant,
    word: &str,
    target: &str,
    operation: AtHubOperation,
) -> Call {
    let request = Request::AtHub(AtHub {
        hub: claimant.hub.clone(),
        device_id: claimant.client_id.clone(),
        connection: connection.peer.connection,
        operation,
    });
    let blank = Call::refused(connection.origin(word, target), Refusal::invalid(""));
    Call { api_version: claimant.api_version.clone(), request: Ok(request), ..blank }
}

/// A connected device.
struct Session<'c, S> {
    connection: &'c mut Connection<S>,
    claimant: Claimant,
    seat: Seat,
    subscriptions: Subscriptions,
    /// The messages that wait for their PUBACK, by packet id.
    in_flight: HashMap<u16, u64>,
    /// The packet id of the last PUBLISH to the device.
    last_id: u16,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn run(&mut self) -> Result<(), End> {
        loop {
            let rest = self.send_waiting().await?;
            let timer = async {
                match rest {
                    Some(rest) => sleep(rest).await,
                    None => future::pending().await,
                }
            };
            let packet = tokio::select! {
                packet = self.connection.next() => packet?,
                () = self.seat.signalled() => continue,
                () = timer => continue,
            };
            self.respond(packet).await?;
        }
    }

    /// Sends what waits for the device, and returns how long nothing else is to be done.
    async fn send_waiting(&mut self) -> Result<Option<Duration>, End> {
        loop {
            match self.seat.next() {
                Step::Send(push) => self.push(push).await?,
                Step::Wait(rest) => return Ok(rest),
                Step::End(ending) => {
                    let Claimant { hub, client_id, .. } = &self.claimant;
                    let cause = format!("device {client_id} at hub {hub}: {}", ending.cause());
                    return Err(End::refused("CONNECT", client_id, Refusal::new(code(ending), cause)));
                }
            }
        }
    }

    async fn push(&mut self, push: Push) -> Result<(), End> {
        let (topic, payload, message) = match push {
            Push::Desired { patch, version } => {
                (topic::desired(version), with_version(patch, version).to_string().into_bytes(), None)
            }
            Push::Method { rid, name, payload } => (topic::method(&name, &rid), payload.into_bytes(), None),
            Push::Message { number, message } => {
                let Claimant { client_id, .. } = &self.claimant;
                let id = self.subscriptions.own_id().unwrap_or(client_id);
                (topic::message(id, client_id, &message), message.body.clone(), Some(number))
            }
        };
        // A narrower filter of the device does not let it pass.
        let Some(qos) = self.subscriptions.qos(&topic) else { return Ok(()) };
        let mut publish = Publish::new(topic, qos, payload);
        publish.pkid = self.next_id();
        if let (QoS::AtLeastOnce, Some(number)) = (qos, message) {
            self.in_flight.insert(publish.pkid, number);
        }
        self.connection.send(Packet::Publish(publish)).await?;
        if let (QoS::AtMostOnce, Some(number)) = (qos, message) {
            self.seat.settle(number);
        }
        Ok(())
    }

    fn next_id(&mut self) -> u16 {
        // Fewer messages are in flight than there are ids.
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    async fn respond(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Disconnect => Err(End::Over),
            Packet::PingReq => self.connection.send(Packet::PingResp).await,
            Packet::PubAck(puback) => {
                if let Some(message) = self.in_flight.remove(&puback.pkid) {
                    self.seat.settle(message);
                }
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe).await,
            Packet::Unsubscribe(unsubscribe) => {
                unsubscribe.topics.iter().for_each(|filter| self.subscriptions.remove(filter));
                self.seat.listen(self.subscriptions.listens());
                self.connection.send(Packet::UnsubAck(UnsubAck::new(unsubscribe.pkid))).await
            }
            Packet::Publish(publish) => self.take(publish).await,
            other => Err(self.connection.refuse(&other)),
        }
    }

    async fn subscribe(&mut self, subscribe: &Subscribe) -> Result<(), End> {
        let mut codes = Vec::new();
        for filter in &subscribe.filters {
            codes.push(match self.subscriptions.add(&filter.path, filter.qos, &self.claimant.client_id) {
                Ok(qos) => SubscribeReasonCode::Success(qos),
                Err(NotGranted::Foreign) => {
                    let cause = "the hub has no such topics to subscribe to, or not for this device";
                    return Err(End::refused("SUBSCRIBE", &filter.path, Refusal::invalid(cause)));
                }
                Err(NotGranted::TooMany) => {
                    let cause =
                        format!("a device has at most {} subscriptions at its hub", subscriptions::MOST);
                    self.connection.note("SUBSCRIBE", &filter.path, Refusal::invalid(cause));
                    SubscribeReasonCode::Failure
                }
            });
        }
        // A device that has its SUBACK listens: a back end may call it at once. What waits for it is sent by
        // `run`, after the SUBACK, because some clients take nothing before it.
        self.seat.listen(self.subscriptions.listens());
        self.connection.send(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await
    }

    async fn take(&mut self, publish: Publish) -> Result<(), End> {
        let path = topic::path(&publish.topic);
        let refuse = |refusal| Err(End::refused("PUBLISH", path, refusal));
        if publish.qos == QoS::ExactlyOnce {
            return refuse(Refusal::invalid("QoS 2 is not supported by IoT Hub"));
        }
        let size = publish.payload.len() + publish.topic.len();
        if size > LARGEST_MESSAGE {
            let cause =
                format!("a message of {size} bytes is larger than {LARGEST_MESSAGE}, the limit of IoT Hub");
            return refuse(Refusal::new(TOO_LARGE, cause));
        }
        let asked = match Asked::read(&publish.topic, &self.claimant.client_id) {
            Ok(asked) => asked,
            Err(cause) => return refuse(Refusal::invalid(cause)),
        };
        let body = publish.payload.to_vec();
        let puback = (publish.qos == QoS::AtLeastOnce).then(|| Packet::PubAck(PubAck::new(publish.pkid)));
        match asked {
            Asked::Telemetry(mut properties) => {
                if publish.retain {
                    properties.application.push(("mqtt-retain".to_owned(), "true".to_owned()));
                }
                let handled = self.handle(path, AtHubOperation::Telemetry(properties), body);
                self.confirm(&handled, puback).await
            }
            Asked::AnswerMethod { rid, status } => {
                let operation = AtHubOperation::AnswerMethod { rid: rid.to_owned(), status };
                let handled = self.handle(path, operation, body);
                hold_back(handled.delay).await;
                self.acknowledge(puback).await
            }
            Asked::GetTwin { rid } => {
                self.acknowledge(puback).await?;
                self.answer(path, rid, AtHubOperation::GetTwin, body).await
            }
            Asked::Report { rid } => {
                self.acknowledge(puback).await?;
                self.answer(path, rid, AtHubOperation::Report, body).await
            }
        }
    }

    fn handle(&self, path: &str, operation: AtHubOperation, bytes: Vec<u8>) -> Handled {
        let call = call(self.connection, &self.claimant, "PUBLISH", path, operation);
        self.connection.instance.handle(Call { body: Body { bytes, json: true }, ..call })
    }

    async fn acknowledge(&mut self, puback: Option<Packet>) -> Result<(), End> {
        match puback {
            Some(puback) => self.connection.send(puback).await,
            None => Ok(()),
        }
    }

    /// Acknowledges telemetry, which has no other answer: a refusal ends the connection.
    async fn confirm(&mut self, handled: &Handled, puback: Option<Packet>) -> Result<(), End> {
        hold_back(handled.delay).await;
        match handled.delivery {
            Delivery::HangUp => Err(End::Cut),
            Delivery::Stall => Ok(()),
            _ if handled.answer.status >= 400 => Err(End::Over),
            Delivery::Plain | Delivery::Garbage | Delivery::WrongRid | Delivery::Twice => {
                self.acknowledge(puback).await
            }
        }
    }

    /// Answers a request about the twin.
    async fn answer(
        &mut self,
        path: &str,
        rid: &str,
        operation: AtHubOperation,
        body: Vec<u8>,
    ) -> Result<(), End> {
        let Some(qos) = self.subscriptions.qos(&topic::twin_reply(200, rid, None)) else {
            let cause = "the device does not listen to answers: no SUBSCRIBE to $iothub/twin/res/# came";
            self.connection.note("PUBLISH", path, Refusal::invalid(cause));
            return Ok(());
        };
        let Handled { answer, delivery, delay, .. } = self.handle(path, operation, body);
        hold_back(delay).await;
        let payload = answer.body.as_ref().map(ToString::to_string).unwrap_or_default();
        let replies = delivery::plan(delivery, rid).ok_or(End::Cut)?;
        for reply in replies {
            let topic = match reply.is_garbage {
                true => topic::twin_reply(200, &reply.rid, None),
                false => topic::twin_reply(answer.status, &reply.rid, answer.etag.as_deref()),
            };
            let payload = if reply.is_garbage { GARBAGE } else { &payload };
            let mut publish = Publish::new(topic, qos, payload);
            publish.pkid = self.next_id();
            self.connection.send(Packet::Publish(publish)).await?;
        }
        Ok(())
    }
}

/// The code in the journal for a connection that the hub ends.
fn code(ending: Ending) -> u32 {
    match ending {
        Ending::TakenOver => TAKEN_OVER,
        Ending::Expired | Ending::Gone => UNAUTHORIZED,
        Ending::Disabled => DISABLED,
        Ending::TooSlow | Ending::Asked => INVALID,
    }
}

/// With topic and properties.
const LARGEST_MESSAGE: usize = 256 * 1024;
