//! The requests of clients, independent of the protocol that carried them.

use crate::call::kind::Kind;

/// The headers of a page request, as they were sent.
#[derive(Default)]
pub(crate) struct PageHeaders {
    pub(crate) max_item_count: Option<String>,
    pub(crate) continuation: Option<String>,
}

pub(crate) enum Request {
    BackEnd {
        /// Host and path, which the token must cover.
        resource: String,
        request: BackEndRequest,
    },
    Device(DeviceRequest),
    Hub(HubRequest),
}

impl Request {
    pub(crate) fn connects(&self) -> bool {
        matches!(self, Request::Device(request) if request.operation.kind() == Operation::Connect)
    }

    /// The id that the request names; empty if it names none.
    pub(crate) fn id(&self) -> &str {
        match self {
            Request::BackEnd { request, .. } => &request.id,
            Request::Device(request) => &request.registration_id,
            Request::Hub(request) => request.operation.id(),
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

/// A request to a hub.
pub(crate) struct HubRequest {
    /// Host and path, which the token must cover.
    pub(crate) resource: String,
    /// The name under which the hub is linked.
    pub(crate) hub: String,
    pub(crate) operation: HubOperation,
    pub(crate) if_match: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HubOperation {
    GetDevice(String),
    DeleteDevice(String),
    GetTwin(String),
    ListModules(String),
    /// Any other request that a device may send to a hub of Azure with its own credential.
    OtherOfDevice(String),
    /// Any other request to a hub.
    Other,
}

impl HubOperation {
    /// Reads a method and the decoded segments of a path.
    pub(crate) fn read(method: &str, path: &[&str]) -> Self {
        match (method, path) {
            ("GET", ["devices", id]) => HubOperation::GetDevice((*id).to_owned()),
            ("DELETE", ["devices", id]) => HubOperation::DeleteDevice((*id).to_owned()),
            ("GET", ["twins", id]) => HubOperation::GetTwin((*id).to_owned()),
            ("GET", ["devices", id, "modules"]) => HubOperation::ListModules((*id).to_owned()),
            (_, ["devices", id, _, ..]) => HubOperation::OtherOfDevice((*id).to_owned()),
            _ => HubOperation::Other,
        }
    }

    pub(crate) fn id(&self) -> &str {
        match self {
            HubOperation::GetDevice(id)
            | HubOperation::DeleteDevice(id)
            | HubOperation::GetTwin(id)
            | HubOperation::ListModules(id)
            | HubOperation::OtherOfDevice(id) => id,
            HubOperation::Other => "",
        }
    }
}

/// A protocol that carries requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// The service API, and the device API over HTTPS.
    Https,
    /// The device API over MQTT.
    Mqtt,
    /// The device API over MQTT in a WebSocket.
    MqttWs,
    /// The device API over AMQP.
    Amqp,
    /// The device API over AMQP in a WebSocket.
    AmqpWs,
}

impl Protocol {
    pub(crate) const ALL: [Protocol; 5] =
        [Protocol::Https, Protocol::Mqtt, Protocol::MqttWs, Protocol::Amqp, Protocol::AmqpWs];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Protocol::Https => "https",
            Protocol::Mqtt => "mqtt",
            Protocol::MqttWs => "mqtt-ws",
            Protocol::Amqp => "amqp",
            Protocol::AmqpWs => "amqp-ws",
        }
    }
}

/// The kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Operation {
    /// A device connects over MQTT or AMQP.
    Connect,
    /// A device begins a registration.
    Register,
    /// A device asks for the result of its registration.
    Poll,
    /// A device asks for its last registration.
    Lookup,
    /// Any request to the service API.
    Service,
}

impl Operation {
    pub(crate) const ALL: [Operation; 5] =
        [Operation::Connect, Operation::Register, Operation::Poll, Operation::Lookup, Operation::Service];

    /// Returns whether this protocol carries such requests.
    pub(crate) fn comes_over(self, protocol: Protocol) -> bool {
        match self {
            Operation::Connect => protocol != Protocol::Https,
            Operation::Register | Operation::Poll => true,
            Operation::Lookup | Operation::Service => protocol == Protocol::Https,
        }
    }
}
