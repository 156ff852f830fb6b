//! The client that applications use: one device, which registers or looks its registration up.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use azure_dps_core::CertificateRequest;
use azure_dps_core::models::{ApiVersion, DeviceRegistrationState};
#[cfg(any(feature = "amqp", feature = "https", feature = "mqtt"))]
use azure_dps_core::plumbing::Variables;
use azure_dps_core::{Error, ErrorKind, IdScope, Result};
use serde_json::Value;
use tracing::Instrument as _;

use crate::assignment::Assignment;
use crate::credential::Credential;
use crate::device::Device;
#[cfg(any(feature = "amqp", feature = "https", feature = "mqtt"))]
use crate::environment;
use crate::policy::RegistrationPolicy;
use crate::run::{self, Extras};
use crate::transport::contract::{BoxFuture, Purpose, Transport};

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
    device: Device,
}

impl DeviceClient {
    /// Creates a client for the device that `credential` names, in the DPS instance that `id_scope` names.
    pub fn new(id_scope: IdScope, credential: Credential, transport: impl Transport + 'static) -> Self {
        let device = Device {
            id_scope,
            credential,
            transport: Arc::new(transport),
            policy: RegistrationPolicy::default(),
            api_version: ApiVersion::default(),
            csr_api_version: ApiVersion::V2026_11_01,
            user_agent: USER_AGENT.to_owned(),
        };
        Self { device }
    }

    /// Creates a client for the device that the environment describes.
    ///
    /// | variable | value | default |
    /// |---|---|---|
    /// | `DPS_ID_SCOPE` | the ID scope of the instance | |
    /// | `DPS_REGISTRATION_ID` | the registration id | the common name of the certificate |
    /// | `DPS_KEY` | the device's key in base64 | |
    /// | `DPS_GROUP_KEY` | the key of its enrollment group in base64 | |
    /// | `DPS_CERT_FILE`, `DPS_KEY_FILE` | PEM files: the certificate chain, its private key | |
    /// | `DPS_ENDPOINT` | `host` or `host:port` | the global endpoint |
    /// | `DPS_TRANSPORT` | `auto`, `https`, `mqtt`, `mqtt-ws`, `amqp` or `amqp-ws` | `auto` |
    /// | `DPS_CA_FILE` | PEM file of the only authorities to trust | the platform's trust store |
    ///
    /// The device has one credential: `DPS_KEY`, `DPS_GROUP_KEY`, or both files. The device's key is derived
    /// from a group key; real devices hold only the derived key.
    ///
    /// `auto` tries MQTT, MQTT over WebSockets and HTTPS, like [`Auto::new`](crate::Auto::new), as far as the
    /// features of this crate include them. A port in `DPS_ENDPOINT` is the port of the transport. With `auto`
    /// it takes the place of port 443, and only MQTT over WebSockets and HTTPS are tried.
    ///
    /// This function reads the files once and blocks meanwhile; it does not connect. The guide of environment
    /// variables has examples.
    ///
    /// ```no_run
    /// use azure_dps_device::DeviceClient;
    ///
    /// # async fn example() -> azure_dps_device::core::Result<()> {
    /// let assignment = DeviceClient::from_env()?.register().await?;
    /// println!("{} at {}", assignment.device_id(), assignment.hub());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a variable is missing, empty or has no usable value, when there are several
    /// credentials or half of one, or when the features of this crate do not include the transport.
    /// [`ErrorKind::Credential`] when a certificate or its key cannot be used. The message names the variables
    /// and shows no secret.
    #[cfg(any(feature = "amqp", feature = "https", feature = "mqtt"))]
    pub fn from_env() -> Result<Self> {
        let lookup = |name: &str| std::env::var_os(name);
        let (id_scope, credential, transport) = environment::device(Variables::new(&lookup))?;
        Ok(Self::new(id_scope, credential, transport))
    }

    /// Sets how registrations wait and retry.
    #[must_use]
    pub fn with_policy(mut self, policy: RegistrationPolicy) -> Self {
        self.device.policy = policy;
        self
    }

    /// Sets the api-version. Default `2021-10-01`, and `2026-11-01` for a registration with a certificate
    /// signing request.
    #[must_use]
    pub fn with_api_version(mut self, version: ApiVersion) -> Self {
        self.device.csr_api_version = version.clone();
        self.device.api_version = version;
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
        self.device.user_agent = format!("{} {product}", self.device.user_agent);
        Ok(self)
    }

    /// How registrations wait and retry.
    pub fn policy(&self) -> RegistrationPolicy {
        self.device.policy
    }

    /// The api-version that requests name, other than registrations with a certificate signing request.
    pub fn api_version(&self) -> &ApiVersion {
        &self.device.api_version
    }

    /// The credential, which also makes the token for the hub.
    pub fn credential(&self) -> &Credential {
        &self.device.credential
    }

    /// Registers the device and waits until it is assigned to a hub. Await the result, or set a payload, a
    /// certificate signing request or a timeout first. Each call is one registration and is billed as one operation.
    ///
    /// Dropping the future abandons the registration on the client; the service may still complete it.
    ///
    /// On a multi-thread runtime a registration costs less CPU time in a task (`tokio::spawn`) than in an
    /// asynchronous `main`. The HTTP and AMQP libraries run tasks, and `main` is on a thread that runs no
    /// tasks, so that every answer changes threads. `docs/performance.md` of the project has the figures.
    ///
    /// # Errors
    /// See [`ErrorKind`]; [`Error::help`] gives the usual cause.
    pub fn register(&self) -> Register<'_> {
        Register { client: self, extras: Extras::default(), timeout: DEFAULT_TIMEOUT }
    }

    /// Reads the device's registration record without registering: after a restart, or to find out whether
    /// the hub is still the same. Only HTTPS supports it.
    ///
    /// # Errors
    /// As [`register`](Self::register); [`Error::is_not_found`] when the device has never registered.
    /// [`ErrorKind::Unsupported`] on other transports, and with a TPM, because the service challenges a TPM
    /// only when it registers.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { client: self, timeout: DEFAULT_TIMEOUT }
    }

    fn span(&self, name: &'static str) -> tracing::Span {
        tracing::info_span!(
            "dps_device",
            operation = name,
            id_scope = %self.device.id_scope,
            registration_id = %self.device.credential.registration_id(),
            transport = tracing::field::Empty,
        )
    }
}

/// A registration, which starts when it is awaited.
#[derive(Clone, Debug)]
#[must_use = "a registration starts only when it is awaited"]
pub struct Register<'c> {
    client: &'c DeviceClient,
    extras: Extras,
    timeout: Duration,
}

impl Register<'_> {
    /// Sends data to the custom allocation function. The specification asks for a JSON object; the service
    /// accepts any JSON value. Default: no payload.
    pub fn payload(mut self, payload: impl Into<Value>) -> Self {
        self.extras.payload = Some(payload.into().into());
        self
    }

    /// Asks the service to issue a certificate: it comes with the assignment, and
    /// [`Assignment::issued_certificate`] returns it. Default: no request.
    ///
    /// The registration works as without it, over every transport and with every credential. It fails before
    /// anything is sent, with [`ErrorKind::Config`], when the common name of the request is not the
    /// registration id, or when the api-version was set to one without such requests. Each registration with a
    /// request issues a new certificate, if the enrollment has a certificate policy.
    ///
    /// ```no_run
    /// # #[cfg(feature = "csr")]
    /// # async fn example(device: azure_dps_device::DeviceClient) -> azure_dps_device::core::Result<()> {
    /// use azure_dps_device::core::CertificateRequest;
    ///
    /// let request = CertificateRequest::generate(device.credential().registration_id())?;
    /// let assignment = device.register().csr(&request).await?;
    /// let issued = assignment.issued_certificate()?;
    /// let identity = issued.identity(&request)?;
    /// println!("{} until {}", issued.leaf().subject_name, issued.leaf().not_after_utc);
    /// # let _ = identity;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn csr(mut self, request: &CertificateRequest) -> Self {
        self.extras.csr = Some(request.without_key());
        self
    }

    /// Sets how long the whole registration may take. Default 5 minutes.
    ///
    /// Until then the client retries throttled requests without counting them. An instance accepts 1,000
    /// registrations a minute: if a fleet of 7,000 starts at once, the last devices are assigned after 6 to 8
    /// minutes and need a longer timeout.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }
}

impl<'c> IntoFuture for Register<'c> {
    type Output = Result<Assignment>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let Self { client, extras, timeout } = self;
        let work = async move {
            let (state, summary) =
                run::register_or_look_up(&client.device, Purpose::Register, &extras, timeout).await?;
            let assignment = Assignment::registered(state, summary)?;
            #[cfg(feature = "tls")]
            let assignment = assignment.with_csr(extras.csr);
            Ok(assignment)
        };
        Box::pin(work.instrument(client.span("register")))
    }
}

/// A look-up of the registration record, which starts when it is awaited.
#[derive(Clone, Debug)]
#[must_use = "a look-up starts only when it is awaited"]
pub struct Lookup<'c> {
    client: &'c DeviceClient,
    timeout: Duration,
}

impl Lookup<'_> {
    /// Sets how long the whole look-up may take. Default 5 minutes.
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
            let (state, _) =
                run::register_or_look_up(&client.device, Purpose::Lookup, &Extras::default(), timeout)
                    .await?;
            Ok(state)
        };
        Box::pin(work.instrument(client.span("lookup")))
    }
}

const USER_AGENT: &str = concat!("azure-dps-device/", env!("CARGO_PKG_VERSION"), " (Rust)");
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
