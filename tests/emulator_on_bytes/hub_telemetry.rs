//! The telemetry of devices at an emulated hub. Literal topics and bodies.

use std::time::Duration;

use azure_dps_emulator::HubCallError;
use azure_dps_tests::hub_device::*;
use azure_dps_tests::journal::last;
use azure_dps_tests::mqtt_bytes::{packet, text};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, B};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn telemetry_is_kept_with_its_decoded_properties() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let mut device = MqttDevice::at_hub(emulator).await;
    let topic = format!("{EVENTS}%24.ct=application%2Fjson&%24.ce=utf-8&$.mid=m%201&alarm=a%26b&bare");

    device.publish_acknowledged(5, &topic, "{\"t\":21}").await;

    let kept = emulator.telemetry("HUB-A.example", "dev1");
    let [message] = kept.as_slice() else { panic!("{kept:?}") };
    assert_eq!((message.sequence, message.hub.as_str(), message.device_id.as_str()), (1, A, "dev1"));
    assert_eq!(message.body, b"{\"t\":21}");
    assert_eq!(message.system_property("content-type"), Some("application/json"));
    assert_eq!(message.system_property("content-encoding"), Some("utf-8"));
    assert_eq!(message.system_property("message-id"), Some("m 1"));
    assert_eq!((message.property("alarm"), message.property("bare")), (Some("a&b"), Some("")));
    assert!(emulator.telemetry(B, "dev1").is_empty() && emulator.telemetry(A, "DEV1").is_empty());
    let entry = last(emulator);
    assert_eq!((entry.target.as_str(), entry.status), ("devices/dev1/messages/events", 204), "no properties");
}

#[tokio::test]
async fn telemetry_without_acknowledgement_and_with_retain_arrives_too() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let mut device = MqttDevice::at_hub(emulator).await;

    device.say(&packet(0x31, &[&text("devices/dev1/messages/events"), b"\xff\x00"])).await;
    let first = emulator.wait_for_telemetry(A, "dev1", 0, SOON).await.unwrap();
    device.publish(0, 0, EVENTS, "").await;
    let second = emulator.wait_for_telemetry(A, "dev1", first.sequence, SOON).await.unwrap();

    assert_eq!((first.body.as_slice(), first.property("mqtt-retain")), (&b"\xff\x00"[..], Some("true")));
    assert_eq!((second.body.len(), second.properties.len()), (0, 0));
}

#[tokio::test]
async fn waiting_for_telemetry_ends_at_its_deadline_and_survives_a_reset() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let short = Duration::from_millis(50);

    let none = emulator.wait_for_telemetry(A, "dev1", 0, short).await;
    assert_eq!(none, Err(HubCallError::NoTelemetry(short)));

    let wait = emulator.wait_for_telemetry(A, "dev1", 0, Duration::MAX);
    let send = async {
        emulator.reset();
        site.enroll("dev1", azure_dps_tests::site::on(A, serde_json::json!({}))).await;
        site.register("dev1").await;
        MqttDevice::at_hub(emulator).await.publish_acknowledged(1, EVENTS, "x").await;
    };
    let (found, ()) = tokio::join!(wait, send);
    assert_eq!(found.unwrap().body, b"x");
}

#[tokio::test]
async fn the_largest_message_is_taken() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    let body = "x".repeat(256 * 1024 - EVENTS.len());

    device.publish_acknowledged(1, EVENTS, &body).await;

    assert_eq!(site.peer.emulator.telemetry(A, "dev1")[0].body.len(), body.len());
}
