//! Bad input of devices at an emulated hub: the connection ends or the answer says so, the journal has the cause,
//! and other devices are not affected. Literal packets.

use std::time::Duration;

use azure_dps_emulator::CloudMessage;
use azure_dps_tests::emulated::{PRIMARY, sign};
use azure_dps_tests::hub_device::*;
use azure_dps_tests::journal::{cause, last};
use azure_dps_tests::mqtt_bytes::*;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::{A, on};
use serde_json::json;

#[tokio::test]
async fn what_a_device_must_not_send_ends_its_connection_and_no_other() {
    let site = assigned().await;
    site.enroll("dev2", on(A, json!({}))).await;
    site.register("dev2").await;
    let emulator = &site.peer.emulator;
    let mut other = MqttDevice::connect(emulator).await;
    let token = sign(PRIMARY, &format!("{A}/devices/dev2"), "");
    assert_eq!(other.sign_in(&connect(CLEAN, 60, "dev2", &hub_user(A, "dev2"), &token)).await, 0);
    let large = "x".repeat(256 * 1024);
    for (bytes, wanted) in [
        (publish(0, 0, "devices/dev2/messages/events/", "x"), "the topic is that of another device"),
        (publish(1, 1, "$dps/registrations/PUT/iotdps-register/?$rid=1", ""), "the hub has no such topic"),
        (publish(0, 0, "$iothub/credentials/POST/issueCertificate/?$rid=1", ""), "the hub has no such topic"),
        (
            publish(0, 0, "$iothub/methods/res/x/?$rid=1", ""),
            "the status of the method's answer is not a whole",
        ),
        (
            publish(0, 0, &format!("{GET_TWIN}{}", "x".repeat(1_100)), ""),
            "the $rid is longer than 1024 bytes",
        ),
        (publish(2, 1, EVENTS, "x"), "QoS 2 is not supported by IoT Hub"),
        (publish(1, 1, EVENTS, &large), "is larger than 262144, the limit of IoT Hub"),
        (publish(1, 1, EVENTS, &"x".repeat(300 * 1024)), "is larger than 266240"),
        (subscribe("#", 0), "the hub has no such topics to subscribe to"),
        (subscribe("devices/dev2/messages/devicebound/#", 0), "the hub has no such topics to subscribe to"),
        (subscribe("$dps/registrations/res/#", 0), "the hub has no such topics to subscribe to"),
        (hub_connect(), "a connected client must not send CONNECT"),
        (packet(0x20, &[&[0, 0]]), "a connected client must not send CONNACK"),
        (vec![0x00, 0x00], "malformed MQTT packet"),
        (vec![0x30, 0x03, 0x00, 0x09, b'x'], "malformed MQTT packet"),
    ] {
        let mut device = MqttDevice::at_hub(emulator).await;
        device.say(&bytes).await;
        assert_eq!(device.hear().await, None, "{wanted}");
        assert!(cause(emulator).contains(wanted), "{wanted}: {}", cause(emulator));
    }
    other.publish_acknowledged(1, "devices/dev2/messages/events/", "still here").await;
    assert_eq!(emulator.telemetry(A, "dev2").len(), 1);
}

#[tokio::test]
async fn a_sixth_subscription_is_refused_in_the_suback() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    for filter in [TWIN_REPLIES, DESIRED, MESSAGES, METHODS, "$iothub/methods/POST/reboot/#"] {
        device.listen(filter, 0).await;
    }

    device.say(&subscribe("$iothub/methods/POST/stop/#", 0)).await;

    assert_eq!(device.hear().await, Some((0x90, vec![0, 1, 0x80])));
    let entry = last(&site.peer.emulator);
    assert_eq!((entry.method.as_str(), entry.status), ("SUBSCRIBE", 400));
    assert_eq!(entry.cause.as_deref(), Some("a device has at most 5 subscriptions at its hub"));
    device.listen(TWIN_REPLIES, 1).await;
}

/// The device subscribes, and reads nothing any more.
#[tokio::test]
async fn a_device_that_does_not_read_loses_its_connection_and_its_messages_wait() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    let mut device = MqttDevice::at_hub(emulator).await;
    device.listen(DESIRED, 0).await;
    let text = "x".repeat(4_000);
    let patch = json!({"a": text, "b": text, "c": text, "d": text, "e": text, "f": text, "g": text});
    let ended = async {
        while site.device(A, "dev1")["identity"]["connectionState"] == "Connected" {
            emulator.set_desired(A, "dev1", patch.clone()).unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };

    tokio::time::timeout(Duration::from_secs(120), ended).await.unwrap();

    emulator.send_to_device(A, "dev1", CloudMessage::new("x")).unwrap();
    let mut device = MqttDevice::at_hub(emulator).await;
    device.listen(MESSAGES, 0).await;
    assert_eq!(device.published().await.payload, b"x");
}
