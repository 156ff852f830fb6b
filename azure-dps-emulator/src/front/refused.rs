//! When the log hears that connections could not be accepted: at once, then once a second with how many there were.

use std::time::Duration;

use tokio::time::Instant;

/// Connections that could not be accepted.
#[derive(Debug, Default)]
pub(super) struct Refused {
    count: u64,
    reported: Option<Instant>,
}

impl Refused {
    /// Counts one more; returns how many there were since the last report when a report is due.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.reported.is_some_and(|reported| now.duration_since(reported) < PAUSE) {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// Between two reports.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_hears_of_the_first_one_at_once_and_then_once_a_second() {
        let (mut refused, start) = (Refused::default(), Instant::now());
        let millis = [0, 10, 500, 999, 1_000, 1_500, 9_000, 9_001];

        let reports = millis.map(|millis| refused.count(start + Duration::from_millis(millis)));

        assert_eq!(reports, [Some(1), None, None, None, Some(4), None, Some(2), None]);
    }
}
