//! Dropping a registration, a connection to a hub or a provisioning manager at any of its await points leaves
//! no task and no socket behind.
//!
//! The emulator has another runtime, so that the tasks of this one are the SDK's. One test, because sockets
//! are counted for the whole process.
#![cfg(target_os = "linux")] // Open sockets are counted in /proc.
#![allow(clippy::panic, clippy::unwrap_used)] // Test code.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::task::Poll;
use std::time::{Duration, Instant};

use azure_dps_core::models::{
    ApiVersion, AttestationMechanism, IndividualEnrollment, SymmetricKeyAttestation,
};
use azure_dps_core::{Result, Sensitive};
use azure_dps_device::manager::{
    FileStore, Happening, HubConnector, HubSession, KeyStore, ManagerOptions, SessionEnd, Store,
};
use azure_dps_device::transport::{BoxFuture, Channel, Facts, Reply, Request, Session, Transport};
use azure_dps_device::{Amqp, Assignment, Auto, Credential, Https, HubAccess, Mqtt};
use azure_dps_emulator::{CertificatePolicy, Emulator};
use azure_dps_tests::managed::{AtHub, Folder, Running, quick};
use azure_dps_tests::sdk::quick_policy;
use azure_dps_tests::{HUNG, device, endpoint_of, finishes_within, service_as};
use tokio::sync::Notify;

const KEY: &str = "LUu96OcIySTuTZ+HPaNcqIX1hHXsJEZv4e5FPvaM2Rk=";

#[test]
fn dropped_work_leaves_no_task_and_no_socket() {
    let there = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let emulator = there.block_on(async {
        let policy = CertificatePolicy::new("plant-north", "plant-ca", "sensors").unwrap();
        let emulator = Emulator::builder().certificate_policy(policy).polls(2).start().await.unwrap();
        let keys = || AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(KEY, KEY));
        let plain = IndividualEnrollment::new("dev1", keys());
        let issuing = IndividualEnrollment::new("dev2", keys()).with_certificate_policy(
            "plant-north",
            "plant-ca",
            "sensors",
        );
        let service = service_as(&emulator, ApiVersion::V2026_11_01);
        for enrollment in [plain, issuing] {
            service.enrollments().create_or_update(&enrollment).await.unwrap();
        }
        emulator
    });
    let endpoint = endpoint_of(&emulator);
    check("HTTPS", &emulator, || Arc::new(Https::new(endpoint.clone())));
    check("MQTT-WS", &emulator, || Arc::new(Mqtt::new(endpoint.clone()).with_websocket()));
    check("AMQP-WS", &emulator, || Arc::new(Amqp::new(endpoint.clone()).with_websocket()));
    let blocked = Mqtt::new(endpoint.clone().with_port(1));
    check("Auto", &emulator, || {
        let open = Mqtt::new(endpoint.clone()).with_websocket();
        Arc::new(Auto::of([Arc::new(blocked.clone()) as Arc<dyn Transport>, Arc::new(open)]).unwrap())
    });
    let mqtt = endpoint.clone().with_port(emulator.mqtt_port());
    check("MQTT", &emulator, || Arc::new(Mqtt::new(mqtt.clone())));
    let amqp = endpoint.clone().with_port(emulator.amqp_port());
    check("AMQP", &emulator, || Arc::new(Amqp::new(amqp.clone())));
    let assignment = Assignment::new("hub.example", "dev1").unwrap();
    let access = HubAccess::new(credential("dev1"), &assignment).unwrap();
    drop_everywhere("hub", async |polls| {
        finishes_within(polls, access.clone().with_endpoint(mqtt.clone()).connect()).await
    });
    drop_everywhere("hub in a WebSocket", async |polls| {
        finishes_within(polls, access.clone().with_endpoint(endpoint.clone()).with_websocket().connect())
            .await
    });
    drop_everywhere("a manager over HTTPS", async |polls| {
        manager_within(polls, &emulator, Arc::new(Https::new(endpoint.clone()))).await
    });
    drop_everywhere("a manager over MQTT", async |polls| {
        manager_within(polls, &emulator, Arc::new(Mqtt::new(mqtt.clone()))).await
    });
    drop_everywhere("a manager with a new certificate", async |polls| {
        renewal_within(polls, &emulator, Arc::new(Https::new(endpoint.clone()))).await
    });
}

/// Drops a manager when its connections and its store have been polled this often; whether it was online before.
async fn manager_within(polls: usize, emulator: &Emulator, transport: Arc<dyn Transport>) -> bool {
    let (folder, cut) = (Folder::new(), Cut::after(polls));
    let mut running = Running::start(watched("dev1", emulator, transport, &folder, &cut));
    tokio::select! {
        biased;
        _ = running.online() => true,
        () = cut.reached.notified() => false,
    }
}

/// Does the same to a manager that replaces a revoked certificate, and with it the key; whether it stopped before.
async fn renewal_within(polls: usize, emulator: &Emulator, transport: Arc<dyn Transport>) -> bool {
    let folder = Folder::new();
    let issuing = |cut: &Arc<Cut>| {
        let keys = Watched(folder.store(), Arc::clone(cut));
        watched("dev2", emulator, Arc::clone(&transport), &folder, cut).with_certificates(keys)
    };
    let mut running = Running::start(issuing(&Cut::after(usize::MAX)));
    running.next(Happening::CertificateProven).await;
    running.stop().await;
    assert!(emulator.revoke("dev2"));

    let cut = Cut::after(polls);
    let mut running = Running::start(issuing(&cut));
    tokio::select! {
        biased;
        () = async {
            running.next(Happening::CertificateProven).await;
            while folder.files(".key").len() > 1 {
                tokio::task::yield_now().await;
            }
            running.stop().await;
        } => true,
        () = cut.reached.notified() => false,
    }
}

/// The options of a device whose transport, record and way to the hub are polled until the cut.
fn watched(
    id: &str,
    emulator: &Emulator,
    transport: Arc<dyn Transport>,
    folder: &Folder,
    cut: &Arc<Cut>,
) -> ManagerOptions {
    let transport = Watched(transport, Arc::clone(cut));
    let store = Watched(folder.store(), Arc::clone(cut));
    let hub = Watched(AtHub::of(emulator), Arc::clone(cut));
    ManagerOptions::new(emulator.id_scope().parse().unwrap(), credential(id), transport, store, hub)
        .with_policy(quick())
        .with_registration_policy(quick_policy(0))
}

/// Ends after a number of polls: whatever is polled then stays pending.
#[derive(Debug)]
struct Cut {
    left: AtomicUsize,
    reached: Notify,
}

impl Cut {
    fn after(polls: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(polls), reached: Notify::new() })
    }

    fn watch<'a, T: 'a>(self: &Arc<Self>, mut work: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        let cut = Arc::clone(self);
        Box::pin(poll_fn(move |context| {
            let left = cut.left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1));
            match left {
                Ok(_) => work.as_mut().poll(context),
                Err(_) => {
                    cut.reached.notify_one();
                    Poll::Pending
                }
            }
        }))
    }
}

/// Something whose work is polled until the cut.
#[derive(Debug)]
struct Watched<T>(T, Arc<Cut>);

impl Transport for Watched<Arc<dyn Transport>> {
    fn connect(&self, session: Session) -> BoxFuture<'_, Result<Box<dyn Channel>>> {
        let connected = self.1.watch(self.0.connect(session));
        let cut = Arc::clone(&self.1);
        Box::pin(async move { Ok(Box::new(Watched(connected.await?, cut)) as Box<dyn Channel>) })
    }
}

impl Channel for Watched<Box<dyn Channel>> {
    fn exchange<'a>(&'a mut self, request: &'a Request) -> BoxFuture<'a, Result<Reply>> {
        self.1.watch(self.0.exchange(request))
    }

    fn idle(&mut self, wait: Duration) -> BoxFuture<'_, Result<()>> {
        self.1.watch(self.0.idle(wait))
    }

    fn close(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.1.watch(self.0.close())
    }

    fn facts(&self) -> Facts {
        self.0.facts()
    }
}

impl HubConnector for Watched<AtHub> {
    fn run<'a>(&'a self, access: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd> {
        self.1.watch(self.0.run(access, session))
    }
}

impl Store for Watched<FileStore> {
    fn load<'a>(&'a self, key: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        self.1.watch(Store::load(&self.0, key))
    }

    fn save<'a>(&'a self, key: &'a str, record: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        self.1.watch(Store::save(&self.0, key, record))
    }
}

impl KeyStore for Watched<FileStore> {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>> {
        self.1.watch(KeyStore::load(&self.0, name))
    }

    fn save<'a>(&'a self, name: &'a str, key: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>> {
        self.1.watch(KeyStore::save(&self.0, name, key))
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        self.1.watch(self.0.delete(name))
    }
}

/// Drops registrations over a transport.
fn check(transport: &str, emulator: &Emulator, make: impl Fn() -> Arc<dyn Transport>) {
    drop_everywhere(transport, async |polls| {
        let client = device(emulator.id_scope(), credential("dev1"), make());
        finishes_within(polls, client.register()).await
    });
}

/// Drops work at its first await point, at its second, and so on until it finishes. `work` polls it this often
/// and returns whether it finished.
fn drop_everywhere(what: &str, work: impl AsyncFn(usize) -> bool) {
    let here = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let finished = here.block_on(async {
        // The first connection starts what a process starts once.
        work(usize::MAX).await;
        settle(what, usize::MAX, 0).await;
        let sockets = sockets();
        for polls in 0..1000 {
            let finished = work(polls).await;
            settle(what, polls, sockets).await;
            if finished {
                return polls;
            }
        }
        panic!("{what}: it never finished")
    });
    assert!(finished > 2, "{what}: dropped at {finished} points only");
}

fn credential(id: &str) -> Credential {
    Credential::symmetric_key(id.parse().unwrap(), KEY.parse().unwrap())
}

/// Waits until nothing is left; fails when something stays.
async fn settle(what: &str, polls: usize, expected: usize) {
    let started = Instant::now();
    loop {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let open = if expected == 0 { 0 } else { sockets() };
        if tasks == 0 && open <= expected {
            return;
        }
        assert!(
            started.elapsed() < HUNG,
            "{what}, dropped after {polls} polls: {tasks} tasks and {open} sockets are left, {expected} sockets expected"
        );
        tokio::task::yield_now().await;
    }
}

/// The open sockets of this process, the emulator's included.
fn sockets() -> usize {
    let links = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
}
