//! The time as the emulator sees it, and how the service writes it.

use std::time::{Duration, Instant, SystemTime};

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

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

    /// The time by this clock and by that of the machine.
    pub(crate) fn moment(self) -> Moment {
        Moment { told: self.now(), machine: Some(Instant::now()) }
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

/// A time, or one that lies ahead.
#[derive(Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) told: OffsetDateTime,
    /// None is later than every other.
    machine: Option<Instant>,
}

impl Moment {
    pub(crate) fn after(self, wait: Duration) -> Self {
        let told = time::Duration::try_from(wait).unwrap_or(time::Duration::MAX);
        let machine = self.machine.and_then(|machine| machine.checked_add(wait));
        Moment { told: self.told.saturating_add(told), machine }
    }

    /// Tells whether a time has come by either clock: nobody waits longer because the emulator's stands still, and a test
    /// need not wait that turns it forward.
    pub(crate) fn has_reached(self, due: Self) -> bool {
        let by_machine = self.machine.zip(due.machine).is_some_and(|(machine, due)| machine >= due);
        by_machine || self.told >= due.told
    }
}

/// Writes a time with at most seven fractional digits, of which the last one is not 0, and `Z`.
pub(crate) fn timestamp(time: OffsetDateTime) -> String {
    let digits = time.format(TIMESTAMP).unwrap_or_default();
    format!("{}Z", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Writes a time as HTTP does, to the second.
pub(crate) fn http_date(time: OffsetDateTime) -> String {
    time.to_offset(UtcOffset::UTC).format(HTTP_DATE).unwrap_or_default()
}

const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]");

const HTTP_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_time_is_written_as_http_does() {
        assert_eq!(http_date(datetime!(1994-11-06 08:49:37.9 UTC)), "Sun, 06 Nov 1994 08:49:37 GMT");
    }

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
    fn a_time_has_come_when_either_clock_says_so() {
        let instant = Instant::now();
        let at = |told: u64, machine: u64| Moment {
            told: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(told),
            machine: instant.checked_add(Duration::from_secs(machine)),
        };
        let due = at(100, 0).after(Duration::from_secs(3));
        for (told, machine, has_come) in
            [(100, 0, false), (102, 2, false), (103, 0, true), (100, 3, true), (0, 2, false), (0, 3, true)]
        {
            assert_eq!(at(told, machine).has_reached(due), has_come, "{told} {machine}");
        }
        assert!(at(100, 0).has_reached(at(100, 0).after(Duration::ZERO)));
        assert!(!at(100, 0).has_reached(at(100, 0).after(Duration::MAX)));
    }

    #[test]
    fn times_that_cannot_be_shown_are_no_trouble() {
        let mut clock = Clock::default();

        clock.advance(Duration::MAX);

        assert_eq!(clock.now(), OffsetDateTime::UNIX_EPOCH);
    }
}
