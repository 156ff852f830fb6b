//! How much of a wait that a reboot interrupted has passed: saved after 1, 2, 4, 8 minutes and so on, for devices
//! whose clock starts anew with each boot and which are on for minutes only.

use std::time::{Duration, Instant};

use super::Driver;
use super::activity::{Service, Why};
use super::step::Now;

#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    since: Instant,
    next: Duration,
}

impl Progress {
    pub(super) fn at(self) -> Instant {
        self.since + self.next
    }
}

impl Driver {
    /// Watches the wait that the reboot has interrupted, if there is one.
    pub(super) fn watch_progress(&mut self, now: Now) {
        let is_waiting = match self.service {
            Service::Due { at, why } => at > now.instant && why != Why::FirstBoot,
            _ => false,
        };
        if is_waiting || self.failing.is_some() {
            self.progress = Some(Progress { since: now.instant, next: FIRST });
        }
    }

    pub(super) fn save_progress(&mut self, now: Now) {
        let Some(progress) = &mut self.progress else { return };
        if progress.at() > now.instant {
            return;
        }
        while progress.at() <= now.instant {
            progress.next = progress.next.saturating_mul(2);
        }
        if self.save_failures == 0 {
            self.save_at = Some(now.instant);
        }
    }
}

const FIRST: Duration = Duration::from_secs(60);
