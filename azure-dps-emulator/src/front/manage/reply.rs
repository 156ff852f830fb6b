//! The answers of routes, and the body of a request.

use hyper::StatusCode;

use super::listing::Listing;
use crate::json::{self, Value};
use crate::state::journal::Found;

pub(super) enum Reply {
    Page,
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

pub(super) fn read(body: &[u8]) -> Result<Value, String> {
    json::read(body).map_err(|error| format!("the body is not JSON: {error}"))
}
