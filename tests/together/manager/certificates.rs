//! Issued certificates: real chains, two slots, renewal, expiry, revocation, and a key store that fails.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use azure_dps_core::models::{ApiVersion, AttestationMechanism, IndividualEnrollment};
use azure_dps_core::{RenewalPolicy, Sensitive};
use azure_dps_device::manager::{
    EndReason, FileStore, Happening, KeyStore, ManagerOptions, ProvisioningState,
};
use azure_dps_device::transport::BoxFuture;
use azure_dps_emulator::{CertificatePolicy, Emulator, Fault, MethodCall, Operation};
use azure_dps_tests::managed::{Running, happenings, quick, registrations};
use azure_dps_tests::plant::{Over, Plant, key, keys};
use azure_dps_tests::tasks::settles;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Scene;

const LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A device with a key that gets certificates of 30 days.
pub(super) async fn issuing() -> Scene {
    let policy = CertificatePolicy::new("plant-north", "plant-ca", "sensors").unwrap();
    let plant = Plant::with(Over::HTTPS, Emulator::builder().certificate_policy(policy)).await;
    let record = IndividualEnrollment::new("dev1", AttestationMechanism::symmetric_key_generated())
        .with_certificate_policy("plant-north", "plant-ca", "sensors");
    let service = plant.service_as(ApiVersion::V2026_11_01);
    let created = service.enrollments().create_or_update(&record).await.unwrap();
    let credential = key("dev1", &keys(&created.attestation).0);
    Scene::of(plant, credential)
}

fn options(scene: &Scene, keys: impl KeyStore + 'static) -> ManagerOptions {
    scene.options().with_certificates(keys)
}

pub(super) fn boot(scene: &Scene) -> Running {
    Running::start(options(scene, scene.folder.store()))
}

/// Leaves the device with a certificate that has this share of its life behind it.
async fn aged(scene: &Scene, percent: u32) {
    scene.plant.emulator.set_clock(SystemTime::now() - LIFE * percent / 100);
    let never = quick().with_renewal(RenewalPolicy::new().with_share(100).with_spread(0));
    let mut running = Running::start(options(scene, scene.folder.store()).with_policy(never));
    running.next(Happening::CertificateProven).await;
    running.stop().await;
    scene.plant.emulator.reset_clock();
}

fn days_left(running: &Running) -> i64 {
    running.manager.snapshot().certificate_days_left(time::OffsetDateTime::now_utc()).unwrap()
}

pub(super) fn keys_of(scene: &Scene) -> BTreeSet<PathBuf> {
    scene.folder.files(".key").into_iter().collect()
}

#[tokio::test]
async fn a_certificate_is_issued_and_proven_and_signs_in_after_a_reboot() {
    let scene = issuing().await;
    let mut running = boot(&scene);
    let seen = running.until(Happening::CertificateProven).await;
    assert_eq!(
        happenings(&seen)[2..],
        [
            Happening::Assigned,
            Happening::CertificateIssued,
            Happening::Connecting,
            Happening::Connected,
            Happening::CertificateProven
        ]
    );
    assert!((29..=30).contains(&days_left(&running)), "{}", days_left(&running));
    running.stop().await;
    assert_eq!(keys_of(&scene).len(), 1);
    // It is the certificate that signs in: the hub refuses it from here on.
    scene.plant.emulator.revoke("dev1");
    let mut running = boot(&scene);
    running.next(Happening::Disconnected(EndReason::Refused)).await;
    running.next(Happening::CertificateProven).await;
    assert_eq!(scene.seen(), ["register", "look up", "register"]);
}

#[tokio::test]
async fn between_75_and_80_percent_of_its_life_a_certificate_is_renewed_and_the_old_key_goes_last() {
    for percent in [74, 81] {
        let scene = issuing().await;
        aged(&scene, percent).await;
        let before = keys_of(&scene);
        let keys = Failing::new(&scene, 0, 0);
        let mut running = Running::start(options(&scene, keys.clone()));
        running.next(Happening::Connected).await;
        if percent > 80 {
            running.next(Happening::CertificateProven).await;
            assert!((29..=30).contains(&days_left(&running)), "{}", days_left(&running));
        }
        running.stop().await;
        let after = keys_of(&scene);
        assert_eq!((before.len(), after.len()), (1, 1));
        match percent > 80 {
            true => {
                assert!(before.is_disjoint(&after));
                assert_eq!(registrations(&scene.plant.emulator), 2);
                let mut done = keys.done();
                // A deletion that the end of the manager cuts is done again.
                done.dedup();
                assert_eq!(done, ["load 1", "save 2", "load 2", "delete 1"]);
            }
            false => {
                assert_eq!(before, after);
                assert_eq!(registrations(&scene.plant.emulator), 1);
            }
        }
    }
}

#[tokio::test]
async fn a_new_certificate_that_the_hub_refuses_leaves_the_old_one() {
    let scene = issuing().await;
    let mut running = boot(&scene);
    running.next(Happening::CertificateProven).await;
    let first = keys_of(&scene);
    scene.plant.emulator.inject(Fault::status(401).on(Operation::HubConnect)).unwrap();
    running.manager.reprovision();
    let seen = running.until(Happening::Connected).await;
    assert_eq!(
        happenings(&seen),
        [
            Happening::Registering,
            Happening::Assigned,
            Happening::CertificateIssued,
            Happening::Disconnected(EndReason::Closed),
            Happening::Connecting,
            Happening::Disconnected(EndReason::Refused),
            Happening::Connecting,
            Happening::Connected
        ]
    );
    running.stop().await;
    assert_eq!(keys_of(&scene), first, "the new key is gone, the old one is there");
    let mut running = boot(&scene);
    running.online().await;
    assert_eq!(registrations(&scene.plant.emulator), 2);
}

#[tokio::test]
async fn a_device_whose_certificates_have_all_expired_comes_back_with_its_credential() {
    let scene = issuing().await;
    aged(&scene, 90).await;
    let file = scene.folder.record();
    // The device has been off for months.
    let record = std::fs::read_to_string(&file).unwrap();
    let mut body: Value = serde_json::from_str(record.split_once('\n').unwrap().1).unwrap();
    body["memory"]["proven"]["notAfter"] = "2026-01-01T00:00:00Z".into();
    let body = body.to_string();
    let sum = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    std::fs::write(&file, format!("azure-dps-device-manager 1 {sum}\n{body}")).unwrap();

    let mut running = boot(&scene);
    let seen = running.until(Happening::Assigned).await;
    assert_eq!(happenings(&seen), [Happening::Started, Happening::Registering, Happening::Assigned]);
    running.next(Happening::CertificateProven).await;
    assert!((29..=30).contains(&days_left(&running)));
}

#[tokio::test]
async fn a_request_to_reprovision_during_a_renewal_is_one_registration_more() {
    let scene = issuing().await;
    aged(&scene, 90).await;
    let slow = Fault::delay(Duration::from_millis(500)).on(Operation::Register);
    scene.plant.emulator.inject(slow).unwrap();
    let mut running = boot(&scene);
    running.next(Happening::Registering).await;
    settles(|| registrations(&scene.plant.emulator) == 2).await;
    running.manager.reprovision();
    running.manager.reprovision();
    for _ in 0..2 {
        running.next(Happening::CertificateIssued).await;
    }
    running.next(Happening::CertificateProven).await;
    running.stop().await;
    assert_eq!((keys_of(&scene).len(), registrations(&scene.plant.emulator)), (1, 3));
}

#[tokio::test]
async fn a_back_end_that_wants_to_reprovision_during_a_renewal_gets_one_registration_more() {
    let scene = issuing().await;
    aged(&scene, 90).await;
    let slow = Fault::delay(Duration::from_millis(500)).on(Operation::Register);
    scene.plant.emulator.inject(slow).unwrap();
    let mut running = boot(&scene);
    let mut seen = running.until(Happening::Registering).await;
    let [here, _] = scene.hubs(&running);
    // The device may not be connected yet, or between two connections.
    let method = || scene.plant.emulator.invoke_method(&here, "dev1", MethodCall::new("reprovision"));
    while method().await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    seen.extend(running.until(Happening::Disconnected(EndReason::ProvisionAnew)).await);
    let issued = |seen: &[_]| {
        happenings(seen).iter().filter(|happening| **happening == Happening::CertificateIssued).count()
    };
    while issued(&seen) < 2 {
        seen.extend(running.until(Happening::CertificateIssued).await);
    }
    running.next(Happening::CertificateProven).await;
    running.stop().await;
    assert_eq!((keys_of(&scene).len(), registrations(&scene.plant.emulator)), (1, 3));
}

/// A key store that notes what is done, and fails a number of times.
#[derive(Clone, Debug)]
struct Failing {
    keys: FileStore,
    folder: PathBuf,
    done: Arc<Mutex<Vec<String>>>,
    reads: Arc<AtomicU32>,
    writes: Arc<AtomicU32>,
}

impl Failing {
    fn new(scene: &Scene, reads: u32, writes: u32) -> Self {
        let [reads, writes] = [reads, writes].map(|times| Arc::new(AtomicU32::new(times)));
        Self {
            keys: scene.folder.store(),
            folder: scene.folder.path().to_owned(),
            done: Arc::default(),
            reads,
            writes,
        }
    }

    /// What was done with which slot.
    fn done(&self) -> Vec<String> {
        self.done.lock().unwrap().clone()
    }

    fn note(&self, what: &str, name: &str) {
        let slot = name.rsplit('-').next().unwrap();
        self.done.lock().unwrap().push(format!("{what} {slot}"));
    }
}

fn fails(left: &AtomicU32) -> io::Result<()> {
    let failed = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if failed.is_ok() { Err(io::Error::other("the disk fails")) } else { Ok(()) }
}

impl KeyStore for Failing {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Sensitive<Vec<u8>>>>> {
        self.note("load", name);
        match fails(&self.reads) {
            Ok(()) => KeyStore::load(&self.keys, name),
            Err(why) => Box::pin(async { Err(why) }),
        }
    }

    fn save<'a>(&'a self, name: &'a str, key: Sensitive<Vec<u8>>) -> BoxFuture<'a, io::Result<()>> {
        self.note("save", name);
        match fails(&self.writes) {
            Ok(()) => KeyStore::save(&self.keys, name, key),
            Err(why) => Box::pin(async { Err(why) }),
        }
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        if self.folder.join(format!("{name}.key")).exists() {
            self.note("delete", name);
        }
        self.keys.delete(name)
    }
}

#[tokio::test]
async fn a_key_that_cannot_be_read_costs_neither_the_certificate_nor_a_registration() {
    let scene = issuing().await;
    let store = Failing::new(&scene, 1, 0);
    let mut running = Running::start(options(&scene, store));
    let failed = running.next(Happening::KeyStoreFailed).await;
    assert_eq!(failed.state, ProvisioningState::Unreachable);
    assert!(failed.error.unwrap().to_string().contains("cannot be read"));
    let seen = running.until(Happening::CertificateProven).await;
    assert!(!happenings(&seen).contains(&Happening::Disconnected(EndReason::Refused)), "{seen:?}");
    running.stop().await;
    // Two, if the machine was too slow to try again before another one was asked for.
    assert!(registrations(&scene.plant.emulator) <= 2);
}

#[tokio::test]
async fn a_first_certificate_whose_key_cannot_be_stored_is_asked_for_again() {
    let scene = issuing().await;
    let mut running = Running::start(options(&scene, Failing::new(&scene, 0, 2)));
    let seen = happenings(&running.until(Happening::CertificateProven).await);
    let failed = seen.iter().filter(|happening| **happening == Happening::KeyStoreFailed);
    assert_eq!(failed.count(), 2, "{seen:?}");
    assert_eq!(registrations(&scene.plant.emulator), 3);
}

#[tokio::test]
async fn a_private_key_whose_record_was_lost_does_not_stay_for_ever() {
    let scene = issuing().await;
    let mut running = boot(&scene);
    running.next(Happening::CertificateProven).await;
    running.stop().await;
    let orphan = keys_of(&scene);
    std::fs::remove_file(scene.folder.record()).unwrap();
    let others = scene.folder.path().join("dps-of-another-device-1.key");
    std::fs::write(&others, "key").unwrap();
    let mut running = boot(&scene);
    running.next(Happening::CertificateProven).await;
    running.stop().await;
    let mut left = keys_of(&scene);
    assert!(left.remove(&others), "it is not ours");
    assert_eq!(left.len(), 1, "{orphan:?} {left:?}");
}

#[tokio::test]
async fn a_private_key_that_is_gone_leads_to_another_certificate() {
    let scene = issuing().await;
    let mut running = boot(&scene);
    running.next(Happening::CertificateProven).await;
    running.stop().await;
    for key in keys_of(&scene) {
        std::fs::remove_file(key).unwrap();
    }
    let mut running = boot(&scene);
    let unusable = running.next(Happening::CertificateUnusable).await;
    assert!(unusable.error.unwrap().to_string().contains("has no private key"));
    running.next(Happening::CertificateProven).await;
}
