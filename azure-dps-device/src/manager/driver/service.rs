//! Registrations and look-ups: when they are due, and what follows from their outcome.

use std::time::{Duration, Instant};

use super::activity::{Hub, Service, Why};
use super::event::{Assigned, Failure, Found, Issued};
use super::moment::Moment;
use super::step::{Now, Step};
use super::{Driver, Failing, LONGEST_RETRY_AFTER};
use crate::manager::ladder::Ladder;
use crate::manager::memory::RetryAfter;

impl Driver {
    pub(super) fn service_step(&mut self, now: Now) -> Option<Step> {
        match &mut self.service {
            Service::Due { at, why: Why::Refused } if *at <= now.instant && self.can_look_up => {
                self.service = Service::LookingUp { sent: true, refused: true };
                Some(Step::LookUp(self.memory.credential))
            }
            Service::Due { at, why } if *at <= now.instant => {
                let why = *why;
                self.registered = Some(Moment::new(now));
                (self.not_before, self.memory.retry_after) = (None, None);
                self.forget_transport(now);
                self.memory.last_registration = Some(now.wall);
                self.service = Service::Registering { tried: 0, sent: true, why };
                self.changed(now);
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

    pub(super) fn assigned(&mut self, assigned: Assigned, now: Now) {
        let Service::Registering { tried, .. } = self.service else { return };
        let Assigned { place, issued, transport } = assigned;
        self.service = Service::Idle;
        self.memory.credential = (self.memory.credential + tried) % self.credentials;
        self.memory.transport = transport;
        let is_news = matches!(issued, Issued::Certificate(_)) || self.memory.place.as_ref() != Some(&place);
        self.memory.place = Some(place);
        self.hub_refusals = 0;
        self.take_certificate(issued, now);
        self.changed(now);
        match self.hub {
            Hub::Idle | Hub::Due { .. } => self.hub = Hub::Due { at: now.instant },
            Hub::Connecting { .. } | Hub::Online { .. } if is_news => self.close(now),
            _ => {}
        }
        if std::mem::take(&mut self.again) {
            self.wanted(now);
        }
    }

    pub(super) fn registration_failed(&mut self, failure: Failure, now: Now) {
        let Service::Registering { tried, why, .. } = self.service else { return };
        let next = if self.again { Why::Wanted } else { why };
        match failure {
            Failure::Refused if tried + 1 < self.credentials => {
                self.service = Service::Registering { tried: tried + 1, sent: false, why };
                return;
            }
            Failure::Refused => {
                let failures = increased(&mut self.memory.failures.stuck).max(self.renewal_failures(why));
                self.register_after(self.policy.stuck, failures, next.after_refusal(), now);
            }
            Failure::Passing { retry_after } => {
                let failures = increased(&mut self.memory.failures.register).max(self.renewal_failures(why));
                self.hold_off(retry_after, now);
                self.register_after(self.policy.register, failures, next.after_failure(), now);
            }
        }
        self.again = false;
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
        match (found, refused) {
            // The hub has accepted the device meanwhile.
            (_, true) if matches!(self.hub, Hub::Online { .. }) => {}
            // Once: if the second hub refuses the device too, the look-up does not help.
            (Found::Elsewhere(place), true)
                if self.memory.failures.refused <= 1 && matches!(self.hub, Hub::Idle) =>
            {
                self.memory.place = Some(place);
                self.hub = Hub::Due { at: now.instant };
                self.changed(now);
            }
            (_, true) => {
                let why = if again { Why::Wanted } else { Why::LookedUp };
                return self.register_after(self.policy.register, 1, why, now);
            }
            (found, false) => {
                // The hub may be back meanwhile.
                if !matches!(self.hub, Hub::Online { .. }) {
                    let since = Moment::new(now);
                    self.failing = Some(Failing { since, is_confirmed: true, is_tried: true });
                }
                if matches!(found, Found::Elsewhere(_) | Found::Unassigned) {
                    return self.wanted(now);
                }
            }
        }
        if again {
            self.wanted(now);
        }
    }

    /// Makes a registration due because the device, its back end or its hub asks for one. Requests in quick
    /// succession get longer and longer pauses.
    pub(super) fn wanted(&mut self, now: Now) {
        if self.stopping {
            return;
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
    }

    /// A registration that is due at `sooner` already is not postponed.
    pub(super) fn not_later_than(&mut self, sooner: Instant) {
        if let Service::Due { at, .. } = &mut self.service {
            *at = (*at).min(sooner);
        }
    }

    /// Makes a registration due after a pause that counts from the last registration.
    pub(super) fn register_after(&mut self, ladder: Ladder, failures: u32, why: Why, now: Now) {
        // Never shorter than the first pause of the register ladder, whatever the other ladders are set to.
        let pause = ladder.pause(failures, self.seed).max(self.policy.register.shortest(1));
        let at = self.registered.map_or(now.instant, |registered| registered.and(pause));
        self.service = Service::Due { at: self.allowed(at.max(now.instant)), why };
    }

    /// Keeps a `retry-after` of the service, also over a reboot.
    fn hold_off(&mut self, retry_after: Option<Duration>, now: Now) {
        let Some(pause) = retry_after.filter(|pause| !pause.is_zero()) else { return };
        let asked = RetryAfter { since: now.wall, pause: pause.min(LONGEST_RETRY_AFTER) };
        self.memory.retry_after = Some(asked);
        self.not_before = Some(now.instant + asked.pause);
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
