//! Answers that come later than they are ready.

use std::time::Duration;

use tokio::time::sleep;

/// Holds an answer back, which delays nothing but its own connection.
pub(super) async fn hold_back(delay: Duration) {
    // The timer has ticks of a millisecond: no delay is to take no time.
    if !delay.is_zero() {
        sleep(delay).await;
    }
}
