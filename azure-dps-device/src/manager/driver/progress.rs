//! When to save how much of a wait has passed: after 1, 2, 4, 8 minutes and so on. For devices whose clock starts
//! anew with each boot, and which are on for minutes only.

use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    since: Instant,
    next: Duration,
}

impl Progress {
    pub(super) fn new(since: Instant) -> Self {
        Self { since, next: Duration::from_secs(60) }
    }

    /// When to save next.
    pub(super) fn at(self) -> Instant {
        self.since + self.next
    }

    /// Whether it is time to save.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.at() <= now;
        while self.at() <= now {
            self.next = self.next.saturating_mul(2);
        }
        is_due
    }
}
