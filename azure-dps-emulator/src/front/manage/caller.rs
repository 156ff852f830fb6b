//! Admits requests to the management port: from programs on this machine, and from pages that the port itself
//! served.
//!
//! The port needs no credential, and a browser on this machine can reach it for any web page that the user
//! opens. Two headers that web pages cannot set protect it against such pages (cross-site requests and DNS
//! rebinding):
//!
//! | `Host` | `Origin` | answer |
//! | --- | --- | --- |
//! | `localhost`, `127.0.0.1` or `[::1]`, with the management port or without a port | absent | the route's |
//! | the same | `http://`, the same name, and the port | the route's |
//! | the same | anything else: a page of another site | 403 |
//! | another name, address or port; several; absent: DNS rebinding | any | 421 |

use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{StatusCode, Uri};

/// Admits a request to the management port, or returns why not.
pub(super) fn admit(uri: &Uri, headers: &HeaderMap, port: u16) -> Result<(), (StatusCode, String)> {
    let host = only(headers, HOST).ok_or_else(|| misdirected("its one Host header is missing"))?;
    let of_uri = uri.authority().map(Authority::as_str);
    for host in [Some(host), of_uri].into_iter().flatten() {
        if !is_own(host, port) {
            return Err(misdirected(&format!("it is for `{}`", shown(host))));
        }
    }
    if !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let origin = only(headers, ORIGIN).unwrap_or("several origins, or none that can be read");
    let is_same = origin.strip_prefix("http://").is_some_and(|from| {
        let (name, of_origin) = split(from);
        name.eq_ignore_ascii_case(split(host).0) && of_origin.unwrap_or(HTTP).parse() == Ok(port)
    });
    if is_same {
        return Ok(());
    }
    let message =
        format!("pages of other origins may not ask the management port: this one is `{}`", shown(origin));
    Err((StatusCode::FORBIDDEN, message))
}

/// The value of a header that occurs exactly once.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()
}

/// Returns whether a host is a name or an address of the management port.
fn is_own(host: &str, port: u16) -> bool {
    let (name, given) = split(host);
    NAMES.iter().any(|own| own.eq_ignore_ascii_case(name))
        && given.is_none_or(|given| given.parse() == Ok(port))
}

/// Splits a host from its port.
fn split(host: &str) -> (&str, Option<&str>) {
    let end_of_address = host.rfind(']').unwrap_or(0);
    match host.rfind(':').filter(|colon| *colon > end_of_address) {
        Some(colon) => (host.get(..colon).unwrap_or_default(), host.get(colon + 1..)),
        None => (host, None),
    }
}

fn misdirected(why: &str) -> (StatusCode, String) {
    let names = NAMES.join(", ");
    let message = format!("the management port takes requests for {names} and its own port only, and {why}");
    (StatusCode::MISDIRECTED_REQUEST, message)
}

fn shown(text: &str) -> String {
    text.chars().take(LONGEST_SHOWN).collect()
}

const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];
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
            let (status, message) = admit(&Uri::from_static("/"), &headers, 8080).unwrap_err();
            assert_eq!(status, 421);
            assert!(message.ends_with("its one Host header is missing"), "{message}");
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
        assert_eq!(admit(&Uri::from_static("/"), &twice, 8080).unwrap_err().0, 403);
    }

    fn judged(uri: &str, host: &str, origin: Option<&str>, port: u16) -> Result<(), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        admit(&uri.parse().unwrap(), &headers, port).map_err(|(status, _)| status.as_u16())
    }
}
