//! A proxy on loopback that hands every byte on later: a network with a round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::Outcome;
use crate::job::Ports;

/// Three ports before those of the emulator. They close with the handle.
pub(crate) struct Network {
    pub(crate) ports: Ports,
    turns: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Network {
    /// Delays each direction by half of the round trip.
    pub(crate) async fn start(target: Ports, round_trip: Duration) -> Outcome<Self> {
        let (mut tasks, turns) = (JoinSet::new(), Arc::new(AtomicU64::new(0)));
        let mut open = async |port: u16| -> Outcome<u16> {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let own = listener.local_addr()?.port();
            tasks.spawn(accept(listener, port, round_trip / 2, Arc::clone(&turns)));
            Ok(own)
        };
        let ports = Ports {
            https: open(target.https).await?,
            mqtt: open(target.mqtt).await?,
            amqp: open(target.amqp).await?,
        };
        Ok(Network { ports, turns, _tasks: tasks })
    }

    /// How often a client began to send after it had received, and the connections themselves: the round trips that
    /// were waited for.
    pub(crate) fn round_trips(&self) -> u64 {
        self.turns.swap(0, Ordering::Relaxed)
    }
}

async fn accept(listener: TcpListener, port: u16, delay: Duration, turns: Arc<AtomicU64>) {
    let mut open = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        open.spawn(carry(client, port, delay, Arc::clone(&turns)));
        while open.try_join_next().is_some() {}
    }
}

async fn carry(client: TcpStream, port: u16, delay: Duration, turns: Arc<AtomicU64>) {
    // The handshake of TCP takes a round trip too, which a proxy on the same machine does not see.
    turns.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(2 * delay).await;
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _small = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let answered = Arc::new(AtomicU64::new(1));
    let begins = {
        let (answered, turns) = (Arc::clone(&answered), turns);
        move || {
            if answered.swap(0, Ordering::Relaxed) == 1 {
                turns.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    tokio::join!(
        hand_on(from_client, to_server, delay, begins),
        hand_on(from_server, to_client, delay, move || answered.store(1, Ordering::Relaxed)),
    );
}

async fn hand_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
    seen: impl Fn(),
) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            seen();
            let bytes = buffer.get(..count).unwrap_or_default().to_vec();
            if sender.send((Instant::now() + delay, bytes)).is_err() {
                break;
            }
        }
        drop(sender);
    };
    let write = async {
        while let Some((due, bytes)) = receiver.recv().await {
            sleep_until(due).await;
            if to.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ended = to.shutdown().await;
    };
    tokio::join!(read, write);
}
