//! The other end of a connection.

use std::sync::Arc;

use crate::call::request::Protocol;
use crate::crypto::certificate::Certificate;

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) protocol: Protocol,
    pub(crate) connection: u64,
    /// What it presented in the handshake, its own certificate first; empty if it has none.
    pub(crate) certificates: Arc<[Certificate]>,
}
