//! Delays answers.

use std::time::Duration;

use tokio::time::sleep;

/// Delays an answer; only its own connection waits.
pub(super) async fn hold_back(delay: Duration) {
    // The timer has ticks of a millisecond, so that even a delay of zero would take time.
    if !delay.is_zero() {
        sleep(delay).await;
    }
}
