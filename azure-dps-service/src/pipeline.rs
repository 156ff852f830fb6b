//! One call: authorize, send, try again where that does no harm, and give the answer or a typed error.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use azure_dps_core::models::ApiVersion;
use azure_dps_core::{Error, ErrorKind, HttpAnswer, HttpClient, Result, RetryPolicy, ServiceError};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};

use crate::Credential;
use crate::request::{Operation, Repeat};

#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) http: HttpClient,
    pub(crate) credential: Credential,
    pub(crate) retry: RetryPolicy,
    pub(crate) timeout: Duration,
    pub(crate) api_version: ApiVersion,
    pub(crate) user_agent: String,
}

impl Pipeline {
    /// When a call that begins now has to have ended, whatever it does meanwhile.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// Carries out `operation` as a call of its own and gives the answer alone.
    pub(crate) async fn call(&self, operation: &Operation) -> Result<HttpAnswer> {
        self.carry_out(operation, self.deadline()).await.map(|carried| carried.answer)
    }

    /// Carries out `operation`, and again as its [`Repeat`] allows, until the deadline.
    ///
    /// An attempt that may have been applied casts its doubt on every later outcome of the same call.
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
    pub(crate) async fn carry_out(&self, operation: &Operation, deadline: Instant) -> Result<Carried> {
        let mut backoff = self.retry.start(RandomState::new().hash_one(&operation.path));
        let (mut doubt, mut last) = (false, None);
        loop {
            let mut sent = false;
            let outcome = match timeout_at(deadline, self.attempt(operation, &mut sent)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.expired(operation, last.take())),
            };
            tracing::Span::current().record("attempts", backoff.tried() + 1);
            let error = match outcome {
                Ok(answer) => {
                    tracing::Span::current().record("status", answer.status);
                    tracing::debug!("answered");
                    return Ok(Carried { answer, doubt });
                }
                Err(error) if operation.repeat == Repeat::UntilGone && doubt && error.is_not_found() => {
                    return Ok(Carried { answer: HttpAnswer::new(204, Vec::new()), doubt });
                }
                Err(error) => error,
            };
            tracing::info!(kind = ?error.kind(), %error, "failed");
            if let Some(service) = error.service() {
                tracing::Span::current().record("status", service.status);
            }
            doubt |= operation.writes && sent && is_doubtful(&error);
            let error = if doubt { error.with_may_have_been_applied() } else { error };
            if !may_repeat(operation.repeat, &error) {
                return Err(error);
            }
            let asked = error.service().and_then(|service| service.retry_after);
            match backoff.pause(asked).map(|pause| (pause, Instant::now().checked_add(pause))) {
                Some((pause, Some(until))) if until < deadline => sleep(pause).await,
                _ => return Err(error),
            }
            last = Some(error);
        }
    }

    /// `sent` becomes true as soon as something may reach the service.
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
            _ => (ErrorKind::Protocol, "the status is none that the provisioning service sends"),
        };
        let service = ServiceError::from_answer(answer.status, answer.retry_after(), &answer.body);
        let error = Error::new(kind, format!("{} {}: {message}", operation.name, operation.path));
        Err(by(error.with_service(service)))
    }

    /// The error of a call whose time is over; the failure of the attempt before is its cause.
    fn expired(&self, operation: &Operation, last: Option<Error>) -> Error {
        let message =
            format!("{} {} did not finish within {:?}", operation.name, operation.path, self.timeout);
        let error = Error::new(ErrorKind::Timeout, message).with_credential(self.credential.kind());
        match last {
            Some(last) => error.with_source(last),
            None => error,
        }
    }
}

/// An operation that was answered with success.
pub(crate) struct Carried {
    pub(crate) answer: HttpAnswer,
    /// Whether an earlier attempt of the same operation may have been applied too.
    pub(crate) doubt: bool,
}

/// Whether the same request may be sent again at once or after a pause.
fn may_repeat(repeat: Repeat, error: &Error) -> bool {
    match (error.kind(), error.service().map(|service| service.status)) {
        (ErrorKind::Connect, _) => true,
        (ErrorKind::Service, Some(408 | 429 | 503)) => true,
        (ErrorKind::Io, _) | (ErrorKind::Service, Some(500..=599)) => repeat != Repeat::AfterLooking,
        _ => false,
    }
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

    const ALL: [Repeat; 3] = [Repeat::Freely, Repeat::UntilGone, Repeat::AfterLooking];

    #[test]
    fn what_was_not_carried_out_is_always_repeated() {
        for repeat in ALL {
            for status in [408, 429, 503] {
                assert!(may_repeat(repeat, &answered(status)), "{repeat:?} {status}");
            }
            assert!(may_repeat(repeat, &failed(ErrorKind::Connect)));
        }
    }

    #[test]
    fn lost_answers_and_other_faults_are_repeated_unless_they_must_be_looked_after() {
        for error in [failed(ErrorKind::Io), answered(500), answered(502), answered(504)] {
            assert!(may_repeat(Repeat::Freely, &error));
            assert!(may_repeat(Repeat::UntilGone, &error));
            assert!(!may_repeat(Repeat::AfterLooking, &error));
        }
    }

    #[test]
    fn what_may_have_reached_the_service_is_doubtful() {
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
