//! The client, and the only loop: it does what the driver says and enforces the deadline.

use std::future::IntoFuture;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::models::{ApiVersion, DeviceRegistration, DeviceRegistrationState, TpmAttestation};
use azure_dps_core::{Error, ErrorKind, IdScope, Result, SasToken, Sensitive};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Instrument as _;

use crate::registration::{Driver, Step};
use crate::transport::{Auth, BoxFuture, Channel, Operation, Request, Session, Transport};
use crate::{Assignment, Credential, RegistrationPolicy, Slot, Summary, Tpm};

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
    id_scope: IdScope,
    credential: Credential,
    transport: Arc<dyn Transport>,
    policy: RegistrationPolicy,
    api_version: ApiVersion,
    user_agent: String,
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
    /// [`ErrorKind::Config`] when the name holds anything but printable ASCII.
    pub fn with_product(mut self, product: &str) -> Result<Self> {
        if !product.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(Error::new(ErrorKind::Config, "the product name holds more than printable ASCII"));
        }
        self.user_agent = format!("{USER_AGENT} {product}");
        Ok(self)
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
    /// [`ErrorKind::Unsupported`] on other transports.
    pub fn lookup(&self) -> Lookup<'_> {
        Lookup { client: self, timeout: DEFAULT_TIMEOUT }
    }

    async fn run(
        &self,
        first: fn(Vec<u8>) -> Operation,
        payload: Option<Sensitive<Value>>,
        limit: Duration,
    ) -> Result<(DeviceRegistrationState, Summary)> {
        let (started, limit) = (Instant::now(), limit.min(LONGEST));
        let first = first(self.body(payload, started + limit).await?);
        let seed = RandomState::new().hash_one(self.credential.registration_id());
        let mut run = Run {
            client: self,
            driver: Driver::new(
                first.clone(),
                self.credential.kind(),
                self.policy,
                started.into_std(),
                limit,
                seed,
            ),
            deadline: started + limit,
            channel: None,
            token: None,
            summary: Summary::default(),
        };
        let result = run.drive(&first).await;
        if let Some(channel) = run.channel.take() {
            // The outcome is known: a peer that is slow to say goodbye does not change it.
            let _ = timeout(GOODBYE, channel.close()).await;
        }
        let summary = Summary { elapsed: started.elapsed(), ..run.summary };
        let (requests, elapsed_ms) = (summary.requests, summary.elapsed.as_millis() as u64);
        match &result {
            Ok(state) => {
                let (status, hub) =
                    (state.status.as_ref().map(|status| status.as_str()), &state.assigned_hub);
                tracing::info!(status, hub, device_id = state.device_id, requests, elapsed_ms, "done");
            }
            Err(error) => tracing::info!(kind = ?error.kind(), %error, requests, elapsed_ms, "failed"),
        }
        result.map(|state| (*state, summary))
    }

    async fn body(&self, payload: Option<Sensitive<Value>>, deadline: Instant) -> Result<Vec<u8>> {
        let mut body = DeviceRegistration::new(self.credential.registration_id().as_str());
        body.payload = payload;
        if let Some(tpm) = self.credential.as_tpm() {
            let keys = in_tpm(tpm, deadline, |tpm| tpm.public_keys()).await?;
            body.tpm = Some(
                TpmAttestation::new(BASE64.encode(keys.endorsement_key))
                    .with_storage_root_key(BASE64.encode(keys.storage_root_key)),
            );
        }
        serde_json::to_vec(&body).map_err(|why| {
            Error::new(ErrorKind::Config, "the payload cannot be written as JSON").with_source(why)
        })
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
            let (state, summary) = client.run(|body| Operation::Register { body }, payload, timeout).await?;
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
            let (state, _) = client.run(|body| Operation::Lookup { body }, None, timeout).await?;
            Ok(state)
        };
        Box::pin(work.instrument(client.span("lookup")))
    }
}

/// One run of the loop: the driver decides, this carries out.
struct Run<'c> {
    client: &'c DeviceClient,
    driver: Driver,
    deadline: Instant,
    channel: Option<Box<dyn Channel>>,
    token: Option<SasToken>,
    summary: Summary,
}

impl Run<'_> {
    async fn drive(&mut self, first: &Operation) -> Result<Box<DeviceRegistrationState>> {
        self.client.transport.check(&self.session()?, first)?;
        loop {
            match self.driver.next(now())? {
                Step::Connect => self.connect().await?,
                Step::Send(operation) => self.exchange(operation).await?,
                Step::Wait(pause) => self.wait(pause).await?,
                Step::Challenge(blob) => {
                    let (credential, scope) = (self.client.credential.clone(), self.client.id_scope.clone());
                    self.token = Some(
                        self.in_tpm(move |tpm| {
                            tpm.import(&blob, Slot::Challenge)?;
                            credential.registration_token(&scope, OffsetDateTime::now_utc())
                        })
                        .await?,
                    );
                }
                Step::Install(blob) => self.in_tpm(move |tpm| tpm.import(&blob, Slot::Identity)).await?,
                Step::Done(state) => return Ok(state),
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        self.channel = None;
        self.summary.connects += 1;
        let session = self.session()?;
        match timeout_at(self.deadline, self.client.transport.connect(session)).await {
            Ok(Ok(channel)) => {
                let facts = channel.facts();
                tracing::Span::current().record("transport", facts.name);
                self.summary.transport = facts.name;
                self.driver.on_connected(facts.operations_survive);
                self.channel = Some(channel);
                Ok(())
            }
            Ok(Err(failure)) => self.lost(failure),
            Err(_) => Err(self.driver.expired()),
        }
    }

    fn session(&mut self) -> Result<Session> {
        let auth = match self.client.credential.as_tpm() {
            Some(tpm) => Auth::Tpm(Arc::clone(tpm)),
            None => Auth::Token(self.fresh_token()?),
        };
        let client = self.client;
        Ok(Session::new(
            client.id_scope.clone(),
            client.credential.registration_id().clone(),
            client.api_version.clone(),
            client.user_agent.clone(),
            auth,
        ))
    }

    async fn exchange(&mut self, operation: Operation) -> Result<()> {
        let authorization = match self.client.credential.as_tpm() {
            Some(_) => self.token.clone(),
            None => Some(self.fresh_token()?),
        };
        let request = Request { operation, authorization };
        self.summary.requests += 1;
        let Some(channel) = self.channel.as_mut() else {
            return self.lost(Error::new(ErrorKind::Connect, "there is no connection"));
        };
        match timeout_at(self.deadline, channel.exchange(&request)).await {
            Ok(Ok(reply)) => {
                tracing::debug!(operation = ?request.operation, status = reply.status, "answered");
                self.driver.on_reply(&reply, now())
            }
            Ok(Err(failure)) => self.lost(failure),
            Err(_) => Err(self.driver.expired()),
        }
    }

    async fn wait(&mut self, pause: Duration) -> Result<()> {
        tracing::debug!(pause_ms = pause.as_millis() as u64, "waiting");
        match self.channel.as_mut() {
            Some(channel) => match timeout_at(self.deadline, channel.idle(pause)).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(failure)) => self.lost(failure),
                Err(_) => Err(self.driver.expired()),
            },
            None => {
                tokio::time::sleep(pause).await;
                Ok(())
            }
        }
    }

    async fn in_tpm<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&dyn Tpm) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match self.client.credential.as_tpm() {
            Some(tpm) => in_tpm(tpm, self.deadline, call).await,
            None => Err(Error::new(ErrorKind::Protocol, "the service challenged a TPM, but there is none")),
        }
    }

    fn lost(&mut self, failure: Error) -> Result<()> {
        self.channel = None;
        tracing::debug!(kind = ?failure.kind(), error = %failure, "connection failed");
        self.driver.on_failure(failure, now())
    }

    /// The token of the running registration, renewed long before it expires.
    fn fresh_token(&mut self) -> Result<SasToken> {
        let now = OffsetDateTime::now_utc();
        if let Some(token) =
            self.token.as_ref().filter(|token| token.expiry() > now.unix_timestamp() + MARGIN)
        {
            return Ok(token.clone());
        }
        let token = self.client.credential.registration_token(&self.client.id_scope, now)?;
        Ok(self.token.insert(token).clone())
    }
}

/// Runs a blocking call of the TPM. It runs to its end even when the registration is dropped.
async fn in_tpm<T: Send + 'static>(
    tpm: &Arc<dyn Tpm>,
    deadline: Instant,
    call: impl FnOnce(&dyn Tpm) -> Result<T> + Send + 'static,
) -> Result<T> {
    let tpm = Arc::clone(tpm);
    match timeout_at(deadline, tokio::task::spawn_blocking(move || call(&*tpm))).await {
        Ok(Ok(result)) => result,
        Ok(Err(failure)) => {
            Err(Error::new(ErrorKind::Credential, "the TPM call panicked").with_source(failure))
        }
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the TPM did not finish before the deadline")),
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

const USER_AGENT: &str = concat!("azure-dps-device/", env!("CARGO_PKG_VERSION"), " (Rust)");
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// A limit beyond this is no limit, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long a channel may take to end politely.
const GOODBYE: Duration = Duration::from_secs(2);
/// A token is renewed when fewer seconds than these are left.
const MARGIN: i64 = 300;
