//! The copies in which an answer is sent.

use std::borrow::Cow;

use crate::call::answer::Delivery;

/// One copy of an answer.
pub(super) struct Copy<'a> {
    pub(super) rid: Cow<'a, str>,
    pub(super) is_garbage: bool,
}

/// The copies of the answer to the request with this id; `None` if the connection is closed instead.
pub(super) fn plan(delivery: Delivery, rid: &str) -> Option<Vec<Copy<'_>>> {
    let copy = |is_garbage| Copy { rid: rid.into(), is_garbage };
    Some(match delivery {
        Delivery::Plain => vec![copy(false)],
        Delivery::Garbage => vec![copy(true)],
        Delivery::WrongRid => vec![Copy { rid: format!("wrong-{rid}").into(), is_garbage: false }],
        Delivery::Twice => vec![copy(false), copy(false)],
        Delivery::Stall => Vec::new(),
        Delivery::HangUp => return None,
    })
}
