//! Quotas: how many requests a sliding window admits, and when the next one is admitted.

use std::collections::{BTreeMap, VecDeque};

use time::{Duration, OffsetDateTime};

use crate::ids;
use crate::refusal::{Refusal, THROTTLED};

/// The quotas of a provisioning service. Requests beyond them are answered 429 with `Retry-After`.
///
/// Only requests with a valid credential count; requests that are answered 429 do not count.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::{Emulator, Quotas};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), azure_dps_emulator::StartError> {
/// let emulator = Emulator::builder().quotas(Quotas::documented().with_registrations(10)).start().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    service_operations: u32,
    registrations: u32,
    polls: u32,
    pub(crate) groups: u32,
    retry_spread: u32,
}

impl Quotas {
    /// The limits that Microsoft documents: 1,000 service operations and 1,000 device registrations per
    /// minute, 5 polls per device in 10 seconds, and 100 enrollment groups of each attestation type.
    pub fn documented() -> Self {
        Quotas { service_operations: 1000, registrations: 1000, polls: 5, groups: 100, retry_spread: 0 }
    }

    /// Sets the quota of requests to the service API per minute.
    #[must_use]
    pub fn with_service_operations(mut self, per_minute: u32) -> Self {
        self.service_operations = per_minute;
        self
    }

    /// Sets the quota of register requests per minute, over all devices.
    #[must_use]
    pub fn with_registrations(mut self, per_minute: u32) -> Self {
        self.registrations = per_minute;
        self
    }

    /// Sets the quota of polls by one device in 10 seconds.
    #[must_use]
    pub fn with_polls(mut self, per_ten_seconds: u32) -> Self {
        self.polls = per_ten_seconds;
        self
    }

    /// Sets the quota of enrollment groups of each attestation type: X.509 certificates, and symmetric keys.
    #[must_use]
    pub fn with_groups(mut self, of_each_type: u32) -> Self {
        self.groups = of_each_type;
        self
    }

    /// Spreads the `Retry-After` of answers with status 429 over this many seconds, so that clients come back
    /// at different times.
    ///
    /// The answers add in turn 0, 1, 2 and so on up to this number of seconds to the time that the quota
    /// needs. The default is 0, which adds nothing.
    #[must_use]
    pub fn with_retry_spread(mut self, seconds: u32) -> Self {
        self.retry_spread = seconds;
        self
    }
}

/// Counts recent requests against the quotas; without quotas every request is admitted.
#[derive(Default)]
pub(crate) struct Meters {
    quotas: Option<Quotas>,
    service_operations: Window,
    registrations: Window,
    polls: BTreeMap<String, Window>,
    /// The number of refused requests, which decides how much is added to the next `Retry-After`.
    refused: u64,
}

impl Meters {
    pub(crate) fn new(quotas: Option<Quotas>) -> Self {
        Meters { quotas, ..Meters::default() }
    }

    pub(crate) fn service_operation(&mut self, now: OffsetDateTime) -> Result<(), Refusal> {
        let Some(quotas) = self.quotas else { return Ok(()) };
        let limit = quotas.service_operations;
        let taken = self.service_operations.take(limit, Duration::MINUTE, now);
        taken.map_err(|wait| self.refuse(wait, quotas, format!("{limit} service operations per minute")))
    }

    pub(crate) fn registration(&mut self, now: OffsetDateTime) -> Result<(), Refusal> {
        let Some(quotas) = self.quotas else { return Ok(()) };
        let limit = quotas.registrations;
        let taken = self.registrations.take(limit, Duration::MINUTE, now);
        taken.map_err(|wait| self.refuse(wait, quotas, format!("{limit} device registrations per minute")))
    }

    pub(crate) fn poll(&mut self, registration_id: &str, now: OffsetDateTime) -> Result<(), Refusal> {
        let Some(quotas) = self.quotas else { return Ok(()) };
        let (limit, length) = (quotas.polls, Duration::seconds(10));
        if self.polls.len() >= MANY_DEVICES {
            self.polls.retain(|_, window| window.is_in_use(length, now));
        }
        let window = self.polls.entry(ids::key(registration_id)).or_default();
        let taken = window.take(limit, length, now);
        taken.map_err(|wait| self.refuse(wait, quotas, format!("{limit} polls of {registration_id} in 10 s")))
    }

    fn refuse(&mut self, wait: u32, quotas: Quotas, quota: String) -> Refusal {
        let more = self.refused % (u64::from(quotas.retry_spread) + 1);
        self.refused = self.refused.wrapping_add(1);
        Refusal::new(THROTTLED, "Operations are being throttled for this tenant")
            .because(format!("quota: {quota}"))
            .after(wait.saturating_add(u32::try_from(more).unwrap_or(u32::MAX)))
    }
}

/// The times of the admitted requests, oldest first.
#[derive(Default)]
struct Window(VecDeque<OffsetDateTime>);

impl Window {
    fn is_in_use(&self, length: Duration, now: OffsetDateTime) -> bool {
        self.0.back().is_some_and(|latest| *latest <= now && now - *latest < length)
    }

    /// Admits a request, or returns after how many seconds, at least one, the next one can be admitted.
    ///
    /// Times after `now` are dropped: the clock was set back.
    fn take(&mut self, limit: u32, length: Duration, now: OffsetDateTime) -> Result<(), u32> {
        self.0.retain(|at| *at <= now && now - *at < length);
        if self.0.len() < usize::try_from(limit).unwrap_or(usize::MAX) {
            self.0.push_back(now);
            return Ok(());
        }
        let age = self.0.front().map_or(Duration::ZERO, |oldest| now - *oldest);
        let wait = length - age;
        let seconds = wait.whole_seconds() + i64::from(wait.subsec_nanoseconds() > 0);
        Err(u32::try_from(seconds).unwrap_or(u32::MAX).max(1))
    }
}

/// With this many windows, those of devices that do not poll any more are dropped.
const MANY_DEVICES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_admitted_when_the_oldest_one_leaves_the_window() {
        let mut window = Window::default();
        let mut take = |milliseconds| window.take(2, Duration::seconds(10), at(milliseconds));

        assert_eq!(take(0), Ok(()));
        assert_eq!(take(4_000), Ok(()));
        assert_eq!(take(4_001), Err(6));
        assert_eq!(take(9_999), Err(1));
        assert_eq!(take(10_000), Ok(()));
        assert_eq!(take(10_000), Err(4));
        assert_eq!(take(14_000), Ok(()));
    }

    #[test]
    fn windows_of_devices_that_do_not_poll_any_more_are_dropped() {
        let mut meters = Meters::new(Some(Quotas::documented()));
        for number in 0..MANY_DEVICES {
            meters.poll(&format!("dev{number}"), at(0)).unwrap();
        }
        meters.poll("late", at(9_999)).unwrap();
        assert_eq!(meters.polls.len(), MANY_DEVICES + 1);
        meters.poll("later", at(10_000)).unwrap();
        assert_eq!(meters.polls.len(), 2);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_block_requests() {
        let mut window = Window::default();
        assert_eq!(window.take(1, Duration::MINUTE, at(1_000_000)), Ok(()));
        assert_eq!(window.take(1, Duration::MINUTE, at(0)), Ok(()));
    }

    #[test]
    fn a_quota_of_zero_admits_nothing() {
        assert_eq!(Window::default().take(0, Duration::MINUTE, at(0)), Err(60));
    }

    #[test]
    fn each_quota_counts_for_itself_and_polls_for_each_device() {
        let quotas = Quotas::documented().with_service_operations(1).with_registrations(1).with_polls(1);
        let mut meters = Meters::new(Some(quotas));

        assert!(meters.service_operation(at(0)).is_ok());
        assert!(meters.registration(at(0)).is_ok());
        assert!(meters.poll("dev1", at(0)).is_ok());
        assert!(meters.poll("dev2", at(0)).is_ok());
        for (refusal, cause, wait) in [
            (meters.service_operation(at(0)), "quota: 1 service operations per minute", 60),
            (meters.registration(at(0)), "quota: 1 device registrations per minute", 60),
            (meters.poll("DEV1", at(0)), "quota: 1 polls of DEV1 in 10 s", 10),
        ] {
            let refusal = refusal.unwrap_err();
            assert_eq!((refusal.code, refusal.cause.as_str()), (429_001, cause));
            assert_eq!(refusal.into_answer("", at(0)).retry_after, Some(wait));
        }
    }

    #[test]
    fn a_retry_spread_adds_seconds_to_the_retry_after_in_turn() {
        let quotas = Quotas::documented().with_registrations(1).with_polls(0);
        let waits = |quotas: Quotas| {
            let mut meters = Meters::new(Some(quotas));
            meters.registration(at(0)).unwrap();
            let mut wait = || meters.registration(at(1_000)).unwrap_err().into_answer("", at(0)).retry_after;
            [wait(), wait(), wait(), wait()].map(Option::unwrap)
        };
        assert_eq!(waits(quotas), [59; 4]);
        assert_eq!(waits(quotas.with_retry_spread(2)), [59, 60, 61, 59]);
        let most = waits(quotas.with_retry_spread(u32::MAX));
        assert_eq!(most, [59, 60, 61, 62]);
    }

    #[test]
    fn without_quotas_every_request_is_admitted() {
        let mut meters = Meters::new(None);
        assert!(
            (0..2_000).all(|_| meters.service_operation(at(0)).is_ok() && meters.poll("a", at(0)).is_ok())
        );
    }

    fn at(milliseconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(milliseconds)
    }
}
