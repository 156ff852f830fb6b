//! The registration driver: decides what to send next and when. It uses neither socket nor clock.
//!
//! | state | event | next |
//! |---|---|---|
//! | registering, polling | 2xx and `assigned` | done; with a TPM, install its identity key first |
//! | registering, polling | 2xx and `assigning` or `unassigned` | poll after the delay |
//! | registering, polling | the same with `retry-after: 0` | poll at once, twice; then after a pause that grows |
//! | registering | 401 to a TPM with `authenticationKey`, up to three times | answer it, then register |
//! | any | other 401, 403 | `Unauthorized` |
//! | any | 429, or 503 with `retry-after` | repeat the request after the delay, until the deadline |
//! | registering, looking up | the same, for a provisioning manager, which waits itself | the error |
//! | any | 408, other 5xx | repeat the request after the delay; registering and polling have a budget each |
//! | registering, polling | 409: another registration of this device is running | register after a back-off |
//! | looking up | 409 | repeat the request after a back-off |
//! | any | other 4xx | `Service` |
//! | registering, polling | 2xx and `failed` or `disabled` | `Registration`, with the state |
//! | registering, polling | 2xx and an unknown status, or no operation id | `Protocol` |
//! | any | 2xx and invalid JSON; any other status | `Protocol` |
//! | any | connection refused by a service that throttles | connect after the delay, until the deadline |
//! | any | connection otherwise refused, or lost | connect after a back-off, three times in a row at most |
//! | any | a reply | three connections may fail again; the back-off keeps growing |
//! | any | a wait that would end after the deadline | at once, the error that caused the wait |
//! | looking up | 2xx | done, with the state |
//! | waiting | the wait is over | send |
//! | any | the deadline | `Timeout`, with the operation id; its cause is the failure that was being retried |
//!
//! After a lost connection the driver polls again if the transport's operations survive, and registers again
//! if not.
//!
//! The delay is `retry-after`; else [`RegistrationPolicy::with_poll_interval`] before a poll, and a back-off
//! before a retry. It is never less than [`RegistrationPolicy::with_min_poll_interval`], except after a stated
//! `retry-after: 0` while the registration is running: the pauses are then none, none, and a sixteenth, an
//! eighth, a quarter, a half and the whole of that interval, so that a service that never decides is not
//! flooded. After a refusal the driver adds a random part to `retry-after`, so that the devices of a fleet do
//! not return at the same moment; see [`RetryPolicy`](azure_dps_core::RetryPolicy). If only `retry-after`
//! without that part ends before the deadline, it is the delay.
//!
//! Each row has a test in `driver/tests.rs`.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use azure_dps_core::models::{DeviceRegistrationState, EnrollmentStatus, RegistrationOperationStatus};
use azure_dps_core::plumbing::{Backoff, read_json};
use azure_dps_core::{CredentialKind, Error, ErrorKind, Result, Sensitive};
use serde_json::Value;

use self::context::Context;
use self::pauses::{Polls, before_retry};
use crate::assignment::Assignment;
use crate::deadline::Deadline;
use crate::policy::RegistrationPolicy;
use crate::transport::contract::{MOST_IN_MEMORY, Operation, Purpose, Reply};

mod context;
mod pauses;

/// The next step for the loop.
#[derive(Debug)]
pub(crate) enum Step {
    Connect,
    Send(Operation),
    Wait(Duration),
    /// Import this blob into the TPM, to answer the service's challenge.
    Challenge(Vec<u8>),
    /// Import this blob into the TPM, as the device's identity at its hub.
    Install(Vec<u8>),
    /// The final state: assigned, or the result of a look-up.
    Done(Box<DeviceRegistrationState>),
}

#[derive(Debug)]
pub(crate) struct Driver {
    /// The body of the registration or the look-up.
    body: Sensitive<Vec<u8>>,
    context: Context,
    policy: RegistrationPolicy,
    deadline: Deadline,
    state: State,
    connected: bool,
    operations_survive: bool,
    challenges: u32,
    polls: Polls,
    register: Backoff,
    poll: Backoff,
    connect: Backoff,
    /// The failure that is being retried.
    last: Option<Error>,
}

#[derive(Debug)]
enum State {
    Ready(Phase),
    Sent(Phase),
    Waiting { until: Instant, then: Phase },
    Challenged(Vec<u8>),
    Installing(Vec<u8>, Box<DeviceRegistrationState>),
    Done(Box<DeviceRegistrationState>),
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Registering,
    Polling,
    LookingUp,
}

impl Driver {
    pub(crate) fn new(
        purpose: Purpose,
        body: Vec<u8>,
        credential: CredentialKind,
        policy: RegistrationPolicy,
        deadline: Deadline,
        seed: u64,
    ) -> Self {
        let phase = match purpose {
            Purpose::Register => Phase::Registering,
            Purpose::Lookup => Phase::LookingUp,
        };
        Self {
            body: body.into(),
            context: Context { credential, operation_id: None },
            policy,
            deadline,
            state: State::Ready(phase),
            connected: false,
            operations_survive: false,
            challenges: 0,
            polls: Polls::default(),
            // Different seeds, so that the random pauses of one device are not all alike.
            register: policy.retry().start(seed),
            poll: policy.retry().start(seed ^ 1),
            connect: policy.reconnect(seed ^ 2),
            last: None,
        }
    }

    /// Returns the next step. `now` must not go backwards.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] once `now` has reached the deadline.
    pub(crate) fn next(&mut self, now: Instant) -> Result<Step> {
        // A result that is already known is returned even after the deadline: the work is done.
        if now >= self.deadline.at() && !matches!(self.state, State::Done(_)) {
            return Err(self.expired());
        }
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Waiting { until, then } if until > now => {
                self.state = State::Waiting { until, then };
                Ok(Step::Wait(until - now))
            }
            State::Ready(phase) | State::Waiting { then: phase, .. } if self.connected => {
                self.state = State::Sent(phase);
                Ok(Step::Send(self.operation(phase)))
            }
            State::Ready(phase) | State::Waiting { then: phase, .. } => {
                self.state = State::Ready(phase);
                Ok(Step::Connect)
            }
            State::Challenged(blob) => {
                self.state = State::Ready(Phase::Registering);
                Ok(Step::Challenge(blob))
            }
            State::Installing(blob, state) => {
                self.state = State::Done(state);
                Ok(Step::Install(blob))
            }
            State::Done(state) => Ok(Step::Done(state)),
            State::Sent(_) | State::Ended => {
                Err(self.context.protocol("asked for the next step before the last one was finished"))
            }
        }
    }

    /// The loop has connected.
    pub(crate) fn on_connected(&mut self, operations_survive: bool) {
        self.connected = true;
        self.operations_survive = operations_survive;
    }

    /// Connecting, exchanging or waiting failed.
    ///
    /// # Errors
    /// The failure itself, when a retry cannot help or the budget is spent.
    pub(crate) fn on_failure(&mut self, failure: Error, now: Instant) -> Result<()> {
        if !matches!(failure.kind(), ErrorKind::Connect | ErrorKind::Io) {
            return Err(self.with_context(failure));
        }
        self.connected = false;
        let phase = match &self.state {
            State::Ready(phase) | State::Sent(phase) | State::Waiting { then: phase, .. } => *phase,
            _ => return Err(self.with_context(failure)),
        };
        // MQTT and AMQP report an operation only on the connection that started it, so a poll on another one
        // would never be answered.
        let phase = match phase {
            Phase::Polling if !self.operations_survive => Phase::Registering,
            phase => phase,
        };
        // A service that refuses the connection may name the time to wait.
        match before_retry(&mut self.connect, failure.service(), self.policy, phase == Phase::Polling) {
            Some(pauses) => self.wait(pauses, phase, now, Some(failure)),
            None => Err(self.with_context(failure)),
        }
    }

    /// The reply to the request that was sent last.
    ///
    /// # Errors
    /// The error that ends the registration; see the table of this module.
    pub(crate) fn on_reply(&mut self, reply: &Reply, now: Instant) -> Result<()> {
        let State::Sent(phase) = self.state else {
            return Err(self.context.protocol("received a reply that no request is waiting for"));
        };
        self.last = None;
        // Only failures in a row count, and this connection works. Its successor may still be lost like this
        // one, and so on until the deadline, so the pauses go on growing.
        self.connect.renew();
        match reply.status {
            200..=299 if phase == Phase::LookingUp => {
                self.state = State::Done(Box::new(self.context.parse(&reply.body)?));
                Ok(())
            }
            200..=299 => self.on_operation(reply, now),
            401 if phase == Phase::Registering && self.context.credential == CredentialKind::Tpm => {
                self.on_challenge(reply)
            }
            401 | 403 => Err(self.context.refused(ErrorKind::Unauthorized, reply)),
            // Further polls cannot help: another registration of this device has taken over.
            409 if phase == Phase::Polling => self.retry(Phase::Registering, reply, now),
            408 | 409 | 429 | 500..=599 => self.retry(phase, reply, now),
            400..=499 => Err(self.context.refused(ErrorKind::Service, reply)),
            status => {
                let message =
                    format!("unexpected status {status}: the provisioning service does not send it");
                Err(self.context.protocol(&message))
            }
        }
    }

    /// The error when the deadline passes during a step.
    pub(crate) fn expired(&mut self) -> Error {
        let what = match (&self.state, self.connected) {
            (State::Ready(_) | State::Waiting { .. }, false) => "no connection was established",
            (State::Sent(Phase::LookingUp), _) => "the service did not answer the look-up",
            (State::Sent(Phase::Registering), _) => "the service did not answer the registration",
            (State::Sent(Phase::Polling), _) => "the service did not answer a poll",
            _ => "the service did not assign the device",
        };
        let limit = self.deadline.limit();
        let message = format!("{what} within the timeout of {limit:?}");
        let error = self.with_context(Error::new(ErrorKind::Timeout, message));
        match self.last.take() {
            Some(last) => error.with_source(last),
            None => error,
        }
    }

    /// Adds the credential's kind and the operation id to an error.
    pub(crate) fn with_context(&self, error: Error) -> Error {
        self.context.add_to(error)
    }

    fn operation(&self, phase: Phase) -> Operation {
        match (phase, &self.context.operation_id) {
            (Phase::Polling, Some(id)) => Operation::Status { operation_id: id.clone() },
            (Phase::LookingUp, _) => Operation::Lookup { body: self.body.to_vec() },
            (Phase::Registering | Phase::Polling, _) => Operation::Register { body: self.body.to_vec() },
        }
    }

    /// A 401 to a TPM. The service answers a TPM's first request with it on purpose: the body carries the
    /// blob that only this TPM can open. A limit is needed because a TPM that opens it wrongly would be
    /// challenged for ever.
    fn on_challenge(&mut self, reply: &Reply) -> Result<()> {
        match challenge(&reply.body) {
            Some(blob) if self.challenges < MOST_CHALLENGES => {
                self.challenges += 1;
                self.state = State::Challenged(self.context.decode(&blob)?);
                Ok(())
            }
            _ => Err(self.context.refused(ErrorKind::Unauthorized, reply)),
        }
    }

    fn on_operation(&mut self, reply: &Reply, now: Instant) -> Result<()> {
        let operation = self.context.parse::<RegistrationOperationStatus>(&reply.body)?;
        if let Some(id) = operation.operation_id.filter(|id| !id.is_empty()) {
            if id.len() > LONGEST_ID || id.contains(char::is_control) {
                let message =
                    "the answer's operationId is not valid: too long, or it contains control characters";
                return Err(self.context.protocol(message));
            }
            self.context.operation_id = Some(id);
        }
        let state = operation.registration_state;
        let status = operation.status.or_else(|| state.as_ref().and_then(|state| state.status.clone()));
        match status {
            Some(EnrollmentStatus::Assigned) => self.assigned(state.unwrap_or_default()),
            Some(EnrollmentStatus::Assigning | EnrollmentStatus::Unassigned)
                if self.context.operation_id.is_none() =>
            {
                Err(self
                    .context
                    .protocol("the registration is still running, but the answer has no operationId"))
            }
            Some(EnrollmentStatus::Assigning | EnrollmentStatus::Unassigned) => {
                let pause = self.polls.pause(reply.retry_after, self.policy);
                self.wait(pause..=pause, Phase::Polling, now, None)
            }
            Some(EnrollmentStatus::Failed | EnrollmentStatus::Disabled) => {
                let mut state = state.unwrap_or_default();
                state.status = status;
                Err(self.context.decided(state))
            }
            Some(unknown) => {
                let start: String = unknown.as_str().chars().take(LONGEST_STATUS).collect();
                Err(self.context.protocol(&format!("the registration has the unknown status {start:?}")))
            }
            None => Err(self.context.protocol("the answer has no registration status")),
        }
    }

    fn assigned(&mut self, state: DeviceRegistrationState) -> Result<()> {
        let blob = state.tpm.as_ref().and_then(|tpm| tpm.authentication_key.as_deref().cloned());
        // Checked before the TPM's key is replaced, so that a useless assignment leaves the old key in place.
        Assignment::check(&state).map_err(|why| self.with_context(why))?;
        let state = Box::new(state);
        self.state = match (self.context.credential, blob) {
            (CredentialKind::Tpm, Some(blob)) => State::Installing(self.context.decode(&blob)?, state),
            (CredentialKind::Tpm, None) => {
                return Err(self.context.protocol("the assignment of a TPM has no authenticationKey"));
            }
            _ => State::Done(state),
        };
        Ok(())
    }

    fn retry(&mut self, then: Phase, reply: &Reply, now: Instant) -> Result<()> {
        let refused = self.context.refused(ErrorKind::Service, reply);
        let backoff = if then == Phase::Polling { &mut self.poll } else { &mut self.register };
        match before_retry(backoff, refused.service(), self.policy, then == Phase::Polling) {
            Some(pauses) => self.wait(pauses, then, now, Some(refused)),
            None => Err(refused),
        }
    }

    /// Waits for the longest of these pauses, or for the shortest if only that ends before the deadline.
    fn wait(
        &mut self,
        pauses: RangeInclusive<Duration>,
        then: Phase,
        now: Instant,
        cause: Option<Error>,
    ) -> Result<()> {
        let (shortest, longest) = pauses.into_inner();
        // A `retry-after` of centuries overflows the clock; such a pause cannot end before the deadline
        // either.
        let ends = [longest, shortest].map(|pause| now.checked_add(pause));
        if let Some(until) = ends.into_iter().flatten().find(|until| *until < self.deadline.at()) {
            self.state = State::Waiting { until, then };
            self.last = cause;
            return Ok(());
        }
        Err(cause.map(|cause| self.with_context(cause)).unwrap_or_else(|| {
            let left = self.deadline.at().saturating_duration_since(now);
            let message = format!(
                "not assigned yet: the next poll is due in {shortest:?}, \
                 but only {left:?} remain before the deadline"
            );
            self.with_context(Error::new(ErrorKind::Timeout, message))
        }))
    }
}

/// The activation blob of a TPM challenge. It is a member of the body itself, which is not the form of an
/// error.
fn challenge(body: &[u8]) -> Option<String> {
    let body: Value = read_json(body, MOST_IN_MEMORY).ok()?;
    body.get("authenticationKey")?.as_str().map(str::to_owned)
}

const MOST_CHALLENGES: u32 = 3;
/// In bytes. The service's ids have about a hundred at most; the id is used in addresses, topics and errors.
const LONGEST_ID: usize = 1024;
const LONGEST_STATUS: usize = 64;

#[cfg(test)]
mod tests;
