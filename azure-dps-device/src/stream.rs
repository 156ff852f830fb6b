//! From an endpoint to a connected stream: TCP without Nagle's algorithm, an HTTP proxy if one leads there, TLS, a
//! WebSocket if that is wanted.

mod address;
mod head;
mod tunnel;
#[cfg(feature = "ws")]
pub(crate) mod websocket;

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use azure_dps_core::rustls::ClientConfig;
use azure_dps_core::rustls::pki_types::ServerName;
use azure_dps_core::{Endpoint, Error, ErrorKind, Proxy, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::address::{Resolver, Tried};
#[cfg(feature = "ws")]
use self::websocket::WebSocket;
use crate::transport::contract::Auth;

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

/// The error when a connected peer does not answer within `limit`.
pub(crate) fn silent(place: &str, limit: Duration) -> Error {
    Error::new(ErrorKind::Io, format!("no answer from {place} within {limit:?}"))
}

/// An endpoint and its TLS configuration without a certificate, which is made at the first connection and then kept.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    config: Arc<Mutex<Option<Arc<ClientConfig>>>>,
    resolver: Resolver,
}

impl Dialer {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, config: Arc::default(), resolver: Resolver::System }
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
        let (limit, place) = (self.endpoint.connect_timeout(), self.place(default_port));
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
                let mut tcp =
                    address::connect(&self.resolver, (host_of_proxy, proxy.port()), &place, tried).await?;
                tunnel::open(&mut tcp, &proxy, host, port).await?;
                tcp
            }
            None => address::connect(&self.resolver, (host, port), &format!("{host}:{port}"), tried).await?,
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Instant;

    use azure_dps_core::{SharedKey, UnsignedSas};
    use azure_dps_emulator::Emulator;
    use time::OffsetDateTime;
    use tokio::io::AsyncWriteExt as _;

    use super::address::tests::Full;
    use super::head::Head;
    use super::*;

    fn auth() -> Auth {
        let (scope, id) = ("0ne00111111".parse().unwrap(), "dev-1".parse().unwrap());
        let token = UnsignedSas::for_registration(&scope, &id, OffsetDateTime::UNIX_EPOCH);
        Auth::Token(token.sign(&SharedKey::from_base64("AAAA").unwrap()))
    }

    fn dialer(emulator: &Emulator, proxy: Option<&str>, addresses: Vec<SocketAddr>) -> Dialer {
        let endpoint = Endpoint::new(emulator.host()).unwrap().with_port(emulator.mqtt_port());
        let mut endpoint = endpoint.trust_only(emulator.ca_pem()).unwrap();
        if let Some(proxy) = proxy {
            endpoint = endpoint.with_proxy(Proxy::new(proxy).unwrap());
        }
        Dialer { resolver: Resolver::Fixed(addresses), ..Dialer::new(endpoint) }
    }

    #[tokio::test]
    async fn a_host_with_a_silent_address_is_reached_at_its_other_one() {
        let (emulator, silent) = (Emulator::start().await.unwrap(), Full::start().await);
        let live = ([127, 0, 0, 1], emulator.mqtt_port()).into();
        let started = Instant::now();
        dialer(&emulator, None, vec![silent.address, live]).connect(8883, &auth()).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_proxy_with_a_silent_address_is_reached_at_its_other_one() {
        let (emulator, silent) = (Emulator::start().await.unwrap(), Full::start().await);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let live = listener.local_addr().unwrap();
        let target = emulator.mqtt_port();
        let proxy = tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            Head::read(&mut client).await.unwrap();
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            let mut server = TcpStream::connect(("127.0.0.1", target)).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        });
        let started = Instant::now();
        let dialer = dialer(&emulator, Some("proxy.example:3128"), vec![silent.address, live]);
        dialer.connect(8883, &auth()).await.unwrap();
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        proxy.abort();
    }
}
