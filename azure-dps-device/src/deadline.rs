//! The time that a registration or a look-up may take.

use std::time::{Duration, Instant};

/// When an operation began, and how long it may take from then on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    started: Instant,
    limit: Duration,
}

impl Deadline {
    /// A limit beyond a year counts as a year: a longer one would overflow the clock.
    pub(crate) fn new(started: Instant, limit: Duration) -> Self {
        Self { started, limit: limit.min(LONGEST) }
    }

    /// When the time is over.
    pub(crate) fn at(self) -> Instant {
        self.started + self.limit
    }

    pub(crate) fn started(self) -> Instant {
        self.started
    }

    pub(crate) fn limit(self) -> Duration {
        self.limit
    }
}

const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
