//! What every transport must do, against the emulator: lists of scenarios, run over each of them.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::ErrorKind;
use azure_dps_core::models::{
    AssignedDeviceSubstatus, AttestationMechanism, EnrollmentGroup, EnrollmentStatus, IndividualEnrollment,
    ProvisioningStatus,
};
use azure_dps_device::{Credential, HubAccess};
use azure_dps_emulator::{Emulator, RefuseAt};
use azure_dps_tests::device;
use azure_dps_tests::plant::{Over, Plant, key, keys};
use azure_dps_tests::sas;
use futures_util::StreamExt as _;
use serde_json::json;

/// Each scenario over each transport, directly and through a proxy.
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        scenarios! { https Https $($name)* }
        scenarios! { mqtt Mqtt $($name)* }
        scenarios! { mqtt_ws MqttWs $($name)* }
        scenarios! { amqp Amqp $($name)* }
        scenarios! { amqp_ws AmqpWs $($name)* }
    };
    ($module:ident $protocol:ident $($name:ident)*) => {
        mod $module {
            use azure_dps_tests::plant::{Over, Protocol};

            $(#[tokio::test] async fn $name() { super::$name(Over::directly(Protocol::$protocol)).await })*

            mod by_proxy {
                use azure_dps_tests::plant::{Over, Protocol};

                $(#[tokio::test] async fn $name() {
                    super::super::$name(Over::by_proxy(Protocol::$protocol)).await
                })*
            }
        }
    };
}

mod certificates;
mod faults;
mod x509;

scenarios! {
    an_individual_device_registers_with_either_key,
    a_device_of_a_group_registers_with_its_derived_key,
    polls_go_on_until_the_device_is_assigned,
    a_payload_reaches_the_allocation_and_an_answer_comes_back,
    a_wrong_key_is_refused_and_the_journal_knows_why,
    the_group_key_itself_is_no_device_key,
    an_unknown_device_is_not_found,
    an_unknown_id_scope_is_not_found,
    a_disabled_enrollment_is_a_decision_of_the_service,
    a_device_registers_again_and_stays_where_it_is,
    a_failed_assignment_is_a_decision_of_the_service,
    the_token_for_the_hub_is_made_from_the_same_key,
    three_hundred_devices_register_side_by_side,
}

const WRONG_KEY: &str = "V0lDH1/Jm7hYubiS80zLxdQySYckB+xnN+pdrWkbNVk=";

async fn an_individual_device_registers_with_either_key(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, secondary) = plant.enroll("dev1").await;
    let first = plant.device(key("dev1", &primary)).register().await.unwrap();
    assert!(plant.emulator.hubs().iter().any(|hub| hub == first.hub()));
    assert_eq!(first.device_id(), "dev1");
    assert_eq!(first.substatus(), Some(&AssignedDeviceSubstatus::InitialAssignment));
    plant.proved("symmetric key, individual", &first);
    let second = plant.device(key("dev1", &secondary)).register().await.unwrap();
    assert_eq!(second.hub(), first.hub());
    assert_eq!(
        plant.service.registrations().get("dev1").await.unwrap().assigned_hub.as_deref(),
        Some(first.hub())
    );
}

async fn a_device_of_a_group_registers_with_its_derived_key(over: Over) {
    let plant = Plant::start(over).await;
    let group = plant.group("plant").await;
    let assignment =
        plant.device(Credential::from_group(&group, "sensor-042".parse().unwrap())).register().await.unwrap();
    assert_eq!(assignment.device_id(), "sensor-042");
    plant.proved("symmetric key, group", &assignment);
}

async fn polls_go_on_until_the_device_is_assigned(over: Over) {
    let plant = Plant::with(over, Emulator::builder().polls(3)).await;
    let (primary, _) = plant.enroll("dev1").await;
    let assignment = plant.device(key("dev1", &primary)).register().await.unwrap();
    assert_eq!(
        assignment.summary().unwrap().requests,
        5,
        "one registration, three polls that say assigning, one more"
    );
}

async fn a_payload_reaches_the_allocation_and_an_answer_comes_back(over: Over) {
    let builder = Emulator::builder().on_payload(|payload| Some(json!({ "seen": payload })));
    let plant = Plant::with(over, builder).await;
    let (primary, _) = plant.enroll("dev1").await;
    let payload = json!({ "modelId": "dtmi:x;1", "list": [1, null, "ü"] });
    let assignment = plant.device(key("dev1", &primary)).register().payload(payload.clone()).await.unwrap();
    assert_eq!(assignment.payload(), Some(&json!({ "seen": payload })));
}

async fn a_wrong_key_is_refused_and_the_journal_knows_why(over: Over) {
    let plant = Plant::start(over).await;
    plant.enroll("dev1").await;
    let error = plant.device(key("dev1", &WRONG_KEY.parse().unwrap())).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.service().unwrap().tracking_id.is_some());
    assert!(error.help().contains("does not belong to this registration id"));
    assert!(plant.cause().contains("signature"), "{}", plant.cause());
}

/// MQTT only: HTTPS has no step before the registration.
#[tokio::test]
async fn a_wrong_key_may_be_refused_when_the_device_connects() {
    let plant = Plant::with(Over::MQTT, Emulator::builder().refuse_at(RefuseAt::Connect)).await;
    let (primary, _) = plant.enroll("dev1").await;
    plant.device(key("dev1", &primary)).register().await.unwrap();
    let error = plant.device(key("dev1", &WRONG_KEY.parse().unwrap())).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.to_string().contains("CONNACK 5"), "{error}");
    assert!(error.help().contains("does not belong to this registration id"));
    assert!(plant.cause().contains("signature"), "{}", plant.cause());
}

async fn the_group_key_itself_is_no_device_key(over: Over) {
    let plant = Plant::start(over).await;
    let group = EnrollmentGroup::new("plant", AttestationMechanism::symmetric_key_generated());
    let created = plant.service.enrollment_groups().create_or_update(&group).await.unwrap();
    let group_key = keys(&created.attestation).0;
    let error = plant.device(key("sensor-042", &group_key)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
}

async fn an_unknown_device_is_not_found(over: Over) {
    let plant = Plant::start(over).await;
    let error = plant.device(key("nobody", &WRONG_KEY.parse().unwrap())).register().await.unwrap_err();
    assert!(error.is_not_found(), "{error}");
    assert_eq!(error.service().unwrap().code, Some(404201));
}

async fn an_unknown_id_scope_is_not_found(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, _) = plant.enroll("dev1").await;
    let error = device("0neUNKNOWN", key("dev1", &primary), Arc::clone(&plant.transport))
        .register()
        .await
        .unwrap_err();
    assert!(error.is_not_found(), "{error}");
}

async fn a_disabled_enrollment_is_a_decision_of_the_service(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, _) = plant.enroll("dev1").await;
    let disable = |e: &mut IndividualEnrollment| e.provisioning_status = Some(ProvisioningStatus::Disabled);
    plant.service.enrollments().update("dev1", disable).await.unwrap();
    let error = plant.device(key("dev1", &primary)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registration);
    assert_eq!(error.state().unwrap().status, Some(EnrollmentStatus::Disabled));
    assert!(error.help().contains("enable it"));
}

async fn a_device_registers_again_and_stays_where_it_is(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    let first = client.register().await.unwrap();
    let second = client.register().await.unwrap();
    assert_eq!((first.hub(), first.device_id()), (second.hub(), second.device_id()));
}

#[tokio::test]
async fn a_lookup_gives_the_record_without_registering() {
    let plant = Plant::start(Over::HTTPS).await;
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
    let plant = Plant::start(Over::HTTPS).await;
    let group = plant.group("plant").await;
    let before = plant.emulator.connections();
    for n in 0..10 {
        let credential = Credential::from_group(&group, format!("sensor-{n}").parse().unwrap());
        plant.device(credential).register().await.unwrap();
    }
    assert_eq!(plant.emulator.connections() - before, 1);
}

async fn a_failed_assignment_is_a_decision_of_the_service(over: Over) {
    let plant = Plant::with(over, Emulator::builder().without_hubs()).await;
    let (primary, _) = plant.enroll("dev1").await;
    let error = plant.device(key("dev1", &primary)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registration);
    let state = error.state().unwrap();
    assert_eq!((&state.status, state.error_code), (&Some(EnrollmentStatus::Failed), Some(401001)));
    assert!(error.to_string().contains("IoTHub not found"), "{error}");
    assert!(error.help().contains("link a hub"), "{}", error.help());
}

async fn the_token_for_the_hub_is_made_from_the_same_key(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    let assignment = client.register().await.unwrap();
    let now = time::OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap();
    let access = HubAccess::new(client.credential().clone(), &assignment).unwrap();
    let sign_in = access.sign_in(Duration::from_secs(3600), now).unwrap();
    let expected = sas::for_hub(&primary.to_base64(), assignment.hub(), "dev1", 1_767_229_200);
    assert_eq!(sign_in.password(), Some(expected.as_str()), "as another program signs it");
    assert_eq!(access.user_name(), format!("{}/dev1/?api-version=2021-04-12", assignment.hub()));
}

async fn three_hundred_devices_register_side_by_side(over: Over) {
    let plant = Plant::start(over).await;
    let group = plant.group("plant").await;
    let devices = (0..300).map(|n| {
        let credential = Credential::from_group(&group, format!("sensor-{n}").parse().unwrap());
        let client = plant.device(credential);
        async move { client.register().await.unwrap().hub().to_owned() }
    });
    let mut hubs = std::collections::HashMap::<_, u32>::new();
    // A machine that serves all 300 at once may serve none of them in time.
    let mut assigned = futures_util::stream::iter(devices).buffer_unordered(64);
    while let Some(hub) = assigned.next().await {
        *hubs.entry(hub).or_default() += 1;
    }
    assert_eq!(hubs.len(), 2);
    assert!(hubs.values().all(|count| *count > 100), "evenly weighted: {hubs:?}");
}
