//! Servers whose connections the test itself handles: above TLS, below it, or not at all.

use std::sync::Arc;

use azure_dps_core::Endpoint;
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::sdk::endpoint_at;
use crate::tls::{Certificate, ServerStream, server_config};

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
        Self::presenting(Certificate::Valid).await
    }

    pub async fn presenting(certificate: Certificate) -> Self {
        let (config, ca_pem) = server_config(certificate);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self { port, ca_pem, listener, config: Arc::new(config) }
    }

    /// An endpoint that leads here.
    pub fn endpoint(&self) -> Endpoint {
        endpoint_at(self.port, &self.ca_pem)
    }

    pub async fn accept_stream(&self) -> ServerStream {
        let (stream, _) = self.listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await.unwrap()
    }

    /// A connection whose client ends the handshake.
    pub async fn fail_to_accept(&self) {
        let (stream, _) = self.listener.accept().await.unwrap();
        TlsAcceptor::from(Arc::clone(&self.config)).accept(stream).await.unwrap_err();
    }
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

/// A port on which no process listens. The system never chooses it, as it may choose a port that was just closed.
pub const CLOSED_PORT: u16 = 1;
