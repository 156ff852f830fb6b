//! What each official client sends over MQTT, packet by packet, and what it expects of the replies.

use azure_dps_tests::dev1::*;
use azure_dps_tests::mqtt_bytes::*;
use azure_dps_tests::mqtt_device::MqttDevice;
use serde_json::json;

#[tokio::test]
async fn the_node_client_unsubscribes_before_it_leaves() {
    let emulator = start().await;
    let user = format!("{MQTT_USER}&ClientVersion=azure-iot-provisioning-device%2F1.9.2");
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 180, &user, NODE).await;
    let (register, poll) = ("66637297-ee10-4344-b4f2-6e1dd96b3da3", "bb003da2-bedc-40ae-bd67-d9d885e533ab");

    peer.publish(1, 21_662, &format!("{REGISTER}{register}"), r#"{"registrationId":"dev1"}"#).await;
    assert_eq!(peer.hear().await, Some(puback(21_662)));
    let reply = peer.published().await;
    assert_eq!(reply.topic, format!("$dps/registrations/res/202/?$rid={register}&retry-after=3"));
    assert_eq!((reply.first, reply.id), (0x32, Some(2)), "QoS 1, no DUP, no RETAIN, packet id 2");
    let operation = reply.operation();
    assert_eq!(reply.body, json!({"operationId": operation, "status": "assigning"}));
    for (id, status) in [(21_663, 202), (21_664, 200)] {
        peer.publish(1, id, &format!("{POLL}{poll}&operationId={operation}"), " ").await;
        assert_eq!(peer.hear().await, Some(puback(id)));
        let reply = peer.published().await;
        assert!(reply.topic.starts_with(&format!("$dps/registrations/res/{status}/?$rid={poll}")));
        assert_eq!(reply.id, Some(2));
        assert_eq!(reply.body["registrationState"]["registrationId"], "dev1");
        peer.acknowledge(&reply).await;
    }

    peer.say(&packet(0xA2, &[&[0x54, 0xA1], &text(REPLIES)])).await;
    assert_eq!(peer.hear().await, Some((0xB0, vec![0x54, 0xA1])), "UNSUBACK");
    peer.say(&[0xE0, 0]).await;
    assert_eq!(peer.hear().await, None);
    let words: Vec<String> = emulator.journal().into_iter().map(|entry| entry.method).collect();
    assert_eq!(words, ["PUBLISH"; 3]);
}

/// Its packet ids are its request ids, it has no keep-alive, and any packet out of order is a failure to it.
#[tokio::test]
async fn the_csharp_client_sends_an_empty_body_and_wants_the_puback_first() {
    let emulator = start().await;
    let mut peer = MqttDevice::connect(&emulator).await;
    let user = format!(
        "{MQTT_USER}&ClientVersion=Microsoft.Azure.Devices.Provisioning.Client%2F1.19.2%20%28.NET%208.0.0%3B%20Linux%3B%20X64%29"
    );
    assert_eq!(peer.sign_in(&connect(CLEAN, 0, "dev1", &user, CSHARP)).await, 0);
    peer.say(&subscribe(REPLIES, 1)).await;
    assert_eq!(peer.hear().await, Some((0x90, vec![0, 1, 1])));

    peer.publish(1, 2, &format!("{REGISTER}2"), "").await;
    assert_eq!(peer.hear().await, Some(puback(2)));
    let reply = peer.published().await;
    assert!(reply.topic.starts_with("$dps/registrations/res/202/?$rid=2&retry-after="), "{}", reply.topic);
    peer.acknowledge(&reply).await;
    let operation = reply.operation();
    for (id, status) in [(3, "assigning"), (4, "assigned")] {
        peer.publish(1, id, &format!("{POLL}{id}&operationId={operation}"), "").await;
        assert_eq!(peer.hear().await, Some(puback(id)));
        let reply = peer.published().await;
        assert_eq!(reply.body["status"], status);
        assert!(reply.body["registrationState"].is_object());
        peer.acknowledge(&reply).await;
    }
    peer.say(&[0xE0, 0]).await;
    assert_eq!(peer.hear().await, None);
}

#[tokio::test]
async fn the_python_client_asks_for_a_session_and_sends_a_null_payload() {
    let emulator = start().await;
    let user =
        format!("{MQTT_USER}&ClientVersion=azure-iot-device-provisioning-py%2F2.14.0%283.11.7%3BLinux%29");
    let mut peer = MqttDevice::signed_in(&emulator, NO_CLEAN, 60, &user, PYTHON).await;

    let body = r#"{"payload": null, "registrationId": "dev1"}"#;
    let state = peer.register(1, body, " ").await.unwrap();

    assert_eq!(state["status"], "assigned");
    // It splits the topic at `$`, so that there must be two of them.
    peer.publish(1, 9, &format!("{REGISTER}a"), body).await;
    peer.hear().await;
    assert_eq!(peer.published().await.topic.matches('$').count(), 2);
    peer.say(&[0xE0, 0]).await;
    // Nothing is kept for the next connection.
    let _again = MqttDevice::signed_in(&emulator, NO_CLEAN, 60, &user, PYTHON).await;
}

#[tokio::test]
async fn the_c_client_publishes_with_qos_0_and_polls_with_a_body() {
    let emulator = start().await;
    let user = "0ne00EMU1A7/registrations/dev1/api-version=2021-06-01&ClientVersion=1.15.0";
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 0, user, C).await;

    let body = r#"{"registrationId":"dev1"}"#;
    let state = peer.register(0, body, body).await.unwrap();

    assert_eq!(state["deviceId"], "dev1");
}

#[tokio::test]
async fn the_java_client_publishes_with_qos_0_and_repeats_the_version_as_its_name() {
    let emulator = start().await;
    let user = format!("{MQTT_USER}&ClientVersion=2019-03-31");
    let mut peer = MqttDevice::signed_in(&emulator, NO_CLEAN, 230, &user, JAVA).await;

    let state = peer.register(0, r#"{"registrationId":"dev1","payload":"\"text\""}"#, "").await.unwrap();

    assert_eq!(state["status"], "assigned");
}

#[tokio::test]
async fn the_az_c_client_uses_one_request_id_for_everything() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 240, MQTT_USER, AZ_C).await;
    for body in [r#"{"registrationId":"dev1"}"#, r#"{"registrationId":"dev1","payload":{"a":[1]}}"#] {
        let mut operation = String::new();
        for (topic, status) in [("", 202), ("operation", 202), ("operation", 200)] {
            let topic = match topic {
                "" => format!("{REGISTER}1"),
                _ => format!("{POLL}1&operationId={operation}"),
            };
            peer.publish(1, 7, &topic, if operation.is_empty() { body } else { "" }).await;
            assert_eq!(peer.hear().await, Some(puback(7)));
            let reply = peer.published().await;
            let wanted = format!("$dps/registrations/res/{status}/?$rid=1");
            assert_eq!(reply.topic.trim_end_matches("&retry-after=3"), wanted);
            operation = reply.operation();
        }
    }
}

#[tokio::test]
async fn the_unified_clients_send_an_empty_object_and_want_to_wait_first() {
    let emulator = start().await;
    let user = "0ne00EMU1A7/registrations/dev1/api-version=2026-11-02-preview&ClientVersion=x%2F1";
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 15, user, CSHARP).await;

    let state = peer.register(1, "{}", "").await.unwrap();

    assert_eq!(state["substatus"], "initialAssignment");
    assert!(state.get("connectionProfile").is_none());
}
