//! What the service answers, independent of the protocol that carries it.

use time::OffsetDateTime;

use crate::clock;
use crate::json::{Value, json};
use crate::refusal::Refusal;

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

/// What the answer says about its page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) item_type: &'static str,
    /// Present only when there is more.
    pub(crate) continuation: Option<String>,
}

/// How a front hands over an answer.
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
