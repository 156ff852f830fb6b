//! A TLS server that plays literal HTTP answers and keeps the literal text of every request.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use azure_dps_core::Endpoint;
use azure_dps_device::{Credential, DeviceClient, Https};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::http_bytes::read_request;
use crate::sdk::{device, endpoint_at};
use crate::tls::{Certificate, server_config};

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

/// Counts the connections that are open, and the most that were open at once.
#[derive(Debug, Default)]
struct Open {
    count: AtomicU32,
    most: AtomicU32,
}

struct Counted(Arc<Open>);

impl Counted {
    fn new(open: &Arc<Open>) -> Self {
        let count = open.count.fetch_add(1, Ordering::SeqCst) + 1;
        open.most.fetch_max(count, Ordering::SeqCst);
        Self(Arc::clone(open))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

type Script = Box<dyn FnMut(&str) -> Act + Send>;

/// A TLS server on the loopback interface that plays a script, one act a request, over any number of
/// connections.
#[derive(Debug)]
pub struct Peer {
    pub port: u16,
    pub ca_pem: String,
    requests: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicU32>,
    open: Arc<Open>,
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
        let open = Arc::<Open>::default();
        let counts = Arc::clone(&open);
        let task = tokio::spawn(async move {
            let mut running = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let counted = Counted::new(&counts);
                accepted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, script, seen) = (acceptor.clone(), Arc::clone(&script), Arc::clone(&seen));
                running.spawn(async move {
                    let _counted = counted;
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, &script, &seen).await;
                    }
                });
            }
        });
        Self { port, ca_pem, requests, connections, open, task }
    }

    /// The literal text of every request so far.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    /// The highest number of connections that were open at once.
    pub fn most_open(&self) -> u32 {
        self.open.most.load(Ordering::SeqCst)
    }

    /// An endpoint that leads here.
    pub fn endpoint(&self) -> Endpoint {
        endpoint_at(self.port, &self.ca_pem)
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
