//! A relay between a client and a server that harms one unit of their conversation.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, split};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::RawPeer;
use crate::tasks::settles;
use crate::units::Units;

/// Who sends a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// What happens to a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// The connection ends before the unit.
    Cut,
    /// From the unit on nothing passes in either direction; the connection stays open.
    Stall,
    Delay,
    /// The connection ends in the middle of the unit.
    Truncate,
    /// From the middle of the unit on nothing passes.
    HalfThenStall,
}

/// One fault at one place.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    pub side: Side,
    /// The number of the unit in its direction, counted from 0.
    pub at: usize,
    pub harm: Harm,
    /// Whether it hits every connection, or only the first that gets to this place.
    pub every: bool,
}

/// What the relay sees of a conversation.
#[derive(Clone, Debug)]
pub enum Layer {
    /// The encrypted bytes.
    Records,
    /// Messages: the relay is the server of one TLS connection and the client of another.
    Messages { units: Units, server: Arc<ServerConfig>, client: Arc<ClientConfig> },
}

/// A relay to one port of this machine.
#[derive(Debug)]
pub struct Relay {
    peer: RawPeer,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: u16,
    layer: Layer,
    fault: Option<Fault>,
    /// Whether connections that begin get the fault.
    armed: AtomicBool,
    /// Kept until a conversation falls silent.
    turn: Mutex<Option<OwnedSemaphorePermit>>,
    hits: AtomicUsize,
    open: AtomicUsize,
    /// The most units that the client, and the server, sent on one connection.
    most: [AtomicUsize; 2],
}

impl Relay {
    /// A relay keeps its turn until it makes a conversation silent: from there on its client mostly waits.
    pub async fn start(target: u16, layer: Layer, fault: Option<Fault>, turn: OwnedSemaphorePermit) -> Self {
        let (armed, turn) = (AtomicBool::new(true), Mutex::new(Some(turn)));
        let (hits, open, most) = Default::default();
        let shared = Arc::new(Shared { target, layer, fault, armed, turn, hits, open, most });
        let of_peer = Arc::clone(&shared);
        let peer = RawPeer::start(move |client| {
            let shared = Arc::clone(&of_peer);
            shared.open.fetch_add(1, SeqCst);
            let open = Open(shared);
            async move { open.0.serve(client).await }
        })
        .await;
        Self { peer, shared }
    }

    pub fn port(&self) -> u16 {
        self.peer.port
    }

    /// New connections pass unharmed.
    pub fn disarm(&self) {
        self.shared.armed.store(false, SeqCst);
    }

    /// How often the fault hit.
    pub fn hits(&self) -> usize {
        self.shared.hits.load(SeqCst)
    }

    /// The most units that the client and the server sent on one connection.
    pub fn most(&self) -> [usize; 2] {
        self.shared.most.each_ref().map(|most| most.load(SeqCst))
    }

    /// Waits until all connections have ended.
    pub async fn ended(&self) {
        settles(|| self.shared.open.load(SeqCst) == 0).await;
    }
}

/// Counts a connection as open.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, SeqCst);
    }
}

impl Shared {
    async fn serve(&self, client: TcpStream) {
        let harmed = self.armed.load(SeqCst);
        let Ok(server) = TcpStream::connect(("127.0.0.1", self.target)).await else { return };
        let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
        let line = |units| Line { shared: self, units, harmed, silent: AtomicBool::new(false) };
        match &self.layer {
            Layer::Records => line(Units::TlsRecords).pass(client, server).await,
            Layer::Messages { units, server: as_server, client: as_client } => {
                let acceptor = TlsAcceptor::from(Arc::clone(as_server));
                let Ok(client) = acceptor.accept(client).await else { return };
                let connector = TlsConnector::from(Arc::clone(as_client));
                let Ok(server) = connector.connect("localhost".try_into().unwrap(), server).await else {
                    return;
                };
                line(*units).pass(client, server).await;
            }
        }
    }
}

/// One connection.
struct Line<'a> {
    shared: &'a Shared,
    units: Units,
    harmed: bool,
    silent: AtomicBool,
}

/// How a connection ended: by one of its two sides, or by the fault.
enum End {
    Closed,
    Cut,
}

impl Line<'_> {
    async fn pass(&self, client: impl AsyncRead + AsyncWrite, server: impl AsyncRead + AsyncWrite) {
        let ((from_client, mut to_client), (from_server, mut to_server)) = (split(client), split(server));
        let end = tokio::select! {
            end = self.pump(Side::Client, from_client, &mut to_server) => end,
            end = self.pump(Side::Server, from_server, &mut to_client) => end,
        };
        if matches!(end, End::Closed) {
            let both = async { tokio::join!(to_client.shutdown(), to_server.shutdown()) };
            let _ = timeout(Duration::from_secs(1), both).await;
        }
    }

    async fn pump(
        &self,
        side: Side,
        from: impl AsyncRead + Unpin,
        to: &mut (impl AsyncWrite + Unpin),
    ) -> End {
        let mut from = BufReader::new(from);
        for number in 0.. {
            let Ok(unit) = self.units.next(number, &mut from).await else { break };
            if self.silent.load(SeqCst) {
                continue;
            }
            self.shared.most[side as usize].fetch_max(number + 1, SeqCst);
            let half = &unit[..unit.len() / 2];
            match self.harm(side, number) {
                None => send(to, &unit).await,
                Some(Harm::Cut) => return End::Cut,
                Some(Harm::Stall) => self.fall_silent(),
                Some(Harm::Delay) => {
                    sleep(DELAY).await;
                    send(to, &unit).await;
                }
                Some(Harm::Truncate) => {
                    send(to, half).await;
                    return End::Cut;
                }
                Some(Harm::HalfThenStall) => {
                    self.fall_silent();
                    send(to, half).await;
                }
            }
        }
        if side == Side::Server && self.silent.load(SeqCst) {
            // On a silent network the client does not see that the server closes.
            std::future::pending::<()>().await;
        }
        End::Closed
    }

    fn fall_silent(&self) {
        self.silent.store(true, SeqCst);
        self.shared.turn.lock().unwrap().take();
    }

    /// Counts a hit, if the fault is here.
    fn harm(&self, side: Side, number: usize) -> Option<Harm> {
        let fault =
            self.shared.fault.filter(|fault| self.harmed && (fault.side, fault.at) == (side, number))?;
        let before = self.shared.hits.fetch_add(1, SeqCst);
        (fault.every || before == 0).then_some(fault.harm)
    }
}

/// A side that has gone is noticed by the read that follows.
async fn send(to: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    if to.write_all(bytes).await.is_ok() {
        let _ = to.flush().await;
    }
}

const DELAY: Duration = Duration::from_millis(30);
