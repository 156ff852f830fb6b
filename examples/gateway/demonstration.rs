//! The life of a device in short: the first boot, a move to another hub, and a reboot.

use std::path::PathBuf;
use std::time::Duration;

use azure_dps_device::Credential;
use azure_dps_device::manager::{Events, FileStore, Happening, ManagerOptions, ProvisioningManager};
use azure_dps_emulator::{Emulator, MethodCall};
use azure_dps_examples::{Made, Playground, mark};
use azure_dps_service::core::models::{ApiVersion, AttestationMechanism, IndividualEnrollment};
use azure_dps_service::core::{Error, ErrorKind, Result};
use serde_json::json;
use tokio::time::timeout;

use crate::connector::Gateway;
use crate::settings::hasty;
use crate::{End, live, log, taken_over};

pub(crate) async fn run(playground: &Playground) -> Result<()> {
    let id = format!("sample-{}", mark());
    let demonstration = Demonstration { playground, folder: std::env::temp_dir().join(&id), id };
    let outcome = demonstration.show().await;
    let _removed = std::fs::remove_dir_all(&demonstration.folder);
    outcome
}

struct Demonstration<'p> {
    playground: &'p Playground,
    id: String,
    folder: PathBuf,
}

impl Demonstration<'_> {
    async fn show(&self) -> Result<()> {
        let credential = self.enroll().await?;
        self.playground.registers(&self.id);
        log("-- the first boot");
        self.live(&credential, async |mut events| {
            online(&mut events).await?;
            match self.playground.emulator() {
                Some(emulator) => self.relocate(emulator).await,
                None => Ok(()),
            }
        })
        .await?;
        log("-- a reboot");
        self.live(&credential, async |mut events| online(&mut events).await).await
    }

    /// Enrolls the device: at the first of two hubs and with a certificate policy, where both are known.
    async fn enroll(&self) -> Result<Credential> {
        let mut enrollment =
            IndividualEnrollment::new(&self.id, AttestationMechanism::symmetric_key_generated());
        let mut service = self.playground.service().clone();
        if self.playground.is_emulator() {
            let [namespace, authority, policy] = self.playground.certificate_policy()?;
            let [hub, _] = self.playground.two_hubs()?;
            enrollment =
                enrollment.with_static_allocation(hub).with_certificate_policy(namespace, authority, policy);
            service = self.playground.service_of(ApiVersion::V2026_11_01)?;
        }
        let created = service.enrollments().create_or_update(&enrollment).await;
        let created = self.playground.made([Made::Enrollment(self.id.clone())], created)?;
        let key = created.attestation.as_symmetric_key().and_then(|keys| keys.primary_key.as_deref());
        let key =
            key.ok_or_else(|| Error::new(ErrorKind::Protocol, "the service returned no primary key"))?;
        Ok(Credential::symmetric_key(self.id.parse()?, key.parse()?))
    }

    /// One life of the program: from the start to the end of `back_end`.
    async fn live(
        &self,
        credential: &Credential,
        back_end: impl AsyncFnOnce(Events) -> Result<()>,
    ) -> Result<()> {
        let store = FileStore::new(&self.folder);
        let options = ManagerOptions::new(
            self.playground.id_scope(),
            credential.clone(),
            self.playground.https(),
            store.clone(),
            Gateway::new(self.playground.hub_endpoint()),
        );
        let manager = ProvisioningManager::start(hasty(options.with_certificates(store), PAUSE));
        let (events, seen) = (manager.events(), manager.events());
        let mut outcome = Ok(());
        match live(manager, events, async { outcome = back_end(seen).await }).await? {
            End::Asked => outcome,
            End::TakenOver => Err(taken_over()),
        }
    }

    /// The back end moves the device to the other hub, and asks it to provision itself anew.
    async fn relocate(&self, emulator: &Emulator) -> Result<()> {
        let failed = |why| Error::new(ErrorKind::Service, "the emulated hub refused a call").with_source(why);
        let [old, new] = self.playground.two_hubs()?;
        let service = self.playground.service_of(ApiVersion::V2026_11_01)?;
        let to_new = |enrollment: &mut IndividualEnrollment| enrollment.iot_hubs = Some(vec![new.clone()]);
        service.enrollments().update(&self.id, to_new).await?;
        let call = MethodCall::new("reprovision").with_payload(json!({ "reason": "a move" }));
        emulator.invoke_method(&old, &self.id, call).await.map_err(failed)?;
        emulator.wait_for_telemetry(&new, &self.id, 0, LIMIT).await.map_err(failed).map(drop)
    }
}

/// Waits until the hub accepts the device.
async fn online(events: &mut Events) -> Result<()> {
    let connected = async {
        while let Some(event) = events.next().await {
            if event.happening == Happening::Connected {
                return Ok(());
            }
        }
        Err(Error::new(ErrorKind::Config, "the manager stopped"))
    };
    let late = || Error::new(ErrorKind::Timeout, "the device is not at its hub; the lines above say why");
    timeout(LIMIT, connected).await.map_err(|_| late())?
}

const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(200);
