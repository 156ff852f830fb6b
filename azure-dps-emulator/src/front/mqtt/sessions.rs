//! Who is connected: of two connections with one client id the older one ends (MQTT 3.1.1, section 3.1.4).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::ids;

/// The connections by client id; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<String, Owner>>>);

/// The connection that has a client id; dropping `_newer` tells it that it has no longer.
struct Owner {
    connection: u64,
    _newer: oneshot::Sender<()>,
}

impl Sessions {
    /// Gives a client id to a connection, for as long as the seat is held or until a newer connection takes it.
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
    /// Waits until a newer connection has the client id; may be dropped and awaited again before that.
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
