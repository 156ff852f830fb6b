//! Tells applications what happens: events, the snapshot and the log.

use std::sync::Arc;
use std::time::Instant;

use azure_dps_core::{Error, ErrorKind};
use time::OffsetDateTime;
use tokio::sync::{broadcast, watch};

use super::driver::Driver;
use super::driver::step::{Login, Now};
use super::event::{Happening, ManagerEvent, Snapshot};
use super::memory::Certificate;
use super::outstanding::{Concern, Outstanding};
use super::state::ProvisioningState;

pub(crate) struct Publisher {
    events: broadcast::Sender<ManagerEvent>,
    snapshot: watch::Sender<Snapshot>,
    errors: Outstanding,
}

impl Publisher {
    pub(crate) fn new(events: broadcast::Sender<ManagerEvent>, snapshot: watch::Sender<Snapshot>) -> Self {
        Self { events, snapshot, errors: Outstanding::default() }
    }

    /// Publishes an event without an error, and the state of the driver after it.
    pub(crate) fn tell(&mut self, happening: Happening, driver: &Driver, now: Now) {
        self.errors.on(happening, driver.memory().failures.renewal);
        self.publish(happening, None, driver, now);
    }

    /// Publishes an event with an error, and the state of the driver after it.
    pub(crate) fn fail(
        &mut self,
        concern: Concern,
        happening: Happening,
        error: Arc<Error>,
        driver: &Driver,
        now: Now,
    ) {
        self.errors.add(concern, Arc::clone(&error));
        self.publish(happening, Some(error), driver, now);
    }

    /// Takes an error from the snapshot whose cause is gone.
    pub(crate) fn recovered(&mut self, concern: Concern, driver: &Driver, now: Now) {
        self.errors.end(concern);
        self.refresh(driver, now);
    }

    fn publish(&self, happening: Happening, error: Option<Arc<Error>>, driver: &Driver, now: Now) {
        let state = driver.state();
        let next_attempt = next_attempt(driver).map(|at| at.saturating_duration_since(now.instant));
        let place = driver.memory().place.as_ref();
        tracing::info!(
            ?happening,
            ?state,
            hub = place.map(|place| place.hub.as_str()),
            next_attempt_ms = next_attempt.map(|pause| pause.as_millis() as u64),
            error = error.as_deref().map(tracing::field::display),
            "provisioning"
        );
        self.refresh(driver, now);
        // An error means that the application does not listen.
        let _sent = self.events.send(ManagerEvent { at: now.wall, happening, state, error, next_attempt });
    }

    /// Brings the snapshot up to date.
    pub(crate) fn refresh(&self, driver: &Driver, now: Now) {
        let (memory, state) = (driver.memory(), driver.state());
        self.snapshot.send_modify(|snapshot| {
            if snapshot.state != state || snapshot.since.is_none() {
                (snapshot.state, snapshot.since) = (state, Some(now.wall));
            }
            snapshot.hub = memory.place.as_ref().map(|place| place.hub.clone());
            snapshot.device_id = memory.place.as_ref().map(|place| place.device_id.clone());
            snapshot.credential = memory.credential;
            snapshot.transport = memory.transport.clone();
            snapshot.certificate_expires = certificate(driver, now).map(|certificate| certificate.not_after);
            snapshot.next_attempt = next_attempt(driver).map(|at| wall(at, now));
            snapshot.last_error = self.errors.newest();
        });
    }
}

/// Whatever ends the task of the manager, its snapshot says so.
impl Drop for Publisher {
    fn drop(&mut self) {
        self.snapshot.send_if_modified(|snapshot| {
            let is_news = snapshot.state != ProvisioningState::Stopped;
            if is_news {
                (snapshot.state, snapshot.since) =
                    (ProvisioningState::Stopped, Some(OffsetDateTime::now_utc()));
                snapshot.next_attempt = None;
            }
            if std::thread::panicking() {
                let message = "the provisioning manager panicked; standard error has the message";
                let help = "report the message to the authors of the part that it names, and start again";
                let error = Error::new(ErrorKind::Config, message).with_help(help);
                snapshot.last_error = Some(Arc::new(error));
            }
            is_news
        });
    }
}

/// When the device tries again, unless it is trying, online or stopped.
fn next_attempt(driver: &Driver) -> Option<Instant> {
    let is_waiting = !matches!(driver.state(), ProvisioningState::Online | ProvisioningState::Stopped);
    driver.next_attempt().filter(|_| is_waiting && !driver.is_trying())
}

/// The certificate that signs in. If all have expired, the newest one.
fn certificate(driver: &Driver, now: Now) -> Option<&Certificate> {
    let memory = driver.memory();
    match driver.login(now) {
        Some(Login::Proven) => memory.proven.as_ref(),
        Some(Login::Credential(_)) => None,
        Some(Login::Candidate) | None => memory.candidate.as_ref().or(memory.proven.as_ref()),
    }
}

/// A moment of the monotonic clock, on the wall clock.
fn wall(at: Instant, now: Now) -> OffsetDateTime {
    now.wall + at.saturating_duration_since(now.instant)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use time::macros::datetime;

    use super::*;
    use crate::manager::connector::EndReason;
    use crate::manager::driver::event::Event;
    use crate::manager::driver::step::Step;
    use crate::manager::memory::{Memory, Place};
    use crate::manager::policy::ManagerPolicy;

    const PROVEN: OffsetDateTime = datetime!(2026-12-20 08:00 UTC);
    const CANDIDATE: OffsetDateTime = datetime!(2026-12-26 08:00 UTC);

    fn now() -> Now {
        Now { instant: Instant::now(), wall: datetime!(2026-11-26 08:00 UTC) }
    }

    fn driver(memory: Memory, now: Now) -> Driver {
        let place = Some(Place { hub: "a".to_owned(), device_id: "d".to_owned() });
        Driver::new(ManagerPolicy::new(), 0, 1, true, Memory { place, ..memory }, now)
    }

    fn expires(driver: &Driver, now: Now) -> Option<OffsetDateTime> {
        certificate(driver, now).map(|certificate| certificate.not_after)
    }

    #[test]
    fn the_certificate_is_the_one_that_signs_in() {
        let issued = |not_after| Certificate {
            chain: String::new(),
            key: "k".to_owned(),
            not_before: datetime!(2026-11-26 07:00 UTC),
            not_after,
        };
        let memory =
            Memory { proven: Some(issued(PROVEN)), candidate: Some(issued(CANDIDATE)), ..Memory::default() };
        let now = now();
        let mut both = driver(memory, now);
        assert_eq!(expires(&both, now), Some(CANDIDATE));
        assert_eq!(both.next(now), Step::Connect(Login::Candidate));
        both.on(Event::KeyUnreadable, now);
        assert_eq!(expires(&both, now), Some(PROVEN), "the key of the other one cannot be read");
        let later = Now { wall: datetime!(2027-01-26 08:00 UTC), ..now };
        assert_eq!(expires(&both, later), Some(CANDIDATE), "all have expired");
        assert_eq!(expires(&driver(Memory::default(), now), now), None);
    }

    #[test]
    fn the_next_attempt_is_none_while_one_is_under_way_and_online() {
        let now = now();
        let mut driver = driver(Memory::default(), now);
        assert_eq!(next_attempt(&driver), Some(now.instant));
        driver.next(now);
        driver.on(Event::HubEnded(EndReason::Refused), now);
        // A registration is due later, and the device looks up meanwhile.
        let Some(due) = next_attempt(&driver) else { panic!("{driver:?}") };
        let later = Now { instant: due.max(now.instant) + Duration::from_secs(3600), ..now };
        assert!(matches!(driver.next(later), Step::Save | Step::LookUp(_)), "{driver:?}");
        driver.on(Event::Saved(true), later);
        driver.next(later);
        assert_eq!((next_attempt(&driver), driver.is_trying()), (None, true), "{driver:?}");
    }
}
