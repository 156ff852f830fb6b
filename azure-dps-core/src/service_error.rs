//! The error answer of the service, parsed from any body.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::json_cost::cost;
use crate::models::error_details::ProvisioningServiceErrorDetails;
use crate::redact::readable;

/// The error answer of the service: the evidence for a support request.
///
/// Source: DPS service REST API, `ProvisioningServiceErrorDetails`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceError {
    /// The HTTP status, or its equivalent on MQTT and AMQP.
    pub status: u16,
    /// The service's own code, the status times 1000 plus a sub-code, for example 404201. The list is open.
    pub code: Option<i32>,
    /// The message of the service, or the beginning of an answer in another form. For people; do not match on
    /// it.
    pub message: String,
    /// The id of this request in the service's logs.
    pub tracking_id: Option<String>,
    /// How long the service asks to wait.
    pub retry_after: Option<Duration>,
}

impl ServiceError {
    /// Parses an error answer. It accepts any body: one that is not in the service's form becomes the
    /// message, cut to 200 characters. Signatures and keys that a peer echoes are removed.
    pub fn from_answer(status: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let body_value =
            (cost(body) <= MOST_IN_MEMORY).then(|| serde_json::from_slice::<Value>(body).ok()).flatten();
        let details = body_value
            .filter(Value::is_object)
            .and_then(|body| serde_json::from_value::<ProvisioningServiceErrorDetails>(body).ok())
            .filter(|details| details.error_code.is_some() || details.message.is_some());
        match details {
            Some(details) => Self {
                status,
                code: details.error_code,
                message: readable(details.message.as_deref().unwrap_or_default()),
                tracking_id: details.tracking_id.as_deref().map(readable),
                retry_after,
            },
            None => Self {
                status,
                code: None,
                message: readable(&String::from_utf8_lossy(body.get(..LONGEST_TEXT).unwrap_or(body))),
                tracking_id: None,
                retry_after,
            },
        }
    }

    /// Whether the service throttles: 429, or 503 with [`retry_after`](Self::retry_after). The service did
    /// not look at the request.
    pub fn is_throttling(&self) -> bool {
        self.status == 429 || (self.status == 503 && self.retry_after.is_some())
    }

    /// Whether the same request may succeed later: 408, 429 and 5xx.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 429 | 500..=599)
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if let Some(code) = self.code {
            write!(f, ", code {code}")?;
        }
        if !self.message.is_empty() {
            write!(f, ", {:?}", self.message)?;
        }
        if let Some(id) = &self.tracking_id {
            write!(f, ", tracking id {id}")?;
        }
        if let Some(wait) = self.retry_after {
            write!(f, ", retry after {} s", wait.as_secs())?;
        }
        Ok(())
    }
}

/// The limit of an error answer's values in memory; those of the service take a few KiB.
const MOST_IN_MEMORY: usize = 1024 * 1024;
/// The bytes of a body in another form from which the message is taken.
const LONGEST_TEXT: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn service(body: &str) -> ServiceError {
        ServiceError::from_answer(404, None, body.as_bytes())
    }

    #[test]
    fn the_body_of_an_error_is_read() {
        let error = service(
            r#"{"errorCode":404201,"trackingId":"t-1","message":"Enrollment not found","info":null,
                "timestampUtc":"2026-05-04T09:20:00.1234567Z"}"#,
        );
        assert_eq!((error.code, error.tracking_id.as_deref()), (Some(404201), Some("t-1")));
        assert_eq!(error.to_string(), "status 404, code 404201, \"Enrollment not found\", tracking id t-1");
    }

    #[test]
    fn a_body_in_another_form_becomes_the_message() {
        assert_eq!(service("<html>\r\nbad gateway</html>").message, "<html>  bad gateway</html>");
        assert_eq!(service("").message, "");
        assert_eq!(service(r#"{"Message":"x"}"#).message, r#"{"Message":"x"}"#);
        assert_eq!(service(&"x".repeat(5000)).message.len(), 200);
        assert_eq!(service("[1]").message, "[1]");
    }

    #[test]
    fn a_token_that_a_peer_echoes_is_removed() {
        let echo = service("you sent SharedAccessSignature sr=a&sig=c2VjcmV0&se=1");
        assert!(!format!("{echo:?} {echo}").contains("c2VjcmV0"));
        let echo = service(r#"{"errorCode":400000,"message":"bad: sig=c2VjcmV0"}"#);
        assert_eq!(echo.code, Some(400000));
        assert!(!format!("{echo:?} {echo}").contains("c2VjcmV0"));
    }

    #[test]
    fn a_rule_about_a_key_is_shown_and_a_key_is_not() {
        let rule = "attestation.symmetricKey.primaryKey must be base64 of 16 to 64 bytes";
        assert_eq!(service(rule).message, rule);
        for key in [
            r#"{"primaryKey":"c2VjcmV0"}"#,
            "SecondaryKey = c2VjcmV0",
            r#"{\"authenticationKey\": \"c2VjcmV0\""#,
            "primaryKey 'YWGfx6psUG2GN+c2VjcmV0Q==' is wrong",
            "<primaryKey>YWGfx6psUG2GN+c2VjcmV0Q==</primaryKey>",
        ] {
            assert!(!format!("{:?}", service(key)).contains("c2VjcmV0"), "{key}");
        }
    }
}
