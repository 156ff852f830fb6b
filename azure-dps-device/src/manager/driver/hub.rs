//! Connections to the hub: when they are due, and what follows from their end.

use std::time::Duration;

use super::activity::{Hub, Service, Why};
use super::event::Event;
use super::moment::Moment;
use super::service::increased;
use super::step::{Login, Now, Step};
use super::{Driver, Failing, LONGEST_LIMIT};
use crate::manager::connector::EndReason;
use crate::manager::memory::Failures;
use crate::manager::policy::ManagerPolicy;

impl Driver {
    pub(super) fn hub_step(&mut self, now: Now) -> Option<Step> {
        match &mut self.hub {
            Hub::Due { at } if *at <= now.instant => {
                let login = self.login(now)?;
                let until = now.instant + self.policy.hub_connect_timeout.min(LONGEST_LIMIT);
                self.hub = Hub::Connecting { login, until };
                Some(Step::Connect(login))
            }
            Hub::Closing { asked: asked @ false, .. } => {
                *asked = true;
                Some(Step::CloseHub)
            }
            _ => None,
        }
    }

    pub(super) fn hub_timeout(&mut self, now: Now) -> Option<Step> {
        match self.hub {
            Hub::Connecting { until, .. } if until <= now.instant => {
                self.on(Event::HubEnded(EndReason::Unreachable), now);
                Some(Step::DropHub)
            }
            Hub::Closing { until, .. } if until <= now.instant => {
                self.on(Event::HubEnded(EndReason::Closed), now);
                Some(Step::DropHub)
            }
            _ => None,
        }
    }

    pub(super) fn connected(&mut self, now: Now) {
        let Hub::Connecting { login, .. } = self.hub else { return };
        self.hub_refusals = 0;
        self.has_no_key = false;
        self.failing = None;
        self.memory.failing_since = None;
        self.progress = None;
        // Only a certificate that the hub accepts ends the failures of renewals, and only a registration those
        // of one that was asked for.
        let Failures { register, stuck, renewal, .. } = self.memory.failures;
        let (register, stuck) = if self.memory.is_wanted { (register, stuck) } else { (0, 0) };
        self.memory.failures = Failures { register, stuck, renewal, ..Failures::default() };
        let login = match login {
            Login::Credential(index) => {
                self.memory.credential = index;
                login
            }
            Login::Candidate => {
                self.accept_candidate(now);
                Login::Proven
            }
            Login::Proven => {
                self.end_renewal(now);
                login
            }
        };
        self.hub = Hub::Online { login };
        if matches!(self.service, Service::Due { why, .. } if why.ends_with_a_connection()) {
            self.service = Service::Idle;
        }
        self.changed(now);
    }

    pub(super) fn hub_ended(&mut self, why: EndReason, now: Now) {
        let (login, was_closing) = match self.hub {
            Hub::Connecting { login, .. } | Hub::Online { login } => (Some(login), false),
            Hub::Closing { .. } => (None, true),
            Hub::Idle | Hub::Due { .. } => return,
        };
        self.hub = Hub::Idle;
        self.passes_over_candidate = false;
        if matches!(login, Some(Login::Proven | Login::Candidate)) {
            // Its key was read, whatever came of the connection.
            self.has_no_key = false;
        }
        if why == EndReason::ProvisionAnew {
            self.wanted(now);
        }
        if self.stopping {
            return;
        }
        match why {
            EndReason::TakenOver => self.stop(now),
            // The manager wanted the end, for whatever reason it came.
            _ if was_closing => self.hub = Hub::Due { at: now.instant },
            EndReason::Refused => self.refused(login, now),
            EndReason::Unreachable | EndReason::Lost => self.unreachable(now),
            EndReason::Closed | EndReason::ProvisionAnew => self.connect_after(1, now),
        }
    }

    fn refused(&mut self, login: Option<Login>, now: Now) {
        match login {
            Some(Login::Candidate) if self.drop_candidate(now) => {
                self.hub = Hub::Due { at: now.instant };
                return;
            }
            Some(Login::Credential(_)) if self.hub_refusals + 1 < self.credentials => {
                self.hub_refusals += 1;
                self.hub = Hub::Due { at: now.instant };
                return;
            }
            _ => {}
        }
        self.hub_refusals = 0;
        let failures = increased(&mut self.memory.failures.refused);
        match self.service {
            // Its outcome decides, or the pause until then.
            Service::Registering { .. }
            | Service::Due { why: Why::Failed | Why::Stuck | Why::Refused | Why::Wanted, .. } => {}
            Service::LookingUp { ref mut refused, .. } => *refused = true,
            Service::Due { at: sooner, .. } => {
                self.register_after(self.policy.refused, failures, Why::Refused, now);
                self.not_later_than(sooner);
            }
            Service::Idle => self.register_after(self.policy.refused, failures, Why::Refused, now),
        }
        self.try_hub_meanwhile(now);
        self.changed(now);
    }

    /// While the service does not want to be asked, a hub that refused the device may accept it again.
    pub(super) fn try_hub_meanwhile(&mut self, now: Now) {
        let pause = self.policy.refused.pause(self.memory.failures.refused, self.seed);
        let at = now.instant + pause;
        if self.allowed(at) > at && matches!(self.service, Service::Due { .. }) {
            self.hub = Hub::Due { at };
        }
    }

    /// The key store does not answer, and may do so later: the certificate stays, and another one is asked for.
    pub(super) fn key_unreadable(&mut self, now: Now) {
        let Hub::Connecting { login, .. } = self.hub else { return };
        self.hub = Hub::Idle;
        if matches!(self.service, Service::Idle) {
            let failures = increased(&mut self.memory.failures.renewal);
            let at = now.instant + self.policy.stuck.pause(failures, self.seed);
            self.service = Service::Due { at: self.allowed(at), why: Why::Renewal };
        }
        match (login, self.has_valid_proven(now)) {
            (Login::Candidate, true) => {
                self.passes_over_candidate = true;
                self.hub = Hub::Due { at: now.instant };
            }
            _ => {
                self.passes_over_candidate = false;
                self.has_no_key = true;
                self.unreachable(now);
            }
        }
        self.changed(now);
    }

    fn unreachable(&mut self, now: Now) {
        let failures = increased(&mut self.memory.failures.hub);
        let failing = self.failing.get_or_insert(Failing { since: Moment::new(now), is_tried: true });
        failing.is_tried = true;
        if failing.since.elapsed(now.instant) > self.policy.hub.cap() {
            self.remember_failing(now);
            self.changed(now);
        }
        self.connect_after(failures, now);
    }

    /// Notes since when the hub fails, so that a device that sleeps does not start anew each time.
    pub(super) fn remember_failing(&mut self, now: Now) {
        let Some(Failing { since, .. }) = self.failing else { return };
        let elapsed = since.elapsed(now.instant).try_into().unwrap_or_default();
        self.memory.failing_since.get_or_insert(now.wall.saturating_sub(elapsed));
    }

    /// Asks the service about a hub that cannot be reached, once the patience with it is over: first for the
    /// record, which costs nothing, and later by registrations, because only a registration changes the record.
    pub(super) fn check_patience(&mut self, now: Now) {
        let Some(failing) = self.failing.filter(|_| matches!(self.service, Service::Idle)) else { return };
        let is_due = failing.is_tried && self.is_patience_over(failing.since.elapsed(now.instant));
        if !is_due || self.stopping || matches!(self.hub, Hub::Online { .. }) {
            return;
        }
        if self.allowed(now.instant) > now.instant {
            return;
        }
        let asked = increased(&mut self.memory.failures.asked);
        self.be_patient_again(now);
        self.memory.failing_since = Some(now.wall);
        self.progress = None;
        if asked == 1 && self.can_look_up {
            self.service = Service::LookingUp { sent: false, refused: false };
            self.changed(now);
        } else {
            self.register_after(self.policy.register, 1, Why::Unreachable, now);
        }
    }

    fn is_patience_over(&self, elapsed: Duration) -> bool {
        let ManagerPolicy { hub_failures, hub_patience, hub_limit, refused, .. } = self.policy;
        match self.memory.failures {
            Failures { asked: 0, hub, .. } => {
                elapsed >= hub_limit || (hub >= hub_failures && elapsed >= hub_patience)
            }
            Failures { asked, .. } => elapsed >= hub_limit.max(refused.pause(asked, self.seed)),
        }
    }

    /// A hub that cannot be reached gets time until the service is asked about it again.
    pub(super) fn be_patient_again(&mut self, now: Now) {
        if let Some(failing) = &mut self.failing {
            failing.since = Moment::new(now);
        }
    }

    fn connect_after(&mut self, failures: u32, now: Now) {
        self.hub = Hub::Due { at: now.instant + self.policy.hub.pause(failures, self.seed) };
    }

    pub(super) fn close(&mut self, now: Now) {
        let until = now.instant + self.policy.hub_close_timeout.min(LONGEST_LIMIT);
        self.hub = Hub::Closing { until, asked: false };
    }
}
