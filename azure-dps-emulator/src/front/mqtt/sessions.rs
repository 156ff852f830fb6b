//! The connected clients. A new connection with the same client id ends the older one (MQTT 3.1.1, section
//! 3.1.4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::ids;

/// The connections by client id; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<String, Owner>>>);

/// The connection that has a client id. Dropping `_newer` notifies it that a newer connection took the client
/// id.
struct Owner {
    connection: u64,
    _newer: oneshot::Sender<()>,
}

impl Sessions {
    /// Gives a client id to a connection, until the seat is dropped or a newer connection takes the client
    /// id.
    pub(super) fn enter(&self, client_id: &str, connection: u64) -> Seat {
        let (newer, taken) = oneshot::channel();
        let client_id = ids::key(client_id);
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.insert(client_id.clone(), Owner { connection, _newer: newer });
        Seat { sessions: self.clone(), client_id, connection, taken }
    }
}

pub(super) struct Seat {
    sessions: Sessions,
    client_id: String,
    connection: u64,
    taken: oneshot::Receiver<()>,
}

impl Seat {
    /// Waits until a newer connection takes the client id. The future can be dropped and made again.
    pub(super) async fn taken(&mut self) {
        let _nothing_is_sent = (&mut self.taken).await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut sessions = self.sessions.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.get(&self.client_id).is_some_and(|owner| owner.connection == self.connection) {
            sessions.remove(&self.client_id);
        }
    }
}
