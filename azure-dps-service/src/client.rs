//! The client of one provisioning service instance.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::models::{ApiVersion, DeviceRegistrationState, EnrollmentGroup, IndividualEnrollment};
use azure_dps_core::{ConnectionString, Endpoint, Error, ErrorKind, HttpClient, Result, RetryPolicy};

use crate::pipeline::Pipeline;
use crate::{Collection, Credential};

/// Manages the enrollments, enrollment groups and registration records of one instance.
///
/// Cloning is cheap and clones share their connections; so do the collections. Nothing connects before a call.
///
/// ```no_run
/// use azure_dps_service::ServiceClient;
/// use azure_dps_service::core::models::{AttestationMechanism, IndividualEnrollment};
///
/// # async fn example() -> azure_dps_service::core::Result<()> {
/// let service = ServiceClient::from_connection_string(&std::env::var("DPS_CONNECTION_STRING").unwrap())?;
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
    /// A client for the instance, with the rights, that a connection string names.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] when the text is no connection string of a provisioning service.
    pub fn from_connection_string(text: &str) -> Result<Self> {
        let parsed: ConnectionString = text.parse()?;
        Self::builder(Endpoint::try_from(&parsed)?, Credential::from(&parsed)).build()
    }

    /// Everything else: other trust roots, a proxy, a ready token, time limits.
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
            api_version: ApiVersion::default(),
            user_agent: USER_AGENT.to_owned(),
        }
    }

    /// The individual enrollments: one entry, one device.
    pub fn enrollments(&self) -> Collection<IndividualEnrollment> {
        Collection::new(Arc::clone(&self.0))
    }

    /// The enrollment groups: one entry, any number of devices.
    pub fn enrollment_groups(&self) -> Collection<EnrollmentGroup> {
        Collection::new(Arc::clone(&self.0))
    }

    /// The registration records that devices leave when they register.
    pub fn registrations(&self) -> Collection<DeviceRegistrationState> {
        Collection::new(Arc::clone(&self.0))
    }
}

/// Puts a [`ServiceClient`] together; see [`ServiceClient::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ServiceClientBuilder {
    endpoint: Endpoint,
    credential: Credential,
    retry: RetryPolicy,
    timeout: Duration,
    api_version: ApiVersion,
    user_agent: String,
}

impl ServiceClientBuilder {
    /// Sets how throttled and failed calls are repeated. Default [`RetryPolicy::new`].
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long one call of a method may take, with all its requests and repetitions. Default 2 minutes, at most a
    /// year. A page of a listing counts as a call.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit.min(LONGEST);
        self
    }

    /// Sets the api-version. Default `2021-10-01`.
    pub fn api_version(mut self, version: ApiVersion) -> Self {
        self.api_version = version;
        self
    }

    /// Adds the name of a product to the user agent, for example `back-office/1.2`.
    pub fn product(mut self, product: &str) -> Self {
        self.user_agent = format!("{} {product}", self.user_agent);
        self
    }

    /// Makes the client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a proxy or a product name that cannot be used, [`ErrorKind::Tls`] when the platform
    /// has no trust store.
    pub fn build(self) -> Result<ServiceClient> {
        if !self.user_agent.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(Error::new(ErrorKind::Config, "the product name holds more than printable ASCII"));
        }
        Ok(ServiceClient(Arc::new(Pipeline {
            http: HttpClient::new(&self.endpoint)?,
            credential: self.credential,
            retry: self.retry,
            timeout: self.timeout,
            api_version: self.api_version,
            user_agent: self.user_agent,
        })))
    }
}

const USER_AGENT: &str = concat!("azure-dps-service/", env!("CARGO_PKG_VERSION"), " (Rust)");
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
/// A limit beyond this is no limit, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
