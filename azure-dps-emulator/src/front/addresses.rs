//! Where clients reach the emulator, and the connection strings that say so.

use base64::prelude::{BASE64_STANDARD, Engine};

use crate::access::policy::Policy;
use crate::records::hubs;

/// The host for clients, the URL of the management port, and the ports.
#[derive(Debug)]
pub(crate) struct Addresses {
    pub(crate) host: String,
    pub(crate) manage_url: Option<String>,
    pub(crate) ports: Ports,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) https: u16,
    pub(crate) mqtt: u16,
    pub(crate) amqp: u16,
    pub(crate) manage: Option<u16>,
}

impl Addresses {
    /// The host with a port.
    pub(crate) fn at(&self, port: u16) -> String {
        format!("{}:{port}", self.host)
    }

    /// The connection string of an access policy, with its primary key.
    pub(crate) fn of_policy(&self, policy: &Policy) -> String {
        self.connection_string(&self.host, &policy.name, &policy.primary)
    }

    /// The connection string of the owner's policy of a hub.
    pub(crate) fn of_hub(&self, hub: &str) -> String {
        self.connection_string(hub, hubs::OWNER, &hubs::owner_key(hub))
    }

    fn connection_string(&self, host: &str, policy: &str, key: &[u8]) -> String {
        let port = match self.ports.https {
            443 => String::new(),
            port => format!(":{port}"),
        };
        let key = BASE64_STANDARD.encode(key);
        format!("HostName={host}{port};SharedAccessKeyName={policy};SharedAccessKey={key}")
    }
}
