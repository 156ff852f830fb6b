//! When a write began, by the clock that stamps the records. Pure, but for [`Began::now`].
//!
//! Clocks of clients are wrong by minutes and more, so the answer to the later read tells the time: its
//! `Date`, less the time that has passed here since the write began. Without a `Date` the clock of this
//! machine has to do, and far less can be said.
//!
//! | | older than the write for certain | possibly by the write |
//! |---|---|---|
//! | with a `Date` | before the write began, less 5 s | after that |
//! | without | a day before the write began | 10 minutes before the write began, and after |

use time::{Duration, OffsetDateTime};
use tokio::time::Instant;

/// When a write was sent, by the clocks of this machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Began {
    at: Instant,
    wall: OffsetDateTime,
}

impl Began {
    pub(crate) fn now() -> Self {
        Self { at: Instant::now(), wall: OffsetDateTime::now_utc() }
    }

    /// The same by the clock of the service, from the `Date` of an answer that has just come.
    pub(crate) fn by_service(self, date: Option<OffsetDateTime>) -> Since {
        // A machine that sleeps may stop the one clock, and a correction moves the other.
        let passed = Duration::try_from(self.at.elapsed()).unwrap_or(Duration::MAX);
        since(self.wall, date, passed.max(OffsetDateTime::now_utc() - self.wall))
    }
}

/// A span of time: what is dated before it is older than the write, what is dated after its end may be the
/// write's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Since {
    /// What was dated before this was not written by the call.
    older: OffsetDateTime,
    /// What was dated before this is not taken for the call's work.
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
        // The answer was dated after the write began and before it came here, so this is early rather than
        // late.
        Some(date) => {
            let began = before(before(date, passed), SERVERS_APART);
            Since { older: began, own: began }
        }
        None => Since { older: before(wall, CERTAIN_SKEW), own: before(wall, USUAL_SKEW) },
    }
}

/// How far the clocks of two machines of the service may be apart, the one that dates answers and the one
/// that dates records.
const SERVERS_APART: Duration = Duration::seconds(5);

/// How far the clock of this machine may be ahead of the service's.
const USUAL_SKEW: Duration = Duration::minutes(10);

/// How far it is not ahead for certain.
const CERTAIN_SKEW: Duration = Duration::days(1);

#[cfg(test)]
impl Since {
    /// A write that began then, by a service that dates its answers.
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
    fn without_a_date_what_lies_between_is_neither() {
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
