//! The error type of all crates of this family: what happened, what the service answered, and what to do
//! next.

use crate::error_kind::{CredentialKind, ErrorKind};
use crate::help;
use crate::models::registration::DeviceRegistrationState;
use crate::redact::readable;
use crate::report;
use crate::service_error::ServiceError;
#[cfg(feature = "tls")]
use crate::tls_failure::{self, Phase};
use std::error::Error as StdError;
use std::fmt;

use time::OffsetDateTime;

/// The result of every fallible function in this family.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call failed.
///
/// [`kind`](Self::kind) sorts failures by what the caller can do, [`service`](Self::service) is the answer of
/// the service, [`state`](Self::state) the registration state that it reported, and [`help`](Self::help)
/// names the usual cause and the next step. None of the texts below shows a secret:
///
/// - `Display` describes this level only, in one line, for logs; [`source`](StdError::source) is the cause
///   below it.
/// - [`report`](Self::report) is for people: message, causes and help, each on its own line. `{:?}` gives the
///   same, so that a `main` that returns a [`Result`] prints it.
/// - `{:#?}` shows the structure.
///
/// ```
/// use azure_dps_core::{ErrorKind, RegistrationId};
///
/// let error = RegistrationId::new("no/slash").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Config);
/// assert!(!error.is_retryable());
/// assert_eq!(
///     error.report(),
///     "the registration id has the character '/' at position 3\n\
///      help: correct the value that the message names; nothing was sent"
/// );
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    service: Option<ServiceError>,
    state: Option<DeviceRegistrationState>,
    operation_id: Option<String>,
    credential: Option<CredentialKind>,
    maybe_applied: bool,
    not_before: Option<OffsetDateTime>,
    proxy_status: Option<u16>,
    help: Option<&'static str>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind`. `message` describes what happened, in lower case and without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            service: None,
            state: None,
            operation_id: None,
            credential: None,
            maybe_applied: false,
            not_before: None,
            proxy_status: None,
            help: None,
            source: None,
        }))
    }

    /// The error of an answer that is not JSON of the expected form. The parser's message may quote the
    /// answer, and with it a secret, so this keeps only the name of a missing member and the position.
    pub fn from_json(failure: &serde_json::Error) -> Self {
        let text = failure.to_string();
        let what = match text.split(" at line ").next() {
            Some(what) if what.starts_with("missing field ") => what,
            _ if failure.is_eof() => "it ends too early",
            _ if failure.is_syntax() => "it is not JSON",
            _ => "a member has another type than expected",
        };
        // A value that was parsed from text before has no position.
        let place = match failure.line() {
            0 => String::new(),
            line => format!(" (line {line} column {})", failure.column()),
        };
        Self::new(ErrorKind::Protocol, format!("the answer cannot be parsed: {what}{place}"))
    }

    /// Attaches the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Attaches the error answer of the service.
    #[must_use]
    pub fn with_service(mut self, service: ServiceError) -> Self {
        self.0.service = Some(service);
        self
    }

    /// Attaches the registration state that the service reported.
    #[must_use]
    pub fn with_state(mut self, state: DeviceRegistrationState) -> Self {
        self.0.state = Some(state);
        self
    }

    /// Attaches the id of the registration operation that was in progress.
    #[must_use]
    pub fn with_operation_id(mut self, id: impl Into<String>) -> Self {
        self.0.operation_id = Some(id.into());
        self
    }

    /// Attaches the kind of credential that was used.
    #[must_use]
    pub fn with_credential(mut self, credential: CredentialKind) -> Self {
        self.0.credential = Some(credential);
        self
    }

    /// Marks a write whose answer was lost: the service may have applied it.
    #[must_use]
    pub fn with_maybe_applied(mut self) -> Self {
        self.0.maybe_applied = true;
        self
    }

    /// Attaches the moment when the device's certificate becomes valid, which the clock of this machine has not
    /// reached.
    #[must_use]
    pub fn with_not_before(mut self, not_before: OffsetDateTime) -> Self {
        self.0.not_before = Some(not_before);
        self
    }

    /// Attaches the status with which a proxy refused to connect.
    #[must_use]
    pub fn with_proxy_status(mut self, status: u16) -> Self {
        self.0.proxy_status = Some(status);
        self
    }

    /// Replaces the text of [`help`](Self::help) with one that fits this case better.
    #[must_use]
    pub fn with_help(mut self, help: &'static str) -> Self {
        self.0.help = Some(help);
        self
    }

    /// The kind of the failure, which decides what the caller can do.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The error answer of the service, if there was one.
    pub fn service(&self) -> Option<&ServiceError> {
        self.0.service.as_ref()
    }

    /// The registration state, if the service reported that the registration failed or is disabled.
    pub fn state(&self) -> Option<&DeviceRegistrationState> {
        self.0.state.as_ref()
    }

    /// The id of the registration operation that was in progress, if there was one.
    pub fn operation_id(&self) -> Option<&str> {
        self.0.operation_id.as_deref()
    }

    /// The kind of credential that the call used, if it used one.
    pub fn credential(&self) -> Option<CredentialKind> {
        self.0.credential
    }

    /// The status with which a proxy refused to connect, if it is known. 407 concerns the credentials for the
    /// proxy, every other status the host and the port. Over HTTPS only 407 is known.
    pub fn proxy_status(&self) -> Option<u16> {
        self.0.proxy_status
    }

    /// Whether the service may have applied a write although no answer arrived. Read the record before you
    /// try again.
    pub fn maybe_applied(&self) -> bool {
        self.0.maybe_applied
    }

    /// When the device's certificate becomes valid, if by the clock of this machine it is not yet. The clock is
    /// probably behind, as on a device without a battery: set it, or wait, and try again.
    pub fn not_before(&self) -> Option<OffsetDateTime> {
        self.0.not_before
    }

    /// Whether the same call may succeed later without a change: no connection, a lost connection, throttling
    /// (429), 408 or a fault of the service (5xx). Wait before you retry, at least as long as
    /// [`ServiceError::retry_after`].
    pub fn is_retryable(&self) -> bool {
        match self.kind() {
            ErrorKind::Connect | ErrorKind::Io => true,
            ErrorKind::Service => self.service().is_some_and(ServiceError::is_transient),
            _ => false,
        }
    }

    /// Whether the record or the enrollment does not exist (404). Check the id and the instance.
    pub fn is_not_found(&self) -> bool {
        self.has_status(404)
    }

    /// Whether the record exists already or another operation on it is running (409).
    pub fn is_conflict(&self) -> bool {
        self.has_status(409)
    }

    /// Whether another client changed the record since it was read (412). Read it again.
    pub fn is_precondition_failed(&self) -> bool {
        self.has_status(412)
    }

    /// Whether the service throttles (429). Wait as long as [`ServiceError::retry_after`].
    pub fn is_throttled(&self) -> bool {
        self.has_status(429)
    }

    /// The usual cause and the next step, in one or two sentences for people.
    ///
    /// The text depends on the kind, the service's error code and the kind of credential; do not match on it.
    pub fn help(&self) -> &'static str {
        if let Some(help) = self.0.help {
            return help;
        }
        #[cfg(feature = "tls")]
        if let Some(help) = tls_failure::help(self, self.kind()) {
            return help;
        }
        let code = self.service().and_then(|service| service.code);
        let code = code.or_else(|| self.state().and_then(|state| state.error_code));
        let status = self.state().and_then(|state| state.status.as_ref());
        help::text(self.kind(), self.service().map(|service| service.status), code, status, self.credential())
    }

    /// The whole error for people: the message, each cause, and the help, each on its own line.
    ///
    /// For a log, which has one line for each event, use `Display`.
    pub fn report(&self) -> String {
        format!("{self:?}")
    }

    fn has_status(&self, status: u16) -> bool {
        self.service().is_some_and(|service| service.status == status)
    }
}

#[cfg(feature = "tls")]
impl Error {
    /// The error for a failed TLS handshake, if a TLS error is in the chain of causes of `failure`:
    /// [`ErrorKind::Tls`], [`ErrorKind::Unauthorized`] when the server refused the client's certificate, or
    /// [`ErrorKind::Connect`] when another attempt may succeed. `place` is the server, `host:port`. For
    /// authors of transports.
    pub fn from_tls_handshake(failure: &(dyn StdError + 'static), place: &str) -> Option<Self> {
        tls_failure::read(failure, Phase::Handshake, place).map(Self::from_failure)
    }

    /// The error for a connection that broke after its TLS handshake, if a TLS error is in the chain of
    /// causes of `failure`: [`ErrorKind::Unauthorized`] when the server refused the client's certificate (TLS
    /// 1.3 reports that late), else [`ErrorKind::Io`]. `place` is the server, `host:port`. For authors of
    /// transports.
    pub fn from_tls(failure: &(dyn StdError + 'static), place: &str) -> Option<Self> {
        tls_failure::read(failure, Phase::Established, place).map(Self::from_failure)
    }

    fn from_failure(failure: tls_failure::TlsFailure) -> Self {
        let error = Self::new(failure.kind, failure.message).with_source(failure.cause);
        match failure.credential {
            Some(credential) => error.with_credential(credential),
            None => error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(service) = self.service() {
            write!(f, ": {service}")?;
        }
        if let Some(state) = self.state() {
            if let Some(code) = state.error_code {
                write!(f, ", code {code}")?;
            }
            if let Some(text) = &state.error_message {
                write!(f, ", {:?}", readable(text))?;
            }
        }
        if self.0.maybe_applied {
            f.write_str("; the request may have been applied")?;
        }
        if let Some(id) = self.operation_id() {
            write!(f, " (operation {id})")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return report::write(f, self, self.help());
        }
        let inner = &*self.0;
        let mut debug = f.debug_struct("Error");
        debug.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(service) = &inner.service {
            debug.field("service", service);
        }
        if let Some(state) = &inner.state {
            let text = state.error_message.as_deref().map(readable);
            debug.field("state", &DeviceRegistrationState { error_message: text, ..state.clone() });
        }
        if let Some(id) = &inner.operation_id {
            debug.field("operation_id", id);
        }
        if let Some(credential) = &inner.credential {
            debug.field("credential", credential);
        }
        if inner.maybe_applied {
            debug.field("maybe_applied", &true);
        }
        if let Some(not_before) = &inner.not_before {
            debug.field("not_before", not_before);
        }
        if let Some(source) = &inner.source {
            debug.field("source", source);
        }
        debug.finish()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_state_that_the_service_reported_is_shown_without_echoed_secrets() {
        let decided = |text: &str| {
            let state = json!({"status": "failed", "errorCode": 400207, "errorMessage": text});
            let state = serde_json::from_value(state).unwrap();
            Error::new(ErrorKind::Registration, "the service could not assign the device").with_state(state)
        };
        assert_eq!(
            decided("no hub\nfor it").to_string(),
            "the service could not assign the device, code 400207, \"no hub for it\""
        );
        let echo = decided("https://alloc.example/?sig=c2VjcmV0");
        assert!(!format!("{echo:?} {echo:#?} {echo}").contains("c2VjcmV0"));
    }

    #[test]
    fn display_describes_this_level_and_source_the_next() {
        let cause = std::io::Error::other("reset by peer");
        let error = Error::new(ErrorKind::Io, "the connection was lost").with_source(cause);
        assert_eq!(error.to_string(), "the connection was lost");
        assert_eq!(error.source().unwrap().to_string(), "reset by peer");
        let error = error.with_maybe_applied().with_operation_id("5.a.b");
        assert_eq!(
            error.to_string(),
            "the connection was lost; the request may have been applied (operation 5.a.b)"
        );
    }

    #[test]
    fn a_failure_is_retryable_by_its_kind_and_its_status() {
        let answered = |status| {
            Error::new(ErrorKind::Service, "refused")
                .with_service(ServiceError::from_answer(status, None, b""))
        };
        for status in [408, 429, 500, 502, 503, 504] {
            assert!(answered(status).is_retryable(), "{status}");
        }
        for status in [400, 401, 403, 404, 409, 412, 415] {
            assert!(!answered(status).is_retryable(), "{status}");
        }
        assert!(Error::new(ErrorKind::Connect, "").is_retryable());
        assert!(!Error::new(ErrorKind::Timeout, "").is_retryable());
        assert!(answered(404).is_not_found() && answered(409).is_conflict());
        assert!(answered(412).is_precondition_failed() && answered(429).is_throttled());
    }
}
