//! The gate that all requests of a client and its clones pass: the part that waits. The rules are in `rules`.

pub(crate) mod rules;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use rules::{Place, Rank, Rules, Ticket, Turn};

#[derive(Debug, Default)]
pub(crate) struct Gate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    rules: Rules,
    /// Wakes the call that waits at this place.
    bells: HashMap<Place, Arc<Notify>>,
}

impl Gate {
    /// Waits until one request may be sent. Dropping the future gives up the place in the queue.
    ///
    /// # Errors
    /// [`Closed`] at `limit`, or at once when the service closed the gate beyond it.
    pub(crate) async fn enter(&self, rank: Rank, limit: Option<Instant>) -> Result<Pass<'_>, Closed> {
        let place = self.queue(rank);
        loop {
            let now = Instant::now();
            let at = match self.ask(place.place, now) {
                Turn::Go(ticket) => return Ok(Pass { gate: self, ticket: Some(ticket) }),
                Turn::AskAgain(at) => at,
            };
            let opens = self.opens();
            if limit.is_some_and(|limit| limit <= now || opens.is_some_and(|opens| opens > limit)) {
                let opens_in = opens.map(|opens| opens.saturating_duration_since(now));
                return Err(Closed { opens_in: opens_in.filter(|time| !time.is_zero()) });
            }
            let at = limit.map_or(at, |limit| limit.min(at));
            // The rules decide, whether the bell rang or the time passed.
            let _ = timeout_at(at, place.bell.notified()).await;
        }
    }

    /// When the gate opens again, if the service has closed it.
    pub(crate) fn opens(&self) -> Option<Instant> {
        self.lock().rules.opens()
    }

    fn queue(&self, rank: Rank) -> Queued<'_> {
        let mut state = self.lock();
        let (place, bell) = (state.rules.queue(rank), Arc::new(Notify::new()));
        state.bells.insert(place, Arc::clone(&bell));
        Queued { gate: self, place, bell }
    }

    fn ask(&self, place: Place, now: Instant) -> Turn {
        let mut state = self.lock();
        let turn = state.rules.ask(place, now);
        if matches!(turn, Turn::Go(_)) {
            // There may be room for the next call too.
            state.ring();
        }
        turn
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        let mut state = self.lock();
        change(&mut state.rules);
        state.ring();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ring(&self) {
        if let Some(bell) = self.rules.next().and_then(|place| self.bells.get(&place)) {
            bell.notify_one();
        }
    }
}

/// A place in the queue; dropping it gives it up.
struct Queued<'g> {
    gate: &'g Gate,
    place: Place,
    bell: Arc<Notify>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.bells.remove(&self.place);
        state.rules.leave_queue(self.place);
        state.ring();
    }
}

/// The right to send one request. Dropping it records that no answer arrived.
#[derive(Debug)]
pub(crate) struct Pass<'g> {
    gate: &'g Gate,
    ticket: Option<Ticket>,
}

impl Pass<'_> {
    /// Records an answer that is not throttling.
    pub(crate) fn answered(mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.change(|rules| rules.answered(ticket, Instant::now()));
        }
    }

    /// Records that the service throttled the request: it asked for `least`, and `pause` adds a random part.
    pub(crate) fn throttled(mut self, least: Duration, pause: Duration) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.change(|rules| rules.throttled(ticket, least, pause, Instant::now()));
        }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.gate.change(|rules| rules.lost(ticket, Instant::now()));
        }
    }
}

/// The wait at the gate exceeded its limit, or would exceed it.
#[derive(Debug)]
pub(crate) struct Closed {
    /// For how long the service keeps the gate closed, if it does.
    pub(crate) opens_in: Option<Duration>,
}

#[cfg(test)]
mod tests;
