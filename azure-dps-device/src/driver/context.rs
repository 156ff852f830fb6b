//! The errors of a registration, with what each of them carries: the kind of credential and the operation id.

use azure_dps_core::models::{DeviceRegistrationState, EnrollmentStatus};
use azure_dps_core::plumbing::read_json;
use azure_dps_core::{CredentialKind, Error, ErrorKind, Result, ServiceError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::transport::contract::{MOST_IN_MEMORY, Reply};

#[derive(Debug)]
pub(super) struct Context {
    pub(super) credential: CredentialKind,
    pub(super) operation_id: Option<String>,
}

impl Context {
    pub(super) fn add_to(&self, error: Error) -> Error {
        let error = error.with_credential(self.credential);
        match &self.operation_id {
            Some(id) => error.with_operation_id(id),
            None => error,
        }
    }

    pub(super) fn protocol(&self, message: &str) -> Error {
        self.add_to(Error::new(ErrorKind::Protocol, message))
    }

    /// The error for a request that the service refused.
    pub(super) fn refused(&self, kind: ErrorKind, reply: &Reply) -> Error {
        let message = match (kind, reply.status) {
            (ErrorKind::Unauthorized, _) => "the service refused the device's credential",
            (_, 429) => "the service throttled the request",
            (_, 409) => "another registration of this device is running",
            (_, 408 | 500..=599) => "the service failed to process the request",
            _ => "the service refused the request",
        };
        let service = ServiceError::from_answer(reply.status, reply.retry_after, &reply.body);
        self.add_to(Error::new(kind, message).with_service(service))
    }

    /// The error for a registration that the service processed and did not grant.
    pub(super) fn decided(&self, state: DeviceRegistrationState) -> Error {
        let message = match &state.status {
            Some(EnrollmentStatus::Disabled) => "the enrollment of this device is disabled",
            _ => "the service could not assign the device",
        };
        self.add_to(Error::new(ErrorKind::Registration, message).with_state(state))
    }

    pub(super) fn parse<T: serde::de::DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        read_json(body, MOST_IN_MEMORY).map_err(|why| self.add_to(why))
    }

    /// Reads an activation blob. The service may wrap its base64 into lines.
    pub(super) fn decode(&self, blob: &str) -> Result<Vec<u8>> {
        let packed: String = blob.split_ascii_whitespace().collect();
        BASE64.decode(packed).map_err(|_| self.protocol("the authenticationKey is not base64"))
    }
}
