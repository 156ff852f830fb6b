//! Opens the connection to an endpoint: TCP without Nagle's algorithm, through an HTTP proxy if one is
//! configured, then TLS, then a WebSocket if the carrier asks for one.

use std::sync::Arc;

#[cfg(feature = "hub")]
use azure_dps_core::rustls::ClientConfig;
use azure_dps_core::rustls::pki_types::ServerName;
use azure_dps_core::{Endpoint, Error, ErrorKind, Identity, Proxy, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::address::{Resolver, Tried};
#[cfg(any(feature = "amqp", feature = "mqtt"))]
pub(crate) use self::failure::{lost, silent};
use self::tls_configs::TlsConfigs;

mod address;
#[cfg(any(feature = "amqp", feature = "mqtt"))]
mod failure;
mod head;
mod tls_configs;
mod tunnel;
#[cfg(feature = "ws")]
pub(crate) mod websocket;

/// A connected stream, as the protocols use it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

/// How a protocol reaches the service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Carrier {
    /// The name in logs and summaries.
    name: &'static str,
    /// The port, unless the endpoint names another.
    port: u16,
    /// The WebSocket subprotocol; `None` for the protocol directly over TLS.
    #[cfg(feature = "ws")]
    subprotocol: Option<&'static str>,
}

impl Carrier {
    pub(crate) const fn tls(name: &'static str, port: u16) -> Self {
        Self {
            name,
            port,
            #[cfg(feature = "ws")]
            subprotocol: None,
        }
    }

    #[cfg(feature = "ws")]
    pub(crate) const fn websocket(name: &'static str, port: u16, subprotocol: &'static str) -> Self {
        Self { name, port, subprotocol: Some(subprotocol) }
    }
}

/// MQTT, to the provisioning service and to hubs.
#[cfg(any(feature = "hub", feature = "mqtt"))]
pub(crate) const MQTT: Carrier = Carrier::tls("MQTT", 8883);
#[cfg(all(any(feature = "hub", feature = "mqtt"), feature = "ws"))]
pub(crate) const MQTT_WS: Carrier = Carrier::websocket("MQTT-WS", 443, "mqtt");

/// An endpoint, the carrier, and the TLS configurations, which clones share.
#[derive(Clone, Debug)]
pub(crate) struct Dialer {
    endpoint: Endpoint,
    carrier: Carrier,
    /// The name of the server, unless it is the endpoint's host.
    server_name: Option<String>,
    configs: Arc<TlsConfigs>,
    resolver: Resolver,
}

impl Dialer {
    pub(crate) fn new(endpoint: Endpoint, carrier: Carrier) -> Self {
        Self { endpoint, carrier, server_name: None, configs: Arc::default(), resolver: Resolver::System }
    }

    #[cfg(feature = "ws")]
    pub(crate) fn with_carrier(self, carrier: Carrier) -> Self {
        Self { carrier, ..self }
    }

    #[cfg(feature = "hub")]
    pub(crate) fn with_endpoint(self, endpoint: Endpoint) -> Self {
        Self { endpoint, configs: Arc::default(), ..self }
    }

    /// Expects a server of this name, whatever host the endpoint names.
    #[cfg(feature = "hub")]
    pub(crate) fn with_server_name(self, name: String) -> Self {
        Self { server_name: Some(name), ..self }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The carrier's name in logs and summaries.
    pub(crate) fn name(&self) -> &'static str {
        self.carrier.name
    }

    /// The host of the service.
    #[cfg(any(feature = "amqp", feature = "mqtt"))]
    pub(crate) fn host(&self) -> &str {
        self.endpoint.host()
    }

    /// The port that it connects to.
    pub(crate) fn port(&self) -> u16 {
        self.endpoint.port().unwrap_or(self.carrier.port)
    }

    /// `host:port`, for messages.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.endpoint.host(), self.port())
    }

    /// The TLS configuration of its connections. The first call of the process may read the platform's trust
    /// store, which blocks.
    #[cfg(feature = "hub")]
    pub(crate) fn client_config(&self, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
        self.configs.get_blocking(&self.endpoint, identity)
    }

    /// Connects within the endpoint's limit; `identity` is the client certificate for TLS, if there is one.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] when there is no connection, [`ErrorKind::Tls`] when the server is not trusted,
    /// [`ErrorKind::Protocol`] when the server opens a WebSocket for another subprotocol.
    pub(crate) async fn connect(&self, identity: Option<&Identity>) -> Result<Box<dyn Stream>> {
        let tried = Tried::default();
        let limit = self.endpoint.connect_timeout();
        match tokio::time::timeout(limit, self.open(identity, &tried)).await {
            Ok(result) => result,
            Err(_) => {
                let way = match self.proxy()? {
                    Some(proxy) => format!(" through {}", tunnel::place_of(&proxy)),
                    None => String::new(),
                };
                let message = format!("no connection to {}{way} within {limit:?}{tried}", self.place());
                Err(Error::new(ErrorKind::Connect, message))
            }
        }
    }

    async fn open(&self, identity: Option<&Identity>, tried: &Tried) -> Result<Box<dyn Stream>> {
        let stream = self.open_tls(identity, tried).await?;
        #[cfg(feature = "ws")]
        if let Some(subprotocol) = self.carrier.subprotocol {
            let authority = match &self.server_name {
                Some(name) => name.clone(),
                None => self.endpoint.authority(self.carrier.port),
            };
            return Ok(Box::new(websocket::open(stream, &authority, subprotocol).await?));
        }
        Ok(Box::new(stream))
    }

    async fn open_tls(&self, identity: Option<&Identity>, tried: &Tried) -> Result<TlsStream<TcpStream>> {
        let (name, place) = (self.server_name.as_deref().unwrap_or(self.endpoint.host()), self.place());
        let name = ServerName::try_from(name.to_owned()).map_err(|why| {
            Error::new(ErrorKind::Config, format!("{name:?} is not a valid TLS server name")).with_source(why)
        })?;
        let config = self.configs.get(&self.endpoint, identity).await?;
        let tcp = self.open_tcp(&place, tried).await?;
        TlsConnector::from(config).connect(name, tcp).await.map_err(|why| {
            Error::from_tls_handshake(&why, &place).unwrap_or_else(|| {
                let message = format!("the connection to {place} was lost during the TLS handshake");
                Error::new(ErrorKind::Connect, message).with_source(why)
            })
        })
    }

    async fn open_tcp(&self, place: &str, tried: &Tried) -> Result<TcpStream> {
        let (host, port) = (self.endpoint.host(), self.port());
        let Some(proxy) = self.proxy()? else {
            return address::connect(&self.resolver, host, port, place, tried).await;
        };
        let via = format!("{}, on the way to {place}", tunnel::place_of(&proxy));
        let host_of_proxy = proxy.host().trim_matches(['[', ']']);
        let mut tcp = address::connect(&self.resolver, host_of_proxy, proxy.port(), &via, tried).await?;
        tunnel::open(&mut tcp, &proxy, host, port).await?;
        Ok(tcp)
    }

    fn proxy(&self) -> Result<Option<Proxy>> {
        self.endpoint.proxy(|variable| std::env::var(variable).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use azure_dps_emulator::Emulator;
    use tokio::io::AsyncWriteExt as _;

    use super::address::tests::Full;
    use super::head::Head;
    use super::*;

    fn dialer(emulator: &Emulator, proxy: Option<&str>, addresses: Vec<SocketAddr>) -> Dialer {
        let endpoint = Endpoint::new(emulator.host()).unwrap().with_port(emulator.mqtt_port());
        let mut endpoint = endpoint.trust_only(emulator.ca_pem()).unwrap();
        if let Some(proxy) = proxy {
            endpoint = endpoint.with_proxy(Proxy::new(proxy).unwrap());
        }
        Dialer { resolver: Resolver::Fixed(addresses), ..Dialer::new(endpoint, Carrier::tls("MQTT", 8883)) }
    }

    #[tokio::test]
    async fn a_host_with_a_silent_address_is_reached_at_its_other_one() {
        let (emulator, silent) = (Emulator::start().await.unwrap(), Full::start().await);
        let live = ([127, 0, 0, 1], emulator.mqtt_port()).into();
        dialer(&emulator, None, vec![silent.address, live]).connect(None).await.unwrap();
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
        let dialer = dialer(&emulator, Some("proxy.example:3128"), vec![silent.address, live]);
        dialer.connect(None).await.unwrap();
        proxy.abort();
    }
}
