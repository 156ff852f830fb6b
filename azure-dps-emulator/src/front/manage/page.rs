//! The page that shows the emulator in a browser: one file without parts from elsewhere.
//!
//! Its policy lets the browser run the script and the styles of this file and nothing else, ask this port and
//! no other address, and never make elements out of text.

use std::sync::LazyLock;

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY};
use sha2::{Digest, Sha256};

pub(super) const PAGE: &str = include_str!("page.html");
pub(super) const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// Adds the headers that keep foreign scripts out of the page, and the page out of frames.
pub(super) fn protect(headers: &mut HeaderMap) {
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
}

static POLICY: LazyLock<String> = LazyLock::new(|| {
    let (script, style) = (hash_of("script"), hash_of("style"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
         trusted-types 'none'"
    )
});

/// The source that allows the content of the only element with this name.
fn hash_of(element: &str) -> String {
    let content = PAGE.split_once(&format!("<{element}>")).map_or("", |(_, rest)| rest);
    let content = content.split_once(&format!("</{element}>")).map_or("", |(content, _)| content);
    // As the browser reads it: a checkout on Windows may have other line ends.
    let content = content.replace("\r\n", "\n");
    format!("'sha256-{}'", BASE64_STANDARD.encode(Sha256::digest(content)))
}

const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
