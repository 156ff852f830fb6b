//! Moments on the monotonic clock that a reboot may have interrupted.

use std::time::{Duration, Instant};

use time::OffsetDateTime;

use super::step::Now;

/// A moment before which the monotonic clock may not have run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    at: Instant,
    /// The time that had passed at `at`.
    passed: Duration,
}

impl Moment {
    pub(super) fn new(now: Now) -> Self {
        Self { at: now.instant, passed: Duration::ZERO }
    }

    /// A moment on the wall clock, which is not in the future.
    pub(super) fn of(wall: OffsetDateTime, now: Now) -> Self {
        let passed = Duration::try_from(now.wall - wall).unwrap_or_default();
        Self { at: now.instant, passed }
    }

    pub(super) fn and(self, pause: Duration) -> Instant {
        self.at + pause.saturating_sub(self.passed)
    }

    pub(super) fn elapsed(self, now: Instant) -> Duration {
        now.saturating_duration_since(self.at).saturating_add(self.passed)
    }
}
