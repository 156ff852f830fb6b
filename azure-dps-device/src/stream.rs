//! From an endpoint to a connected stream: TCP without Nagle's algorithm, an HTTP proxy if one leads there, TLS, a
//! WebSocket if that is wanted.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use azure_dps_core::rustls::ClientConfig;
use azure_dps_core::rustls::pki_types::ServerName;
use azure_dps_core::{Endpoint, Error, ErrorKind, Proxy, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::transport::Auth;
#[cfg(feature = "ws")]
use crate::websocket::{self, WebSocket};

/// What a connection is to the protocols.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// The error when a connected stream fails.
pub(crate) fn lost(place: &str, why: io::Error) -> Error {
    Error::from_tls(&why).unwrap_or_else(|| {
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
        self.within_limit(default_port, self.dial(default_port, auth)).await
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
        let open = async {
            let stream = self.dial(default_port, auth).await?;
            websocket::open(stream, &self.endpoint.authority(default_port), protocol).await
        };
        self.within_limit(default_port, open).await
    }

    async fn within_limit<T>(&self, default_port: u16, work: impl Future<Output = Result<T>>) -> Result<T> {
        let (limit, place) = (self.endpoint.connect_limit(), self.place(default_port));
        let Ok(result) = tokio::time::timeout(limit, work).await else {
            let way = match self.proxy()? {
                Some(proxy) => format!(" through {}", place_of(&proxy)),
                None => String::new(),
            };
            let message = format!("no connection to {place}{way} within {limit:?}");
            return Err(Error::new(ErrorKind::Connect, message));
        };
        result
    }

    async fn dial(&self, default_port: u16, auth: &Auth) -> Result<TlsStream<TcpStream>> {
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
                let mut tcp = tcp(proxy.host().trim_matches(['[', ']']), proxy.port()).await?;
                tunnel(&mut tcp, &proxy, host, port).await?;
                tcp
            }
            None => tcp(host, port).await?,
        };
        TlsConnector::from(config).connect(name, tcp).await.map_err(|why| {
            Error::from_tls(&why).unwrap_or_else(|| {
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

async fn tcp(host: &str, port: u16) -> Result<TcpStream> {
    let refused =
        |why| Error::new(ErrorKind::Connect, format!("no connection to {host}:{port}")).with_source(why);
    let stream = TcpStream::connect((host, port)).await.map_err(refused)?;
    // Requests are single small writes that wait for an answer: collecting them costs 40 ms each.
    stream.set_nodelay(true).map_err(refused)?;
    Ok(stream)
}

/// Asks a proxy for a tunnel (RFC 9110, section 9.3.6).
async fn tunnel(tcp: &mut TcpStream, proxy: &Proxy, host: &str, port: u16) -> Result<()> {
    let place = place_of(proxy);
    let lost =
        |why| Error::new(ErrorKind::Connect, format!("{place} closed the connection")).with_source(why);
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
    if let Some((user, password)) = proxy.login() {
        request.push_str(&format!(
            "Proxy-Authorization: Basic {}\r\n",
            BASE64.encode(format!("{user}:{password}"))
        ));
    }
    request.push_str("\r\n");
    tcp.write_all(request.as_bytes()).await.map_err(lost)?;
    let Head::Whole(head) = Head::read(tcp).await.map_err(lost)? else {
        return Err(Error::new(ErrorKind::Connect, format!("{place} answered at too great a length")));
    };
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(Error::new(ErrorKind::Connect, format!("{place} refuses its login (status 407)"))),
        Some(status) => {
            Err(Error::new(ErrorKind::Connect, format!("{place} opens no tunnel (status {status})")))
        }
        None => Err(Error::new(ErrorKind::Connect, format!("{place} did not answer in HTTP"))),
    }
}

fn place_of(proxy: &Proxy) -> String {
    format!("the proxy {}:{}", proxy.host(), proxy.port())
}

/// Everything up to the empty line of an answer in HTTP.
pub(crate) enum Head {
    Whole(Vec<u8>),
    TooLong,
}

impl Head {
    /// Reads byte by byte, so that nothing is taken from what stands behind it.
    pub(crate) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() == LONGEST_HEAD {
                return Ok(Self::TooLong);
            }
            head.push(stream.read_u8().await?);
        }
        Ok(Self::Whole(head))
    }
}

/// The status of an answer in HTTP; `None` if it is none.
pub(crate) fn status(head: &[u8]) -> Option<u16> {
    let line = std::str::from_utf8(head.split(|byte| *byte == b'\r').next()?).ok()?;
    let (version, rest) = line.split_once(' ')?;
    version.starts_with("HTTP/1.").then_some(())?;
    rest.get(..3)?.parse().ok()
}

const LONGEST_HEAD: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_proxy_is_read_from_its_first_line() {
        assert_eq!(status(b"HTTP/1.1 200 Connection established\r\n\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.0 407\r\nA: b\r\n\r\n"), Some(407));
        for head in [&b"SSH-2.0\r\n\r\n"[..], b"\r\n\r\n", b"HTTP/1.1 2\r\n\r\n", b"HTTP/1.1 \xff00\r\n\r\n"]
        {
            assert_eq!(status(head), None);
        }
    }
}
