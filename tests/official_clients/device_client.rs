//! The official device clients for Node and Python over the transports that they have.

use crate::stage::{Device, Stage};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// `azure-iot-provisioning-device` 1.9.1, over a transport.
    Node(&'static str),
    /// `azure-iot-device` 2.14.0, over a transport.
    Python(&'static str),
}

impl Peer {
    /// Starts the client.
    pub(crate) async fn device(self, stage: &Stage) -> Device<'_> {
        match self {
            Peer::Node(transport) => stage.device_over(transport).await,
            Peer::Python(transport) => stage.python_device(transport).await,
        }
    }

    /// The client with which a device works at its hub. For Python it is the one that registers.
    pub(crate) fn hub_device(self) -> &'static str {
        match self {
            Peer::Node(_) => "azure-iot-device 1.18.4",
            Peer::Python(_) => "azure-iot-device 2.14.0",
        }
    }

    pub(crate) fn transport(self) -> &'static str {
        let (Peer::Node(transport) | Peer::Python(transport)) = self;
        transport
    }

    /// The name of a request in the journal.
    pub(crate) fn word(self) -> String {
        match self {
            Peer::Node("amqp" | "amqp-ws") => "transfer".to_owned(),
            _ => "PUBLISH".to_owned(),
        }
    }
}
