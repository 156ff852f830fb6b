//! Faults at an emulated hub. Literal packets.

use std::time::Duration;

use azure_dps_emulator::{Fault, Operation};
use azure_dps_tests::hub_device::*;
use azure_dps_tests::journal::{cause, causes};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::A;
use serde_json::json;

#[tokio::test]
async fn a_connect_can_be_refused_and_cut() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    for (fault, code) in
        [(Fault::throttle(1), 3), (Fault::status(503), 3), (Fault::status(400), 4), (Fault::status(401), 5)]
    {
        emulator.inject(fault.on(Operation::HubConnect).of("dev1")).unwrap();
        let mut device = MqttDevice::connect(emulator).await;
        assert_eq!(device.sign_in(&hub_connect()).await, code);
        assert_eq!(device.hear().await, None);
        assert_eq!(site.device(A, "dev1")["identity"]["connectionState"], "Disconnected");
    }
    for fault in [Fault::hang_up(), Fault::garbage()] {
        emulator.inject(fault.on(Operation::HubConnect)).unwrap();
        let mut device = MqttDevice::connect(emulator).await;
        device.say(&hub_connect()).await;
        assert_ne!(device.hear().await.map(|(first, _)| first), Some(0x20), "no CONNACK");
    }
    assert!(causes(emulator).contains("fault: hung up in place of the answer"));
    MqttDevice::at_hub(emulator).await;
}

#[tokio::test]
async fn the_answers_about_a_twin_can_be_harmed() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let mut device = MqttDevice::at_hub(emulator).await;
    device.listen(TWIN_REPLIES, 0).await;
    let inject = |fault: Fault| emulator.inject(fault.on(Operation::HubTwin)).unwrap();
    let get = format!("{GET_TWIN}1");

    inject(Fault::throttle(9));
    let throttled = device.request(&get, "").await;
    assert_eq!(
        (throttled.topic.as_str(), &throttled.body["errorCode"]),
        ("$iothub/twin/res/429/?$rid=1", &json!(429_001))
    );
    inject(Fault::wrong_rid());
    assert_eq!(device.request(&get, "").await.topic, "$iothub/twin/res/200/?$rid=wrong-1");
    inject(Fault::garbage());
    let garbage = device.request(&get, "").await;
    assert!(garbage.body.is_null() && !garbage.payload.is_empty());
    inject(Fault::duplicate_reply());
    assert_eq!(device.request(&get, "").await.topic, device.published().await.topic);
    inject(Fault::stall());
    device.publish(0, 0, &format!("{REPORT}2"), "{\"a\":1}").await;
    assert_eq!(
        device.request(&get, "").await.body["reported"]["a"],
        1,
        "it was carried out and not answered"
    );
    inject(Fault::hang_up());
    device.publish(0, 0, &get, "").await;
    assert_eq!(device.hear().await, None);
}

#[tokio::test]
async fn telemetry_can_stay_without_acknowledgement() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let inject = |fault: Fault| emulator.inject(fault.on(Operation::HubTelemetry)).unwrap();
    let mut device = MqttDevice::at_hub(emulator).await;

    inject(Fault::stall());
    device.publish(1, 1, EVENTS, "a").await;
    device.publish_acknowledged(2, EVENTS, "b").await;
    inject(Fault::delay(Duration::from_millis(20)));
    device.publish_acknowledged(3, EVENTS, "c").await;
    inject(Fault::throttle(1));
    device.publish(1, 4, EVENTS, "d").await;
    assert_eq!(device.hear().await, None, "the hub has no other answer");
    let mut device = MqttDevice::at_hub(emulator).await;
    inject(Fault::hang_up());
    device.publish(1, 1, EVENTS, "e").await;
    assert_eq!(device.hear().await, None);

    let bodies: Vec<_> = emulator.telemetry(A, "dev1").into_iter().map(|message| message.body).collect();
    assert_eq!(bodies, [b"a", b"b", b"c", b"e"], "the throttled one was not carried out");
}

#[tokio::test]
async fn the_rest_api_can_be_throttled() {
    let site = assigned().await;
    site.peer.emulator.inject(Fault::throttle(7).on(Operation::HubService).of("dev1")).unwrap();

    let throttled = site.get(A, "/devices/dev1").await;

    assert_eq!((throttled.status, throttled.hub_error()), (429, "ThrottlingException"));
    assert_eq!(throttled.header("retry-after"), Some("7"));
    assert_eq!(cause(&site.peer.emulator), "fault: answered in place of the service");
    assert_eq!(site.get(A, "/devices/dev1").await.status, 200);
}

#[tokio::test]
async fn a_fault_that_names_no_operation_waits_for_the_service() {
    let site = assigned().await;
    site.peer.emulator.inject(Fault::status(500)).unwrap();

    MqttDevice::at_hub(&site.peer.emulator).await.publish_acknowledged(1, EVENTS, "a").await;
    assert_eq!(site.get(A, "/devices/dev1").await.status, 200);

    assert_eq!(site.record("dev1").await.status, 500);
}
