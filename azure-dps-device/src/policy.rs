//! How a registration waits and retries: a value.

use std::time::Duration;

use azure_dps_core::RetryPolicy;
use azure_dps_core::plumbing::Backoff;

/// How a registration waits and retries.
///
/// ```
/// use std::time::Duration;
/// use azure_dps_device::RegistrationPolicy;
///
/// let policy = RegistrationPolicy::default()
///     .with_poll_interval(Duration::from_secs(5))
///     .with_connect_attempts(1);
/// # let _ = policy;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrationPolicy {
    retry: RetryPolicy,
    poll_interval: Duration,
    min_poll_interval: Duration,
    connect_attempts: u32,
    returns_when_throttled: bool,
}

impl RegistrationPolicy {
    /// Returns the defaults that the setters name.
    pub const fn new() -> Self {
        Self {
            retry: RetryPolicy::new(),
            poll_interval: Duration::from_secs(2),
            min_poll_interval: Duration::from_secs(1),
            connect_attempts: 3,
            returns_when_throttled: false,
        }
    }

    /// Sets how failed requests are repeated; registering and polling count separately. Default
    /// [`RetryPolicy::new`]. A throttled request does not count and is repeated until the deadline, unless
    /// the policy has no retries.
    #[must_use]
    pub const fn with_retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets the pause before a poll when the service does not name one. Default 2 s.
    #[must_use]
    pub const fn with_poll_interval(mut self, pause: Duration) -> Self {
        self.poll_interval = pause;
        self
    }

    /// Sets the shortest pause between two requests. Default 1 s; the service allows five polls in ten
    /// seconds.
    ///
    /// A service that states `retry-after: 0` while the registration is running, as the emulator does, is
    /// polled at once, twice; then the pause grows from a sixteenth of this interval to the whole.
    #[must_use]
    pub const fn with_min_poll_interval(mut self, pause: Duration) -> Self {
        self.min_poll_interval = pause;
        self
    }

    /// Sets how many attempts to connect may fail in a row before the registration fails. Default 3. A reply
    /// ends the row, but the pauses between the connections of one registration keep growing.
    #[must_use]
    pub const fn with_connect_attempts(mut self, attempts: u32) -> Self {
        self.connect_attempts = attempts;
        self
    }

    /// How failed requests are repeated.
    pub const fn retry(&self) -> RetryPolicy {
        self.retry
    }

    /// The pause before a poll when the service does not name one.
    pub const fn poll_interval(&self) -> Duration {
        self.poll_interval
    }

    /// The shortest pause between two requests, unless the service states `retry-after: 0`.
    pub const fn min_poll_interval(&self) -> Duration {
        self.min_poll_interval
    }

    /// How many attempts to connect may fail in a row before the registration fails.
    pub const fn connect_attempts(&self) -> u32 {
        self.connect_attempts
    }

    /// A registration or a look-up that the service throttles ends with that error: the caller waits.
    #[cfg(feature = "manager")]
    pub(crate) const fn returning_when_throttled(mut self) -> Self {
        self.returns_when_throttled = true;
        self
    }

    /// Whether the caller waits when the service throttles.
    pub(crate) const fn returns_when_throttled(self) -> bool {
        self.returns_when_throttled
    }

    /// The pauses between connections that fail in a row.
    pub(crate) fn reconnect(self, seed: u64) -> Backoff {
        self.retry.with_retries(self.connect_attempts.saturating_sub(1)).start(seed)
    }
}

impl Default for RegistrationPolicy {
    fn default() -> Self {
        Self::new()
    }
}
