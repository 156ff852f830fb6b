//! The device at its hub: connects, does the work of the device, and says why a connection ended.
//!
//! | what happens | end |
//! |---|---|
//! | no connection, or no answer to CONNECT | unreachable |
//! | the hub refuses the device: CONNACK 1, 2, 4 or 5, or its certificate | refused |
//! | the connection breaks, or the hub falls silent | lost |
//! | for a quarter of an hour, each connection breaks within ten seconds | taken over |
//! | the manager wants the end, or the password is about to expire | closed |
//! | the direct method `reprovision` was answered | provision anew |

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use azure_dps_device::core::{Endpoint, ErrorKind, Result};
use azure_dps_device::manager::{EndReason, HubConnector, HubSession, SessionEnd};
use azure_dps_device::transport::BoxFuture;
use azure_dps_device::{HubAccess, SignIn};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::log;
use crate::session::{Event, Method, Session};

/// A device that sends telemetry, at an interval that its back end desires.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// Where hubs are dialled, if not by their names.
    hub: Option<Endpoint>,
    /// Since when each connection has broken soon.
    breaking: Mutex<Option<Instant>>,
    /// How long that may go on before the device gives way.
    patience: Duration,
}

impl HubConnector for Gateway {
    fn run<'a>(&'a self, access: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd> {
        Box::pin(async move {
            let access = match &self.hub {
                Some(endpoint) => access.with_endpoint(endpoint.clone()),
                None => access,
            };
            let (mut hub, sign_in) = match open(&access).await {
                Ok(opened) => opened,
                Err(error) => {
                    self.holds();
                    return SessionEnd::from_error(error);
                }
            };
            session.connected();
            let since = Instant::now();
            let end = tokio::select! {
                () = session.asked_to_end() => Ok(EndReason::Closed),
                end = work(&mut hub, &sign_in) => end,
            };
            match end {
                Ok(reason) => {
                    self.holds();
                    // Sends what is waiting, such as the answer to a method. The end is the same without it.
                    let _closed = hub.close().await;
                    SessionEnd::new(reason)
                }
                Err(error) => SessionEnd::new(self.broken(since.elapsed())).with_error(error),
            }
        })
    }
}

impl Gateway {
    pub(crate) fn new(hub: Option<Endpoint>) -> Self {
        Self { hub, breaking: Mutex::new(None), patience: PATIENCE }
    }

    /// Gives way to another program after this time; the default is a quarter of an hour.
    pub(crate) fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Records that a connection did not break soon.
    fn holds(&self) {
        *self.breaking.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the end of a connection means that lasted for this time.
    ///
    /// In MQTT 3.1.1 a hub does not say why it ends a connection. Two programs with one identity end the
    /// connections of each other, about once a second and without an end. A hub that restarts accepts devices
    /// and drops them for minutes. A network that fails is noticed after ten seconds of silence at the earliest.
    fn broken(&self, lasted: Duration) -> EndReason {
        let mut breaking = self.breaking.lock().unwrap_or_else(PoisonError::into_inner);
        if lasted >= SOON {
            *breaking = None;
            return EndReason::Lost;
        }
        let since = *breaking.get_or_insert_with(Instant::now);
        if since.elapsed() < self.patience { EndReason::Lost } else { EndReason::TakenOver }
    }
}

/// Connects and signs in.
async fn open(access: &HubAccess) -> Result<(Session, SignIn)> {
    // Where the network blocks port 8883: `access.with_websocket()`.
    let stream = access.connect().await?;
    let sign_in = access.sign_in(PASSWORD_LIFE, SystemTime::now().into())?;
    let session = Session::open(stream, access, &sign_in).await?;
    Ok((session, sign_in))
}

/// The work of the device, until it wants the connection to end.
async fn work(hub: &mut Session, sign_in: &SignIn) -> Result<EndReason> {
    let renew_at = renew_at(sign_in);
    // The hub does not queue changes for a device that is offline: read the twin after every connect.
    let twin = answered(hub.twin().await)?.unwrap_or_default();
    let mut version = twin.pointer("/desired/$version").and_then(Value::as_u64).unwrap_or_default();
    let mut interval = twin.pointer("/desired/interval").map_or(DEFAULT_INTERVAL, interval);
    answered(hub.report(&json!({ "interval": interval.as_secs() })).await)?;
    let mut send_at = Instant::now();
    loop {
        let until = renew_at.map_or(send_at, |renew_at| renew_at.min(send_at));
        match hub.next(until).await? {
            Some(Event::Method(method)) => {
                if let Some(reason) = on_method(hub, &method).await? {
                    return Ok(reason);
                }
            }
            // A change that is older than the twin that was read is in it already.
            Some(Event::Desired { version: new, patch }) if new > version => {
                version = new;
                if let Some(desired) = patch.get("interval") {
                    interval = self::interval(desired);
                    send_at = send_at.min(Instant::now() + interval);
                }
                answered(hub.report(&json!({ "interval": interval.as_secs() })).await)?;
            }
            Some(Event::Desired { .. }) => {}
            None if renew_at.is_some_and(|at| at <= Instant::now()) => return Ok(EndReason::Closed),
            None => {
                hub.send_telemetry(&json!({ "temperature": 21.5 })).await?;
                send_at = Instant::now() + interval;
            }
        }
    }
}

/// Answers a direct method. Returns why the connection ends, if it does.
async fn on_method(hub: &mut Session, method: &Method) -> Result<Option<EndReason>> {
    if method.name != "reprovision" {
        hub.answer(method, 404, &json!("unknown method")).await?;
        return Ok(None);
    }
    // The payload itself may have secrets.
    let size = method.payload.to_string().len();
    log(&format!("the back end wants the device to be provisioned anew, with {size} bytes of payload"));
    // First the answer: afterwards the device may be at another hub.
    hub.answer(method, 200, &json!({ "reprovisioning": true })).await?;
    Ok(Some(EndReason::ProvisionAnew))
}

/// When to connect again with a new password. `None` with a certificate, which has none.
fn renew_at(sign_in: &SignIn) -> Option<Instant> {
    let left = SystemTime::from(sign_in.renew_at()?).duration_since(SystemTime::now());
    Some(Instant::now() + left.unwrap_or_default())
}

/// A hub that answers with a status, such as 429, is connected: the device goes on without what it asked for.
fn answered<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::Service => {
            log(&format!("the hub refused a request: {error}"));
            Ok(None)
        }
        outcome => outcome.map(Some),
    }
}

/// The interval that the back end desires; the default if it removed its own, or desires one without sense.
fn interval(desired: &Value) -> Duration {
    let seconds = desired.as_u64().filter(|seconds| (1..=MOST_SECONDS).contains(seconds));
    seconds.map_or(DEFAULT_INTERVAL, Duration::from_secs)
}

const PASSWORD_LIFE: Duration = Duration::from_secs(3600);
const DEFAULT_INTERVAL: Duration = Duration::from_secs(60);
const MOST_SECONDS: u64 = 24 * 3600;
const SOON: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(15 * 60);
