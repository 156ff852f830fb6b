//! Connects to any address of a host: the address families take turns, the next attempt starts after 250 ms
//! or as soon as one fails, and the first connection wins (RFC 8305, "Happy Eyeballs").

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use azure_dps_core::{Error, ErrorKind, Result};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The source of a host's addresses.
#[derive(Clone, Debug, Default)]
pub(crate) enum Resolver {
    /// The operating system.
    #[default]
    System,
    /// These addresses, for any host.
    #[cfg(test)]
    Fixed(Vec<SocketAddr>),
}

impl Resolver {
    async fn addresses(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((host, port)).await?.collect()),
            #[cfg(test)]
            Self::Fixed(addresses) => Ok(addresses.clone()),
        }
    }
}

/// The addresses that are being tried. `Display` completes the message when the limit passes meanwhile.
#[derive(Default)]
pub(super) struct Tried(Mutex<Vec<SocketAddr>>);

impl Tried {
    fn set(&self, addresses: &[SocketAddr]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses.to_vec();
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        match addresses.as_slice() {
            [] => Ok(()),
            addresses => write!(f, " (tried {})", addresses.join(", ")),
        }
    }
}

/// Looks up `host` and connects. `place` names it in messages.
///
/// # Errors
/// [`ErrorKind::Connect`] with every address and why it failed.
pub(super) async fn connect(
    resolver: &Resolver,
    host: &str,
    port: u16,
    place: &str,
    tried: &Tried,
) -> Result<TcpStream> {
    let unknown = |why| {
        Error::new(ErrorKind::Connect, format!("no connection to {place}: the name look-up failed"))
            .with_source(why)
    };
    let addresses = in_turns(resolver.addresses(host, port).await.map_err(unknown)?);
    tried.set(&addresses);
    let stream = first(addresses, TcpStream::connect).await.map_err(|failures| refused(place, failures))?;
    tried.set(&[]);
    // Each request is one small write that waits for an answer: Nagle's algorithm would delay it by 40 ms.
    stream.set_nodelay(true).map_err(|why| {
        Error::new(ErrorKind::Connect, format!("no connection to {place}")).with_source(why)
    })?;
    Ok(stream)
}

type Failures = Vec<(SocketAddr, io::Error)>;

fn refused(place: &str, failures: Failures) -> Error {
    let each: Vec<_> = failures.iter().map(|(address, why)| format!("{address}: {why}")).collect();
    let message = match each.as_slice() {
        [] => format!("no connection to {place}: the name has no address"),
        each => format!("no connection to {place} ({})", each.join("; ")),
    };
    let error = Error::new(ErrorKind::Connect, message);
    match failures.into_iter().next() {
        Some((_, why)) => error.with_source(why),
        None => error,
    }
}

/// Sorts the addresses so that their families alternate, starting with the family that the system prefers.
fn in_turns(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let preferred = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == preferred);
    let (mut one, mut other) = (one.into_iter(), other.into_iter());
    let mut ordered = Vec::new();
    loop {
        let pair = [one.next(), other.next()];
        if pair == [None, None] {
            return ordered;
        }
        ordered.extend(pair.into_iter().flatten());
    }
}

/// Returns the first connection; if all attempts fail, the reason of each.
async fn first<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> std::result::Result<T, Failures>
where
    T: Send + 'static,
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut waiting = addresses.into_iter();
    // Dropping the set ends the attempts that still run.
    let mut running = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = waiting.next() {
            let attempt = connect(address);
            running.spawn(async move { (address, attempt.await) });
        }
        let ended = match waiting.len() {
            0 => running.join_next().await,
            _ => match timeout(DELAY, running.join_next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            },
        };
        match ended {
            Some(Ok((_, Ok(connection)))) => return Ok(connection),
            Some(Ok((address, Err(why)))) => failures.push((address, why)),
            Some(Err(_)) => {} // The runtime is shutting down.
            None => return Err(failures),
        }
    }
}

/// Source: RFC 8305, section 5, "Connection Attempt Delay".
const DELAY: Duration = Duration::from_millis(250);

#[cfg(test)]
pub(crate) mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    /// A listener with a full backlog: Linux drops further SYN packets.
    pub(crate) struct Full {
        pub(crate) address: SocketAddr,
        _held: (tokio::net::TcpListener, Vec<TcpStream>),
    }

    impl Full {
        pub(crate) async fn start() -> Self {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(1).unwrap();
            let address = listener.local_addr().unwrap();
            let mut filling = Vec::new();
            while let Ok(Ok(one)) = timeout(DELAY, TcpStream::connect(address)).await {
                filling.push(one);
            }
            Self { address, _held: (listener, filling) }
        }
    }

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_families_take_turns() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"]);
        assert_eq!(in_turns(given), addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "[::3]:1"]));
        assert_eq!(in_turns(Vec::new()), []);
    }

    /// Port 1 is silent, port 2 refuses at once, port 3 connects.
    async fn by_port(address: SocketAddr) -> io::Result<SocketAddr> {
        match address.port() {
            1 => pending().await,
            2 => Err(io::ErrorKind::ConnectionRefused.into()),
            _ => Ok(address),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_address_delays_the_next_by_250_ms() {
        let started = Instant::now();
        let won = first(addresses(&["[::9]:1", "[::8]:1", "127.0.0.1:3"]), by_port).await.unwrap();
        assert_eq!((won.port(), started.elapsed()), (3, DELAY * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_refuses_delays_nothing() {
        let started = Instant::now();
        let won = first(addresses(&["[::9]:2", "[::8]:2", "127.0.0.1:3"]), by_port).await.unwrap();
        assert_eq!((won.port(), started.elapsed()), (3, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_late_can_still_win() {
        let connect = |address: SocketAddr| async move {
            let wait = if address.port() == 1 { DELAY * 3 } else { Duration::from_secs(60) };
            tokio::time::sleep(wait).await;
            Ok(address)
        };
        let won = first(addresses(&["127.0.0.1:1", "127.0.0.1:2"]), connect).await.unwrap();
        assert_eq!(won.port(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn every_address_that_failed_is_named_with_its_reason() {
        let failures = first(addresses(&["[::9]:2", "127.0.0.1:2"]), by_port).await.unwrap_err();
        let error = refused("h.example:2", failures);
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert_eq!(
            error.to_string(),
            "no connection to h.example:2 ([::9]:2: connection refused; 127.0.0.1:2: connection refused)"
        );
    }

    #[tokio::test]
    async fn a_listener_with_a_full_backlog_does_not_hide_the_next_address() {
        let live = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (dead, live) = (Full::start().await, live.local_addr().unwrap());
        let won = first(vec![dead.address, live], TcpStream::connect).await.unwrap();
        assert_eq!(won.peer_addr().unwrap(), live);
    }
}
