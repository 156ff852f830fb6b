//! A client of an emulator's HTTPS port that sends literal bytes and reads literal answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use rustls::ClientConfig;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http_bytes::{header, try_read_answer};

/// One connection at a time, which is opened for the first request and again after one that failed.
#[derive(Debug)]
pub struct HttpClient {
    address: SocketAddr,
    host: String,
    tls: Arc<ClientConfig>,
    idle: Mutex<Option<TlsStream<TcpStream>>>,
}

impl HttpClient {
    /// A client that expects a server with this name on a port of this machine.
    pub fn new(host: &str, port: u16, tls: ClientConfig) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, port).into(), host, tls)
    }

    /// The same at an address.
    pub fn at(address: SocketAddr, host: &str, tls: ClientConfig) -> Self {
        Self { address, host: host.to_owned(), tls: Arc::new(tls), idle: Mutex::default() }
    }

    /// Sends a request with these header lines, each ended with CR LF, and those that HTTP needs.
    pub async fn ask(&self, method: &str, target: &str, head: &str, body: &str) -> Reply {
        self.try_ask(method, target, head, body).await.unwrap()
    }

    pub async fn try_ask(&self, method: &str, target: &str, head: &str, body: &str) -> io::Result<Reply> {
        let head = format!("Host: {}:{}\r\n{head}{}", self.host, self.address.port(), length(method, body));
        let idle = self.idle.lock().unwrap().take();
        let mut stream = match idle {
            Some(stream) => stream,
            None => self.connect().await?,
        };
        let reply = exchange(&mut stream, method, target, &head, body).await?;
        if reply.header("connection") != Some("close") {
            *self.idle.lock().unwrap() = Some(stream);
        }
        Ok(reply)
    }

    /// Makes the next request open another connection.
    pub fn disconnect(&self) {
        self.idle.lock().unwrap().take();
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = self.host.trim_matches(['[', ']']).to_owned().try_into().unwrap();
        TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream).await
    }
}

/// Sends one request without TLS, with exactly these header lines and two that end the connection after it.
pub async fn ask_in_clear(port: u16, method: &str, target: &str, head: &str, body: &str) -> Reply {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let head = format!("{head}Connection: close\r\n{}", length(method, body));
    exchange(&mut stream, method, target, &head, body).await.unwrap()
}

fn length(method: &str, body: &str) -> String {
    if method == "GET" && body.is_empty() {
        return String::new();
    }
    format!("Content-Length: {}\r\n", body.len())
}

/// Sends one request with exactly these header lines and reads the answer.
pub async fn exchange(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    method: &str,
    target: &str,
    head: &str,
    body: &str,
) -> io::Result<Reply> {
    let request = format!("{method} {target} HTTP/1.1\r\n{head}\r\n{body}");
    // A server may answer and close before it has read everything.
    let sent = async { stream.write_all(request.as_bytes()).await.and(stream.flush().await) }.await;
    let (head, text) = try_read_answer(stream).await.map_err(|error| sent.err().unwrap_or(error))?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Reply { status, body: serde_json::from_str(&text).unwrap_or_default(), head, text })
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub text: String,
    /// The body, or null if it is not JSON.
    pub body: Value,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    pub fn code(&self) -> u32 {
        self.body["errorCode"].as_u64().unwrap_or_default().try_into().unwrap()
    }

    pub fn message(&self) -> &str {
        self.body["message"].as_str().unwrap_or_default()
    }

    pub fn error(&self) -> (u32, &str) {
        (self.code(), self.message())
    }

    /// The code of an error of an IoT hub.
    pub fn hub_error(&self) -> &str {
        self.header("iothub-errorcode").unwrap()
    }

    pub fn operation(&self) -> &str {
        self.body["operationId"].as_str().unwrap_or_else(|| panic!("no operation: {}", self.text))
    }

    /// The token with which the next page of a listing is asked for.
    pub fn continuation(&self) -> &str {
        self.header("x-ms-continuation").unwrap()
    }

    /// This member of every item of a listing.
    pub fn ids(&self, member: &str) -> Vec<String> {
        let items = self.body.as_array().unwrap_or_else(|| panic!("no listing: {}", self.text));
        items.iter().map(|item| item[member].as_str().unwrap().to_owned()).collect()
    }
}
