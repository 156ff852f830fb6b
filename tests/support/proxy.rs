//! An HTTP proxy that opens tunnels.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::TcpStream;

use crate::listener::RawPeer;

/// `user:pa:ss`.
const PROXY_LOGIN: &str = "Proxy-Authorization: Basic dXNlcjpwYTpzcw==\r\n";

/// An HTTP proxy that opens tunnels to where it is asked to, for those who know the login.
#[derive(Debug)]
pub struct OpenProxy {
    peer: RawPeer,
    asked: Arc<Mutex<Vec<String>>>,
}

impl OpenProxy {
    pub async fn start() -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let peer = RawPeer::start(move |stream| tunnel(stream, Arc::clone(&seen))).await;
        Self { peer, asked }
    }

    pub fn port(&self) -> u16 {
        self.peer.port
    }

    /// Where it is, with the login.
    pub fn url(&self) -> String {
        format!("http://user:pa%3Ass@127.0.0.1:{}", self.port())
    }

    /// Whom it was asked for since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

async fn tunnel(mut stream: TcpStream, asked: Arc<Mutex<Vec<String>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        // A client may go before it asked for anything.
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.strip_prefix("CONNECT ").unwrap().split(' ').next().unwrap().to_owned();
    asked.lock().unwrap().push(target.clone());
    if !head.to_lowercase().contains(&PROXY_LOGIN.to_lowercase()) {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(refusal.as_bytes()).await;
        return;
    }
    let Ok(mut target) = TcpStream::connect(target).await else {
        let _ = stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n").await;
        return;
    };
    let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
    let _ = copy_bidirectional(&mut stream, &mut target).await;
}
