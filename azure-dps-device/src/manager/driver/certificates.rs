//! Issued certificates: which one signs in, and when it is renewed.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::Driver;
use super::activity::{Hub, Service, Why};
use super::event::Issued;
use super::service::increased;
use super::step::{Login, Now};
use crate::manager::memory::{Certificate, Memory};

impl Driver {
    /// Makes a registration due when a certificate has to be renewed, when none is left that is valid, or when
    /// the last one could not be used.
    pub(super) fn check_certificates(&mut self, now: Now) {
        if self.stopping {
            return;
        }
        let is_usable = self.certificate(now).is_some();
        let is_wanted = match self.newest() {
            Some(newest) => !is_usable || self.is_due(newest, now),
            None => self.memory.failures.renewal > 0,
        };
        match self.hub {
            Hub::Due { .. } if self.login(now).is_none() => self.hub = Hub::Idle,
            // The wall clock was set back: a certificate that had expired is valid again.
            Hub::Idle
                if is_usable
                    && matches!(self.service, Service::Idle | Service::Due { why: Why::Renewal, .. }) =>
            {
                self.hub = Hub::Due { at: now.instant };
            }
            _ => {}
        }
        if is_wanted && matches!(self.service, Service::Idle) {
            match self.memory.failures.renewal {
                0 => self.register_after(self.policy.register, 1, Why::Renewal, now),
                failures => self.register_after(self.policy.stuck, failures, Why::Renewal, now),
            }
        }
    }

    /// Keeps the certificate of an assignment as the candidate.
    pub(super) fn take_certificate(&mut self, issued: Issued, now: Now) {
        // The hub has refused the proven one too, else a connection would have ended the refusals.
        if self.memory.failures.refused > 0 && !matches!(issued, Issued::Certificate(_)) {
            self.memory.proven = None;
        }
        if self.has_no_key && matches!(issued, Issued::Nothing) {
            (self.memory.proven, self.memory.candidate) = (None, None);
        }
        match issued {
            Issued::Certificate(certificate) => {
                // The clock is wrong, or the policy of the enrollment: another one would not be better.
                if self.is_due(&certificate, now) || certificate.is_expired(now.wall) {
                    increased(&mut self.memory.failures.renewal);
                }
                self.memory.candidate = Some(certificate);
            }
            Issued::Unusable => {
                increased(&mut self.memory.failures.renewal);
            }
            // The enrollment does not issue certificates any more: the device signs in with its credential.
            Issued::Nothing if self.certificate(now).is_none() => {
                (self.memory.proven, self.memory.candidate) = (None, None);
                self.memory.failures.renewal = 0;
            }
            Issued::Nothing => {
                increased(&mut self.memory.failures.renewal);
            }
        }
    }

    /// The hub has accepted the candidate.
    pub(super) fn accept_candidate(&mut self, now: Now) {
        self.memory.proven = self.memory.candidate.take();
        self.end_renewal(now);
    }

    /// The hub has accepted the proven certificate. If it is the newest and not due, no other one is needed.
    pub(super) fn end_renewal(&mut self, now: Now) {
        let Memory { proven: Some(proven), candidate: None, .. } = &self.memory else { return };
        if !self.is_due(proven, now) {
            self.memory.failures.renewal = 0;
            if matches!(self.service, Service::Due { why: Why::Renewal, .. }) {
                self.service = Service::Idle;
            }
        }
    }

    /// The hub has refused the candidate. Returns whether a proven certificate is left that is valid.
    pub(super) fn drop_candidate(&mut self, now: Now) -> bool {
        self.memory.candidate = None;
        increased(&mut self.memory.failures.renewal);
        self.changed(now);
        self.certificate(now).is_some()
    }

    /// How to sign in. `None` when all certificates have expired.
    pub(crate) fn login(&self, now: Now) -> Option<Login> {
        let has_none = self.memory.candidate.is_none() && self.memory.proven.is_none();
        let index = (self.memory.credential + self.hub_refusals) % self.credentials;
        self.certificate(now).or(has_none.then_some(Login::Credential(index)))
    }

    /// The certificate to sign in with, if one is valid: the candidate, or the proven one while the clock says
    /// that the candidate is not valid yet, unless the hub has refused the proven one.
    fn certificate(&self, now: Now) -> Option<Login> {
        let Memory { candidate, proven, failures, .. } = &self.memory;
        let candidate = candidate.as_ref().filter(|candidate| !candidate.is_expired(now.wall));
        if !self.has_valid_proven(now) {
            return candidate.map(|_| Login::Candidate);
        }
        let has_begun = |certificate: &Certificate| certificate.has_begun(now.wall);
        let prefers_proven = failures.refused == 0 && proven.as_ref().is_some_and(has_begun);
        match candidate {
            None => Some(Login::Proven),
            Some(_) if self.passes_over_candidate => Some(Login::Proven),
            Some(candidate) if prefers_proven && !has_begun(candidate) => Some(Login::Proven),
            Some(_) => Some(Login::Candidate),
        }
    }

    pub(super) fn has_valid_proven(&self, now: Now) -> bool {
        self.memory.proven.as_ref().is_some_and(|certificate| !certificate.is_expired(now.wall))
    }

    fn newest(&self) -> Option<&Certificate> {
        self.memory.candidate.as_ref().or(self.memory.proven.as_ref())
    }

    /// When the newest certificate becomes due, if that is in the future.
    pub(super) fn next_renewal(&self, now: Now) -> Option<Instant> {
        let left = self.renewal(self.newest()?) - now.wall;
        let left = Duration::try_from(left).ok().filter(|left| !left.is_zero())?;
        now.instant.checked_add(left)
    }

    fn is_due(&self, certificate: &Certificate, now: Now) -> bool {
        now.wall >= self.renewal(certificate)
    }

    fn renewal(&self, certificate: &Certificate) -> OffsetDateTime {
        self.policy.renewal.moment(certificate.not_before, certificate.not_after, self.seed)
    }
}
