//! The builder: the settings of an emulator before its start.

mod exposure;
mod issuing;
mod listening;
mod reach;
mod saved;
mod start;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::access::entra::EntraRole;
use crate::access::policy::{AccessPolicy, default_policy};
use crate::builder::reach::Reach;
use crate::call::schema::Strictness;
use crate::emulator::Emulator;
use crate::json;
use crate::records::authorities::CaCertificate;
use crate::records::enrollments::OnKeylessUpdate;
use crate::records::hub::{DefaultAllocation, Hub};
use crate::records::store::Order;
use crate::start_error::StartError;
use crate::state::quota::Quotas;
use crate::state::settings::{RefuseAt, Settings};

impl Emulator {
    /// Starts an emulator with the defaults: free ports, id scope `0ne00EMU1A7`, policy
    /// `provisioningserviceowner`, two linked hubs, and a `Retry-After` of 0 seconds.
    ///
    /// # Errors
    /// [`StartError`] if no port can be bound.
    pub async fn start() -> Result<Emulator, StartError> {
        Self::builder().start().await
    }

    /// Begins with the defaults of [`Emulator::start`], to change some of them.
    pub fn builder() -> EmulatorBuilder {
        EmulatorBuilder::default()
    }
}

/// The settings of an emulator before its start; made by [`Emulator::builder`].
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
    settings: Settings,
    id_scope: Option<String>,
    /// The default policy is the first. The start generates the keys that are not set.
    policies: Vec<AccessPolicy>,
    /// `None` links the default hubs.
    hubs: Option<Vec<Hub>>,
    ca_certificates: Vec<CaCertificate>,
    seed: Option<String>,
    state: Option<String>,
    data_file: Option<PathBuf>,
    webhook_ca: Option<String>,
    ca_dir: Option<PathBuf>,
    reach: Reach,
}

impl EmulatorBuilder {
    /// Sets the id scope; the default is `0ne00EMU1A7`.
    pub fn id_scope(mut self, id_scope: impl Into<String>) -> Self {
        self.id_scope = Some(id_scope.into());
        self
    }

    /// Links a hub, by its host name or as a [`Hub`]. The first call replaces the two default hubs; further
    /// calls add hubs.
    ///
    /// The defaults are `emulator-hub-1.azure-devices.net` and `emulator-hub-2.azure-devices.net`.
    pub fn hub(mut self, hub: impl Into<Hub>) -> Self {
        self.hubs.get_or_insert_default().push(hub.into());
        self
    }

    /// Links no hub. Every registration then fails with 401001, as on an Azure instance without linked hubs.
    pub fn without_hubs(mut self) -> Self {
        self.hubs = Some(Vec::new());
        self
    }

    /// Sets the allocation policy for enrollments that have none; the default is
    /// [`DefaultAllocation::Hashed`].
    pub fn allocation(mut self, allocation: DefaultAllocation) -> Self {
        self.settings.rules.policy = allocation;
        self
    }

    /// Sets the latency in milliseconds from devices to regions, by which `geoLatency` chooses among the
    /// [regions of hubs](Hub::with_region).
    ///
    /// `devices` is a registration id, or a prefix of one and `*`; the longest one that matches a device
    /// counts. It can be called several times. Hubs in other regions, or in none, are farther than all
    /// others. Without this call, and among equally near hubs, `geoLatency` spreads devices like `hashed`.
    pub fn latencies<R: Into<String>>(
        mut self,
        devices: impl AsRef<str>,
        regions: impl IntoIterator<Item = (R, u32)>,
    ) -> Self {
        let regions = regions.into_iter().map(|(region, millis)| (region.into(), millis));
        self.settings.rules.latencies.set(devices.as_ref(), regions);
        self
    }

    /// Resets a device on its current hub too, if its enrollment says to reset and it registers again.
    ///
    /// Without this call, only a change of the hub resets a device. Which of the two the service does is not
    /// confirmed.
    pub fn reset_in_place(mut self) -> Self {
        self.settings.reset_in_place = true;
        self
    }

    /// Lists enrollments, groups and records in ascending order of their ids.
    ///
    /// Without this call the order is that of the service: by partition of its store, and within a partition
    /// in the order of creation. A client that relies on ascending ids fails there.
    pub fn list_by_id(mut self) -> Self {
        self.settings.listing_order = Order::Ids;
        self
    }

    /// Sets how long a custom allocation webhook may take; the default is 10 seconds. With zero, every answer
    /// is too late.
    pub fn webhook_timeout(mut self, timeout: Duration) -> Self {
        self.settings.webhook_timeout = timeout;
        self
    }

    /// Trusts custom allocation webhooks whose certificates these authorities signed, in addition to the
    /// authorities that the machine trusts. `pem` can have several certificates.
    pub fn webhook_ca(mut self, pem: impl Into<String>) -> Self {
        self.webhook_ca = Some(pem.into());
        self
    }

    /// Sets what happens to symmetric keys when an update contains none; the default is
    /// [`OnKeylessUpdate::Keep`].
    pub fn on_keyless_update(mut self, on_keyless_update: OnKeylessUpdate) -> Self {
        self.settings.enrolling.on_keyless_update = on_keyless_update;
        self
    }

    /// Adds enrollments from JSON: `{"enrollments": […], "enrollmentGroups": […]}`, each in the shape of the
    /// service API.
    ///
    /// They are judged like the body of a `PUT`, and [`Emulator::reset`] restores them.
    pub fn seed_json(mut self, json: impl Into<String>) -> Self {
        self.seed = Some(json.into());
        self
    }

    /// Sets how many polls are answered `assigning`, however long that takes, for tests of polling.
    ///
    /// By default the time decides: polls are answered `assigning` until [`retry_after`](Self::retry_after)
    /// has passed since the register request, by the clock of the emulator or of the machine. So a client
    /// that waits for `Retry-After` is assigned at its first poll. The register request itself is always
    /// answered `assigning`.
    pub fn polls(mut self, polls: u32) -> Self {
        self.settings.polls = Some(polls);
        self
    }

    /// Sets the `Retry-After` of `assigning` answers in seconds; the default is 0, while the service sends 3.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.settings.retry_after = seconds;
        self
    }

    /// Delays every answer to devices and service clients, on every transport; the default is no delay.
    ///
    /// Some clients need a delay, because an emulator on the same machine answers faster than any network:
    /// the Java device client over MQTT waits a minute for a reply that came before it began to wait.
    pub fn latency(mut self, latency: Duration) -> Self {
        self.settings.latency = latency;
        self
    }

    /// Sets the primary key of the policy `provisioningserviceowner`, in base64; the default is a fixed,
    /// public key.
    pub fn policy_key(mut self, base64: impl Into<String>) -> Self {
        if let Some(policy) = self.policies.first_mut() {
            *policy = policy.clone().with_primary_key(base64);
        }
        self
    }

    /// Adds an access policy, or replaces the one with the same name.
    ///
    /// The policy `provisioningserviceowner` always exists. Unless it is replaced, it has every right, and
    /// its keys are fixed and public.
    pub fn access_policy(mut self, policy: AccessPolicy) -> Self {
        match self.policies.iter_mut().find(|known| known.name() == policy.name()) {
            Some(known) => *known = policy,
            None => self.policies.push(policy),
        }
        self
    }

    /// Assigns a role on the service API to a principal of Microsoft Entra ID, named by its object id. A
    /// later call for the same principal replaces the role.
    ///
    /// While no principal has a role, every principal counts as a Data Contributor. As soon as one has a
    /// role, principals without a role are refused.
    pub fn entra_role(mut self, object_id: impl AsRef<str>, role: EntraRole) -> Self {
        self.settings.gate.roles.assign(object_id.as_ref(), role);
        self
    }

    /// Answers 429 to requests beyond these quotas; by default nothing is limited.
    pub fn quotas(mut self, quotas: Quotas) -> Self {
        self.settings.quotas = Some(quotas);
        self.settings.enrolling.group_limit = Some(quotas.groups);
        self
    }

    /// Keeps the certificate authority in `ca.pem` and `ca-key.pem` of this directory, so that clients have
    /// to trust it only once. The first start creates the files.
    ///
    /// The authority may sign for the names and addresses of the start that creates it. A later start with
    /// another hub or address fails with [`StartError::CaDir`], which names what the authority does not
    /// cover.
    pub fn ca_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.ca_dir = Some(directory.into());
        self
    }

    /// Uploads a CA certificate, to which the `caReferences` of enrollments can refer by its name. It can be
    /// called up to 25 times.
    pub fn ca_certificate(mut self, certificate: CaCertificate) -> Self {
        self.ca_certificates.push(certificate);
        self
    }

    /// Admits devices of X.509 groups only if a verified CA certificate of the instance is at the end of
    /// their chain, as the service does.
    ///
    /// Without this call, a group's own signing certificate is enough, and
    /// [`Entry::warning`](crate::Entry::warning) reports where the service would also require a verified CA
    /// certificate.
    pub fn require_verified_ca(mut self) -> Self {
        self.settings.require_verified_ca = true;
        self
    }

    /// Sets where a device with a wrong credential is refused over MQTT and AMQP; the default is
    /// [`RefuseAt::Register`].
    pub fn refuse_at(mut self, refuse_at: RefuseAt) -> Self {
        self.settings.refuse_at = refuse_at;
        self
    }

    /// Accepts request bodies with members that no api-version knows, and any well-formed api-version.
    ///
    /// Without this call, such a body is answered 400 with a message that names the member, so that misspelt
    /// members are noticed.
    pub fn loose(mut self) -> Self {
        self.settings.strictness = Strictness::Loose;
        self.settings.enrolling.strictness = Strictness::Loose;
        self
    }

    /// Answers registrations with a payload.
    ///
    /// The service returns a payload to a device only if a custom allocation webhook provides one. Under all
    /// other policies, this function provides the payload instead: its argument is the payload of the
    /// register request (`null` if absent), and its result becomes `registrationState.payload`. It runs once
    /// for each registration of an enabled device and must not block. If its result is nested deeper than 100
    /// levels, the registration fails.
    pub fn on_payload(mut self, hook: impl Fn(&Value) -> Option<Value> + Send + Sync + 'static) -> Self {
        let hook = move |payload: &json::Value| hook(&payload.clone().into()).map(json::Value::from);
        self.settings.on_payload = Some(Box::new(hook));
        self
    }
}

impl Default for EmulatorBuilder {
    fn default() -> Self {
        EmulatorBuilder {
            settings: Settings::default(),
            id_scope: None,
            policies: vec![default_policy()],
            hubs: None,
            ca_certificates: Vec::new(),
            seed: None,
            state: None,
            data_file: None,
            webhook_ca: None,
            ca_dir: None,
            reach: Reach::default(),
        }
    }
}

impl fmt::Debug for EmulatorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatorBuilder")
            .field("id_scope", &self.id_scope)
            .field("hubs", &self.hubs)
            .field("polls", &self.settings.polls)
            .field("retry_after", &self.settings.retry_after)
            .field("host", &self.reach.host)
            .field("port", &self.reach.port)
            .field("mqtt_port", &self.reach.mqtt_port)
            .field("refuse_at", &self.settings.refuse_at)
            .finish_non_exhaustive()
    }
}
