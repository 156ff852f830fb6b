//! Clocks that are wrong: that of the device, as after a boot without a battery, and that of the service.

use std::time::{Duration, SystemTime};

use azure_dps_core::Identity;
use azure_dps_device::Credential;
use azure_dps_device::manager::{EndReason, Happening, ProvisioningState};
use azure_dps_tests::managed::registrations;
use rcgen::{CertificateParams, DnType, KeyPair};

use super::{Scene, certificates};

/// A credential whose certificate becomes valid tomorrow: the clock of the device is a day behind.
fn early() -> Credential {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "dev1");
    let now = time::OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now + time::Duration::DAY, now + time::Duration::DAY * 30);
    let key = KeyPair::generate().unwrap();
    let leaf = params.self_signed(&key).unwrap();
    Credential::x509(Identity::from_pem(leaf.pem(), key.serialize_pem()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_new_device_whose_clock_is_behind_waits_without_a_refusal() {
    let mut scene = Scene::start().await;
    scene.credential = early();
    let mut running = scene.boot();
    for _ in 0..5 {
        let failed = running.next(Happening::RegistrationFailed).await;
        assert_eq!(failed.state, ProvisioningState::Waiting);
        assert!(failed.error.unwrap().to_string().contains("is not valid yet"));
    }
    assert!(scene.seen().is_empty());
}

#[tokio::test]
async fn a_device_whose_clock_is_behind_keeps_its_assignment_and_asks_for_no_other_one() {
    let mut scene = Scene::start().await;
    let mut running = scene.boot();
    running.next(Happening::Connected).await;
    running.stop().await;
    scene.credential = early();
    let mut running = scene.boot();
    for _ in 0..5 {
        let ended = running.next(Happening::Disconnected(EndReason::Unreachable)).await;
        assert_eq!(ended.state, ProvisioningState::Unreachable);
        assert!(ended.error.unwrap().to_string().contains("is not valid yet"));
    }
    assert_eq!(scene.seen(), ["register"], "of the first boot");
}

#[tokio::test]
async fn an_issued_certificate_that_is_not_valid_yet_is_kept() {
    let scene = certificates::issuing().await;
    scene.plant.emulator.set_clock(SystemTime::now() + Duration::from_secs(20 * 60));
    for _ in 0..2 {
        let mut running = certificates::boot(&scene);
        let ended = running.next(Happening::Disconnected(EndReason::Unreachable)).await;
        assert!(ended.error.unwrap().to_string().contains("is not valid yet"));
        assert!(running.manager.snapshot().certificate_expires.is_some());
        running.stop().await;
        assert_eq!((registrations(&scene.plant.emulator), certificates::keys_of(&scene).len()), (1, 1));
    }
}
