//! A provisioning manager against an emulator: short ladders, a folder for its files, and a way to the hub.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use azure_dps_core::Endpoint;
use azure_dps_device::manager::{
    EndReason, Events, FileStore, Happening, HubConnector, HubSession, Ladder, ManagerEvent, ManagerOptions,
    ManagerPolicy, ProvisioningManager, ProvisioningState, SessionEnd, Store,
};
use azure_dps_device::transport::{BoxFuture, Transport};
use azure_dps_device::{Credential, HubAccess, HubStream};
use azure_dps_emulator::{Emulator, Entry};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use crate::endpoint_of;
use crate::hub_access::HOUR;
use crate::limits::HUNG;
use crate::mqtt_bytes::{CLEAN, MqttTalk, NO_PASSWORD, Published, connect_with, publish, subscribe};
use crate::sdk::quick_policy;

/// A folder that goes with the test.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("dps-manager-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn store(&self) -> FileStore {
        FileStore::new(&self.0)
    }

    /// The files whose names end like this.
    pub fn files(&self, end: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.to_string_lossy().ends_with(end)).collect()
    }

    /// The record of the device.
    pub fn record(&self) -> PathBuf {
        let mut records = self.files(".record");
        records.retain(|path| !path.to_string_lossy().contains("unusable"));
        assert_eq!(records.len(), 1, "{records:?}");
        records.remove(0)
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ladders of milliseconds.
pub fn quick() -> ManagerPolicy {
    let ladder =
        |first, longest| Ladder::new(Duration::from_millis(first), Duration::from_millis(longest), 20);
    ManagerPolicy::new()
        .with_first_boot_window(Duration::ZERO)
        .with_register_ladder(ladder(10, 50))
        .with_stuck_ladder(ladder(20, 100))
        .with_refused_ladder(ladder(20, 100))
        .with_hub_ladder(ladder(10, 50))
}

/// The options of a device in the emulator's scope.
pub fn options(
    emulator: &Emulator,
    credential: Credential,
    transport: Arc<dyn Transport>,
    store: impl Store + 'static,
    hub: &AtHub,
) -> ManagerOptions {
    let scope = emulator.id_scope().parse().unwrap();
    ManagerOptions::new(scope, credential, transport, store, hub.clone())
        .with_policy(quick())
        .with_registration_policy(quick_policy(0))
}

/// A device's program at its hub, in literal packets. The direct method `reprovision` is answered, and then
/// provisions the device anew.
#[derive(Clone, Debug)]
pub struct AtHub {
    endpoint: Endpoint,
    seen: Arc<Mutex<Vec<String>>>,
    /// How many connections it has ended because the manager wanted it.
    goodbyes: Arc<AtomicUsize>,
    /// How many connections in a row the hub ended soon after it had accepted them.
    short: Arc<AtomicUsize>,
}

impl AtHub {
    pub fn of(emulator: &Emulator) -> Self {
        let endpoint = endpoint_of(emulator).with_port(emulator.mqtt_port());
        Self { endpoint, seen: Arc::default(), goodbyes: Arc::default(), short: Arc::default() }
    }

    /// The hubs that it has been at.
    pub fn hubs(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections it has ended with a DISCONNECT because the manager wanted it.
    pub fn goodbyes(&self) -> usize {
        self.goodbyes.load(Ordering::SeqCst)
    }

    async fn work(&self, access: HubAccess, session: HubSession) -> Result<SessionEnd, Gone> {
        let access = access.with_endpoint(self.endpoint.clone());
        let sign_in = match access.sign_in(HOUR, SystemTime::now().into()) {
            Ok(sign_in) => sign_in,
            Err(error) => return Ok(SessionEnd::from_error(error)),
        };
        let mut talk = match access.connect().await {
            Ok(stream) => MqttTalk::new(stream),
            Err(error) => return Ok(SessionEnd::from_error(error)),
        };
        let (client_id, user_name) = (access.client_id(), access.user_name());
        let connect = match sign_in.password() {
            Some(password) => connect_with(CLEAN, 60, &[client_id, &user_name, password]),
            None => connect_with(NO_PASSWORD, 60, &[client_id, &user_name]),
        };
        say(&mut talk, &connect).await?;
        let Some((0x20, answer)) = talk.hear().await else {
            return Ok(SessionEnd::new(EndReason::Unreachable));
        };
        if let Some(end) = SessionEnd::from_connack(answer[1]) {
            return Ok(end);
        }
        say(&mut talk, &subscribe("$iothub/methods/POST/#", 0)).await?;
        talk.hear().await.ok_or(Gone)?;
        self.seen.lock().unwrap().push(access.hub().to_owned());
        session.connected();
        let since = Instant::now();
        let heard = tokio::select! {
            heard = talk.hear() => heard,
            () = session.asked_to_end() => {
                say(&mut talk, &[0xE0, 0]).await?;
                self.goodbyes.fetch_add(1, Ordering::SeqCst);
                return Ok(SessionEnd::new(EndReason::Closed));
            }
        };
        match heard {
            Some(message) => {
                let topic = Published::read(message).topic;
                let rid = topic.rsplit('=').next().unwrap();
                say(&mut talk, &publish(0, 0, &format!("$iothub/methods/res/200/?$rid={rid}"), "{}")).await?;
                say(&mut talk, &[0xE0, 0]).await?;
                Ok(SessionEnd::new(EndReason::ProvisionAnew))
            }
            None if since.elapsed() < Duration::from_secs(5) => {
                // MQTT 3.1.1 does not say why: a device that is taken over loses each connection soon.
                let taken_over = self.short.fetch_add(1, Ordering::SeqCst) >= 3;
                Ok(SessionEnd::new(if taken_over { EndReason::TakenOver } else { EndReason::Lost }))
            }
            None => Err(Gone),
        }
    }
}

impl HubConnector for AtHub {
    fn run<'a>(&'a self, access: HubAccess, session: HubSession) -> BoxFuture<'a, SessionEnd> {
        Box::pin(async move {
            let end = self.work(access, session).await;
            end.unwrap_or_else(|Gone| SessionEnd::new(EndReason::Lost))
        })
    }
}

/// The hub has closed the connection.
struct Gone;

async fn say(talk: &mut MqttTalk<HubStream>, bytes: &[u8]) -> Result<(), Gone> {
    talk.stream.write_all(bytes).await.map_err(|_| Gone)?;
    talk.stream.flush().await.map_err(|_| Gone)
}

/// A manager that runs, and its events.
#[derive(Debug)]
pub struct Running {
    pub manager: ProvisioningManager,
    pub events: Events,
}

impl Running {
    pub fn start(options: ManagerOptions) -> Self {
        let manager = ProvisioningManager::start(options);
        let events = manager.events();
        Self { manager, events }
    }

    /// Reads events up to this happening, and returns them.
    pub async fn until(&mut self, happening: Happening) -> Vec<ManagerEvent> {
        let mut seen = Vec::new();
        let reading = async {
            while let Some(event) = self.events.next().await {
                seen.push(event);
                if seen.last().is_some_and(|event| event.happening == happening) {
                    return true;
                }
            }
            false
        };
        match timeout(HUNG, reading).await {
            Ok(true) => seen,
            Ok(false) => panic!("the manager stopped before {happening:?}: {:?}", happenings(&seen)),
            Err(_) => panic!("{happening:?} did not come: {:?}", happenings(&seen)),
        }
    }

    /// Reads events up to this happening, and returns it.
    pub async fn next(&mut self, happening: Happening) -> ManagerEvent {
        self.until(happening).await.pop().unwrap()
    }

    /// Reads events until the device is online, and returns them.
    pub async fn online(&mut self) -> Vec<ManagerEvent> {
        let seen = self.until(Happening::Connected).await;
        assert_eq!(seen.last().unwrap().state, ProvisioningState::Online);
        seen
    }

    pub async fn stop(self) {
        timeout(HUNG, self.manager.stop()).await.unwrap();
    }
}

pub fn happenings(events: &[ManagerEvent]) -> Vec<Happening> {
    events.iter().map(|event| event.happening).collect()
}

/// What a device asked of the service, as the emulator saw it: `register` and `look up`.
pub fn seen(emulator: &Emulator) -> Vec<&'static str> {
    emulator.journal().iter().filter_map(doing).collect()
}

/// How many registrations began, whether they were accepted or not.
pub fn registrations(emulator: &Emulator) -> usize {
    seen(emulator).iter().filter(|doing| **doing == "register").count()
}

fn doing(entry: &Entry) -> Option<&'static str> {
    let target = &entry.target;
    match entry.method.as_str() {
        "PUT" if target.contains("/registrations/") => Some("register"),
        "POST" if target.contains("/registrations/") => Some("look up"),
        "publish" | "PUBLISH" | "transfer" if target.contains("iotdps-register") => Some("register"),
        _ => None,
    }
}
