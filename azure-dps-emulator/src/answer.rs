//! What the service answers, independent of the protocol that carries it.

use crate::json::{Value, json};
use time::OffsetDateTime;

use crate::clock;
use crate::listing::Page;
use crate::webhook::Errand;

/// An answer; a front puts it into its own words.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
    pub(crate) etag: Option<String>,
    /// Seconds; present while a registration is assigning, when a quota is used up, and when a fault says so.
    pub(crate) retry_after: Option<u32>,
    pub(crate) error_code: Option<u32>,
    /// The word with which a hub refuses, which has no error code.
    pub(crate) hub_error: Option<&'static str>,
    /// Present in listings.
    pub(crate) page: Option<Page>,
    /// For the journal only.
    pub(crate) cause: Option<String>,
    /// For the journal only.
    pub(crate) warning: Option<String>,
    /// What has to be done outside before the result can be told.
    pub(crate) errand: Option<Errand>,
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Value>) -> Self {
        Answer {
            status: 200,
            body: Some(body.into()),
            etag: None,
            retry_after: None,
            error_code: None,
            hub_error: None,
            page: None,
            cause: None,
            warning: None,
            errand: None,
        }
    }

    pub(crate) fn no_content() -> Self {
        Answer { status: 204, body: None, ..Self::ok(Value::Null) }
    }

    pub(crate) fn accepted(body: Value, retry_after: u32) -> Self {
        Answer { status: 202, retry_after: Some(retry_after), ..Self::ok(body) }
    }

    /// What a TPM has to answer; `sealed` is the key for that in base64.
    pub(crate) fn challenge(sealed: &str) -> Self {
        let body = json!({
            "message": "Authorization required, resend request using supplied key",
            "authenticationKey": sealed,
            "unencryptedAuthenticationKey": null,
            "keyName": "registration",
        });
        Answer { status: 401, ..Self::ok(body) }
    }

    pub(crate) fn with_etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.to_owned());
        self
    }

    pub(crate) fn with_page(mut self, page: Page) -> Self {
        self.page = Some(page);
        self
    }

    pub(crate) fn with_cause(mut self, cause: Option<String>) -> Self {
        self.cause = cause;
        self
    }
}

/// A refusal: what the client is told, and what the journal is told.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) cause: String,
    /// Seconds.
    retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal whose message tells the whole reason.
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        let message = message.into();
        Refusal { code, cause: message.clone(), message, retry_after: None }
    }

    /// A request that is not valid.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(INVALID, message)
    }

    /// A credential that cannot be used here. The client learns nothing but that.
    pub(crate) fn unauthorized(cause: impl Into<String>) -> Self {
        Self::new(UNAUTHORIZED, "Unauthorized").because(cause)
    }

    /// A credential that was not made with the right key.
    pub(crate) fn wrong_key(cause: impl Into<String>) -> Self {
        Refusal { code: WRONG_KEY, ..Self::unauthorized(cause) }
    }

    /// A body of a device that is not the JSON of a registration.
    pub(crate) fn unreadable(cause: impl Into<String>) -> Self {
        Self::new(UNREADABLE, "Deserialization error.").because(cause)
    }

    pub(crate) fn not_found(cause: impl Into<String>) -> Self {
        Self::new(NOT_FOUND, "Enrollment not found").because(cause)
    }

    pub(crate) fn with_message(mut self, message: &str) -> Self {
        self.message = message.to_owned();
        self
    }

    pub(crate) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = cause.into();
        self
    }

    /// Tells the client to come back after so many seconds.
    pub(crate) fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub(crate) fn into_answer(self, tracking_id: &str, now: OffsetDateTime) -> Answer {
        let body = json!({
            "errorCode": self.code,
            "trackingId": tracking_id,
            "message": self.message,
            "timestampUtc": clock::timestamp(now),
        });
        let status = u16::try_from(self.code / 1000).unwrap_or(500);
        Answer {
            status,
            retry_after: self.retry_after,
            error_code: Some(self.code),
            cause: Some(self.cause),
            ..Answer::ok(body)
        }
    }
}

// The service names a cause in the last three digits; which one it would choose is known only for some of these.
pub(crate) const INVALID: u32 = 400_000;
pub(crate) const INVALID_API_VERSION: u32 = 400_001;
pub(crate) const HUBS_WITHOUT_POLICY: u32 = 400_004;
pub(crate) const UNREADABLE: u32 = 400_012;
pub(crate) const UNAUTHORIZED: u32 = 401_000;
pub(crate) const WRONG_KEY: u32 = 401_002;
pub(crate) const WEBHOOK_FAILED: u32 = 400_207;
pub(crate) const HUB_NOT_FOUND: u32 = 401_001;
pub(crate) const UNKNOWN_PATH: u32 = 404_000;
pub(crate) const UNKNOWN_ID_SCOPE: u32 = 404_001;
pub(crate) const NOT_FOUND: u32 = 404_201;
pub(crate) const UNKNOWN_OPERATION: u32 = 404_203;
pub(crate) const METHOD_NOT_ALLOWED: u32 = 405_000;
pub(crate) const REQUEST_TIMEOUT: u32 = 408_000;
pub(crate) const TAKEN_OVER: u32 = 409_000;
pub(crate) const ENROLLMENT_EXISTS: u32 = 409_201;
pub(crate) const GROUP_EXISTS: u32 = 409_202;
pub(crate) const REGISTERS_AT_ONCE: u32 = 409_203;
pub(crate) const PRECONDITION_FAILED: u32 = 412_001;
pub(crate) const TOO_LARGE: u32 = 413_000;
pub(crate) const UNSUPPORTED_MEDIA_TYPE: u32 = 415_000;
pub(crate) const THROTTLED: u32 = 429_001;
pub(crate) const INTERNAL: u32 = 500_000;
