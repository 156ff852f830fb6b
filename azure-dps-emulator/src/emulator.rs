//! The handle of a running emulator: reads and changes its data without the API of the service.

mod hubs;
mod issuing;
mod saved;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::task::JoinSet;

use crate::front::addresses::Addresses;
use crate::front::info;
use crate::front::port::Counter;
use crate::instance::Instance;
use crate::records::authorities::{CaCertificate, CaCertificateError};
use crate::records::hub::DefaultAllocation;
use crate::state::billing::BilledOperations;
use crate::state::fault::{Fault, FaultError};
use crate::state::journal::Entry;

/// A running emulator; dropping it stops it.
///
/// Dropping the handle closes the listeners and all connections. Any number of emulators can run in one
/// process, each with its own ports, certificate authority and data. They run on the tokio runtime that
/// started them.
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
    pub(crate) addresses: Arc<Addresses>,
    pub(crate) ca_pem: String,
    // Held for its drop, which ends the accepting tasks, their connections, and the calls of webhooks.
    pub(crate) tasks: JoinSet<()>,
}

impl Emulator {
    /// The id scope that devices name.
    pub fn id_scope(&self) -> &str {
        &self.instance.settings().id_scope
    }

    /// The connection string of the policy `provisioningserviceowner`, for service clients.
    ///
    /// It contains the port (`HostName=localhost:PORT`) unless that is 443. For a client that does not accept
    /// a port there, remove it and set [`https_port`](Self::https_port) in another way.
    pub fn service_connection_string(&self) -> String {
        self.connection_string(crate::access::policy::POLICY_NAME).unwrap_or_default()
    }

    /// The connection string of an access policy with its primary key, if there is a policy of this name.
    pub fn connection_string(&self, policy_name: &str) -> Option<String> {
        let policies = self.instance.policies();
        Some(self.addresses.of_policy(policies.iter().find(|policy| policy.name == policy_name)?))
    }

    /// The names of the access policies; `provisioningserviceowner` is the first.
    pub fn policy_names(&self) -> Vec<String> {
        self.instance.policies().into_iter().map(|policy| policy.name).collect()
    }

    /// Makes a Microsoft Entra ID token for a principal, which is valid from the emulator's current time for
    /// `lifetime`.
    ///
    /// It has no signature, because the emulator does not check one. The role of the principal decides what
    /// it permits; see [`crate::EmulatorBuilder::entra_role`].
    pub fn entra_token(&self, object_id: &str, lifetime: Duration) -> String {
        crate::access::entra::mint(object_id, lifetime, self.instance.now())
    }

    /// The host to connect to: the first [`crate::EmulatorBuilder::dns_name`], or the address that
    /// [`crate::EmulatorBuilder::host`] has set, or `localhost` by default and for `127.0.0.1`, `::1`,
    /// `0.0.0.0` and `::`.
    pub fn host(&self) -> &str {
        &self.addresses.host
    }

    /// The port of the service API and of the device API over HTTPS, and over MQTT and AMQP in WebSockets.
    pub fn https_port(&self) -> u16 {
        self.addresses.ports.https
    }

    /// The port of the device API over MQTT.
    pub fn mqtt_port(&self) -> u16 {
        self.addresses.ports.mqtt
    }

    /// The port of the device API over AMQP.
    pub fn amqp_port(&self) -> u16 {
        self.addresses.ports.amqp
    }

    /// The management port, if [`crate::EmulatorBuilder::manage_port`] opened it.
    pub fn manage_port(&self) -> Option<u16> {
        self.addresses.ports.manage
    }

    /// The URL of the management port, such as `http://127.0.0.1:8080`, if
    /// [`crate::EmulatorBuilder::manage_port`] opened it.
    ///
    /// Its host is the address of [`crate::EmulatorBuilder::manage_host`]. For `0.0.0.0` and `::` it is the
    /// first [`crate::EmulatorBuilder::dns_name`], or else a loopback address.
    pub fn manage_url(&self) -> Option<&str> {
        self.addresses.manage_url.as_deref()
    }

    /// The certificate authority that signed the server certificate, as PEM. Every start makes a new one
    /// unless [`crate::EmulatorBuilder::ca_dir`] or a saved state keeps it.
    ///
    /// The server certificate is for `localhost`, `127.0.0.1`, `::1`, `*.azure-devices-provisioning.net`,
    /// `*.azure-devices.net`, the linked hubs, the names of [`crate::EmulatorBuilder::dns_name`], and the
    /// address of [`crate::EmulatorBuilder::host`]. Name constraints limit the authority to servers with these
    /// names.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The line that the program prints when it is ready. Not part of the API.
    #[doc(hidden)]
    pub fn ready_line(&self, ca_file: &Path) -> String {
        info::ready_line(&self.addresses, ca_file, &self.instance)
    }

    /// The host names of the linked hubs.
    pub fn hubs(&self) -> Vec<String> {
        self.instance.settings().enrolling.hubs.iter().map(|hub| hub.host_name.clone()).collect()
    }

    /// The connection string of the policy `iothubowner` of a linked hub, if there is one of this name.
    ///
    /// The hubs answer on [`https_port`](Self::https_port) to requests with their name in `Host`: on devices,
    /// twins, direct methods and the query for all devices. Devices connect to them on
    /// [`mqtt_port`](Self::mqtt_port), and in WebSockets on the HTTPS port. The key is the same after every
    /// start.
    pub fn hub_connection_string(&self, hub: &str) -> Option<String> {
        let hub = self.instance.settings().linked(hub)?;
        Some(self.addresses.of_hub(&hub.host_name))
    }

    /// The devices of a linked hub, each as [`hub_device`](Self::hub_device) returns it; `None` for an
    /// unknown hub.
    pub fn hub_devices(&self, hub: &str) -> Option<Value> {
        self.instance.hub_devices(hub).map(Value::from)
    }

    /// A device on its hub, with its keys: `{"identity": {…}, "twin": {…}}`, both in the JSON of IoT Hub.
    /// Device ids are case-sensitive.
    pub fn hub_device(&self, hub: &str, device_id: &str) -> Option<Value> {
        self.instance.hub_device(hub, device_id).map(Value::from)
    }

    /// Deletes a device from its hub; returns whether it existed. Its next registration creates it again.
    pub fn delete_hub_device(&self, hub: &str, device_id: &str) -> bool {
        self.instance.delete_hub_device(hub, device_id)
    }

    /// Changes the allocation policy for enrollments that have none. It applies to later registrations.
    pub fn set_allocation(&self, allocation: DefaultAllocation) {
        self.instance.change_rules(|rules| rules.policy = allocation);
    }

    /// Changes the latencies from devices to regions; see [`crate::EmulatorBuilder::latencies`]. They apply
    /// to later registrations.
    pub fn set_latencies<R: Into<String>>(
        &self,
        devices: impl AsRef<str>,
        regions: impl IntoIterator<Item = (R, u32)>,
    ) {
        let regions = regions.into_iter().map(|(region, millis)| (region.into(), millis));
        self.instance.change_rules(|rules| rules.latencies.set(devices.as_ref(), regions));
    }

    /// The enrollments and enrollment groups as `GET` of the service API returns them, without symmetric keys
    /// and certificates: `{"enrollments": […], "enrollmentGroups": […]}`. So the value cannot be used as a
    /// seed.
    pub fn enrollments(&self) -> Value {
        self.instance.enrollments().into()
    }

    /// The uploaded CA certificates: `[{"name": …, "isVerified": …, "info": {…}}]`.
    pub fn ca_certificates(&self) -> Value {
        self.instance.certificates().into()
    }

    /// Uploads a CA certificate, or replaces the one with the same name; names are case-insensitive.
    ///
    /// # Errors
    /// [`CaCertificateError`] if the name or the certificate cannot be used, the certificate has expired, or
    /// 25 are already uploaded.
    pub fn upload_ca_certificate(&self, certificate: CaCertificate) -> Result<(), CaCertificateError> {
        self.instance.upload(certificate)
    }

    /// Marks an uploaded certificate as verified; returns whether a certificate has this name.
    pub fn verify_ca_certificate(&self, name: &str) -> bool {
        self.instance.mark_certificate(name, true)
    }

    /// Deletes an uploaded certificate; returns whether a certificate had this name.
    pub fn delete_ca_certificate(&self, name: &str) -> bool {
        self.instance.delete_certificate(name)
    }

    /// The registration records as the service returns them: `[…]`.
    pub fn registrations(&self) -> Value {
        self.instance.registrations().into()
    }

    /// The key, in base64, that signs the tokens of a device at its hub, if the device registered with a TPM.
    ///
    /// The device gets the key sealed, so that only its TPM and the hub can use it. The key stays the same as
    /// long as the same TPM registers and is assigned to the same device id at the same hub.
    pub fn hub_key(&self, registration_id: &str) -> Option<String> {
        self.instance.hub_key(registration_id)
    }

    /// The number of operations since the start or the last [`reset`](Self::reset) that Microsoft would bill.
    pub fn billed_operations(&self) -> BilledOperations {
        self.instance.billed()
    }

    /// Injects a fault.
    ///
    /// # Errors
    /// [`FaultError`] if the fault could never act, or 1,000 faults already wait. Nothing is injected then.
    pub fn inject(&self, fault: Fault) -> Result<(), FaultError> {
        self.instance.inject(vec![fault])
    }

    /// The faults that still have to act, in the order in which they were injected.
    pub fn faults(&self) -> Vec<Fault> {
        self.instance.faults()
    }

    /// Removes all faults that still have to act.
    pub fn clear_faults(&self) {
        self.instance.clear_faults();
    }

    /// Sets and stops the clock of the emulator, which decides when tokens expire and which times records
    /// contain.
    ///
    /// Times before 1970 and after 9999 count as the beginning of 1970.
    pub fn set_clock(&self, time: SystemTime) {
        self.instance.set_clock(time);
    }

    /// Moves the clock forward. A clock that was set stays stopped; any other keeps running from there.
    pub fn advance_clock(&self, by: Duration) {
        self.instance.advance_clock(by);
    }

    /// Sets the clock back to the system time.
    pub fn reset_clock(&self) {
        self.instance.reset_clock();
    }

    /// Restores the state of the start.
    ///
    /// Removes enrollments, registrations, uploaded certificates, faults, the journal, billed operations, the
    /// devices of hubs and the counts of quotas, sets the clock to the system time and counts ids from 1
    /// again. It forgets revocations. Then it adds the enrollments of the seed, and the certificates,
    /// certificate policies, allocation policy and latencies of the builder. Connections stay open.
    pub fn reset(&self) {
        self.instance.reset();
    }

    /// The latest 10,000 requests and how they were answered, oldest first.
    ///
    /// The real reason of a refusal, which the answer does not contain, is in [`Entry::cause`].
    pub fn journal(&self) -> Vec<Entry> {
        self.instance.journal().entries()
    }

    /// The number of TCP connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.connections.value()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        tracing::info!(port = self.addresses.ports.https, "emulator stopped");
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emulator")
            .field("id_scope", &self.id_scope())
            .field("ports", &self.addresses.ports)
            .field("hubs", &self.hubs())
            .finish_non_exhaustive()
    }
}
