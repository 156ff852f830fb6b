//! The time as the emulator sees it, and how the service writes it.

use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// Where the service reads the time; rules get it as an argument.
#[derive(Clone, Copy)]
pub(crate) struct Clock;

impl Clock {
    pub(crate) fn now(self) -> OffsetDateTime {
        OffsetDateTime::now_utc()
    }
}

/// Writes a time with seven fractional digits and `Z`.
pub(crate) fn timestamp(time: OffsetDateTime) -> String {
    time.format(TIMESTAMP).unwrap_or_default()
}

const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:7]Z");

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn timestamps_have_seven_fractional_digits() {
        assert_eq!(timestamp(datetime!(2026-05-04 09:15:27 UTC)), "2026-05-04T09:15:27.0000000Z");
        assert_eq!(timestamp(datetime!(2026-05-04 09:15:27.1234567 UTC)), "2026-05-04T09:15:27.1234567Z");
    }
}
