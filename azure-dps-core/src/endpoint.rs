//! Where a service is and how to reach it: host, port, trust, proxy and time limits. A value; it opens no
//! connection.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;

use crate::cloud;
use crate::connection_string::{ConnectionString, port_number};
use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;
use crate::identity::Identity;
use crate::proxy::{Proxy, ProxyChoice};
use crate::tls::TrustRoots;

/// Where a service is and how to reach it.
///
/// [`Endpoint::global`] is the endpoint that all devices in the public cloud share. Azure China and Azure US
/// Government have endpoints of their own: [`Endpoint::china`] and [`Endpoint::us_government`]. The host of an
/// instance (`{name}.azure-devices-provisioning.net`, or `.cn`, or `.us`) serves its devices too, and only it
/// can have private endpoints; use [`Endpoint::new`] for it.
///
/// ```
/// use std::time::Duration;
/// use azure_dps_core::Endpoint;
///
/// let endpoint = Endpoint::new("contoso.azure-devices-provisioning.net")?;
/// let endpoint = endpoint.with_connect_timeout(Duration::from_secs(5));
/// assert_eq!(endpoint.host(), "contoso.azure-devices-provisioning.net");
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Endpoint {
    host: String,
    port: Option<u16>,
    roots: TrustRoots,
    proxy: ProxyChoice,
    connect_timeout: Duration,
    exchange_timeout: Duration,
}

impl Endpoint {
    /// The global device endpoint of the public cloud, `global.azure-devices-provisioning.net`. It does not
    /// serve the instances of other clouds.
    pub fn global() -> Self {
        Self::at(cloud::PUBLIC.to_owned())
    }

    /// The global device endpoint of Azure China (21Vianet), `global.azure-devices-provisioning.cn`. The ID
    /// scopes of its instances begin with `0cn`.
    pub fn china() -> Self {
        Self::at(cloud::CHINA.to_owned())
    }

    /// The global device endpoint of Azure US Government, `global.azure-devices-provisioning.us`.
    pub fn us_government() -> Self {
        Self::at(cloud::US_GOVERNMENT.to_owned())
    }

    /// The endpoint of a host name or IP address, without scheme, port and path.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is not a host. The message does not repeat the text, which may be a
    /// connection string by mistake.
    pub fn new(host: impl Into<String>) -> Result<Self> {
        let host = host.into();
        let is_name = !host.is_empty()
            && host.len() <= 253
            && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
        if !is_name && host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(Error::new(
                ErrorKind::Config,
                "the host is not a host name: leave out \"https://\", the port and the path",
            ));
        }
        Ok(Self::at(host))
    }

    fn at(host: String) -> Self {
        Self {
            host,
            port: None,
            roots: TrustRoots::platform(),
            proxy: ProxyChoice::Environment,
            connect_timeout: Duration::from_secs(15),
            exchange_timeout: Duration::from_secs(30),
        }
    }

    /// Sets the port. Default: that of the protocol, 443 for HTTPS.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Trusts the certificates in `pem` in addition to the platform's roots, for example the CA of an
    /// emulator or of an inspecting proxy.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when `pem` has no certificate, or has a block that cannot be read; the message
    /// names it.
    pub fn trust_also(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        self.roots = self.roots.and(pem.as_ref())?;
        Ok(self)
    }

    /// Trusts only the certificates in `pem`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when `pem` has no certificate, or has a block that cannot be read; the message
    /// names it.
    pub fn trust_only(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        self.roots = TrustRoots::only(pem.as_ref())?;
        Ok(self)
    }

    /// Connects through an HTTP proxy and ignores the environment.
    #[must_use]
    pub fn with_proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = ProxyChoice::Fixed(proxy);
        self
    }

    /// Connects directly and ignores the environment.
    ///
    /// By default the variables `HTTPS_PROXY` (or `ALL_PROXY`) and `NO_PROXY` apply, in upper or lower case;
    /// hosts on the loopback interface are always reached directly. `NO_PROXY` lists host names (with their
    /// subdomains), addresses, networks in CIDR form, or `*`, separated by commas, semicolons or blanks. A
    /// port in an entry is ignored.
    #[must_use]
    pub fn without_proxy(mut self) -> Self {
        self.proxy = ProxyChoice::Direct;
        self
    }

    /// Sets how long opening one connection may take, from the name look-up to the end of the TLS handshake.
    /// Default 15 s, at most a day.
    #[must_use]
    pub fn with_connect_timeout(mut self, limit: Duration) -> Self {
        self.connect_timeout = limit.min(LONGEST);
        self
    }

    /// Sets how long one request may wait for its whole answer. Default 30 s, at most a day. Over HTTPS a
    /// request may have to connect first, so its limit is the sum of both.
    #[must_use]
    pub fn with_exchange_timeout(mut self, limit: Duration) -> Self {
        self.exchange_timeout = limit.min(LONGEST);
        self
    }

    /// The host name or IP address.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, if one was set.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// `host:port` as in a URL or a token, without the port when it is `default`.
    pub fn authority(&self, default: u16) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match self.port {
            Some(port) if port != default => format!("{host}:{port}"),
            _ => host,
        }
    }

    /// How long opening one connection may take.
    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// How long one request may wait for its whole answer.
    pub fn exchange_timeout(&self) -> Duration {
        self.exchange_timeout
    }

    /// The proxy to use, if any; `variable` reads one environment variable.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when an environment variable is not a proxy URL; the message names the variable.
    pub fn proxy(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
        self.proxy.resolve(&self.host, variable)
    }

    /// The TLS client configuration of this endpoint: TLS 1.2 and 1.3 on ring, no client certificate.
    ///
    /// The first call of the process reads the platform's trust store, unless the endpoint trusts given roots
    /// only: see [`reads_trust_store`](Self::reads_trust_store). Later calls on this value and its clones return
    /// the same configuration, so that their connections resume each other's TLS sessions.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] when the platform has no usable trust store.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>> {
        self.roots.client_config(None)
    }

    /// Whether the next [`client_config`](Self::client_config) reads the platform's trust store. That takes
    /// milliseconds and blocks its thread, so asynchronous code does it on another one.
    ///
    /// On Unix other than macOS, the trust store is the files that the variables `SSL_CERT_FILE` and
    /// `SSL_CERT_DIR` name. Without them it is the system's bundle of certificates, and the system's directory
    /// of certificates where there is no bundle. A process reads it once.
    pub fn reads_trust_store(&self) -> bool {
        self.roots.reads_trust_store()
    }

    /// Like [`client_config`](Self::client_config), and presents `identity` when the server asks for a
    /// certificate.
    ///
    /// Configurations with different identities share only the verifier, so that a session is never resumed
    /// with another identity.
    ///
    /// # Errors
    /// [`ErrorKind::Tls`] when the platform has no usable trust store.
    pub fn client_config_with(&self, identity: &Identity) -> Result<Arc<ClientConfig>> {
        self.roots.client_config(Some(identity))
    }
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::global()
    }
}

impl FromStr for Endpoint {
    type Err = Error;

    /// The endpoint of `host` or `host:port`, with an IPv6 address in brackets if a port follows it.
    ///
    /// ```
    /// use azure_dps_core::Endpoint;
    ///
    /// let endpoint: Endpoint = "localhost:8443".parse()?;
    /// assert_eq!((endpoint.host(), endpoint.port()), ("localhost", Some(8443)));
    /// # Ok::<(), azure_dps_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text has another form. The message does not repeat the text, which may be
    /// a connection string by mistake.
    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Config, format!("the endpoint {why}")));
        let (host, port) = match text.rsplit_once(':') {
            // An IPv6 address has colons itself.
            Some((host, port)) if !text.contains('/') && (!host.contains(':') || host.ends_with(']')) => {
                (host, Some(port))
            }
            _ => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let endpoint = match Self::new(bare.unwrap_or(host)) {
            Ok(endpoint) if bare.is_none() || endpoint.host.contains(':') => endpoint,
            _ => {
                return refuse(
                    "is not a host name: write host or host:port, without \"https://\" and the path",
                );
            }
        };
        match port.map(port_number) {
            None => Ok(endpoint),
            Some(Some(port)) => Ok(endpoint.with_port(port)),
            Some(None) => refuse("has a port that is not a number from 1 to 65535"),
        }
    }
}

impl TryFrom<&ConnectionString> for Endpoint {
    type Error = Error;

    fn try_from(text: &ConnectionString) -> Result<Self> {
        let endpoint = Self::new(text.host())?;
        Ok(match text.port() {
            Some(port) => endpoint.with_port(port),
            None => endpoint,
        })
    }
}

/// A longer limit is no limit in practice, and would overflow a clock.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_names_a_port_only_when_it_is_not_the_default() {
        let endpoint = Endpoint::new("localhost").unwrap();
        assert_eq!(endpoint.authority(443), "localhost");
        assert_eq!(endpoint.clone().with_port(443).authority(443), "localhost");
        assert_eq!(endpoint.with_port(8443).authority(443), "localhost:8443");
        assert_eq!(Endpoint::new("::1").unwrap().with_port(1).authority(443), "[::1]:1");
    }

    #[test]
    fn each_cloud_has_its_global_endpoint() {
        for (endpoint, host) in [
            (Endpoint::global(), "global.azure-devices-provisioning.net"),
            (Endpoint::china(), "global.azure-devices-provisioning.cn"),
            (Endpoint::us_government(), "global.azure-devices-provisioning.us"),
        ] {
            assert_eq!((endpoint.host(), endpoint.port()), (host, None));
        }
    }

    #[test]
    fn a_text_has_a_host_and_perhaps_a_port() {
        for (text, host, port) in [
            ("dps.example", "dps.example", None),
            ("dps.example:8443", "dps.example", Some(8443)),
            ("127.0.0.2:1", "127.0.0.2", Some(1)),
            ("::1", "::1", None),
            ("[::1]", "::1", None),
            ("[::1]:65535", "::1", Some(65535)),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.host(), endpoint.port()), (host, port), "{text}");
        }
    }

    #[test]
    fn a_text_of_another_form_is_refused_and_not_repeated() {
        for (text, part) in [
            ("", "is not a host name"),
            (":8443", "is not a host name"),
            ("https://marker.example", "without \"https://\""),
            ("marker.example/path", "is not a host name"),
            ("HostName=marker;SharedAccessKey=x", "is not a host name"),
            ("[marker]", "is not a host name"),
            ("[marker]:1", "is not a host name"),
            ("marker:", "from 1 to 65535"),
            ("marker:0", "from 1 to 65535"),
            ("marker:+443", "from 1 to 65535"),
            ("marker:65536", "from 1 to 65535"),
            ("marker:https", "from 1 to 65535"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let shown = error.to_string();
            assert!(shown.contains(part) && !shown.contains("marker"), "{text:?}: {shown}");
        }
    }

    #[test]
    fn a_url_instead_of_a_host_is_refused() {
        for text in ["", "https://host", "host/path", "host:443", "a b"] {
            assert_eq!(Endpoint::new(text).unwrap_err().kind(), ErrorKind::Config, "{text:?}");
        }
    }
}
