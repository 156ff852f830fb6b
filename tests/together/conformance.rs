//! What every transport must do, against the emulator: one list of scenarios, run over each of them.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use azure_dps_core::models::{
    AssignedDeviceSubstatus, AttestationMechanism, EnrollmentGroup, EnrollmentStatus, IndividualEnrollment,
    ProvisioningStatus,
};
use azure_dps_core::{ErrorKind, GroupKey, Proxy, Sensitive, SharedKey};
use azure_dps_device::transport::Transport;
use azure_dps_device::{Amqp, Assignment, Credential, DeviceClient, Https, Mqtt};
use azure_dps_emulator::{Emulator, EmulatorBuilder, Fault, Operation as Faulty, RefuseAt};
use azure_dps_service::ServiceClient;
use azure_dps_tests::{OpenProxy, Shown, device, endpoint_of, evidence, service_of};
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
            use super::{Over, Protocol};

            $(#[tokio::test] async fn $name() { super::$name(Over::directly(Protocol::$protocol)).await })*

            mod by_proxy {
                use super::{Over, Protocol};

                $(#[tokio::test] async fn $name() {
                    super::super::$name(Over::by_proxy(Protocol::$protocol)).await
                })*
            }
        }
    };
}

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
    a_deadline_ends_a_registration_that_is_never_assigned,
    a_peer_that_stops_in_the_middle_is_a_typed_error,
    a_failed_assignment_is_a_decision_of_the_service,
    throttled_requests_are_repeated,
    throttling_without_end_is_one_error,
    faults_of_the_service_are_waited_out,
    a_peer_that_hangs_up_is_called_again,
    garbage_ends_the_registration,
    a_peer_that_stalls_ends_with_the_deadline,
    every_answer_comes_later_by_the_latency,
    an_answer_that_comes_later_holds_no_other_device_up,
    a_token_that_expired_by_the_service_clock_is_refused,
    the_token_for_the_hub_is_made_from_the_same_key,
    three_hundred_devices_register_side_by_side,
}

const SDK: &str = concat!("azure-dps-device ", env!("CARGO_PKG_VERSION"));
const WRONG_KEY: &str = "V0lDH1/Jm7hYubiS80zLxdQySYckB+xnN+pdrWkbNVk=";

/// What a scenario runs over.
#[derive(Clone, Copy, Debug)]
struct Over {
    protocol: Protocol,
    proxied: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Https,
    Mqtt,
    MqttWs,
    Amqp,
    AmqpWs,
}

impl Over {
    const HTTPS: Self = Self::directly(Protocol::Https);
    const MQTT: Self = Self::directly(Protocol::Mqtt);

    const fn directly(protocol: Protocol) -> Self {
        Self { protocol, proxied: false }
    }

    const fn by_proxy(protocol: Protocol) -> Self {
        Self { protocol, proxied: true }
    }
}

/// An emulator, the back end's client and one transport, which all devices of a test share.
struct Plant {
    emulator: Shown,
    service: ServiceClient,
    transport: Arc<dyn Transport>,
    /// Ends with the test.
    _proxy: Option<OpenProxy>,
}

impl Plant {
    async fn start(over: Over) -> Self {
        Self::with(over, Emulator::builder()).await
    }

    async fn with(over: Over, builder: EmulatorBuilder) -> Self {
        let emulator = Shown(builder.start().await.unwrap());
        let service = service_of(&emulator);
        let proxy = if over.proxied { Some(OpenProxy::start().await) } else { None };
        let endpoint = match &proxy {
            Some(proxy) => endpoint_of(&emulator).with_proxy(Proxy::new(&proxy.url()).unwrap()),
            None => endpoint_of(&emulator),
        };
        let transport: Arc<dyn Transport> = match over.protocol {
            Protocol::Https => Arc::new(Https::new(endpoint)),
            Protocol::Mqtt => Arc::new(Mqtt::new(endpoint.with_port(emulator.mqtt_port()))),
            Protocol::MqttWs => Arc::new(Mqtt::new(endpoint).with_websocket()),
            Protocol::Amqp => Arc::new(Amqp::new(endpoint.with_port(emulator.amqp_port()))),
            Protocol::AmqpWs => Arc::new(Amqp::new(endpoint).with_websocket()),
        };
        Self { emulator, service, transport, _proxy: proxy }
    }

    fn device(&self, credential: Credential) -> DeviceClient {
        device(self.emulator.id_scope(), credential, Arc::clone(&self.transport))
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

    /// Notes that a device of this kind registered.
    fn proved(&self, attestation: &str, assignment: &Assignment) {
        evidence::registered(SDK, assignment.summary().transport, attestation);
    }

    /// The real cause of the last refusal.
    fn cause(&self) -> String {
        self.emulator.journal().into_iter().rev().find_map(|entry| entry.cause).unwrap()
    }
}

impl Drop for Plant {
    fn drop(&mut self) {
        evidence::service_calls(concat!("azure-dps-service ", env!("CARGO_PKG_VERSION")), &self.emulator);
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
        assignment.summary().requests,
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

async fn a_deadline_ends_a_registration_that_is_never_assigned(over: Over) {
    let plant = Plant::with(over, Emulator::builder().polls(u32::MAX).retry_after(1)).await;
    let (primary, _) = plant.enroll("dev1").await;
    let error =
        plant.device(key("dev1", &primary)).register().timeout(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.operation_id().is_some());
    assert!(error.to_string().contains("not assigned yet"), "{error}");
}

async fn a_peer_that_stops_in_the_middle_is_a_typed_error(over: Over) {
    let plant = Plant::with(over, Emulator::builder().polls(u32::MAX)).await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    let registration = tokio::spawn(async move { client.register().timeout(Duration::from_secs(60)).await });
    while plant.emulator.journal().iter().filter(|entry| entry.id.as_deref() == Some("dev1")).count() < 4 {
        tokio::task::yield_now().await;
    }
    drop(plant);
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.operation_id().is_some());
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

async fn throttled_requests_are_repeated(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::throttle(0).on(operation).of("dev1").times(2)).unwrap();
        let assignment = plant.device(key("dev1", &primary)).register().await.unwrap();
        assert_eq!((assignment.summary().requests, assignment.summary().connects), (4, 1), "{operation:?}");
    }
}

async fn throttling_without_end_is_one_error(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::throttle(1).on(operation).times(u32::MAX)).unwrap();
        let limit = Duration::from_secs(5);
        let error = plant.device(key("dev1", &primary)).register().timeout(limit).await.unwrap_err();
        assert!(error.is_throttled() && error.is_retryable(), "{operation:?}: {error}");
    }
}

async fn faults_of_the_service_are_waited_out(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::status(503).on(operation)).unwrap();
        plant.device(key("dev1", &primary)).register().await.unwrap();
    }
}

async fn a_peer_that_hangs_up_is_called_again(over: Over) {
    for operation in [Faulty::Connect, Faulty::Register, Faulty::Poll] {
        if operation == Faulty::Connect && over.protocol == Protocol::Https {
            continue; // HTTPS has no step before the registration.
        }
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::hang_up().on(operation).of("dev1")).unwrap();
        let assignment = plant.device(key("dev1", &primary)).register().await.unwrap();
        assert_eq!(assignment.summary().connects, 2, "{operation:?}");
    }
}

async fn garbage_ends_the_registration(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::garbage().on(operation).of("dev1")).unwrap();
        let error = plant.device(key("dev1", &primary)).register().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{operation:?}");
    }
}

async fn a_peer_that_stalls_ends_with_the_deadline(over: Over) {
    for operation in [Faulty::Register, Faulty::Poll] {
        let plant = Plant::start(over).await;
        let (primary, _) = plant.enroll("dev1").await;
        plant.emulator.inject(Fault::stall().on(operation).of("dev1")).unwrap();
        let registration = plant.device(key("dev1", &primary));
        let error = registration.register().timeout(Duration::from_millis(300)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{operation:?}");
        assert_eq!(error.operation_id().is_some(), operation == Faulty::Poll);
    }
}

async fn every_answer_comes_later_by_the_latency(over: Over) {
    let latency = Duration::from_millis(60);
    let plant = Plant::with(over, Emulator::builder().latency(latency)).await;
    let begun = Instant::now();
    let (primary, _) = plant.enroll("dev1").await;
    assert!(begun.elapsed() >= latency, "the service API");

    let begun = Instant::now();
    plant.device(key("dev1", &primary)).register().await.unwrap();

    // Over MQTT and AMQP there is the answer to the login too.
    let answers = if over.protocol == Protocol::Https { 2 } else { 3 };
    assert!(begun.elapsed() >= latency * answers, "{:?}", begun.elapsed());
}

async fn an_answer_that_comes_later_holds_no_other_device_up(over: Over) {
    let plant = Plant::start(over).await;
    let group = plant.group("plant").await;
    let client = |id: &str| plant.device(Credential::from_group(&group, id.parse().unwrap()));
    plant.emulator.inject(Fault::delay(Duration::from_millis(300)).on(Faulty::Register).of("late")).unwrap();
    plant.emulator.inject(Fault::delay(Duration::from_secs(3_600)).on(Faulty::Register).of("never")).unwrap();
    let (never, late) = (client("never"), client("late"));

    let waiting = tokio::spawn(async move { never.register().await });
    let begun = Instant::now();
    late.register().await.unwrap();
    let took = begun.elapsed();
    client("other").register().await.unwrap();

    assert!(took >= Duration::from_millis(300), "{took:?}");
    let causes: Vec<_> = plant.emulator.journal().into_iter().filter_map(|entry| entry.cause).collect();
    assert!(causes.contains(&"fault: the answer is sent 300ms later".to_owned()), "{causes:?}");
    waiting.abort();
}

async fn a_token_that_expired_by_the_service_clock_is_refused(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, _) = plant.enroll("dev1").await;
    plant.emulator.advance_clock(Duration::from_secs(2 * 3600));
    let error = plant.device(key("dev1", &primary)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert!(error.help().contains("the clock is right"), "{}", error.help());
    assert!(plant.cause().contains("expired"), "{}", plant.cause());
}

/// MQTT only: replies over HTTPS need no matching.
#[tokio::test]
async fn replies_to_nobody_and_replies_twice_do_no_harm() {
    let plant = Plant::start(Over::MQTT).await;
    let (primary, _) = plant.enroll("dev1").await;
    plant.emulator.inject(Fault::duplicate_reply().times(2)).unwrap();
    plant.device(key("dev1", &primary)).register().await.unwrap();

    plant.emulator.inject(Fault::wrong_rid().on(Faulty::Register)).unwrap();
    let client = plant.device(key("dev1", &primary));
    let error = client.register().timeout(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
}

async fn the_token_for_the_hub_is_made_from_the_same_key(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));
    let assignment = client.register().await.unwrap();
    let now = time::OffsetDateTime::from_unix_timestamp(1_767_225_600).unwrap();
    let token = client.credential().hub_token(&assignment, Duration::from_secs(3600), now).unwrap();
    let resource = format!("SharedAccessSignature sr={}%2Fdevices%2Fdev1&sig=", assignment.hub());
    assert!(token.expose().starts_with(&resource) && token.expose().ends_with("&se=1767229200"));
    assert_eq!(assignment.hub_mqtt_user_name(), format!("{}/dev1/?api-version=2021-04-12", assignment.hub()));
}

async fn three_hundred_devices_register_side_by_side(over: Over) {
    let plant = Plant::start(over).await;
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
