//! How long the driver waits before a poll, and before a retry.

use std::ops::RangeInclusive;
use std::time::Duration;

use azure_dps_core::ServiceError;
use azure_dps_core::plumbing::Backoff;

use crate::policy::RegistrationPolicy;

/// Counts the polls for which the service stated `retry-after: 0`.
#[derive(Debug, Default)]
pub(super) struct Polls {
    prompt: u32,
}

impl Polls {
    /// The pause before the next poll.
    ///
    /// | `retry-after` | pause |
    /// |---|---|
    /// | none | that of the policy |
    /// | stated | as stated |
    /// | 0, the first and second time | none |
    /// | 0, later | a sixteenth of the policy's shortest pause, doubled each time up to the whole |
    ///
    /// All but the prompt ones are at least the policy's shortest pause.
    pub(super) fn pause(&mut self, retry_after: Option<Duration>, policy: RegistrationPolicy) -> Duration {
        let shortest = policy.min_poll_interval();
        if retry_after != Some(Duration::ZERO) {
            return retry_after.unwrap_or(policy.poll_interval()).max(shortest);
        }
        let earlier = self.prompt;
        self.prompt = earlier.saturating_add(1);
        match earlier.checked_sub(AT_ONCE) {
            Some(doublings) => shortest / (1 << HALVINGS.saturating_sub(doublings)),
            None => Duration::ZERO,
        }
    }
}

/// The shortest and the longest pause before a retry, neither below the policy's shortest one; `None` when the
/// budget is spent, or when the caller waits until the service does not throttle any more. A poll is repeated in
/// any case: it belongs to a registration that is running.
pub(super) fn before_retry(
    backoff: &mut Backoff,
    service: Option<&ServiceError>,
    policy: RegistrationPolicy,
    is_poll: bool,
) -> Option<RangeInclusive<Duration>> {
    let asked = service.and_then(|service| service.retry_after);
    let pause = match service {
        Some(service) if service.is_throttling() && policy.returns_when_throttled() && !is_poll => None,
        Some(service) if service.is_throttling() => backoff.throttled(asked),
        _ => backoff.pause(asked),
    }?;
    let least = policy.min_poll_interval();
    let shortest = asked.filter(|asked| !asked.is_zero()).unwrap_or(pause);
    Some(shortest.max(least)..=pause.max(least))
}

/// How many polls the service gets without a pause when it asks for none.
const AT_ONCE: u32 = 2;
/// How often the policy's shortest pause is halved for the first pause after those.
const HALVINGS: u32 = 4;
