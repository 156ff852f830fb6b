//! One operation: passes the gate, authorizes, sends, retries where that does no harm, and returns the answer
//! or a typed error.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use azure_dps_core::http::{HttpAnswer, HttpClient};
use azure_dps_core::models::ApiVersion;
use azure_dps_core::{Error, ErrorKind, Result, RetryPolicy, ServiceError};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use crate::call::{Call, Tries};
use crate::credential::Credential;
use crate::gate::rules::Rank;
use crate::gate::{Closed, Gate, Pass};
use crate::request::{Operation, Repeat};

#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) http: HttpClient,
    pub(crate) credential: Credential,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
    pub(crate) gate: Gate,
    /// How long a call may wait at the gate in total.
    pub(crate) gate_timeout: Option<Duration>,
    pub(crate) api_version: ApiVersion,
    pub(crate) user_agent: String,
}

impl Pipeline {
    /// Starts a call.
    pub(crate) fn begin(&self) -> Call {
        Call::new(self.timeout)
    }

    pub(crate) fn tries(&self, operation: &Operation) -> Tries {
        Tries::new(self.retry.start(RandomState::new().hash_one(&operation.path)))
    }

    /// Executes `operation` as a separate call.
    pub(crate) async fn call(&self, operation: &Operation) -> Result<HttpAnswer> {
        self.execute(operation, &mut self.begin()).await
    }

    /// Executes `operation` as part of a call.
    pub(crate) async fn execute(&self, operation: &Operation, call: &mut Call) -> Result<HttpAnswer> {
        let mut tries = self.tries(operation);
        self.send_with_retries(operation, call, &mut tries).await.map_err(|error| tries.end(error))
    }

    /// Sends `operation`, and repeats it until the deadline as its [`Repeat`] and the retries left allow. The
    /// caller has to complete the error with [`Tries::end`].
    ///
    /// After an attempt that may have been applied, every later failure of the same operation is in doubt
    /// too.
    #[tracing::instrument(
        name = "dps_service",
        level = "info",
        skip_all,
        fields(
            operation = operation.name,
            path = operation.path,
            attempts = tracing::field::Empty,
            status = tracing::field::Empty
        )
    )]
    pub(crate) async fn send_with_retries(
        &self,
        operation: &Operation,
        call: &mut Call,
        tries: &mut Tries,
    ) -> Result<HttpAnswer> {
        let mut last = None;
        loop {
            let (pass, deadline) = self.pass(operation, call, &mut last).await?;
            let mut sent = false;
            tries.begin();
            let outcome = match timeout_at(deadline, self.attempt(operation, &mut sent)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.expired(operation, call, last.take())),
            };
            tries.attempts += 1;
            tracing::Span::current().record("attempts", tries.attempts);
            let error = match outcome {
                Ok(answer) => {
                    pass.answered();
                    tracing::Span::current().record("status", answer.status);
                    tracing::debug!("answered");
                    return Ok(answer);
                }
                Err(error) => error,
            };
            tracing::info!(kind = ?error.kind(), %error, "failed");
            if operation.writes && sent && is_doubtful(&error) {
                tries.in_doubt();
            }
            if operation.repeat == Repeat::UntilGone && tries.may_echo && error.is_not_found() {
                pass.answered();
                return Ok(HttpAnswer::new(204, Vec::new()));
            }
            if let Some(service) = error.service() {
                tracing::Span::current().record("status", service.status);
            }
            let repeats = match report(pass, &error, tries, deadline) {
                // The next pass waits at the gate.
                Some(is_waited_out) => is_waited_out,
                None => may_repeat(operation.repeat, &error) && call.pause(tries.pause(&error)).await,
            };
            if !repeats {
                return Err(error);
            }
            last = Some(error);
        }
    }

    /// Waits until the gate lets one request of the call through. After a throttled request, which is `last`,
    /// the wait counts as time of the call.
    async fn pass(
        &self,
        operation: &Operation,
        call: &mut Call,
        last: &mut Option<Error>,
    ) -> Result<(Pass<'_>, Instant)> {
        let own = last.as_ref().and_then(Error::service).is_some_and(ServiceError::is_throttling);
        let (rank, start) = (if call.deadline().is_some() { Rank::Begun } else { Rank::New }, Instant::now());
        let gate_limit =
            self.gate_timeout.and_then(|limit| start.checked_add(limit.saturating_sub(call.waited)));
        let limit = gate_limit.into_iter().chain(call.deadline().filter(|_| own)).min();
        match self.gate.enter(rank, limit).await {
            Ok(pass) => Ok((pass, call.let_through(start.elapsed(), Instant::now(), own))),
            Err(closed) => Err(match last.take().filter(|_| own) {
                Some(throttled) => throttled,
                None => self.kept_out(operation, &closed),
            }),
        }
    }

    /// Sets `sent` before anything can reach the service.
    async fn attempt(&self, operation: &Operation, sent: &mut bool) -> Result<HttpAnswer> {
        let mut request = operation.http(self.api_version.as_str(), &self.user_agent);
        let by = |error: Error| error.with_credential(self.credential.kind());
        let authorization = self.credential.authorization(self.http.authority(), OffsetDateTime::now_utc());
        let authorization = authorization.await.map_err(by)?;
        request.headers.push(("authorization", authorization.clone()));
        *sent = true;
        let answer = self.http.send(request).await.map_err(by)?;
        let (kind, message) = match answer.status {
            200..=299 => return Ok(answer),
            401 | 403 => {
                (ErrorKind::Unauthorized, self.credential.refused(&authorization, OffsetDateTime::now_utc()))
            }
            400..=599 => (ErrorKind::Service, "the service refused the request"),
            _ => (ErrorKind::Protocol, "unexpected status: the provisioning service does not send it"),
        };
        let service = ServiceError::from_answer(answer.status, answer.retry_after(), &answer.body);
        let error = Error::new(kind, format!("{} {}: {message}", operation.name, operation.path));
        Err(by(error.with_service(service)))
    }

    /// The error of a call whose deadline has passed; its cause is the failure of the previous attempt.
    fn expired(&self, operation: &Operation, call: &Call, last: Option<Error>) -> Error {
        let message = format!("{} {} did not finish within {:?}", operation.name, operation.path, call.limit);
        let error = Error::new(ErrorKind::Timeout, message).with_credential(self.credential.kind());
        match last {
            Some(last) => error.with_source(last),
            None => error,
        }
    }

    /// The error of a call that reached its limit at the gate; this request was not sent.
    fn kept_out(&self, operation: &Operation, closed: &Closed) -> Error {
        let Operation { name, path, .. } = operation;
        let limit = self.gate_timeout.unwrap_or_default();
        let why = match closed.opens_in {
            Some(time) => {
                format!("the service throttles this client for another {} s", time.as_secs_f64().ceil())
            }
            None => "earlier calls are waiting before it".to_owned(),
        };
        let message = format!("{name} {path} was not sent within the gate timeout of {limit:?}: {why}");
        Error::new(ErrorKind::Timeout, message).with_credential(self.credential.kind())
    }
}

/// Reports a failed attempt to the gate. Returns, for a throttled one, whether the policy repeats it.
fn report(pass: Pass<'_>, error: &Error, tries: &mut Tries, deadline: Instant) -> Option<bool> {
    // Dropping the pass records that there was no answer.
    let service = error.service()?;
    if !service.is_throttling() {
        pass.answered();
        return None;
    }
    let asked = service.retry_after.filter(|asked| !asked.is_zero());
    match tries.backoff.throttled(asked) {
        Some(pause) => {
            tracing::info!(pause_ms = pause.as_millis() as u64, "throttled: all calls of this client wait");
            let least = asked.unwrap_or(pause);
            // The random part alone must not exceed the deadline.
            let ends = |pause| Instant::now().checked_add(pause).is_some_and(|end| end < deadline);
            pass.throttled(least, if ends(least) && !ends(pause) { least } else { pause });
            Some(true)
        }
        None => {
            pass.answered();
            Some(false)
        }
    }
}

/// Whether the same request may be sent again after a pause without reading the record. A throttled one
/// always may.
fn may_repeat(repeat: Repeat, error: &Error) -> bool {
    match (error.kind(), error.service().map(|service| service.status)) {
        (ErrorKind::Connect, _) => true,
        (ErrorKind::Service, Some(408 | 503)) => true,
        (ErrorKind::Io, _) | (ErrorKind::Service, Some(500..=599)) => repeat != Repeat::AfterReread,
        _ => false,
    }
}

/// Whether a write that failed like this may be sent again after the record has shown that this does no harm.
pub(crate) fn may_repeat_after_reread(error: &Error) -> bool {
    may_repeat(Repeat::Freely, error)
}

/// Whether a write that was sent may have been applied although it failed like this.
fn is_doubtful(error: &Error) -> bool {
    let status = error.service().map(|service| service.status);
    matches!(
        (error.kind(), status),
        (ErrorKind::Io | ErrorKind::Protocol | ErrorKind::Timeout, _)
            | (ErrorKind::Service, Some(408 | 500..=599))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Error {
        let kind = if status == 401 { ErrorKind::Unauthorized } else { ErrorKind::Service };
        Error::new(kind, "refused").with_service(ServiceError::from_answer(status, None, b""))
    }

    fn failed(kind: ErrorKind) -> Error {
        Error::new(kind, "failed")
    }

    const ALL: [Repeat; 3] = [Repeat::Freely, Repeat::UntilGone, Repeat::AfterReread];

    #[test]
    fn requests_that_were_not_executed_are_always_repeated() {
        for repeat in ALL {
            for status in [408, 503] {
                assert!(may_repeat(repeat, &answered(status)), "{repeat:?} {status}");
            }
            assert!(may_repeat(repeat, &failed(ErrorKind::Connect)));
        }
    }

    #[test]
    fn lost_answers_and_other_faults_are_repeated_unless_the_record_must_be_read() {
        for error in [failed(ErrorKind::Io), answered(500), answered(502), answered(504)] {
            assert!(may_repeat(Repeat::Freely, &error));
            assert!(may_repeat(Repeat::UntilGone, &error));
            assert!(!may_repeat(Repeat::AfterReread, &error));
        }
    }

    #[test]
    fn writes_that_may_have_reached_the_service_are_doubtful() {
        for error in [ErrorKind::Io, ErrorKind::Protocol, ErrorKind::Timeout].map(failed) {
            assert!(is_doubtful(&error), "{error}");
        }
        for status in [408, 500, 502, 503, 504] {
            assert!(is_doubtful(&answered(status)), "{status}");
        }
        for status in [400, 401, 404, 409, 412, 429] {
            assert!(!is_doubtful(&answered(status)), "{status}");
        }
        for kind in [ErrorKind::Connect, ErrorKind::Tls, ErrorKind::Credential, ErrorKind::Config] {
            assert!(!is_doubtful(&failed(kind)));
        }
    }

    #[test]
    fn decisions_of_the_service_are_never_repeated() {
        for repeat in ALL {
            for status in [400, 401, 404, 405, 409, 412, 415] {
                assert!(!may_repeat(repeat, &answered(status)), "{repeat:?} {status}");
            }
            for kind in [ErrorKind::Tls, ErrorKind::Protocol, ErrorKind::Timeout, ErrorKind::Config] {
                assert!(!may_repeat(repeat, &failed(kind)));
            }
        }
    }
}
