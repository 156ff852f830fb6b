//! One register request, whose result the device polls for.

use serde::{Deserialize, Serialize};

use crate::clock::Moment;

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operation {
    pub(super) id: String,
    pub(super) wait: Wait,
}

/// Decides which polls come too early.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Wait {
    /// Polls before this time, which is when the device was asked to poll.
    Until(Moment),
    /// The first polls, this many of them.
    Polls(u32),
}

impl Wait {
    /// Judges a poll, and counts it.
    pub(super) fn is_over(&mut self, now: Moment) -> bool {
        match self {
            Wait::Until(due) => now.has_reached(*due),
            Wait::Polls(left) => match left.checked_sub(1) {
                Some(less) => {
                    *left = less;
                    false
                }
                None => true,
            },
        }
    }
}
