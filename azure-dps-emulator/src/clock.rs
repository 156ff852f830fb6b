//! The time as the emulator sees it, and how the service writes it.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Where the service reads the time; rules get it as an argument.
#[derive(Clone, Copy, Default)]
pub(crate) struct Clock {
    /// Where it stands still; without it the time of the system passes.
    still: Option<SystemTime>,
    ahead: Duration,
}

impl Clock {
    /// Times that a calendar of four-digit years cannot show read as 1970.
    pub(crate) fn now(self) -> OffsetDateTime {
        let time = self.still.unwrap_or_else(SystemTime::now).checked_add(self.ahead);
        let nanos = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let nanos = nanos.and_then(|since| i128::try_from(since.as_nanos()).ok());
        nanos
            .and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Stops the clock at a time.
    pub(crate) fn set(&mut self, time: SystemTime) {
        *self = Clock { still: Some(time), ahead: Duration::ZERO };
    }

    /// Turns it forward; if it was not stopped it goes on from there.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_add(by);
    }
}

/// Writes a time with at most seven fractional digits, of which the last one is not 0, and `Z`.
pub(crate) fn timestamp(time: OffsetDateTime) -> String {
    let digits = time.format(TIMESTAMP).unwrap_or_default();
    format!("{}Z", digits.trim_end_matches('0').trim_end_matches('.'))
}

const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]");

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn timestamps_have_up_to_seven_fractional_digits_and_no_zeros_at_their_end() {
        assert_eq!(timestamp(datetime!(2026-05-04 09:15:20 UTC)), "2026-05-04T09:15:20Z");
        assert_eq!(timestamp(datetime!(2026-05-04 09:15:27.05 UTC)), "2026-05-04T09:15:27.05Z");
        assert_eq!(timestamp(datetime!(2026-05-04 09:15:27.000_000_01 UTC)), "2026-05-04T09:15:27Z");
        assert_eq!(timestamp(datetime!(2026-05-04 09:15:27.123_456_789 UTC)), "2026-05-04T09:15:27.1234567Z");
    }

    #[test]
    fn a_clock_that_was_set_stands_still_until_it_is_advanced() {
        let mut clock = Clock::default();

        clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        assert_eq!(clock.now().unix_timestamp(), 1_000);
        clock.advance(Duration::from_secs(5));
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now().unix_timestamp(), 1_010);
    }

    #[test]
    fn a_clock_that_was_only_advanced_goes_on() {
        let mut clock = Clock::default();

        clock.advance(Duration::from_secs(3_600));

        let ahead = clock.now() - OffsetDateTime::now_utc();
        assert!((3_590..=3_600).contains(&ahead.whole_seconds()), "{ahead}");
    }

    #[test]
    fn times_that_cannot_be_shown_are_no_trouble() {
        let mut clock = Clock::default();

        clock.advance(Duration::MAX);

        assert_eq!(clock.now(), OffsetDateTime::UNIX_EPOCH);
    }
}
