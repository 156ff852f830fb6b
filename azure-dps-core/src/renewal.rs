//! When to renew a certificate. Pure: the validity and the seed are arguments.
//!
//! | validity | moment of renewal |
//! | --- | --- |
//! | it ends after it begins | at the share of its life (80 %), less a random part of the spread (5 % of its life) |
//! | a share that is smaller than the spread | between the beginning and the share |
//! | it ends when it begins, or before | the end: such a certificate is never valid |
//! | it ends in the year 9999, which means "no end" | by the same rule |
//!
//! The moment is never before the beginning or after the end of a life. The same seed returns the same
//! moment.

use time::OffsetDateTime;

use crate::models::attestation::x509::X509CertificateInfo;

/// The share of a certificate's life after which it is renewed, and how far the devices of a fleet spread
/// their renewals.
///
/// ```
/// use azure_dps_core::RenewalPolicy;
/// use time::macros::datetime;
///
/// let policy = RenewalPolicy::new();
/// let moment = policy.moment(datetime!(2026-01-01 0:00 UTC), datetime!(2026-01-31 0:00 UTC), 7);
/// // Between 75 and 80 per cent of 30 days.
/// assert!(moment >= datetime!(2026-01-23 12:00 UTC) && moment <= datetime!(2026-01-25 0:00 UTC));
/// ```
///
/// Source: Azure IoT, "Certificate renewal": the device watches the end of its certificate itself; the
/// example there renews at 80 % of the life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalPolicy {
    share: u8,
    spread: u8,
}

impl RenewalPolicy {
    /// Renews at 80 % of the life, spread over the 5 % before.
    pub const fn new() -> Self {
        Self { share: 80, spread: 5 }
    }

    /// Sets the share of the life after which the certificate is renewed, in per cent. Default 80; more than
    /// 100 counts as 100.
    #[must_use]
    pub const fn with_share(mut self, percent: u8) -> Self {
        self.share = if percent > 100 { 100 } else { percent };
        self
    }

    /// Sets the part of the life over which renewals are spread, in per cent. Renewals become earlier by it,
    /// never later. Default 5; 0 renews exactly at the share.
    #[must_use]
    pub const fn with_spread(mut self, percent: u8) -> Self {
        self.spread = if percent > 100 { 100 } else { percent };
        self
    }

    /// The share of the life after which the certificate is renewed, in per cent.
    pub const fn share(&self) -> u8 {
        self.share
    }

    /// The part of the life over which renewals are spread, in per cent.
    pub const fn spread(&self) -> u8 {
        self.spread
    }

    /// The moment at which to renew a certificate of this validity.
    ///
    /// Devices with different seeds renew at different moments. Give a device the same seed after a restart.
    pub fn moment(&self, not_before: OffsetDateTime, not_after: OffsetDateTime, seed: u64) -> OffsetDateTime {
        let life = not_after - not_before;
        if !life.is_positive() {
            return not_after;
        }
        let part = |percent: i128, of: i128| life.whole_nanoseconds() * percent / 100 * of / WHOLE;
        let share = i128::from(self.share);
        let spread = i128::from(self.spread.min(self.share));
        let after = part(share, WHOLE) - part(spread, i128::from(mix(seed) >> 32));
        // Both ends are dates, and so is every moment between them.
        let seconds = i64::try_from(after / NANOSECONDS).unwrap_or_default();
        let rest = i32::try_from(after % NANOSECONDS).unwrap_or_default();
        not_before.checked_add(time::Duration::new(seconds, rest)).unwrap_or(not_after)
    }

    /// The moment at which to renew this certificate. Its thumbprint is the seed, so that the moment is the
    /// same after a restart and another one for every device.
    pub fn moment_of(&self, certificate: &X509CertificateInfo) -> OffsetDateTime {
        let text = certificate.sha256_thumbprint.as_bytes();
        let seed = text.iter().fold(0_u64, |seed, byte| mix(seed ^ u64::from(*byte)));
        self.moment(certificate.not_before_utc, certificate.not_after_utc, seed)
    }
}

impl Default for RenewalPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// SplitMix64: near seeds give far numbers.
fn mix(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

const WHOLE: i128 = 1 << 32;
const NANOSECONDS: i128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;
    use time::{Duration, PrimitiveDateTime};

    use super::*;

    const BEGIN: OffsetDateTime = datetime!(2026-01-01 0:00 UTC);

    #[test]
    fn a_certificate_is_renewed_at_its_share_less_the_spread() {
        let end = BEGIN + Duration::days(100);
        let exact = RenewalPolicy::new().with_spread(0);
        for (policy, day) in [
            (exact, 80),
            (exact.with_share(50), 50),
            (exact.with_share(0), 0),
            (exact.with_share(100), 100),
            (exact.with_share(255), 100),
        ] {
            assert_eq!(policy.moment(BEGIN, end, 1), BEGIN + Duration::days(day), "{policy:?}");
        }
        let moments: Vec<_> = (0..100).map(|seed| RenewalPolicy::new().moment(BEGIN, end, seed)).collect();
        let days = |day| BEGIN + Duration::days(day);
        assert!(moments.iter().all(|at| (days(75)..=days(80)).contains(at)));
        assert!(moments.iter().any(|at| *at < days(76)) && moments.iter().any(|at| *at > days(79)));
    }

    #[test]
    fn a_spread_that_is_larger_than_the_share_ends_at_the_beginning() {
        let policy = RenewalPolicy::new().with_share(10).with_spread(200);
        let end = BEGIN + Duration::days(100);
        for seed in 0..100 {
            let at = policy.moment(BEGIN, end, seed);
            assert!(at >= BEGIN && at <= BEGIN + Duration::days(10), "{at}");
        }
    }

    #[test]
    fn a_certificate_that_is_never_valid_is_renewed_at_its_end() {
        for end in [
            BEGIN,
            BEGIN - Duration::nanoseconds(1),
            BEGIN - Duration::days(10),
            PrimitiveDateTime::MIN.assume_utc(),
        ] {
            assert_eq!(RenewalPolicy::new().moment(BEGIN, end, 5), end);
        }
    }

    #[test]
    fn the_ends_of_the_calendar_are_moments_too() {
        let (first, last) = (PrimitiveDateTime::MIN.assume_utc(), PrimitiveDateTime::MAX.assume_utc());
        let exact = RenewalPolicy::new().with_spread(0);
        assert_eq!(exact.with_share(0).moment(first, last, 1), first);
        let at = exact.moment(datetime!(2026-01-01 0:00 UTC), datetime!(9999-12-31 23:59:59 UTC), 1);
        assert_eq!(at.year(), 8405);
    }

    #[test]
    fn a_certificate_has_one_moment_and_another_certificate_another() {
        let info = |thumbprint: &str| -> X509CertificateInfo {
            let body = serde_json::json!({"sha256Thumbprint": thumbprint, "notBeforeUtc": "2026-01-01T00:00:00Z",
                "notAfterUtc": "2026-01-31T00:00:00Z"});
            serde_json::from_value(body).unwrap()
        };
        let at = |thumbprint| RenewalPolicy::new().moment_of(&info(thumbprint));
        assert_eq!(at("AB"), at("AB"));
        assert_ne!(at("AB"), at("BA"));
    }

    proptest! {
        #[test]
        fn the_moment_is_within_the_life_and_the_spread(
            begin in -377_705_116_800_i64..253_402_300_800,
            life in 1_i64..631_107_417_600,
            share in 0_u8..=100,
            spread in 0_u8..=100,
            seed in any::<u64>(),
        ) {
            let begin = OffsetDateTime::from_unix_timestamp(begin).unwrap();
            let end = begin.saturating_add(Duration::seconds(life));
            prop_assume!(end > begin);
            let policy = RenewalPolicy::new().with_share(share).with_spread(spread);
            let at = policy.moment(begin, end, seed);
            prop_assert!(at >= begin && at <= end);
            prop_assert!(at <= policy.with_spread(0).moment(begin, end, seed));
            prop_assert_eq!(at, policy.moment(begin, end, seed));
        }
    }
}
