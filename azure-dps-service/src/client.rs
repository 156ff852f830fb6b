//! The client of one instance of the provisioning service.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::http::HttpClient;
use azure_dps_core::models::{ApiVersion, DeviceRegistrationState, EnrollmentGroup, IndividualEnrollment};
use azure_dps_core::plumbing::Variables;
use azure_dps_core::{ConnectionString, Endpoint, Error, ErrorKind, Result, RetryPolicy};

use crate::collection::Collection;
use crate::credential::Credential;
use crate::environment::Settings;
use crate::gate::Gate;
use crate::pipeline::Pipeline;
use crate::version;

/// Manages the enrollments, enrollment groups and registration records of one instance.
///
/// Cloning is cheap; clones and collections share connections. The client connects with the first call.
///
/// They also share one gate for throttling. While the service does not throttle, up to 32 requests are in
/// progress at once; a request that takes longer than a second does not count. After a throttled request
/// (429, or 503 with `retry-after`) all calls wait as long as the service asks, at most an hour. Then one
/// request is sent, and after its answer up to 8 at once. You can therefore start thousands of calls at once:
/// they take as long as the quota requires, and few are refused.
///
/// ```no_run
/// use azure_dps_service::ServiceClient;
/// use azure_dps_service::core::models::{AttestationMechanism, IndividualEnrollment};
///
/// # async fn example() -> azure_dps_service::core::Result<()> {
/// let service = ServiceClient::from_env()?; // reads DPS_CONNECTION_STRING
/// let enrollment = IndividualEnrollment::new("sensor-042", AttestationMechanism::symmetric_key_generated());
/// let created = service.enrollments().create_or_update(&enrollment).await?;
/// println!("{} {:?}", created.registration_id, created.etag);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "ProvisioningServiceClient")]
pub struct ServiceClient(Arc<Pipeline>);

impl ServiceClient {
    /// A client for the instance and with the access policy of a connection string.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is not the connection string of a provisioning service.
    pub fn from_connection_string(text: &str) -> Result<Self> {
        Self::builder_from_connection_string(text)?.build()
    }

    /// A builder for the instance and with the access policy of a connection string, for the settings that
    /// the string does not contain.
    ///
    /// ```
    /// use azure_dps_service::ServiceClient;
    /// use azure_dps_service::core::models::ApiVersion;
    ///
    /// # fn example(text: &str, ca_pem: &str) -> azure_dps_service::core::Result<ServiceClient> {
    /// ServiceClient::builder_from_connection_string(text)?
    ///     .trust_only(ca_pem)?
    ///     .api_version(ApiVersion::V2026_11_01)
    ///     .build()
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is not the connection string of a provisioning service.
    pub fn builder_from_connection_string(text: &str) -> Result<ServiceClientBuilder> {
        let parsed: ConnectionString = text.parse()?;
        Ok(Self::builder(Endpoint::try_from(&parsed)?, Credential::from(&parsed)))
    }

    /// A client for the instance that the environment names.
    ///
    /// | variable | value | default |
    /// |---|---|---|
    /// | `DPS_CONNECTION_STRING` | the connection string of an access policy | |
    /// | `DPS_CA_FILE` | PEM file of the only authorities to trust | the platform's trust store |
    ///
    /// ```no_run
    /// use azure_dps_service::ServiceClient;
    ///
    /// # async fn example() -> azure_dps_service::core::Result<()> {
    /// let service = ServiceClient::from_env()?;
    /// let enrollment = service.enrollments().get("sensor-042").await?;
    /// # let _ = enrollment;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when a variable is missing, empty or has no usable value, or the file cannot be
    /// read. The message names the variable and shows no secret.
    pub fn from_env() -> Result<Self> {
        Self::builder_from_env()?.build()
    }

    /// A builder for the instance that the environment names, for the settings that have no variable. It reads
    /// the variables of [`from_env`](Self::from_env).
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn builder_from_env() -> Result<ServiceClientBuilder> {
        let lookup = |name: &str| std::env::var_os(name);
        let (endpoint, credential) = Settings::read(Variables::new(&lookup))?.load()?;
        Ok(Self::builder(endpoint, credential))
    }

    /// A builder for all other settings: trust roots, a proxy, a token, time limits.
    ///
    /// ```
    /// use azure_dps_service::core::{ConnectionString, Endpoint, RetryPolicy};
    /// use azure_dps_service::{Credential, ServiceClient};
    ///
    /// # fn example(text: &str, ca_pem: &str) -> azure_dps_service::core::Result<ServiceClient> {
    /// let parsed: ConnectionString = text.parse()?;
    /// let endpoint = Endpoint::try_from(&parsed)?.trust_only(ca_pem)?;
    /// ServiceClient::builder(endpoint, Credential::from(&parsed)).retry(RetryPolicy::never()).build()
    /// # }
    /// ```
    pub fn builder(endpoint: Endpoint, credential: Credential) -> ServiceClientBuilder {
        ServiceClientBuilder {
            endpoint,
            credential,
            retry: RetryPolicy::new(),
            timeout: DEFAULT_TIMEOUT,
            gate_timeout: None,
            api_version: ApiVersion::default(),
            user_agent: USER_AGENT.to_owned(),
        }
    }

    /// The individual enrollments, each for one device.
    pub fn enrollments(&self) -> Collection<IndividualEnrollment> {
        Collection::new(Arc::clone(&self.0))
    }

    /// The enrollment groups, each for any number of devices.
    pub fn enrollment_groups(&self) -> Collection<EnrollmentGroup> {
        Collection::new(Arc::clone(&self.0))
    }

    /// The registration records of devices that have registered.
    pub fn registrations(&self) -> Collection<DeviceRegistrationState> {
        Collection::new(Arc::clone(&self.0))
    }
}

/// Builds a [`ServiceClient`]; see [`ServiceClient::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ServiceClientBuilder {
    endpoint: Endpoint,
    credential: Credential,
    retry: RetryPolicy,
    timeout: Duration,
    gate_timeout: Option<Duration>,
    api_version: ApiVersion,
    user_agent: String,
}

impl ServiceClientBuilder {
    /// Trusts only the certificates in `pem`, such as the CA of an emulator.
    ///
    /// # Errors
    /// As [`Endpoint::trust_only`].
    pub fn trust_only(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        self.endpoint = self.endpoint.trust_only(pem)?;
        Ok(self)
    }

    /// Trusts the certificates in `pem` in addition to the platform's roots.
    ///
    /// # Errors
    /// As [`Endpoint::trust_also`].
    pub fn trust_also(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        self.endpoint = self.endpoint.trust_also(pem)?;
        Ok(self)
    }

    /// Sets how failed calls are repeated. Default [`RetryPolicy::new`].
    ///
    /// Throttled requests do not count and are repeated until the deadline of their call. With
    /// [`RetryPolicy::never`] a throttled call fails at once, and no other call waits for it.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long one call of a method may take, including all its requests, retries and the waits after
    /// its own throttled requests. Default 2 minutes, at most a year.
    ///
    /// The time starts when the gate that all clones share lets the call's first request through, and is
    /// paused while the call waits there for other calls; [`gate_timeout`](Self::gate_timeout) limits these
    /// waits. Each page of a listing is a separate call. A listing as a whole has no limit: wrap it in
    /// `tokio::time::timeout` where it needs one.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit.min(LONGEST);
        self
    }

    /// Sets how long a call may wait at the gate in total. Default: no limit.
    ///
    /// A call that reaches the limit fails with [`ErrorKind::Timeout`] and a message that names the gate; a
    /// call whose own request was throttled fails with the answer of the service ([`Error::is_throttled`]).
    /// If the service has already asked for a longer wait, the call fails at once. Without a limit a call
    /// waits as long as the service throttles and as the calls before it take: set one where a person waits
    /// for the answer.
    pub fn gate_timeout(mut self, limit: Duration) -> Self {
        self.gate_timeout = Some(limit.min(LONGEST));
        self
    }

    /// Sets the api-version, one that this crate knows or a later one. Default `2021-10-01`.
    ///
    /// The members of enrollments for certificates need another version than the default. A client refuses an
    /// enrollment with a member that its version does not know, before it sends anything.
    ///
    /// ```
    /// use azure_dps_service::core::models::ApiVersion;
    ///
    /// # fn example(builder: azure_dps_service::ServiceClientBuilder) {
    /// let builder = builder.api_version(ApiVersion::V2026_11_01);
    /// let builder = builder.api_version("2027-05-01");
    /// # }
    /// ```
    pub fn api_version(mut self, version: impl Into<ApiVersion>) -> Self {
        self.api_version = version.into();
        self
    }

    /// Adds the name of a product to the user agent, for example `back-office/1.2`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the name contains anything but printable ASCII.
    pub fn product(mut self, product: &str) -> Result<Self> {
        if !product.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(Error::new(ErrorKind::Config, "the product name contains more than printable ASCII"));
        }
        self.user_agent = format!("{} {product}", self.user_agent);
        Ok(self)
    }

    /// Makes the client. It reads nothing but the proxy settings of the environment. The first call reads the
    /// platform's trust store on a thread that may block, unless the endpoint trusts given roots only, and
    /// fails with [`ErrorKind::Tls`] when there is no usable one.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for an unusable proxy, given roots that cannot be used, or an api-version with
    /// anything but ASCII letters, digits, `-`, `.` and `_`.
    pub fn build(self) -> Result<ServiceClient> {
        version::check_text(&self.api_version)?;
        Ok(ServiceClient(Arc::new(Pipeline {
            http: HttpClient::new(&self.endpoint)?,
            credential: self.credential,
            retry: self.retry,
            timeout: self.timeout,
            gate: Gate::default(),
            gate_timeout: self.gate_timeout,
            api_version: self.api_version,
            user_agent: self.user_agent,
        })))
    }
}

const USER_AGENT: &str = concat!("azure-dps-service/", env!("CARGO_PKG_VERSION"), " (Rust)");
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// A longer limit is no limit in practice, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
