//! The client as a user sees it: a device, and the two things it can ask for.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::models::{ApiVersion, DeviceRegistrationState};
use azure_dps_core::{Error, ErrorKind, IdScope, Result, Sensitive};
use serde_json::Value;
use tracing::Instrument as _;

use crate::assignment::Assignment;
use crate::credential::Credential;
use crate::policy::RegistrationPolicy;
use crate::run;
use crate::transport::contract::{BoxFuture, Operation, Transport};

/// Registers one device. Cloning is cheap; nothing connects before [`register`](Self::register) is awaited.
///
/// ```no_run
/// use azure_dps_device::{Credential, DeviceClient, Https};
///
/// # async fn example() -> azure_dps_device::core::Result<()> {
/// let key = "YWGfx6psUG2GN+2JfRsJbaVugWxYb8ZAofr1S3X3L6w=".parse()?;
/// let credential = Credential::symmetric_key("sensor-042".parse()?, key);
/// let device = DeviceClient::new("0ne00111111".parse()?, credential, Https::default());
/// let assignment = device.register().await?;
/// println!("{} at {}", assignment.device_id(), assignment.hub());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "ProvisioningDeviceClient")]
pub struct DeviceClient {
    pub(crate) id_scope: IdScope,
    pub(crate) credential: Credential,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) policy: RegistrationPolicy,
    pub(crate) api_version: ApiVersion,
    pub(crate) user_agent: String,
}

impl DeviceClient {
    /// A client for the device that `credential` names, in the instance that `id_scope` names.
    pub fn new(id_scope: IdScope, credential: Credential, transport: impl Transport + 'static) -> Self {
        Self {
            id_scope,
            credential,
            transport: Arc::new(transport),
            policy: RegistrationPolicy::default(),
            api_version: ApiVersion::default(),
            user_agent: USER_AGENT.to_owned(),
        }
    }

    /// Sets how registrations wait and try again.
    #[must_use]
    pub fn with_policy(mut self, policy: RegistrationPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the api-version. Default `2021-10-01`.
    #[must_use]
    pub fn with_api_version(mut self, version: ApiVersion) -> Self {
        self.api_version = version;
        self
    }

    /// Adds the name of a product to the user agent, for example `thermostat/1.2`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the name contains anything but printable ASCII.
    pub fn with_product(mut self, product: &str) -> Result<Self> {
        if !product.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(Error::new(ErrorKind::Config, "the product name contains more than printable ASCII"));
        }
        self.user_agent = format!("{} {product}", self.user_agent);
        Ok(self)
    }

    /// How registrations wait and retry.
    pub fn policy(&self) -> RegistrationPolicy {
        self.policy
    }

    /// The api-version that requests name.
    pub fn api_version(&self) -> &ApiVersion {
        &self.api_version
    }

    /// The credential, which also makes the token for the hub.
    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Registers the device and waits until it is assigned to a hub. Await the result, or set a payload or a deadline
    /// first. Each call is one registration, and is billed as one operation.
    ///
    /// Dropping the future abandons the registration on this side; the service may finish it.
    ///
    /// # Errors
    /// See [`ErrorKind`]; [`Error::help`] gives the usual cause.
    pub fn register(&self) -> Register<'_> {
        Register { client: self, payload: None, timeout: DEFAULT_TIMEOUT }
    }

    /// Reads the device's present registration record without registering: after a restart, or to find out whether
    /// the hub is still the same. HTTPS only.
    ///
    /// # Errors
    /// As [`register`](Self::register); [`Error::is_not_found`] when the device never registered.
    /// [`ErrorKind::Unsupported`] on other transports, and with a TPM, which the service challenges only to register.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { client: self, timeout: DEFAULT_TIMEOUT }
    }

    fn span(&self, name: &'static str) -> tracing::Span {
        tracing::info_span!(
            "dps_device",
            operation = name,
            id_scope = %self.id_scope,
            registration_id = %self.credential.registration_id(),
            transport = tracing::field::Empty,
        )
    }
}

/// A registration that begins when it is awaited.
#[derive(Clone, Debug)]
#[must_use = "a registration begins when it is awaited"]
pub struct Register<'c> {
    client: &'c DeviceClient,
    payload: Option<Sensitive<Value>>,
    timeout: Duration,
}

impl Register<'_> {
    /// Sends data to a custom allocation function. The specification has an object; the service takes any JSON value.
    pub fn payload(mut self, payload: impl Into<Value>) -> Self {
        self.payload = Some(payload.into().into());
        self
    }

    /// Sets how long everything may take together. Default 5 minutes.
    ///
    /// Throttling is waited out until then, however often. An instance takes 1,000 registrations a minute:
    /// where a fleet of 7,000 starts at once, the last devices are let in after 6 to 8 minutes and need a
    /// limit beyond that.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

impl<'c> IntoFuture for Register<'c> {
    type Output = Result<Assignment>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, payload, timeout } = self;
        let work = async move {
            let (state, summary) =
                run::run(client, |body| Operation::Register { body }, payload, timeout).await?;
            Assignment::new(state, summary)
        };
        Box::pin(work.instrument(client.span("register")))
    }
}

/// A status look-up that begins when it is awaited.
#[derive(Clone, Debug)]
#[must_use = "a look-up begins when it is awaited"]
pub struct Lookup<'c> {
    client: &'c DeviceClient,
    timeout: Duration,
}

impl Lookup<'_> {
    /// Sets how long everything may take together. Default 5 minutes.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

impl<'c> IntoFuture for Lookup<'c> {
    type Output = Result<DeviceRegistrationState>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, timeout } = self;
        let work = async move {
            let (state, _) = run::run(client, |body| Operation::Lookup { body }, None, timeout).await?;
            Ok(state)
        };
        Box::pin(work.instrument(client.span("lookup")))
    }
}

const USER_AGENT: &str = concat!("azure-dps-device/", env!("CARGO_PKG_VERSION"), " (Rust)");
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
