//! Relays that cut each connection after some bytes.

use tokio::io::{AsyncReadExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::Outcome;

/// Starts a relay to a port of this machine, which ends with the runtime. Returns its port.
pub(super) async fn start(target: u16) -> Outcome<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        let mut open = JoinSet::new();
        for number in 0.. {
            let Ok((client, _)) = listener.accept().await else { continue };
            open.spawn(carry(client, target, number * STEP % LONGEST));
            while open.try_join_next().is_some() {}
        }
    });
    Ok(port)
}

async fn carry(mut client: TcpStream, target: u16, bytes: u64) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let ((from_client, mut to_client), (from_server, mut to_server)) = (client.split(), server.split());
    let (mut from_client, mut from_server) = (from_client.take(bytes), from_server.take(bytes));
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

/// More bytes than a registration takes in either direction.
const LONGEST: u64 = 8000;
/// Prime, so that every place gets its turn.
const STEP: u64 = 1009;
