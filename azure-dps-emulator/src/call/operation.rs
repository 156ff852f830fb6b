//! The protocols that carry requests, and the kinds of requests, as faults name them.

/// A protocol that carries requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Protocol {
    /// The service API, the device API over HTTPS, and the REST API of hubs.
    Https,
    /// The device API and hubs over MQTT.
    Mqtt,
    /// The device API and hubs over MQTT in a WebSocket.
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
    /// A device connects to its hub.
    HubConnect,
    /// A device gets its twin from its hub, or reports properties.
    HubTwin,
    /// A device sends telemetry to its hub.
    HubTelemetry,
    /// Any request to the REST API of a hub.
    HubService,
}

impl Operation {
    pub(crate) const ALL: [Operation; 9] = [
        Operation::Connect,
        Operation::Register,
        Operation::Poll,
        Operation::Lookup,
        Operation::Service,
        Operation::HubConnect,
        Operation::HubTwin,
        Operation::HubTelemetry,
        Operation::HubService,
    ];

    /// The word for it on the management port.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Operation::Connect => "connect",
            Operation::Register => "register",
            Operation::Poll => "poll",
            Operation::Lookup => "lookup",
            Operation::Service => "service",
            Operation::HubConnect => "hubConnect",
            Operation::HubTwin => "hubTwin",
            Operation::HubTelemetry => "hubTelemetry",
            Operation::HubService => "hubService",
        }
    }

    /// Returns whether such requests go to a hub.
    pub(crate) fn is_at_hub(self) -> bool {
        match self {
            Operation::Connect
            | Operation::Register
            | Operation::Poll
            | Operation::Lookup
            | Operation::Service => false,
            Operation::HubConnect | Operation::HubTwin | Operation::HubTelemetry | Operation::HubService => {
                true
            }
        }
    }

    /// Returns whether this protocol carries such requests.
    pub(crate) fn comes_over(self, protocol: Protocol) -> bool {
        match self {
            Operation::Connect => protocol != Protocol::Https,
            Operation::Register | Operation::Poll => true,
            Operation::Lookup | Operation::Service | Operation::HubService => protocol == Protocol::Https,
            Operation::HubConnect | Operation::HubTwin | Operation::HubTelemetry => {
                matches!(protocol, Protocol::Mqtt | Protocol::MqttWs)
            }
        }
    }
}
