//! When a write began, by the clock that dates the records. Pure, except for [`Began::now`].
//!
//! Clocks of clients are wrong by minutes and more. The answer to the later read therefore gives the time:
//! its `Date`, minus the time that has passed on this machine since the write began. Without a `Date` only
//! the clock of this machine is left, and much less is certain.
//!
//! | | certainly older than the write | possibly from the write |
//! |---|---|---|
//! | with a `Date` | more than 5 s before the write began | after that |
//! | without | more than a day before the write began | from 10 minutes before the write began |

use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

/// When a write was sent, by both clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began {
    at: Instant,
    wall: OffsetDateTime,
}

impl Began {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), wall: OffsetDateTime::now_utc() }
    }

    /// Converts it to the clock of the service, with the `Date` of an answer that has just arrived.
    pub(crate) fn by_service(self, date: Option<OffsetDateTime>) -> Since {
        // The monotonic clock may stop while the machine sleeps, and a correction moves the wall clock.
        let passed = Duration::try_from(self.at.elapsed()).unwrap_or(Duration::MAX);
        since(self.wall, date, passed.max(OffsetDateTime::now_utc() - self.wall))
    }
}

/// Two bounds: a record dated before the first is older than the write, one dated after the second may be
/// from the write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    /// A record dated before this was not written by the call.
    older: OffsetDateTime,
    /// A record dated before this is not attributed to the call.
    own: OffsetDateTime,
}

impl Since {
    /// Whether a record with this date was written before the write began.
    pub(crate) fn is_older(&self, date: OffsetDateTime) -> bool {
        date < self.older
    }

    /// Whether a record with this date may have been written by the write.
    pub(crate) fn may_be_own(&self, date: OffsetDateTime) -> bool {
        self.own <= date
    }
}

fn since(wall: OffsetDateTime, date: Option<OffsetDateTime>, passed: Duration) -> Since {
    let before = |time: OffsetDateTime, span| time.checked_sub(span).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    match date {
        // The answer was dated after the write began and before it arrived here, so the result is early
        // rather than late.
        Some(date) => {
            let began = before(before(date, passed), SERVERS_APART);
            Since { older: began, own: began }
        }
        None => Since { older: before(wall, CERTAIN_SKEW), own: before(wall, USUAL_SKEW) },
    }
}

/// The largest difference assumed between the clocks of two servers of the service, one that dates answers
/// and one that dates records.
const SERVERS_APART: Duration = Duration::seconds(5);

/// How far the clock of this machine is commonly ahead of the service's.
const USUAL_SKEW: Duration = Duration::minutes(10);

/// How far it is certainly not ahead.
const CERTAIN_SKEW: Duration = Duration::days(1);

#[cfg(test)]
impl Since {
    /// A write that began at this time, to a service that dates its answers.
    pub(crate) fn dated(began: OffsetDateTime) -> Self {
        since(began, Some(began), Duration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    const WALL: OffsetDateTime = datetime!(2026-01-01 12:00 UTC);

    #[test]
    fn with_a_date_the_clock_of_this_machine_does_not_count() {
        let date = datetime!(2026-03-01 08:01 UTC);
        let since = since(WALL, Some(date), Duration::seconds(60));
        assert!(since.is_older(datetime!(2026-03-01 07:59:54 UTC)));
        for own in [datetime!(2026-03-01 07:59:55 UTC), datetime!(2026-03-01 08:00 UTC), date] {
            assert!(!since.is_older(own) && since.may_be_own(own), "{own}");
        }
        assert!(!since.may_be_own(datetime!(2026-03-01 07:59:54 UTC)));
    }

    #[test]
    fn without_a_date_a_record_in_between_is_neither_older_nor_from_the_write() {
        let since = since(WALL, None, Duration::seconds(60));
        assert!(since.is_older(datetime!(2025-12-31 11:59 UTC)));
        let between = datetime!(2026-01-01 11:49 UTC);
        assert!(!since.is_older(between) && !since.may_be_own(between));
        assert!(since.may_be_own(datetime!(2026-01-01 11:50 UTC)));
    }

    #[test]
    fn no_date_is_too_far_away() {
        for date in
            [OffsetDateTime::UNIX_EPOCH, datetime!(9999-12-31 23:59 UTC), datetime!(-9999-01-01 0:00 UTC)]
        {
            let since = since(WALL, Some(date), Duration::MAX);
            assert!(since.may_be_own(OffsetDateTime::UNIX_EPOCH));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_that_has_passed_is_taken_off_the_date() {
        let began = Began::now();
        tokio::time::advance(std::time::Duration::from_secs(60)).await;
        let since = began.by_service(Some(WALL));
        assert!(since.is_older(WALL - Duration::seconds(67)));
        assert!(since.may_be_own(WALL - Duration::seconds(65)));
    }
}
