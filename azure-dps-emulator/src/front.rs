//! Where connections arrive: binding, accepting and the TLS handshake. What is spoken inside is up to the front.

mod https;
mod mqtt;

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::service::Service;

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

/// One port on the loopback addresses.
pub(crate) struct Listeners {
    pub(crate) port: u16,
    listeners: Vec<TcpListener>,
}

/// Binds 127.0.0.1 and, where there is IPv6, ::1 on the same port: clients resolve `localhost` to either.
pub(crate) async fn bind(port: u16) -> io::Result<Listeners> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let bound = v4.local_addr()?.port();
        match TcpListener::bind((Ipv6Addr::LOCALHOST, bound)).await {
            Ok(v6) => return Ok(Listeners { port: bound, listeners: vec![v4, v6] }),
            // A free port of one family may be taken in the other, by somebody else.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if port != 0 || attempts == BIND_ATTEMPTS {
                    return Err(error);
                }
            }
            Err(_) => return Ok(Listeners { port: bound, listeners: vec![v4] }),
        }
    }
}

/// What is spoken on a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    Https,
    Mqtt,
}

/// What every connection needs, whichever way it came in.
#[derive(Clone)]
pub(crate) struct Door {
    tls: TlsAcceptor,
    service: Arc<Service>,
    connections: Counter,
    sessions: mqtt::Sessions,
}

impl Door {
    pub(crate) fn new(tls: ServerConfig, service: Arc<Service>, connections: Counter) -> Self {
        Door {
            tls: TlsAcceptor::from(Arc::new(tls)),
            service,
            connections,
            sessions: mqtt::Sessions::default(),
        }
    }
}

/// Accepts connections until the returned tasks are dropped, which ends the connections too.
pub(crate) fn serve(ports: impl IntoIterator<Item = (Listeners, Front)>, door: &Door) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for (listeners, front) in ports {
        for listener in listeners.listeners {
            tasks.spawn(accept(listener, front, door.clone()));
        }
    }
    tasks
}

async fn accept(listener: TcpListener, front: Front, door: Door) {
    let mut open = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                open.spawn(connection(stream, door.connections.next(), front, door.clone()));
            }
            // For example no file descriptor left: others must close first.
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
}

async fn connection(stream: TcpStream, number: u64, front: Front, door: Door) {
    // Small answers meet the delayed acknowledgements of the peer otherwise.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(connection = number, %error, "Nagle's algorithm stays on");
    }
    match timeout(HANDSHAKE_DEADLINE, door.tls.accept(stream)).await {
        Ok(Ok(stream)) => match front {
            Front::Https => https::serve(stream, number, door.service).await,
            Front::Mqtt => mqtt::serve(stream, number, door.service, door.sessions).await,
        },
        Ok(Err(error)) => tracing::debug!(connection = number, %error, "TLS handshake failed"),
        Err(_) => tracing::debug!(connection = number, "TLS handshake took too long"),
    }
}

const BIND_ATTEMPTS: u32 = 16;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
