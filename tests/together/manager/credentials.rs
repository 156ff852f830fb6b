//! Several credentials, keys that are rotated, and devices that neither the service nor the hub accepts.

use azure_dps_core::models::{
    AttestationMechanism, IndividualEnrollment, ProvisioningStatus, SymmetricKeyAttestation,
};
use azure_dps_device::manager::{EndReason, Happening, ProvisioningState};
use azure_dps_tests::managed::{Running, happenings};
use azure_dps_tests::plant::{key, keys};

use super::Scene;

const WRONG: &str = "V0lDH1/Jm7hYubiS80zLxdQySYckB+xnN+pdrWkbNVk=";

#[tokio::test]
async fn the_credential_that_works_is_found_at_once_and_tried_first_after_a_reboot() {
    let mut scene = Scene::start().await;
    let right = std::mem::replace(&mut scene.credential, key("dev1", &WRONG.parse().unwrap()));
    let options = || scene.options().with_fallback(right.clone());
    let mut running = Running::start(options());
    let seen = running.until(Happening::CredentialChanged).await;
    assert_eq!(
        happenings(&seen),
        [
            Happening::Started,
            Happening::Registering,
            Happening::RegistrationFailed,
            Happening::Registering,
            Happening::Assigned,
            Happening::CredentialChanged
        ]
    );
    running.online().await;
    running.stop().await;
    let mut running = Running::start(options());
    assert!(!happenings(&running.online().await).contains(&Happening::CredentialChanged));
    assert_eq!(running.manager.snapshot().credential, 1);
    assert_eq!(scene.seen(), ["register", "register"], "the hub refused none");
}

#[tokio::test]
async fn a_device_whose_primary_key_was_rotated_goes_on_with_the_secondary_and_keeps_its_assignment() {
    let scene = Scene::start().await;
    let record = scene.plant.service.enrollments().attestation_mechanism("dev1").await.unwrap();
    let (_, secondary) = keys(&record);
    let options = || scene.options().with_fallback(key("dev1", &secondary));
    let mut running = Running::start(options());
    running.online().await;
    let [here, _] = scene.hubs(&running);
    let rotate = |record: &mut IndividualEnrollment| {
        let new = SymmetricKeyAttestation::new(WRONG, &**secondary.to_base64());
        record.attestation = AttestationMechanism::symmetric_key(new);
    };
    scene.plant.service.enrollments().update("dev1", rotate).await.unwrap();
    scene.plant.emulator.delete_hub_device(&here, "dev1");
    running.next(Happening::CredentialChanged).await;
    running.online().await;
    let snapshot = running.manager.snapshot();
    assert_eq!((snapshot.credential, snapshot.hub), (1, Some(here)));
}

#[tokio::test]
async fn a_device_that_is_accepted_nowhere_keeps_trying_on_the_slow_ladders_and_loses_nothing() {
    let scene = Scene::start().await;
    let mut running = scene.online().await;
    let [here, _] = scene.hubs(&running);
    scene.plant.service.enrollments().delete("dev1").await.unwrap();
    scene.plant.emulator.delete_hub_device(&here, "dev1");
    let mut failed = running.next(Happening::RegistrationFailed).await;
    for _ in 0..3 {
        // Each failure at the service is followed by an attempt at the hub.
        running.next(Happening::Disconnected(EndReason::Refused)).await;
        failed = running.next(Happening::RegistrationFailed).await;
    }
    assert!(failed.error.is_some());
    assert!(failed.next_attempt.is_some());
    running.stop().await;
    let record = std::fs::read_to_string(scene.folder.record()).unwrap();
    assert!(record.contains(&here), "{record}");

    let mechanism = AttestationMechanism::symmetric_key_generated();
    let record = IndividualEnrollment::new("dev1", mechanism);
    let created = scene.plant.service.enrollments().create_or_update(&record).await.unwrap();
    let mut scene = scene;
    scene.credential = key("dev1", &keys(&created.attestation).0);
    scene.online().await;
}

#[tokio::test]
async fn a_device_whose_clock_is_years_off_is_refused_and_comes_back_when_it_is_set() {
    let scene = Scene::start().await;
    let mut running = scene.online().await;
    let [here, _] = scene.hubs(&running);
    // Its tokens have expired long ago, by the clock of the service and of its hub.
    scene.plant.emulator.advance_clock(std::time::Duration::from_secs(10 * 365 * 24 * 3600));
    scene.plant.emulator.disconnect(&here, "dev1").unwrap();
    running.next(Happening::Disconnected(EndReason::Refused)).await;
    let failed = running.next(Happening::RegistrationFailed).await;
    assert!(failed.error.unwrap().help().contains("clock"));
    scene.plant.emulator.reset_clock();
    running.online().await;
    assert_eq!(scene.hubs(&running)[0], here);
}

#[tokio::test]
async fn a_device_that_is_not_enrolled_yet_or_disabled_is_stuck_until_it_is_enrolled_or_enabled() {
    let scene = Scene::start().await;
    let enrollments = scene.plant.service.enrollments();
    let (primary, secondary) = keys(&enrollments.attestation_mechanism("dev1").await.unwrap());
    enrollments.delete("dev1").await.unwrap();
    let mut running = scene.boot();
    for (reason, next) in
        [("no enrollment", ProvisioningStatus::Disabled), ("is disabled", ProvisioningStatus::Enabled)]
    {
        // An attempt that was under way may have seen the enrollment before.
        let failed = loop {
            let failed = running.next(Happening::RegistrationFailed).await;
            if failed.error.as_ref().unwrap().help().contains(reason) {
                break failed;
            }
        };
        assert_eq!(failed.state, ProvisioningState::Stuck);
        assert!(failed.next_attempt.is_some());
        let [primary, secondary] = [&primary, &secondary].map(|key| key.to_base64().to_string());
        let mechanism = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(primary, secondary));
        let record = IndividualEnrollment::new("dev1", mechanism).with_provisioning_status(next);
        let changed = match record.provisioning_status {
            Some(ProvisioningStatus::Disabled) => enrollments.create_or_update(&record).await,
            _ => enrollments.replace(&record).await,
        };
        changed.unwrap();
    }
    running.online().await;
}
