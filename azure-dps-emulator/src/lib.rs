#![doc = include_str!("../README.md")]

mod allocation;
mod answer;
mod attest;
mod attestation;
mod auth;
mod builder;
mod certificate;
mod clock;
mod device;
mod enrollments;
mod front;
mod ids;
mod journal;
mod registrations;
mod schema;
mod service;
mod tls;

pub use builder::{EmulatorBuilder, StartError};
pub use journal::Entry;
pub use service::RefuseAt;

use std::fmt;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use tokio::task::JoinSet;

use crate::front::Counter;
use crate::service::Service;

/// A running emulator; dropping it stops it.
///
/// The listeners close and every open connection ends with the handle. Any number of emulators run side by side in
/// one process, each with its own port, certificate authority and data. They live on the tokio runtime that started
/// them.
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::Emulator;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), azure_dps_emulator::StartError> {
/// let emulator = Emulator::start().await?;
///
/// assert_eq!(emulator.id_scope(), "0ne00EMU1A7");
/// assert_eq!(emulator.hubs().len(), 2);
/// assert!(emulator.journal().is_empty());
/// # Ok(())
/// # }
/// ```
pub struct Emulator {
    service: Arc<Service>,
    connections: Counter,
    https_port: u16,
    mqtt_port: u16,
    ca_pem: String,
    // Held for its drop, which ends the accepting tasks and, through them, the connections.
    _fronts: JoinSet<()>,
}

impl Emulator {
    /// Starts an emulator with the defaults: free ports, id scope `0ne00EMU1A7`, policy `provisioningserviceowner`,
    /// two linked hubs, one poll that says `assigning`, and a `Retry-After` of 0 seconds.
    ///
    /// # Errors
    /// [`StartError`] when no port can be bound.
    pub async fn start() -> Result<Emulator, StartError> {
        Self::builder().start().await
    }

    /// Chooses what differs from the defaults of [`Emulator::start`].
    pub fn builder() -> EmulatorBuilder {
        EmulatorBuilder::default()
    }

    /// The id scope that devices name.
    pub fn id_scope(&self) -> &str {
        &self.service.settings().id_scope
    }

    /// The connection string of the service policy, as a service client takes it.
    ///
    /// It names the port (`HostName=localhost:PORT`); clients that refuse a port there need the host without it and
    /// another way to reach [`https_port`](Self::https_port).
    pub fn service_connection_string(&self) -> String {
        let policy = &self.service.settings().policy;
        format!(
            "HostName={}:{};SharedAccessKeyName={};SharedAccessKey={}",
            self.host(),
            self.https_port,
            policy.name,
            BASE64_STANDARD.encode(&policy.key)
        )
    }

    /// The host to connect to: `localhost`.
    pub fn host(&self) -> &str {
        "localhost"
    }

    /// The port of the service API and of the device API over HTTPS.
    pub fn https_port(&self) -> u16 {
        self.https_port
    }

    /// The port of the device API over MQTT.
    pub fn mqtt_port(&self) -> u16 {
        self.mqtt_port
    }

    /// The certificate authority that signed the server certificate, as PEM; made anew by every start.
    ///
    /// The server certificate is for `localhost`, `127.0.0.1`, `::1`, `*.azure-devices-provisioning.net` and
    /// `*.azure-devices.net`.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The host names of the linked hubs.
    pub fn hubs(&self) -> Vec<String> {
        self.service.settings().hubs.clone()
    }

    /// What was asked and what was answered, oldest first; at most the latest 10,000 requests.
    ///
    /// A refusal has the real reason in [`Entry::cause`], which the answer itself does not tell.
    pub fn journal(&self) -> Vec<Entry> {
        self.service.journal().entries()
    }

    /// How many TCP connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.value()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        tracing::info!(port = self.https_port, "emulator stopped");
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("id_scope", &self.id_scope())
            .field("https_port", &self.https_port)
            .field("mqtt_port", &self.mqtt_port)
            .field("hubs", &self.hubs())
            .finish_non_exhaustive()
    }
}
