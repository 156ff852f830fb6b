//! Ports: their listeners and their sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{fmt, io};

use tokio::net::TcpListener;

/// Counts connections; clones share the count.
#[derive(Clone, Default)]
pub(crate) struct Counter(Arc<AtomicU64>);

impl Counter {
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// One port on one address, or on both loopback addresses.
pub(crate) struct BoundPort {
    pub(crate) port: u16,
    pub(crate) sockets: Vec<TcpListener>,
}

impl BoundPort {
    /// Returns whether one of the ports has this address.
    pub(crate) fn have(&self, address: SocketAddr) -> bool {
        let addresses = self.sockets.iter().filter_map(|socket| socket.local_addr().ok());
        addresses
            .filter(|own| own.port() == address.port())
            .any(|own| own.ip() == address.ip() || own.ip().is_unspecified() || address.ip().is_unspecified())
    }
}

/// Binds an address. With 127.0.0.1 it also binds the same port on ::1 if the machine has IPv6, because
/// clients resolve `localhost` to either.
///
/// # Errors
/// The error of the system, with the address.
pub(crate) async fn bind(host: IpAddr, port: u16) -> Result<BoundPort, (SocketAddr, io::Error)> {
    let requested = SocketAddr::from((host, port));
    let mut attempts = 0;
    loop {
        attempts += 1;
        let first = TcpListener::bind(requested).await.map_err(|error| (requested, error))?;
        let bound = first.local_addr().map_err(|error| (requested, error))?.port();
        if host != Ipv4Addr::LOCALHOST {
            return Ok(BoundPort { port: bound, sockets: vec![first] });
        }
        let beside = SocketAddr::from((Ipv6Addr::LOCALHOST, bound));
        match TcpListener::bind(beside).await {
            Ok(second) => return Ok(BoundPort { port: bound, sockets: vec![first, second] }),
            // Another process may use the port in the other address family.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if port != 0 || attempts == BIND_ATTEMPTS {
                    return Err((beside, error));
                }
            }
            Err(_) => return Ok(BoundPort { port: bound, sockets: vec![first] }),
        }
    }
}

/// A listener of the emulator, named after its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listener {
    /// The service API and the device API over HTTPS, and WebSockets.
    Https,
    /// The device API over MQTT.
    Mqtt,
    /// The device API over AMQP.
    Amqp,
    /// Management over plain HTTP.
    Manage,
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Listener::Https => "HTTPS",
            Listener::Mqtt => "MQTT",
            Listener::Amqp => "AMQP",
            Listener::Manage => "management",
        })
    }
}

const BIND_ATTEMPTS: u32 = 16;
