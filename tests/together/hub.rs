//! Devices of the SDK at the emulator's hubs: every credential, over TLS and in a WebSocket, with an assignment
//! that was stored.

use std::time::SystemTime;

use azure_dps_core::models::{ApiVersion, AttestationMechanism, IndividualEnrollment};
use azure_dps_core::{CertificateRequest, ConnectionString};
use azure_dps_device::{Assignment, Credential, HubAccess};
use azure_dps_emulator::{CertificatePolicy, Emulator, Pki};
use azure_dps_service::ServiceClient;
use azure_dps_tests::endpoint_of;
use azure_dps_tests::hub_access::{HOUR, sign_in, sign_in_at, ways};
use azure_dps_tests::plant::{Over, Plant, certified, key, keys};

/// What a device does after a restart of its program: it has its credential and what it stored.
fn restarted(credential: Credential, stored: &str) -> HubAccess {
    let assignment: Assignment = serde_json::from_str(stored).unwrap();
    HubAccess::new(credential, &assignment).unwrap()
}

#[tokio::test]
async fn a_device_with_a_key_is_at_its_hub_after_a_restart_without_a_registration() {
    let plant = Plant::start(Over::HTTPS).await;
    let (primary, _) = plant.enroll("dev1").await;
    let assignment = plant.device(key("dev1", &primary)).register().await.unwrap();
    let stored = serde_json::to_string(&assignment).unwrap();
    let before = plant.emulator.billed_operations();
    for access in ways(&plant.emulator, &restarted(key("dev1", &primary), &stored)) {
        assert_eq!(sign_in(&access).await, 0);
        assert_eq!(sign_in(&access.with_model_id("dtmi:com:example:Thermostat;1")).await, 0);
    }
    assert_eq!(plant.emulator.billed_operations(), before);
}

#[tokio::test]
async fn a_password_of_another_key_or_of_the_past_is_refused() {
    let plant = Plant::start(Over::HTTPS).await;
    let (primary, _) = plant.enroll("dev1").await;
    let assignment = plant.device(key("dev1", &primary)).register().await.unwrap();
    let other = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=".parse().unwrap();
    let access = HubAccess::new(key("dev1", &other), &assignment).unwrap();
    for access in ways(&plant.emulator, &access) {
        assert_ne!(sign_in(&access).await, 0);
    }
    let access = HubAccess::new(key("dev1", &primary), &assignment).unwrap();
    for access in ways(&plant.emulator, &access) {
        assert_ne!(sign_in_at(&access, SystemTime::now() - 2 * HOUR).await.1, 0);
    }
}

#[tokio::test]
async fn a_looked_up_record_is_an_assignment() {
    let plant = Plant::start(Over::HTTPS).await;
    let (primary, _) = plant.enroll("dev1").await;
    let device = plant.device(key("dev1", &primary));
    let registered = device.register().await.unwrap();
    let looked_up = Assignment::try_from(device.lookup().await.unwrap()).unwrap();
    assert_eq!((looked_up.hub(), looked_up.summary()), (registered.hub(), None));
    let access = HubAccess::new(device.credential().clone(), &looked_up).unwrap();
    for access in ways(&plant.emulator, &access) {
        assert_eq!(sign_in(&access).await, 0);
    }
}

#[tokio::test]
async fn a_device_with_a_certificate_signs_in_with_it() {
    let plant = Plant::start(Over::HTTPS).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    plant.enroll_certificate("dev1", device.certificate_pem.as_str()).await;
    let assignment = plant.register_with(device).await.unwrap();
    let stored = serde_json::to_string(&assignment).unwrap();
    for access in ways(&plant.emulator, &restarted(certified(device), &stored)) {
        assert_eq!(sign_in(&access).await, 0);
    }
}

#[tokio::test]
async fn a_device_with_an_issued_certificate_signs_in_with_it_after_a_restart() {
    let policy = CertificatePolicy::new("plant-north", "plant-ca", "sensors").unwrap();
    let plant = Plant::with(Over::HTTPS, Emulator::builder().certificate_policy(policy)).await;
    let connection: ConnectionString = plant.emulator.service_connection_string().parse().unwrap();
    let service = ServiceClient::builder(endpoint_of(&plant.emulator), (&connection).into());
    let service = service.api_version(ApiVersion::V2026_11_01).build().unwrap();
    let record = IndividualEnrollment::new("dev1", AttestationMechanism::symmetric_key_generated())
        .with_certificate_policy("plant-north", "plant-ca", "sensors");
    let created = service.enrollments().create_or_update(&record).await.unwrap();

    let request = CertificateRequest::generate(&"dev1".parse().unwrap()).unwrap();
    let (primary, _) = keys(&created.attestation);
    let assignment = plant.device(key("dev1", &primary)).register().csr(&request).await.unwrap();
    let stored = serde_json::to_string(&assignment).unwrap();

    let assignment: Assignment = serde_json::from_str(&stored).unwrap();
    let identity = assignment.issued_certificate().unwrap().identity(&request).unwrap();
    let access = HubAccess::new(Credential::x509(identity).unwrap(), &assignment).unwrap();
    for access in ways(&plant.emulator, &access) {
        assert_eq!(sign_in(&access).await, 0);
    }
}
