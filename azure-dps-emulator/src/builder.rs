//! What an emulator can be told before it starts, and the start itself.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use crate::Emulator;
use crate::auth::Policy;
use crate::front::{self, Front};
use crate::schema::Strictness;
use crate::service::{PayloadHook, RefuseAt, Service, Settings};
use crate::tls;

/// The settings of an emulator that is about to start; made by [`Emulator::builder`].
///
/// # Examples
///
/// ```
/// use azure_dps_emulator::Emulator;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), azure_dps_emulator::StartError> {
/// let emulator = Emulator::builder()
///     .id_scope("0ne00ABCDEF")
///     .hub("berlin.azure-devices.net")
///     .hub("munich.azure-devices.net")
///     .polls(2)
///     .start()
///     .await?;
///
/// assert_eq!(emulator.hubs(), ["berlin.azure-devices.net", "munich.azure-devices.net"]);
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing listens before `start` is awaited"]
pub struct EmulatorBuilder {
    id_scope: String,
    policy_key: String,
    hubs: Vec<String>,
    polls: u32,
    retry_after: u32,
    port: u16,
    mqtt_port: u16,
    refuse_at: RefuseAt,
    strictness: Strictness,
    on_payload: Option<PayloadHook>,
}

impl EmulatorBuilder {
    /// Sets the id scope; the default is `0ne00EMU1A7`.
    pub fn id_scope(mut self, id_scope: impl Into<String>) -> Self {
        self.id_scope = id_scope.into();
        self
    }

    /// Links a hub by its host name; the first call replaces the two default hubs, further calls add to it.
    ///
    /// The defaults are `emulator-hub-1.azure-devices.net` and `emulator-hub-2.azure-devices.net`.
    pub fn hub(mut self, host_name: impl Into<String>) -> Self {
        self.hubs.push(host_name.into());
        self
    }

    /// Sets for how many polls a registration stays `assigning`; the default is 1.
    ///
    /// The answer to the register request itself is always `assigning`.
    pub fn polls(mut self, polls: u32) -> Self {
        self.polls = polls;
        self
    }

    /// Sets the `Retry-After` of `assigning` answers in seconds; the default is 0, the service itself sends 3.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = seconds;
        self
    }

    /// Sets the key of the policy `provisioningserviceowner`, in base64; the default is a fixed, public key.
    pub fn policy_key(mut self, base64: impl Into<String>) -> Self {
        self.policy_key = base64.into();
        self
    }

    /// Sets the port of HTTPS; the default 0 takes a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the port of MQTT; the default 0 takes a free one.
    pub fn mqtt_port(mut self, port: u16) -> Self {
        self.mqtt_port = port;
        self
    }

    /// Sets where a device with a wrong credential is told so over MQTT; the default is [`RefuseAt::Register`].
    pub fn refuse_at(mut self, refuse_at: RefuseAt) -> Self {
        self.refuse_at = refuse_at;
        self
    }

    /// Lets request bodies carry members that no api-version knows, and requests name any well-formed api-version.
    ///
    /// Without it such a body is answered 400 with a message that names the member, so that a misspelt member does
    /// not pass unnoticed.
    pub fn loose(mut self) -> Self {
        self.strictness = Strictness::Loose;
        self
    }

    /// Answers registrations with a payload.
    ///
    /// The service returns a payload to a device only when a custom allocation webhook gave it one. This function
    /// stands in for that webhook: it gets the payload of the register request (`null` when there was none), and what
    /// it returns becomes `registrationState.payload`. It runs once for each registration of an enabled device and
    /// must not block.
    pub fn on_payload(mut self, hook: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Self {
        self.on_payload = Some(Box::new(hook));
        self
    }

    /// Starts the emulator.
    ///
    /// It listens on the loopback addresses only: `127.0.0.1` and, where the machine has IPv6, `::1`.
    ///
    /// # Errors
    /// [`StartError`] when a setting cannot be used, the port is taken or no certificate can be made.
    pub async fn start(self) -> Result<Emulator, StartError> {
        let (port, mqtt_port) = (self.port, self.mqtt_port);
        let settings = self.settings()?;
        let certificates = tls::issue().map_err(|source| StartError::Certificate(source.into()))?;
        let tls =
            tls::server_config(&certificates).map_err(|source| StartError::Certificate(source.into()))?;
        let bind =
            |port| async move { front::bind(port).await.map_err(|source| StartError::Bind { port, source }) };
        let (https, mqtt) = (bind(port).await?, bind(mqtt_port).await?);

        let service = Arc::new(Service::new(settings));
        let connections = front::Counter::default();
        let (https_port, mqtt_port) = (https.port, mqtt.port);
        let door = front::Door::new(tls, Arc::clone(&service), connections.clone());
        let fronts = front::serve([(https, Front::Https), (mqtt, Front::Mqtt)], &door);
        let id_scope = &service.settings().id_scope;
        tracing::info!(https_port, mqtt_port, %id_scope, "emulator started, for tests only");
        let ca_pem = certificates.ca_pem;
        Ok(Emulator { service, connections, https_port, mqtt_port, ca_pem, _fronts: fronts })
    }

    fn settings(self) -> Result<Settings, StartError> {
        if self.id_scope.is_empty() || !self.id_scope.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(StartError::IdScope(self.id_scope));
        }
        let key = BASE64_STANDARD.decode(&self.policy_key).map_err(|_| StartError::PolicyKey)?;
        if key.is_empty() {
            return Err(StartError::PolicyKey);
        }
        let hubs = match self.hubs.is_empty() {
            true => DEFAULT_HUBS.map(String::from).to_vec(),
            false => self.hubs,
        };
        let is_host =
            |hub: &&String| hub.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-');
        if let Some(hub) = hubs.iter().find(|hub| hub.is_empty() || !is_host(hub)) {
            return Err(StartError::Hub(hub.clone()));
        }
        Ok(Settings {
            id_scope: self.id_scope,
            policy: Policy { name: POLICY_NAME, key },
            hubs,
            polls: self.polls,
            retry_after: self.retry_after,
            strictness: self.strictness,
            refuse_at: self.refuse_at,
            on_payload: self.on_payload,
        })
    }
}

impl Default for EmulatorBuilder {
    fn default() -> Self {
        EmulatorBuilder {
            id_scope: DEFAULT_ID_SCOPE.into(),
            policy_key: BASE64_STANDARD.encode(DEFAULT_POLICY_KEY),
            hubs: Vec::new(),
            polls: 1,
            retry_after: 0,
            port: 0,
            mqtt_port: 0,
            refuse_at: RefuseAt::default(),
            strictness: Strictness::Strict,
            on_payload: None,
        }
    }
}

impl fmt::Debug for EmulatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatorBuilder")
            .field("id_scope", &self.id_scope)
            .field("hubs", &self.hubs)
            .field("polls", &self.polls)
            .field("retry_after", &self.retry_after)
            .field("port", &self.port)
            .field("mqtt_port", &self.mqtt_port)
            .field("refuse_at", &self.refuse_at)
            .finish_non_exhaustive()
    }
}

/// Why an emulator did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The id scope is empty or has characters other than ASCII letters and digits.
    IdScope(String),
    /// The policy key is not base64 or is empty.
    PolicyKey,
    /// The name of a linked hub is not a host name.
    Hub(String),
    /// The port could not be bound.
    Bind {
        /// The port asked for; 0 stands for any.
        port: u16,
        /// What the system said.
        source: io::Error,
    },
    /// The certificates of the server could not be made.
    Certificate(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::IdScope(id_scope) => write!(f, "`{id_scope}` cannot be an id scope"),
            StartError::PolicyKey => f.write_str("the policy key is not base64 or is empty"),
            StartError::Hub(hub) => write!(f, "`{hub}` cannot be the host name of a hub"),
            StartError::Bind { port, .. } => {
                write!(f, "cannot listen on port {port} of the loopback address")
            }
            StartError::Certificate(_) => f.write_str("cannot make the certificates of the server"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            StartError::Bind { source, .. } => Some(source),
            StartError::Certificate(source) => Some(source.as_ref()),
            StartError::IdScope(_) | StartError::PolicyKey | StartError::Hub(_) => None,
        }
    }
}

const DEFAULT_ID_SCOPE: &str = "0ne00EMU1A7";
const POLICY_NAME: &str = "provisioningserviceowner";
const DEFAULT_POLICY_KEY: &[u8; 32] = b"this-emulator-key-protects-none!";
const DEFAULT_HUBS: [&str; 2] = ["emulator-hub-1.azure-devices.net", "emulator-hub-2.azure-devices.net"];
