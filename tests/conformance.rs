//! What every transport must do, against the emulator: one list of scenarios. HTTPS is the transport so far.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::time::Duration;

use azure_dps_core::models::{
    AssignedDeviceSubstatus, AttestationMechanism, EnrollmentGroup, EnrollmentStatus, IndividualEnrollment,
    ProvisioningStatus,
};
use azure_dps_core::{ErrorKind, GroupKey, Sensitive, SharedKey};
use azure_dps_device::{Credential, DeviceClient, Https};
use azure_dps_emulator::{Emulator, EmulatorBuilder};
use azure_dps_service::ServiceClient;
use azure_dps_tests::{Shown, device, endpoint_of, service_of};
use serde_json::json;

const WRONG_KEY: &str = "V0lDH1/Jm7hYubiS80zLxdQySYckB+xnN+pdrWkbNVk=";

/// An emulator, the back end's client and one transport, which all devices of a test share.
struct Plant {
    emulator: Shown,
    service: ServiceClient,
    https: Https,
}

impl Plant {
    async fn start() -> Self {
        Self::with(Emulator::builder()).await
    }

    async fn with(builder: EmulatorBuilder) -> Self {
        let emulator = Shown(builder.start().await.unwrap());
        let (service, https) = (service_of(&emulator), Https::new(endpoint_of(&emulator)));
        Self { emulator, service, https }
    }

    fn device(&self, credential: Credential) -> DeviceClient {
        device(self.emulator.id_scope(), credential, self.https.clone())
    }

    /// Enrolls one device and gives its keys.
    async fn enroll(&self, id: &str) -> (SharedKey, SharedKey) {
        let enrollment = IndividualEnrollment::new(id, AttestationMechanism::symmetric_key_generated());
        let created = self.service.enrollments().create_or_update(&enrollment).await.unwrap();
        keys(&created.attestation)
    }

    /// Makes a group and gives its primary key.
    async fn group(&self, id: &str) -> GroupKey {
        let group = EnrollmentGroup::new(id, AttestationMechanism::symmetric_key_generated());
        let created = self.service.enrollment_groups().create_or_update(&group).await.unwrap();
        keys(&created.attestation).0.to_base64().parse().unwrap()
    }

    /// The real cause of the last refusal.
    fn cause(&self) -> String {
        self.emulator.journal().into_iter().rev().find_map(|entry| entry.cause).unwrap()
    }
}

fn keys(attestation: &AttestationMechanism) -> (SharedKey, SharedKey) {
    let keys = attestation.as_symmetric_key().unwrap();
    let parse = |key: &Option<Sensitive<String>>| key.as_deref().unwrap().parse().unwrap();
    (parse(&keys.primary_key), parse(&keys.secondary_key))
}

fn key(id: &str, key: &SharedKey) -> Credential {
    Credential::symmetric_key(id.parse().unwrap(), key.clone())
}

#[tokio::test]
async fn an_individual_device_registers_with_either_key() {
    let plant = Plant::start().await;
    let (primary, secondary) = plant.enroll("dev1").await;
    let first = plant.device(key("dev1", &primary)).register().await.unwrap();
    assert!(plant.emulator.hubs().iter().any(|hub| hub == first.hub()));
    assert_eq!(first.device_id(), "dev1");
    assert_eq!(first.substatus(), Some(&AssignedDeviceSubstatus::InitialAssignment));
    let second = plant.device(key("dev1", &secondary)).register().await.unwrap();
    assert_eq!(second.hub(), first.hub());
    assert_eq!(
        plant.service.registrations().get("dev1").await.unwrap().assigned_hub.as_deref(),
        Some(first.hub())
    );
}

#[tokio::test]
async fn a_device_of_a_group_registers_with_its_derived_key() {
    let plant = Plant::start().await;
    let group = plant.group("plant").await;
    let assignment =
        plant.device(Credential::from_group(&group, "sensor-042".parse().unwrap())).register().await.unwrap();
    assert_eq!(assignment.device_id(), "sensor-042");
    let symmetric = assignment.state().symmetric_key.as_ref().unwrap();
    assert_eq!(symmetric.enrollment_group_id.as_deref(), Some("plant"));
}

#[tokio::test]
async fn polls_go_on_until_the_device_is_assigned() {
    let plant = Plant::with(Emulator::builder().polls(3)).await;
    let (primary, _) = plant.enroll("dev1").await;
    let assignment = plant.device(key("dev1", &primary)).register().await.unwrap();
    assert_eq!(
        assignment.summary().requests,
        5,
        "one registration, three polls that say assigning, one more"
    );
}

#[tokio::test]
async fn a_payload_reaches_the_allocation_and_an_answer_comes_back() {
    let builder = Emulator::builder().on_payload(|payload| Some(json!({ "seen": payload })));
    let plant = Plant::with(builder).await;
    let (primary, _) = plant.enroll("dev1").await;
    let payload = json!({ "modelId": "dtmi:x;1", "list": [1, null, "ü"] });
    let assignment = plant.device(key("dev1", &primary)).register().payload(payload.clone()).await.unwrap();
    assert_eq!(assignment.payload(), Some(&json!({ "seen": payload })));
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_the_journal_knows_why() {
    let plant = Plant::start().await;
    plant.enroll("dev1").await;
    let error = plant.device(key("dev1", &WRONG_KEY.parse().unwrap())).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.service().unwrap().tracking_id.is_some());
    assert!(error.help().contains("does not belong to this registration id"));
    assert!(plant.cause().contains("signature"), "{}", plant.cause());
}

#[tokio::test]
async fn the_group_key_itself_is_no_device_key() {
    let plant = Plant::start().await;
    let group = EnrollmentGroup::new("plant", AttestationMechanism::symmetric_key_generated());
    let created = plant.service.enrollment_groups().create_or_update(&group).await.unwrap();
    let group_key = keys(&created.attestation).0;
    let error = plant.device(key("sensor-042", &group_key)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn an_unknown_device_is_not_found() {
    let plant = Plant::start().await;
    let error = plant.device(key("nobody", &WRONG_KEY.parse().unwrap())).register().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(error.service().unwrap().code, Some(404201));
}

#[tokio::test]
async fn an_unknown_id_scope_is_not_found() {
    let plant = Plant::start().await;
    let (primary, _) = plant.enroll("dev1").await;
    let error =
        device("0neUNKNOWN", key("dev1", &primary), plant.https.clone()).register().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

#[tokio::test]
async fn a_disabled_enrollment_is_a_decision_of_the_service() {
    let plant = Plant::start().await;
    let (primary, _) = plant.enroll("dev1").await;
    let disable = |e: &mut IndividualEnrollment| e.provisioning_status = Some(ProvisioningStatus::Disabled);
    plant.service.enrollments().update("dev1", disable).await.unwrap();
    let error = plant.device(key("dev1", &primary)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registration);
    assert_eq!(error.state().unwrap().status, Some(EnrollmentStatus::Disabled));
    assert!(error.help().contains("enable it"));
}

#[tokio::test]
async fn a_device_registers_again_and_stays_where_it_is() {
    let plant = Plant::start().await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    let first = client.register().await.unwrap();
    let second = client.register().await.unwrap();
    assert_eq!((first.hub(), first.device_id()), (second.hub(), second.device_id()));
}

#[tokio::test]
async fn a_lookup_gives_the_record_without_registering() {
    let plant = Plant::start().await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    assert!(client.lookup().await.unwrap_err().is_not_found());
    let assignment = client.register().await.unwrap();
    let before = plant.service.registrations().get("dev1").await.unwrap();
    let found = client.lookup().await.unwrap();
    assert_eq!(found.assigned_hub.as_deref(), Some(assignment.hub()));
    assert_eq!(plant.service.registrations().get("dev1").await.unwrap().etag, before.etag);
}

#[tokio::test]
async fn connections_are_shared_by_all_devices_of_a_transport() {
    let plant = Plant::start().await;
    let group = plant.group("plant").await;
    let before = plant.emulator.connections();
    for n in 0..10 {
        let credential = Credential::from_group(&group, format!("sensor-{n}").parse().unwrap());
        plant.device(credential).register().await.unwrap();
    }
    assert_eq!(plant.emulator.connections() - before, 1);
}

#[tokio::test]
async fn a_deadline_ends_a_registration_that_is_never_assigned() {
    let plant = Plant::with(Emulator::builder().polls(u32::MAX).retry_after(1)).await;
    let (primary, _) = plant.enroll("dev1").await;
    let error =
        plant.device(key("dev1", &primary)).register().timeout(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.operation_id().is_some());
    assert!(error.to_string().contains("not assigned yet"), "{error}");
}

#[tokio::test]
async fn a_peer_that_stops_in_the_middle_is_a_typed_error() {
    let plant = Plant::with(Emulator::builder().polls(u32::MAX)).await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    let registration = tokio::spawn(async move { client.register().timeout(Duration::from_secs(60)).await });
    while !plant.emulator.journal().iter().any(|entry| entry.method == "GET") {
        tokio::task::yield_now().await;
    }
    drop(plant);
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.operation_id().is_some());
}

#[tokio::test]
async fn the_token_for_the_hub_is_made_from_the_same_key() {
    let plant = Plant::start().await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    let assignment = client.register().await.unwrap();
    let now = time::OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap();
    let token = client.credential().hub_token(&assignment, Duration::from_secs(3600), now).unwrap();
    let resource = format!("SharedAccessSignature sr={}%2Fdevices%2Fdev1&sig=", assignment.hub());
    assert!(token.expose().starts_with(&resource) && token.expose().ends_with("&se=1767229200"));
    assert_eq!(assignment.hub_mqtt_user_name(), format!("{}/dev1/?api-version=2021-04-12", assignment.hub()));
}

#[tokio::test]
async fn three_hundred_devices_register_side_by_side() {
    let plant = Plant::start().await;
    let group = plant.group("plant").await;
    let devices = (0..300).map(|n| {
        let credential = Credential::from_group(&group, format!("sensor-{n}").parse().unwrap());
        let client = plant.device(credential);
        tokio::spawn(async move { client.register().await.unwrap().hub().to_owned() })
    });
    let mut hubs = std::collections::HashMap::<_, u32>::new();
    for device in devices.collect::<Vec<_>>() {
        *hubs.entry(device.await.unwrap()).or_default() += 1;
    }
    assert_eq!(hubs.len(), 2);
    assert!(hubs.values().all(|count| *count > 100), "evenly weighted: {hubs:?}");
}
