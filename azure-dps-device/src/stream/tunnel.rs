//! Asks an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).
//!
//! | answer | error |
//! |---|---|
//! | 2xx | none |
//! | 5xx | `Connect`, which the driver retries |
//! | 407 | `Proxy`: the credentials are missing, refused, or for another scheme |
//! | any other status | `Proxy`: the proxy does not allow the host or port |
//! | not HTTP, too long, or no answer | `Connect` |

use azure_dps_core::{Error, ErrorKind, Proxy, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};

use super::head::{Head, status};

/// Asks for a tunnel to `host` and `port`.
///
/// # Errors
/// As the table of the module.
pub(super) async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &Proxy,
    host: &str,
    port: u16,
) -> Result<()> {
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
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let head = match Head::read(stream).await.map_err(lost)? {
        Head::Whole(head) => head,
        Head::TooLong => {
            let message = format!("{place} sent a response header that exceeds 16 KiB");
            return Err(Error::new(ErrorKind::Connect, message));
        }
    };
    judge(&head, proxy.login().is_some()).map_err(|(kind, what)| {
        let error = Error::new(kind, format!("{place} {what}"));
        match status(&head) {
            Some(status) => error.with_proxy_status(status),
            None => error,
        }
    })
}

pub(super) fn place_of(proxy: &Proxy) -> String {
    format!("the proxy {}:{}", proxy.host(), proxy.port())
}

fn judge(head: &[u8], has_login: bool) -> std::result::Result<(), (ErrorKind, String)> {
    match status(head) {
        Some(200..=299) => Ok(()),
        Some(407) => {
            let what = match has_login {
                true => "requires other credentials",
                false => "requires credentials, and none are configured",
            };
            let offered = schemes(head);
            let offer = match offered.as_slice() {
                [] => String::new(),
                schemes => format!("; it accepts {}, this client sends Basic", schemes.join(", ")),
            };
            Err((ErrorKind::Proxy, format!("{what} (status 407){offer}")))
        }
        Some(status @ 500..=599) => {
            Err((ErrorKind::Connect, format!("could not connect to this host (status {status})")))
        }
        Some(status) => Err((ErrorKind::Proxy, format!("refused to connect to this host (status {status})"))),
        None => Err((ErrorKind::Connect, "did not answer in HTTP".to_owned())),
    }
}

/// The authentication schemes that a proxy names, at most five.
fn schemes(head: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(head);
    let headers = text.lines().filter_map(|line| line.split_once(':'));
    let challenges = headers.filter(|(name, _)| name.trim().eq_ignore_ascii_case("proxy-authenticate"));
    let mut found: Vec<String> = Vec::new();
    // The text after a comma is another scheme, or a parameter, which contains a '='.
    for word in challenges.flat_map(|(_, value)| value.split(',')).filter_map(first_word) {
        if found.len() < 5 && !found.iter().any(|known| known == word) {
            found.push(word.to_owned());
        }
    }
    found
}

fn first_word(part: &str) -> Option<&str> {
    let word = part.split_whitespace().next()?;
    (word.len() <= 20 && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_a_proxy_has_its_kind_and_words() {
        let answer = |status: &str| judge(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes(), true);
        assert_eq!(answer("200 OK"), Ok(()));
        for (status, kind, what) in [
            ("407 x", ErrorKind::Proxy, "requires other credentials (status 407)"),
            ("403 x", ErrorKind::Proxy, "refused to connect to this host (status 403)"),
            ("401 x", ErrorKind::Proxy, "refused to connect to this host (status 401)"),
            ("302 x", ErrorKind::Proxy, "refused to connect to this host (status 302)"),
            ("408 x", ErrorKind::Proxy, "refused to connect to this host (status 408)"),
            ("429 x", ErrorKind::Proxy, "refused to connect to this host (status 429)"),
            ("503 x", ErrorKind::Connect, "could not connect to this host (status 503)"),
            ("oops", ErrorKind::Connect, "did not answer in HTTP"),
        ] {
            assert_eq!(answer(status), Err((kind, what.to_owned())));
        }
    }

    #[test]
    fn a_missing_login_and_the_schemes_that_the_proxy_accepts_are_named() {
        let head = b"HTTP/1.1 407 x\r\nProxy-Authenticate: Negotiate, NTLM\r\n\
            proxy-authenticate: Digest realm=\"a, b\", qop=\"auth,auth-int\"\r\n\r\n";
        let (_, what) = judge(head, false).unwrap_err();
        assert_eq!(
            what,
            "requires credentials, and none are configured (status 407); \
             it accepts Negotiate, NTLM, Digest, this client sends Basic"
        );
    }
}
