//! How a manager waits, and when it gives a way up: a value.

use std::time::Duration;

use azure_dps_core::RenewalPolicy;

use super::ladder::Ladder;

/// How a [`ProvisioningManager`](super::ProvisioningManager) waits, and when it gives a way up.
///
/// ```
/// use std::time::Duration;
/// use azure_dps_device::manager::ManagerPolicy;
///
/// let policy = ManagerPolicy::default().with_first_boot_window(Duration::ZERO);
/// # let _ = policy;
/// ```
///
/// | default | source |
/// | --- | --- |
/// | first-boot window of 60 s | the quota of an instance: 1,000 registrations a minute |
/// | register and hub ladder of 1 s to 60 s, 20 % | Azure IoT device SDK of 2026: its connection retry policy |
/// | stuck ladder of 1 minute to 1 hour, 25 % | this library; the longest pause and the spread of the refused ladder |
/// | refused ladder of 5 minutes to 1 hour, 25 % | the same SDK: its policy for refused identities |
/// | 10 failures | this library: a device that slept does not count the time |
/// | 15 minutes, 30 minutes | "Best practices for large-scale IoT device deployments" |
/// | 1 day for the transport that worked | this library |
/// | certificates at 80 % of their life | see [`RenewalPolicy`] |
/// | 5 minutes, 2 minutes, 10 s for an attempt to register, to connect and to close | this library: longer than slow networks need |
///
/// The page names 15 to 30 minutes at a hub that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManagerPolicy {
    pub(crate) first_boot_window: Duration,
    pub(crate) register: Ladder,
    pub(crate) stuck: Ladder,
    pub(crate) refused: Ladder,
    pub(crate) hub: Ladder,
    pub(crate) hub_failures: u32,
    pub(crate) hub_patience: Duration,
    pub(crate) hub_limit: Duration,
    pub(crate) registration_timeout: Duration,
    pub(crate) hub_connect_timeout: Duration,
    pub(crate) hub_close_timeout: Duration,
    pub(crate) transport_memory: Duration,
    pub(crate) renewal: RenewalPolicy,
}

impl ManagerPolicy {
    /// Returns the defaults that the setters name.
    pub const fn new() -> Self {
        Self {
            first_boot_window: Duration::from_secs(60),
            register: Ladder::new(Duration::from_secs(1), MINUTE, 20),
            stuck: Ladder::new(MINUTE, HOUR, 25),
            refused: Ladder::new(Duration::from_secs(5 * 60), HOUR, 25),
            hub: Ladder::new(Duration::from_secs(1), MINUTE, 20),
            hub_failures: 10,
            hub_patience: Duration::from_secs(15 * 60),
            hub_limit: Duration::from_secs(30 * 60),
            registration_timeout: Duration::from_secs(5 * 60),
            hub_connect_timeout: Duration::from_secs(2 * 60),
            hub_close_timeout: Duration::from_secs(10),
            transport_memory: Duration::from_secs(24 * 3600),
            renewal: RenewalPolicy::new(),
        }
    }

    /// Sets the window over which the first registrations of a fleet are spread. A device waits for a part of
    /// it that a hash of its registration id gives. Default 60 s: an instance accepts 1,000 registrations a
    /// minute. A fleet of 10,000 devices that starts at once needs 10 minutes.
    #[must_use]
    pub const fn with_first_boot_window(mut self, window: Duration) -> Self {
        self.first_boot_window = window;
        self
    }

    /// Sets the pauses after registrations that failed for a reason that passes: no connection, a timeout, a
    /// throttled or failing service. They begin with the failure. Default 1 s to 60 s, spread 20 %. A
    /// `retry-after` of the service, with a random part of the spread, is the shortest pause, beyond the longest
    /// one too, up to a day. It also holds for look-ups and for registrations
    /// that the application asks for, and after a reboot.
    #[must_use]
    pub const fn with_register_ladder(mut self, ladder: Ladder) -> Self {
        self.register = ladder;
        self
    }

    /// Sets the pauses after registrations that the service refused with all credentials, such as not enrolled,
    /// disabled or a wrong key, and after those whose assignment cannot be used. Default 1 minute to 1 hour,
    /// spread 25 %.
    #[must_use]
    pub const fn with_stuck_ladder(mut self, ladder: Ladder) -> Self {
        self.stuck = ladder;
        self
    }

    /// Sets the pauses between registrations of a device that its hub refuses. They count from the last
    /// registration, so that a device that was refused after weeks registers at once. Default 5 minutes to
    /// 1 hour, spread 25 %.
    #[must_use]
    pub const fn with_refused_ladder(mut self, ladder: Ladder) -> Self {
        self.refused = ladder;
        self
    }

    /// Sets the pauses between attempts to reach the hub. Default 1 s to 60 s, spread 20 %.
    #[must_use]
    pub const fn with_hub_ladder(mut self, ladder: Ladder) -> Self {
        self.hub = ladder;
        self
    }

    /// Sets when the manager asks the service about a hub that it cannot reach: after `failures` failures if
    /// `patience` has passed since the first, and after `limit` in any case. Default 10 failures, 15 minutes,
    /// 30 minutes. If the service names the same hub, the manager registers after another `limit`, because only a
    /// registration finds another hub. It repeats that after the pauses of the refused ladder, but not before
    /// another `limit`.
    #[must_use]
    pub const fn with_hub_patience(mut self, failures: u32, patience: Duration, limit: Duration) -> Self {
        (self.hub_failures, self.hub_patience, self.hub_limit) = (failures, patience, limit);
        self
    }

    /// Sets how long one registration or look-up may take. Default 5 minutes.
    #[must_use]
    pub const fn with_registration_timeout(mut self, limit: Duration) -> Self {
        self.registration_timeout = limit;
        self
    }

    /// Sets how long a [`HubConnector`](super::HubConnector) may take until it reports that it is connected.
    /// Default 2 minutes. Then the manager drops it and counts the hub as unreachable.
    #[must_use]
    pub const fn with_hub_connect_timeout(mut self, limit: Duration) -> Self {
        self.hub_connect_timeout = limit;
        self
    }

    /// Sets how long a [`HubConnector`](super::HubConnector) may take to end after it was asked to. Default
    /// 10 s. Then the manager drops it.
    #[must_use]
    pub const fn with_hub_close_timeout(mut self, limit: Duration) -> Self {
        self.hub_close_timeout = limit;
        self
    }

    /// Sets for how long after a registration the transport that worked is tried first. Default 1 day. A later
    /// registration begins again with the first transport of [`Auto`](crate::Auto), because a port that was
    /// blocked may be open.
    #[must_use]
    pub const fn with_transport_memory(mut self, time: Duration) -> Self {
        self.transport_memory = time;
        self
    }

    /// Sets when an issued certificate is renewed. Default [`RenewalPolicy::new`]: at 80 % of its life, spread
    /// over the 5 % before.
    #[must_use]
    pub const fn with_renewal(mut self, renewal: RenewalPolicy) -> Self {
        self.renewal = renewal;
        self
    }
}

impl Default for ManagerPolicy {
    fn default() -> Self {
        Self::new()
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
