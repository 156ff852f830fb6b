//! What an emulator can be told before it starts, and the start itself.

use std::collections::HashSet;
use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use time::OffsetDateTime;

use crate::access::{AccessPolicy, Gate, Right};
use crate::allocation::Rules;
use crate::authorities::{Authorities, CaCertificate};
use crate::entra::{EntraRole, Roles};
use crate::exposure::Exposure;
use crate::front::{self, Listeners, Speech};
use crate::json;
use crate::quota::Quotas;
use crate::records::Order;
use crate::schema::Strictness;
use crate::seed::Seed;
use crate::service::Service;
use crate::settings::{
    DefaultAllocation, Enrolling, Hub, OnKeylessUpdate, PayloadHook, RefuseAt, Settings, is_host_name,
};
use crate::start_error::StartError;
use crate::tls::names::Names;
use crate::tls::{self, authority};
use crate::webhook::post;
use crate::{Emulator, Ports};

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
    /// The default one is the first.
    policies: Vec<AccessPolicy>,
    roles: Roles,
    quotas: Option<Quotas>,
    /// `None` links the defaults.
    hubs: Option<Vec<Hub>>,
    rules: Rules,
    reset_in_place: bool,
    listing_order: Order,
    webhook_timeout: Duration,
    webhook_ca: Option<String>,
    on_keyless_update: OnKeylessUpdate,
    polls: Option<u32>,
    retry_after: u32,
    latency: Duration,
    host: IpAddr,
    port: u16,
    mqtt_port: u16,
    amqp_port: u16,
    manage_port: Option<u16>,
    ca_dir: Option<PathBuf>,
    seed: Option<String>,
    ca_certificates: Vec<CaCertificate>,
    require_verified_ca: bool,
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

    /// Links a hub, by its host name or as a [`Hub`]; the first call replaces the two default hubs, further calls add
    /// to it.
    ///
    /// The defaults are `emulator-hub-1.azure-devices.net` and `emulator-hub-2.azure-devices.net`.
    pub fn hub(mut self, hub: impl Into<Hub>) -> Self {
        self.hubs.get_or_insert_default().push(hub.into());
        self
    }

    /// Links no hub: every registration then fails with 401001, as on an instance without linked hubs.
    pub fn without_hubs(mut self) -> Self {
        self.hubs = Some(Vec::new());
        self
    }

    /// Sets how devices get hubs when their enrollment does not say it; the default is [`DefaultAllocation::Hashed`].
    pub fn allocation(mut self, allocation: DefaultAllocation) -> Self {
        self.rules.policy = allocation;
        self
    }

    /// Says how many milliseconds devices wait for an answer from each region; by that `geoLatency` chooses among
    /// [regions of hubs](Hub::region).
    ///
    /// `devices` is a registration id, or the beginning of one and `*`; the longest that fits a device holds for it. May be
    /// called for any number of them. Hubs in other regions, or in none, are farther away than all others. Without
    /// this call, and among hubs that are equally near, `geoLatency` spreads as `hashed` does.
    pub fn latencies<R: Into<String>>(
        mut self,
        devices: impl AsRef<str>,
        regions: impl IntoIterator<Item = (R, u32)>,
    ) -> Self {
        let regions = regions.into_iter().map(|(region, millis)| (region.into(), millis));
        self.rules.latencies.set(devices.as_ref(), regions);
        self
    }

    /// Resets a device on its own hub too, when its enrollment says to reset and it registers again.
    ///
    /// Without this call only a change of the hub resets it. Which of the two the service does is not confirmed.
    pub fn reset_in_place(mut self) -> Self {
        self.reset_in_place = true;
        self
    }

    /// Lists enrollments, groups and records in ascending order of their IDs.
    ///
    /// Without this call the order is that of the service: partition by partition of its store, within a partition in the
    /// order of creation. A client that relies on ascending IDs fails there.
    pub fn list_by_id(mut self) -> Self {
        self.listing_order = Order::Ids;
        self
    }

    /// Sets how long a custom allocation webhook may take; the default is 10 seconds. With none at all, every answer is
    /// too late.
    pub fn webhook_timeout(mut self, timeout: Duration) -> Self {
        self.webhook_timeout = timeout;
        self
    }

    /// Trusts custom allocation webhooks with certificates of these authorities, in PEM, besides those that the machine
    /// trusts.
    pub fn webhook_ca(mut self, pem: impl Into<String>) -> Self {
        self.webhook_ca = Some(pem.into());
        self
    }

    /// Sets what becomes of symmetric keys when an update has none; the default is [`OnKeylessUpdate::Keep`].
    pub fn on_keyless_update(mut self, on_keyless_update: OnKeylessUpdate) -> Self {
        self.on_keyless_update = on_keyless_update;
        self
    }

    /// Puts enrollments from JSON: `{"enrollments": […], "enrollmentGroups": […]}`, each in the shape of the service.
    ///
    /// They are judged like the body of a `PUT`, and [`Emulator::reset`] goes back to them.
    pub fn seed_json(mut self, json: impl Into<String>) -> Self {
        self.seed = Some(json.into());
        self
    }

    /// Sets for how many polls a registration stays `assigning`, however long that takes, for tests of polling.
    ///
    /// The default goes by the time: polls are answered `assigning` that come before [`retry_after`](Self::retry_after)
    /// has passed since the register request, by the clock of the emulator or that of the machine, so that a client
    /// that waits as it is told is assigned at its first poll. The answer to the register request itself is always
    /// `assigning`.
    pub fn polls(mut self, polls: u32) -> Self {
        self.polls = Some(polls);
        self
    }

    /// Sets the `Retry-After` of `assigning` answers in seconds; the default is 0, the service itself sends 3.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = seconds;
        self
    }

    /// Sends every answer to devices and service clients so much later, on every transport; the default is
    /// not to wait.
    ///
    /// Some clients need it, because no network answers as fast as an emulator on the same machine: the Java
    /// device client over MQTT waits a minute for a reply that came before it began to wait.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }

    /// Sets the primary key of the policy `provisioningserviceowner`, in base64; the default is a fixed, public key.
    pub fn policy_key(mut self, base64: impl Into<String>) -> Self {
        if let Some(policy) = self.policies.first_mut() {
            *policy = policy.clone().with_primary_key(base64);
        }
        self
    }

    /// Adds an access policy, or replaces the one of the same name.
    ///
    /// There is always `provisioningserviceowner`: with every right and fixed, public keys, unless it is replaced.
    pub fn access_policy(mut self, policy: AccessPolicy) -> Self {
        match self.policies.iter_mut().find(|known| known.name() == policy.name()) {
            Some(known) => *known = policy,
            None => self.policies.push(policy),
        }
        self
    }

    /// Gives a principal of Microsoft Entra ID, named by its object id, a role on the service API; a later call for the
    /// same principal replaces it.
    ///
    /// While nobody has a role every token permits everything, as if its principal were a Data Contributor. As soon as
    /// somebody has one, principals without a role are refused.
    pub fn entra_role(mut self, object_id: impl AsRef<str>, role: EntraRole) -> Self {
        self.roles.assign(object_id.as_ref(), role);
        self
    }

    /// Answers 429 when more is asked than this; without this call nothing is limited.
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.quotas = Some(quotas);
        self
    }

    /// Sets the address to listen on; the default is `127.0.0.1`, together with `::1` where the machine has IPv6.
    ///
    /// With another address than a loopback one, everybody who reaches the machine reaches the emulator,
    /// whose keys are public: the start logs warnings that say who may do what. The management port stays on
    /// `127.0.0.1`. Emulators with the same ports run side by side on different loopback addresses, such as
    /// `127.0.0.2` and `127.0.0.3`.
    pub fn host(mut self, address: impl Into<IpAddr>) -> Self {
        self.host = address.into();
        self
    }

    /// Sets the port of HTTPS, which takes WebSockets too; the default 0 takes a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Sets the port of MQTT; the default 0 takes a free one.
    pub fn mqtt_port(mut self, port: u16) -> Self {
        self.mqtt_port = port;
        self
    }

    /// Sets the port of AMQP; the default 0 takes a free one.
    pub fn amqp_port(mut self, port: u16) -> Self {
        self.amqp_port = port;
        self
    }

    /// Opens the management port, plain HTTP on `127.0.0.1`; 0 takes a free one.
    ///
    /// It does for other programs what the methods of [`Emulator`] do in this one. Without this call there is none.
    pub fn manage_port(mut self, port: u16) -> Self {
        self.manage_port = Some(port);
        self
    }

    /// Keeps the certificate authority in `ca.pem` and `ca-key.pem` of this directory, and makes it there if there is
    /// none yet, so that clients need to trust it only once.
    ///
    /// The authority may sign for the names and addresses of the start that makes it. A later start with a
    /// hub or an address that is not among them fails with [`StartError::CaDir`], which names what is
    /// missing.
    pub fn ca_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.ca_dir = Some(directory.into());
        self
    }

    /// Uploads the certificate of an authority, to which the `caReferences` of enrollments may refer by its name; may be
    /// called up to 25 times.
    pub fn ca_certificate(mut self, certificate: CaCertificate) -> Self {
        self.ca_certificates.push(certificate);
        self
    }

    /// Lets devices of X.509 groups in only if a verified certificate of the instance is at the end of their chain.
    ///
    /// That is what the service does. Without this call a group's own signing certificate is enough, and
    /// [`Entry::warning`](crate::Entry::warning) tells when the service itself would want one more.
    pub fn require_verified_ca(mut self) -> Self {
        self.require_verified_ca = true;
        self
    }

    /// Sets where a device with a wrong credential is told so over MQTT and AMQP; the default is [`RefuseAt::Register`].
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
    /// The service returns a payload to a device only when a custom allocation webhook gave it one. Where a device gets its
    /// hub by another policy, this function stands in for that webhook: it gets the payload of the register request (`null` when there was none), and what
    /// it returns becomes `registrationState.payload`. It runs once for each registration of an enabled device and
    /// must not block.
    pub fn on_payload(mut self, hook: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Self {
        let hook = move |payload: &json::Value| hook(&payload.clone().into()).map(json::Value::from);
        self.on_payload = Some(Box::new(hook));
        self
    }

    /// Starts the emulator.
    ///
    /// # Errors
    /// [`StartError`] when a setting cannot be used, a port is taken or no certificate can be made.
    pub async fn start(mut self) -> Result<Emulator, StartError> {
        let seed = self.seed.take();
        let seed =
            seed.map(|seed| Seed::read(&seed, self.strictness)).transpose().map_err(StartError::Seed)?;
        let (host, port, manage_port) = (self.host, self.port, self.manage_port);
        let (mqtt_port, amqp_port) = (self.mqtt_port, self.amqp_port);
        let ca_dir = self.ca_dir.take();
        let webhook_ca = self.webhook_ca.take().map(|pem| post::roots(&pem).map_err(StartError::WebhookCa));
        let webhook_roots = webhook_ca.transpose()?.unwrap_or_default();
        let (service, errands) =
            Service::new(self.settings()?, seed.unwrap_or_default()).map_err(StartError::Seed)?;
        let service = Arc::new(service);

        let hubs = &service.settings().enrolling.hubs;
        let names = Names::new(host, hubs);
        let authority = match ca_dir {
            Some(directory) => authority::kept(&directory, &names)
                .map_err(|source| StartError::CaDir { directory, source })?,
            None => {
                authority::new(&names, tls::A_YEAR).map_err(|error| StartError::Certificate(error.into()))?
            }
        };
        let certificates = tls::issue(&names, authority).map_err(StartError::Certificate)?;
        let connections = front::Counter::default();
        let door = front::Door::new(&certificates, Arc::clone(&service), connections.clone())
            .map_err(|source| StartError::Certificate(source.into()))?;
        let mut listeners = Vec::new();
        let mut ports = Ports {
            https: listen(Speech::Https, host, port, &mut listeners).await?,
            mqtt: listen(Speech::Mqtt, host, mqtt_port, &mut listeners).await?,
            amqp: listen(Speech::Amqp, host, amqp_port, &mut listeners).await?,
            manage: None,
        };
        if let Some(port) = manage_port {
            ports.manage =
                Some(listen(Speech::Manage, Ipv4Addr::LOCALHOST.into(), port, &mut listeners).await?);
        }
        warn_of_exposure(host, &service.settings().gate, ports.manage.is_some());
        let mut tasks = front::serve(listeners, &door);
        tasks.spawn(post::run(errands, Arc::clone(&service), webhook_roots));
        let id_scope = &service.settings().id_scope;
        tracing::info!(https = ports.https, mqtt = ports.mqtt, amqp = ports.amqp, manage = ports.manage, %id_scope, "started, for tests only");
        Ok(Emulator {
            service,
            connections,
            host: host_name(host),
            ports,
            ca_pem: certificates.ca_pem,
            _tasks: tasks,
        })
    }

    pub(crate) fn settings(self) -> Result<Settings, StartError> {
        if self.id_scope.is_empty() || !self.id_scope.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(StartError::IdScope(self.id_scope));
        }
        let policies = self.policies.into_iter().map(AccessPolicy::settle).collect::<Result<_, _>>()?;
        let hubs = self.hubs.unwrap_or_else(|| DEFAULT_HUBS.map(Hub::from).to_vec());
        let mut names = HashSet::new();
        for hub in &hubs {
            let name = &hub.host_name;
            if !is_host_name(name) {
                return Err(StartError::Hub(name.clone()));
            }
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(StartError::HubTwice(name.clone()));
            }
        }
        let mut authorities = Authorities::default();
        for certificate in self.ca_certificates {
            authorities.put(certificate, OffsetDateTime::now_utc()).map_err(StartError::CaCertificate)?;
        }
        Ok(Settings {
            authorities,
            require_verified_ca: self.require_verified_ca,
            id_scope: self.id_scope,
            gate: Gate { policies, roles: self.roles },
            enrolling: Enrolling {
                hubs,
                on_keyless_update: self.on_keyless_update,
                group_limit: self.quotas.map(|quotas| quotas.groups),
            },
            rules: self.rules,
            reset_in_place: self.reset_in_place,
            listing_order: self.listing_order,
            webhook_timeout: self.webhook_timeout,
            quotas: self.quotas,
            polls: self.polls,
            retry_after: self.retry_after,
            latency: self.latency,
            strictness: self.strictness,
            refuse_at: self.refuse_at,
            on_payload: self.on_payload,
        })
    }
}

/// Adds a port to those that are listened on, and tells which one it is.
async fn listen(
    speech: Speech,
    host: IpAddr,
    port: u16,
    listeners: &mut Vec<(Listeners, Speech)>,
) -> Result<u16, StartError> {
    let bound = front::bind(host, port).await.map_err(|(address, error)| {
        let own = listeners.iter().find(|(other, _)| other.have(address));
        match own.filter(|_| error.kind() == ErrorKind::AddrInUse) {
            Some((_, first)) => StartError::SamePort { port, first: *first, second: speech },
            None => StartError::Bind { speech, address, error },
        }
    })?;
    let port = bound.port;
    listeners.push((bound, speech));
    Ok(port)
}

/// Logs who may do what, if others can reach the address.
fn warn_of_exposure(host: IpAddr, gate: &Gate, has_management: bool) {
    let public_keys = [DEFAULT_PRIMARY_KEY, DEFAULT_SECONDARY_KEY].map(|key| key.as_slice());
    let public_policies = gate.policies_with(&public_keys);
    let exposure = Exposure { host, public_policies, has_roles: !gate.roles.is_empty(), has_management };
    for warning in exposure.warnings() {
        tracing::warn!("{warning}");
    }
}

/// The name under which clients on this machine reach an address: `localhost` leads to two loopback addresses
/// only.
fn host_name(address: IpAddr) -> String {
    match address {
        _ if address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST || address.is_unspecified() => {
            "localhost".to_owned()
        }
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

fn default_policy() -> AccessPolicy {
    AccessPolicy::new(POLICY_NAME, Right::ALL)
        .with_primary_key(BASE64_STANDARD.encode(DEFAULT_PRIMARY_KEY))
        .with_secondary_key(BASE64_STANDARD.encode(DEFAULT_SECONDARY_KEY))
}

impl Default for EmulatorBuilder {
    fn default() -> Self {
        EmulatorBuilder {
            id_scope: DEFAULT_ID_SCOPE.into(),
            policies: vec![default_policy()],
            roles: Roles::default(),
            quotas: None,
            hubs: None,
            rules: Rules::default(),
            reset_in_place: false,
            listing_order: Order::default(),
            webhook_timeout: WEBHOOK_TIMEOUT,
            webhook_ca: None,
            on_keyless_update: OnKeylessUpdate::default(),
            polls: None,
            retry_after: 0,
            latency: Duration::ZERO,
            host: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            mqtt_port: 0,
            amqp_port: 0,
            manage_port: None,
            ca_dir: None,
            seed: None,
            ca_certificates: Vec::new(),
            require_verified_ca: false,
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
            .field("host", &self.host)
            .field("port", &self.port)
            .field("mqtt_port", &self.mqtt_port)
            .field("refuse_at", &self.refuse_at)
            .finish_non_exhaustive()
    }
}

const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_ID_SCOPE: &str = "0ne00EMU1A7";
pub(crate) const POLICY_NAME: &str = "provisioningserviceowner";
const DEFAULT_PRIMARY_KEY: &[u8; 32] = b"this-emulator-key-protects-none!";
const DEFAULT_SECONDARY_KEY: &[u8; 32] = b"this-emulator-key-is-the-second!";
const DEFAULT_HUBS: [&str; 2] = ["emulator-hub-1.azure-devices.net", "emulator-hub-2.azure-devices.net"];
