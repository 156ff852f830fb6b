//! Which HTTP proxy leads to a host. Pure: the environment is read through a function.

use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result};

/// An HTTP proxy that forwards connections with `CONNECT`, with or without Basic authentication.
///
/// ```
/// use azure_dps_core::Proxy;
///
/// let proxy = Proxy::new("http://user:secret@proxy.example:3128")?;
/// assert_eq!((proxy.host(), proxy.port()), ("proxy.example", 3128));
/// assert!(!format!("{proxy:?}").contains("secret"));
/// # Ok::<(), azure_dps_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    host: String,
    port: u16,
    login: Option<(String, Zeroizing<String>)>,
}

impl Proxy {
    /// Reads a proxy URL, `http://[user:password@]host[:port]`. The scheme may be left out; the default port is 80.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is no such URL.
    pub fn new(url: &str) -> Result<Self> {
        let text = url.trim();
        let text = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        // The URL may hold a password, so no message shows it.
        let parsed = Url::parse(&text).map_err(|why| refuse(&format!("is no URL ({why})")))?;
        if parsed.scheme() != "http" {
            return Err(refuse("does not begin with http://; other kinds of proxy are not supported"));
        }
        let host = parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| refuse("has no host"))?;
        let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let login = (!parsed.username().is_empty()).then(|| {
            (decode(parsed.username()), Zeroizing::new(decode(parsed.password().unwrap_or_default())))
        });
        Ok(Self { host: host.to_owned(), port: parsed.port().unwrap_or(80), login })
    }

    /// The proxy's host; an IPv6 address in brackets, as it stands in a URL.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The proxy's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// User name and password, if the proxy wants them. The second is a secret.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

#[derive(Clone, Debug)]
pub(crate) enum ProxyChoice {
    Environment,
    Direct,
    Fixed(Proxy),
}

impl ProxyChoice {
    pub(crate) fn resolve(
        &self,
        host: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Proxy>> {
        match self {
            Self::Direct => Ok(None),
            Self::Fixed(proxy) => Ok(Some(proxy.clone())),
            Self::Environment if is_loopback(host) => Ok(None),
            Self::Environment => from_environment(host, variable),
        }
    }
}

fn from_environment(host: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
    let first = |names: [&'static str; 2]| {
        names
            .into_iter()
            .find_map(|name| Some((name, variable(name).filter(|value| !value.trim().is_empty())?)))
    };
    if first(["NO_PROXY", "no_proxy"]).is_some_and(|(_, list)| is_exempt(host, &list)) {
        return Ok(None);
    }
    let Some((name, url)) =
        first(["HTTPS_PROXY", "https_proxy"]).or_else(|| first(["ALL_PROXY", "all_proxy"]))
    else {
        return Ok(None);
    };
    Proxy::new(&url).map(Some).map_err(|why| {
        Error::new(ErrorKind::Config, format!("the environment variable {name} names no usable proxy"))
            .with_source(why)
    })
}

/// `NO_PROXY` is a list of host names and addresses, each standing for itself and its subdomains; `*` is all.
fn is_exempt(host: &str, list: &str) -> bool {
    let host = host.to_ascii_lowercase();
    list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let entry = entry.trim_start_matches("*.").trim_start_matches('.');
        entry == "*" || host == entry || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'))
    })
}

fn is_loopback(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

fn refuse(why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the proxy {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(host: &str, environment: &[(&str, &str)]) -> Result<Option<String>> {
        let variable =
            |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let proxy = ProxyChoice::Environment.resolve(host, variable)?;
        Ok(proxy.map(|proxy| format!("{}:{}", proxy.host, proxy.port)))
    }

    #[test]
    fn the_environment_counts_in_either_case_and_in_order() {
        let host = "global.azure-devices-provisioning.net";
        assert_eq!(resolve(host, &[]).unwrap(), None);
        assert_eq!(resolve(host, &[("https_proxy", "p:1")]).unwrap().as_deref(), Some("p:1"));
        assert_eq!(resolve(host, &[("ALL_PROXY", "http://p")]).unwrap().as_deref(), Some("p:80"));
        let both = [("HTTPS_PROXY", "http://a:1"), ("ALL_PROXY", "http://b:2")];
        assert_eq!(resolve(host, &both).unwrap().as_deref(), Some("a:1"));
        assert_eq!(resolve(host, &[("HTTPS_PROXY", " ")]).unwrap(), None);
    }

    #[test]
    fn no_proxy_names_hosts_and_their_subdomains() {
        let exempt =
            |host, list| resolve(host, &[("HTTPS_PROXY", "p:1"), ("NO_PROXY", list)]).unwrap().is_none();
        assert!(exempt("dps.corp.example", "corp.example"));
        assert!(exempt("dps.corp.example", "other, .CORP.example"));
        assert!(exempt("dps.corp.example", "*.corp.example"));
        assert!(exempt("anything", "*"));
        assert!(!exempt("notcorp.example", "corp.example"));
        assert!(!exempt("dps.corp.example", ",,"));
    }

    #[test]
    fn loopback_never_goes_through_a_proxy_of_the_environment() {
        for host in
            ["localhost", "LocalHost", "dps.localhost", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"]
        {
            assert_eq!(resolve(host, &[("HTTPS_PROXY", "http://p:1")]).unwrap(), None, "{host}");
        }
    }

    #[test]
    fn a_malformed_proxy_names_its_variable_and_shows_no_password() {
        for url in ["http://u:hunter2@", "socks5://u:hunter2@p:1", "http://u:hunter2@p:notaport"] {
            let error = resolve("h.example", &[("HTTPS_PROXY", url)]).unwrap_err();
            assert!(error.to_string().contains("HTTPS_PROXY"), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn the_login_is_decoded() {
        let proxy = Proxy::new("http://us%40er:pa%3Ass@p.example").unwrap();
        assert_eq!(proxy.login(), Some(("us@er", "pa:ss")));
    }
}
