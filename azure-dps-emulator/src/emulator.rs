//! The running emulator: what it can be asked, and how its data is changed from outside the API.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::front::port::Counter;
use crate::instance::Instance;
use crate::records::authorities::{CaCertificate, CaCertificateError};
use crate::records::hub::DefaultAllocation;
use crate::state::billing::BilledOperations;
use crate::state::fault::{Fault, FaultError};
use crate::state::journal::Entry;

/// A running emulator; dropping it stops it.
///
/// The listeners close and every open connection ends with the handle. Any number of emulators run side by side in
/// one process, each with its own ports, certificate authority and data. They live on the tokio runtime that started
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
    pub(crate) instance: Arc<Instance>,
    pub(crate) connections: Counter,
    pub(crate) host: String,
    pub(crate) ports: Ports,
    pub(crate) ca_pem: String,
    // Held for its drop, which ends the accepting tasks and, through them, the connections, and the calls of webhooks.
    pub(crate) _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) https: u16,
    pub(crate) mqtt: u16,
    pub(crate) amqp: u16,
    pub(crate) manage: Option<u16>,
}

impl Emulator {
    /// The id scope that devices name.
    pub fn id_scope(&self) -> &str {
        &self.instance.settings().id_scope
    }

    /// The connection string of the policy `provisioningserviceowner`, as a service client takes it.
    ///
    /// It names the port (`HostName=localhost:PORT`) unless that is 443; clients that refuse a port there need the host
    /// without it and another way to reach [`https_port`](Self::https_port).
    pub fn service_connection_string(&self) -> String {
        self.connection_string(crate::access::policy::POLICY_NAME).unwrap_or_default()
    }

    /// The connection string of an access policy with its primary key, if there is a policy of this name.
    pub fn connection_string(&self, policy_name: &str) -> Option<String> {
        let policy =
            self.instance.settings().gate.policies.iter().find(|policy| policy.name == policy_name)?;
        Some(self.connection_string_of(&self.host, &policy.name, &policy.primary))
    }

    fn connection_string_of(&self, host: &str, policy: &str, key: &[u8]) -> String {
        let port = match self.ports.https {
            443 => String::new(),
            port => format!(":{port}"),
        };
        let key = BASE64_STANDARD.encode(key);
        format!("HostName={host}{port};SharedAccessKeyName={policy};SharedAccessKey={key}")
    }

    /// The names of the access policies; `provisioningserviceowner` is the first.
    pub fn policy_names(&self) -> Vec<String> {
        self.instance.settings().gate.policies.iter().map(|policy| policy.name.clone()).collect()
    }

    /// Makes a token of Microsoft Entra ID for a principal, valid from the emulator's time on for as long as given.
    ///
    /// It has no signature, which the emulator does not check. What it permits depends on the role of the principal:
    /// [`crate::EmulatorBuilder::entra_role`].
    pub fn entra_token(&self, object_id: &str, lifetime: Duration) -> String {
        crate::access::entra::mint(object_id, lifetime, self.instance.now())
    }

    /// The host to connect to: the address that was given to [`crate::EmulatorBuilder::host`], or `localhost`
    /// without one and for `127.0.0.1`, `::1`, `0.0.0.0` and `::`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port of the service API and of the device API over HTTPS, and over MQTT and AMQP in WebSockets.
    pub fn https_port(&self) -> u16 {
        self.ports.https
    }

    /// The port of the device API over MQTT.
    pub fn mqtt_port(&self) -> u16 {
        self.ports.mqtt
    }

    /// The port of the device API over AMQP.
    pub fn amqp_port(&self) -> u16 {
        self.ports.amqp
    }

    /// The management port, if [`crate::EmulatorBuilder::manage_port`] opened it.
    pub fn manage_port(&self) -> Option<u16> {
        self.ports.manage
    }

    /// The certificate authority that signed the server certificate, as PEM; made anew by every start
    /// unless [`crate::EmulatorBuilder::ca_dir`] keeps it.
    ///
    /// The server certificate is for `localhost`, `127.0.0.1`, `::1`, `*.azure-devices-provisioning.net`,
    /// `*.azure-devices.net`, the linked hubs, and the address that was given to [`crate::EmulatorBuilder::host`]. The authority
    /// may sign for servers with these names only, by its name constraints.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The host names of the linked hubs.
    pub fn hubs(&self) -> Vec<String> {
        self.instance.settings().enrolling.hubs.iter().map(|hub| hub.host_name.clone()).collect()
    }

    /// The connection string of the policy `iothubowner` of a linked hub, if there is one of this name.
    ///
    /// The hubs answer on [`https_port`](Self::https_port), to requests whose `Host` is theirs: `GET` and
    /// `DELETE /devices/{id}` and `GET /twins/{id}`. Nothing else of a hub is emulated. Keys are the same with every start.
    pub fn hub_connection_string(&self, hub: &str) -> Option<String> {
        let hub = self.instance.settings().linked(hub)?;
        Some(self.connection_string_of(
            &hub.host_name,
            crate::records::hubs::OWNER,
            &crate::records::hubs::owner_key(&hub.host_name),
        ))
    }

    /// The devices of a linked hub, each as [`hub_device`](Self::hub_device) tells it, if there is a hub of this name.
    pub fn hub_devices(&self, hub: &str) -> Option<Value> {
        self.instance.hub_devices(hub).map(Value::from)
    }

    /// A device as its hub knows it, with its keys: `{"identity": {…}, "twin": {…}}`, both in the words of IoT Hub. Ids of
    /// devices are compared with case.
    pub fn hub_device(&self, hub: &str, device_id: &str) -> Option<Value> {
        self.instance.hub_device(hub, device_id).map(Value::from)
    }

    /// Takes a device away from its hub; tells whether there was one. Its next registration makes it again.
    pub fn delete_hub_device(&self, hub: &str, device_id: &str) -> bool {
        self.instance.delete_hub_device(hub, device_id)
    }

    /// Changes how devices get hubs when their enrollment does not say it, from their next registration on.
    pub fn set_allocation(&self, allocation: DefaultAllocation) {
        self.instance.change_rules(|rules| rules.policy = allocation);
    }

    /// Changes how far devices are from regions, from their next registration on; the arguments are those of
    /// [`crate::EmulatorBuilder::latencies`].
    pub fn set_latencies<R: Into<String>>(
        &self,
        devices: impl AsRef<str>,
        regions: impl IntoIterator<Item = (R, u32)>,
    ) {
        let regions = regions.into_iter().map(|(region, millis)| (region.into(), millis));
        self.instance.change_rules(|rules| rules.latencies.set(devices.as_ref(), regions));
    }

    /// The enrollments and enrollment groups as `GET` of the service API shows them, without symmetric keys
    /// and certificates: `{"enrollments": […], "enrollmentGroups": […]}`. It is not a seed: what it leaves out
    /// would be missing.
    pub fn enrollments(&self) -> Value {
        self.instance.enrollments().into()
    }

    /// The uploaded certificates of authorities: `[{"name": …, "isVerified": …, "info": {…}}]`.
    pub fn ca_certificates(&self) -> Value {
        self.instance.certificates().into()
    }

    /// Uploads the certificate of an authority, or replaces the one of the same name; names are compared without case.
    ///
    /// # Errors
    /// [`CaCertificateError`] when the name or the certificate cannot be used, the certificate expired, or there are 25
    /// already.
    pub fn upload_ca_certificate(&self, certificate: CaCertificate) -> Result<(), CaCertificateError> {
        self.instance.upload(certificate)
    }

    /// Marks an uploaded certificate as verified; tells whether there is one of this name.
    pub fn verify_ca_certificate(&self, name: &str) -> bool {
        self.instance.mark_certificate(name, true)
    }

    /// Takes an uploaded certificate away; tells whether there was one of this name.
    pub fn delete_ca_certificate(&self, name: &str) -> bool {
        self.instance.delete_certificate(name)
    }

    /// The registration records as the service tells them: `[…]`.
    pub fn registrations(&self) -> Value {
        self.instance.registrations().into()
    }

    /// The key, in base64, that signs the tokens of a device at its hub, if the device was assigned to one by its TPM.
    ///
    /// The device itself gets it sealed: nobody but its TPM and the hub can sign or check with it. It stays as long as the
    /// same TPM registers and gets the same device at the same hub.
    pub fn hub_key(&self, registration_id: &str) -> Option<String> {
        self.instance.hub_key(registration_id)
    }

    /// How many operations were carried out that Microsoft would bill, since the start or the last
    /// [`reset`](Self::reset).
    pub fn billed_operations(&self) -> BilledOperations {
        self.instance.billed()
    }

    /// Makes something go wrong.
    ///
    /// # Errors
    /// [`FaultError`] when the fault could never act, or 1,000 wait already. Nothing is injected then.
    pub fn inject(&self, fault: Fault) -> Result<(), FaultError> {
        self.instance.inject(vec![fault])
    }

    /// Stops the clock at a time, by which tokens expire and which records carry.
    ///
    /// Times before 1970 and after 9999 read as the beginning of 1970.
    pub fn set_clock(&self, time: SystemTime) {
        self.instance.set_clock(time);
    }

    /// Turns the clock forward. It stands still there if it was set before, and goes on from there otherwise.
    pub fn advance_clock(&self, by: Duration) {
        self.instance.advance_clock(by);
    }

    /// Goes back to the time of the system.
    pub fn reset_clock(&self) {
        self.instance.reset_clock();
    }

    /// Goes back to the start: forgets enrollments, registrations, uploaded certificates, faults, the clock, the journal,
    /// billed operations, the devices of hubs and what counts against quotas, counts ids from 1 again, and has the
    /// enrollments of the seed and the certificates, allocation and latencies of the builder if there are any.
    ///
    /// Connections stay.
    pub fn reset(&self) {
        self.instance.reset();
    }

    /// What was asked and what was answered, oldest first; at most the latest 10,000 requests.
    ///
    /// A refusal has the real reason in [`Entry::cause`], which the answer itself does not tell.
    pub fn journal(&self) -> Vec<Entry> {
        self.instance.journal().entries()
    }

    /// How many TCP connections were accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.value()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        tracing::info!(port = self.ports.https, "emulator stopped");
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("id_scope", &self.id_scope())
            .field("ports", &self.ports)
            .field("hubs", &self.hubs())
            .finish_non_exhaustive()
    }
}
