//! MQTT clients that send malformed packets or fall silent, and faults that are injected.

use std::time::{Duration, UNIX_EPOCH};

use azure_dps_emulator::{Fault, Operation, Quotas};
use azure_dps_tests::dev1::*;
use azure_dps_tests::journal::{causes, last};
use azure_dps_tests::mqtt_bytes::*;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::tasks::settles;
use azure_dps_tests::{HUNG, pass, trusting};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test]
async fn packets_come_in_any_pieces() {
    let emulator = start().await;
    let mut peer = MqttDevice::connect(&emulator).await;
    for byte in connect(CLEAN, 60, "dev1", MQTT_USER, NODE) {
        peer.say(&[byte]).await;
    }
    assert_eq!(peer.hear().await, Some((0x20, vec![0, 0])));
    let subscribe = subscribe(REPLIES, 1);
    let register = publish(1, 2, &format!("{REGISTER}2"), "");
    peer.say(&[subscribe, register, vec![0xC0, 0]].concat()).await;
    assert_eq!(peer.hear().await.unwrap().0, 0x90);
    assert_eq!(peer.hear().await, Some(puback(2)));
    assert_eq!(peer.published().await.operation().get(..2), Some("5."));
    assert_eq!(peer.hear().await, Some((0xD0, vec![])), "PINGRESP");
}

#[tokio::test]
async fn a_large_payload_passes_and_a_larger_one_does_not() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
    let body = |length: usize| json!({"payload": "x".repeat(length - 14)}).to_string();
    peer.publish(1, 1, &format!("{REGISTER}1"), &body(256 * 1024)).await;
    assert_eq!(peer.hear().await, Some(puback(1)));
    assert!(peer.published().await.topic.contains("/202/"));

    let _broken = peer.stream.write_all(&publish(1, 2, &format!("{REGISTER}2"), &body(300 * 1024))).await;
    while peer.hear().await.is_some() {}
    assert!(causes(&emulator).contains("is larger than 266240"));
}

#[tokio::test]
async fn what_no_client_sends_ends_the_connection_and_the_journal_says_why() {
    let emulator = start().await;
    let mut bystander = MqttDevice::signed_in(&emulator, CLEAN, 0, MQTT_USER, NODE).await;
    let publish = |topic: &str| publish(1, 1, topic, "");
    let level = |level: u8| packet(0x10, &[&text("MQTT"), &[level, 2, 0, 60], &[0], &text("dev1")]);
    for (bytes, heard, cause) in [
        (publish(&format!("{REGISTER}1")), None, "PUBLISH came before CONNECT"),
        (vec![0xC0, 0], None, "PINGREQ came before CONNECT"),
        (level(5), Some(1), "the protocol level is not 4"),
        (
            packet(0x10, &[&text("MQIsdp"), &[3, 2, 0, 60], &text("dev1")]),
            Some(1),
            "the protocol level is not 4",
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(99)).into(),
            None,
            "PUBACK came before CONNECT",
        ),
        (vec![0x10, 0xFF, 0xFF, 0xFF, 0x7F], None, "a packet of 268435455 bytes is larger than 266240"),
        (vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], None, "malformed MQTT packet"),
    ] {
        let mut peer = MqttDevice::connect(&emulator).await;
        peer.say(&bytes).await;
        if let Some(code) = heard {
            assert_eq!(peer.hear().await, Some((0x20, vec![0, code])));
        }
        assert_eq!(peer.hear().await, None, "{cause}");
        let entry = last(&emulator);
        assert!(entry.status == 400 && entry.cause.as_ref().unwrap().contains(cause), "{entry}");
    }
    let other = "0ne00EMU1A7/registrations/dev3/api-version=2019-03-31";
    for (bytes, cause) in [
        (publish("devices/dev1/messages/events/"), "the service has no such topic"),
        (publish("$dps/registrations/POST/iotdps-get-deviceupdate/?$rid=1"), "the service has no such topic"),
        (publish("$dps/registrations/PUT/iotdps-else/?$rid=1"), "the service has no such topic"),
        (publish(&format!("{POLL}1")), "the topic has no operationId"),
        (packet(0x34, &[&text(&format!("{REGISTER}1")), &[0, 1]]), "QoS 2 is not supported"),
        (subscribe("#", 1), "clients can subscribe to $dps"),
        (connect(CLEAN, 60, "dev3", other, NODE), "a connected client must not send CONNECT"),
        (vec![0xD0, 0], "a connected client must not send PINGRESP"),
        (vec![0x30, 1, 0], "malformed MQTT packet"),
    ] {
        let mut peer = MqttDevice::connect(&emulator).await;
        assert_eq!(peer.sign_in(&connect(CLEAN, 60, "dev3", other, NODE)).await, 0);
        peer.say(&bytes).await;
        assert_eq!(peer.hear().await, None, "{cause}");
        let entry = last(&emulator);
        assert!(entry.status == 400 && entry.cause.as_ref().unwrap().contains(cause), "{entry}");
    }
    assert_eq!(bystander.register(1, "", "").await.unwrap()["status"], "assigned");
}

#[tokio::test]
async fn silence_ends_a_connection_after_its_deadline() {
    let emulator = start().await;
    let mut without_tls = TcpStream::connect(("127.0.0.1", emulator.mqtt_port())).await.unwrap();
    let mut without_connect = MqttDevice::connect(&emulator).await;
    // Once it is signed in, the emulator has heard the other two.
    let mut without_ping = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
    assert_eq!(emulator.journal().iter().filter(|entry| entry.cause.is_some()).count(), 0);

    pass(Duration::from_secs(90)).await;

    assert_eq!(without_ping.hear().await, None);
    assert_eq!(without_connect.hear().await, None);
    assert_eq!(timeout(HUNG, without_tls.read(&mut [0])).await.unwrap().unwrap(), 0);
    let causes = causes(&emulator);
    assert!(causes.contains("no packet came for 90s"), "{causes}");
    assert!(causes.contains("no CONNECT came in time"), "{causes}");
    assert!(causes.contains("the TLS handshake took too long"), "{causes}");
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_authority_is_in_the_journal() {
    let (emulator, stranger) = (start().await, start().await);

    assert!(MqttDevice::connect_with(&emulator, trusting(stranger.ca_pem())).await.is_err());

    settles(|| !emulator.journal().is_empty()).await;
    let entry = last(&emulator);
    assert_eq!(entry.method, "TLS");
    assert!(entry.cause.as_ref().unwrap().starts_with("TLS handshake failed"), "{entry}");
}

#[tokio::test]
async fn a_request_can_be_throttled_or_failed() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 0, MQTT_USER, NODE).await;
    emulator.inject(Fault::throttle(15).on(Operation::Register)).unwrap();
    emulator.inject(Fault::status(500).on(Operation::Poll)).unwrap();

    peer.publish(1, 1, &format!("{REGISTER}1"), "").await;
    assert_eq!(peer.hear().await, Some(puback(1)));
    let reply = peer.published().await;
    assert_eq!(reply.topic, "$dps/registrations/res/429/?$rid=1&retry-after=15");
    assert_eq!(reply.body["errorCode"], 429_001);
    assert!(emulator.registrations().as_array().unwrap().is_empty(), "nothing was carried out");
    assert_eq!(last(&emulator).cause.as_deref(), Some("fault: answered in place of the service"));

    peer.publish(0, 0, &format!("{REGISTER}2"), "").await;
    let operation = peer.published().await.operation();
    peer.publish(0, 0, &format!("{POLL}3&operationId={operation}"), "").await;
    let reply = peer.published().await;
    assert_eq!(reply.topic, "$dps/registrations/res/500/?$rid=3");
    assert_eq!(reply.body["errorCode"], 500_000);
    peer.publish(0, 0, &format!("{POLL}4&operationId={operation}"), "").await;
    assert!(peer.published().await.topic.contains("/202/"));
}

#[tokio::test]
async fn beyond_a_quota_the_topic_says_how_long_to_wait() {
    let emulator =
        start_with(seeded().quotas(Quotas::documented().with_registrations(1).with_polls(1))).await;
    emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_893_456_000));
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 0, MQTT_USER, NODE).await;

    peer.publish(0, 0, &format!("{REGISTER}1"), "").await;
    let operation = peer.published().await.operation();
    peer.publish(0, 0, &format!("{REGISTER}2"), "").await;
    let reply = peer.published().await;
    assert_eq!(reply.topic, "$dps/registrations/res/429/?$rid=2&retry-after=60");
    assert_eq!(reply.body["errorCode"], 429_001);
    assert_eq!(last(&emulator).cause.as_deref(), Some("quota: 1 device registrations per minute"));
    for (rid, status) in [(3, "202/?$rid=3&retry-after=3"), (4, "429/?$rid=4&retry-after=10")] {
        peer.publish(0, 0, &format!("{POLL}{rid}&operationId={operation}"), "").await;
        assert_eq!(peer.published().await.topic, format!("$dps/registrations/res/{status}"));
    }
    assert_eq!(last(&emulator).cause.as_deref(), Some("quota: 1 polls of dev1 in 10 s"));
}

#[tokio::test]
async fn an_answer_can_be_lost_spoilt_misdirected_or_doubled() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 0, MQTT_USER, NODE).await;
    let topic = format!("{REGISTER}1");
    for fault in
        [Fault::garbage(), Fault::wrong_rid(), Fault::duplicate_reply(), Fault::stall(), Fault::hang_up()]
    {
        emulator.inject(fault.on(Operation::Register).of("dev1")).unwrap();
    }

    peer.publish(0, 0, &topic, "").await;
    let garbage = peer.published().await;
    assert_eq!((garbage.topic.as_str(), &garbage.body), ("$dps/registrations/res/200/?$rid=1", &Value::Null));
    peer.publish(0, 0, &topic, "").await;
    assert_eq!(peer.published().await.topic, "$dps/registrations/res/202/?$rid=wrong-1&retry-after=3");
    peer.publish(0, 0, &topic, "").await;
    let (first, second) = (peer.published().await, peer.published().await);
    assert_eq!((first.topic, first.body), (second.topic, second.body));
    assert_ne!(first.id, second.id);
    peer.publish(1, 5, &topic, "").await;
    assert_eq!(peer.hear().await, Some(puback(5)));
    peer.say(&[0xC0, 0]).await;
    assert_eq!(peer.hear().await, Some((0xD0, vec![])), "the connection lives on, without the answer");
    peer.publish(1, 6, &topic, "").await;
    assert_eq!(peer.hear().await, Some(puback(6)));
    assert_eq!(peer.hear().await, None);
    assert_eq!(last(&emulator).cause.as_deref(), Some("fault: hung up in place of the answer"));
}

#[tokio::test]
async fn a_connect_can_fail_too() {
    let emulator = start().await;
    for fault in [Fault::status(503), Fault::garbage(), Fault::hang_up()] {
        emulator.inject(fault.on(Operation::Connect)).unwrap();
    }
    for heard in [Some((0x20, vec![0, 3])), Some((b'<', vec![])), None] {
        let mut peer = MqttDevice::connect(&emulator).await;
        peer.say(&connect(CLEAN, 60, "dev1", MQTT_USER, NODE)).await;
        match heard {
            Some((first, rest)) if rest.is_empty() => assert_eq!(peer.stream.read_u8().await.unwrap(), first),
            heard => assert_eq!(peer.hear().await, heard),
        }
        assert_eq!(last(&emulator).method, "CONNECT");
    }
    MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
}
