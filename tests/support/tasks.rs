//! What is left of tasks when connections end.

use std::time::Duration;

use tokio::time::timeout;

use crate::limits::HUNG;

/// The number of tasks on the runtime of this test.
pub fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

/// Waits until a condition holds.
pub async fn settles(done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(HUNG, waiting).await.unwrap();
}
