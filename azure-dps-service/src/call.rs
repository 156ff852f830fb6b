//! One call of a method: its time, which starts when the gate lets it through, and the attempts of its
//! operations.

use std::time::Duration;

use azure_dps_core::http::HttpAnswer;
use azure_dps_core::plumbing::Backoff;
use azure_dps_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};

use crate::answer::decode;
use crate::request::{Operation, Repeat};
use crate::since::{Began, Since};

/// The time of one call. Until the gate lets its first request through it has no deadline; a wait for other
/// calls moves the deadline.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) limit: Duration,
    deadline: Option<Instant>,
    /// The time at the gate, all waits together.
    pub(crate) waited: Duration,
}

impl Call {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, deadline: None, waited: Duration::ZERO }
    }

    /// The deadline; `None` before its first request was let through.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Records that a request was let through after a wait, and returns the deadline. A wait that the call's
    /// `own` throttled request caused counts as its time.
    pub(crate) fn let_through(&mut self, waited: Duration, now: Instant, own: bool) -> Instant {
        self.waited += waited;
        *self.deadline.insert(match self.deadline {
            None => now + self.limit,
            Some(deadline) if own => deadline,
            Some(deadline) => deadline + waited,
        })
    }

    /// Waits, if there is a pause and it ends before the deadline. Returns whether it waited.
    pub(crate) async fn pause(&self, pause: Option<Duration>) -> bool {
        let until = pause.and_then(|pause| Instant::now().checked_add(pause));
        match (pause, until) {
            (Some(pause), Some(until)) if self.deadline.is_none_or(|deadline| until < deadline) => {
                sleep(pause).await;
                true
            }
            _ => false,
        }
    }
}

/// The attempts of one operation, and what the earlier ones may have done.
#[derive(Debug)]
pub(crate) struct Tries {
    pub(crate) backoff: Backoff,
    pub(crate) attempts: u32,
    /// Whether the service may have executed a failed attempt: a later refusal may be its echo.
    pub(crate) may_echo: bool,
    /// Whether that is still unknown.
    pub(crate) doubt: bool,
    /// When the latest attempt was sent.
    sent: Option<Began>,
    /// When the first attempt was sent that the service may have executed.
    doubtful_since: Option<Began>,
}

impl Tries {
    pub(crate) fn new(backoff: Backoff) -> Self {
        Self { backoff, attempts: 0, may_echo: false, doubt: false, sent: None, doubtful_since: None }
    }

    /// Records that an attempt begins.
    pub(crate) fn begin(&mut self) {
        self.sent = Some(Began::now());
    }

    /// Records that the service may have executed the latest attempt although it failed.
    pub(crate) fn in_doubt(&mut self) {
        (self.may_echo, self.doubt) = (true, true);
        self.doubtful_since = self.doubtful_since.or(self.sent);
    }

    /// The time since when the service may have executed the operation, by the `Date` of an answer that has
    /// just arrived.
    pub(crate) fn since(&self, date: Option<OffsetDateTime>) -> Option<Since> {
        self.doubtful_since.map(|began| began.by_service(date))
    }

    /// The pause before the next attempt, if one is left.
    pub(crate) fn pause(&mut self, error: &Error) -> Option<Duration> {
        self.backoff.pause(error.service().and_then(|service| service.retry_after))
    }

    /// Parses the answer to a write. A write that was answered with success is applied even when the answer
    /// cannot be parsed.
    pub(crate) fn decode<T: DeserializeOwned>(&mut self, answer: &HttpAnswer) -> Result<T> {
        decode(answer).inspect_err(|_| self.in_doubt())
    }

    /// The error that ends the operation.
    pub(crate) fn end(&self, error: Error) -> Error {
        if self.doubt { error.with_maybe_applied() } else { error }
    }

    /// Whether the client has to read the record to learn the outcome of `operation`, which failed with
    /// `error`.
    pub(crate) fn must_reread_after(&self, operation: &Operation, error: &Error) -> bool {
        operation.repeat == Repeat::AfterReread && self.may_echo && error.kind() != ErrorKind::Timeout
    }
}
