//! How a registration waits and tries again: a value.

use std::time::Duration;

use azure_dps_core::{Backoff, RetryPolicy};

/// How a registration waits and tries again.
///
/// ```
/// use std::time::Duration;
/// use azure_dps_device::RegistrationPolicy;
///
/// let policy = RegistrationPolicy::default().poll(Duration::from_secs(5)).connects(1);
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrationPolicy {
    pub(crate) retry: RetryPolicy,
    pub(crate) poll: Duration,
    pub(crate) min_poll: Duration,
    pub(crate) connects: u32,
}

impl RegistrationPolicy {
    /// The defaults that the setters name.
    pub const fn new() -> Self {
        Self {
            retry: RetryPolicy::new(),
            poll: Duration::from_secs(2),
            min_poll: Duration::from_secs(1),
            connects: 3,
        }
    }

    /// How failed requests are repeated; registering and polling count apart. A throttled request is repeated
    /// until the deadline and does not count, unless the policy has no retries. Default [`RetryPolicy::new`].
    #[must_use]
    pub const fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// The pause before a poll when the service names none. Default 2 s.
    #[must_use]
    pub const fn poll(mut self, pause: Duration) -> Self {
        self.poll = pause;
        self
    }

    /// The shortest pause between two requests, whatever the service says. Default 1 s; the service allows five polls
    /// in ten seconds.
    #[must_use]
    pub const fn min_poll(mut self, pause: Duration) -> Self {
        self.min_poll = pause;
        self
    }

    /// How often in a row a connection may fail before the registration does. Default 3.
    #[must_use]
    pub const fn connects(mut self, connects: u32) -> Self {
        self.connects = connects;
        self
    }

    /// The pauses between connections that fail in a row.
    pub(crate) fn reconnect(self, seed: u64) -> Backoff {
        self.retry.retries(self.connects.saturating_sub(1)).start(seed)
    }
}

impl Default for RegistrationPolicy {
    fn default() -> Self {
        Self::new()
    }
}
