//! The body of an HTTP request, within a size and a time.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

/// Why the body of a request is not there.
pub(super) enum Unread {
    TooLarge,
    BrokeOff,
    TooSlow,
}

/// The body of a request, within a size and a time.
pub(super) async fn collect(body: &mut Incoming) -> Result<Bytes, Unread> {
    match timeout(READ_DEADLINE, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(bytes)) => Ok(bytes.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::BrokeOff),
        Err(_) => Err(Unread::TooSlow),
    }
}

pub(super) const READ_DEADLINE: Duration = Duration::from_secs(30);
pub(super) const BODY_LIMIT: usize = 1024 * 1024;
/// The most that is kept of an HTTP connection before a head is complete.
pub(super) const LARGEST_HEAD: usize = 64 * 1024;
