//! The manager's driver: decides whether to wait, to register, to look up or to go to the hub. It uses neither
//! a socket nor a file nor a clock.
//!
//! It has two activities: one at the service and one at the hub. Each is idle, due at a time, or under way, and
//! one of them is always due or under way until the driver has stopped.
//!
//! | event | at the service | at the hub |
//! |---|---|---|
//! | start without an assignment | register after the device's part of the first-boot window | – |
//! | start with an assignment | – | connect at once |
//! | start without an assignment after a registration, or with one that the hub refused | look up or register when the ladder allows | – |
//! | registration a day or more after the last one | begin again with the first transport | – |
//! | assigned, to the same place, without a new certificate | done | an open connection stays |
//! | assigned | done | close an open connection; connect with the new certificate or credential |
//! | a registration begins | it counts as failed until its outcome is known | – |
//! | registration failed, the reason passes | register after a pause of the register ladder, at least `retry-after` | – |
//! | the service asks for a pause with `retry-after` | no registration and no look-up before its end, also after a reboot; a day at most | one that refuses the device: connect after each pause of the refused ladder |
//! | the credential is refused, another is left | register with the next credential at once | – |
//! | the certificate of a credential is not valid yet: the clock is behind | register with the next credential at once; if none is left and the service has refused none, after a pause of the register ladder | – |
//! | the credential is refused and none is left, or the registration is refused otherwise | register after a pause of the stuck ladder | – |
//! | connected | a registration that follows a refusal or a failure is not needed any more, also one under way that fails, unless it was asked for or is a renewal | all ladders start anew; a candidate certificate replaces the proven one |
//! | not reachable, or lost | after enough failures and time: look up, or register if that is not possible | connect after a pause of the hub ladder |
//! | unreachable, looked up: the same hub | register if the hub stays away for another limit | – |
//! | unreachable, looked up: another hub, not assigned, or failed | register | – |
//! | unreachable, and the registration has ended | register again after a pause of the refused ladder, at least the limit | – |
//! | hub refuses a candidate certificate, a proven one is left | renew after a pause of the stuck ladder | connect with the proven one |
//! | hub refuses a credential, another is left | – | connect with the next at once |
//! | hub refuses the device otherwise | look up, or register if that is not possible; the pause of the refused ladder counts from the last registration; one that is due earlier stays | – |
//! | refused, looked up: another hub, for the first time | done | connect there |
//! | refused, looked up: anything else | register | – |
//! | hub closed the connection | – | connect after the first pause of the hub ladder |
//! | another connection took the device over | – | stop |
//! | asked to provision anew | register, or once more after the registration or look-up under way, however that one ends; also after a reboot, until the device is assigned | an open connection stays until the device is assigned |
//! | the key store cannot read the key of a certificate | register for a new certificate after a pause of the stuck ladder | connect with the proven one at once, else as not reachable |
//! | an issued certificate is not usable, or its key cannot be stored | register again after a pause of the stuck ladder | connect with what there is |
//! | the hub has refused the proven certificate, and none is issued, or not a usable one | done; after one that is not usable, register again after a pause of the stuck ladder | delete the proven one; connect with what there is, else with the credential |
//! | the hub accepts the proven certificate, which is not due | no renewal is needed any more | – |
//! | a candidate certificate is not valid yet: the clock is behind | – | connect with the proven one, unless the hub has refused it; else as not reachable |
//! | no key can be read, and the enrollment issues no certificate any more | done | delete the certificates; connect with the credential |
//! | a certificate is due | register with a new key | an open connection stays until the device is assigned |
//! | a renewal fails or is refused | register after a pause of the register or the stuck ladder; a connection does not end its failures | – |
//! | a certificate expired, none is left | register with the credential | – |
//! | the hub takes too long to connect | – | drop it; as not reachable |
//! | the hub takes too long to close | – | drop it |
//! | the memory changed | – | save it first, unless only a failure of the hub is new, or a failure on the last rung of its ladder; of registrations on the last rung of the register ladder, one for each start is saved |
//! | a wait that a reboot interrupted | – | save after 1, 2, 4, 8 minutes and so on |
//! | the hub fails for longer than the longest pause of its ladder | – | save since when |
//! | the memory could not be saved | – | save it after a pause of the stuck ladder |
//! | stop | abandon; a request to provision anew waits for the next start | close, save since when the hub fails, end |
//!
//! No two registrations begin closer to each other than the first pause of the register ladder allows. The
//! credentials that are tried one after the other count as one registration.
//!
//! Pauses after a failure begin with the failure; those after a reboot, and those of the refused ladder, with the
//! beginning of the last registration.
//!
//! All waits use the monotonic clock. The wall clock decides about certificates only, and about the pauses that
//! a reboot interrupted; those are never longer than the ladder's longest pause or `retry-after`, whatever the
//! wall clock shows. If it shows an earlier time than the record, the times of the record move back with it, so
//! that what had passed stays passed.
//!
//! Each row has a test in `driver/tests.rs`.

use std::time::{Duration, Instant};

use self::activity::{Hub, Service, Why};
use self::event::Event;
use self::moment::Moment;
use self::progress::Progress;
use self::step::{Now, Step};
use super::memory::{Failures, Memory};
use super::policy::ManagerPolicy;
use super::state::ProvisioningState;

mod activity;
mod certificates;
pub(crate) mod event;
mod hub;
mod moment;
mod progress;
mod service;
pub(crate) mod step;

/// The longest pause that the service can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug)]
pub(crate) struct Driver {
    policy: ManagerPolicy,
    /// A hash of the registration id: the device's part of the first-boot window, and its random pauses.
    seed: u64,
    credentials: usize,
    can_look_up: bool,
    memory: Memory,
    service: Service,
    hub: Hub,
    /// When the last registration began.
    registered: Option<Moment>,
    /// The end of the last `retry-after` of the service.
    not_before: Option<Instant>,
    failing: Option<Failing>,
    /// Whether a registration has begun since the start.
    has_begun: bool,
    /// How much of a wait that the reboot interrupted has passed is saved now and then.
    progress: Option<Progress>,
    /// How many credentials the hub has refused in a row.
    hub_refusals: usize,
    /// Sign in with the proven certificate: the key of the candidate cannot be read.
    passes_over_candidate: bool,
    /// No key of a certificate could be read since the device was last connected.
    has_no_key: bool,
    /// How many registrations were asked for in quick succession.
    wanted: u32,
    /// Provision once more after the registration under way.
    again: bool,
    stopping: bool,
    ended: bool,
    /// What the store has.
    saved: Memory,
    save_at: Option<Instant>,
    save_failures: u32,
}

/// A hub that cannot be reached.
#[derive(Clone, Copy, Debug)]
struct Failing {
    /// When the failures began, or when the service was last asked about the hub.
    since: Moment,
    /// Whether it has failed since the program started.
    is_tried: bool,
}

impl Driver {
    pub(crate) fn new(
        policy: ManagerPolicy,
        seed: u64,
        credentials: usize,
        can_look_up: bool,
        mut memory: Memory,
        now: Now,
    ) -> Self {
        let saved = memory.clone();
        memory.fit(now.wall);
        let mut driver = Self {
            policy,
            seed,
            credentials: credentials.max(1),
            can_look_up,
            registered: memory.last_registration.map(|at| Moment::of(at, now)),
            not_before: memory
                .retry_after
                .map(|asked| Moment::of(asked.since, now).and(asked.pause.min(LONGEST_RETRY_AFTER))),
            failing: memory.failing_since.map(|at| Failing { since: Moment::of(at, now), is_tried: false }),
            has_begun: false,
            progress: None,
            saved,
            memory,
            service: Service::Idle,
            hub: Hub::Idle,
            hub_refusals: 0,
            passes_over_candidate: false,
            has_no_key: false,
            wanted: 0,
            again: false,
            stopping: false,
            ended: false,
            save_at: None,
            save_failures: 0,
        };
        if driver.memory.credential >= driver.credentials {
            driver.memory.credential = 0;
        }
        driver.start(now);
        let is_waiting = match driver.service {
            Service::Due { at, why } => at > now.instant && why != Why::FirstBoot,
            _ => driver.failing.is_some(),
        };
        driver.progress = is_waiting.then(|| Progress::new(now.instant));
        driver.changed(now);
        driver
    }

    fn start(&mut self, now: Now) {
        let Failures { register, stuck, refused, .. } = self.memory.failures;
        let (is_placed, is_wanted) = (self.memory.place.is_some(), self.memory.is_wanted);
        if is_placed && refused > 0 {
            let why = if is_wanted { Why::Wanted } else { Why::Refused };
            self.register_after(self.policy.refused, refused, why, now);
            self.try_hub_meanwhile(now);
        } else if is_placed {
            self.hub = Hub::Due { at: now.instant };
            match (is_wanted, stuck) {
                (false, _) => {}
                (true, 0) => self.register_after(self.policy.register, register.max(1), Why::Wanted, now),
                (true, _) => self.register_after(self.policy.stuck, stuck, Why::Wanted, now),
            }
        } else if stuck > 0 {
            self.register_after(self.policy.stuck, stuck, Why::Stuck, now);
        } else if register > 0 || self.registered.is_some() {
            self.register_after(self.policy.register, register.max(1), Why::Failed, now);
        } else {
            let part = self.seed as f64 / u64::MAX as f64;
            let pause = self.policy.first_boot_window.min(LONGEST_LIMIT).mul_f64(part);
            self.service = Service::Due { at: now.instant + pause, why: Why::FirstBoot };
        }
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether a registration or a look-up is still wanted. The loop drops one that is not.
    pub(crate) fn is_at_service(&self) -> bool {
        matches!(self.service, Service::Registering { .. } | Service::LookingUp { .. })
    }

    /// Whether the device registers, looks up or connects at this moment.
    pub(crate) fn is_trying(&self) -> bool {
        self.is_at_service() || matches!(self.hub, Hub::Connecting { .. })
    }

    /// Whether the manager has been asked to stop.
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn state(&self) -> ProvisioningState {
        match (&self.hub, &self.service) {
            _ if self.ended => ProvisioningState::Stopped,
            (Hub::Online { .. }, _) => ProvisioningState::Online,
            (Hub::Connecting { .. }, _) => ProvisioningState::Connecting,
            (_, Service::Registering { .. } | Service::LookingUp { .. }) => ProvisioningState::Registering,
            (Hub::Due { .. }, Service::Due { why: Why::Refused, .. }) => ProvisioningState::Refused,
            (Hub::Due { .. } | Hub::Closing { .. }, _) if self.memory.failures.hub > 0 => {
                ProvisioningState::Unreachable
            }
            (Hub::Due { .. } | Hub::Closing { .. }, _) => ProvisioningState::Connecting,
            (Hub::Idle, Service::Due { why: Why::Refused, .. }) => ProvisioningState::Refused,
            (Hub::Idle, Service::Due { why: Why::Stuck, .. }) => ProvisioningState::Stuck,
            (Hub::Idle, Service::Due { why: Why::Wanted | Why::Renewal, .. }) => self.offline(),
            (Hub::Idle, _) => ProvisioningState::Waiting,
        }
    }

    /// The state of a device that waits for a registration which was asked for, without a way to its hub.
    fn offline(&self) -> ProvisioningState {
        match self.memory.failures {
            Failures { stuck: 1.., .. } => ProvisioningState::Stuck,
            Failures { refused: 1.., .. } => ProvisioningState::Refused,
            _ => ProvisioningState::Waiting,
        }
    }

    /// When the next registration or the next connection to the hub is due.
    pub(crate) fn next_attempt(&self) -> Option<Instant> {
        let service = match self.service {
            Service::Due { at, .. } => Some(at),
            _ => None,
        };
        let hub = match self.hub {
            Hub::Due { at } => Some(at),
            _ => None,
        };
        service.into_iter().chain(hub).min()
    }

    /// Returns the next step. `now.instant` must not go backwards; `now.wall` may.
    pub(crate) fn next(&mut self, now: Now) -> Step {
        if self.ended {
            return Step::End;
        }
        self.check_certificates(now);
        self.check_patience(now);
        if self.progress.as_mut().is_some_and(|progress| progress.is_due(now.instant))
            && self.save_failures == 0
        {
            self.save_at = Some(now.instant);
        }
        if let Some(step) = self.hub_timeout(now) {
            return step;
        }
        if self.save_at.is_some_and(|at| at <= now.instant) {
            self.memory.saved_at = Some(now.wall);
            return Step::Save;
        }
        if self.stopping && matches!(self.hub, Hub::Idle) {
            self.ended = true;
            return Step::End;
        }
        self.service_step(now)
            .or_else(|| self.hub_step(now))
            .unwrap_or_else(|| Step::Wait(self.deadline(now)))
    }

    /// The latest time at which the driver must be asked again.
    fn deadline(&self, now: Now) -> Instant {
        let patience = match self.hub {
            Hub::Connecting { until, .. } | Hub::Closing { until, .. } => Some(until),
            Hub::Idle | Hub::Due { .. } | Hub::Online { .. } => None,
        };
        let longest = now.instant + LONGEST_WAIT;
        let progress = self.progress.map(Progress::at);
        let times = [self.next_attempt(), patience, self.save_at, progress, self.next_renewal(now)];
        times.into_iter().flatten().fold(longest, Instant::min)
    }

    /// Something happened.
    pub(crate) fn on(&mut self, event: Event, now: Now) {
        match event {
            Event::Saved(worked) => self.saved(worked, now),
            _ if self.ended => {}
            Event::Assigned(assigned) => self.assigned(assigned, now),
            Event::RegistrationFailed(failure) => self.registration_failed(failure, now),
            Event::LookedUp(found) => self.looked_up(found, now),
            Event::HubConnected => self.connected(now),
            Event::HubEnded(why) => self.hub_ended(why, now),
            Event::KeyUnreadable => self.key_unreadable(now),
            Event::Reprovision => self.wanted(now),
            Event::Stop => self.stop(now),
        }
    }

    fn stop(&mut self, now: Now) {
        self.stopping = true;
        self.service = Service::Idle;
        match self.hub {
            Hub::Connecting { .. } | Hub::Online { .. } => self.close(now),
            Hub::Closing { .. } => {}
            Hub::Idle | Hub::Due { .. } => self.hub = Hub::Idle,
        }
        self.remember_failing(now);
        if self.progress.take().is_some() {
            self.save_at = Some(now.instant);
        }
        // A failure to save must not keep the manager from stopping.
        self.changed(now);
    }

    /// Saves a memory that differs from the stored one in what matters after a reboot: flash wears out with each
    /// write. The count of the hub's failures does not, and no count beyond the last rung of its ladder.
    fn changed(&mut self, now: Now) {
        let Self { saved, memory, policy, .. } = self;
        let (before, after) = (&mut saved.failures, &memory.failures);
        before.hub = after.hub;
        for (ladder, before, after) in [
            (policy.register, &mut before.register, after.register),
            (policy.stuck, &mut before.stuck, after.stuck),
            (policy.stuck, &mut before.renewal, after.renewal),
            (policy.refused, &mut before.refused, after.refused),
        ] {
            if ladder.is_longest(*before) && ladder.is_longest(after) {
                *before = after;
            }
        }
        if saved != memory && (self.save_failures == 0 || self.stopping) {
            self.save_at = Some(now.instant);
        }
    }

    fn saved(&mut self, worked: bool, now: Now) {
        if worked {
            self.saved = self.memory.clone();
        }
        self.save_failures = if worked { 0 } else { self.save_failures.saturating_add(1) };
        self.save_at = (!worked && !self.stopping)
            .then(|| now.instant + self.policy.stuck.pause(self.save_failures, self.seed));
    }
}

/// A change of the wall clock is noticed after this time.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// A longer one would overflow the clock.
const LONGEST_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

#[cfg(test)]
mod tests;
