//! A device that lives for years: provisioned once, connected to its hub from then on.
//!
//! A [`ProvisioningManager`] keeps the assignment over reboots, goes to the hub first, asks the service only
//! when the hub refuses the device or stays away, renews issued certificates, and backs off so that neither a
//! fleet nor a single device overloads the service. The application brings the way to the hub, as a
//! [`HubConnector`].
//!
//! The guide `manager.md` has the states.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::Instrument as _;

pub use self::connector::{EndReason, HubConnector, HubSession, SessionEnd};
use self::event::MOST_EVENTS;
pub use self::event::{Events, Happening, ManagerEvent, Snapshot};
pub use self::ladder::Ladder;
pub use self::options::ManagerOptions;
pub use self::policy::ManagerPolicy;
use self::publisher::Publisher;
pub use self::state::ProvisioningState;
pub use self::store::{FileStore, KeyStore, Store};

mod access;
mod attempt;
mod connector;
mod driver;
mod event;
mod key_names;
mod keys;
mod ladder;
mod load;
mod memory;
mod options;
mod outstanding;
mod policy;
mod publisher;
mod record;
mod run;
mod seed;
mod session;
mod state;
mod store;
mod store_error;
#[cfg(test)]
mod tests;

/// Keeps one device provisioned and connected to its hub.
///
/// ```no_run
/// use azure_dps_device::manager::{FileStore, HubConnector, ManagerOptions, ProvisioningManager};
/// use azure_dps_device::{Auto, Credential};
///
/// # async fn example(connector: impl HubConnector + 'static) -> azure_dps_device::core::Result<()> {
/// let key = "YWGfx6psUG2GN+2JfRsJbaVugWxYb8ZAofr1S3X3L6w=".parse()?;
/// let credential = Credential::symmetric_key("sensor-042".parse()?, key);
/// let store = FileStore::new("/var/lib/sensor");
/// let scope = "0ne00111111".parse()?;
/// let options = ManagerOptions::new(scope, credential, Auto::default(), store, connector);
/// let manager = ProvisioningManager::start(options);
/// let mut events = manager.events();
/// while let Some(event) = events.next().await {
///     println!("{:?}: {:?}", event.happening, event.state);
/// }
/// # Ok(())
/// # }
/// ```
///
/// Dropping it stops everything at once, without saving what has not been saved.
/// [`stop`](Self::stop) closes the connection first.
#[derive(Debug)]
pub struct ProvisioningManager {
    events: broadcast::WeakSender<ManagerEvent>,
    /// For the first reader: the events since the start.
    first: Mutex<Option<broadcast::Receiver<ManagerEvent>>>,
    snapshot: watch::Receiver<Snapshot>,
    commands: mpsc::Sender<()>,
    stop: watch::Sender<Option<Instant>>,
    task: JoinHandle<()>,
}

impl ProvisioningManager {
    /// Starts a manager as a task of the Tokio runtime that the caller runs in.
    ///
    /// # Panics
    /// Outside a Tokio runtime.
    pub fn start(options: ManagerOptions) -> Self {
        let (events, first) = broadcast::channel(MOST_EVENTS);
        let (snapshot, watched) = watch::channel(Snapshot::default());
        let (commands, received) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(None);
        let weak = events.downgrade();
        let publisher = Publisher::new(events, snapshot);
        let span = tracing::info_span!("dps_manager", registration_id = options.owner().registration_id);
        let work = run::run(Arc::new(options), publisher, received, stopped).instrument(span);
        let first = Mutex::new(Some(first));
        Self { events: weak, first, snapshot: watched, commands, stop, task: tokio::spawn(work) }
    }

    /// The events: those since the start for the first reader, and those from this moment on for others.
    pub fn events(&self) -> Events {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let subscribe = || self.events.upgrade().map(|events| events.subscribe());
        Events::new(first.or_else(subscribe))
    }

    /// The state of the device at this moment.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Provisions the device anew, for example because its back end asks for it. The connection to the hub
    /// stays until the device is assigned to another place. Requests in quick succession become one, or wait. A
    /// request is kept over a reboot, until the service assigns the device.
    pub fn reprovision(&self) {
        // If a request is already waiting, the manager answers both with one registration.
        let _waiting = self.commands.try_send(());
    }

    /// Stops: abandons a registration, asks the [`HubConnector`] to end, saves, and returns. It takes at most
    /// [`ManagerPolicy::with_hub_close_timeout`], and 30 s more if a store does not answer: what has not been
    /// saved by then is lost.
    pub async fn stop(mut self) {
        self.stop.send_replace(Some(Instant::now()));
        // A task that panicked has stopped too.
        let _ended = (&mut self.task).await;
    }

    /// Waits until the manager stops by itself, because another program took the device over.
    pub async fn stopped(&mut self) {
        let mut snapshot = self.snapshot.clone();
        let _stopped = snapshot.wait_for(|snapshot| snapshot.state == ProvisioningState::Stopped).await;
    }
}

impl Drop for ProvisioningManager {
    fn drop(&mut self) {
        self.task.abort();
    }
}
