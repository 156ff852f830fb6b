//! The saved form of the clock.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::clock::Clock;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SavedClock {
    /// The time at which it was stopped, since the beginning of 1970; null if it follows the system clock.
    stopped_at: Option<Duration>,
    ahead: Duration,
}

impl Clock {
    pub(crate) fn saved(self) -> SavedClock {
        // A clock that was stopped before 1970 shows the beginning of 1970.
        let stopped_at = self.still.map(|at| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
        SavedClock { stopped_at, ahead: self.ahead }
    }

    /// # Errors
    /// The clock stands at a time that the system cannot represent.
    pub(crate) fn restored(SavedClock { stopped_at, ahead }: SavedClock) -> Result<Self, String> {
        let still = stopped_at.map(|since| {
            SystemTime::UNIX_EPOCH.checked_add(since).ok_or("stoppedAt is beyond what the system represents")
        });
        Ok(Clock { still: still.transpose()?, ahead })
    }
}
