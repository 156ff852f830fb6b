//! The connections of devices to their hubs: their seats, and what they have to send.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::instance::Instance;
use crate::records::hubs::Next;
use crate::records::hubs::link::{Ending, Link, Listens, Push};

/// The place of a connection at its hub, which the device keeps until the connection ends.
pub(crate) struct Seat {
    instance: Arc<Instance>,
    hub: String,
    device_id: String,
    connection: u64,
    /// `None` if the hub had ended the connection before it began to look.
    signals: Option<watch::Receiver<Option<Ending>>>,
}

/// The next step of a connection.
pub(crate) enum Step {
    Send(Push),
    End(Ending),
    /// There is nothing to do before this much time has passed, or before the next signal.
    Wait(Option<Duration>),
}

impl Seat {
    /// Takes the seat of a connection whose CONNECT was admitted.
    pub(crate) fn take(instance: &Arc<Instance>, hub: &str, device_id: &str, connection: u64) -> Self {
        let state = instance.state();
        let link = state.hubs.find(hub, device_id).and_then(|device| device.link());
        let signals = link.filter(|link| link.connection() == connection).map(Link::signals);
        drop(state);
        let (hub, device_id) = (hub.to_owned(), device_id.to_owned());
        Seat { instance: Arc::clone(instance), hub, device_id, connection, signals }
    }

    /// Waits until there may be a next step. The future can be dropped and made again.
    pub(crate) async fn signalled(&mut self) {
        if let Some(signals) = &mut self.signals
            && signals.changed().await.is_err()
        {
            self.signals = None;
        }
    }

    pub(crate) fn next(&self) -> Step {
        let Some(signals) = &self.signals else { return Step::End(Ending::Gone) };
        if let Some(ending) = *signals.borrow() {
            return Step::End(ending);
        }
        let mut state = self.instance.state();
        let (clock, now) = (state.clock, state.clock.now());
        match state.hubs.find_mut(&self.hub, &self.device_id) {
            None => Step::End(Ending::Gone),
            Some(device) => match device.next(self.connection, now) {
                Next::Send(push) => Step::Send(push),
                Next::End(ending) => Step::End(ending),
                Next::Wait(until) => Step::Wait(until.and_then(|until| clock.until(until))),
            },
        }
    }

    /// Changes what the device listens to.
    pub(crate) fn listen(&self, listens: Listens) {
        let mut state = self.instance.state();
        if let Some(device) = state.hubs.find_mut(&self.hub, &self.device_id)
            && let Some(link) = device.link_of(self.connection)
        {
            link.listen(listens);
        }
    }

    /// Removes a message that the device has taken.
    pub(crate) fn settle(&self, message: u64) {
        let mut state = self.instance.state();
        if let Some(device) = state.hubs.find_mut(&self.hub, &self.device_id)
            && device.link_of(self.connection).is_some()
        {
            device.inbox.settle(message);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.instance.state();
        let now = state.clock.now();
        if let Some(device) = state.hubs.find_mut(&self.hub, &self.device_id) {
            device.leave(self.connection, now);
        }
    }
}
