//! How long the tests wait, and how a test lets a limit pass without waiting.
//!
//! A limit that a test really waits for is short, and on a slow machine a peer that does answer misses it. So
//! limits are long, and where the peer is silent the test moves the clock.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{advance, pause, resume, timeout};

/// How long a client waits for a connection, and how long for each answer.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What takes this long has hung, on a slow machine too.
pub const HUNG: Duration = Duration::from_secs(120);

/// Moves the clock of this test's runtime forward. Limits that end within this time are over.
///
/// # Panics
/// If the runtime has several threads.
pub async fn pass(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

/// What the work comes to when its peer stays silent for this long, which passes at once.
///
/// # Panics
/// If the work goes on, or the runtime has several threads.
pub async fn after_silence<T>(limit: Duration, mut work: JoinHandle<T>) -> T {
    // The work may not have read the peer's last words yet, and then its limit starts anew.
    for _ in 0..3 {
        pass(limit).await;
        if let Ok(outcome) = timeout(SOON, &mut work).await {
            return outcome.unwrap();
        }
    }
    panic!("the work goes on although its limit of {limit:?} is over");
}

/// Work ends within this time once its limit is over.
const SOON: Duration = Duration::from_secs(10);
