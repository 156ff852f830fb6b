//! From an endpoint to a connected stream: TCP without Nagle's algorithm, an HTTP proxy if one leads there, TLS, a
//! WebSocket if that is wanted.

mod address;
pub(crate) mod tunnel;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use azure_dps_core::rustls::ClientConfig;
use azure_dps_core::rustls::pki_types::ServerName;
use azure_dps_core::{Endpoint, Error, ErrorKind, Proxy, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::address::Tried;
use crate::transport::Auth;
#[cfg(feature = "ws")]
use crate::websocket::{self, WebSocket};

/// What a connection is to the protocols.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// The error when a connected stream fails.
pub(crate) fn lost(place: &str, why: io::Error) -> Error {
    Error::from_tls(&why, place).unwrap_or_else(|| {
        let (kind, what) = match why.kind() {
            io::ErrorKind::InvalidData => (ErrorKind::Protocol, "carried what cannot be read"),
            _ => (ErrorKind::Io, "was lost"),
        };
        Error::new(kind, format!("the connection to {place} {what}")).with_source(why)
    })
}

/// An endpoint and its TLS configuration without a certificate, which is made at the first connection and then kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    config: Arc<Mutex<Option<Arc<ClientConfig>>>>,
}

impl Dialer {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, config: Arc::default() }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `host:port`, for messages.
    pub(crate) fn place(&self, default_port: u16) -> String {
        format!("{}:{}", self.endpoint.host(), self.endpoint.port().unwrap_or(default_port))
    }

    /// Connects within the endpoint's limit.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] when there is no connection, [`ErrorKind::Tls`] when the server is not trusted.
    pub(crate) async fn connect(&self, default_port: u16, auth: &Auth) -> Result<TlsStream<TcpStream>> {
        let tried = Tried::default();
        self.within_limit(default_port, &tried, self.dial(default_port, auth, &tried)).await
    }

    /// Connects within the endpoint's limit and opens a WebSocket.
    ///
    /// # Errors
    /// As [`connect`](Self::connect); [`ErrorKind::Protocol`] when the WebSocket is for another protocol.
    #[cfg(feature = "ws")]
    pub(crate) async fn connect_websocket(
        &self,
        default_port: u16,
        auth: &Auth,
        protocol: &str,
    ) -> Result<WebSocket<TlsStream<TcpStream>>> {
        let tried = Tried::default();
        let open = async {
            let stream = self.dial(default_port, auth, &tried).await?;
            websocket::open(stream, &self.endpoint.authority(default_port), protocol).await
        };
        self.within_limit(default_port, &tried, open).await
    }

    async fn within_limit<T>(
        &self,
        default_port: u16,
        tried: &Tried,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let (limit, place) = (self.endpoint.connect_limit(), self.place(default_port));
        let Ok(result) = tokio::time::timeout(limit, work).await else {
            let way = match self.proxy()? {
                Some(proxy) => format!(" through {}", tunnel::place_of(&proxy)),
                None => String::new(),
            };
            let message = format!("no connection to {place}{way} within {limit:?}{tried}");
            return Err(Error::new(ErrorKind::Connect, message));
        };
        result
    }

    async fn dial(&self, default_port: u16, auth: &Auth, tried: &Tried) -> Result<TlsStream<TcpStream>> {
        let (host, port) = (self.endpoint.host(), self.endpoint.port().unwrap_or(default_port));
        let name = ServerName::try_from(host.to_owned()).map_err(|why| {
            Error::new(ErrorKind::Config, format!("{host:?} cannot be the name of a TLS server"))
                .with_source(why)
        })?;
        let config = match auth {
            Auth::Certificate(identity) => self.endpoint.client_config_with(identity)?,
            _ => self.config()?,
        };
        let tcp = match self.proxy()? {
            Some(proxy) => {
                let place = format!("{}, on the way to {host}:{port}", tunnel::place_of(&proxy));
                let host_of_proxy = proxy.host().trim_matches(['[', ']']);
                let mut tcp = address::connect(host_of_proxy, proxy.port(), &place, tried).await?;
                tunnel::open(&mut tcp, &proxy, host, port).await?;
                tcp
            }
            None => address::connect(host, port, &format!("{host}:{port}"), tried).await?,
        };
        TlsConnector::from(config).connect(name, tcp).await.map_err(|why| {
            Error::from_tls_handshake(&why, &format!("{host}:{port}")).unwrap_or_else(|| {
                let message = format!("the connection to {host}:{port} was lost during the TLS handshake");
                Error::new(ErrorKind::Connect, message).with_source(why)
            })
        })
    }

    fn proxy(&self) -> Result<Option<Proxy>> {
        self.endpoint.proxy(|variable| std::env::var(variable).ok())
    }

    fn config(&self) -> Result<Arc<ClientConfig>> {
        let mut kept = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = &*kept {
            return Ok(Arc::clone(config));
        }
        Ok(Arc::clone(kept.insert(self.endpoint.client_config()?)))
    }
}
