//! A device at an emulator's AMQP port: above SASL, the client half of an AMQP library.

use azure_dps_emulator::Emulator;
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::{Error, ErrorCondition};
use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Body, Data, Message, MessageId, Outcome, Properties, Source, Target,
};
use fe2o3_amqp::types::primitives::{Binary, OrderedMap, SimpleValue, Symbol, Value as Amqp};
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use serde_json::Value;
use tokio::time::timeout;

use crate::dev1::DEV1;
use crate::limits::HUNG;
use crate::sasl_bytes::{sign_in, tls};
use crate::tls::ClientStream;

#[derive(Debug)]
pub struct AmqpDevice {
    pub connection: ConnectionHandle<()>,
    pub session: SessionHandle<()>,
    pub receiver: Option<Receiver>,
    pub sender: Option<Sender>,
}

#[derive(Debug)]
pub struct Reply {
    pub correlation_id: Option<MessageId>,
    pub properties: OrderedMap<String, SimpleValue>,
    /// `Null` if it is not JSON.
    pub body: Value,
}

impl Reply {
    pub fn operation(&self) -> String {
        self.body["operationId"].as_str().unwrap().to_owned()
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        match self.properties.get(name)? {
            SimpleValue::String(text) => Some(text),
            other => panic!("{other:?}"),
        }
    }
}

/// A request without its body.
#[derive(Debug)]
pub struct Ask(OrderedMap<String, SimpleValue>);

impl Ask {
    pub fn of(operation: &str) -> Self {
        Ask(OrderedMap::new()).with(("iotdps-operation-type", operation.into()))
    }

    pub fn with(mut self, (name, value): (&str, SimpleValue)) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }
}

pub fn register() -> Ask {
    Ask::of("iotdps-register")
}

pub fn poll(operation: &str) -> Ask {
    Ask::of("iotdps-get-operationstatus").with(("iotdps-operation-id", operation.into()))
}

pub fn data(text: &str) -> Body<Amqp> {
    Body::Data(vec![Data(Binary::from(text.as_bytes()))].into())
}

pub fn value(text: &str) -> Body<Amqp> {
    Body::Value(AmqpValue(Amqp::String(text.to_owned())))
}

impl AmqpDevice {
    pub async fn signed_in(emulator: &Emulator, token: &str) -> Self {
        let mut stream = tls(emulator, None).await;
        assert_eq!(sign_in(&mut stream, DEV1, token).await, 0);
        Self::open(stream).await
    }

    pub async fn open(stream: ClientStream) -> Self {
        let connection = Connection::builder().container_id("peer").max_frame_size(65_536u32);
        let mut connection = timeout(HUNG, connection.open_with_stream(stream)).await.unwrap().unwrap();
        let session = timeout(HUNG, Session::begin(&mut connection)).await.unwrap().unwrap();
        AmqpDevice { connection, session, receiver: None, sender: None }
    }

    pub async fn attach(&mut self, address: &str) {
        self.attach_as(address, VERSION).await;
    }

    /// Attaches both links with this api-version.
    pub async fn attach_as(&mut self, address: &str, version: &str) {
        let receiver = Receiver::builder().name("receiver").source(address).target(Target::default());
        let receiver = receiver.properties(properties(version)).attach(&mut self.session);
        self.receiver = Some(timeout(HUNG, receiver).await.unwrap().unwrap());
        self.attach_sender_as(address, version).await;
    }

    pub async fn attach_sender(&mut self, address: &str) {
        self.attach_sender_as(address, VERSION).await;
    }

    async fn attach_sender_as(&mut self, address: &str, version: &str) {
        let sender = Sender::builder().name("sender").source(Source::default()).target(address);
        let sender = sender.properties(properties(version)).attach(&mut self.session);
        self.sender = Some(timeout(HUNG, sender).await.unwrap().unwrap());
    }

    /// How the connection ends when a link is attached that may not be.
    pub async fn closed_on_attach(&mut self, address: &str) -> String {
        let sender = Sender::builder().name("sender").source(Source::default()).target(address);
        let attached =
            timeout(HUNG, sender.properties(api_version()).attach(&mut self.session)).await.unwrap();
        assert!(attached.is_err());
        format!("{:?}", timeout(HUNG, self.connection.on_close()).await.unwrap().unwrap_err())
    }

    pub async fn send(&mut self, ask: Ask, id: Option<&str>, body: Body<Amqp>) -> Result<(), Error> {
        let sent = self.sender.as_mut().unwrap().send(message(ask, id, body));
        match timeout(HUNG, sent).await.unwrap().unwrap() {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Rejected(rejected) => Err(rejected.error.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request without waiting for its outcome.
    pub async fn send_only(&mut self, ask: Ask) {
        let sent = self.sender.as_mut().unwrap().send_batchable(message(ask, None, data("")));
        drop(timeout(HUNG, sent).await.unwrap().unwrap());
    }

    pub async fn hear(&mut self) -> Reply {
        let receiver = self.receiver.as_mut().unwrap();
        let delivery = timeout(HUNG, receiver.recv::<Body<Amqp>>()).await.unwrap().unwrap();
        receiver.accept(&delivery).await.unwrap();
        let message = delivery.into_message();
        let Body::Data(sections) = message.body else { panic!("{:?}", message.body) };
        let bytes: Vec<u8> = sections.into_iter().flat_map(|Data(bytes)| bytes.into_vec()).collect();
        Reply {
            correlation_id: message.properties.and_then(|properties| properties.correlation_id),
            properties: message.application_properties.unwrap().0,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        }
    }

    pub async fn ask(&mut self, ask: Ask, id: Option<&str>, body: Body<Amqp>) -> Result<Reply, Error> {
        self.send(ask, id, body).await?;
        Ok(self.hear().await)
    }

    /// The registration state at the end.
    pub async fn register(&mut self) -> Value {
        let operation = self.ask(register(), Some("1"), data("")).await.unwrap().operation();
        loop {
            let mut reply = self.ask(poll(&operation), Some("2"), value("")).await.unwrap();
            if reply.body["status"] != "assigning" {
                return reply.body["registrationState"].take();
            }
        }
    }

    pub async fn leave(mut self) {
        let parting = async {
            self.sender.take().unwrap().close().await.unwrap();
            self.receiver.take().unwrap().close().await.unwrap();
            self.session.end().await.unwrap();
            self.connection.close().await.unwrap();
        };
        timeout(HUNG, parting).await.unwrap();
    }
}

fn message(ask: Ask, id: Option<&str>, body: Body<Amqp>) -> Message<Body<Amqp>> {
    let correlation_id = id.map(|id| MessageId::String(id.to_owned()));
    Message {
        header: None,
        delivery_annotations: None,
        message_annotations: None,
        properties: Some(Properties { correlation_id, ..Properties::default() }),
        application_properties: Some(ApplicationProperties(ask.0)),
        body,
        footer: None,
    }
}

pub fn api_version() -> OrderedMap<Symbol, Amqp> {
    properties(VERSION)
}

fn properties(version: &str) -> OrderedMap<Symbol, Amqp> {
    let mut properties = OrderedMap::new();
    properties.insert(Symbol::from("com.microsoft:api-version"), Amqp::String(version.into()));
    properties
}

const VERSION: &str = "2019-03-31";

pub fn condition(error: &Error) -> String {
    let symbol = match &error.condition {
        ErrorCondition::AmqpError(condition) => Symbol::from(condition),
        ErrorCondition::LinkError(condition) => Symbol::from(condition),
        ErrorCondition::Custom(condition) => condition.clone(),
        other => panic!("{other:?}"),
    };
    symbol.as_str().to_owned()
}
