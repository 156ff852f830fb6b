//! Where the samples run: on an embedded emulator, or against the instance that `DPS_CONNECTION_STRING` and
//! `DPS_ID_SCOPE` name. Nothing else in the samples differs. README.md beside this file has all variables.
#![allow(clippy::print_stderr, clippy::print_stdout)] // A sample prints for a person.

use std::cell::RefCell;
use std::fmt;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Auto, Https, HubAccess, Mqtt, RegistrationPolicy};
use azure_dps_emulator::{CertificatePolicy, Emulator};
use azure_dps_service::core::models::{ApiVersion, AttestationMechanism};
use azure_dps_service::core::{
    ConnectionString, Endpoint, Error, ErrorKind, GroupKey, IdScope, Result, RetryPolicy,
};
use azure_dps_service::{ServiceClient, ServiceClientBuilder};

#[cfg(feature = "tpm")]
mod chip;
#[cfg(feature = "tpm")]
pub use chip::{Simulator, chip};

/// Runs a sample: prints where it runs and what failed, and deletes what it created, also after an error.
///
/// A sample has no arguments. With any argument it prints the first lines of its `source`, which describe it.
pub async fn play(source: &str, sample: impl AsyncFnOnce(&Playground) -> Result<()>) -> ExitCode {
    if let Some(argument) = std::env::args_os().nth(1) {
        if argument == "--help" || argument == "-h" {
            println!("{}", about(source));
            return ExitCode::SUCCESS;
        }
        eprintln!("error: a sample takes no arguments, and {argument:?} is one\n{}", about(source));
        return ExitCode::from(2);
    }
    let playground = match Playground::start().await {
        Ok(playground) => playground,
        Err(error) => {
            tell("error", &error);
            return ExitCode::FAILURE;
        }
    };
    println!("{}\n", playground.describe());
    let outcome = sample(&playground).await;
    if let Err(error) = &outcome {
        tell("error", error);
    }
    let left = playground.clean_up().await;
    for (made, error) in &left {
        tell(&format!("left behind: {made}"), error);
    }
    if outcome.is_ok() && left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The description of a sample: the first comment of its source.
fn about(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    lines.map(str::trim).collect::<Vec<_>>().join("\n")
}

/// Prints what failed, why, and what to do next.
fn tell(what: &str, error: &Error) {
    eprintln!("{what}: {}", error.report());
    if error.kind() == ErrorKind::Tls {
        eprintln!("help: samples trust an emulator when DPS_CA_FILE names its CA file: examples/README.md");
    }
}

/// The instance that a sample uses.
#[derive(Debug)]
pub struct Playground {
    /// Held because dropping it stops it.
    emulator: Option<Emulator>,
    /// Where devices reach it, on the port of HTTPS and WebSockets.
    endpoint: Endpoint,
    builder: ServiceClientBuilder,
    service: ServiceClient,
    id_scope: IdScope,
    mqtt_port: u16,
    amqp_port: u16,
    made: RefCell<Vec<Made>>,
}

/// A record that a sample creates in an instance, by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// An individual enrollment.
    Enrollment(String),
    /// An enrollment group.
    Group(String),
    /// The record that a device leaves when it registers.
    Record(String),
}

impl fmt::Display for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enrollment(id) => write!(f, "enrollment {id}"),
            Self::Group(id) => write!(f, "enrollment group {id}"),
            Self::Record(id) => write!(f, "registration record {id}"),
        }
    }
}

impl Playground {
    /// Starts the emulator, or uses the instance that the environment names.
    async fn start() -> Result<Self> {
        match (variable("DPS_CONNECTION_STRING"), variable("DPS_ID_SCOPE")) {
            (Some(connection), Some(scope)) => {
                let ports = (port("DPS_MQTT_PORT", MQTT_PORT)?, port("DPS_AMQP_PORT", AMQP_PORT)?);
                let endpoint = endpoint_of_devices(&connection)?;
                Self::at(ServiceClient::builder_from_env()?, endpoint, &scope, ports, None)
            }
            (None, None) => {
                let emulator = embedded().await.map_err(|why| {
                    Error::new(ErrorKind::Config, "the emulator does not start").with_source(why)
                })?;
                let connection = emulator.service_connection_string();
                let service = ServiceClient::builder_from_connection_string(&connection)?;
                let service = service.trust_only(emulator.ca_pem())?;
                let endpoint = Endpoint::new(emulator.host())?.with_port(emulator.https_port());
                let endpoint = endpoint.trust_only(emulator.ca_pem())?;
                let id_scope = emulator.id_scope().to_owned();
                let ports = (emulator.mqtt_port(), emulator.amqp_port());
                Self::at(service, endpoint, &id_scope, ports, Some(emulator))
            }
            _ => Err(Error::new(
                ErrorKind::Config,
                "set both DPS_CONNECTION_STRING and DPS_ID_SCOPE to use an instance, or neither to use the embedded emulator",
            )),
        }
    }

    fn at(
        service: ServiceClientBuilder,
        endpoint: Endpoint,
        id_scope: &str,
        (mqtt_port, amqp_port): (u16, u16),
        emulator: Option<Emulator>,
    ) -> Result<Self> {
        // A person is waiting. A back end would keep the default and retry for longer.
        let builder = service.retry(RetryPolicy::new().with_retries(1));
        let service = builder.clone().build()?;
        let (id_scope, made) = (id_scope.trim().parse()?, RefCell::default());
        Ok(Self { emulator, endpoint, builder, service, id_scope, mqtt_port, amqp_port, made })
    }

    /// The embedded emulator, if it is one.
    pub fn emulator(&self) -> Option<&Emulator> {
        self.emulator.as_ref()
    }

    /// Whether it is an embedded emulator.
    pub fn is_emulator(&self) -> bool {
        self.emulator.is_some()
    }

    /// A short name of the instance, for output.
    fn describe(&self) -> String {
        let place = if self.is_emulator() { "embedded emulator" } else { "instance" };
        format!("{place} at {}, ID scope {}", self.endpoint.authority(443), self.id_scope)
    }

    /// The ID scope that devices name.
    pub fn id_scope(&self) -> IdScope {
        self.id_scope.clone()
    }

    /// The service client of a back end.
    pub fn service(&self) -> &ServiceClient {
        &self.service
    }

    /// A service client that speaks this version of the API.
    pub fn service_of(&self, version: ApiVersion) -> Result<ServiceClient> {
        self.builder.clone().api_version(version).build()
    }

    /// The names of a certificate policy: namespace, certificate authority and policy. They are those of the
    /// emulator, or in `DPS_CERTIFICATE_POLICY` with slashes between them.
    pub fn certificate_policy(&self) -> Result<[String; 3]> {
        let named = match &self.emulator {
            Some(_) => POLICY.join("/"),
            None => variable("DPS_CERTIFICATE_POLICY").unwrap_or_default(),
        };
        let names: Vec<_> = named.split('/').map(|name| name.trim().to_owned()).collect();
        <[String; 3]>::try_from(names).map_err(|_| {
            let wanted = "set DPS_CERTIFICATE_POLICY to the policy that issues certificates, as in \
                          DPS_CERTIFICATE_POLICY=namespace/authority/policy";
            Error::new(ErrorKind::Config, format!("no certificate policy is named: {wanted}"))
        })
    }

    /// Notes a record that was, or may have been, created, so that it is deleted at the end. Returns the
    /// outcome.
    ///
    /// # Errors
    /// That of the outcome.
    pub fn made<T>(&self, what: impl IntoIterator<Item = Made>, outcome: Result<T>) -> Result<T> {
        if outcome.as_ref().err().is_none_or(Error::maybe_applied) {
            self.made.borrow_mut().extend(what);
        }
        outcome
    }

    /// Forgets what the sample deleted itself.
    pub fn deleted(&self, what: &Made) {
        self.made.borrow_mut().retain(|made| made != what);
    }

    /// Notes the record of a device that is about to register, before the outcome is known.
    pub fn registers(&self, id: &str) {
        let (record, mut made) = (Made::Record(id.to_owned()), self.made.borrow_mut());
        if !made.contains(&record) {
            made.push(record);
        }
    }

    /// Deletes the noted records and returns those that it could not delete. Identities at hubs remain.
    async fn clean_up(&self) -> Vec<(Made, Error)> {
        let mut left = Vec::new();
        for made in self.made.take() {
            let outcome = match &made {
                Made::Enrollment(id) => self.service.enrollments().delete(id).await,
                Made::Group(id) => self.service.enrollment_groups().delete(id).await,
                Made::Record(id) => self.service.registrations().delete(id).await,
            };
            match outcome {
                Err(error) if !error.is_not_found() => left.push((made, error)),
                _ => {}
            }
        }
        left
    }

    /// The HTTPS transport of a device.
    pub fn https(&self) -> Https {
        Https::new(self.endpoint.clone())
    }

    /// The MQTT transport of a device.
    pub fn mqtt(&self) -> Mqtt {
        Mqtt::new(self.endpoint.clone().with_port(self.mqtt_port))
    }

    /// The MQTT transport of a device that only gets out through port 443.
    pub fn mqtt_websocket(&self) -> Mqtt {
        Mqtt::new(self.endpoint.clone()).with_websocket()
    }

    /// The AMQP transport of a device.
    pub fn amqp(&self) -> Amqp {
        Amqp::new(self.endpoint.clone().with_port(self.amqp_port))
    }

    /// The AMQP transport of a device that only gets out through port 443.
    pub fn amqp_websocket(&self) -> Amqp {
        Amqp::new(self.endpoint.clone()).with_websocket()
    }

    /// MQTT, else MQTT in a WebSocket, else HTTPS.
    pub fn auto(&self) -> Result<Auto> {
        let (mqtt, websocket, https) = (self.mqtt(), self.mqtt_websocket(), self.https());
        Auto::of([Arc::new(mqtt) as Arc<dyn Transport>, Arc::new(websocket), Arc::new(https)])
    }

    /// Where hubs are dialled: at the MQTT port of an emulator, which plays all hubs. `None` in Azure, where they
    /// are dialled by their names.
    pub fn hub_endpoint(&self) -> Option<Endpoint> {
        let is_azure = self.endpoint.host().contains(".azure-devices-provisioning.");
        (!is_azure).then(|| self.endpoint.clone().with_port(self.mqtt_port))
    }

    /// A device's way to its hub.
    pub fn at_hub(&self, access: HubAccess) -> HubAccess {
        match self.hub_endpoint() {
            Some(endpoint) => access.with_endpoint(endpoint),
            None => access,
        }
    }

    /// How devices wait: the defaults with an instance, no pause with the embedded emulator.
    pub fn policy(&self) -> RegistrationPolicy {
        match self.emulator {
            Some(_) => RegistrationPolicy::new().with_min_poll_interval(Duration::ZERO),
            None => RegistrationPolicy::new(),
        }
    }

    /// The host names of two linked hubs: the emulator's, or those in `DPS_HUBS`, because the service API
    /// does not return them.
    pub fn two_hubs(&self) -> Result<[String; 2]> {
        let hubs = match &self.emulator {
            Some(emulator) => emulator.hubs(),
            None => {
                let named = variable("DPS_HUBS").unwrap_or_default();
                let hubs = named.split(',').map(str::trim).filter(|hub| !hub.is_empty());
                hubs.map(str::to_owned).collect()
            }
        };
        <[String; 2]>::try_from(hubs).map_err(|hubs| {
            let named = if hubs.is_empty() {
                "DPS_HUBS is not set".to_owned()
            } else {
                format!("the number of hubs in DPS_HUBS is {}", hubs.len())
            };
            let wanted = "name two hubs that are linked to the instance, as in DPS_HUBS=one.azure-devices.net,two.azure-devices.net";
            Error::new(ErrorKind::Config, format!("{named}: {wanted}"))
        })
    }

    /// Deletes a device at an emulated hub; `false` if it does not exist, or the hub is in Azure.
    pub fn delete_hub_device(&self, hub: &str, device_id: &str) -> bool {
        self.emulator.as_ref().is_some_and(|emulator| emulator.delete_hub_device(hub, device_id))
    }

    /// A tag of a device's twin at an emulated hub.
    pub fn tag(&self, hub: &str, device_id: &str, name: &str) -> Option<String> {
        let device = self.emulator.as_ref()?.hub_device(hub, device_id)?;
        device.pointer(&format!("/twin/tags/{name}"))?.as_str().map(str::to_owned)
    }
}

/// An emulator that can issue certificates.
async fn embedded() -> std::result::Result<Emulator, Box<dyn std::error::Error + Send + Sync>> {
    let [namespace, authority, policy] = POLICY;
    let policy = CertificatePolicy::new(namespace, authority, policy)?;
    Ok(Emulator::builder().certificate_policy(policy).start().await?)
}

/// The endpoint in `DPS_ENDPOINT`, or the instance's own host, which serves devices too. It trusts the
/// authorities in `DPS_CA_FILE`, as the clients do.
fn endpoint_of_devices(connection: &str) -> Result<Endpoint> {
    let endpoint = match variable("DPS_ENDPOINT") {
        Some(text) => text.trim().parse()?,
        None => Endpoint::try_from(&connection.parse::<ConnectionString>()?)?,
    };
    trusting(endpoint)
}

/// The endpoint, which trusts only the authorities in the file that `DPS_CA_FILE` names, if it is set.
pub fn trusting(endpoint: Endpoint) -> Result<Endpoint> {
    let Some(file) = variable("DPS_CA_FILE") else { return Ok(endpoint) };
    // The value is not repeated: it may be the content of a file.
    let pem = std::fs::read(file).map_err(|why| {
        Error::new(ErrorKind::Config, "the file that DPS_CA_FILE names cannot be read").with_source(why)
    })?;
    endpoint.trust_only(pem)
}

/// A variable of the environment, if it is set and not blank.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn port(name: &str, default: u16) -> Result<u16> {
    let given = variable(name).map_or(Ok(default), |port| port.trim().parse());
    given.map_err(|why| Error::new(ErrorKind::Config, format!("{name} is not a port")).with_source(why))
}

/// A text that is unique to this run, for the names of records.
pub fn mark() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{:x}", since.as_millis())
}

/// The primary key of a group, from the answer to its creation: later answers do not contain it.
pub fn group_key(attestation: &AttestationMechanism) -> Result<GroupKey> {
    let key = attestation.as_symmetric_key().and_then(|keys| keys.primary_key.as_deref());
    key.ok_or_else(|| Error::new(ErrorKind::Protocol, "the service returned no primary key"))?.parse()
}

/// The certificate policy of the embedded emulator.
const POLICY: [&str; 3] = ["samples", "sample-ca", "thirty-days"];
const MQTT_PORT: u16 = 8883;
const AMQP_PORT: u16 = 5671;

#[cfg(test)]
#[allow(clippy::unwrap_used)] // Test code.
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_was_made_or_may_have_been_is_noted_until_it_is_deleted() {
        let connection = "HostName=dps.example;SharedAccessKeyName=p;SharedAccessKey=MDEy";
        let service = ServiceClient::builder_from_connection_string(connection).unwrap();
        let ports = (MQTT_PORT, AMQP_PORT);
        let playground = Playground::at(service, Endpoint::global(), "0ne00111111", ports, None).unwrap();
        let enrollment = |id: &str| Made::Enrollment(id.to_owned());
        let refused = || Error::new(ErrorKind::Service, "refused");

        playground.made([enrollment("made")], Ok(())).unwrap();
        playground.made([enrollment("refused")], Err::<(), _>(refused())).unwrap_err();
        let doubtful = Err::<(), _>(refused().with_maybe_applied());
        playground.made([enrollment("one"), enrollment("two")], doubtful).unwrap_err();
        playground.registers("device");
        playground.registers("device");
        playground.deleted(&enrollment("made"));

        let noted = [enrollment("one"), enrollment("two"), Made::Record("device".to_owned())];
        assert_eq!(playground.made.take(), noted);
    }

    #[test]
    fn every_guide_with_a_program_is_compiled_as_a_test() {
        let this = include_str!("playground.rs");
        let mut programs = 0;
        for package in ["azure-dps-device", "azure-dps-emulator", "azure-dps-service"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(package).join("docs");
            for page in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if page.extension().is_none_or(|name| name != "md")
                    || !std::fs::read_to_string(&page).unwrap().contains("```rust")
                {
                    continue;
                }
                programs += 1;
                let name = page.file_name().unwrap().to_str().unwrap();
                let include = format!("include_str!(\"../{package}/docs/{name}\")");
                assert!(this.contains(&include), "{}: add a struct with `{include}`", page.display());
            }
        }
        assert!(programs > 10, "{programs} guides have a program");
    }
}

/// The programs of the project's README, which run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

/// The recipe for Rust in the emulator's guide, which runs as a test.
#[cfg(doctest)]
#[doc = include_str!("../azure-dps-emulator/docs/emulator.md")]
struct EmulatorGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-emulator/docs/certificates.md")]
struct EmulatorCertificatesGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-emulator/docs/hub.md")]
struct EmulatorHubGuideDoctests;

/// The programs of the guides, which run or compile as tests.
#[cfg(doctest)]
#[doc = include_str!("../azure-dps-service/docs/enrollments.md")]
struct EnrollmentsGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-service/docs/access.md")]
struct AccessGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-service/docs/allocation.md")]
struct AllocationGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-service/docs/lifecycle.md")]
struct LifecycleGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-device/docs/fleets.md")]
struct FleetsGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-service/docs/iac.md")]
struct IacGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-device/docs/certificates.md")]
struct CertificatesGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-device/docs/hub.md")]
struct HubGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-device/docs/manager.md")]
struct ManagerGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-device/docs/monitoring.md")]
struct MonitoringGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-device/docs/networks.md")]
struct NetworksGuideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../azure-dps-device/docs/x509.md")]
struct X509GuideDoctests;

#[cfg(all(doctest, feature = "tpm"))]
#[doc = include_str!("../azure-dps-device/docs/tpm.md")]
struct TpmGuideDoctests;
