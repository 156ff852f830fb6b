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
    /// Carries out `operation` and gives the answer alone.
    pub(crate) async fn call(&self, operation: &Operation) -> Result<HttpAnswer> {
        self.carry_out(operation).await.map(|carried| carried.answer)
    }

    /// Carries out `operation`, and again as its [`Repeat`] allows, until the deadline of the call.
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
    pub(crate) async fn carry_out(&self, operation: &Operation) -> Result<Carried> {
        let deadline = Instant::now() + self.timeout;
        let mut backoff = self.retry.start(RandomState::new().hash_one(&operation.path));
        loop {
            let outcome = match timeout_at(deadline, self.attempt(operation)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(self.expired(operation)),
            };
            let tried = backoff.tried();
            tracing::Span::current().record("attempts", tried + 1);
            let error = match outcome {
                Ok(answer) => {
                    tracing::Span::current().record("status", answer.status);
                    tracing::debug!("answered");
                    return Ok(Carried { answer, repeated: tried > 0 });
                }
                Err(error) if operation.repeat == Repeat::UntilGone && tried > 0 && error.is_not_found() => {
                    return Ok(Carried { answer: HttpAnswer::new(204, Vec::new()), repeated: true });
                }
                Err(error) => error,
            };
            tracing::info!(kind = ?error.kind(), %error, "failed");
            if let Some(service) = error.service() {
                tracing::Span::current().record("status", service.status);
            }
            let error = if is_doubtful(operation, &error, tried) {
                error.with_may_have_been_applied()
            } else {
                error
            };
            if !may_repeat(operation.repeat, &error) {
                return Err(error);
            }
            let asked = error.service().and_then(|service| service.retry_after);
            match backoff.pause(asked).map(|pause| (pause, Instant::now().checked_add(pause))) {
                Some((pause, Some(until))) if until < deadline => sleep(pause).await,
                _ => return Err(error),
            }
        }
    }

    async fn attempt(&self, operation: &Operation) -> Result<HttpAnswer> {
        let mut request = operation.http(self.api_version.as_str(), &self.user_agent);
        let authorization =
            self.credential.authorization(self.http.authority(), OffsetDateTime::now_utc()).await;
        let by = |error: Error| error.with_credential(self.credential.kind());
        request.headers.push(("authorization", authorization.map_err(by)?));
        let answer = self.http.send(request).await.map_err(by)?;
        let (kind, message) = match answer.status {
            200..=299 => return Ok(answer),
            401 | 403 => (ErrorKind::Unauthorized, self.credential.refused(OffsetDateTime::now_utc()).await),
            400..=599 => (ErrorKind::Service, "the service refused the request"),
            _ => (ErrorKind::Protocol, "the status is none that the provisioning service sends"),
        };
        let service = ServiceError::from_answer(answer.status, answer.retry_after(), &answer.body);
        let error = Error::new(kind, format!("{} {}: {message}", operation.name, operation.path));
        Err(by(error.with_service(service)))
    }

    fn expired(&self, operation: &Operation) -> Error {
        let message = format!("{} did not finish within {:?}", operation.name, self.timeout);
        let error = Error::new(ErrorKind::Timeout, message).with_credential(self.credential.kind());
        if operation.writes { error.with_may_have_been_applied() } else { error }
    }
}

/// An operation that was answered with success.
pub(crate) struct Carried {
    pub(crate) answer: HttpAnswer,
    /// Whether an earlier attempt may have been carried out too.
    pub(crate) repeated: bool,
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

/// Whether a write may have been carried out although no answer says so.
fn is_doubtful(operation: &Operation, error: &Error, tried: u32) -> bool {
    operation.writes
        && match (error.kind(), error.service().map(|service| service.status)) {
            (ErrorKind::Io, _) | (ErrorKind::Service, Some(500..=502 | 504..=599)) => true,
            // The refusal may be the echo of an earlier attempt of this very call.
            (ErrorKind::Service, Some(409 | 412)) => operation.repeat == Repeat::AfterLooking && tried > 0,
            _ => false,
        }
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

    fn put(if_match: Option<&str>) -> Operation {
        Operation::create_or_update("enrollments", "s", if_match, &1).unwrap()
    }

    #[test]
    fn lost_answers_and_other_faults_are_repeated_unless_they_must_be_looked_after() {
        for error in [failed(ErrorKind::Io), answered(500), answered(502), answered(504)] {
            assert!(may_repeat(Repeat::Freely, &error));
            assert!(may_repeat(Repeat::UntilGone, &error));
            assert!(!may_repeat(Repeat::AfterLooking, &error));
            for write in [put(None), put(Some("*")), Operation::delete("enrollments", "s", None).unwrap()] {
                assert!(is_doubtful(&write, &error, 0));
            }
            assert!(!is_doubtful(&Operation::get("enrollments", "s").unwrap(), &error, 0));
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

    #[test]
    fn a_conflict_with_an_earlier_attempt_is_doubtful() {
        for status in [409, 412] {
            assert!(is_doubtful(&put(None), &answered(status), 1));
            assert!(!is_doubtful(&put(None), &answered(status), 0));
            assert!(!is_doubtful(&put(Some("*")), &answered(status), 1));
        }
    }
}
