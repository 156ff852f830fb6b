//! A refusal in the forms of IoT Hub: one for its REST API, one for connected devices.

use time::OffsetDateTime;

use crate::call::answer::Answer;
use crate::clock;
use crate::json::json;

#[derive(Debug)]
pub(crate) struct HubRefusal {
    status: u16,
    code: &'static str,
    message: String,
    cause: String,
}

impl HubRefusal {
    /// A refusal whose message is also its cause.
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        HubRefusal { status, code, cause: message.clone(), message }
    }

    /// For a body or a parameter that cannot be used.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "ArgumentInvalid", message)
    }

    /// For a credential that cannot be used at this hub. The client learns only that it is unauthorized.
    pub(super) fn unauthorized(cause: impl Into<String>) -> Self {
        Self::new(401, "IotHubUnauthorizedAccess", "Unauthorized").because(cause.into())
    }

    pub(super) fn because(mut self, cause: String) -> Self {
        self.cause = cause;
        self
    }

    pub(super) fn unknown_device(id: &str) -> Self {
        Self::new(404, "DeviceNotFound", format!("Device {id} not registered"))
    }

    /// The answer to a request to the REST API.
    pub(super) fn into_answer(self, tracking_id: &str, now: OffsetDateTime) -> Answer {
        let body = json!({
            "Message": format!("ErrorCode:{};{}", self.code, self.message),
            "ExceptionMessage": format!("Tracking ID:{tracking_id}-TimeStamp:{}", clock::timestamp(now)),
        });
        Answer {
            status: self.status,
            hub_error: Some(self.code),
            cause: Some(self.cause),
            ..Answer::ok(body)
        }
    }

    /// The answer to a request of a connected device.
    pub(super) fn into_reply(self, tracking_id: &str, now: OffsetDateTime) -> Answer {
        let body = json!({
            "errorCode": u32::from(self.status) * 1000,
            "trackingId": tracking_id,
            "message": self.message,
            "timestampUtc": clock::timestamp(now),
        });
        Answer { status: self.status, cause: Some(self.cause), ..Answer::ok(body) }
    }
}
