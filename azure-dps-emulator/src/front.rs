//! Where connections arrive: binding, accepting and the TLS handshake. What is spoken inside is up to the front.

mod amqp;
mod body;
mod chunked;
mod delay;
mod https;
mod manage;
mod mqtt;
mod paced;
pub(crate) mod peer;
pub(crate) mod port;
mod refused;
pub(crate) mod tls;
pub(crate) mod webhook;
mod websocket;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::call::request::Front;
use crate::call::{Call, Origin};
use crate::front::paced::Paced;
use crate::front::peer::Peer;
use crate::front::port::{Counter, Listeners, Speech};
use crate::front::refused::Refused;
use crate::front::tls::Certificates;
use crate::instance::Service;
use crate::refusal::{REQUEST_TIMEOUT, Refusal};

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

const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
