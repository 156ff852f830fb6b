//! Where connections arrive: binding, accepting and the TLS handshake. What is spoken inside is up to the front.

mod amqp;
mod chunked;
#[cfg(fuzzing)]
pub mod fuzzing;
mod https;
mod manage;
mod mqtt;
mod paced;
mod refused;
mod websocket;

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::paced::Paced;
use self::refused::Refused;
use crate::answer::{REQUEST_TIMEOUT, Refusal};
use crate::certificate::Certificate;
use crate::fault::Front;
use crate::service::{Call, Origin, Service};
use crate::tls::{self, Certificates};

/// Counts connections; clones count together.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// One port on one address, or on both loopback addresses.
pub(crate) struct Listeners {
    pub(crate) port: u16,
    listeners: Vec<TcpListener>,
}

impl Listeners {
    /// Whether one of them has this address.
    pub(crate) fn have(&self, address: SocketAddr) -> bool {
        let addresses = self.listeners.iter().filter_map(|listener| listener.local_addr().ok());
        addresses
            .filter(|own| own.port() == address.port())
            .any(|own| own.ip() == address.ip() || own.ip().is_unspecified() || address.ip().is_unspecified())
    }
}

/// Binds an address; for 127.0.0.1, where there is IPv6, ::1 on the same port too: clients resolve `localhost` to
/// either.
///
/// # Errors
/// What the system said, and about which address.
pub(crate) async fn bind(host: IpAddr, port: u16) -> Result<Listeners, (SocketAddr, io::Error)> {
    let asked = SocketAddr::from((host, port));
    let mut attempts = 0;
    loop {
        attempts += 1;
        let first = TcpListener::bind(asked).await.map_err(|error| (asked, error))?;
        let bound = first.local_addr().map_err(|error| (asked, error))?.port();
        if host != Ipv4Addr::LOCALHOST {
            return Ok(Listeners { port: bound, listeners: vec![first] });
        }
        let beside = SocketAddr::from((Ipv6Addr::LOCALHOST, bound));
        match TcpListener::bind(beside).await {
            Ok(second) => return Ok(Listeners { port: bound, listeners: vec![first, second] }),
            // A free port of one family may be taken in the other, by somebody else.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if port != 0 || attempts == BIND_ATTEMPTS {
                    return Err((beside, error));
                }
            }
            Err(_) => return Ok(Listeners { port: bound, listeners: vec![first] }),
        }
    }
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speech {
    /// The service API and the device API over HTTPS, and WebSockets.
    Https,
    /// The device API over MQTT.
    Mqtt,
    /// The device API over AMQP.
    Amqp,
    /// Management over plain HTTP.
    Manage,
}

impl fmt::Display for Speech {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Speech::Https => "HTTPS",
            Speech::Mqtt => "MQTT",
            Speech::Amqp => "AMQP",
            Speech::Manage => "management",
        })
    }
}

/// What every connection needs, whichever way it came in.
#[derive(Clone)]
pub(crate) struct Door {
    https: TlsAcceptor,
    /// For ports where no protocol is negotiated.
    raw: TlsAcceptor,
    ca_pem: Arc<str>,
    service: Arc<Service>,
    connections: Counter,
    sessions: mqtt::Sessions,
}

impl Door {
    pub(crate) fn new(
        certificates: &Certificates,
        service: Arc<Service>,
        connections: Counter,
    ) -> Result<Self, rustls::Error> {
        let acceptor = |protocols: &[&[u8]]| {
            let config = tls::server_config(certificates, protocols)?;
            Ok::<_, rustls::Error>(TlsAcceptor::from(Arc::new(config)))
        };
        Ok(Door {
            https: acceptor(&[b"http/1.1"])?,
            raw: acceptor(&[])?,
            ca_pem: certificates.ca_pem.as_str().into(),
            service,
            connections,
            sessions: mqtt::Sessions::default(),
        })
    }
}

/// Who is at the other end of a connection.
#[derive(Clone)]
struct Peer {
    front: Front,
    connection: u64,
    /// What it presented in the handshake, its own certificate first; empty if it has none.
    certificates: Arc<[Certificate]>,
}

/// Accepts connections until the returned tasks are dropped, which ends the connections too.
pub(crate) fn serve(ports: impl IntoIterator<Item = (Listeners, Speech)>, door: &Door) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (listeners, speech) in ports {
        for listener in listeners.listeners {
            tasks.spawn(accept(listener, speech, door.clone()));
        }
    }
    tasks
}

async fn accept(listener: TcpListener, speech: Speech, door: Door) {
    let (mut open, mut refused) = (JoinSet::new(), Refused::default());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.spawn(connection(stream, speech, door.clone()));
            }
            // For example no file descriptor left: others must close first.
            Err(error) => {
                if let Some(count) = refused.count(Instant::now()) {
                    tracing::warn!(%error, count, "connections could not be accepted");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, speech: Speech, door: Door) {
    // Small answers meet the delayed acknowledgements of the peer otherwise.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "Nagle's algorithm stays on");
    }
    let stream = Paced::new(stream);
    match speech {
        Speech::Manage => manage::serve(stream, door.ca_pem, door.service).await,
        Speech::Https => {
            let number = door.connections.next();
            let shaken = handshake(stream, &door.https, Front::Https, number, &door.service).await;
            if let Some((stream, peer)) = shaken {
                https::serve(stream, peer, door.service, door.sessions).await;
            }
        }
        Speech::Mqtt => {
            let number = door.connections.next();
            let shaken = handshake(stream, &door.raw, Front::Mqtt, number, &door.service).await;
            if let Some((stream, peer)) = shaken {
                mqtt::serve(stream, peer, door.service, door.sessions).await;
            }
        }
        Speech::Amqp => {
            let number = door.connections.next();
            let shaken = handshake(stream, &door.raw, Front::Amqp, number, &door.service).await;
            if let Some((stream, peer)) = shaken {
                amqp::serve(stream, peer, door.service).await;
            }
        }
    }
}

/// A handshake that fails is journalled: most often the client does not trust the authority.
async fn handshake(
    stream: Paced,
    tls: &TlsAcceptor,
    front: Front,
    connection: u64,
    service: &Service,
) -> Option<(TlsStream<Paced>, Peer)> {
    let refusal = match timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = tls::presented(stream.get_ref().1);
            return Some((stream, Peer { front, connection, certificates }));
        }
        // Whoever only looks whether the port is open leaves like this.
        Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => {
            tracing::debug!(connection, %error, "the client left in the TLS handshake");
            return None;
        }
        Ok(Err(error)) => Refusal::invalid(format!("TLS handshake failed: {error}")),
        Err(_) => Refusal::new(REQUEST_TIMEOUT, "the TLS handshake took too long"),
    };
    let origin = Origin { front, connection, method: "TLS".to_owned(), target: String::new() };
    service.handle(Call::refused(origin, refusal));
    None
}

/// Holds an answer back, which delays nothing but its own connection.
async fn hold_back(delay: Duration) {
    // The timer has ticks of a millisecond: no delay is to take no time.
    if !delay.is_zero() {
        sleep(delay).await;
    }
}

/// Why the body of a request is not there.
enum Unread {
    TooLarge,
    BrokeOff,
    TooSlow,
}

/// The body of a request, within a size and a time.
async fn collect(body: &mut Incoming) -> Result<Bytes, Unread> {
    match timeout(READ_DEADLINE, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(bytes)) => Ok(bytes.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::BrokeOff),
        Err(_) => Err(Unread::TooSlow),
    }
}

const READ_DEADLINE: Duration = Duration::from_secs(30);
const BODY_LIMIT: usize = 1024 * 1024;
/// The most that is kept of an HTTP connection before a head is complete.
const LARGEST_HEAD: usize = 64 * 1024;
const BIND_ATTEMPTS: u32 = 16;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
