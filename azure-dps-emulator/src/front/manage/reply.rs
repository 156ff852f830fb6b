//! The answers of routes, and the body of a request.

use hyper::StatusCode;
use hyper::body::{Bytes, Incoming};
use tokio::task::spawn_blocking;

use super::listing::Listing;
use crate::front::body::{Unread, collect};
use crate::json::{self, Value};
use crate::state::journal::Found;

pub(super) enum Reply {
    Page,
    Description,
    Json(Value),
    Listing(Listing),
    Journal(Found),
    Pem(String),
    Nothing,
}

pub(super) type Routed = Result<Reply, (StatusCode, String)>;

pub(super) fn bad(message: String) -> (StatusCode, String) {
    (StatusCode::BAD_REQUEST, message)
}

/// Reads the body of a request, which has at most `limit` bytes.
pub(super) async fn body(body: &mut Incoming, limit: usize) -> Result<Bytes, (StatusCode, String)> {
    collect(body, limit).await.map_err(|why| match why {
        Unread::TooLarge => {
            let message = format!("the body is larger than {} MiB", limit / 1024 / 1024);
            (StatusCode::PAYLOAD_TOO_LARGE, message)
        }
        Unread::BrokeOff => bad("the body broke off".to_owned()),
        Unread::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned()),
    })
}

/// Answers on the blocking pool: a test PKI, a long listing or a large state would delay the connections of
/// devices.
pub(super) async fn blocking(answer: impl FnOnce() -> Routed + Send + 'static) -> Routed {
    let broken = |_| Err((StatusCode::INTERNAL_SERVER_ERROR, "the request could not be answered".to_owned()));
    spawn_blocking(answer).await.unwrap_or_else(broken)
}

pub(super) fn read(body: &[u8]) -> Result<Value, String> {
    json::read(body).map_err(|error| format!("the body is not JSON: {error}"))
}
