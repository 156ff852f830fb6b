//! The twin of a device at an emulated hub, over MQTT and the REST API. Literal topics and bodies.

use azure_dps_emulator::HubCallError;
use azure_dps_tests::hub_device::*;
use azure_dps_tests::journal::{cause, last};
use azure_dps_tests::mqtt_bytes::puback;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::site::A;
use serde_json::json;

#[tokio::test]
async fn a_device_reads_its_twin() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(TWIN_REPLIES, 0).await;

    let reply = device.request(&format!("{GET_TWIN}abc"), "").await;

    assert_eq!((reply.first, reply.topic.as_str()), (0x30, "$iothub/twin/res/200/?$rid=abc"));
    assert_eq!(reply.body, json!({"desired": {"interval": 1, "$version": 1}, "reported": {"$version": 1}}));
    let entry = last(&site.peer.emulator);
    assert_eq!(
        (entry.method.as_str(), entry.target.as_str(), entry.status),
        ("PUBLISH", "$iothub/twin/GET", 200)
    );
    assert_eq!(entry.id.as_deref(), Some("dev1"));
}

#[tokio::test]
async fn answers_come_with_the_qos_of_the_subscription_after_the_puback() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(TWIN_REPLIES, 1).await;

    device.publish(1, 7, &format!("{GET_TWIN}1"), "").await;

    assert_eq!(device.hear().await, Some(puback(7)));
    let reply = device.published().await;
    assert_eq!(reply.first, 0x32);
    device.acknowledge(&reply).await;
}

#[tokio::test]
async fn reported_properties_are_merged_and_null_removes() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(TWIN_REPLIES, 0).await;

    for (n, patch) in [
        (2, json!({"fan": {"on": true, "speed": 3}, "firmware": "1.0"})),
        (3, json!({"fan": {"speed": null, "mode": "auto"}, "firmware": null, "$version": 9})),
    ] {
        let reply = device.request(&format!("{REPORT}{n}"), &patch.to_string()).await;
        assert_eq!(reply.topic, format!("$iothub/twin/res/204/?$rid={n}&$version={n}"));
        assert!(reply.payload.is_empty());
    }

    let wanted = json!({"fan": {"on": true, "mode": "auto"}, "$version": 3});
    assert_eq!(device.request(&format!("{GET_TWIN}4"), "").await.body["reported"], wanted);
    let twin = site.get(A, "/twins/dev1").await.body;
    let reported = &twin["properties"]["reported"];
    assert_eq!((&reported["fan"], &twin["version"]), (&json!({"on": true, "mode": "auto"}), &json!(3)));
    let leaf = &reported["$metadata"]["fan"]["mode"];
    assert_eq!(leaf.as_object().unwrap().keys().collect::<Vec<_>>(), ["$lastUpdated"]);
    assert_eq!(twin["lastActivityTime"].as_str().map(|time| time > "2020"), Some(true));
}

#[tokio::test]
async fn a_report_that_cannot_be_stored_is_answered_400_and_the_connection_stays() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;
    device.listen(TWIN_REPLIES, 0).await;
    let large: serde_json::Map<_, _> = (0..9).map(|n| (n.to_string(), json!("x".repeat(4_000)))).collect();
    for (patch, wanted) in [
        ("".to_owned(), "the patch is not JSON"),
        ("{".to_owned(), "the patch is not JSON"),
        ("[1]".to_owned(), "the patch is not a JSON object"),
        ("\u{0}\u{1}".to_owned(), "the patch is not JSON"),
        (json!({"a.b": 1}).to_string(), "the name \"a.b\" contains '.'"),
        (json!({"a": "x".repeat(5_000)}).to_string(), "the text of a is longer than 4096 bytes"),
        (serde_json::Value::from(large).to_string(), "the reported properties would have 36009 bytes"),
        (format!("{{\"a\":\"{}\"}}", "x".repeat(70_000)), "a patch has at most 65536 bytes"),
        ("[".repeat(5_000), "the patch is not JSON"),
    ] {
        let reply = device.request(&format!("{REPORT}9"), &patch).await;
        assert_eq!(reply.topic, "$iothub/twin/res/400/?$rid=9", "{wanted}");
        assert_eq!(reply.body["errorCode"], 400_000);
        assert!(cause(&site.peer.emulator).contains(wanted), "{}", cause(&site.peer.emulator));
    }

    let reply = device.request(&format!("{GET_TWIN}1"), "").await;
    assert_eq!(reply.body["reported"], json!({"$version": 1}), "nothing was stored");
}

#[tokio::test]
async fn a_device_hears_of_desired_properties_while_it_listens() {
    let site = assigned().await;
    let emulator = &site.peer.emulator;
    assert_eq!(emulator.set_desired(A, "dev1", json!({"interval": 2})), Ok(2), "it is offline");
    let mut device = MqttDevice::at_hub(emulator).await;
    device.listen(TWIN_REPLIES, 0).await;
    assert_eq!(emulator.set_desired(A, "dev1", json!({"interval": 3})), Ok(3), "it does not listen");
    device.listen(DESIRED, 1).await;

    assert_eq!(emulator.set_desired(A, "dev1", json!({"interval": null, "led": {"on": true}})), Ok(4));

    let message = device.published().await;
    assert_eq!(
        message.topic, "$iothub/twin/PATCH/properties/desired/?$version=4",
        "the earlier ones are not queued"
    );
    assert_eq!(message.body, json!({"interval": null, "led": {"on": true}, "$version": 4}));
    assert_eq!(message.first, 0x32);
    device.acknowledge(&message).await;
    let reply = device.request(&format!("{GET_TWIN}1"), "").await;
    assert_eq!(reply.body["desired"], json!({"led": {"on": true}, "$version": 4}));

    device
        .say(&azure_dps_tests::mqtt_bytes::packet(
            0xA2,
            &[&[0, 2], &azure_dps_tests::mqtt_bytes::text(DESIRED)],
        ))
        .await;
    assert_eq!(device.hear().await, Some((0xB0, vec![0, 2])), "UNSUBACK");
    emulator.set_desired(A, "dev1", json!({"led": null})).unwrap();
    let reply = device.request(&format!("{GET_TWIN}2"), "").await;
    assert_eq!(reply.body["desired"], json!({"$version": 5}), "no patch came before");
}

#[tokio::test]
async fn a_request_without_a_subscription_to_answers_is_named_in_the_journal() {
    let site = assigned().await;
    let mut device = MqttDevice::at_hub(&site.peer.emulator).await;

    device.publish_acknowledged(3, &format!("{GET_TWIN}1"), "").await;
    device.listen(TWIN_REPLIES, 0).await;

    let wanted = "the device does not listen to answers: no SUBSCRIBE to $iothub/twin/res/# came";
    assert_eq!(cause(&site.peer.emulator), wanted);
}

#[tokio::test]
async fn desired_properties_have_limits() {
    let site = assigned().await;
    let set = |patch| site.peer.emulator.set_desired(A, "dev1", patch);

    assert_eq!(set(json!(1)), Err(HubCallError::Twin("desired properties are a JSON object".into())));
    let why = set(json!({"a": {"b c": 1}})).unwrap_err().to_string();
    assert_eq!(why, "the twin cannot be written: desired properties: the name \"b c\" contains ' '");
    assert_eq!(set(json!({})), Ok(2));
}
