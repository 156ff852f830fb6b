//! The HTTPS client of the service client and of the HTTPS transport. It applies trust, proxy, time limits
//! and the size limit of an [`Endpoint`], and its errors say whether anything was sent. No retries here.

mod connections;
mod connector;
mod trust;

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONNECTION, HeaderName, HeaderValue};
use reqwest::{Client, Method, Response, Version};
use rustls::ClientConfig;
use time::OffsetDateTime;

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::identity::Identity;
use crate::retry::parse_retry_after;
use connections::Connections;
use trust::Trust;

/// An HTTPS client bound to one endpoint. Cloning is cheap; clones share their connections.
///
/// Applications rarely need it. It never follows a redirect and never speaks plain HTTP. It has at most 64
/// connections unless [`with_max_connections`](Self::with_max_connections) sets another limit.
#[derive(Clone)]
pub struct HttpClient {
    connections: Arc<Connections>,
    trust: Arc<Trust>,
    authority: String,
    /// The proxy, as `host:port`.
    proxy: Option<String>,
    /// Whether a login for the proxy is configured.
    has_login: bool,
    /// In bytes.
    longest_answer: usize,
}

impl HttpClient {
    /// Makes a client without connecting. It reads the proxy settings of the environment once, here. If the
    /// process has to read the platform's trust store, the first [`send`](Self::send) does so on a thread
    /// that may block.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unusable proxy or given roots that cannot be used.
    pub fn new(endpoint: &Endpoint) -> Result<Self> {
        let tls = if endpoint.reads_trust_store() { None } else { Some(endpoint.client_config()?) };
        Self::build(endpoint, tls)
    }

    /// Makes a client that presents a certificate when the server asks for one, without connecting.
    ///
    /// It reads the platform's trust store here, if the process has not read it.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and [`ErrorKind::Tls`] when the platform has no usable trust store. When a
    /// server refuses the certificate, [`send`](Self::send) fails with [`ErrorKind::Unauthorized`].
    pub fn with_identity(endpoint: &Endpoint, identity: &Identity) -> Result<Self> {
        Self::build(endpoint, Some(endpoint.client_config_with(identity)?))
    }

    fn build(endpoint: &Endpoint, tls: Option<Arc<ClientConfig>>) -> Result<Self> {
        let unusable =
            |why| Error::new(ErrorKind::Config, "the HTTP client cannot be set up").with_source(why);
        let (mut forward, mut place, mut has_login) = (None, None, false);
        if let Some(proxy) = endpoint.proxy(|name| std::env::var(name).ok())? {
            let authority = place.insert(format!("{}:{}", proxy.host(), proxy.port()));
            let mut by_way = reqwest::Proxy::all(format!("http://{authority}")).map_err(unusable)?;
            if let Some((user, password)) = proxy.login() {
                has_login = true;
                by_way = by_way.basic_auth(user, password);
            }
            forward = Some(by_way);
        }
        let authority = endpoint.authority(443);
        let connections = Arc::new(Connections::new(endpoint.clone(), forward, MAX_CONNECTIONS));
        let trust = Arc::new(Trust::new(tls, &connections));
        let longest_answer = LONGEST_ANSWER;
        Ok(Self { connections, trust, authority, proxy: place, has_login, longest_answer })
    }

    /// Sets how many bytes the body of an answer may have at most. Default: 16 MiB.
    #[must_use]
    pub fn with_longest_answer(self, bytes: usize) -> Self {
        Self { longest_answer: bytes, ..self }
    }

    /// Sets how many connections may be open at once. Default: 64; 0 counts as 1. The returned client does
    /// not share its connections with the clones that were made before.
    #[must_use]
    pub fn with_max_connections(self, connections: usize) -> Self {
        let connections = Arc::new(self.connections.with_limit(connections));
        let trust = Arc::new(self.trust.with(&connections));
        Self { connections, trust, ..self }
    }

    /// Makes a client that presents a certificate and shares only the limit of connections with this one. Its
    /// own connections are closed when its last clone is dropped, or earlier when others need the room.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] without trust roots.
    pub fn for_identity(&self, identity: &Identity) -> Result<Self> {
        let tls = self.connections.endpoint().client_config_with(identity)?;
        let trust = Arc::new(Trust::new(Some(tls), &self.connections));
        Ok(Self { trust, ..self.clone() })
    }

    /// `host[:port]`, as in a service token.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Sends one request and reads the whole answer, whatever its status.
    ///
    /// While all connections are in use, the request waits, in the order of the calls. The time limits of the
    /// endpoint begin afterwards: callers limit the wait by dropping the future.
    ///
    /// # Errors
    /// [`ErrorKind::Connect`] when nothing was sent, [`ErrorKind::Tls`] or [`ErrorKind::Unauthorized`] when
    /// the handshake failed, [`ErrorKind::Tls`] when the platform has no usable trust store,
    /// [`ErrorKind::Io`] when the connection was lost or the answer did not come in time,
    /// [`ErrorKind::Protocol`] when the answer is not HTTP or is longer than
    /// [`with_longest_answer`](Self::with_longest_answer).
    pub async fn send(&self, request: HttpRequest) -> Result<HttpAnswer> {
        let tls = self.trust.tls().await?;
        let exchange = self.connections.begin().await;
        let connection = exchange.connection(tls)?;
        let (answer, stays) = connector::exchange(self.exchange(&connection.client, request)).await?;
        exchange.give_back(connection, stays);
        Ok(answer)
    }

    /// The second result says whether the connection stays open.
    async fn exchange(&self, client: &Client, request: HttpRequest) -> Result<(HttpAnswer, bool)> {
        let url = format!("https://{}{}", self.authority, request.target);
        let mut builder = client.request(request.method.into(), url);
        for (name, value) in request.headers {
            let mut value = HeaderValue::from_str(&value).map_err(|_| {
                Error::new(ErrorKind::Config, format!("the value for the header {name} cannot be sent"))
            })?;
            value.set_sensitive(name.eq_ignore_ascii_case(AUTHORIZATION.as_str()));
            builder = builder.header(HeaderName::from_static(name), value);
        }
        if let Some(body) = request.body {
            builder = builder.header("content-type", "application/json; charset=utf-8").body(body);
        }
        let mut response = builder.send().await.map_err(|why| self.failure(why))?;
        let body = self.read(&mut response).await?;
        let stays = stays_open(&response);
        let headers = response
            .headers()
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        Ok((HttpAnswer { status: response.status().as_u16(), headers, body }, stays))
    }

    async fn read(&self, response: &mut Response) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|why| self.failure(why))? {
            let longest = self.longest_answer;
            if body.len() + chunk.len() > longest {
                let message = format!("the answer of {} is longer than {longest} bytes", self.authority);
                return Err(Error::new(ErrorKind::Protocol, message));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// Turns a failure of the HTTP library into an error, without the URL, which would only add noise.
    fn failure(&self, failure: reqwest::Error) -> Error {
        let failure = failure.without_url();
        let tls = if failure.is_connect() { Error::from_tls_handshake } else { Error::from_tls };
        if let Some(error) = tls(&failure, &self.authority) {
            return error;
        }
        let authority = &self.authority;
        let (kind, message) = if failure.is_connect() {
            match (&self.proxy, refusal(&failure, self.has_login)) {
                (Some(proxy), Some((status, what))) => {
                    let error = Error::new(ErrorKind::Proxy, format!("the proxy {proxy} {what}"));
                    let error = error.with_source(failure);
                    return match status {
                        Some(status) => error.with_proxy_status(status),
                        None => error,
                    };
                }
                _ => (ErrorKind::Connect, self.no_connection(&failure)),
            }
        } else if failure.is_timeout() {
            let endpoint = self.connections.endpoint();
            let whole = endpoint.connect_timeout() + endpoint.exchange_timeout();
            (ErrorKind::Io, format!("no complete answer from {authority} within {whole:?}"))
        } else if is_garbage(&failure) {
            (ErrorKind::Protocol, format!("the answer of {authority} is not HTTP"))
        } else if failure.is_builder() {
            (ErrorKind::Config, format!("the request to {authority} cannot be built"))
        } else {
            (ErrorKind::Io, format!("the connection to {authority} was lost before the answer was complete"))
        };
        Error::new(kind, message).with_source(failure)
    }

    fn no_connection(&self, failure: &reqwest::Error) -> String {
        let Self { authority, proxy, .. } = self;
        let way = match proxy {
            Some(proxy) => format!(" through the proxy {proxy}"),
            None => String::new(),
        };
        let connect = self.connections.endpoint().connect_timeout();
        let limit = if failure.is_timeout() { format!(" within {connect:?}") } else { String::new() };
        format!("no connection to {authority}{way}{limit}")
    }
}

impl fmt::Debug for HttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpClient").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// How a proxy refused a tunnel, if it did. The HTTP library reports this only as text, and the same text for
/// every status except 407.
fn refusal(failure: &reqwest::Error, has_login: bool) -> Option<(Option<u16>, &'static str)> {
    causes(failure).find_map(|cause| match cause.to_string().strip_prefix("tunnel error: ") {
        Some("proxy authorization required") if has_login => {
            Some((Some(407), "requires other credentials (status 407)"))
        }
        Some("proxy authorization required") => {
            Some((Some(407), "requires credentials, and none are configured (status 407)"))
        }
        Some("unsuccessful") => Some((None, "refused to connect to this host")),
        _ => None,
    })
}

/// Whether the server keeps the connection open after this answer, as far as it says.
fn stays_open(response: &Response) -> bool {
    let closes =
        |value: &HeaderValue| value.to_str().is_ok_and(|text| text.to_ascii_lowercase().contains("close"));
    response.version() == Version::HTTP_11 && !response.headers().get_all(CONNECTION).iter().any(closes)
}

fn is_garbage(failure: &reqwest::Error) -> bool {
    causes(failure).find_map(|cause| cause.downcast_ref::<hyper::Error>()).is_some_and(hyper::Error::is_parse)
}

/// The causes of a failure, the nearest first.
fn causes(failure: &reqwest::Error) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(failure.source(), |&cause| cause.source())
}

/// One request. `Debug` shows neither headers nor body.
#[derive(Clone)]
pub struct HttpRequest {
    /// The method.
    pub method: HttpMethod,
    /// Path and query, beginning with `/`, percent-encoded.
    pub target: String,
    /// Header names, in lower case, and their values.
    pub headers: Vec<(&'static str, String)>,
    /// A JSON body; `None` sends none.
    pub body: Option<Vec<u8>>,
}

impl fmt::Debug for HttpRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRequest")
            .field("method", &self.method)
            .field("target", &self.target)
            .finish_non_exhaustive()
    }
}

/// The methods of the service API and the device API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpMethod {
    /// Reads a record or the state of an operation.
    Get,
    /// Creates or replaces a record, or starts a registration.
    Put,
    /// Reads attestation mechanisms, and runs queries and bulk operations.
    Post,
    /// Deletes a record.
    Delete,
}

impl From<HttpMethod> for Method {
    fn from(method: HttpMethod) -> Self {
        match method {
            HttpMethod::Get => Self::GET,
            HttpMethod::Put => Self::PUT,
            HttpMethod::Post => Self::POST,
            HttpMethod::Delete => Self::DELETE,
        }
    }
}

/// The complete answer to one request. `Debug` shows neither headers nor body.
#[derive(Clone)]
pub struct HttpAnswer {
    /// The HTTP status.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// The body; empty if there was none.
    pub body: Vec<u8>,
}

impl HttpAnswer {
    /// An answer without headers.
    pub fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    /// The value of a header; the case of the name does not matter.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// When the peer made the answer, by its clock (`Date`), to the second.
    pub fn date(&self) -> Option<OffsetDateTime> {
        httpdate::parse_http_date(self.header("date")?).ok().map(OffsetDateTime::from)
    }

    /// How long the peer asks to wait (`Retry-After`).
    pub fn retry_after(&self) -> Option<Duration> {
        parse_retry_after(self.header("retry-after")?, OffsetDateTime::now_utc())
    }
}

impl fmt::Debug for HttpAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

const LONGEST_ANSWER: usize = 16 * 1024 * 1024;
/// More connections make a fleet slower: each costs a handshake, which takes as long as ten exchanges.
const MAX_CONNECTIONS: usize = 64;
