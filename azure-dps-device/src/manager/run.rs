//! The loop: executes the driver's steps, and reports to it what happened.

use std::collections::VecDeque;
use std::future::pending;
use std::io;
use std::pin::pin;
use std::sync::Arc;

use azure_dps_core::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use super::access::{NoAccess, access, certificate};
use super::attempt::{self, Failed, Outcome, Unusable};
use super::connector::{EndReason, SessionEnd};
use super::driver::Driver;
use super::driver::event::{Event, Issued};
use super::driver::step::{Login, Now, Step};
use super::event::Happening;
use super::keys::{Deleted, KeyNews, Keys};
use super::load::{Before, Loaded, load, put_aside};
use super::options::ManagerOptions;
use super::outstanding::Concern;
use super::publisher::Publisher;
use super::record::{self, Owner};
use super::seed::seed;
use super::session::{self, News, Session};
use super::store::{LIMIT, overdue, within};
use super::store_error;
use crate::transport::contract::BoxFuture;

struct Runner {
    options: Arc<ManagerOptions>,
    owner: Owner,
    seed: u64,
    driver: Driver,
    publisher: Publisher,
    /// When the application asked for the end.
    stop: watch::Receiver<Option<Instant>>,
    at_service: Option<BoxFuture<'static, Outcome>>,
    session: Option<Session>,
    /// What happened while the loop waited for a store.
    woken: VecDeque<Woken>,
    before: Before,
    keys: Keys,
}

/// What the loop waits for.
enum Woken {
    AtService(Outcome),
    AtHub(News),
    OfKeys(KeyNews),
    Reprovision,
    Stop,
    Time,
}

/// Runs until the manager stops.
pub(crate) async fn run(
    options: Arc<ManagerOptions>,
    publisher: Publisher,
    mut commands: mpsc::Receiver<()>,
    stop: watch::Receiver<Option<Instant>>,
) {
    let (mut runner, error) = Runner::new(options, publisher, stop).await;
    match error {
        Some(error) => runner.fail(Happening::Started, error),
        None => runner.tell(Happening::Started),
    }
    loop {
        while let Some(woken) = runner.woken.pop_front() {
            runner.on(woken);
        }
        if runner.stop.borrow().is_some() && !runner.driver.is_stopping() {
            runner.on(Woken::Stop);
        }
        match runner.driver.next(now()) {
            Step::Save => runner.save().await,
            Step::Register(credential) => {
                let key_name = runner.key_name().await;
                runner.options.transport.prefer(runner.driver.memory().transport.as_deref());
                let work = attempt::register(Arc::clone(&runner.options), credential, key_name);
                runner.at_service = Some(Box::pin(work.in_current_span()));
                runner.tell(Happening::Registering);
            }
            Step::LookUp(credential) => {
                let place = runner.driver.memory().place.clone();
                let work = attempt::look_up(Arc::clone(&runner.options), credential, place);
                runner.at_service = Some(Box::pin(work.in_current_span()));
                runner.publisher.refresh(&runner.driver, now());
            }
            Step::Connect(login) => runner.connect(login).await,
            Step::CloseHub => runner.session.iter().for_each(Session::ask_to_end),
            Step::DropHub => runner.drop_session(),
            Step::Wait(until) => {
                let woken = runner.wait(Instant::from_std(until), &mut commands).await;
                runner.on(woken);
            }
            Step::End => break,
        }
    }
    runner.end_deletions().await;
    runner.tell(Happening::Stopped);
}

impl Runner {
    /// Begins with what the store has; the error says why it cannot be used.
    async fn new(
        options: Arc<ManagerOptions>,
        publisher: Publisher,
        mut stop: watch::Receiver<Option<Instant>>,
    ) -> (Self, Option<Error>) {
        let owner = options.owner();
        let loaded = tokio::select! {
            loaded = load(&*options.store, &owner) => loaded,
            Ok(_) = stop.wait_for(Option::is_some) => {
                Loaded::unread(store_error::stopped_early())
            }
        };
        let keys = Keys::new(&options, &owner, &loaded);
        let Loaded { memory, error, before, .. } = loaded;
        let error = error.or_else(|| options.check().err());
        options.transport.prefer(memory.transport.as_deref());
        let seed = seed(&owner.registration_id);
        let can_look_up = options.credentials.iter().all(|credential| credential.as_tpm().is_none());
        let driver = Driver::new(options.policy, seed, options.credentials.len(), can_look_up, memory, now());
        let runner = Self {
            options,
            owner,
            seed,
            driver,
            publisher,
            stop,
            at_service: None,
            session: None,
            woken: VecDeque::new(),
            before,
            keys,
        };
        (runner, error)
    }

    fn tell(&mut self, happening: Happening) {
        self.publisher.tell(happening, &self.driver, now());
    }

    fn fail(&mut self, happening: Happening, error: Error) {
        self.tell_with(happening, Some(Arc::new(error)));
    }

    fn tell_with(&mut self, happening: Happening, error: Option<Arc<Error>>) {
        match error {
            Some(error) => {
                self.publisher.fail(Concern::of(happening), happening, error, &self.driver, now());
            }
            None => self.tell(happening),
        }
    }

    async fn wait(&mut self, until: Instant, commands: &mut mpsc::Receiver<()>) -> Woken {
        if !self.driver.is_at_service() {
            self.at_service = None;
        }
        let until = self.delete_keys().map_or(until, |at| at.min(until));
        let is_stopping = self.driver.is_stopping();
        let mut stop = self.stop.clone();
        let mut at_service = self.at_service.take();
        let woken = tokio::select! {
            outcome = when_some(at_service.as_mut()) => Woken::AtService(outcome),
            woken = self.activity() => woken,
            Some(()) = commands.recv() => Woken::Reprovision,
            Ok(_) = stop.wait_for(Option::is_some), if !is_stopping => Woken::Stop,
            () = sleep_until(until) => Woken::Time,
        };
        if !matches!(woken, Woken::AtService(_)) {
            self.at_service = at_service;
        }
        woken
    }

    /// Polls what is under way at the hub and in the stores.
    async fn activity(&mut self) -> Woken {
        let Self { session, keys, .. } = self;
        tokio::select! {
            news = async { match session { Some(session) => session.next().await, None => pending().await } } => {
                if matches!(news, News::Ended(_)) {
                    *session = None;
                }
                Woken::AtHub(news)
            }
            news = keys.next() => Woken::OfKeys(news),
        }
    }

    /// Waits for a store, and lets the device work at its hub meanwhile: the connection needs its keep-alive. A
    /// registration waits, because the record says that it begins. The wait ends when the manager has to have
    /// stopped.
    async fn meanwhile<T>(&mut self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let limit = self.options.policy.hub_close_timeout.saturating_add(LIMIT);
        let mut overdue = pin!(overdue(self.stop.clone(), limit));
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                outcome = &mut work => return outcome,
                woken = self.activity() => self.woken.push_back(woken),
                () = &mut overdue => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer before the manager stopped"));
                }
            }
        }
    }

    fn on(&mut self, woken: Woken) {
        match woken {
            Woken::Time => {}
            Woken::Reprovision => self.driver.on(Event::Reprovision, now()),
            Woken::Stop => self.driver.on(Event::Stop, now()),
            Woken::AtService(outcome) => self.on_outcome(outcome),
            Woken::AtHub(News::Connected) => {
                let is_first = self.driver.memory().candidate.is_some();
                let credential = self.driver.memory().credential;
                self.driver.on(Event::HubConnected, now());
                self.tell(Happening::Connected);
                self.report_credential(credential);
                if is_first && self.driver.memory().candidate.is_none() {
                    self.tell(Happening::CertificateProven);
                }
            }
            Woken::OfKeys(KeyNews::Looked(looked)) => self.keys.looked(looked),
            Woken::OfKeys(KeyNews::Deleted(deleted)) => self.on_deleted(deleted),
            Woken::AtHub(News::Ended(end)) => {
                let (reason, error) = end.into_parts();
                self.driver.on(Event::HubEnded(reason), now());
                self.tell_with(Happening::Disconnected(reason), error);
            }
        }
    }

    fn on_outcome(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Registered(Ok(registered)) => {
                let credential = self.driver.memory().credential;
                let is_issued = matches!(registered.assigned.issued, Issued::Certificate(_));
                self.driver.on(Event::Assigned(registered.assigned), now());
                self.tell(Happening::Assigned);
                self.report_credential(credential);
                match registered.unusable {
                    None if is_issued => self.tell(Happening::CertificateIssued),
                    None => {}
                    Some(Unusable::Certificate(error)) => self.fail(Happening::CertificateUnusable, error),
                    Some(Unusable::KeyStore(error)) => self.fail(Happening::KeyStoreFailed, error),
                }
            }
            Outcome::Registered(Err(Failed { error, failure })) => {
                self.driver.on(Event::RegistrationFailed(failure), now());
                self.fail(Happening::RegistrationFailed, error);
            }
            Outcome::LookedUp(found, error) => {
                self.driver.on(Event::LookedUp(found), now());
                self.tell_with(Happening::LookedUp, error.map(Arc::new));
            }
        }
    }

    fn report_credential(&mut self, before: usize) {
        if self.driver.memory().credential != before {
            self.tell(Happening::CredentialChanged);
        }
    }

    async fn save(&mut self) {
        let record = record::write(&self.owner, self.driver.memory());
        let (store, key) = (Arc::clone(&self.options.store), self.owner.key());
        let mut before = std::mem::take(&mut self.before);
        let work = async {
            put_aside(&*store, &key, &mut before).await?;
            within(|| store.save(&key, record)).await
        };
        let saved = self.meanwhile(work).await;
        self.keys.found(&before);
        // A record that could not be read once more is given up.
        self.before = if matches!(before, Before::Unusable(_)) { before } else { Before::Nothing };
        match saved {
            Ok(()) => {
                self.keys.written(self.driver.memory(), true);
                self.driver.on(Event::Saved(true), now());
                self.publisher.recovered(Concern::Record, &self.driver, now());
            }
            Err(why) => {
                // The store may have replaced the record before it failed.
                self.keys.written(self.driver.memory(), false);
                self.driver.on(Event::Saved(false), now());
                self.fail(Happening::StoreFailed, store_error::unsaved(why));
            }
        }
    }

    /// The name for the key of the next certificate.
    async fn key_name(&mut self) -> String {
        if let Some(look) = self.keys.prepare() {
            let looked = self.meanwhile(look).await;
            self.keys.looked(looked);
        }
        let search = self.keys.search(self.driver.memory());
        let found = self.meanwhile(search).await.ok();
        self.keys.take(found, self.driver.memory())
    }

    /// Begins to delete the keys that are not in use. Returns when to try again, if that failed.
    fn delete_keys(&mut self) -> Option<Instant> {
        // The registration under way may have stored a key that the record does not name yet.
        let is_allowed = self.at_service.is_none() && !self.driver.is_stopping();
        if is_allowed { self.keys.delete(self.driver.memory()) } else { None }
    }

    /// Deletes at the end what is not in use, so that no old key stays on a device that is switched off.
    async fn end_deletions(&mut self) {
        // Nothing that is under way may use a key.
        self.at_service = None;
        let Some(deletion) = self.keys.delete_last(self.driver.memory()) else { return };
        if let Ok(deleted) = self.meanwhile(within(async || Ok(deletion.await))).await {
            self.on_deleted(deleted);
        }
    }

    fn on_deleted(&mut self, deleted: Deleted) {
        let policy = self.options.policy.stuck;
        match self.keys.deleted(deleted, |failures| policy.pause(failures, self.seed)) {
            Ok(false) => {}
            Ok(true) => self.publisher.recovered(Concern::OldKeys, &self.driver, now()),
            Err(error) => {
                let (happening, error) = (Happening::KeyStoreFailed, Arc::new(error));
                self.publisher.fail(Concern::OldKeys, happening, error, &self.driver, now());
            }
        }
    }

    async fn connect(&mut self, login: Login) {
        let (options, memory) = (Arc::clone(&self.options), self.driver.memory().clone());
        let work = async { Ok(access(&options, &memory, login).await) };
        let access = self.meanwhile(work).await.unwrap_or_else(|why| {
            let name = certificate(self.driver.memory(), login).map(|issued| issued.key.as_str());
            Err(NoAccess::KeyUnreadable(store_error::key_unread(name.unwrap_or_default(), why)))
        });
        match access {
            Ok(access) => {
                self.session = Some(Session::start(Arc::clone(&self.options.connector), access));
                let is_newest = login == Login::Candidate || self.driver.memory().candidate.is_none();
                if is_newest && !matches!(login, Login::Credential(_)) {
                    self.publisher.recovered(Concern::Key, &self.driver, now());
                }
                self.tell(Happening::Connecting);
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
                self.tell_with(Happening::Disconnected(reason), error);
            }
        }
    }

    fn drop_session(&mut self) {
        let was_asked = self.session.take().is_some_and(|session| session.is_asked_to_end());
        let (reason, what) = match was_asked {
            true => (EndReason::Closed, "end"),
            false => (EndReason::Unreachable, "connect"),
        };
        self.fail(Happening::Disconnected(reason), session::too_slow(what));
    }
}

async fn when_some<T>(work: Option<&mut BoxFuture<'static, T>>) -> T {
    match work {
        Some(work) => work.await,
        None => pending().await,
    }
}

/// Tokio's clock, so that tests can pause it. Their wall clock stands still and goes on with it.
fn now() -> Now {
    let instant = Instant::now();
    #[cfg(not(test))]
    let wall = time::OffsetDateTime::now_utc();
    #[cfg(test)]
    let wall = super::tests::wall(instant);
    Now { instant: instant.into_std(), wall }
}
