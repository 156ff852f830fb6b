//! Pauses that double up to a longest one, with a random part that a seed makes reproducible.

use std::time::Duration;

use azure_dps_core::plumbing::fraction;

/// Pauses between attempts that fail: the first one, doubled after each failure, up to the longest one. Each
/// pause is drawn at random within the spread, so that the devices of a fleet do not return in step.
///
/// ```
/// use std::time::Duration;
/// use azure_dps_device::manager::Ladder;
///
/// // 1 s, 2 s, 4 s … 60 s, each 20 % shorter or longer at random.
/// let ladder = Ladder::new(Duration::from_secs(1), Duration::from_secs(60), 20);
/// # let _ = ladder;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ladder {
    first: Duration,
    longest: Duration,
    spread: u32,
}

impl Ladder {
    /// Creates a ladder. `spread` is in percent of each pause; more than 100 counts as 100. A pause is a day
    /// at most.
    pub const fn new(first: Duration, longest: Duration, spread: u32) -> Self {
        Self { first, longest, spread: if spread > 100 { 100 } else { spread } }
    }

    /// The pause after `failures` failures in a row, without its random part. Zero before the first failure.
    pub fn step(self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest).min(LONGEST)
    }

    /// The shortest pause that can be drawn after `failures` failures.
    pub fn shortest(self, failures: u32) -> Duration {
        self.step(failures) * (100 - self.spread) / 100
    }

    /// The longest pause that can be drawn, after any number of failures.
    pub fn cap(self) -> Duration {
        self.longest.max(self.first).min(LONGEST) * (100 + self.spread) / 100
    }

    /// Whether the pause after so many failures is the longest one.
    pub(crate) fn is_longest(self, failures: u32) -> bool {
        self.step(failures) == self.step(u32::MAX)
    }

    /// Lengthens a pause that was given by a random part: at most by the spread.
    pub(crate) fn scattered(self, pause: Duration, seed: u64) -> Duration {
        let mut random = seed;
        pause + (pause * self.spread / 100).mul_f64(fraction(&mut random))
    }

    /// Draws the pause after `failures` failures. The same seed gives the same pause.
    pub(crate) fn pause(self, failures: u32, seed: u64) -> Duration {
        let mut random = seed.wrapping_add(u64::from(failures));
        let range = self.step(failures) * (2 * self.spread) / 100;
        self.shortest(failures) + range.mul_f64(fraction(&mut random))
    }
}

/// A longer pause could overflow the arithmetic.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_first_pause_doubles_up_to_the_longest() {
        let ladder = Ladder::new(SECOND, SECOND * 60, 20);
        let steps: Vec<_> = (0..9).map(|failures| ladder.step(failures).as_secs()).collect();
        assert_eq!(steps, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(ladder.step(u32::MAX), SECOND * 60);
    }

    #[test]
    fn pauses_of_many_devices_are_spread_evenly() {
        let ladder = Ladder::new(SECOND * 100, SECOND * 100, 25);
        let pauses: Vec<_> = (0..1000).map(|device| ladder.pause(1, device * 7919).as_secs_f64()).collect();
        for tenth in 0..10 {
            let bounds = 75.0 + 5.0 * f64::from(tenth)..75.0 + 5.0 * f64::from(tenth + 1);
            let count = pauses.iter().filter(|pause| bounds.contains(pause)).count();
            assert!((50..200).contains(&count), "{count} in {bounds:?}");
        }
    }

    proptest! {
        #[test]
        fn a_pause_is_within_its_spread(first in 0_u64..1 << 40, longest in 0_u64..1 << 40, spread in 0_u32..500,
            failures in 0_u32..200, seed: u64) {
            let ladder =
                Ladder::new(Duration::from_millis(first), Duration::from_millis(longest), spread);
            let pause = ladder.pause(failures, seed);
            prop_assert!(pause >= ladder.shortest(failures));
            prop_assert!(pause <= ladder.cap());
            prop_assert!(pause <= ladder.step(failures) * 2);
        }
    }
}
