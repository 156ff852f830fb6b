//! The registration driver: decides what to send next and when, and never touches a socket or a clock.
//!
//! | state | event | next |
//! |---|---|---|
//! | registering, polling | 2xx and `assigned` | done; with a TPM first its identity key is installed |
//! | registering, polling | 2xx and `assigning` or `unassigned` | poll after the delay |
//! | registering | 401 with a TPM and `authenticationKey` in the body, at most three times | answer the challenge, register again |
//! | any | other 401, 403 | `Unauthorized` |
//! | any | 429, or 503 with `retry-after` | the same request after `retry-after` or a back-off, until the deadline |
//! | any | 408, other 5xx | the same request after `retry-after` or a back-off; one budget to register, one to poll |
//! | registering, polling | 409 | register again after a back-off: another registration of this device is running |
//! | looking up | 409 | the same request after a back-off |
//! | any | other 4xx | `Service` |
//! | any | 2xx and `failed` or `disabled` | `Registration`, carrying the state |
//! | any | 2xx and an unknown status, no operation id, or no JSON; any other status | `Protocol` |
//! | any | connection refused with such a status | connect again after `retry-after` or a back-off, until the deadline |
//! | any | connection refused or lost | connect again, three times in a row at most; then poll if operations survive, else register |
//! | any | a wait that would end after the deadline | the error that led to it, at once |
//! | looking up | 2xx | done: the state |
//! | waiting | the time has passed | send |
//! | any | the deadline | `Timeout`, with the operation id |
//!
//! The delay is `retry-after`, else [`RegistrationPolicy::with_poll_interval`], and never below
//! [`RegistrationPolicy::with_min_poll_interval`]. After a refusal a random part is added to `retry-after`, so that a fleet
//! does not come back in step; see [`RetryPolicy`]. Where only `retry-after` itself ends before the deadline,
//! it is the delay.
//!
//! [`RetryPolicy`]: azure_dps_core::RetryPolicy
//! The tests below are the rows.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use azure_dps_core::models::{DeviceRegistrationState, EnrollmentStatus, RegistrationOperationStatus};
use azure_dps_core::plumbing::Backoff;
use azure_dps_core::{CredentialKind, Error, ErrorKind, Result, Sensitive, ServiceError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use crate::assignment::Assignment;
use crate::deadline::Deadline;
use crate::policy::RegistrationPolicy;
use crate::transport::contract::{Operation, Purpose, Reply};

/// What the loop does next.
#[derive(Debug)]
pub(crate) enum Step {
    Connect,
    Send(Operation),
    Wait(Duration),
    /// Import this blob into the TPM, to answer the service's challenge.
    Challenge(Vec<u8>),
    /// Import this blob into the TPM, as the device's identity at its hub.
    Install(Vec<u8>),
    /// The state that was reached: assigned, or for a look-up whatever the service holds.
    Done(Box<DeviceRegistrationState>),
}

#[derive(Debug)]
pub(crate) struct Driver {
    /// The body of the registration or the look-up.
    body: Sensitive<Vec<u8>>,
    credential: CredentialKind,
    policy: RegistrationPolicy,
    deadline: Deadline,
    state: State,
    connected: bool,
    operations_survive: bool,
    operation_id: Option<String>,
    challenges: u32,
    register: Backoff,
    poll: Backoff,
    connect: Backoff,
    seed: u64,
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
            credential,
            policy,
            deadline,
            state: State::Ready(phase),
            connected: false,
            operations_survive: false,
            operation_id: None,
            challenges: 0,
            register: policy.retry().start(seed),
            poll: policy.retry().start(seed ^ 1),
            connect: policy.reconnect(seed ^ 2),
            seed,
        }
    }

    /// What to do now. `now` must not go backwards.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] once `now` has reached the deadline.
    pub(crate) fn next(&mut self, now: Instant) -> Result<Step> {
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
            State::Sent(_) | State::Ended => Err(self.protocol("a step was asked for out of turn")),
        }
    }

    /// A connection was made.
    pub(crate) fn on_connected(&mut self, operations_survive: bool) {
        self.connected = true;
        self.operations_survive = operations_survive;
    }

    /// Connecting, exchanging or waiting failed.
    ///
    /// # Errors
    /// The failure itself, when it is not one to try again or the budget is spent.
    pub(crate) fn on_failure(&mut self, failure: Error, now: Instant) -> Result<()> {
        if !matches!(failure.kind(), ErrorKind::Connect | ErrorKind::Io) {
            return Err(self.with_context(failure));
        }
        self.connected = false;
        let phase = match &self.state {
            State::Ready(phase) | State::Sent(phase) | State::Waiting { then: phase, .. } => *phase,
            _ => return Err(self.with_context(failure)),
        };
        let phase = match phase {
            Phase::Polling if !self.operations_survive => Phase::Registering,
            phase => phase,
        };
        // A service that refuses the connection may say for how long.
        match again(&mut self.connect, failure.service()) {
            Some(pauses) => self.wait(pauses, phase, now, Some(failure)),
            None => Err(self.with_context(failure)),
        }
    }

    /// The reply to the request that was sent last.
    ///
    /// # Errors
    /// Whatever ends the registration; see the table of this module.
    pub(crate) fn on_reply(&mut self, reply: &Reply, now: Instant) -> Result<()> {
        let State::Sent(phase) = self.state else {
            return Err(self.protocol("a reply came to no request"));
        };
        self.connect = self.policy.reconnect(self.seed);
        match reply.status {
            200..=299 if phase == Phase::LookingUp => {
                self.state = State::Done(Box::new(self.parse(&reply.body)?));
                Ok(())
            }
            200..=299 => self.on_operation(reply, now),
            // DPS answers the first request of a TPM with 401 on purpose: it carries the key that activates the credential.
            401 if phase == Phase::Registering && self.credential == CredentialKind::Tpm => {
                match challenge(&reply.body) {
                    Some(blob) if self.challenges < MOST_CHALLENGES => {
                        self.challenges += 1;
                        let blob = self.decode(&blob)?;
                        self.state = State::Challenged(blob);
                        Ok(())
                    }
                    _ => Err(self.refused(ErrorKind::Unauthorized, reply)),
                }
            }
            401 | 403 => Err(self.refused(ErrorKind::Unauthorized, reply)),
            409 if phase == Phase::Polling => self.retry(Phase::Registering, reply, now),
            408 | 409 | 429 | 500..=599 => self.retry(phase, reply, now),
            400..=499 => Err(self.refused(ErrorKind::Service, reply)),
            status => {
                Err(self.protocol(&format!("status {status} is none that the provisioning service sends")))
            }
        }
    }

    /// The error when the deadline passes while something is under way.
    pub(crate) fn expired(&self) -> Error {
        let what = match (&self.state, self.connected) {
            (State::Ready(_) | State::Waiting { .. }, false) => "no connection could be made",
            (State::Sent(Phase::LookingUp), _) => "the service did not answer the look-up",
            (State::Sent(Phase::Registering), _) => "the service did not answer the registration",
            (State::Sent(Phase::Polling), _) => "the service did not answer a poll",
            _ => "the service had not assigned the device",
        };
        let limit = self.deadline.limit();
        self.with_context(Error::new(
            ErrorKind::Timeout,
            format!("{what} within the {limit:?} that the caller allowed"),
        ))
    }

    fn operation(&self, phase: Phase) -> Operation {
        match (phase, &self.operation_id) {
            (Phase::Polling, Some(id)) => Operation::Status { operation_id: id.clone() },
            (Phase::LookingUp, _) => Operation::Lookup { body: self.body.to_vec() },
            (Phase::Registering | Phase::Polling, _) => Operation::Register { body: self.body.to_vec() },
        }
    }

    fn on_operation(&mut self, reply: &Reply, now: Instant) -> Result<()> {
        let operation = self.parse::<RegistrationOperationStatus>(&reply.body)?;
        if let Some(id) = operation.operation_id.filter(|id| !id.is_empty()) {
            if id.len() > LONGEST_ID || id.contains(char::is_control) {
                return Err(self.protocol("the answer has an operationId that can be none"));
            }
            self.operation_id = Some(id);
        }
        let state = operation.registration_state;
        let status = operation.status.or_else(|| state.as_ref().and_then(|state| state.status.clone()));
        match status {
            Some(EnrollmentStatus::Assigned) => self.assigned(state.unwrap_or_default()),
            Some(EnrollmentStatus::Assigning | EnrollmentStatus::Unassigned)
                if self.operation_id.is_none() =>
            {
                Err(self.protocol("the registration is under way but the answer has no operationId"))
            }
            Some(EnrollmentStatus::Assigning | EnrollmentStatus::Unassigned) => {
                let pause = reply.retry_after.unwrap_or(self.policy.poll_interval());
                self.wait(pause..=pause, Phase::Polling, now, None)
            }
            Some(EnrollmentStatus::Failed | EnrollmentStatus::Disabled) => {
                let mut state = state.unwrap_or_default();
                state.status = status;
                Err(self.decided(state))
            }
            Some(unknown) => {
                let start: String = unknown.as_str().chars().take(LONGEST_STATUS).collect();
                Err(self.protocol(&format!("the registration has the unknown status {start:?}")))
            }
            None => Err(self.protocol("the answer has no registration status")),
        }
    }

    fn assigned(&mut self, state: DeviceRegistrationState) -> Result<()> {
        let blob = state.tpm.as_ref().and_then(|tpm| tpm.authentication_key.as_deref().cloned());
        Assignment::named(&state).map_err(|why| self.with_context(why))?;
        let state = Box::new(state);
        self.state = match (self.credential, blob) {
            (CredentialKind::Tpm, Some(blob)) => State::Installing(self.decode(&blob)?, state),
            (CredentialKind::Tpm, None) => {
                return Err(self.protocol("the assignment of a TPM carries no authenticationKey"));
            }
            _ => State::Done(state),
        };
        Ok(())
    }

    fn retry(&mut self, then: Phase, reply: &Reply, now: Instant) -> Result<()> {
        let refused = self.refused(ErrorKind::Service, reply);
        let backoff = if then == Phase::Polling { &mut self.poll } else { &mut self.register };
        match again(backoff, refused.service()) {
            Some(pauses) => self.wait(pauses, then, now, Some(refused)),
            None => Err(refused),
        }
    }

    /// Waits for the longest of these pauses, or for the shortest where only that ends before the deadline.
    fn wait(
        &mut self,
        pauses: RangeInclusive<Duration>,
        then: Phase,
        now: Instant,
        cause: Option<Error>,
    ) -> Result<()> {
        let (shortest, longest) = pauses.into_inner();
        let ends =
            [longest, shortest].map(|pause| now.checked_add(pause.max(self.policy.min_poll_interval())));
        match ends.into_iter().flatten().find(|until| *until < self.deadline.at()) {
            Some(until) => {
                self.state = State::Waiting { until, then };
                Ok(())
            }
            None => Err(cause.unwrap_or_else(|| {
                let pause = shortest.max(self.policy.min_poll_interval());
                let left = self.deadline.at().saturating_duration_since(now);
                self.with_context(Error::new(
                    ErrorKind::Timeout,
                    format!("the device is not assigned yet, and the {pause:?} to wait are more than the {left:?} left"),
                ))
            })),
        }
    }

    fn decided(&self, state: DeviceRegistrationState) -> Error {
        let message = match &state.status {
            Some(EnrollmentStatus::Disabled) => "the enrollment of this device is disabled",
            _ => "the service could not assign the device",
        };
        self.with_context(Error::new(ErrorKind::Registration, message).with_state(state))
    }

    fn refused(&self, kind: ErrorKind, reply: &Reply) -> Error {
        let message = match (kind, reply.status) {
            (ErrorKind::Unauthorized, _) => "the service refused the device's credential",
            (_, 429) => "the service throttles this request",
            (_, 409) => "another registration of this device is running",
            (_, 408 | 500..=599) => "the service has a fault",
            _ => "the service refused the request",
        };
        let service = ServiceError::from_answer(reply.status, reply.retry_after, &reply.body);
        self.with_context(Error::new(kind, message).with_service(service))
    }

    fn parse<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|why| self.with_context(Error::from_json(&why)))
    }

    fn decode(&self, blob: &str) -> Result<Vec<u8>> {
        let packed: String = blob.split_ascii_whitespace().collect();
        BASE64.decode(packed).map_err(|_| self.protocol("the authenticationKey is not base64"))
    }

    fn protocol(&self, message: &str) -> Error {
        self.with_context(Error::new(ErrorKind::Protocol, message))
    }

    /// Adds what every error of this registration carries.
    pub(crate) fn with_context(&self, error: Error) -> Error {
        let error = error.with_credential(self.credential);
        match &self.operation_id {
            Some(id) => error.with_operation_id(id),
            None => error,
        }
    }
}

/// The shortest and the longest pause before the same is tried again; `None` when the budget is spent.
fn again(backoff: &mut Backoff, service: Option<&ServiceError>) -> Option<RangeInclusive<Duration>> {
    let asked = service.and_then(|service| service.retry_after);
    let pause = match service {
        Some(service) if service.is_throttling() => backoff.throttled(asked),
        _ => backoff.pause(asked),
    }?;
    Some(asked.filter(|asked| !asked.is_zero()).unwrap_or(pause)..=pause)
}

/// The activation blob of a TPM challenge; it stands at the root of the body, not in the form of an error.
fn challenge(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("authenticationKey")?.as_str().map(str::to_owned)
}

const MOST_CHALLENGES: u32 = 3;
/// In bytes. The service's have about a hundred at the most; it goes into adwith_contextes, topics and errors.
const LONGEST_ID: usize = 1024;
const LONGEST_STATUS: usize = 64;

#[cfg(test)]
mod tests;
