//! The only loop: it carries out what the driver decides, and enforces the deadline.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::models::{DeviceRegistration, DeviceRegistrationState, TpmAttestation};
use azure_dps_core::{Error, ErrorKind, Result, SasToken, Sensitive};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::{Instant, timeout_at};

use crate::assignment::Summary;
use crate::client::DeviceClient;
use crate::driver::{Driver, Step};
use crate::tpm;
use crate::tpm::contract::{Slot, Tpm};
use crate::transport::contract::{Auth, Channel, Operation, Request, Session, Transport};

/// Does what the driver says until the first operation and all that follow from it have ended.
pub(crate) async fn run(
    client: &DeviceClient,
    first: fn(Vec<u8>) -> Operation,
    payload: Option<Sensitive<Value>>,
    limit: Duration,
) -> Result<(DeviceRegistrationState, Summary)> {
    let (started, limit) = (Instant::now(), limit.min(LONGEST));
    let mut summary = Summary::default();
    let result = attempt(client, first, payload, (started, limit), &mut summary).await;
    summary.elapsed = started.elapsed();
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

async fn attempt(
    client: &DeviceClient,
    first: fn(Vec<u8>) -> Operation,
    payload: Option<Sensitive<Value>>,
    (started, limit): (Instant, Duration),
    summary: &mut Summary,
) -> Result<Box<DeviceRegistrationState>> {
    let kind = client.credential.kind();
    client.credential.check(OffsetDateTime::now_utc()).map_err(|error| error.with_credential(kind))?;
    let mut token = None;
    let looks_up = matches!(first(Vec::new()), Operation::Lookup { .. });
    let session = session(client, &mut token, looks_up)?;
    // Before the body, for which a TPM has to give its keys.
    client.transport.check(&session, &session.purpose())?;
    let deadline = started + limit;
    let body = body(client, payload, deadline).await.map_err(|error| error.with_credential(kind))?;
    let seed = RandomState::new().hash_one(client.credential.registration_id());
    let mut run = Run {
        client,
        driver: Driver::new(first(body), kind, client.policy, started.into_std(), limit, seed),
        deadline,
        channel: None,
        token,
        looks_up,
        summary,
    };
    let result = run.drive().await;
    if let Some(channel) = run.channel.take() {
        let until = deadline.min(Instant::now() + GOODBYE);
        // The outcome is known: a peer that is slow to say goodbye neither changes nor delays it.
        if until > Instant::now() {
            let _ = timeout_at(until, channel.close()).await;
        }
    }
    result
}

async fn body(
    client: &DeviceClient,
    payload: Option<Sensitive<Value>>,
    deadline: Instant,
) -> Result<Vec<u8>> {
    let mut body = DeviceRegistration::new(client.credential.registration_id().as_str());
    body.payload = payload;
    if let Some(tpm) = client.credential.as_tpm() {
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

/// One run of the loop: the driver decides, this carries out.
struct Run<'c> {
    client: &'c DeviceClient,
    driver: Driver,
    deadline: Instant,
    channel: Option<Box<dyn Channel>>,
    token: Option<SasToken>,
    looks_up: bool,
    summary: &'c mut Summary,
}

impl Run<'_> {
    async fn drive(&mut self) -> Result<Box<DeviceRegistrationState>> {
        loop {
            match self.driver.next(now())? {
                Step::Connect => self.connect().await?,
                Step::Send(operation) => self.exchange(operation).await?,
                Step::Wait(pause) => self.wait(pause).await?,
                Step::Challenge(blob) => {
                    let (credential, scope) = (self.client.credential.clone(), self.client.id_scope.clone());
                    let answer =
                        move |tpm: &dyn Tpm| credential.answer(tpm, &blob, &scope, OffsetDateTime::now_utc());
                    self.token = Some(self.in_tpm(answer).await?);
                }
                Step::Install(blob) => self.in_tpm(move |tpm| tpm.import(&blob, Slot::Identity)).await?,
                Step::Done(state) => return Ok(state),
            }
        }
    }

    async fn connect(&mut self) -> Result<()> {
        self.channel = None;
        self.summary.connects += 1;
        let session = session(self.client, &mut self.token, self.looks_up)?;
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

    async fn exchange(&mut self, operation: Operation) -> Result<()> {
        let authorization = match self.client.credential.auth() {
            // With a TPM the challenge made one; a certificate needs none.
            Some(_) => {
                self.renew_in_tpm().await?;
                self.token.clone()
            }
            None => Some(fresh_token(self.client, &mut self.token)?),
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

    /// Has the TPM sign another token when the one that it signed has not long to live.
    async fn renew_in_tpm(&mut self) -> Result<()> {
        let now = OffsetDateTime::now_utc();
        if self.token.as_ref().is_some_and(|token| !lasts(token, now)) {
            let (credential, scope) = (self.client.credential.clone(), self.client.id_scope.clone());
            let token = self.in_tpm(move |_| credential.registration_token(&scope, now)).await?;
            self.token = Some(token);
        }
        Ok(())
    }

    async fn in_tpm<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&dyn Tpm) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let outcome = match self.client.credential.as_tpm() {
            Some(tpm) => in_tpm(tpm, self.deadline, call).await,
            None => Err(Error::new(ErrorKind::Protocol, "the service challenged a TPM, but there is none")),
        };
        outcome.map_err(|error| self.driver.dress(error))
    }

    fn lost(&mut self, failure: Error) -> Result<()> {
        self.channel = None;
        tracing::debug!(kind = ?failure.kind(), error = %failure, "connection failed");
        self.driver.on_failure(failure, now())
    }
}

/// What a connection is made for.
fn session(client: &DeviceClient, token: &mut Option<SasToken>, looks_up: bool) -> Result<Session> {
    let auth = match client.credential.auth() {
        Some(auth) => auth,
        None => Auth::Token(fresh_token(client, token)?),
    };
    let session = Session::new(
        client.id_scope.clone(),
        client.credential.registration_id().clone(),
        client.api_version.clone(),
        client.user_agent.clone(),
        auth,
    );
    Ok(if looks_up { session.for_lookup() } else { session })
}

/// The token of the running registration, renewed long before it expires.
fn fresh_token(client: &DeviceClient, token: &mut Option<SasToken>) -> Result<SasToken> {
    let now = OffsetDateTime::now_utc();
    if let Some(token) = token.as_ref().filter(|token| lasts(token, now)) {
        return Ok(token.clone());
    }
    let fresh = client.credential.registration_token(&client.id_scope, now)?;
    Ok(token.insert(fresh).clone())
}

/// Whether a token is good for long enough yet.
fn lasts(token: &SasToken, now: OffsetDateTime) -> bool {
    token.expiry() > now.unix_timestamp() + MARGIN
}

async fn in_tpm<T: Send + 'static>(
    tpm: &Arc<dyn Tpm>,
    deadline: Instant,
    call: impl FnOnce(&dyn Tpm) -> Result<T> + Send + 'static,
) -> Result<T> {
    match timeout_at(deadline, tpm::blocking(tpm, call)).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the TPM did not finish before the deadline")),
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// A limit beyond this is no limit, and would overflow the clock.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);
/// How long a channel may take to end politely, where the caller's deadline leaves that much.
const GOODBYE: Duration = Duration::from_secs(2);
/// A token is renewed when fewer seconds than these are left.
const MARGIN: i64 = 300;

#[cfg(test)]
mod tests {
    use std::future::pending;

    use azure_dps_core::{RegistrationId, SharedKey};

    use super::*;
    use crate::credential::Credential;
    use crate::transport::contract::{BoxFuture, Facts, Reply};

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
    async fn the_goodbye_takes_nothing_beyond_the_deadline() {
        let limit = Duration::from_secs(1);
        let (outcome, elapsed) = register(false, limit).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Timeout);
        assert!(elapsed <= limit + Duration::from_millis(5), "{elapsed:?}");

        let (outcome, elapsed) = register(true, limit).await;
        outcome.unwrap();
        assert!(elapsed <= limit + Duration::from_millis(5), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_goodbye_ends_after_two_seconds() {
        let (outcome, elapsed) = register(true, Duration::from_secs(60)).await;
        outcome.unwrap();
        assert!(elapsed >= GOODBYE && elapsed <= GOODBYE + Duration::from_millis(5), "{elapsed:?}");
    }
}
