//! The other end of a connection, and the body of a request that it sends.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use tokio::time::timeout;

use crate::call::request::Front;
use crate::crypto::certificate::Certificate;

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) front: Front,
    pub(crate) connection: u64,
    /// What it presented in the handshake, its own certificate first; empty if it has none.
    pub(crate) certificates: Arc<[Certificate]>,
}

/// Why the body of a request is not there.
pub(crate) enum Unread {
    TooLarge,
    BrokeOff,
    TooSlow,
}

/// The body of a request, within a size and a time.
pub(crate) async fn collect(body: &mut Incoming) -> Result<Bytes, Unread> {
    match timeout(READ_DEADLINE, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(bytes)) => Ok(bytes.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Unread::TooLarge),
        Ok(Err(_)) => Err(Unread::BrokeOff),
        Err(_) => Err(Unread::TooSlow),
    }
}

pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(30);
pub(crate) const BODY_LIMIT: usize = 1024 * 1024;
