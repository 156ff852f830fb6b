//! Quotas: how often something may be asked within a time that slides along, and when there is room again.

use std::collections::{BTreeMap, VecDeque};

use time::{Duration, OffsetDateTime};

use crate::ids;
use crate::refusal::{Refusal, THROTTLED};

/// The limits of a provisioning service, beyond which requests are answered 429 with `Retry-After`.
///
/// Only requests whose credential is right count, and those that are answered 429 do not.
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
    /// The limits that Microsoft documents: 1,000 service operations and 1,000 device registrations per minute, 5 polls
    /// per device in 10 seconds, and 100 enrollment groups of each attestation type.
    pub fn documented() -> Self {
        Quotas { service_operations: 1000, registrations: 1000, polls: 5, groups: 100, retry_spread: 0 }
    }

    /// Sets how many requests to the service API are answered per minute.
    #[must_use]
    pub fn with_service_operations(mut self, per_minute: u32) -> Self {
        self.service_operations = per_minute;
        self
    }

    /// Sets how many register requests of all devices together are answered per minute.
    #[must_use]
    pub fn with_registrations(mut self, per_minute: u32) -> Self {
        self.registrations = per_minute;
        self
    }

    /// Sets how many polls of one device are answered in 10 seconds.
    #[must_use]
    pub fn with_polls(mut self, per_ten_seconds: u32) -> Self {
        self.polls = per_ten_seconds;
        self
    }

    /// Sets how many enrollment groups there may be with X.509 certificates, and how many with symmetric keys.
    #[must_use]
    pub fn with_groups(mut self, of_each_type: u32) -> Self {
        self.groups = of_each_type;
        self
    }

    /// Sets by how many seconds the `Retry-After` of the 429s may differ, which brings clients back at
    /// different times.
    ///
    /// The refusals ask in turn for 0, 1, 2 and so on up to this number of seconds more than the quota needs.
    /// The default is 0: each asks for what the quota needs.
    #[must_use]
    pub fn with_retry_spread(mut self, seconds: u32) -> Self {
        self.retry_spread = seconds;
        self
    }
}

/// What was asked lately, against the quotas; without quotas everything passes.
#[derive(Default)]
pub(crate) struct Meters {
    quotas: Option<Quotas>,
    service_operations: Window,
    registrations: Window,
    polls: BTreeMap<String, Window>,
    /// How many requests were refused; it decides what is added to the next `Retry-After`.
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

/// The times of what passed, the oldest first.
#[derive(Default)]
struct Window(VecDeque<OffsetDateTime>);

impl Window {
    fn is_in_use(&self, length: Duration, now: OffsetDateTime) -> bool {
        self.0.back().is_some_and(|latest| *latest <= now && now - *latest < length)
    }

    /// Takes a place, or tells after how many seconds, at least one, there will be one.
    ///
    /// What lies ahead of `now` is forgotten: the clock was turned back.
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

/// From so many on, the windows of devices that poll no more are forgotten.
const MANY_DEVICES: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_the_oldest_leaves() {
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
    fn devices_that_poll_no_more_are_forgotten() {
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
    fn a_clock_that_was_turned_back_does_not_lock_out() {
        let mut window = Window::default();
        assert_eq!(window.take(1, Duration::MINUTE, at(1_000_000)), Ok(()));
        assert_eq!(window.take(1, Duration::MINUTE, at(0)), Ok(()));
    }

    #[test]
    fn a_limit_of_nothing_lets_nothing_pass() {
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
    fn refusals_ask_in_turn_for_more_time_when_they_are_spread() {
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
    fn without_quotas_everything_passes() {
        let mut meters = Meters::new(None);
        assert!(
            (0..2_000).all(|_| meters.service_operation(at(0)).is_ok() && meters.poll("a", at(0)).is_ok())
        );
    }

    fn at(milliseconds: i64) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + Duration::milliseconds(milliseconds)
    }
}
