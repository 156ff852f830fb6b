//! The provisioning manager with real sockets, TLS, MQTT and files, at an emulated service and its hubs.
//!
//! Waits of hours and the order of decisions are proved on virtual time, in the device crate.

use std::sync::Arc;

use azure_dps_core::models::IndividualEnrollment;
use azure_dps_device::Credential;
use azure_dps_device::manager::{FileStore, ManagerOptions};
use azure_dps_device::transport::Transport;
use azure_dps_emulator::{Emulator, EmulatorBuilder};
use azure_dps_tests::managed::{AtHub, Folder, Running, options, seen};
use azure_dps_tests::plant::{Over, Plant, Protocol, key};

mod boots;
mod certificates;
mod clocks;
mod credentials;
#[cfg(unix)] // Modes of files, and a program that is killed.
mod files;
mod hubs;
mod observed;
mod transports;

/// A plant with a device, its files, and its program at the hub.
struct Scene {
    plant: Plant,
    folder: Folder,
    hub: AtHub,
    credential: Credential,
}

impl Scene {
    /// A device `dev1` with a key.
    async fn start() -> Self {
        Self::over(Protocol::Https, Emulator::builder()).await
    }

    async fn over(protocol: Protocol, builder: EmulatorBuilder) -> Self {
        let plant = Plant::with(Over::directly(protocol), builder).await;
        let (primary, _) = plant.enroll("dev1").await;
        Self::of(plant, key("dev1", &primary))
    }

    fn of(plant: Plant, credential: Credential) -> Self {
        let hub = AtHub::of(&plant.emulator);
        Self { plant, folder: Folder::new(), hub, credential }
    }

    fn options(&self) -> ManagerOptions {
        self.options_over(Arc::clone(&self.plant.transport))
    }

    fn options_over(&self, transport: Arc<dyn Transport>) -> ManagerOptions {
        options(&self.plant.emulator, self.credential.clone(), transport, self.folder.store(), &self.hub)
    }

    fn options_in(&self, store: FileStore) -> ManagerOptions {
        let transport = Arc::clone(&self.plant.transport);
        options(&self.plant.emulator, self.credential.clone(), transport, store, &self.hub)
    }

    /// Assigns the device to this hub when it registers again.
    async fn move_to(&self, hub: &str) {
        let to = |record: &mut IndividualEnrollment| *record = record.clone().with_static_allocation(hub);
        self.plant.service.enrollments().update("dev1", to).await.unwrap();
    }

    /// The hub of the device, and the other one.
    fn hubs(&self, running: &Running) -> [String; 2] {
        let here = running.manager.snapshot().hub.unwrap();
        let there = self.plant.emulator.hubs().into_iter().find(|hub| *hub != here).unwrap();
        [here, there]
    }

    /// What the device asked of the service.
    fn seen(&self) -> Vec<&'static str> {
        seen(&self.plant.emulator)
    }

    fn boot(&self) -> Running {
        Running::start(self.options())
    }

    /// Boots the device, and waits until it is online.
    async fn online(&self) -> Running {
        let mut running = self.boot();
        running.online().await;
        running
    }
}
