//! The other end of a connection.

use std::sync::Arc;

use crate::call::request::Protocol;
use crate::crypto::certificate::Certificate;

/// The client at the other end of a connection.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) protocol: Protocol,
    pub(crate) connection: u64,
    /// The chain that it presented in the handshake, its own certificate first; empty without one.
    pub(crate) certificates: Arc<[Certificate]>,
}
