//! What a manager remembers over a reboot.

use std::collections::BTreeSet;
use std::time::Duration;

use azure_dps_core::plumbing::CLOCK_SKEW;
use time::OffsetDateTime;

/// All that survives a reboot. The driver changes it, and a store keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) place: Option<Place>,
    /// The index of the credential that worked last.
    pub(crate) credential: usize,
    /// The name of the transport that worked last.
    pub(crate) transport: Option<String>,
    pub(crate) failures: Failures,
    /// When the first of `failures.hub` happened, or when the service was last asked about the hub.
    pub(crate) failing_since: Option<OffsetDateTime>,
    pub(crate) last_registration: Option<OffsetDateTime>,
    /// The last `retry-after` of the service, until a registration begins.
    pub(crate) retry_after: Option<RetryAfter>,
    /// Whether the device has to be provisioned anew, until a registration succeeds.
    pub(crate) is_wanted: bool,
    /// When this was saved.
    pub(crate) saved_at: Option<OffsetDateTime>,
    /// The certificate with which the hub has accepted the device.
    pub(crate) proven: Option<Certificate>,
    /// A newer certificate, which the hub has not seen yet.
    pub(crate) candidate: Option<Certificate>,
}

impl Memory {
    /// Moves the times back if the wall clock shows an earlier time than when they were saved. What had passed
    /// by then stays passed. Returns whether they moved.
    pub(crate) fn fit(&mut self, now: OffsetDateTime) -> bool {
        let Self { saved_at, failing_since, last_registration, retry_after, .. } = self;
        let asked = retry_after.as_mut().map(|asked| &mut asked.since);
        let times = [saved_at.as_mut(), failing_since.as_mut(), last_registration.as_mut(), asked];
        let latest = times.iter().flatten().map(|time| **time).max();
        let Some(ahead) = latest.map(|latest| latest - now).filter(|ahead| ahead.is_positive()) else {
            return false;
        };
        for time in times.into_iter().flatten() {
            *time = time.saturating_sub(ahead);
        }
        true
    }

    /// The names of the private keys that are in use.
    pub(crate) fn key_names(&self) -> BTreeSet<String> {
        [&self.proven, &self.candidate].into_iter().flatten().map(|issued| issued.key.clone()).collect()
    }
}

/// Where a device is provisioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) hub: String,
    pub(crate) device_id: String,
}

/// How often something failed since the device was last connected to its hub: the position on each ladder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failures {
    pub(crate) register: u32,
    pub(crate) stuck: u32,
    pub(crate) refused: u32,
    pub(crate) hub: u32,
    /// How often the service was asked about a hub that cannot be reached.
    pub(crate) asked: u32,
    /// Renewals of the certificate. Only a renewed certificate that the hub accepts ends them.
    pub(crate) renewal: u32,
}

/// A pause that the service asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryAfter {
    /// When the service asked for it.
    pub(crate) since: OffsetDateTime,
    pub(crate) pause: Duration,
}

/// An issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// PEM, the leaf first.
    pub(crate) chain: String,
    /// The name of its key in the store of keys.
    pub(crate) key: String,
    pub(crate) not_before: OffsetDateTime,
    pub(crate) not_after: OffsetDateTime,
}

impl Certificate {
    pub(crate) fn is_expired(&self, now: OffsetDateTime) -> bool {
        now > self.not_after
    }
    /// Whether it is valid by a clock that may be a little behind.
    pub(crate) fn has_begun(&self, now: OffsetDateTime) -> bool {
        now.saturating_add(CLOCK_SKEW) >= self.not_before
    }
}
