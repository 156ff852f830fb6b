//! What a client can ask for, whatever protocol carried the request.

use crate::call::kind::Kind;

/// The headers by which a request asks for a page, as they were sent.
#[derive(Default)]
pub(crate) struct PageHeaders {
    pub(crate) max_item_count: Option<String>,
    pub(crate) continuation: Option<String>,
}

pub(crate) enum Request {
    BackEnd {
        /// Host and path, which the token must cover.
        resource: String,
        asked: BackEndRequest,
    },
    Device(DeviceRequest),
    Hub(HubRequest),
}

impl Request {
    pub(crate) fn connects(&self) -> bool {
        matches!(self, Request::Device(asked) if asked.operation.kind() == Operation::Connect)
    }

    /// The id that it names; empty if it names none.
    pub(crate) fn id(&self) -> &str {
        match self {
            Request::BackEnd { asked, .. } => &asked.id,
            Request::Device(asked) => &asked.registration_id,
            Request::Hub(asked) => asked.operation.id(),
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
    /// Nothing but the proof of who the device is, on a connection that carries its requests.
    Connect,
    /// The same before the connection can name an api-version.
    SignIn,
    /// A TPM shows its keys, before the connection can name an api-version.
    Challenge,
    /// The TPM answers, and shows its keys again; this is never put off until it registers.
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
    /// The id is that of a group.
    ListRegistrations,
}

/// What a request to the service API asks for.
pub(crate) struct BackEndRequest {
    pub(crate) operation: BackEndOperation,
    /// Empty where the operation is about a whole collection.
    pub(crate) id: String,
    pub(crate) if_match: Option<String>,
    pub(crate) page: PageHeaders,
}

/// What a request to a hub asks for.
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
    /// Whatever else a device may do on a hub of Azure with its own credential.
    OtherOfDevice(String),
    /// Whatever else there is on a hub of Azure.
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

/// A protocol by which requests come.
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

/// What a request is about.
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

    /// Whether there are such requests by this protocol.
    pub(crate) fn comes_over(self, protocol: Protocol) -> bool {
        match self {
            Operation::Connect => protocol != Protocol::Https,
            Operation::Register | Operation::Poll => true,
            Operation::Lookup | Operation::Service => protocol == Protocol::Https,
        }
    }
}
