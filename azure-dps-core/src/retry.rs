//! When to retry: a policy that is a value, and a pure back-off that a seed makes reproducible.

use std::time::Duration;

use time::OffsetDateTime;

/// How often, and after which pauses, a failed request is repeated.
///
/// The pause doubles from [`first_pause`](Self::first_pause) up to [`longest_pause`](Self::longest_pause).
/// Each pause is drawn at random between half of that and all of it, so that the devices of a fleet do not
/// retry in step.
///
/// A `retry-after` from the service replaces the computed pause, even beyond the longest one. For the same
/// reason, a random part is added to it: up to a tenth of the time, at least up to half a second, at most a
/// minute. A `retry-after` of 0 is ignored.
///
/// [`retries`](Self::retries) limits failures. Throttled requests do not count; the deadline of the call
/// limits them.
///
/// ```
/// use std::time::Duration;
/// use azure_dps_core::RetryPolicy;
///
/// let patient = RetryPolicy::default().with_retries(10).with_longest_pause(Duration::from_secs(120));
/// let none = RetryPolicy::never();
/// # assert_ne!(patient, none);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    retries: u32,
    first_pause: Duration,
    longest_pause: Duration,
}

impl RetryPolicy {
    /// Five retries. The first follows after at most 1 s, the minimum that the service documents; no pause is
    /// longer than 60 s.
    pub const fn new() -> Self {
        Self { retries: 5, first_pause: Duration::from_secs(1), longest_pause: Duration::from_secs(60) }
    }

    /// No retries.
    pub const fn never() -> Self {
        Self::new().with_retries(0)
    }

    /// Sets how often a failed request is repeated. Default 5. A throttled request (429, or 503 with
    /// `retry-after`) is repeated until the deadline, unless this is 0.
    #[must_use]
    pub const fn with_retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Sets the upper limit of the pause before the first retry. Default 1 s.
    #[must_use]
    pub const fn with_first_pause(mut self, pause: Duration) -> Self {
        self.first_pause = pause;
        self
    }

    /// Sets the upper limit of every pause. Default 60 s, at most a day.
    #[must_use]
    pub const fn with_longest_pause(mut self, pause: Duration) -> Self {
        self.longest_pause = pause;
        self
    }

    /// How often a failed request is repeated.
    pub const fn retries(&self) -> u32 {
        self.retries
    }

    /// The upper limit of the pause before the first retry.
    pub const fn first_pause(&self) -> Duration {
        self.first_pause
    }

    /// The upper limit of every pause.
    pub const fn longest_pause(&self) -> Duration {
        self.longest_pause
    }

    /// Starts counting. The same seed gives the same pauses.
    #[doc(hidden)]
    pub fn start(self, seed: u64) -> Backoff {
        Backoff { policy: self, tried: 0, renewed_at: 0, throttled: 0, random: seed }
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// One run of a [`RetryPolicy`]: it counts the retries and returns the pauses. It reads no clock.
#[derive(Clone, Debug)]
pub struct Backoff {
    policy: RetryPolicy,
    tried: u32,
    /// How many retries do not count any more.
    renewed_at: u32,
    throttled: u32,
    random: u64,
}

impl Backoff {
    /// The pause before the next retry, or `None` when no retry is left.
    ///
    /// `asked` is the service's `retry-after`; the pause is never shorter.
    pub fn pause(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.tried - self.renewed_at >= self.policy.retries {
            return None;
        }
        self.tried += 1;
        Some(self.draw(asked, self.tried - 1))
    }

    /// Allows as many retries as at the start. The pauses keep growing.
    pub fn renew(&mut self) {
        self.renewed_at = self.tried;
    }

    /// The pause before a throttled request is sent again, which does not count as a retry. `None` when the
    /// policy has no retries.
    ///
    /// `asked` is the service's `retry-after`; the pause is never shorter. Without it, pauses double with
    /// each call.
    pub fn throttled(&mut self, asked: Option<Duration>) -> Option<Duration> {
        if self.policy.retries == 0 {
            return None;
        }
        self.throttled = self.throttled.saturating_add(1);
        Some(self.draw(asked, self.throttled - 1))
    }

    fn draw(&mut self, asked: Option<Duration>, before: u32) -> Duration {
        let share = fraction(&mut self.random);
        match asked.filter(|asked| !asked.is_zero()) {
            Some(asked) => {
                let spread = (asked / 10).clamp(LEAST_SPREAD, MOST_SPREAD);
                asked.saturating_add(spread.mul_f64(share))
            }
            None => {
                let doubled = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
                let policy = &self.policy;
                let longest =
                    policy.first_pause.saturating_mul(doubled).min(policy.longest_pause).min(LONGEST);
                longest.mul_f64(0.5 + share / 2.0)
            }
        }
    }

    /// How many retries were granted so far.
    pub fn tried(&self) -> u32 {
        self.tried
    }
}

/// The next pseudo-random number in 0.0..1.0: one step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
pub fn fraction(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 11) as f64 / (1_u64 << 53) as f64
}

/// Reads the value of a `Retry-After` header: seconds, or a date in any of the three forms of RFC 9110,
/// section 5.6.7.
///
/// A date in the past gives a wait of zero. `None` when the value is neither.
pub fn parse_retry_after(value: &str, now: OffsetDateTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::from(httpdate::parse_http_date(value).ok()?);
    Some((date - now).try_into().unwrap_or(Duration::ZERO))
}

/// The bounds of the random part that is added to a `retry-after`.
const LEAST_SPREAD: Duration = Duration::from_millis(500);
const MOST_SPREAD: Duration = Duration::from_secs(60);
/// A longer pause could overflow the arithmetic of random pauses.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end_with_the_retries() {
        let second = Duration::from_secs(1);
        let mut backoff = RetryPolicy::new().with_retries(4).with_longest_pause(second * 5).start(7);
        for longest in [second, second * 2, second * 4, second * 5] {
            let pause = backoff.pause(None).unwrap();
            assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
        }
        assert_eq!(backoff.pause(None), None);
        assert_eq!(backoff.tried(), 4);

        backoff.renew();
        assert!(backoff.pause(None).unwrap() >= second * 5 / 2);
    }

    #[test]
    fn a_retry_after_replaces_the_pause_and_still_counts_as_a_retry() {
        let asked = Duration::from_secs(600);
        let mut backoff = RetryPolicy::new().with_retries(1).start(1);
        assert!(backoff.pause(Some(asked)).unwrap() >= asked);
        assert_eq!(backoff.pause(Some(asked)), None);
    }

    #[test]
    fn clients_with_the_same_retry_after_come_back_spread_and_never_earlier() {
        for (asked, spread) in [(1, 0.5), (3, 0.5), (60, 6.0), (120, 12.0), (7200, 60.0)] {
            let asked = Duration::from_secs(asked);
            let mut pauses: Vec<_> = (0..1000)
                .map(|seed| RetryPolicy::new().start(seed).throttled(Some(asked)).unwrap())
                .collect();
            pauses.sort();
            assert!(pauses[0] >= asked);
            let parts: Vec<_> = pauses.iter().map(|pause| (*pause - asked).as_secs_f64() / spread).collect();
            assert!(parts[999] <= 1.0, "{asked:?} {}", parts[999]);
            // Evenly: each tenth of the spread has about a tenth of them.
            for tenth in 0..10 {
                let bounds = f64::from(tenth) / 10.0..f64::from(tenth + 1) / 10.0;
                let count = parts.iter().filter(|part| bounds.contains(part)).count();
                assert!((50..200).contains(&count), "{asked:?}: {count} in {bounds:?}");
            }
        }
    }

    #[test]
    fn throttling_does_not_count_and_its_pauses_double_without_a_retry_after() {
        let second = Duration::from_secs(1);
        let mut backoff = RetryPolicy::new().with_retries(1).with_longest_pause(second * 4).start(7);
        for asked in [None, Some(Duration::ZERO)] {
            let mut backoff = backoff.clone();
            for longest in [second, second * 2, second * 4, second * 4] {
                let pause = backoff.throttled(asked).unwrap();
                assert!(pause >= longest / 2 && pause <= longest, "{pause:?} of {longest:?}");
            }
        }
        assert!((0..1000).all(|_| backoff.throttled(Some(second)).is_some()));
        assert_eq!(backoff.tried(), 0);
        assert!(backoff.pause(None).is_some(), "all retries are left");
    }

    #[test]
    fn a_policy_without_retries_repeats_nothing() {
        let mut backoff = RetryPolicy::never().start(1);
        assert_eq!(backoff.throttled(Some(Duration::from_secs(1))), None);
        assert_eq!(backoff.pause(None), None);
    }

    #[test]
    fn extreme_policies_do_not_overflow() {
        let policy = RetryPolicy::new()
            .with_retries(u32::MAX)
            .with_first_pause(Duration::MAX)
            .with_longest_pause(Duration::MAX);
        for seed in 0..100 {
            assert!(policy.start(seed).pause(None).unwrap() <= LONGEST);
            assert_eq!(policy.start(seed).throttled(Some(Duration::MAX)), Some(Duration::MAX));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = OffsetDateTime::from_unix_timestamp(784111777).unwrap(); // Sun, 06 Nov 1994 08:49:37 GMT
        assert_eq!(parse_retry_after(" 3 ", now), Some(Duration::from_secs(3)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(parse_retry_after("Sunday, 06-Nov-94 08:49:40 GMT", now), Some(Duration::from_secs(3)));
        assert_eq!(parse_retry_after("Sun Nov  6 08:49:40 1994", now), Some(Duration::from_secs(3)));
        assert_eq!(parse_retry_after("Sun, 06 Nov 1994 08:49:00 GMT", now), Some(Duration::ZERO));
        for value in ["", "-1", "soon", "1.5", "99999999999999999999999"] {
            assert_eq!(parse_retry_after(value, now), None, "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn any_seed_and_any_length_stay_within_the_bounds(seed: u64, retries in 0_u32..100) {
            let policy = RetryPolicy::new().with_retries(retries);
            let mut backoff = policy.start(seed);
            let pauses: Vec<_> = std::iter::from_fn(|| backoff.pause(None)).collect();
            prop_assert_eq!(pauses.len(), retries as usize);
            prop_assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(60)));
            let mut again = policy.start(seed);
            prop_assert_eq!(pauses, std::iter::from_fn(|| again.pause(None)).collect::<Vec<_>>());
        }
    }
}
