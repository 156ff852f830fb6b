//! The client of one provisioning service instance.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::http::HttpClient;
use azure_dps_core::models::{ApiVersion, DeviceRegistrationState, EnrollmentGroup, IndividualEnrollment};
use azure_dps_core::{ConnectionString, Endpoint, Error, ErrorKind, Result, RetryPolicy};

use crate::collection::Collection;
use crate::credential::Credential;
use crate::gate::Gate;
use crate::pipeline::Pipeline;

/// Manages the enrollments, enrollment groups and registration records of one instance.
///
/// Cloning is cheap and clones share their connections; so do the collections. Nothing connects before a
/// call.
///
/// They also share what they know about throttling. All requests pass one gate. While the service throttles
/// nothing, up to 32 are under way at once; a request that takes longer than a second does not count. After a
/// throttled request (429, or 503 with `retry-after`) all calls wait as long as the service asks, an hour at
/// the most, then one goes, and after its answer up to 8 at once. So thousands of calls can be started at
/// once: they take as long as the quota needs, and few are refused.
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
            gate_timeout: None,
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
    gate_timeout: Option<Duration>,
    api_version: ApiVersion,
    user_agent: String,
}

impl ServiceClientBuilder {
    /// Sets how failed calls are repeated. Default [`RetryPolicy::new`].
    ///
    /// Throttled requests are repeated until the time of their call is over, however often, and do not count.
    /// With [`RetryPolicy::never`] a throttled call fails at once and no other call waits for it.
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Sets how long one call of a method may take, with all its requests, repetitions and the waiting after
    /// its own throttled requests. Default 2 minutes, at most a year.
    ///
    /// The time begins when the call's first request is let through the gate that all clones share, and
    /// stands still while the call waits there for other calls; [`gate_timeout`](Self::gate_timeout) limits
    /// that. Each page of a listing is a call with its own time: a listing as a whole has no limit, so put
    /// one around it (`tokio::time::timeout`) where a slow or failing connection must not stretch it.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit.min(LONGEST);
        self
    }

    /// Sets how long a call may wait at the gate, all its waits together. Default: no limit.
    ///
    /// A call that waited so long fails with [`ErrorKind::Timeout`] and names the gate; a request that was
    /// throttled itself fails with what the service answered ([`Error::is_throttled`]). Where the service
    /// asked for a longer wait already, the call fails at once. Without a limit a call waits as long as the
    /// service throttles and as the calls before it need: set one where a person waits for the answer.
    pub fn gate_timeout(mut self, limit: Duration) -> Self {
        self.gate_timeout = Some(limit.min(LONGEST));
        self
    }

    /// Sets the api-version. Default `2021-10-01`.
    pub fn api_version(mut self, version: ApiVersion) -> Self {
        self.api_version = version;
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

    /// Makes the client.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a proxy that cannot be used, [`ErrorKind::Tls`] when the platform has no
    /// trust store.
    pub fn build(self) -> Result<ServiceClient> {
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
/// A limit beyond this is no limit, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
