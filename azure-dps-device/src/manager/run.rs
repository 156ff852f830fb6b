//! The loop: executes the driver's steps, and reports to it what happened.

use std::collections::BTreeSet;
use std::future::{pending, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::task::Poll;

use azure_dps_core::{Error, ErrorKind};
use futures_util::FutureExt as _;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::access::{NoAccess, access};
use super::attempt::{self, Outcome, Unusable};
use super::connector::{EndReason, HubSession, SessionEnd};
use super::driver::Driver;
use super::driver::event::{Event, Found, Issued};
use super::driver::step::{Login, Now, Step};
use super::event::Happening;
use super::memory::Memory;
use super::options::ManagerOptions;
use super::publisher::Publisher;
use super::record::{self, Content, Owner};
use super::store::{Store, within};
use crate::transport::contract::BoxFuture;

struct Runner {
    options: Arc<ManagerOptions>,
    owner: Owner,
    driver: Driver,
    publisher: Publisher,
    at_service: Option<BoxFuture<'static, Outcome>>,
    session: Option<Session>,
    /// The names of the keys in the store that may have to be deleted.
    keys: BTreeSet<String>,
}

/// A connection to the hub that is under way.
struct Session {
    work: BoxFuture<'static, SessionEnd>,
    /// The end, kept until the loop has heard the report that came before it.
    ended: Option<SessionEnd>,
    connected: mpsc::Receiver<()>,
    end: watch::Sender<bool>,
}

/// What the loop waits for.
enum Woken {
    AtService(Outcome),
    Connected,
    Ended(SessionEnd),
    Reprovision,
    Stop,
    Time,
}

/// Runs until the manager stops.
pub(crate) async fn run(
    options: Arc<ManagerOptions>,
    publisher: Publisher,
    mut commands: mpsc::Receiver<()>,
    mut stop: watch::Receiver<bool>,
) {
    let owner = options.owner();
    let (memory, error) = load(&*options.store, &owner).await;
    if let Some(transport) = &memory.transport {
        options.transport.prefer(transport);
    }
    // A power cut may have left a key of any name.
    let keys = memory.key_names().into_iter().chain(owner.key_names()).collect();
    let hash = Sha256::digest(owner.registration_id.as_bytes());
    let seed = hash.iter().take(8).fold(0, |seed, byte| (seed << 8) | u64::from(*byte));
    let can_look_up = options.credentials.iter().all(|credential| credential.as_tpm().is_none());
    let driver = Driver::new(options.policy, seed, options.credentials.len(), can_look_up, memory, now());
    let mut runner = Runner { options, owner, driver, publisher, at_service: None, session: None, keys };
    runner.tell(Happening::Started, error.map(Arc::new));
    loop {
        match runner.driver.next(now()) {
            Step::Save => runner.save().await,
            Step::Register(credential) => {
                let work = attempt::register(Arc::clone(&runner.options), credential, runner.free_key_name());
                runner.at_service = Some(Box::pin(work.in_current_span()));
                runner.tell(Happening::Registering, None);
            }
            Step::LookUp(credential) => {
                let place = runner.driver.memory().place.clone();
                let work = attempt::look_up(Arc::clone(&runner.options), credential, place);
                runner.at_service = Some(Box::pin(work.in_current_span()));
                runner.publisher.refresh(None, &runner.driver, now());
            }
            Step::Connect(login) => runner.connect(login).await,
            Step::CloseHub => runner.ask_to_end(),
            Step::DropHub => runner.drop_session(),
            Step::Wait(until) => {
                let woken = runner.wait(Instant::from_std(until), &mut commands, &mut stop).await;
                runner.on(woken);
            }
            Step::End => break,
        }
    }
    runner.tell(Happening::Stopped, None);
}

impl Runner {
    fn tell(&self, happening: Happening, error: Option<Arc<Error>>) {
        self.publisher.tell(happening, error, &self.driver, now());
    }

    fn fail(&self, happening: Happening, error: Error) {
        self.tell(happening, Some(Arc::new(error)));
    }

    async fn wait(
        &mut self,
        until: Instant,
        commands: &mut mpsc::Receiver<()>,
        stop: &mut watch::Receiver<bool>,
    ) -> Woken {
        if !self.driver.is_at_service() {
            self.at_service = None;
        }
        let at_service = async {
            match &mut self.at_service {
                Some(work) => work.await,
                None => pending().await,
            }
        };
        let session = async {
            match &mut self.session {
                Some(session) => session.next().await,
                None => pending().await,
            }
        };
        let is_stopping = self.driver.is_stopping();
        tokio::select! {
            outcome = at_service => {
                self.at_service = None;
                Woken::AtService(outcome)
            }
            woken = session => woken,
            Some(()) = commands.recv() => Woken::Reprovision,
            Ok(_) = stop.wait_for(|stop| *stop), if !is_stopping => Woken::Stop,
            () = sleep_until(until) => Woken::Time,
        }
    }

    fn on(&mut self, woken: Woken) {
        match woken {
            Woken::Time => {}
            Woken::Reprovision => self.driver.on(Event::Reprovision, now()),
            Woken::Stop => self.driver.on(Event::Stop, now()),
            Woken::AtService(outcome) => self.on_outcome(outcome),
            Woken::Connected => {
                let is_first = self.driver.memory().candidate.is_some();
                let credential = self.driver.memory().credential;
                self.driver.on(Event::HubConnected, now());
                self.tell(Happening::Connected, None);
                self.tell_of_credential(credential);
                if is_first && self.driver.memory().candidate.is_none() {
                    self.tell(Happening::CertificateProven, None);
                }
            }
            Woken::Ended(end) => {
                self.session = None;
                let (reason, error) = end.into_parts();
                self.driver.on(Event::HubEnded(reason), now());
                self.tell(Happening::Disconnected(reason), error);
            }
        }
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Registered(Ok(registered)) => {
                let credential = self.driver.memory().credential;
                let is_issued = matches!(registered.assigned.issued, Issued::Certificate(_));
                self.driver.on(Event::Assigned(registered.assigned), now());
                self.keys.extend(self.driver.memory().key_names());
                self.tell(Happening::Assigned, None);
                self.tell_of_credential(credential);
                match registered.unusable {
                    None if is_issued => self.tell(Happening::CertificateIssued, None),
                    None => {}
                    Some(Unusable::Certificate(error)) => self.fail(Happening::CertificateUnusable, error),
                    Some(Unusable::KeyStore(error)) => self.fail(Happening::KeyStoreFailed, error),
                }
            }
            Outcome::Registered(Err(error)) => {
                self.driver.on(Event::RegistrationFailed(attempt::failure(&error)), now());
                self.fail(Happening::RegistrationFailed, error);
            }
            Outcome::LookedUp(found) => {
                let (found, error) = match found {
                    Ok(found) => (found, None),
                    // Over this transport the service cannot be asked, so the device registers.
                    Err(error) if error.kind() == ErrorKind::Unsupported => (Found::Unassigned, Some(error)),
                    Err(error) => {
                        let retry_after = error.service().and_then(|answer| answer.retry_after);
                        (Found::Nothing { retry_after }, Some(error))
                    }
                };
                self.driver.on(Event::LookedUp(found), now());
                self.tell(Happening::LookedUp, error.map(Arc::new));
            }
        }
    }

    fn tell_of_credential(&self, before: usize) {
        if self.driver.memory().credential != before {
            self.tell(Happening::CredentialChanged, None);
        }
    }

    async fn save(&mut self) {
        let record = record::write(&self.owner, self.driver.memory());
        let key = self.owner.key();
        let saved = within(self.options.store.save(&key, record)).await;
        self.driver.on(Event::Saved(saved.is_ok()), now());
        match saved {
            // A key goes only after the record that does without it is safe.
            Ok(()) => self.delete_keys().await,
            Err(why) => {
                let message = "the record of the device cannot be saved";
                self.fail(Happening::StoreFailed, Error::new(ErrorKind::Io, message).with_source(why));
            }
        }
    }

    /// A name for the key of the next certificate.
    fn free_key_name(&self) -> String {
        let used = self.driver.memory().key_names();
        self.owner.key_names().into_iter().find(|name| !used.contains(name)).unwrap_or_default()
    }

    async fn delete_keys(&mut self) {
        // The registration under way may have stored a key that the record does not name yet.
        let (Some(store), None) = (&self.options.keys, &self.at_service) else { return };
        let used = self.driver.memory().key_names();
        for name in self.keys.difference(&used).cloned().collect::<Vec<_>>() {
            match within(store.delete(&name)).await {
                Ok(()) => drop(self.keys.remove(&name)),
                Err(why) => {
                    let message = format!("the private key {name:?} of an old certificate cannot be deleted");
                    self.fail(Happening::KeyStoreFailed, Error::new(ErrorKind::Io, message).with_source(why));
                }
            }
        }
    }

    async fn connect(&mut self, login: Login) {
        match access(&self.options, self.driver.memory(), login).await {
            Ok(access) => {
                let (report, connected) = mpsc::channel(1);
                let (end, asked) = watch::channel(false);
                let connector = Arc::clone(&self.options.connector);
                let span = tracing::info_span!("provisioning", attempt = "connect", hub = access.hub());
                let work = async move { connector.run(access, HubSession::new(report, asked)).await };
                let work =
                    AssertUnwindSafe(work).catch_unwind().map(|end| end.unwrap_or_else(|_| panicked()));
                self.session =
                    Some(Session { work: Box::pin(work.instrument(span)), ended: None, connected, end });
                self.tell(Happening::Connecting, None);
            }
            Err(NoAccess::KeyUnreadable(error)) => {
                self.driver.on(Event::KeyUnreadable, now());
                self.fail(Happening::KeyStoreFailed, error);
            }
            Err(NoAccess::Unusable(error)) => {
                self.driver.on(Event::HubEnded(EndReason::Refused), now());
                self.fail(Happening::CertificateUnusable, error);
            }
            Err(NoAccess::Other(error)) => {
                let (reason, error) = SessionEnd::from_error(error).into_parts();
                self.driver.on(Event::HubEnded(reason), now());
                self.tell(Happening::Disconnected(reason), error);
            }
        }
    }

    fn drop_session(&mut self) {
        let was_asked = self.session.take().is_some_and(|session| *session.end.borrow());
        let (reason, what) = match was_asked {
            true => (EndReason::Closed, "end"),
            false => (EndReason::Unreachable, "connect"),
        };
        let message = format!("the hub connector did not {what} in time");
        self.fail(Happening::Disconnected(reason), Error::new(ErrorKind::Timeout, message));
    }

    fn ask_to_end(&mut self) {
        if let Some(session) = &self.session {
            session.end.send_replace(true);
        }
    }
}

impl Session {
    /// The report that the hub is connected, or the end.
    async fn next(&mut self) -> Woken {
        poll_fn(|context| {
            if self.ended.is_none()
                && let Poll::Ready(end) = self.work.as_mut().poll(context)
            {
                self.ended = Some(end);
            }
            // A report from before the end comes first.
            match (self.connected.poll_recv(context), self.ended.take()) {
                (Poll::Ready(Some(())), ended) => {
                    self.ended = ended;
                    Poll::Ready(Woken::Connected)
                }
                (_, Some(ended)) => Poll::Ready(Woken::Ended(ended)),
                (_, None) => Poll::Pending,
            }
        })
        .await
    }
}

fn panicked() -> SessionEnd {
    let error = Error::new(ErrorKind::Config, "the hub connector panicked; standard error has the message");
    SessionEnd::new(EndReason::Lost).with_error(error)
}

/// Reads the memory of the device. A record that cannot be used is reported, put aside under another key, and
/// counts as no memory.
async fn load(store: &dyn Store, owner: &Owner) -> (Memory, Option<Error>) {
    let key = owner.key();
    let bytes = match within(store.load(&key)).await {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(why) => {
            let error = Error::new(ErrorKind::Io, "the stored record cannot be read").with_source(why);
            return (Memory::default(), Some(error));
        }
    };
    let why = match record::read(&bytes, owner) {
        Content::Empty => return (Memory::default(), None),
        Content::Memory(memory) => return (*memory, None),
        Content::Foreign => "belongs to another device".to_owned(),
        Content::Damaged(why) => format!("is damaged: {why}"),
        Content::Newer(version) => format!("has version {version}, of a later release of this library"),
    };
    let aside = format!("{key}-unusable");
    let place = match within(store.save(&aside, bytes)).await {
        Ok(()) => format!("a copy has the key {aside}"),
        Err(why) => format!("it could not be put aside: {why}"),
    };
    (Memory::default(), Some(Error::new(ErrorKind::Config, format!("the stored record {why}; {place}"))))
}

/// Tokio's clock, so that tests can pause it.
fn now() -> Now {
    Now { instant: Instant::now().into_std(), wall: OffsetDateTime::now_utc() }
}
