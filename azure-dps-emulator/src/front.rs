//! Accepts connections, performs the TLS handshake, and hands each connection to the front of its protocol.

pub(crate) mod addresses;
pub(crate) mod amqp;
mod body;
mod chunked;
mod delay;
pub(crate) mod https;
pub(crate) mod info;
pub(crate) mod manage;
pub(crate) mod mqtt;
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

use crate::call::request::Protocol;
use crate::call::{Call, Origin};
use crate::front::paced::Paced;
use crate::front::peer::Peer;
use crate::front::port::{BoundPort, Counter, Listener};
use crate::front::refused::Refused;
use crate::front::tls::Certificates;
use crate::instance::Instance;
use crate::refusal::{REQUEST_TIMEOUT, Refusal};

/// The shared parts that every connection needs.
#[derive(Clone)]
pub(crate) struct Listening {
    https: TlsAcceptor,
    /// For ports that negotiate no protocol.
    raw: TlsAcceptor,
    manage: manage::Context,
    instance: Arc<Instance>,
    connections: Counter,
    sessions: mqtt::Sessions,
}

impl Listening {
    pub(crate) fn new(
        certificates: &Certificates,
        manage: manage::Context,
        connections: Counter,
    ) -> Result<Self, rustls::Error> {
        let acceptor = |protocols: &[&[u8]]| {
            let config = tls::server_config(certificates, protocols)?;
            Ok::<_, rustls::Error>(TlsAcceptor::from(Arc::new(config)))
        };
        Ok(Listening {
            https: acceptor(&[b"http/1.1"])?,
            raw: acceptor(&[])?,
            instance: Arc::clone(&manage.instance),
            manage,
            connections,
            sessions: mqtt::Sessions::default(),
        })
    }
}

/// Accepts connections until the returned tasks are dropped, which ends the connections too.
pub(crate) fn serve(
    ports: impl IntoIterator<Item = (BoundPort, Listener)>,
    listening: &Listening,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (port, listener) in ports {
        for socket in port.sockets {
            tasks.spawn(accept(socket, listener, listening.clone()));
        }
    }
    tasks
}

async fn accept(socket: TcpListener, listener: Listener, listening: Listening) {
    let (mut open, mut refused) = (JoinSet::new(), Refused::default());
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                open.spawn(connection(stream, listener, listening.clone()));
            }
            // For example no file descriptor is left, until other connections close.
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

async fn connection(stream: TcpStream, listener: Listener, listening: Listening) {
    // Otherwise small answers wait for the delayed acknowledgements of the peer.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "Nagle's algorithm stays on");
    }
    let stream = Paced::new(stream);
    match listener {
        Listener::Manage => manage::serve(stream, listening.manage).await,
        Listener::Https => {
            let number = listening.connections.next();
            let shaken =
                handshake(stream, &listening.https, Protocol::Https, number, &listening.instance).await;
            if let Some((stream, peer)) = shaken {
                https::serve(stream, peer, listening.instance, listening.sessions).await;
            }
        }
        Listener::Mqtt => {
            let number = listening.connections.next();
            let shaken = handshake(stream, &listening.raw, Protocol::Mqtt, number, &listening.instance).await;
            if let Some((stream, peer)) = shaken {
                mqtt::serve(stream, peer, listening.instance, listening.sessions).await;
            }
        }
        Listener::Amqp => {
            let number = listening.connections.next();
            let shaken = handshake(stream, &listening.raw, Protocol::Amqp, number, &listening.instance).await;
            if let Some((stream, peer)) = shaken {
                amqp::serve(stream, peer, listening.instance).await;
            }
        }
    }
}

/// Records a failed handshake in the journal, because the usual reason is a client that does not trust the
/// authority.
async fn handshake(
    stream: Paced,
    tls: &TlsAcceptor,
    protocol: Protocol,
    connection: u64,
    instance: &Instance,
) -> Option<(TlsStream<Paced>, Peer)> {
    let refusal = match timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = tls::presented(stream.get_ref().1);
            return Some((stream, Peer { protocol, connection, certificates }));
        }
        // A program that only checks whether the port is open closes the connection here.
        Ok(Err(error)) if error.kind() != io::ErrorKind::InvalidData => {
            tracing::debug!(connection, %error, "the client left in the TLS handshake");
            return None;
        }
        Ok(Err(error)) => Refusal::invalid(format!("TLS handshake failed: {error}")),
        Err(_) => Refusal::new(REQUEST_TIMEOUT, "the TLS handshake took too long"),
    };
    let origin = Origin { protocol, connection, method: "TLS".to_owned(), target: String::new() };
    instance.handle(Call::refused(origin, refusal));
    None
}

const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
