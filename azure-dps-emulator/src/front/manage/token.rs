//! The token of the management port. Only a hash of it is kept, so that it cannot reach a log.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::Mac;
use hyper::header::{ACCEPT, AUTHORIZATION, HeaderMap};

use crate::crypto::key::{hmac, mac};

/// A token that management requests must carry: as a bearer token, or as the password of HTTP basic
/// authentication, which browsers support.
pub(crate) struct Token(Vec<u8>);

impl Token {
    /// Checks the text of a token. It has the characters of a bearer token (RFC 6750), and no one can guess
    /// it, because the port does not limit attempts.
    ///
    /// # Errors
    /// Why the text cannot be a token. The message does not show it.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        let count = text.chars().count();
        if !(SHORTEST..=LONGEST).contains(&count) {
            return Err(format!("has {count} characters and needs {SHORTEST} to {LONGEST}; {EXAMPLE}"));
        }
        if !text.bytes().all(is_allowed) {
            return Err(format!(
                "has a character that is not an ASCII letter, a digit or one of -._~+/=; {EXAMPLE}"
            ));
        }
        Ok(Token(hmac(LABEL, &[text.as_bytes()])))
    }

    /// Returns whether the one `Authorization` header of a request carries the token.
    pub(super) fn is_in(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = values.next().filter(|_| values.next().is_none()).and_then(|value| value.to_str().ok());
        let Some((scheme, credentials)) = value.and_then(|value| value.split_once(' ')) else {
            return false;
        };
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("Bearer") {
            return self.is(credentials.as_bytes());
        }
        // The user name, which can be anything but has no colon, and the password.
        let decoded = scheme.eq_ignore_ascii_case("Basic").then(|| BASE64_STANDARD.decode(credentials).ok());
        let decoded = decoded.flatten().unwrap_or_default();
        let mut parts = decoded.splitn(2, |byte| *byte == b':').skip(1);
        parts.next().is_some_and(|password| self.is(password))
    }

    /// Compares in a time that does not depend on the bytes that differ.
    fn is(&self, given: &[u8]) -> bool {
        mac(LABEL, &[given]).is_some_and(|mac| mac.verify_slice(&self.0).is_ok())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

/// The value of `WWW-Authenticate`. For `Basic`, a browser asks the user for a password. It does so for a document
/// only, which is HTML: a script that asks again and again would open one dialog after the other. `Sec-Fetch-Dest`
/// would say it too, but browsers do not send it to another machine over HTTP.
pub(super) fn challenge(headers: &HeaderMap) -> &'static str {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    match accepted.into_iter().any(|value| value.contains("text/html")) {
        true => r#"Basic realm="azure-dps-emulator""#,
        false => r#"Bearer realm="azure-dps-emulator""#,
    }
}

const LABEL: &[u8] = b"token of the management port";
const SHORTEST: usize = 16;
const LONGEST: usize = 256;
const EXAMPLE: &str = "`openssl rand -hex 16` makes one";

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "0123456789abcdef";

    #[test]
    fn a_browser_asks_for_a_password_for_a_document_only() {
        let scheme = |accept: Option<&'static str>| {
            let accept = accept.map(|value| (ACCEPT, value.parse().unwrap()));
            challenge(&accept.into_iter().collect()).split(' ').next().unwrap()
        };

        let document = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        assert_eq!([Some("text/html"), Some(document)].map(scheme), ["Basic"; 2]);
        assert_eq!([None, Some("*/*"), Some("image/avif,*/*;q=0.8")].map(scheme), ["Bearer"; 3]);
    }

    #[test]
    fn a_text_that_cannot_be_a_token_is_refused_and_not_shown() {
        let longest = "x".repeat(256);
        for good in [TEXT, "aZ09-._~+/======", longest.as_str()] {
            assert!(Token::new(good).is_ok(), "{good}");
        }
        for (bad, wanted) in [
            (String::new(), "has 0 characters and needs 16 to 256"),
            ("SECRETSECRETSEC".to_owned(), "has 15 characters"),
            ("S".repeat(257), "has 257 characters"),
            (format!("SECRET {TEXT}"), "has a character that is not an ASCII letter, a digit"),
            (format!("SECRET:{TEXT}"), "has a character"),
            (format!("SECRETé{TEXT}"), "has a character"),
            (format!("SECRET\n{TEXT}"), "has a character"),
        ] {
            let why = Token::new(&bad).unwrap_err();
            assert!(why.contains(wanted) && !why.contains("SECRET"), "{why}");
        }
        assert_eq!(format!("{:?}", Token::new(TEXT).unwrap()), "Token");
    }

    #[test]
    fn a_bearer_token_and_the_password_of_any_user_are_the_same() {
        let basic = |text: &str| format!("Basic {}", BASE64_STANDARD.encode(text));
        for (header, admitted) in [
            (format!("Bearer {TEXT}"), true),
            (format!("bearer  {TEXT} "), true),
            (basic(&format!("any:{TEXT}")), true),
            (basic(&format!(":{TEXT}")), true),
            (basic(&format!("any:{TEXT}")).replace("Basic", "BASIC"), true),
            (TEXT.to_owned(), false),
            (format!("Bearer {TEXT}0"), false),
            (format!("Bearer {}", TEXT.to_uppercase()), false),
            ("Bearer 0123456789abcde".to_owned(), false),
            (format!("Bearer {TEXT} {TEXT}"), false),
            (format!("Token {TEXT}"), false),
            ("Bearer".to_owned(), false),
            ("Bearer ".to_owned(), false),
            (String::new(), false),
            (basic(TEXT), false),
            (basic(&format!("{TEXT}:")), false),
            (basic(&format!("any:{TEXT}:")), false),
            (basic(&format!("any:{TEXT}\0")), false),
            (format!("Basic {TEXT}"), false),
            ("Basic ä".to_owned(), false),
        ] {
            assert_eq!(is_in(&[&header]), admitted, "{header}");
        }
        let good = format!("Bearer {TEXT}");
        assert!(!is_in(&[]));
        assert!(!is_in(&[&good, &good]), "two headers");
    }

    fn is_in(values: &[&str]) -> bool {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, hyper::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        Token::new(TEXT).unwrap().is_in(&headers)
    }
}
