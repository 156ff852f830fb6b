//! An answer, independent of the protocol that carries it.

use time::OffsetDateTime;

use crate::clock;
use crate::json::{Value, json};
use crate::refusal::Refusal;

/// An answer, which a front encodes in its protocol.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Option<Value>,
    pub(crate) etag: Option<String>,
    /// Seconds; present while a registration is assigning, when a quota is exceeded, and with a throttling
    /// fault.
    pub(crate) retry_after: Option<u32>,
    pub(crate) error_code: Option<u32>,
    /// The error of a hub, which has no numeric code.
    pub(crate) hub_error: Option<&'static str>,
    /// Present in listings.
    pub(crate) page: Option<Page>,
    /// The call of a direct method on whose outcome the last answer depends.
    pub(crate) waits_for: Option<String>,
    /// For the journal only.
    pub(crate) cause: Option<String>,
    /// For the journal only.
    pub(crate) warning: Option<String>,
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
            waits_for: None,
            cause: None,
            warning: None,
        }
    }

    pub(crate) fn no_content() -> Self {
        Answer { status: 204, body: None, ..Self::ok(Value::Null) }
    }

    pub(crate) fn accepted(body: Value, retry_after: u32) -> Self {
        Answer { status: 202, retry_after: Some(retry_after), ..Self::ok(body) }
    }

    /// A challenge for a TPM; `sealed` is the key to sign with, in base64.
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

    /// Adds the warnings, one behind the other.
    pub(crate) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warning = (!warnings.is_empty()).then(|| warnings.join("; "));
        self
    }

    pub(crate) fn with_cause(mut self, cause: Option<String>) -> Self {
        self.cause = cause;
        self
    }
}

/// The headers of a page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) item_type: &'static str,
    /// Present only if more items follow.
    pub(crate) continuation: Option<String>,
}

/// How a front delivers an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Plain,
    HangUp,
    Garbage,
    Stall,
    WrongRid,
    Twice,
}

impl Refusal {
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
