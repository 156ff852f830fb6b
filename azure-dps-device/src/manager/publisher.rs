//! Tells applications what happens: events, the snapshot and the log.

use std::sync::Arc;
use std::time::Instant;

use azure_dps_core::Error;
use time::OffsetDateTime;
use tokio::sync::{broadcast, watch};

use super::driver::Driver;
use super::driver::step::Now;
use super::event::{Happening, ManagerEvent, Snapshot};
use super::state::ProvisioningState;

pub(crate) struct Publisher {
    events: broadcast::Sender<ManagerEvent>,
    snapshot: watch::Sender<Snapshot>,
}

impl Publisher {
    pub(crate) fn new(events: broadcast::Sender<ManagerEvent>, snapshot: watch::Sender<Snapshot>) -> Self {
        Self { events, snapshot }
    }

    /// Publishes an event, and the state of the driver after it.
    pub(crate) fn tell(&self, happening: Happening, error: Option<Arc<Error>>, driver: &Driver, now: Now) {
        let state = driver.state();
        let next_attempt = match state {
            ProvisioningState::Online | ProvisioningState::Stopped => None,
            _ => driver.next_attempt().map(|at| at.saturating_duration_since(now.instant)),
        };
        let place = driver.memory().place.as_ref();
        tracing::info!(
            ?happening,
            ?state,
            hub = place.map(|place| place.hub.as_str()),
            next_attempt_ms = next_attempt.map(|pause| pause.as_millis() as u64),
            error = error.as_deref().map(tracing::field::display),
            "provisioning"
        );
        self.refresh(error.clone(), driver, now);
        // An error means that the application does not listen.
        let _sent = self.events.send(ManagerEvent { at: now.wall, happening, state, error, next_attempt });
    }

    /// Brings the snapshot up to date.
    pub(crate) fn refresh(&self, error: Option<Arc<Error>>, driver: &Driver, now: Now) {
        let (memory, state) = (driver.memory(), driver.state());
        let certificate = memory.candidate.as_ref().or(memory.proven.as_ref());
        self.snapshot.send_modify(|snapshot| {
            if snapshot.state != state || snapshot.since.is_none() {
                (snapshot.state, snapshot.since) = (state, Some(now.wall));
            }
            snapshot.hub = memory.place.as_ref().map(|place| place.hub.clone());
            snapshot.device_id = memory.place.as_ref().map(|place| place.device_id.clone());
            snapshot.credential = memory.credential;
            snapshot.transport = memory.transport.clone();
            snapshot.certificate_expires = certificate.map(|certificate| certificate.not_after);
            snapshot.next_attempt = driver.next_attempt().map(|at| wall(at, now));
            match (error, state) {
                (Some(error), _) => snapshot.last_error = Some(error),
                (None, ProvisioningState::Online) => snapshot.last_error = None,
                (None, _) => {}
            }
        });
    }
}

/// The task has ended: the manager stopped or was dropped, or a store, a transport or a key panicked.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.snapshot.send_modify(|snapshot| {
            if snapshot.state != ProvisioningState::Stopped {
                (snapshot.state, snapshot.since) =
                    (ProvisioningState::Stopped, Some(OffsetDateTime::now_utc()));
                snapshot.next_attempt = None;
            }
        });
    }
}

/// A moment of the monotonic clock, on the wall clock.
fn wall(at: Instant, now: Now) -> OffsetDateTime {
    now.wall + at.saturating_duration_since(now.instant)
}
