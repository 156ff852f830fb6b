//! A refused request: its error code, the message for the client, and the cause for the journal.

/// A refusal: the error for the client, and the cause for the journal.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) cause: String,
    /// Seconds.
    pub(crate) retry_after: Option<u32>,
}

impl Refusal {
    /// A refusal whose message is also its cause.
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        let message = message.into();
        Refusal { code, cause: message.clone(), message, retry_after: None }
    }

    /// For an invalid request.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(INVALID, message)
    }

    /// For a credential that cannot be used here. The client learns only that it is unauthorized.
    pub(crate) fn unauthorized(cause: impl Into<String>) -> Self {
        Self::new(UNAUTHORIZED, "Unauthorized").because(cause)
    }

    /// For a credential that was made with a wrong key.
    pub(crate) fn wrong_key(cause: impl Into<String>) -> Self {
        Refusal { code: WRONG_KEY, ..Self::unauthorized(cause) }
    }

    /// For a body from a device that is not the JSON of a registration.
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

    /// Asks the client to wait so many seconds before it repeats the request.
    pub(crate) fn after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

// The last three digits name the cause. Only for some of these is it known which ones the service uses.
pub(crate) const INVALID: u32 = 400_000;
pub(crate) const INVALID_API_VERSION: u32 = 400_001;
pub(crate) const HUBS_WITHOUT_POLICY: u32 = 400_004;
pub(crate) const UNREADABLE: u32 = 400_012;
pub(crate) const UNAUTHORIZED: u32 = 401_000;
pub(crate) const WRONG_KEY: u32 = 401_002;
pub(crate) const WEBHOOK_FAILED: u32 = 400_207;
pub(crate) const HUB_NOT_FOUND: u32 = 401_001;
pub(crate) const DISABLED: u32 = 403_000;
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
