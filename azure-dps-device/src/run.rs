//! The only loop: it carries out what the driver decides, and enforces the deadline.

use std::borrow::Cow;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "tls")]
use azure_dps_core::CertificateRequest;
use azure_dps_core::models::{DeviceRegistration, DeviceRegistrationState, TpmAttestation};
use azure_dps_core::{Error, ErrorKind, Result, SasToken, Sensitive};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use crate::assignment::Summary;
use crate::deadline::Deadline;
use crate::device::{Device, is_fresh};
use crate::driver::{Driver, Step};
use crate::registration_token;
use crate::tpm;
use crate::tpm::contract::{Slot, Tpm};
use crate::transport::contract::{Channel, Operation, Purpose, Request};

/// The optional members of a registration's body.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    pub(crate) payload: Option<Sensitive<Value>>,
    #[cfg(feature = "tls")]
    pub(crate) csr: Option<CertificateRequest>,
}

impl Extras {
    /// The device as this registration sees it.
    #[cfg(feature = "tls")]
    fn device<'d>(&self, device: &'d Device) -> Result<Cow<'d, Device>> {
        match &self.csr {
            Some(request) => Ok(Cow::Owned(device.for_request(request)?)),
            None => Ok(Cow::Borrowed(device)),
        }
    }

    #[cfg(not(feature = "tls"))]
    fn device<'d>(&self, device: &'d Device) -> Result<Cow<'d, Device>> {
        Ok(Cow::Borrowed(device))
    }

    /// The JSON body of a registration or a look-up.
    async fn body(&self, device: &Device, deadline: Deadline) -> Result<Vec<u8>> {
        let mut body = DeviceRegistration::new(device.credential.registration_id().as_str());
        body.payload = self.payload.clone();
        #[cfg(feature = "tls")]
        if let Some(request) = &self.csr {
            body = body.with_csr(request.to_base64());
        }
        if let Some(tpm) = device.credential.as_tpm() {
            let keys = before(deadline, tpm, |tpm| tpm.public_keys()).await?;
            body.tpm = Some(
                TpmAttestation::new(BASE64.encode(keys.endorsement_key))
                    .with_storage_root_key(BASE64.encode(keys.storage_root_key)),
            );
        }
        serde_json::to_vec(&body).map_err(|why| {
            Error::new(ErrorKind::Config, "the payload cannot be written as JSON").with_source(why)
        })
    }
}

/// Registers the device or looks its registration up, within `limit`.
///
/// # Errors
/// The errors in the driver's table.
pub(crate) async fn register_or_look_up(
    device: &Device,
    purpose: Purpose,
    extras: &Extras,
    limit: Duration,
) -> Result<(DeviceRegistrationState, Summary)> {
    let deadline = Deadline::new(now(), limit);
    let (result, mut summary) = match Loop::prepare(device, purpose, extras, deadline).await {
        Ok(mut prepared) => {
            let result = prepared.carry_out().await;
            prepared.close().await;
            (result, prepared.summary)
        }
        Err(error) => (Err(error), Summary::default()),
    };
    let result = result.map_err(|error| device.explain(error));
    summary.elapsed = now() - deadline.started();
    let (requests, elapsed_ms) = (summary.requests, summary.elapsed.as_millis() as u64);
    match &result {
        Ok(state) => {
            let (status, hub) = (state.status.as_ref().map(|status| status.as_str()), &state.assigned_hub);
            tracing::info!(status, hub, device_id = state.device_id, requests, elapsed_ms, "done");
        }
        Err(error) => tracing::info!(kind = ?error.kind(), %error, requests, elapsed_ms, "failed"),
    }
    result.map(|state| (*state, summary))
}

/// One registration or look-up: the driver decides, the loop carries out.
struct Loop<'d> {
    device: Cow<'d, Device>,
    purpose: Purpose,
    driver: Driver,
    deadline: Deadline,
    channel: Option<Box<dyn Channel>>,
    token: Option<SasToken>,
    summary: Summary,
}

impl<'d> Loop<'d> {
    async fn prepare(
        device: &'d Device,
        purpose: Purpose,
        extras: &Extras,
        deadline: Deadline,
    ) -> Result<Self> {
        let kind = device.credential.kind();
        let device = extras.device(device).map_err(|error| error.with_credential(kind))?;
        device.credential.check(OffsetDateTime::now_utc()).map_err(|error| error.with_credential(kind))?;
        let mut token = None;
        let session = device.session(purpose, &mut token)?;
        // Before the body, because reading a TPM's keys for it is slow.
        device.transport.check(&session)?;
        let body = extras.body(&device, deadline).await.map_err(|error| error.with_credential(kind))?;
        let seed = RandomState::new().hash_one(device.credential.registration_id());
        let driver = Driver::new(purpose, body, kind, device.policy, deadline, seed);
        let summary = Summary::default();
        Ok(Self { device, purpose, driver, deadline, channel: None, token, summary })
    }

    async fn carry_out(&mut self) -> Result<Box<DeviceRegistrationState>> {
        loop {
            match self.driver.next(now())? {
                Step::Connect => self.connect().await?,
                Step::Send(operation) => self.exchange(operation).await?,
                Step::Wait(pause) => self.wait(pause).await?,
                Step::Challenge(blob) => self.answer_challenge(blob).await?,
                Step::Install(blob) => {
                    self.call_tpm(move |tpm| tpm.import(&blob, Slot::Identity)).await?;
                }
                Step::Done(state) => return Ok(state),
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        self.channel = None;
        self.summary.connects += 1;
        let session = self.device.session(self.purpose, &mut self.token)?;
        match timeout_at(end(self.deadline), self.device.transport.connect(session)).await {
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

    async fn exchange(&mut self, operation: Operation) -> Result<()> {
        let authorization = match self.device.credential.auth() {
            // A TPM has signed a token when it was challenged; a certificate needs none.
            Some(_) => {
                self.renew_token_of_tpm().await?;
                self.token.clone()
            }
            None => Some(self.device.fresh_token(&mut self.token)?),
        };
        let request = Request { operation, authorization };
        self.summary.requests += 1;
        let Some(channel) = self.channel.as_mut() else {
            return self.lost(Error::new(ErrorKind::Connect, "there is no connection"));
        };
        match timeout_at(end(self.deadline), channel.exchange(&request)).await {
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
            Some(channel) => match timeout_at(end(self.deadline), channel.idle(pause)).await {
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

    async fn answer_challenge(&mut self, blob: Vec<u8>) -> Result<()> {
        let id = self.device.credential.registration_id().clone();
        let scope = self.device.id_scope.clone();
        let answer = move |tpm: &dyn Tpm| {
            registration_token::answer(tpm, &blob, &scope, &id, OffsetDateTime::now_utc())
        };
        self.token = Some(self.call_tpm(answer).await?);
        Ok(())
    }

    /// Lets the TPM sign another token when the one that it has signed expires soon.
    async fn renew_token_of_tpm(&mut self) -> Result<()> {
        let now = OffsetDateTime::now_utc();
        if self.token.as_ref().is_some_and(|token| !is_fresh(token, now)) {
            let (credential, scope) = (self.device.credential.clone(), self.device.id_scope.clone());
            let token = self.call_tpm(move |_| credential.registration_token(&scope, now)).await?;
            self.token = Some(token);
        }
        Ok(())
    }

    async fn call_tpm<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&dyn Tpm) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let outcome = match self.device.credential.as_tpm() {
            Some(tpm) => before(self.deadline, tpm, call).await,
            None => {
                Err(Error::new(ErrorKind::Protocol, "the service challenged a TPM, but the device has none"))
            }
        };
        outcome.map_err(|error| self.driver.with_context(error))
    }

    fn lost(&mut self, failure: Error) -> Result<()> {
        self.channel = None;
        tracing::debug!(kind = ?failure.kind(), error = %failure, "connection failed");
        self.driver.on_failure(failure, now())
    }

    /// Closes the connection. The outcome is known: a peer that closes slowly neither changes nor delays it.
    async fn close(&mut self) {
        if let Some(channel) = self.channel.take() {
            let until = end(self.deadline).min(Instant::now() + LONGEST_CLOSE);
            if until > Instant::now() {
                let _ = timeout_at(until, channel.close()).await;
            }
        }
    }
}

/// A call of the TPM that is abandoned at the deadline. The call itself runs to its end: a TPM cannot be
/// interrupted.
async fn before<T: Send + 'static>(
    deadline: Deadline,
    tpm: &Arc<dyn Tpm>,
    call: impl FnOnce(&dyn Tpm) -> Result<T> + Send + 'static,
) -> Result<T> {
    match timeout_at(end(deadline), tpm::blocking(tpm, call)).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the TPM did not finish before the deadline")),
    }
}

/// The driver's clock is the standard library's, so that it needs no runtime; Tokio's can be paused in tests.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn end(deadline: Deadline) -> Instant {
    Instant::from_std(deadline.at())
}

/// How long closing the connection may take, where the caller's deadline leaves that much.
const LONGEST_CLOSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use azure_dps_core::{RegistrationId, SharedKey};

    use super::*;
    use crate::client::DeviceClient;
    use crate::credential::Credential;
    use crate::transport::contract::{BoxFuture, Facts, Reply, Session, Transport};

    /// A service that goes silent: after it is connected, or after it has assigned the device.
    #[derive(Debug)]
    struct Silent {
        assigns: bool,
    }

    impl Transport for Silent {
        fn connect(&self, _: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
            let channel = Silent { assigns: self.assigns };
            Box::pin(async move { Ok(Box::new(channel) as Box<dyn Channel>) })
        }
    }

    impl Channel for Silent {
        fn exchange<'a>(&'a mut self, _: &'a Request) -> BoxFuture<'a, Result<Reply>> {
            let body = br#"{"operationId":"1","status":"assigned",
                "registrationState":{"assignedHub":"h.example","deviceId":"d","status":"assigned"}}"#;
            let reply = Reply { status: 200, retry_after: None, body: body.to_vec() };
            match self.assigns {
                true => Box::pin(async move { Ok(reply) }),
                false => Box::pin(pending()),
            }
        }

        fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
            Box::pin(pending())
        }

        fn facts(&self) -> Facts {
            Facts { name: "silent", operations_survive: false }
        }
    }

    async fn register(assigns: bool, limit: Duration) -> (Result<()>, Duration) {
        let id: RegistrationId = "d".parse().unwrap();
        let credential = Credential::symmetric_key(id, SharedKey::from_base64("AAAA").unwrap());
        let client = DeviceClient::new("0ne00111111".parse().unwrap(), credential, Silent { assigns });
        let started = Instant::now();
        let outcome = client.register().timeout(limit).await;
        (outcome.map(|_| ()), started.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn closing_the_connection_does_not_exceed_the_deadline() {
        let limit = Duration::from_secs(1);
        let (outcome, elapsed) = register(false, limit).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(elapsed <= limit + Duration::from_millis(5), "{elapsed:?}");

        let (outcome, elapsed) = register(true, limit).await;
        outcome.unwrap();
        assert!(elapsed <= limit + Duration::from_millis(5), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn closing_the_connection_takes_two_seconds_at_most() {
        let (outcome, elapsed) = register(true, Duration::from_secs(60)).await;
        outcome.unwrap();
        assert!(
            elapsed >= LONGEST_CLOSE && elapsed <= LONGEST_CLOSE + Duration::from_millis(5),
            "{elapsed:?}"
        );
    }
}
