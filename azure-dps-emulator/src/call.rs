//! A request with everything that the client presented, and its answer.

pub(crate) mod answer;
pub(crate) mod etag;
pub(crate) mod hub;
pub(crate) mod kind;
pub(crate) mod operation;
pub(crate) mod page;
pub(crate) mod request;
pub(crate) mod schema;
pub(crate) mod versions;

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use crate::call::answer::{Answer, Delivery};
use crate::call::request::{Protocol, Request};
use crate::call::schema::{Body, Strictness};
use crate::crypto::certificate::Certificate;
use crate::json::Value;
use crate::refusal::Refusal;

/// A request, independent of the protocol that carried it.
pub(crate) struct Call {
    pub(crate) origin: Origin,
    pub(crate) authorization: Option<String>,
    /// The certificate chain of the connection, the device's own certificate first; empty without a client
    /// certificate.
    pub(crate) certificates: Arc<[Certificate]>,
    /// Whether TPMs can sign in this way, so that the token may be the answer to a challenge.
    pub(crate) for_tpm: bool,
    pub(crate) api_version: Option<String>,
    pub(crate) body: Body,
    /// A refusal if the front could not read the request.
    pub(crate) request: Result<Request, Refusal>,
}

impl Call {
    /// A request that the front refuses, for the journal.
    pub(crate) fn refused(origin: Origin, refusal: Refusal) -> Self {
        Call {
            origin,
            authorization: None,
            certificates: Arc::default(),
            for_tpm: false,
            api_version: None,
            body: Body::default(),
            request: Err(refusal),
        }
    }
}

/// The origin of a request, for the journal.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) protocol: Protocol,
    pub(crate) connection: u64,
    pub(crate) method: String,
    pub(crate) target: String,
}

/// An answer, and how the front delivers it.
pub(crate) struct Handled {
    pub(crate) answer: Answer,
    pub(crate) request_id: String,
    /// The time of the answer by the clock of the emulator.
    pub(crate) time: OffsetDateTime,
    pub(crate) delivery: Delivery,
    /// The delay before the front sends the answer.
    pub(crate) delay: Duration,
}

/// The credential, the body and the api-version of a request.
pub(crate) struct Presented {
    pub(crate) authorization: Option<String>,
    pub(crate) certificates: Arc<[Certificate]>,
    pub(crate) for_tpm: bool,
    pub(crate) body: Body,
    pub(crate) api_version: Option<String>,
}

impl Presented {
    pub(crate) fn api_version(&self) -> &str {
        self.api_version.as_deref().unwrap_or_default()
    }

    /// Returns whether a TPM asks for a challenge.
    pub(crate) fn asks_for_tpm_challenge(&self) -> bool {
        let token = self.authorization.as_deref().unwrap_or_default();
        let has_tpm =
            || schema::object(&self.body).is_ok_and(|body| body.get("tpm").is_some_and(Value::is_object));
        self.for_tpm && self.certificates.is_empty() && token.trim().is_empty() && has_tpm()
    }

    pub(crate) fn check_api_version(&self, strictness: Strictness) -> Result<(), Refusal> {
        schema::check_api_version(self.api_version.as_deref(), strictness)
    }
}
