//! The manager on virtual time, with a service, a hub and a store that follow a script.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use azure_dps_core::{Error, ErrorKind, Result, Sensitive};
use time::OffsetDateTime;
use tokio::time::{Instant, timeout};

use super::*;
use crate::credential::Credential;
use crate::hub::HubAccess;
use crate::transport::contract::{BoxFuture, Channel, Facts, Operation, Reply, Request, Session, Transport};

mod cuts;
mod issuer;
mod keys;
mod limits;
mod stores;
mod years;

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// A service that gives the next answer of its script, and the last one for ever.
#[derive(Clone, Debug)]
struct Service {
    script: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<(Instant, &'static str)>>>,
    preferred: Arc<Mutex<Vec<String>>>,
    /// Whether it issues a certificate to each device that asks for one.
    issues: bool,
}

#[derive(Clone, Copy, Debug)]
enum Answer {
    Assigned(&'static str),
    /// Assigned, to a hub with this connection profile.
    Profile(&'static str),
    Disabled,
    Status(u16, Option<u64>),
    NoConnection,
    Silence,
}

impl Service {
    fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            asked: Arc::default(),
            preferred: Arc::default(),
            issues: false,
        }
    }

    /// A service that assigns each device, and issues certificates.
    fn issuing() -> Self {
        Self { issues: true, ..Self::new([Answer::Assigned("a.example")]) }
    }

    /// How often a registration or a look-up was asked for.
    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn kinds(&self) -> Vec<&'static str> {
        self.asked.lock().unwrap().iter().map(|(_, what)| *what).collect()
    }

    /// The pauses between the requests, in seconds.
    fn pauses(&self) -> Vec<u64> {
        let asked = self.asked.lock().unwrap();
        asked.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs()).collect()
    }

    fn answer(&self) -> Answer {
        let mut script = self.script.lock().unwrap();
        match script.len() {
            0 | 1 => *script.front().unwrap(),
            _ => script.pop_front().unwrap(),
        }
    }
}

impl Transport for Service {
    fn connect(&self, _: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        Box::pin(async move { Ok(Box::new(self.clone()) as Box<dyn Channel>) })
    }

    fn prefer(&self, name: Option<&str>) {
        self.preferred.lock().unwrap().extend(name.map(str::to_owned));
    }
}

impl Channel for Service {
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>> {
        let what = match request.operation {
            Operation::Lookup { .. } => "look up",
            _ => "register",
        };
        self.asked.lock().unwrap().push((Instant::now(), what));
        let answer = self.answer();
        let chain = match &request.operation {
            Operation::Register { body } if self.issues => issuer::chain(body),
            _ => String::new(),
        };
        Box::pin(async move {
            tokio::task::yield_now().await;
            let state = |hub: &str| {
                format!(r#"{{"assignedHub":"{hub}","deviceId":"sensor","status":"assigned"{chain}}}"#)
            };
            match answer {
                Answer::Assigned(hub) if what == "register" => {
                    let body = format!(
                        r#"{{"operationId":"1","status":"assigned","registrationState":{}}}"#,
                        state(hub)
                    );
                    Ok(Reply { status: 200, retry_after: None, body: body.into_bytes() })
                }
                Answer::Assigned(hub) => {
                    Ok(Reply { status: 200, retry_after: None, body: state(hub).into_bytes() })
                }
                Answer::Profile(profile) => {
                    let state = format!(
                        r#"{{"assignedHub":"v.example","deviceId":"sensor","status":"assigned","connectionProfile":"{profile}"}}"#
                    );
                    let body = match what {
                        "register" => {
                            format!(
                                r#"{{"operationId":"1","status":"assigned","registrationState":{state}}}"#
                            )
                        }
                        _ => state,
                    };
                    Ok(Reply { status: 200, retry_after: None, body: body.into_bytes() })
                }
                Answer::Disabled => {
                    let body = r#"{"operationId":"1","status":"disabled","registrationState":{"registrationId":"sensor","status":"disabled"}}"#;
                    Ok(Reply { status: 200, retry_after: None, body: body.into() })
                }
                Answer::Status(status, retry_after) => {
                    Ok(Reply { status, retry_after: retry_after.map(Duration::from_secs), body: vec![] })
                }
                Answer::NoConnection => Err(Error::new(ErrorKind::Connect, "no connection")),
                Answer::Silence => std::future::pending().await,
            }
        })
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }

    fn facts(&self) -> Facts {
        Facts { name: "script", operations_survive: true }
    }
}

/// How long a connection is online, and why it ends. `None`: it is never online.
type Visit = (Option<Duration>, EndReason);

/// A hub that follows a script.
#[derive(Clone, Debug)]
struct Hub {
    script: Arc<Mutex<VecDeque<Visit>>>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    fn new(script: impl IntoIterator<Item = Visit>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), seen: Arc::default() }
    }

    /// A hub that accepts the device and stays.
    fn good() -> Self {
        Self::new([])
    }

    fn hubs(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

impl HubConnector for Hub {
    fn run<'a>(&'a self, access: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd> {
        self.seen.lock().unwrap().push(access.hub().to_owned());
        let next = self.script.lock().unwrap().pop_front();
        Box::pin(async move {
            match next {
                Some((None, reason)) => SessionEnd::new(reason),
                Some((Some(time), reason)) => {
                    session.connected();
                    tokio::time::sleep(time).await;
                    SessionEnd::new(reason)
                }
                None => {
                    session.connected();
                    session.asked_to_end().await;
                    SessionEnd::new(EndReason::Closed)
                }
            }
        })
    }
}

type Calls = Arc<Mutex<BTreeMap<&'static str, u32>>>;

/// A store that can be broken.
#[derive(Clone, Debug, Default)]
struct Shelf {
    records: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    is_broken: bool,
    hangs: bool,
    is_slow: bool,
    /// How many of the next calls fail or do not answer, for each kind of call.
    failing: Calls,
    hanging: Calls,
    /// Whether the next saves report that they worked. All replace the record.
    after_save: Arc<Mutex<VecDeque<bool>>>,
    /// Saves and deletes do not answer from this moment on.
    stalls: Arc<AtomicBool>,
}

impl Shelf {
    fn fail(&self, call: &'static str, times: u32) {
        self.failing.lock().unwrap().insert(call, times);
    }

    fn hang(&self, call: &'static str, times: u32) {
        self.hanging.lock().unwrap().insert(call, times);
    }

    /// Whether this call of the kind fails.
    async fn answer(&self, call: &'static str) -> io::Result<()> {
        // A manager can be dropped here too.
        tokio::task::yield_now().await;
        let takes_one = |calls: &Calls| {
            let mut calls = calls.lock().unwrap();
            let left = calls.entry(call).or_default();
            std::mem::replace(left, left.saturating_sub(1)) > 0
        };
        if self.stalls.load(Ordering::SeqCst) || takes_one(&self.hanging) {
            std::future::pending::<()>().await;
        }
        if takes_one(&self.failing) { Err(io::Error::other("broken")) } else { Ok(()) }
    }

    /// The names of the private keys that it has, without what the names of one device have in common.
    fn slots(&self) -> Vec<String> {
        let records = self.records.lock().unwrap();
        let names = records.keys().filter_map(|name| name.strip_prefix("dps-"));
        names.filter_map(|name| name.rsplit('-').next()).map(str::to_owned).collect()
    }

    fn has(&self, name: &str) -> bool {
        self.records.lock().unwrap().contains_key(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        self.records.lock().unwrap().insert(name.to_owned(), content.to_vec());
    }
}

impl Store for Shelf {
    fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        let record = self.records.lock().unwrap().get(key).cloned();
        Box::pin(async move {
            match (self.hangs, self.is_broken) {
                (true, _) => std::future::pending().await,
                (_, true) => Err(io::Error::other("broken")),
                _ => self.answer(if is_copy(key) { "look" } else { "load" }).await.map(|()| record),
            }
        })
    }

    fn save<'a>(&'a self, key: &'a str, record: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            if self.is_slow {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let kind = if is_copy(key) { "put aside" } else { "save" };
            self.answer(kind).await?;
            match (self.hangs, self.is_broken) {
                (true, _) => std::future::pending().await,
                (_, true) => Err(io::Error::other("broken")),
                _ => {
                    self.put(key, &record);
                    match self.after_save.lock().unwrap().pop_front() {
                        Some(false) => Err(io::Error::other("broken")),
                        _ => Ok(()),
                    }
                }
            }
        })
    }
}

impl KeyStore for Shelf {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>> {
        Box::pin(async move {
            self.answer("load key").await?;
            Ok(self.records.lock().unwrap().get(name).cloned().map(Sensitive::from))
        })
    }

    fn save<'a>(&'a self, name: &'a str, key: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.answer("save key").await?;
            self.put(name, &key);
            Ok(())
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move {
            self.answer("delete").await?;
            self.records.lock().unwrap().remove(name);
            Ok(())
        })
    }
}

fn is_copy(key: &str) -> bool {
    key.ends_with("-unusable")
}

/// A wall clock that goes on with the paused clock of a test.
pub(super) fn wall(now: Instant) -> OffsetDateTime {
    thread_local! {
        static START: (Instant, OffsetDateTime) = (Instant::now(), OffsetDateTime::now_utc());
    }
    START.with(|(start, wall)| *wall + now.saturating_duration_since(*start))
}

fn credential() -> Credential {
    Credential::symmetric_key("sensor".parse().unwrap(), KEY.parse().unwrap())
}

fn options(service: &Service, shelf: &Shelf, hub: &Hub) -> ManagerOptions {
    let scope = "0ne00111111".parse().unwrap();
    let policy = ManagerPolicy::new().with_first_boot_window(Duration::ZERO);
    ManagerOptions::new(scope, credential(), service.clone(), shelf.clone(), hub.clone()).with_policy(policy)
}

/// Provisions a device, and leaves its record in the shelf.
async fn provisioned(shelf: &Shelf) {
    let service = Service::new([Answer::Assigned("a.example")]);
    let manager = ProvisioningManager::start(options(&service, shelf, &Hub::good()));
    until(&mut manager.events(), Happening::Connected).await;
    manager.stop().await;
}

/// Reads events up to this happening, and returns all of them.
async fn until(events: &mut Events, happening: Happening) -> Vec<Happening> {
    let mut seen = Vec::new();
    let work = async {
        while let Some(event) = events.next().await {
            seen.push(event.happening);
            if event.happening == happening {
                return;
            }
        }
        panic!("the manager stopped");
    };
    timeout(LONG, work).await.unwrap_or_else(|_| panic!("{happening:?} did not come"));
    seen
}

/// Reads events up to this happening, and returns it.
async fn next(events: &mut Events, happening: Happening) -> ManagerEvent {
    let work = async {
        loop {
            match events.next().await {
                Some(event) if event.happening == happening => return event,
                Some(_) => {}
                None => panic!("the manager stopped"),
            }
        }
    };
    timeout(LONG, work).await.unwrap_or_else(|_| panic!("{happening:?} did not come"))
}

#[tokio::test(start_paused = true)]
async fn a_new_device_registers_and_connects_and_after_a_reboot_only_connects() {
    let (service, shelf, hub) =
        (Service::new([Answer::Assigned("a.example")]), Shelf::default(), Hub::good());
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    assert_eq!(
        until(&mut events, Happening::Connected).await,
        [
            Happening::Started,
            Happening::Registering,
            Happening::Assigned,
            Happening::Connecting,
            Happening::Connected
        ]
    );
    let snapshot = manager.snapshot();
    assert_eq!(snapshot.state, ProvisioningState::Online);
    assert_eq!(snapshot.hub.as_deref(), Some("a.example"));
    assert_eq!(snapshot.device_id.as_deref(), Some("sensor"));
    assert_eq!(snapshot.next_attempt, None);
    manager.stop().await;
    assert!(
        events
            .next()
            .await
            .is_some_and(|event| event.happening == Happening::Disconnected(EndReason::Closed))
    );

    let offline = Service::new([Answer::NoConnection]);
    let manager = ProvisioningManager::start(options(&offline, &shelf, &hub));
    until(&mut manager.events(), Happening::Connected).await;
    assert_eq!((offline.asked(), hub.hubs().len()), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn a_manager_that_is_stopped_at_any_moment_ends() {
    for moment in 0..100 {
        let (service, hub) = (Service::new([Answer::Assigned("a.example")]), Hub::good());
        let shelf = Shelf { is_slow: true, ..Shelf::default() };
        let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
        for _ in 0..moment {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        timeout(LONG, manager.stop()).await.unwrap_or_else(|_| panic!("moment {moment}"));
    }
}

#[tokio::test(start_paused = true)]
async fn dropping_a_manager_ends_its_connection_and_its_events() {
    let (service, shelf, hub) =
        (Service::new([Answer::Assigned("a.example")]), Shelf::default(), Hub::good());
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    until(&mut events, Happening::Connected).await;
    drop(manager);
    assert!(events.next().await.is_none());
    assert_eq!(Arc::strong_count(&hub.seen), 1, "the connector is dropped");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_broken_or_hangs_does_not_keep_the_device_from_its_hub() {
    for (is_broken, hangs) in [(true, false), (false, true)] {
        let shelf = Shelf { is_broken, hangs, ..Shelf::default() };
        let (service, hub) = (Service::new([Answer::Assigned("a.example")]), Hub::good());
        let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
        let mut events = manager.events();
        let seen = until(&mut events, Happening::Connected).await;
        assert!(seen.contains(&Happening::StoreFailed), "{seen:?}");
        timeout(LONG, manager.stop()).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_device_waits_at_least_as_long_as_the_service_asks() {
    let answers = [Answer::Status(429, Some(400)), Answer::Assigned("a.example")];
    let (service, shelf, hub) = (Service::new(answers), Shelf::default(), Hub::good());
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    until(&mut manager.events(), Happening::Connected).await;
    assert!(service.pauses()[0] >= 400, "{:?}", service.pauses());
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_silent_or_away_is_asked_again() {
    for answer in [Answer::Silence, Answer::NoConnection, Answer::Status(503, None)] {
        let answers = [answer; 8].into_iter().chain([Answer::Assigned("a.example")]);
        let (service, shelf, hub) = (Service::new(answers), Shelf::default(), Hub::good());
        let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
        until(&mut manager.events(), Happening::Connected).await;
        assert_eq!(manager.snapshot().last_error.map(|error| error.kind()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_panics_counts_as_a_lost_connection() {
    #[derive(Debug)]
    struct Panics;
    impl HubConnector for Panics {
        fn run<'a>(&'a self, _: HubAccess, _: HubSession) -> BoxFuture<'a, SessionEnd> {
            Box::pin(async { panic!("on purpose") })
        }
    }
    let service = Service::new([Answer::Assigned("a.example")]);
    let scope = "0ne00111111".parse().unwrap();
    let options = ManagerOptions::new(scope, credential(), service, Shelf::default(), Panics);
    let manager = ProvisioningManager::start(options);
    let mut events = manager.events();
    until(&mut events, Happening::Disconnected(EndReason::Lost)).await;
    until(&mut events, Happening::Connecting).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_was_taken_over_stops_by_itself() {
    let hub = Hub::new([(Some(Duration::from_secs(5)), EndReason::TakenOver)]);
    let (service, shelf) = (Service::new([Answer::Assigned("a.example")]), Shelf::default());
    let mut manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    timeout(LONG, manager.stopped()).await.unwrap();
    assert_eq!(manager.snapshot().state, ProvisioningState::Stopped);
    until(&mut events, Happening::Stopped).await;
    assert!(events.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_record_of_a_later_release_is_put_aside_and_not_lost() {
    let (service, shelf, hub) =
        (Service::new([Answer::Assigned("a.example")]), Shelf::default(), Hub::good());
    let key = options(&service, &shelf, &hub).owner().key();
    let later = b"azure-dps-device-manager 7 of the future\n{}".to_vec();
    shelf.records.lock().unwrap().insert(key.clone(), later.clone());
    let manager = ProvisioningManager::start(options(&service, &shelf, &hub));
    let mut events = manager.events();
    let started = events.next().await.unwrap();
    let why = started.error.unwrap().to_string();
    assert!(why.contains("version 7") && why.contains(&format!("{key}-unusable")), "{why}");
    until(&mut events, Happening::Connected).await;
    let records = shelf.records.lock().unwrap();
    assert_eq!(records[&format!("{key}-unusable")], later);
    assert_ne!(records[&key], later);
}
