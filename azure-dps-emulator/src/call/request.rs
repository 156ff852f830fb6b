//! The requests of clients, independent of the protocol that carried them.

use crate::call::hub::{AtHub, AtHubOperation, HubRequest};
use crate::call::kind::Kind;
pub(crate) use crate::call::operation::{Operation, Protocol};
pub(crate) use crate::call::page::PageHeaders;

pub(crate) enum Request {
    BackEnd {
        /// Host and path, which the token must cover.
        resource: String,
        request: BackEndRequest,
    },
    Device(DeviceRequest),
    Hub(HubRequest),
    AtHub(AtHub),
}

impl Request {
    pub(crate) fn connects(&self) -> bool {
        match self {
            Request::Device(request) => request.operation.kind() == Operation::Connect,
            Request::AtHub(request) => request.operation == AtHubOperation::Connect,
            Request::BackEnd { .. } | Request::Hub(_) => false,
        }
    }

    /// The id that the request names; empty if it names none.
    pub(crate) fn id(&self) -> &str {
        match self {
            Request::BackEnd { request, .. } => &request.id,
            Request::Device(request) => &request.registration_id,
            Request::Hub(request) => request.operation.id(),
            Request::AtHub(request) => &request.device_id,
        }
    }
}

/// A request to the device API.
pub(crate) struct DeviceRequest {
    pub(crate) id_scope: String,
    pub(crate) registration_id: String,
    pub(crate) operation: DeviceOperation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeviceOperation {
    /// The device proves its identity on a connection that will carry its requests.
    Connect,
    /// The same, before the connection can name an api-version.
    SignIn,
    /// A TPM presents its keys, before the connection can name an api-version.
    Challenge,
    /// A TPM answers its challenge and presents its keys again. A refusal is never delayed until the device
    /// registers.
    Prove,
    Register,
    Poll {
        operation_id: String,
    },
    Lookup,
}

impl DeviceOperation {
    pub(crate) fn kind(&self) -> Operation {
        match self {
            DeviceOperation::Connect
            | DeviceOperation::SignIn
            | DeviceOperation::Challenge
            | DeviceOperation::Prove => Operation::Connect,
            DeviceOperation::Register => Operation::Register,
            DeviceOperation::Poll { .. } => Operation::Poll,
            DeviceOperation::Lookup => Operation::Lookup,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackEndOperation {
    Put(Kind),
    Get(Kind),
    Delete(Kind),
    AttestationMechanism(Kind),
    List(Kind),
    Bulk(Kind),
    GetRegistration,
    DeleteRegistration,
    /// The id is a group's.
    ListRegistrations,
}

/// A request to the back-end API.
pub(crate) struct BackEndRequest {
    pub(crate) operation: BackEndOperation,
    /// Empty if the operation is on a whole collection.
    pub(crate) id: String,
    pub(crate) if_match: Option<String>,
    pub(crate) page: PageHeaders,
}
