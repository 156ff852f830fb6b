//! Limits the log lines about connections that could not be accepted: one at once, then one a second with
//! their number.

use std::time::Duration;

use tokio::time::Instant;

/// Connections that could not be accepted.
#[derive(Debug, Default)]
pub(super) struct Refused {
    count: u64,
    reported: Option<Instant>,
}

impl Refused {
    /// Counts a connection. If a report is due, returns how many there were since the last one.
    pub(super) fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.reported.is_some_and(|reported| now.duration_since(reported) < PAUSE) {
            return None;
        }
        self.reported = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

/// The time between two reports.
const PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_is_logged_at_once_and_later_ones_once_a_second() {
        let (mut refused, start) = (Refused::default(), Instant::now());
        let millis = [0, 10, 500, 999, 1_000, 1_500, 9_000, 9_001];

        let reports = millis.map(|millis| refused.count(start + Duration::from_millis(millis)));

        assert_eq!(reports, [Some(1), None, None, None, Some(4), None, Some(2), None]);
    }
}
