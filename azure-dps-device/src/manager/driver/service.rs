//! Registrations and look-ups: when they are due, and what follows from their outcome.

use std::time::{Duration, Instant};

use super::activity::{Hub, Service, Why};
use super::event::{Assigned, Failure, Found, Issued};
use super::moment::Moment;
use super::step::{Now, Step};
use super::{Driver, LONGEST_RETRY_AFTER};
use crate::manager::ladder::Ladder;
use crate::manager::memory::{Failures, RetryAfter};

impl Driver {
    pub(super) fn service_step(&mut self, now: Now) -> Option<Step> {
        match &mut self.service {
            Service::Due { at, why: Why::Refused } if *at <= now.instant && self.can_look_up => {
                self.service = Service::LookingUp { sent: true, refused: true };
                Some(Step::LookUp(self.memory.credential))
            }
            Service::Due { at, why } if *at <= now.instant => {
                let why = *why;
                self.begin(why, now);
                Some(Step::Register(self.memory.credential))
            }
            Service::Registering { tried, sent: sent @ false, .. } => {
                *sent = true;
                Some(Step::Register((self.memory.credential + *tried) % self.credentials))
            }
            Service::LookingUp { sent: sent @ false, .. } => {
                *sent = true;
                Some(Step::LookUp(self.memory.credential))
            }
            _ => None,
        }
    }

    /// Notes a registration that begins. It counts as failed until its outcome is known, so that the ladder
    /// also moves when each registration ends in a power failure.
    fn begin(&mut self, why: Why, now: Now) {
        let Failures { register, stuck, .. } = self.memory.failures;
        let is_on_last_rung = stuck == 0 && self.policy.register.is_longest(register);
        increased(self.rung(why));
        (self.not_before, self.memory.retry_after) = (None, None);
        self.forget_transport(now);
        self.memory.last_registration = Some(now.wall);
        if is_on_last_rung && self.has_begun {
            // The record has a registration of this start, and the longest pause: more would only wear out
            // the flash of a device that has no network for months.
            self.saved.last_registration = self.memory.last_registration;
        }
        self.has_begun = true;
        self.progress = None;
        self.registered = Some(Moment::new(now));
        self.service = Service::Registering { tried: 0, refused: false, sent: true, why };
        self.changed(now);
    }

    /// The position that a registration raises when it begins: that on the ladder of the pause before it, which
    /// a reboot continues.
    fn rung(&mut self, why: Why) -> &mut u32 {
        let Failures { register, stuck, renewal, .. } = &mut self.memory.failures;
        match why {
            Why::Renewal => renewal,
            Why::Stuck => stuck,
            Why::Wanted if *stuck > 0 => stuck,
            _ => register,
        }
    }

    pub(super) fn assigned(&mut self, assigned: Assigned, now: Now) {
        let Service::Registering { tried, why, .. } = self.service else { return };
        let Assigned { place, issued, transport } = assigned;
        self.service = Service::Idle;
        uncounted(self.rung(why));
        self.memory.credential = (self.memory.credential + tried) % self.credentials;
        self.memory.transport = transport;
        let is_news = matches!(issued, Issued::Certificate(_)) || self.memory.place.as_ref() != Some(&place);
        self.memory.place = Some(place);
        self.memory.is_wanted = false;
        self.hub_refusals = 0;
        self.take_certificate(issued, now);
        self.be_patient_again(now);
        match self.hub {
            Hub::Idle | Hub::Due { .. } => self.hub = Hub::Due { at: now.instant },
            Hub::Connecting { .. } | Hub::Online { .. } if is_news => self.close(now),
            // The hub has accepted the device already.
            Hub::Online { .. } => (self.memory.failures.register, self.memory.failures.stuck) = (0, 0),
            Hub::Connecting { .. } | Hub::Closing { .. } => {}
        }
        self.changed(now);
        if std::mem::take(&mut self.again) {
            self.wanted(now);
        }
    }

    pub(super) fn registration_failed(&mut self, failure: Failure, now: Now) {
        let Service::Registering { tried, refused, why, .. } = self.service else { return };
        let refused = refused || failure == Failure::Credential;
        if matches!(failure, Failure::Credential | Failure::Early) && tried + 1 < self.credentials {
            self.service = Service::Registering { tried: tried + 1, refused, sent: false, why };
            return;
        }
        let next = if std::mem::take(&mut self.again) { Why::Wanted } else { why };
        if why != Why::Renewal {
            uncounted(self.rung(why));
        }
        let passes = match failure {
            Failure::Passing { retry_after } => {
                self.hold_off(retry_after, now);
                true
            }
            // If nothing was sent at all. The clock may be set at any moment.
            Failure::Early => !refused,
            Failure::Credential | Failure::Refused => false,
        };
        let Failures { register, stuck, .. } = &mut self.memory.failures;
        let (ladder, failures, next) = match passes {
            true => (self.policy.register, increased(register), next.after_failure()),
            false => (self.policy.stuck, increased(stuck), next.after_refusal()),
        };
        let is_online = matches!(self.hub, Hub::Online { .. });
        match next {
            Why::Renewal => {
                self.pause(ladder, failures.max(self.memory.failures.renewal), next, now);
            }
            Why::Wanted => self.pause(ladder, failures, next, now),
            // The hub has accepted the device meanwhile.
            _ if is_online => {
                (self.memory.failures.register, self.memory.failures.stuck) = (0, 0);
                self.service = Service::Idle;
            }
            // Another one when the patience with the hub is over again.
            Why::Unreachable => {
                self.service = Service::Idle;
                self.be_patient_again(now);
            }
            _ => self.pause(ladder, failures, next, now),
        }
        // The hub may accept again a device that it has refused.
        if matches!(self.hub, Hub::Idle) && self.memory.place.is_some() {
            self.hub = Hub::Due { at: now.instant };
        }
        self.changed(now);
    }

    pub(super) fn looked_up(&mut self, found: Found, now: Now) {
        let Service::LookingUp { refused, .. } = self.service else { return };
        self.service = Service::Idle;
        let again = std::mem::take(&mut self.again);
        if let Found::Nothing { retry_after } = found {
            self.hold_off(retry_after, now);
            self.changed(now);
        }
        let why = match (found, refused) {
            // The hub has accepted the device meanwhile.
            _ if matches!(self.hub, Hub::Online { .. }) => None,
            // Once: if the second hub refuses the device too, the look-up does not help.
            (Found::Elsewhere(place), true)
                if self.memory.failures.refused <= 1 && matches!(self.hub, Hub::Idle) =>
            {
                self.memory.place = Some(place);
                self.hub = Hub::Due { at: now.instant };
                self.changed(now);
                None
            }
            (_, true) => Some(Why::LookedUp),
            // The hub is down, or gone: the record changes only with a registration.
            (Found::SamePlace, false) => {
                self.be_patient_again(now);
                None
            }
            (Found::Elsewhere(_) | Found::Nothing { .. }, false) => Some(Why::Unreachable),
        };
        match why {
            Some(why) => {
                let why = if again { Why::Wanted } else { why };
                self.register_after(self.policy.register, 1, why, now);
            }
            None if again => self.wanted(now),
            None => {}
        }
    }

    /// Makes a registration due because the device, its back end or its hub asks for one. Requests in quick
    /// succession get longer and longer pauses. A manager that stops keeps the request for the next start.
    pub(super) fn wanted(&mut self, now: Now) {
        // A device without an assignment registers in any case.
        self.memory.is_wanted = self.memory.place.is_some();
        if self.stopping {
            return self.changed(now);
        }
        let is_repeated =
            self.registered.is_some_and(|at| at.elapsed(now.instant) <= self.policy.register.cap());
        self.wanted = if is_repeated { self.wanted.saturating_add(1) } else { 0 };
        match self.service {
            Service::Registering { .. } | Service::LookingUp { .. } => self.again = true,
            Service::Due { why: Why::FirstBoot, .. } => {}
            Service::Due { at: sooner, why: Why::Wanted } => {
                self.register_after(self.policy.register, self.wanted, Why::Wanted, now);
                self.not_later_than(sooner);
            }
            _ => self.register_after(self.policy.register, self.wanted, Why::Wanted, now),
        }
        // A registration that begins at once saves it too.
        if !matches!(self.service, Service::Due { at, .. } if at <= now.instant) {
            self.changed(now);
        }
    }

    /// A registration that is due at `sooner` already is not postponed.
    pub(super) fn not_later_than(&mut self, sooner: Instant) {
        if let Service::Due { at, .. } = &mut self.service {
            *at = (*at).min(sooner);
        }
    }

    /// Makes a registration due after a pause that counts from the beginning of the last registration.
    pub(super) fn register_after(&mut self, ladder: Ladder, failures: u32, why: Why, now: Now) {
        let pause = self.pause_of(ladder, failures);
        let at = self.registered.map_or(now.instant, |registered| registered.and(pause));
        self.service = Service::Due { at: self.allowed(at.max(now.instant)), why };
    }

    /// Makes a registration due after a pause that begins now: the one before has failed.
    fn pause(&mut self, ladder: Ladder, failures: u32, why: Why, now: Now) {
        let at = now.instant + self.pause_of(ladder, failures);
        self.service = Service::Due { at: self.allowed(at), why };
    }

    /// Never shorter than the first pause of the register ladder, whatever the other ladders are set to.
    fn pause_of(&self, ladder: Ladder, failures: u32) -> Duration {
        ladder.pause(failures, self.seed).max(self.policy.register.shortest(1))
    }

    /// Keeps a `retry-after` of the service, also over a reboot. A random part is added, so that the devices
    /// of a fleet do not return at the same moment.
    fn hold_off(&mut self, retry_after: Option<Duration>, now: Now) {
        let Some(pause) = retry_after.filter(|pause| !pause.is_zero()) else { return };
        let pause = self.policy.register.scattered(pause.min(LONGEST_RETRY_AFTER), self.seed);
        self.memory.retry_after = Some(RetryAfter { since: now.wall, pause });
        self.not_before = Some(now.instant + pause);
    }

    /// Forgets the transport that worked if the last registration was long ago. A clock that went back does not
    /// count.
    fn forget_transport(&mut self, now: Now) {
        let since = self.memory.last_registration.map(|last| now.wall - last);
        if since.is_some_and(|since| since >= self.policy.transport_memory) {
            self.memory.transport = None;
        }
    }

    /// The first time from `at` on at which the service may be asked again.
    pub(super) fn allowed(&self, at: Instant) -> Instant {
        self.not_before.map_or(at, |not_before| at.max(not_before))
    }
}

/// Counts one more, and returns the sum.
pub(super) fn increased(count: &mut u32) -> u32 {
    *count = count.saturating_add(1);
    *count
}

/// Takes one back that was counted.
fn uncounted(count: &mut u32) {
    *count = count.saturating_sub(1);
}
