//! Where the samples run: on an embedded emulator, or against Azure when `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE`
//! name an instance. Nothing else in the samples differs. `DPS_MQTT_PORT` and `DPS_AMQP_PORT` are for an emulator that
//! runs elsewhere on this machine and is named like an instance; Azure listens on 8883 and 5671.
#![allow(clippy::print_stderr)] // A sample talks to a person.

use std::error::Error as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_dps_core::models::AttestationMechanism;
use azure_dps_core::{ConnectionString, Endpoint, Error, ErrorKind, GroupKey, IdScope, Result, RetryPolicy};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Auto, Https, Mqtt, RegistrationPolicy};
use azure_dps_emulator::Emulator;
use azure_dps_service::{Credential, ServiceClient};

/// An instance to play with.
#[derive(Debug)]
pub struct Playground {
    /// Held because dropping it stops it.
    emulator: Option<Emulator>,
    connection: ConnectionString,
    id_scope: IdScope,
    mqtt_port: u16,
    amqp_port: u16,
}

impl Playground {
    /// Starts the emulator, or takes the instance that the environment names.
    pub async fn start() -> Result<Self> {
        match (variable("DPS_CONNECTION_STRING"), variable("DPS_ID_SCOPE")) {
            (Some(connection), Some(scope)) => {
                let (connection, id_scope) = (connection.parse()?, scope.trim().parse()?);
                let mqtt_port = port("DPS_MQTT_PORT", MQTT_PORT)?;
                let amqp_port = port("DPS_AMQP_PORT", AMQP_PORT)?;
                Ok(Self { emulator: None, connection, id_scope, mqtt_port, amqp_port })
            }
            (None, None) => {
                let failed =
                    |why| Error::new(ErrorKind::Config, "the emulator does not start").with_source(why);
                let emulator = Emulator::start().await.map_err(failed)?;
                let connection = emulator.service_connection_string().parse()?;
                let id_scope = emulator.id_scope().parse()?;
                let (mqtt_port, amqp_port) = (emulator.mqtt_port(), emulator.amqp_port());
                Ok(Self { emulator: Some(emulator), connection, id_scope, mqtt_port, amqp_port })
            }
            _ => Err(Error::new(
                ErrorKind::Config,
                "set both DPS_CONNECTION_STRING and DPS_ID_SCOPE to use an instance in Azure, or neither to use the emulator",
            )),
        }
    }

    /// Whether it is an embedded emulator.
    pub fn is_emulator(&self) -> bool {
        self.emulator.is_some()
    }

    /// What runs here, in a few words.
    pub fn describe(&self) -> String {
        let place = if self.is_emulator() { "embedded emulator" } else { "Azure" };
        let port = self.connection.port().map(|port| format!(":{port}")).unwrap_or_default();
        format!("{place}, {}{port}, ID scope {}", self.connection.host(), self.id_scope)
    }

    /// The ID scope that devices name.
    pub fn id_scope(&self) -> IdScope {
        self.id_scope.clone()
    }

    /// The service client of a back end.
    pub fn service(&self) -> Result<ServiceClient> {
        // A person is waiting: a back end would keep the default and try for longer.
        let retry = RetryPolicy::new().retries(1);
        ServiceClient::builder(self.endpoint()?, Credential::from(&self.connection)).retry(retry).build()
    }

    /// The HTTPS transport of a device.
    pub fn https(&self) -> Result<Https> {
        self.endpoint().map(Https::new)
    }

    /// The MQTT transport of a device.
    pub fn mqtt(&self) -> Result<Mqtt> {
        Ok(Mqtt::new(self.endpoint()?.with_port(self.mqtt_port)))
    }

    /// The MQTT transport of a device that only gets out through port 443.
    pub fn mqtt_websocket(&self) -> Result<Mqtt> {
        Ok(Mqtt::new(self.endpoint()?).websocket())
    }

    /// The AMQP transport of a device.
    pub fn amqp(&self) -> Result<Amqp> {
        Ok(Amqp::new(self.endpoint()?.with_port(self.amqp_port)))
    }

    /// The AMQP transport of a device that only gets out through port 443.
    pub fn amqp_websocket(&self) -> Result<Amqp> {
        Ok(Amqp::new(self.endpoint()?).websocket())
    }

    /// MQTT, else MQTT in a WebSocket, else HTTPS.
    pub fn auto(&self) -> Result<Auto> {
        let (mqtt, websocket, https) = (self.mqtt()?, self.mqtt_websocket()?, self.https()?);
        Auto::of([Arc::new(mqtt) as Arc<dyn Transport>, Arc::new(websocket), Arc::new(https)])
    }

    /// How devices wait: as in the field against Azure, without a pause on the emulator.
    pub fn policy(&self) -> RegistrationPolicy {
        match self.emulator {
            Some(_) => RegistrationPolicy::new().min_poll(Duration::ZERO),
            None => RegistrationPolicy::new(),
        }
    }

    /// The host names of linked hubs: the emulator's, or those in `DPS_HUBS`, because the service API does not tell them.
    pub fn hubs(&self) -> Result<Vec<String>> {
        match &self.emulator {
            Some(emulator) => Ok(emulator.hubs()),
            None => match variable("DPS_HUBS") {
                Some(hubs) => Ok(hubs.split(',').map(|hub| hub.trim().to_owned()).collect()),
                None => {
                    Err(Error::new(ErrorKind::Config, "DPS_HUBS names no linked hubs, separated by commas"))
                }
            },
        }
    }

    /// Deletes a device at an emulated hub; `false` when it is not there, or the hub is one of Azure's.
    pub fn delete_hub_device(&self, hub: &str, device_id: &str) -> bool {
        self.emulator.as_ref().is_some_and(|emulator| emulator.delete_hub_device(hub, device_id))
    }

    /// A tag of a device's twin at an emulated hub.
    pub fn tag(&self, hub: &str, device_id: &str, name: &str) -> Option<String> {
        let device = self.emulator.as_ref()?.hub_device(hub, device_id)?;
        device.pointer(&format!("/twin/tags/{name}"))?.as_str().map(str::to_owned)
    }

    /// The instance's own host serves devices too, so that one endpoint is enough here.
    fn endpoint(&self) -> Result<Endpoint> {
        let endpoint = Endpoint::try_from(&self.connection)?;
        match &self.emulator {
            Some(emulator) => endpoint.trust_only(emulator.ca_pem()),
            None => Ok(endpoint),
        }
    }
}

/// A variable of the environment, if it is there and not blank.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn port(name: &str, default: u16) -> Result<u16> {
    let given = variable(name).map_or(Ok(default), |port| port.trim().parse());
    given.map_err(|why| Error::new(ErrorKind::Config, format!("{name} is no port")).with_source(why))
}

/// A text unlike that of any other run, for the names of what a sample makes.
pub fn mark() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", since.as_millis())
}

/// The primary key of a group that was just created; later the service hides it.
pub fn group_key(attestation: &AttestationMechanism) -> Result<GroupKey> {
    let key = attestation.as_symmetric_key().and_then(|keys| keys.primary_key.as_deref());
    key.ok_or_else(|| Error::new(ErrorKind::Protocol, "the service returned no primary key"))?.parse()
}

/// Takes the outcome of deleting something: what was never made is not missed.
pub fn cleared(what: &str, outcome: Result<()>) {
    if let Err(error) = outcome.or_else(|error| if error.is_not_found() { Ok(()) } else { Err(error) }) {
        eprintln!("the {what} could not be deleted: {error}");
    }
}

/// Tells a person what went wrong, why, and what to do next.
pub fn report(outcome: Result<()>) -> ExitCode {
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because {error}");
        cause = error.source();
    }
    eprintln!("help: {}", error.help());
    ExitCode::FAILURE
}

const MQTT_PORT: u16 = 8883;
const AMQP_PORT: u16 = 5671;

/// The programs of the project's README, which run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

/// The recipe for Rust in the emulator's guide, which runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../docs/guides/emulator.md")]
struct EmulatorGuideDoctests;

/// The programs of the guides, which run or compile as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/guides/enrollments.md")]
struct EnrollmentsGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/guides/access.md")]
struct AccessGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/guides/allocation.md")]
struct AllocationGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/guides/lifecycle.md")]
struct LifecycleGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/guides/iac.md")]
struct IacGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/guides/monitoring.md")]
struct MonitoringGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/guides/networks.md")]
struct NetworksGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/guides/x509.md")]
struct X509GuideDoctests;

#[cfg(all(doctest, feature = "tpm"))]
#[doc = include_str!("../docs/guides/tpm.md")]
struct TpmGuideDoctests;
