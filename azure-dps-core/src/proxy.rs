//! The HTTP proxy for a host. Pure: it reads the environment through a function.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use url::Url;
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::error_kind::ErrorKind;

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
    /// Reads a proxy URL, `http://[user:password@]host[:port]`. The scheme is optional; the default port is
    /// 80.
    ///
    /// Percent-encode these characters in user and password: `#` as `%23`, `/` as `%2F`, `?` as `%3F`,
    /// `\\` as `%5C`, `@` as `%40`, a blank as `%20`, and in the user `:` as `%3A`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is not such a URL. No message quotes the URL, because it may
    /// contain a password.
    pub fn new(url: &str) -> Result<Self> {
        let authority = authority(url.trim())?;
        let parsed = Url::parse(&format!("http://{authority}"))
            .map_err(|why| refuse(&format!("URL cannot be read ({why}); {ENCODE}")))?;
        let host =
            parsed.host_str().filter(|host| !host.is_empty()).ok_or_else(|| refuse("URL has no host"))?;
        let port = parsed.port().unwrap_or(80);
        if port == 0 {
            return Err(refuse("URL has the port 0"));
        }
        let login = authority.rsplit_once('@').map(|_| login(&parsed)).transpose()?;
        Ok(Self { host: host.to_owned(), port, login })
    }

    /// The proxy's host; an IPv6 address in brackets, as in a URL.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The proxy's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// User name and password, if the URL has them. The password is a secret.
    pub fn login(&self) -> Option<(&str, &str)> {
        self.login.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("host", &self.host).field("port", &self.port).finish_non_exhaustive()
    }
}

/// `[user:password@]host[:port]` of a proxy URL. It is checked before the URL is parsed, because a parser
/// takes `#`, `/`, `?` or `\\` in a password for the end of the host, and then the user name for the host.
fn authority(url: &str) -> Result<&str> {
    if url.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err(refuse(&format!("URL has a character that URLs cannot have; {ENCODE}")));
    }
    let rest = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some((scheme, _)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
            return Err(refuse("URL does not begin with http://; other kinds of proxy are not supported"));
        }
        _ if url.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("http:")) => {
            return Err(refuse(&format!("URL does not begin with http://; {ENCODE}")));
        }
        _ => url,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?', '#']) {
        return Err(refuse(&format!("URL has a path, a query or a fragment; {ENCODE}")));
    }
    Ok(rest)
}

fn login(parsed: &Url) -> Result<(String, Zeroizing<String>)> {
    let decode = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains(char::is_control) => Ok(text.into_owned()),
        _ => Err(refuse("URL has a login that is not text in UTF-8 after percent-decoding")),
    };
    let password = Zeroizing::new(decode(parsed.password().unwrap_or_default())?);
    let user = decode(parsed.username())?;
    if user.is_empty() && password.is_empty() {
        return Err(refuse("URL has an '@' without user and password before it"));
    }
    if user.contains(':') {
        return Err(refuse("URL has a user name with a ':', which Basic authentication cannot send"));
    }
    Ok((user, password))
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
    if let Some((name, list)) = first(["NO_PROXY", "no_proxy"]) {
        for place in unreadable(&list) {
            tracing::warn!(
                "entry {place} of the environment variable {name} is not a host name, an address, a network in CIDR \
                 form or `*`; it exempts nothing"
            );
        }
        if is_exempt(host, &list) {
            return Ok(None);
        }
    }
    let Some((name, url)) =
        first(["HTTPS_PROXY", "https_proxy"]).or_else(|| first(["ALL_PROXY", "all_proxy"]))
    else {
        return Ok(None);
    };
    Proxy::new(&url).map(Some).map_err(|why| {
        Error::new(ErrorKind::Config, format!("the environment variable {name} is not a usable proxy URL"))
            .with_source(why)
    })
}

/// `NO_PROXY` lists host names, which also exempt their subdomains, addresses and networks in CIDR form; `*`
/// exempts every host. Commas, semicolons and blanks separate entries. A port in an entry is ignored.
fn is_exempt(host: &str, list: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    entries(list).any(|entry| exempts(&entry.to_ascii_lowercase(), &host))
}

fn entries(list: &str) -> impl Iterator<Item = &str> {
    list.split(|c: char| matches!(c, ',' | ';') || c.is_whitespace()).filter(|entry| !entry.is_empty())
}

/// The places of the entries that cannot match anything, counted from 1. Their text may be a URL with a password.
fn unreadable(list: &str) -> impl Iterator<Item = usize> {
    (1..).zip(entries(list)).filter(|(_, entry)| !is_readable(entry)).map(|(place, _)| place)
}

fn is_readable(entry: &str) -> bool {
    if entry == "*" || entry.parse::<IpNet>().is_ok() {
        return true;
    }
    let entry = without_port(entry).trim_end_matches('.');
    let name = entry.trim_start_matches("*.").trim_start_matches('.');
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
    };
    entry.parse::<IpAddr>().is_ok() || name.split('.').all(is_label)
}

fn exempts(entry: &str, host: &str) -> bool {
    let address = host.parse::<IpAddr>().ok();
    if let Ok(network) = entry.parse::<IpNet>() {
        return address.is_some_and(|address| network.contains(&address));
    }
    if entry == "*" {
        return true;
    }
    let entry = without_port(entry).trim_end_matches('.');
    if let Ok(exempt) = entry.parse::<IpAddr>() {
        return address == Some(exempt);
    }
    if address.is_some() {
        return false;
    }
    let name = entry.trim_start_matches("*.").trim_start_matches('.');
    let is_below = host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    !name.is_empty() && (host == name || is_below)
}

fn without_port(entry: &str) -> &str {
    if let Some((address, _)) = entry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match entry.split_once(':') {
        Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
        _ => entry,
    }
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

const ENCODE: &str =
    "in user and password write # as %23, / as %2F, ? as %3F, \\ as %5C, @ as %40 and a blank as %20";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_can_match_nothing_are_told_by_their_place() {
        let readable =
            "*, a.example;.b.example *.c.example 10.0.0.0/8 [::1]:80 ::1 127.0.0.1:3128 d_e-f. localhost:1,";
        assert_eq!(unreadable(readable).count(), 0);
        let odd =
            "10.0.0.0/33, ok.example, http://u:marker@h, 10.*, a..b, ok:80x, 10.0.0.0/255.0.0.0, [::1, *.";
        assert_eq!(unreadable(odd).collect::<Vec<_>>(), [1, 3, 4, 5, 6, 7, 8, 9]);
    }

    fn resolve(host: &str, environment: &[(&str, &str)]) -> Result<Option<String>> {
        let variable =
            |name: &str| environment.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        let proxy = ProxyChoice::Environment.resolve(host, variable)?;
        Ok(proxy.map(|proxy| format!("{}:{}", proxy.host, proxy.port)))
    }

    #[test]
    fn variables_apply_in_either_case_and_in_order() {
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
        assert!(exempt("dps.corp.example.", "corp.example."));
        assert!(exempt("dps.corp.example", "a.example;b.example corp.example:443"));
        assert!(!exempt("notcorp.example", "corp.example"));
        assert!(!exempt("dps.corp.example", ". : [ *."));
        assert!(!exempt("dps.corp.example", ",,"));
    }

    #[test]
    fn no_proxy_names_addresses_and_networks() {
        let exempt =
            |host, list| resolve(host, &[("HTTPS_PROXY", "p:1"), ("NO_PROXY", list)]).unwrap().is_none();
        assert!(exempt("10.1.2.3", "10.1.2.3"));
        assert!(exempt("10.1.2.3", "192.168.0.0/16, 10.0.0.0/8"));
        assert!(exempt("10.1.2.3", "10.1.2.3:443"));
        assert!(exempt("fd00::1", "[fd00::1]:443"));
        assert!(exempt("fd00::1", "fd00::/8"));
        assert!(!exempt("10.1.2.3", "11.0.0.0/8"));
        assert!(!exempt("10.1.2.3", "1.2.3"));
        assert!(!exempt("corp.example", "10.0.0.0/8"));
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
            assert!(!format!("{error:?} {error:#?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn a_login_that_would_be_read_as_the_host_is_refused_without_being_shown() {
        for (url, part) in [
            ("http://eve:1234#rest@proxy.example:3128", "%23"),
            ("http://eve:1234/rest@proxy.example:3128", "%2F"),
            ("http://eve:1234?rest@proxy.example:3128", "%3F"),
            ("http://CORP\\eve:1234@proxy.example:8080", "%5C"),
            ("eve:1234#rest@proxy.example:3128", "%23"),
            ("eve:1234://rest@proxy.example:3128", "%2F"),
            ("http:/eve:1234@proxy.example", "%2F"),
            ("http:eve:1234@proxy.example", "begin with http://"),
            ("http:\\\\eve:1234@proxy.example", "%5C"),
            ("http:///eve:1234@proxy.example", "%2F"),
            ("http://eve:1234@proxy.example//", "path"),
            ("http://eve:1234@proxy.example/?q", "query"),
            ("http://eve:12\u{a0}34@proxy.example", "%20"),
            ("http://eve:1234@[proxy", "cannot be read"),
            ("http://eve:1234 rest@proxy.example", "%20"),
            ("http://eve:1234\trest@proxy.example", "%20"),
            ("http://eve:1234\u{0}@proxy.example", "cannot have"),
            ("http://eve:1234@proxy.example/eve", "path"),
            ("http://eve:1234@", "cannot be read"),
            ("http://eve:1234@proxy.example:0", "port 0"),
            ("http://eve:1234%FF@proxy.example", "UTF-8"),
            ("http://eve%3A1234:1234@proxy.example", "user name"),
            ("http://@proxy.example", "without user"),
            ("http://:@proxy.example", "without user"),
        ] {
            let from_environment = resolve("h.example", &[("all_proxy", url)]).unwrap_err();
            for error in [Proxy::new(url).unwrap_err(), from_environment] {
                assert_eq!(error.kind(), ErrorKind::Config, "{url}");
                let shown = format!("{error} {error:?} {error:#?} {:?}", std::error::Error::source(&error));
                assert!(shown.contains(part), "{url}: {shown}");
                assert!(!shown.contains("eve") && !shown.contains("1234"), "{url}: {shown}");
            }
        }
    }

    #[test]
    fn a_password_alone_is_a_login() {
        let proxy = Proxy::new("http://:tok@p.example/").unwrap();
        assert_eq!(proxy.login(), Some(("", "tok")));
        assert_eq!(Proxy::new("HTTP://user@p.example").unwrap().login(), Some(("user", "")));
        assert_eq!(Proxy::new("http://u:p@ss@p.example").unwrap().login(), Some(("u", "p@ss")));
        assert_eq!(Proxy::new("[::1]:3128").unwrap().host(), "[::1]");
    }

    #[test]
    fn the_login_is_decoded() {
        let proxy = Proxy::new("http://us%40er:pa%3Ass@p.example").unwrap();
        assert_eq!(proxy.login(), Some(("us@er", "pa:ss")));
    }
}
