//! Admits requests to the management port: from programs, and from pages that the port itself served.
//!
//! A browser can reach the port for any web page that the user opens. Headers that web pages cannot set protect
//! it against such pages (cross-site requests and DNS rebinding):
//!
//! | `Host` | `Origin` | answer |
//! | --- | --- | --- |
//! | an own name, with the management port or without a port | absent | the route's |
//! | the same | `http://`, the same name, and the port | the route's |
//! | the same | anything else: a page of another site | 403 |
//! | another name, address or port; several; absent: DNS rebinding | any | 421 |
//!
//! A browser sends no `Origin` when a page embeds an address, as an image for example. It says so in
//! `Sec-Fetch-Site`:
//!
//! | `Sec-Fetch-Site` | answer |
//! | --- | --- |
//! | absent, `none` (the user's own navigation) or `same-origin` | the route's |
//! | anything else, and a user follows a link: `Sec-Fetch-Dest` is `document` | the route's |
//! | anything else | 403 |
//!
//! The own names are `localhost`, `127.0.0.1`, `[::1]`, the address of the port, and the DNS names of the
//! emulator. If the port has a token, the same headers decide, and then:
//!
//! - Every IP address is an own name, and the port of `Host` can be any, because a container has other
//!   addresses and ports outside. No DNS server can make one of these names lead elsewhere.
//! - Every route but `/health` needs the token; without it the answer is 401.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{StatusCode, Uri};

use super::token::Token;

/// Which clients the management port admits.
#[derive(Debug)]
pub(crate) struct Callers {
    names: Vec<String>,
    token: Option<Token>,
}

impl Callers {
    /// The clients of a port on an address, of an emulator with these DNS names.
    pub(crate) fn new(address: IpAddr, dns_names: &[String], token: Option<Token>) -> Self {
        let mut names = LOOPBACK.map(String::from).to_vec();
        let address = Some(address).filter(|address| !address.is_unspecified());
        for name in address.map(literal).into_iter().chain(dns_names.iter().cloned()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Callers { names, token }
    }

    /// Returns whether the port has a token.
    pub(super) fn need_token(&self) -> bool {
        self.token.is_some()
    }

    /// Admits a request to the management port, or returns why not.
    pub(super) fn admit(
        &self,
        uri: &Uri,
        headers: &HeaderMap,
        port: u16,
    ) -> Result<(), (StatusCode, String)> {
        let host = only(headers, HOST).ok_or_else(|| self.misdirected("its one Host header is missing"))?;
        let of_uri = uri.authority().map(Authority::as_str);
        for host in [Some(host), of_uri].into_iter().flatten() {
            if !self.is_own(host, port) {
                return Err(self.misdirected(&format!("it is for `{}`", shown(host))));
            }
        }
        if headers.contains_key(ORIGIN) {
            let origin = only(headers, ORIGIN).unwrap_or("several origins, or none that can be read");
            if !self.is_same(origin, host, port) {
                let shown = shown(origin);
                let message =
                    format!("pages of other origins may not ask the management port: this one is `{shown}`");
                return Err((StatusCode::FORBIDDEN, message));
            }
        } else if embeds(headers) {
            let message = "pages of other origins may not embed what the management port answers".to_owned();
            return Err((StatusCode::FORBIDDEN, message));
        }
        match &self.token {
            Some(token) if uri.path() != "/health" && !token.is_in(headers) => {
                Err((StatusCode::UNAUTHORIZED, UNAUTHORIZED.to_owned()))
            }
            _ => Ok(()),
        }
    }

    /// Returns whether a host is a name or an address of the management port.
    fn is_own(&self, host: &str, port: u16) -> bool {
        let (name, given) = split(host);
        let is_name = self.names.iter().any(|own| own.eq_ignore_ascii_case(name));
        let given = given.map(str::parse::<u16>);
        match self.token {
            Some(_) => (is_name || is_address(name)) && given.is_none_or(|given| given.is_ok()),
            None => is_name && given.is_none_or(|given| given == Ok(port)),
        }
    }

    /// Returns whether a page has the origin of the host that it sends a request to.
    fn is_same(&self, origin: &str, host: &str, port: u16) -> bool {
        let (host, of_host) = split(host);
        let port = match self.token {
            Some(_) => of_host.unwrap_or(HTTP).parse().unwrap_or(port),
            None => port,
        };
        origin.strip_prefix("http://").is_some_and(|from| {
            let (name, of_origin) = split(from);
            name.eq_ignore_ascii_case(host) && of_origin.unwrap_or(HTTP).parse() == Ok(port)
        })
    }

    fn misdirected(&self, why: &str) -> (StatusCode, String) {
        let names = self.names.join(", ");
        let rest = if self.token.is_some() { "IP addresses" } else { "its own port" };
        let message = format!(
            "the management port takes requests for {names} and {rest} only, and {why}; \
             --dns-name adds a name"
        );
        (StatusCode::MISDIRECTED_REQUEST, message)
    }
}

/// An address as it is written in a URL.
pub(crate) fn literal(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// Returns whether the name of a URL is an IP address.
fn is_address(name: &str) -> bool {
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
        None => name.parse::<Ipv4Addr>().is_ok(),
    }
}

/// Returns whether a page of another site embeds the answer to a request, which has no `Origin` then.
fn embeds(headers: &HeaderMap) -> bool {
    let is = |name: HeaderName, words: &[&str]| {
        headers.get(name).is_none_or(|value| words.iter().any(|word| value == word))
    };
    !is(FETCH_SITE, &["none", "same-origin"]) && !is(FETCH_DEST, &["document"])
}

/// The value of a header that occurs exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

/// Splits a host from its port.
fn split(host: &str) -> (&str, Option<&str>) {
    let end_of_address = host.rfind(']').unwrap_or(0);
    match host.rfind(':').filter(|colon| *colon > end_of_address) {
        Some(colon) => (host.get(..colon).unwrap_or_default(), host.get(colon + 1..)),
        None => (host, None),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(LONGEST_SHOWN).collect()
}

const UNAUTHORIZED: &str = "the management port needs its token, as `Authorization: Bearer TOKEN` or as the \
                            password of basic authentication; --manage-token has set it";
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
/// The port of a URL without a port.
const HTTP: &str = "80";
/// As long as a host name can be.
const LONGEST_SHOWN: usize = 253;

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn programs_and_pages_of_the_port_itself_are_admitted() {
        for (host, origin) in [
            ("localhost:8080", None),
            ("LOCALHOST", None),
            ("127.0.0.1:8080", None),
            ("[::1]:8080", None),
            ("[::1]", None),
            ("localhost:8080", Some("http://localhost:8080")),
            ("127.0.0.1:8080", Some("http://127.0.0.1:8080")),
            ("[::1]:8080", Some("http://[::1]:8080")),
        ] {
            assert_eq!(judged("/", host, origin, 8080), Ok(()), "{host} {origin:?}");
        }
        assert_eq!(judged("/", "localhost", Some("http://localhost"), 80), Ok(()), "80 is left out");
        assert_eq!(judged("http://localhost:8080/reset", "localhost:8080", None, 8080), Ok(()));
    }

    #[test]
    fn a_request_for_another_host_is_misdirected_whatever_its_origin() {
        let hosts = [
            "evil.example",
            "evil.example:8080",
            "localhost:8081",
            "localhost:",
            "localhost:x",
            "localhost:8080:8080",
            "localhost.",
            "localhost.evil.example:8080",
            "evil@localhost:8080",
            "127.0.0.1.evil.example",
            "127.1",
            "2130706433",
            "0.0.0.0:8080",
            "192.168.0.1:8080",
            "::1",
            "[::1",
            "[::ffff:127.0.0.1]:8080",
            "",
            " ",
        ];
        for host in hosts {
            for origin in [None, Some("http://localhost:8080"), Some("null")] {
                assert_eq!(judged("/", host, origin, 8080), Err(421), "{host} {origin:?}");
            }
        }
        assert_eq!(judged("http://evil.example/reset", "localhost:8080", None, 8080), Err(421));
        assert_eq!(judged("/", "evil.example", Some("http://evil.example"), 8080), Err(421), "rebound");
        let (none, mut two) = (HeaderMap::new(), HeaderMap::new());
        two.append(HOST, HeaderValue::from_static("localhost:8080"));
        two.append(HOST, HeaderValue::from_static("localhost:8080"));
        for headers in [none, two] {
            let (status, message) = callers().admit(&Uri::from_static("/"), &headers, 8080).unwrap_err();
            assert_eq!(status, 421);
            assert!(message.contains("and its one Host header is missing; "), "{message}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        for origin in [
            "https://evil.example",
            "null",
            "",
            "http://localhost:8081",
            "http://localhost",
            "https://localhost:8080",
            "http://127.0.0.1:8080",
            "http://localhost:8080.evil.example",
            "http://localhost:8080/",
            "localhost:8080",
            "http://evil.example, http://localhost:8080",
            "file://",
            "chrome-extension://abc",
        ] {
            assert_eq!(judged("/", "localhost:8080", Some(origin), 8080), Err(403), "{origin}");
        }
        let mut twice = HeaderMap::new();
        twice.append(HOST, HeaderValue::from_static("localhost:8080"));
        twice.append(ORIGIN, HeaderValue::from_static("http://localhost:8080"));
        twice.append(ORIGIN, HeaderValue::from_static("http://localhost:8080"));
        assert_eq!(callers().admit(&Uri::from_static("/"), &twice, 8080).unwrap_err().0, 403);
    }

    #[test]
    fn the_address_of_the_port_and_the_dns_names_are_own_names() {
        let names = ["dps.example".to_owned(), "localhost".to_owned()];
        for (address, host, admitted) in [
            ("127.0.0.2", "127.0.0.2:8080", true),
            ("127.0.0.2", "127.0.0.3:8080", false),
            ("::1", "[::1]:8080", true),
            ("127.0.0.1", "dps.example:8080", true),
            ("127.0.0.1", "DPS.example", true),
            ("127.0.0.1", "dps.example:8081", false),
            ("127.0.0.1", "a.dps.example:8080", false),
        ] {
            let callers = Callers::new(address.parse().unwrap(), &names, None);
            let wanted = if admitted { Ok(()) } else { Err(421) };
            assert_eq!(judged_by(&callers, "/", &[(HOST, host)], 8080), wanted, "{address} {host}");
        }
        let unnamed = Callers::new(Ipv4Addr::LOCALHOST.into(), &names, None);
        let origin = [(HOST, "dps.example:8080"), (ORIGIN, "http://dps.example:8080")];
        assert_eq!(judged_by(&unnamed, "/", &origin, 8080), Ok(()));
    }

    #[test]
    fn a_port_with_a_token_is_reached_at_any_address_and_port_and_still_not_at_another_name() {
        for (host, admitted) in [
            ("127.0.0.1:9000", true),
            ("localhost:9000", true),
            ("192.168.0.7:9000", true),
            ("192.168.0.7", true),
            ("[2001:db8::7]:9000", true),
            ("[2001:db8::7]", true),
            ("dps.example:9000", true),
            ("evil.example:8080", false),
            ("192.168.0.7.evil.example", false),
            ("192.168.7", false),
            ("[evil.example]", false),
            ("2001:db8::7", false),
            ("localhost:", false),
            ("localhost:x", false),
            ("localhost:99999", false),
            ("", false),
        ] {
            let wanted = if admitted { Ok(()) } else { Err(421) };
            assert_eq!(judged_by(&guarded(), "/", &[(HOST, host), TOKEN], 8080), wanted, "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused_with_the_token_too() {
        for (host, origin, admitted) in [
            ("localhost:9000", "http://localhost:9000", true),
            ("192.168.0.7", "http://192.168.0.7", true),
            ("dps.example:9000", "http://DPS.example:9000", true),
            ("localhost:9000", "http://localhost:8080", false),
            ("localhost:9000", "http://localhost", false),
            ("192.168.0.7:8080", "http://192.168.0.8:8080", false),
            ("localhost:8080", "http://evil.example", false),
            ("localhost:8080", "null", false),
        ] {
            let wanted = if admitted { Ok(()) } else { Err(403) };
            let headers = [(HOST, host), (ORIGIN, origin), TOKEN];
            assert_eq!(judged_by(&guarded(), "/", &headers, 8080), wanted, "{host} {origin}");
        }
    }

    #[test]
    fn every_route_but_health_needs_the_token() {
        let host = || (HOST, "localhost:8080");
        for path in ["/", "/journal", "/health/", "/healthy", "/Health", "//health", "/%68ealth", "/x/health"]
        {
            assert_eq!(judged_by(&guarded(), path, &[host()], 8080), Err(401), "{path}");
            assert_eq!(judged_by(&guarded(), path, &[host(), TOKEN], 8080), Ok(()), "{path}");
        }
        assert_eq!(judged_by(&guarded(), "/health", &[host()], 8080), Ok(()));
        assert_eq!(judged_by(&guarded(), "/health", &[(HOST, "evil.example")], 8080), Err(421));
        assert!(!format!("{:?}", guarded()).contains("0123456789"));
    }

    const TOKEN: (HeaderName, &str) = (hyper::header::AUTHORIZATION, "Bearer 0123456789abcdef");

    fn guarded() -> Callers {
        let token = Token::new("0123456789abcdef").unwrap();
        Callers::new(Ipv4Addr::UNSPECIFIED.into(), &["dps.example".to_owned()], Some(token))
    }

    fn callers() -> Callers {
        Callers::new(Ipv4Addr::LOCALHOST.into(), &[], None)
    }

    #[test]
    fn a_browser_may_follow_a_link_and_no_other_site_may_embed_an_answer() {
        for (site, dest, wanted) in [
            ("same-origin", "empty", Ok(())),
            ("none", "document", Ok(())),
            ("cross-site", "document", Ok(())),
            ("same-site", "document", Ok(())),
            ("cross-site", "image", Err(403)),
            ("same-site", "script", Err(403)),
            ("cross-site", "iframe", Err(403)),
            ("cross-site", "empty", Err(403)),
            ("unknown", "", Err(403)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, HeaderValue::from_static("localhost:8080"));
            headers.insert(FETCH_SITE, HeaderValue::from_static(site));
            headers.insert(FETCH_DEST, HeaderValue::from_static(dest));

            let judged = callers().admit(&Uri::from_static("/journal"), &headers, 8080);

            assert_eq!(judged.map_err(|(status, _)| status.as_u16()), wanted, "{site} {dest}");
        }
    }

    fn judged(uri: &str, host: &str, origin: Option<&str>, port: u16) -> Result<(), u16> {
        let origin = origin.map(|origin| (ORIGIN, origin));
        let headers: Vec<_> = [(HOST, host)].into_iter().chain(origin).collect();
        judged_by(&callers(), uri, &headers, port)
    }

    fn judged_by(callers: &Callers, uri: &str, given: &[(HeaderName, &str)], port: u16) -> Result<(), u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name, value.parse().unwrap());
        }
        callers.admit(&uri.parse().unwrap(), &headers, port).map_err(|(status, _)| status.as_u16())
    }
}
