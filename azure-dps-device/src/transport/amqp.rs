//! Registration over AMQP 1.0: one connection, one session, a link for requests and one for replies.
//!
//! Above SASL, fe2o3-amqp implements the protocol. It runs tasks on a stream that the channel cuts when it is
//! dropped. Every await of the library has a limit, because the library never ends a request whose connection
//! is lost. Wire form: `docs/wire/device-amqp.md`.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::time::Duration;

use azure_dps_core::{Endpoint, Error, ErrorKind, Result};
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{Body, Message, Outcome, Rejected};
use fe2o3_amqp::types::primitives::{OrderedMap, Symbol, Value};
use fe2o3_amqp::{Connection, Receiver, Sender};
use tokio::time::timeout;

use self::cut_stream::{CutStream, CutSwitch, Goodbye};
use self::failure::Failure;
use self::guard::LARGEST_FRAME;
use crate::stream::{self, Carrier, Dialer, Stream};
use crate::transport::contract::{
    BoxFuture, Channel, Facts, Operation, Purpose, Reply, Request, Session, Transport,
};

mod cut_stream;
pub(crate) mod encoding;
pub(crate) mod failure;
pub(crate) mod guard;
pub(crate) mod message;
pub(crate) mod sasl;

/// The AMQP transport: port 5671, or port 443 [in a WebSocket](Self::with_websocket). Every registration
/// opens a connection.
///
/// It supports symmetric keys, X.509 and TPMs. The service does not offer a status look-up over AMQP.
///
/// ```
/// use azure_dps_device::Amqp;
///
/// let global = Amqp::default();
/// # let _ = global;
/// ```
#[derive(Clone, Debug)]
pub struct Amqp {
    dialer: Dialer,
}

impl Amqp {
    /// Reaches the service at `endpoint`. `Amqp::default()` reaches the global one.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { dialer: Dialer::new(endpoint, OVER_TLS) }
    }

    /// Uses a WebSocket, on port 443 unless the endpoint names another: for networks that block port 5671.
    #[cfg(feature = "ws")]
    #[must_use]
    pub fn with_websocket(self) -> Self {
        Self { dialer: self.dialer.with_carrier(OVER_WEBSOCKET) }
    }
}

impl Default for Amqp {
    fn default() -> Self {
        Self::new(Endpoint::default())
    }
}

impl Transport for Amqp {
    fn check(&self, session: &Session) -> Result<()> {
        match session.purpose() {
            Purpose::Register => Ok(()),
            Purpose::Lookup => Err(no_lookup()),
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
            let identity = session.auth().identity();
            let mut stream = self.dialer.connect(identity).await?;
            let (host, place) = (self.dialer.endpoint().host(), self.dialer.place());
            let limit = self.dialer.endpoint().exchange_timeout();
            // The service does not use SASL with a device that TLS has authenticated.
            let bare = identity.is_some();
            if !bare {
                sasl::sign_in(&mut stream, host, &place, limit, &session).await?;
            }
            match timeout(limit, AmqpChannel::open(&self.dialer, stream, bare, &session)).await {
                Ok(channel) => Ok(Box::new(channel?) as Box<dyn Channel>),
                Err(_) => Err(stream::silent(&place, limit)),
            }
        })
    }
}

struct AmqpChannel {
    sender: Sender,
    receiver: Receiver,
    session: SessionHandle<()>,
    wire: Wire,
    /// How long one exchange may take.
    limit: Duration,
    name: &'static str,
    /// The service has ended a link, the session or the connection, and has given the reason.
    ended: bool,
}

impl Channel for AmqpChannel {
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>> {
        Box::pin(async move {
            match timeout(self.limit, self.ask(&request.operation)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(stream::silent(&self.wire.place, self.limit)),
            }
        })
    }

    fn idle(&mut self, wait: Duration) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let waiting = tokio::time::sleep(wait);
            if self.ended {
                waiting.await;
                return Ok(());
            }
            // The library sends keep-alive frames meanwhile. Watching both links shows at once when the
            // connection ends.
            let failure = tokio::select! {
                failure = detached(&mut self.receiver) => failure,
                why = self.sender.on_detach() => why.into(),
                () = waiting => return Ok(()),
            };
            match timeout(self.limit, self.wire.explain(failure)).await {
                Ok(Ok(reply)) => Err(failure::refused(&reply)),
                Ok(Err(why)) => Err(why),
                Err(_) => Err(stream::silent(&self.wire.place, self.limit)),
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let Self { sender, receiver, session, mut wire, limit, .. } = *self;
            // Nothing here waits for the peer. The close waits for the end of the session, because it would
            // overtake what the links have sent last. A session whose handles are all dropped sends its end and
            // rests; one that is merely ended would poll without a pause until the peer answers.
            drop((sender, receiver, session));
            let goodbye = async {
                wire.switch.has_sent(Goodbye::End).await;
                wire.connection.close().await
            };
            // The registration is over: errors do not matter.
            let _ = timeout(limit, goodbye).await;
        })
    }

    fn facts(&self) -> Facts {
        Facts { name: self.name, operations_survive: false }
    }
}

impl AmqpChannel {
    /// Opens the connection, the session and both links.
    async fn open(dialer: &Dialer, stream: impl Stream, bare: bool, session: &Session) -> Result<Self> {
        let mut wire = Wire::open(stream, bare, dialer.endpoint().host(), &dialer.place()).await?;
        let begun = fe2o3_amqp::Session::begin(&mut wire.connection).await;
        let mut begun = wire.granted(begun).await?;

        let address = format!("{}/registrations/{}", session.id_scope(), session.registration_id());
        let properties: OrderedMap<Symbol, Value> =
            [(API_VERSION, session.api_version().as_str()), (CLIENT_VERSION, session.user_agent())]
                .into_iter()
                .map(|(name, value)| (Symbol::from(name), Value::String(value.to_owned())))
                .collect();
        let receiver = Receiver::builder()
            .name(unique())
            .source(address.as_str())
            .properties(properties.clone())
            .attach(&mut begun)
            .await;
        let mut receiver = wire.granted(receiver).await?;
        let sender = Sender::builder()
            .name(unique())
            .target(address.as_str())
            .properties(properties)
            .attach(&mut begun);
        let sender = tokio::select! {
            biased;
            sender = sender => wire.granted(sender).await?,
            // A service that refuses the first link may not answer the second one.
            why = detached(&mut receiver) => return Err(wire.refused(why).await),
        };
        let (limit, name) = (dialer.endpoint().exchange_timeout(), dialer.name());
        Ok(Self { sender, receiver, session: begun, wire, limit, name, ended: false })
    }

    /// Sends a request and waits for the reply, which may arrive before the acknowledgement.
    async fn ask(&mut self, operation: &Operation) -> Result<Reply> {
        if self.ended {
            return Err(self.wire.lost(Failure::Ended));
        }
        let id = unique();
        let message = message::request(operation, &id).ok_or_else(no_lookup)?;
        let received = tokio::select! {
            biased;
            outcome = self.sender.send(message) => match outcome {
                Ok(Outcome::Accepted(_)) => tokio::select! {
                    received = receive(&mut self.receiver, &id) => received,
                    why = self.sender.on_detach() => Received::Failure(why.into()),
                },
                Ok(Outcome::Rejected(Rejected { error: Some(error) })) => return Ok(failure::reply(&error)),
                Ok(Outcome::Rejected(Rejected { error: None })) => {
                    let message = "the service rejected the request without a reason";
                    return Err(Error::new(ErrorKind::Protocol, message));
                }
                Ok(_) => {
                    let message = "the service released the request without processing it";
                    return Err(Error::new(ErrorKind::Io, message));
                }
                Err(why) => Received::Failure(why.into()),
            },
            received = receive(&mut self.receiver, &id) => received,
        };
        match received {
            Received::Reply(reply) => reply,
            Received::Failure(failure) => {
                let reply = self.wire.explain(failure).await?;
                self.ended = true;
                Ok(reply)
            }
        }
    }
}

/// The library's connection, and the switch of the stream below it.
struct Wire {
    connection: ConnectionHandle<()>,
    switch: CutSwitch,
    place: String,
}

impl Wire {
    async fn open<S: Stream>(stream: S, bare: bool, host: &str, place: &str) -> Result<Self> {
        let (stream, switch) = CutStream::new(stream, bare);
        let opened = Connection::builder()
            .container_id(unique())
            .hostname(host)
            .max_frame_size(LARGEST_FRAME)
            .open_with_stream(stream)
            .await;
        match opened {
            Ok(connection) => Ok(Self { connection, switch, place: place.to_owned() }),
            Err(why) => match Failure::from(why) {
                Failure::Refused(error) => Err(failure::refused(&failure::reply(&error))),
                failure => Err(lost(&switch, place, failure)),
            },
        }
    }

    async fn granted<T, E: Into<Failure>>(&mut self, outcome: std::result::Result<T, E>) -> Result<T> {
        match outcome {
            Ok(granted) => Ok(granted),
            Err(why) => Err(self.refused(why).await),
        }
    }

    /// The error when the service refuses the session or a link.
    async fn refused(&mut self, why: impl Into<Failure>) -> Error {
        match self.explain(why.into()).await {
            Ok(reply) => failure::refused(&reply),
            Err(why) => why,
        }
    }

    /// Returns the reason that the service gave, as the reply that it would have sent over HTTPS.
    async fn explain(&mut self, failure: Failure) -> Result<Reply> {
        let failure = match failure {
            // The session and the links do not know the reason; the connection does.
            Failure::Stopped => match self.connection.on_close().await {
                Err(why) => why.into(),
                Ok(()) => Failure::Ended,
            },
            failure => failure,
        };
        match failure {
            Failure::Refused(error) => Ok(failure::reply(&error)),
            failure => Err(self.lost(failure)),
        }
    }

    fn lost(&self, failure: Failure) -> Error {
        lost(&self.switch, &self.place, failure)
    }
}

enum Received {
    /// The reply, or the reason why it cannot be read.
    Reply(Result<Reply>),
    /// The link ended.
    Failure(Failure),
}

/// Reads messages until one is the reply to the request `id`.
async fn receive(receiver: &mut Receiver, id: &str) -> Received {
    loop {
        match next(receiver).await.map(|message| message::reply(message, id)) {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(reply))) => return Received::Reply(Ok(reply)),
            Ok(Err(why)) => return Received::Reply(Err(why)),
            Err(failure) => return Received::Failure(failure),
        }
    }
}

/// Discards messages until the link ends. Reading is how the library reports the end.
async fn detached(receiver: &mut Receiver) -> Failure {
    loop {
        if let Err(failure) = next(receiver).await {
            return failure;
        }
    }
}

async fn next(receiver: &mut Receiver) -> std::result::Result<Message<Body<Value>>, Failure> {
    let delivery = receiver.recv::<Body<Value>>().await?;
    receiver.accept(&delivery).await?;
    Ok(delivery.into_message())
}

fn lost(switch: &CutSwitch, place: &str, failure: Failure) -> Error {
    match (switch.failure(), failure) {
        (Some(why), _) if why.kind() == io::ErrorKind::PermissionDenied => {
            Error::new(ErrorKind::Unauthorized, format!("{place} did not accept the device's certificate"))
        }
        (Some(why), _) | (None, Failure::Stream(why)) => stream::lost(place, why),
        // After data that it cannot decode, the library reports the end of a stream that the peer has not
        // closed.
        (None, Failure::Exhausted) if !switch.has_ended() => Failure::Garbled.into_error(place),
        (None, failure) => failure.into_error(place),
    }
}

fn no_lookup() -> Error {
    Error::new(ErrorKind::Unsupported, "the service does not offer a status look-up over AMQP: use HTTPS")
}

/// Returns 32 random hexadecimal digits, which name containers and links and correlate requests. Not a
/// secret.
fn unique() -> String {
    let part = || RandomState::new().hash_one(std::time::Instant::now());
    format!("{:016x}{:016x}", part(), part())
}

const OVER_TLS: Carrier = Carrier::tls("AMQP", 5671);
#[cfg(feature = "ws")]
const OVER_WEBSOCKET: Carrier = Carrier::websocket("AMQP-WS", 443, "AMQPWSB10");
const API_VERSION: &str = "com.microsoft:api-version";
const CLIENT_VERSION: &str = "com.microsoft:client-version";
