//! Reads the body of an HTTP request, within a size and a time.

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

/// Why a body could not be read.
pub(super) enum Unread {
    TooLarge,
    BrokeOff,
    TooSlow,
}

/// Reads a body of at most `limit` bytes within [`READ_DEADLINE`].
pub(super) async fn collect(body: &mut Incoming, limit: usize) -> Result<Bytes, Unread> {
    match timeout(READ_DEADLINE, Limited::new(body, limit).collect()).await {
        Ok(Ok(bytes)) => Ok(bytes.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::BrokeOff),
        Err(_) => Err(Unread::TooSlow),
    }
}

pub(super) const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Large enough for bulk operations.
pub(super) const BODY_LIMIT: usize = 1024 * 1024;
/// The limit for devices, over HTTPS, MQTT and AMQP; the service documents 96 KB.
pub(super) const DEVICE_BODY_LIMIT: usize = 256 * 1024;
/// The most bytes that are kept of an HTTP request before its head is complete.
pub(super) const LARGEST_HEAD: usize = 64 * 1024;
