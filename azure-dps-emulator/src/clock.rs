//! The emulator's clock, and the formats in which the service writes times.

pub(crate) mod saved;

use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// The clock of the emulator. Only the instance reads it; rules get the time as an argument.
#[derive(Clone, Copy, Default)]
pub(crate) struct Clock {
    /// The time at which it was stopped; `None` follows the system clock.
    still: Option<SystemTime>,
    ahead: Duration,
}

impl Clock {
    /// The current time. Returns 1970 for a time that does not fit a calendar with four-digit years.
    pub(crate) fn now(self) -> OffsetDateTime {
        let time = self.still.unwrap_or_else(SystemTime::now).checked_add(self.ahead);
        let nanos = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let nanos = nanos.and_then(|since| i128::try_from(since.as_nanos()).ok());
        nanos
            .and_then(|nanos| OffsetDateTime::from_unix_timestamp_nanos(nanos).ok())
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Returns whether the clock stands still until it is advanced.
    pub(crate) fn is_stopped(self) -> bool {
        self.still.is_some()
    }

    /// How long it takes until a time; `None` if the clock is stopped.
    pub(crate) fn until(self, time: OffsetDateTime) -> Option<Duration> {
        let runs = self.still.is_none();
        runs.then(|| Duration::try_from(time - self.now()).unwrap_or_default())
    }

    /// The current time by this clock and by the machine's clock.
    pub(crate) fn moment(self) -> Moment {
        Moment { shown: self.now(), machine: Some(Instant::now()) }
    }

    /// Stops the clock at a time. One before 1970 counts as the beginning of 1970.
    pub(crate) fn set(&mut self, time: SystemTime) {
        *self = Clock { still: Some(time.max(SystemTime::UNIX_EPOCH)), ahead: Duration::ZERO };
    }

    /// Moves the clock forward; a clock that was not stopped keeps running from there.
    pub(crate) fn advance(&mut self, by: Duration) {
        self.ahead = self.ahead.saturating_add(by);
    }
}

/// A point in time by two clocks.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Moment {
    /// By the emulator's clock: the time that answers show.
    #[serde(with = "crate::saved::at")]
    pub(crate) shown: OffsetDateTime,
    /// By the machine's clock; `None` is later than every time.
    #[serde(skip)]
    machine: Option<Instant>,
}

impl Moment {
    pub(crate) fn after(self, wait: Duration) -> Self {
        let ahead = time::Duration::try_from(wait).unwrap_or(time::Duration::MAX);
        let machine = self.machine.and_then(|machine| machine.checked_add(wait));
        Moment { shown: self.shown.saturating_add(ahead), machine }
    }

    /// The moment at which this time comes by the emulator's clock, if both clocks run.
    pub(crate) fn due_at(self, shown: OffsetDateTime) -> Self {
        let wait = Duration::try_from(shown - self.shown).unwrap_or_default();
        Moment { shown, ..self.after(wait) }
    }

    /// Returns whether `due` has come by either clock. So a device does not wait longer when a test stops the
    /// emulator's clock, and a test that moves the clock forward does not have to wait.
    pub(crate) fn has_reached(self, due: Self) -> bool {
        let by_machine = self.machine.zip(due.machine).is_some_and(|(machine, due)| machine >= due);
        by_machine || self.shown >= due.shown
    }
}

/// Writes a time with at most seven fractional digits, of which the last one is not 0, and `Z`.
pub(crate) fn timestamp(time: OffsetDateTime) -> String {
    let digits = time.format(TIMESTAMP).unwrap_or_default();
    format!("{}Z", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Writes a time in the format of HTTP's `Date` header.
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
    fn http_dates_have_the_format_of_the_date_header() {
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
    fn a_clock_that_was_set_stops_until_it_is_advanced() {
        let mut clock = Clock::default();

        clock.set(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        assert_eq!(clock.now().unix_timestamp(), 1_000);
        clock.advance(Duration::from_secs(5));
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now().unix_timestamp(), 1_010);
    }

    #[test]
    fn a_clock_that_was_only_advanced_keeps_running() {
        let mut clock = Clock::default();

        clock.advance(Duration::from_secs(3_600));

        let ahead = clock.now() - OffsetDateTime::now_utc();
        assert!((3_590..=3_600).contains(&ahead.whole_seconds()), "{ahead}");
    }

    #[test]
    fn a_time_has_come_when_either_clock_says_so() {
        let instant = Instant::now();
        let at = |shown: u64, machine: u64| Moment {
            shown: OffsetDateTime::UNIX_EPOCH + Duration::from_secs(shown),
            machine: instant.checked_add(Duration::from_secs(machine)),
        };
        let due = at(100, 0).after(Duration::from_secs(3));
        for (shown, machine, has_come) in
            [(100, 0, false), (102, 2, false), (103, 0, true), (100, 3, true), (0, 2, false), (0, 3, true)]
        {
            assert_eq!(at(shown, machine).has_reached(due), has_come, "{shown} {machine}");
        }
        assert!(at(100, 0).has_reached(at(100, 0).after(Duration::ZERO)));
        assert!(!at(100, 0).has_reached(at(100, 0).after(Duration::MAX)));
    }

    #[test]
    fn a_time_beyond_the_calendar_reads_as_1970() {
        let mut clock = Clock::default();

        clock.advance(Duration::MAX);

        assert_eq!(clock.now(), OffsetDateTime::UNIX_EPOCH);
    }
}
