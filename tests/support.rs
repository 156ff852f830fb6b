//! What the integration tests share: a peer that knows no semantics, and short ways to the emulator.
//!
//! [`Peer`] reads requests, keeps their literal text and plays back literal answers. It shares no code with the SDK or
//! the emulator, so it cannot share a misunderstanding with them.
#![allow(missing_docs)] // Names and tests say it.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)] // Test code.

#[path = "support/emulated.rs"]
pub mod emulated;
#[path = "support/evidence.rs"]
pub mod evidence;
#[path = "support/log.rs"]
pub mod log;
#[path = "support/recorded.rs"]
pub mod recorded;
#[path = "support/soft_tpm.rs"]
pub mod soft_tpm;
#[path = "support/swtpm.rs"]
pub mod swtpm;

use std::collections::VecDeque;
use std::future::{IntoFuture as _, poll_fn};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use azure_dps_core::{Endpoint, RetryPolicy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Credential, DeviceClient, Https, Register, RegistrationPolicy};
use azure_dps_emulator::Emulator;
use azure_dps_service::ServiceClient;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What the peer does with one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends these bytes and keeps the connection open.
    Answer(String),
    /// Sends these bytes and closes the connection.
    AnswerAndClose(String),
    /// Closes the connection without an answer.
    Close,
    /// Never answers.
    Stall,
}

impl Act {
    /// A JSON answer with extra header lines, each ended with CR LF.
    pub fn json(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        Self::Answer(format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json; charset=utf-8\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
        ))
    }
}

type Script = Box<dyn FnMut(&str) -> Act + Send>;

/// What the peer presents itself with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    Valid,
    WrongName,
    Expired,
}

/// A TLS server on the loopback interface that plays a script, one act a request, over any number of connections.
#[derive(Debug)]
pub struct Peer {
    pub port: u16,
    pub ca_pem: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Peer {
    pub async fn start(script: impl IntoIterator<Item = Act>) -> Self {
        Self::with(Certificate::Valid, script).await
    }

    pub async fn with(certificate: Certificate, script: impl IntoIterator<Item = Act>) -> Self {
        let mut script = script.into_iter().collect::<VecDeque<_>>();
        let next = move |_: &str| script.pop_front().expect("the script has no answer to this request");
        Self::present(certificate, Box::new(next)).await
    }

    /// A peer whose acts depend on the requests.
    pub async fn answering(act: impl FnMut(&str) -> Act + Send + 'static) -> Self {
        Self::present(Certificate::Valid, Box::new(act)).await
    }

    async fn present(certificate: Certificate, script: Script) -> Self {
        let (config, ca_pem) = server_config(certificate);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let script = Arc::new(Mutex::new(script));
        let (requests, connections) = (Arc::default(), Arc::new(AtomicU32::new(0)));
        let (seen, accepted) = (Arc::clone(&requests), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, script, seen) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&seen));
                open.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &script, &seen).await;
                    }
                });
            }
        });
        Self { port, ca_pem, requests, connections, task }
    }

    /// The literal text of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    /// An endpoint that leads here and waits briefly for answers.
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new("localhost")
            .unwrap()
            .with_port(self.port)
            .trust_only(&self.ca_pem)
            .unwrap()
            .with_connect_timeout(CONNECT)
            .with_exchange_timeout(Duration::from_millis(300))
    }

    pub fn device(&self, credential: Credential) -> DeviceClient {
        device("0ne00ABCDEF", credential, Https::new(self.endpoint()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &Mutex<Script>,
    seen: &Mutex<Vec<String>>,
) {
    while let Some(request) = read_request(&mut stream).await {
        seen.lock().unwrap().push(request.clone());
        let act = (script.lock().unwrap())(&request);
        match act {
            Act::Answer(bytes) => {
                if stream.write_all(bytes.as_bytes()).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
            Act::AnswerAndClose(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Act::Close => return,
            Act::Stall => std::future::pending().await,
        }
    }
}

/// One HTTP/1.1 request: the head, and as much body as its `content-length` says.
async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = header(head, "content-length").map_or(0, |value| value.parse().unwrap());
            if body.len() >= length {
                return Some(text);
            }
        }
        let mut chunk = [0; 4096];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
        }
    }
}

/// One HTTP/1.1 answer: its head, and its body whether it comes with its length or in chunks.
pub async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let head = read_until(stream, b"\r\n\r\n").await;
    let body = read_body(stream, &head).await;
    (head, body)
}

/// The body behind this head.
pub async fn read_body(stream: &mut (impl AsyncRead + Unpin), head: &str) -> String {
    let mut body = Vec::new();
    if header(head, "transfer-encoding") == Some("chunked") {
        loop {
            let length = read_until(stream, b"\r\n").await;
            let length = usize::from_str_radix(length.trim(), 16).unwrap();
            let mut chunk = vec![0; length + 2];
            stream.read_exact(&mut chunk).await.unwrap();
            if length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    } else if let Some(length) = header(head, "content-length") {
        body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
    }
    String::from_utf8(body).unwrap()
}

async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &[u8]) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end) {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// A TLS server whose side of the conversation the test itself speaks, packet by packet.
#[derive(Debug)]
pub struct TlsListener {
    pub port: u16,
    pub ca_pem: String,
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl TlsListener {
    pub async fn start() -> Self {
        let (config, ca_pem) = server_config(Certificate::Valid);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { port, ca_pem, listener, config: Arc::new(config) }
    }

    /// An endpoint that leads here and waits briefly for answers.
    pub fn endpoint(&self) -> Endpoint {
        let endpoint = Endpoint::new("localhost").unwrap().with_port(self.port);
        endpoint
            .trust_only(&self.ca_pem)
            .unwrap()
            .with_connect_timeout(CONNECT)
            .with_exchange_timeout(Duration::from_millis(300))
    }

    pub async fn accept(&self) -> MqttTalk {
        MqttTalk(self.accept_stream().await)
    }

    pub async fn accept_stream(&self) -> tokio_rustls::server::TlsStream<TcpStream> {
        let (stream, _) = self.listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await.unwrap()
    }
}

/// Reads an MQTT packet: its first byte, and what follows the length. `None` at the end of the stream.
pub async fn mqtt_packet(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let first = stream.read_u8().await.ok()?;
    let (mut length, mut shift) = (0_usize, 0);
    loop {
        let byte = stream.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut rest = vec![0; length];
    stream.read_exact(&mut rest).await.ok()?;
    Some((first, rest))
}

/// One MQTT conversation in literal bytes.
#[derive(Debug)]
pub struct MqttTalk(tokio_rustls::server::TlsStream<TcpStream>);

impl MqttTalk {
    /// The next packet of the client: its first byte, and what stands behind the length. `None` at the end.
    pub async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        mqtt_packet(&mut self.0).await
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// A PUBLISH with QoS 1 and this packet id.
    pub async fn publish(&mut self, id: u8, topic: &str, body: &str) {
        let mut rest = vec![0, u8::try_from(topic.len()).unwrap()];
        rest.extend_from_slice(topic.as_bytes());
        rest.extend_from_slice(&[0, id]);
        rest.extend_from_slice(body.as_bytes());
        let mut packet = vec![0x32];
        let mut length = rest.len();
        while length >= 0x80 {
            packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        packet.push(u8::try_from(length).unwrap());
        packet.extend_from_slice(&rest);
        self.say(&packet).await;
    }
}

/// The value of a header in the literal text of a request.
pub fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    let head = request.split("\r\n\r\n").next()?;
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .find(|(n, _)| n.eq_ignore_ascii_case(name))
        .map(|(_, v)| v)
}

/// The body in the literal text of a request.
pub fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

fn server_config(certificate: Certificate) -> (ServerConfig, String) {
    let mut params = CertificateParams::new(vec![]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let name = if certificate == Certificate::WrongName { "elsewhere.example" } else { "localhost" };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    if certificate == Certificate::Expired {
        params.not_before = time::OffsetDateTime::UNIX_EPOCH;
        params.not_after = time::OffsetDateTime::UNIX_EPOCH + Duration::from_secs(86_400);
    }
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, &ca).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (config, ca.pem())
}

/// A TCP server below TLS: what it does with each connection is up to the caller.
#[derive(Debug)]
pub struct RawPeer {
    pub port: u16,
    task: JoinHandle<()>,
}

impl RawPeer {
    /// Accepts connections and never says a word.
    pub async fn silent() -> Self {
        Self::start(|stream| async move {
            let _held = stream;
            std::future::pending::<()>().await;
        })
        .await
    }

    pub async fn start<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                open.spawn(serve(stream));
            }
        });
        Self { port, task }
    }
}

impl Drop for RawPeer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

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

/// Long enough for a handshake on a busy machine.
const CONNECT: Duration = Duration::from_secs(2);
/// `user:pa:ss`.
const PROXY_LOGIN: &str = "Proxy-Authorization: Basic dXNlcjpwYTpzcw==\r\n";

/// Polls a registration at most this often and drops it; whether it ended, with a hub.
pub async fn finishes_within(polls: usize, registration: Register<'_>) -> bool {
    let mut registration = registration.into_future();
    let mut polled = 0;
    poll_fn(|context| {
        if polled == polls {
            return Poll::Ready(false);
        }
        polled += 1;
        registration.as_mut().poll(context).map(|result| {
            result.unwrap();
            true
        })
    })
    .await
}

/// A port on which nobody listens.
pub async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// A device client that waits no longer than the peer asks for.
pub fn device(scope: &str, credential: Credential, transport: impl Transport + 'static) -> DeviceClient {
    let retry = RetryPolicy::new().with_retries(2).with_first_pause(Duration::from_millis(1));
    let policy = RegistrationPolicy::new()
        .with_retry(retry)
        .with_poll_interval(Duration::ZERO)
        .with_min_poll_interval(Duration::ZERO);
    DeviceClient::new(scope.parse().unwrap(), credential, transport).with_policy(policy)
}

/// An endpoint that leads to an emulator.
pub fn endpoint_of(emulator: &Emulator) -> Endpoint {
    Endpoint::new(emulator.host())
        .unwrap()
        .with_port(emulator.https_port())
        .trust_only(emulator.ca_pem())
        .unwrap()
}

/// A service client for an emulator.
pub fn service_of(emulator: &Emulator) -> ServiceClient {
    let connection: azure_dps_core::ConnectionString = emulator.service_connection_string().parse().unwrap();
    ServiceClient::builder(endpoint_of(emulator), (&connection).into()).build().unwrap()
}

/// TLS settings of a client that trusts this authority and no other.
pub fn trusting(ca_pem: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::pem::PemObject::from_pem_slice(ca_pem.as_bytes()).unwrap()).unwrap();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

/// Prints an emulator's journal when a test fails.
#[derive(Debug)]
pub struct Shown(pub Emulator);

impl std::ops::Deref for Shown {
    type Target = Emulator;

    fn deref(&self) -> &Emulator {
        &self.0
    }
}

impl Drop for Shown {
    #[allow(clippy::print_stderr)] // The test runner shows it with the failure.
    fn drop(&mut self) {
        if std::thread::panicking() {
            for entry in self.0.journal() {
                eprintln!("{entry}");
            }
        }
    }
}
