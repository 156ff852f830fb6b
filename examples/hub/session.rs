//! MQTT 3.1.1 between a device and its hub, on a stream that is already connected: one small session to copy.
//!
//! rumqttc encodes and decodes the packets. Every exchange has a limit, and `next` sends PINGREQ while the device
//! waits, so a lost connection is an error and never a wait without end. A session ends with its connection: the
//! program connects again, opens the next session and reads the twin again.

use std::collections::VecDeque;
use std::time::Duration;

use azure_dps_device::core::{Error, ErrorKind, Result};
use azure_dps_device::{HubAccess, HubStream, SignIn};
use futures_util::{SinkExt as _, StreamExt as _};
use rumqttc::mqttbytes::v4::{
    Codec, ConnAck, Connect, ConnectReturnCode, Login, Packet, Publish, Subscribe, SubscribeFilter,
    SubscribeReasonCode,
};
use rumqttc::mqttbytes::{Error as CodecError, QoS};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tokio_util::codec::Framed;

/// What the hub asks of the device.
#[derive(Debug)]
pub(crate) enum Event {
    /// The back end changed desired properties; null removes one.
    Desired { version: u64, patch: Value },
    /// The back end calls a direct method and waits for its answer.
    Method(Method),
}

/// A call of a direct method.
#[derive(Debug)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) payload: Value,
    rid: String,
}

/// One connection of a device to its hub.
#[derive(Debug)]
pub(crate) struct Session {
    packets: Framed<HubStream, Codec>,
    device_id: String,
    /// The last packet id, which is also the last `$rid`.
    last_id: u16,
    /// Events that arrived while the device waited for an answer.
    events: VecDeque<Event>,
    /// When to send PINGREQ, and when its answer is due.
    ping_at: Instant,
    pong_due: Option<Instant>,
}

impl Session {
    /// Signs in, and subscribes to answers about the twin, desired changes and direct methods.
    pub(crate) async fn open(stream: HubStream, access: &HubAccess, sign_in: &SignIn) -> Result<Self> {
        let codec = Codec { max_incoming_size: LARGEST_PACKET, max_outgoing_size: LARGEST_PACKET };
        let mut session = Self {
            packets: Framed::new(stream, codec),
            device_id: access.client_id().to_owned(),
            last_id: 0,
            events: VecDeque::new(),
            ping_at: Instant::now() + KEEP_ALIVE / 2,
            pong_due: None,
        };
        let mut connect = Connect::new(access.client_id());
        connect.keep_alive = u16::try_from(KEEP_ALIVE.as_secs()).unwrap_or(u16::MAX);
        // The codec sends no password if it is empty: with a certificate there is none.
        connect.login = Some(Login::new(access.user_name(), sign_in.password().unwrap_or_default()));
        session.send(Packet::Connect(connect)).await?;
        let code = session.wait_for(|packet| match packet {
            Packet::ConnAck(ConnAck { code, .. }) => Some(*code),
            _ => None,
        });
        accepted(code.await?)?;

        let filters = SUBSCRIPTIONS.map(|filter| SubscribeFilter::new(filter.to_owned(), QoS::AtMostOnce));
        let mut subscribe = Subscribe::new_many(filters);
        subscribe.pkid = session.next_id();
        session.send(Packet::Subscribe(subscribe)).await?;
        let codes = session.wait_for(|packet| match packet {
            Packet::SubAck(granted) => Some(granted.return_codes.clone()),
            _ => None,
        });
        match codes.await?.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
            true => Ok(session),
            false => Err(Error::new(ErrorKind::Unauthorized, "the hub refused a subscription")),
        }
    }

    /// Reads the twin: its `desired` and `reported` properties, each with a `$version`.
    pub(crate) async fn twin(&mut self) -> Result<Value> {
        let answer = self.ask("$iothub/twin/GET/", Vec::new()).await?;
        serde_json::from_slice(&answer.payload).map_err(|why| Error::from_json(&why))
    }

    /// Reports properties; null removes one. Returns the new version of the reported properties.
    pub(crate) async fn report(&mut self, patch: &Value) -> Result<u64> {
        let topic = "$iothub/twin/PATCH/properties/reported/";
        let answer = self.ask(topic, patch.to_string().into_bytes()).await?;
        let version = parameter(&answer.topic, "$version").and_then(|version| version.parse().ok());
        version.ok_or_else(|| Error::new(ErrorKind::Protocol, "the hub's answer to a report has no $version"))
    }

    /// Sends telemetry and waits until the hub has stored it.
    pub(crate) async fn send_telemetry(&mut self, body: &Value) -> Result<()> {
        let topic = format!("devices/{}/messages/events/$.ct=application%2Fjson&$.ce=utf-8", self.device_id);
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, body.to_string());
        let id = self.next_id();
        publish.pkid = id;
        self.send(Packet::Publish(publish)).await?;
        self.wait_for(|packet| matches!(packet, Packet::PubAck(ack) if ack.pkid == id).then_some(())).await
    }

    /// Answers a direct method with a status of the application's choice, 200 for success.
    pub(crate) async fn answer(&mut self, method: &Method, status: u16, body: &Value) -> Result<()> {
        let topic = format!("$iothub/methods/res/{status}/?$rid={}", method.rid);
        self.send(Packet::Publish(Publish::new(topic, QoS::AtMostOnce, body.to_string()))).await
    }

    /// The next event, or `None` when it has not come by `until`. Keeps the connection alive meanwhile.
    pub(crate) async fn next(&mut self, until: Instant) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let due = self.pong_due.unwrap_or(self.ping_at);
            match timeout_at(due.min(until), self.packets.next()).await {
                Ok(packet) => self.keep(received(packet)?)?,
                Err(_) if due > until => return Ok(None),
                Err(_) if self.pong_due.is_some() => return Err(silent()),
                Err(_) => {
                    self.send(Packet::PingReq).await?;
                    self.pong_due = Some(Instant::now() + EXCHANGE);
                }
            }
        }
    }

    /// Says goodbye and closes the connection.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.send(Packet::Disconnect).await?;
        let closing = timeout_at(Instant::now() + EXCHANGE, self.packets.close());
        closing.await.map_err(|_| silent())?.map_err(failed)
    }

    /// Sends a request about the twin and waits for its answer.
    async fn ask(&mut self, topic: &str, body: Vec<u8>) -> Result<Publish> {
        let rid = self.next_id().to_string();
        let request = Publish::new(format!("{topic}?$rid={rid}"), QoS::AtMostOnce, body);
        self.send(Packet::Publish(request)).await?;
        let answer = self.wait_for(|packet| match packet {
            Packet::Publish(answer) if parameter(&answer.topic, "$rid") == Some(&rid) => {
                let status = answer.topic.strip_prefix(TWIN_ANSWERS)?.split('/').next()?.to_owned();
                Some((status, answer.clone()))
            }
            _ => None,
        });
        match answer.await? {
            (status, answer) if status.starts_with('2') => Ok(answer),
            (status, _) => {
                Err(Error::new(ErrorKind::Service, format!("the hub answered with status {status}")))
            }
        }
    }

    /// Waits for the packet that `wanted` recognizes; keeps the events that arrive before it.
    async fn wait_for<T>(&mut self, wanted: impl Fn(&Packet) -> Option<T>) -> Result<T> {
        let until = Instant::now() + EXCHANGE;
        loop {
            let packet = timeout_at(until, self.packets.next()).await.map_err(|_| silent())?;
            let packet = received(packet)?;
            match wanted(&packet) {
                Some(found) => return Ok(found),
                None => self.keep(packet)?,
            }
        }
    }

    async fn send(&mut self, packet: Packet) -> Result<()> {
        let sending = timeout_at(Instant::now() + EXCHANGE, self.packets.send(packet));
        sending.await.map_err(|_| silent())?.map_err(failed)?;
        self.ping_at = Instant::now() + KEEP_ALIVE / 2;
        Ok(())
    }

    /// Takes a packet for which the device does not wait.
    fn keep(&mut self, packet: Packet) -> Result<()> {
        match packet {
            Packet::PingResp => self.pong_due = None,
            // A late answer to a request that was given up is not an event.
            Packet::Publish(publish) => self.events.extend(event(&publish)?),
            Packet::PubAck(_) => {}
            _ => return Err(Error::new(ErrorKind::Protocol, "the hub sent an unexpected packet")),
        }
        match self.events.len() {
            ..=MOST_EVENTS => Ok(()),
            _ => Err(Error::new(ErrorKind::Protocol, "the hub sends events faster than they are handled")),
        }
    }

    fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.last_id
    }
}

/// The event that a message is, if it is one.
fn event(publish: &Publish) -> Result<Option<Event>> {
    let topic = publish.topic.as_str();
    let invalid = || Error::new(ErrorKind::Protocol, format!("the hub published to the topic {topic:?}"));
    let body = || match publish.payload.as_ref() {
        b"" => Ok(Value::Null),
        bytes => serde_json::from_slice(bytes).map_err(|why| Error::from_json(&why)),
    };
    if topic.starts_with(TWIN_ANSWERS) {
        return Ok(None);
    }
    if topic.starts_with(DESIRED_CHANGES) {
        let version = parameter(topic, "$version").and_then(|version| version.parse().ok());
        return Ok(Some(Event::Desired { version: version.ok_or_else(invalid)?, patch: body()? }));
    }
    let method = topic.strip_prefix(METHODS).and_then(|rest| rest.split('/').next()).ok_or_else(invalid)?;
    let rid = parameter(topic, "$rid").ok_or_else(invalid)?.to_owned();
    Ok(Some(Event::Method(Method { name: method.to_owned(), payload: body()?, rid })))
}

/// A parameter behind the `?` of a topic.
fn parameter<'a>(topic: &'a str, name: &str) -> Option<&'a str> {
    let (_, parameters) = topic.split_once('?')?;
    parameters.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// The hub's answer to CONNECT. A device that is refused registers again: it may belong to another hub.
fn accepted(code: ConnectReturnCode) -> Result<()> {
    let (kind, message) = match code {
        ConnectReturnCode::Success => return Ok(()),
        ConnectReturnCode::ServiceUnavailable => (ErrorKind::Connect, "the hub is not available"),
        ConnectReturnCode::RefusedProtocolVersion => (ErrorKind::Unsupported, "the hub speaks another MQTT"),
        _ => (ErrorKind::Unauthorized, "the hub refused the device"),
    };
    Err(Error::new(kind, format!("{message} (CONNACK {})", code as u8)))
}

fn received(packet: Option<Result<Packet, CodecError>>) -> Result<Packet> {
    match packet {
        Some(packet) => packet.map_err(failed),
        None => Err(Error::new(ErrorKind::Io, "the hub closed the connection")),
    }
}

/// The error of a broken connection. A hub that refuses the device's certificate breaks it in TLS 1.3.
fn failed(why: CodecError) -> Error {
    let refused = match &why {
        CodecError::Io(why) => Error::from_tls(why, "the hub"),
        _ => None,
    };
    refused.unwrap_or_else(|| Error::new(ErrorKind::Io, "the connection to the hub failed").with_source(why))
}

fn silent() -> Error {
    Error::new(ErrorKind::Io, format!("no answer from the hub within {EXCHANGE:?}"))
}

const TWIN_ANSWERS: &str = "$iothub/twin/res/";
const DESIRED_CHANGES: &str = "$iothub/twin/PATCH/properties/desired/";
const METHODS: &str = "$iothub/methods/POST/";
const SUBSCRIPTIONS: [&str; 3] =
    ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"];
const EXCHANGE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// 256 KiB of payload, and the topic.
const LARGEST_PACKET: usize = 257 * 1024;
const MOST_EVENTS: usize = 64;
