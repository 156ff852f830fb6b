//! The emulator's MQTT front: sign-in, topics, bodies, and what the journal keeps. Literal packets and tokens.

use std::time::{Duration, UNIX_EPOCH};

use azure_dps_emulator::{Emulator, RefuseAt};
use azure_dps_tests::dev1::*;
use azure_dps_tests::emulated::PRIMARY;
use azure_dps_tests::journal::{causes, last};
use azure_dps_tests::mqtt_bytes::*;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use serde_json::json;

/// sensor-042 with the key derived from `PRIMARY`.
const SENSOR: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fsensor-042&sig=IcJC7HuQ7YbgrywaQH%2FwUTvwZlvXuUuUBsORFkDalWs%3D&se=4102444800";

#[tokio::test]
async fn a_request_without_a_request_id_is_answered_under_an_empty_one() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
    for topic in ["iotdps-register/?rid=1", "iotdps-register/?$rid=", "iotdps-register/", "iotdps-register"] {
        peer.publish(0, 0, &format!("$dps/registrations/PUT/{topic}"), "{\"payload\" : {\"a\" : 1}}").await;
        let reply = peer.published().await;
        assert_eq!(reply.topic, "$dps/registrations/res/202/?$rid=&retry-after=3", "{topic}");
        let poll =
            format!("$dps/registrations/GET/iotdps-get-operationstatus/?operationId={}", reply.operation());
        peer.publish(0, 0, &poll, "").await;
        let reply = peer.published().await;
        assert_eq!(reply.topic, "$dps/registrations/res/202/?$rid=&retry-after=3");
        assert!(reply.body["registrationState"].is_object());
    }
}

#[tokio::test]
async fn a_client_that_expects_a_hub_that_is_not_linked_is_named_in_the_journal() {
    let emulator = start().await;
    for user in [
        "hub-1.azure-devices.net/dev1/?api-version=2021-04-12",
        "localhost/dev1/?api-version=2021-04-12&DeviceClientType=x",
        "hub-1.azure-devices.net/dev1",
    ] {
        let mut peer = MqttDevice::connect(&emulator).await;
        assert_eq!(peer.sign_in(&connect(CLEAN, 60, "dev1", user, NODE)).await, 4, "{user}");
        let cause = last(&emulator).cause.unwrap();
        let hub = user.split('/').next().unwrap();
        let wanted = format!("the user name is for hub {hub}, which is not linked");
        assert!(cause.starts_with(&wanted), "{cause}");
    }
}

/// As a client that failed and a new one of the same device in one process do, a hundred times a second.
#[tokio::test]
async fn clients_that_take_their_connection_from_each_other_are_one_entry_of_the_journal() {
    let emulator = start().await;
    let mut before = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
    for _ in 0..50 {
        let after = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
        assert_eq!(before.hear().await, None, "the older one ends");
        before = after;
    }
    let journal = emulator.journal();
    assert_eq!((journal.len(), journal[0].repeats, journal[0].status), (1, 49, 409), "{journal:?}");
    assert!(journal[0].to_string().ends_with("same client id) (repeats: 49)"), "{}", journal[0]);
}

#[tokio::test]
async fn a_derived_key_of_a_group_lets_a_device_in() {
    let seed = json!({"enrollmentGroups": [{"enrollmentGroupId": "plant", "attestation": keys()}]});
    let emulator = start_with(Emulator::builder().seed_json(seed.to_string())).await;
    let mut peer = MqttDevice::connect(&emulator).await;
    let user = "0NE00EMU1A7/registrations/sensor-042/ClientVersion=a/b&x&api-version=2021-10-01";
    assert_eq!(peer.sign_in(&connect(CLEAN, 60, "SENSOR-042", user, SENSOR)).await, 0);
    peer.subscribe(1).await;

    let state = peer.register(1, "", "").await.unwrap();

    assert_eq!(state["deviceId"], "sensor-042");
    assert!(state.get("symmetricKey").is_none(), "{state}");
}

#[tokio::test]
async fn a_refusal_at_register_has_code_and_tracking_id_and_keeps_the_connection() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, WRONG_KEY).await;
    for _ in 0..2 {
        peer.publish(1, 1, &format!("{REGISTER}r"), "{}").await;
        assert_eq!(peer.hear().await, Some(puback(1)));
        let reply = peer.published().await;
        assert_eq!(reply.topic, "$dps/registrations/res/401/?$rid=r");
        assert_eq!(
            (&reply.body["errorCode"], &reply.body["message"]),
            (&json!(401_002), &json!("Unauthorized"))
        );
        assert!(reply.body["trackingId"].as_str().unwrap().len() > 30);
    }
    let entry = last(&emulator);
    assert_eq!((entry.protocol, entry.method.as_str(), entry.status), ("mqtt", "PUBLISH", 401));
    assert_eq!(entry.target, "$dps/registrations/PUT/iotdps-register");
    assert_eq!(entry.id.as_deref(), Some("dev1"));
    assert!(entry.cause.unwrap().contains("neither the primary nor the secondary key"));

    let unknown = "0ne00EMU1A7/registrations/dev2/api-version=2019-03-31";
    let mut peer = MqttDevice::connect(&emulator).await;
    assert_eq!(peer.sign_in(&connect(CLEAN, 60, "dev2", unknown, &NODE.replace("dev1", "dev2"))).await, 0);
    peer.subscribe(1).await;
    peer.publish(0, 0, &format!("{REGISTER}r"), "{}").await;
    let reply = peer.published().await;
    assert_eq!(reply.topic, "$dps/registrations/res/404/?$rid=r");
    assert_eq!(reply.body["errorCode"], 404_201);
}

#[tokio::test]
async fn a_refusal_at_connect_is_a_code() {
    let emulator = start_with(seeded().refuse_at(RefuseAt::Connect)).await;
    for (client_id, user, token, code, cause) in [
        ("dev1", MQTT_USER, WRONG_KEY, 5, "signature matches neither"),
        ("dev1", MQTT_USER, "", 5, "the request has neither a token nor a client certificate"),
        ("dev2", "0ne00EMU1A7/registrations/dev2/api-version=2019-03-31", NODE, 5, "another registration id"),
        ("dev1", "0ne00OTHER/registrations/dev1/api-version=2019-03-31", NODE, 5, "ID scope not found"),
        ("dev1", "0ne00EMU1A7/registrations/dev1/ClientVersion=1", NODE, 4, "api-version is missing"),
    ] {
        let mut peer = MqttDevice::connect(&emulator).await;
        assert_eq!(peer.sign_in(&connect(CLEAN, 60, client_id, user, token)).await, code, "{user}");
        assert_eq!(peer.hear().await, None, "the connection ends");
        let entry = last(&emulator);
        assert_eq!((entry.method.as_str(), entry.id.as_deref()), ("CONNECT", Some(client_id)));
        assert!(entry.cause.as_ref().unwrap().contains(cause), "{entry}");
    }
    let before = emulator.journal().len();
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
    assert_eq!(emulator.journal().len(), before, "a connection that is let in is no request");
    assert_eq!(peer.register(1, "", "").await.unwrap()["status"], "assigned");
}

#[tokio::test]
async fn a_tpm_is_refused_at_connect() {
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}});
    let seed = json!({"enrollments": [{"registrationId": "dev1", "attestation": tpm}]}).to_string();
    let emulator = start_with(Emulator::builder().seed_json(seed).refuse_at(RefuseAt::Connect)).await;
    let mut peer = MqttDevice::connect(&emulator).await;

    assert_eq!(peer.sign_in(&connect(CLEAN, 60, "dev1", MQTT_USER, NODE)).await, 5);
    let cause = "enrollment dev1 is for attestation by tpm, not by symmetric key";
    assert_eq!(last(&emulator).cause.as_deref(), Some(cause));
}

#[tokio::test]
async fn a_user_name_must_name_the_device() {
    let emulator = start().await;
    for (user, code) in [
        ("dev1", 4),
        ("", 4),
        ("0ne00EMU1A7/devices/dev1/api-version=2019-03-31", 4),
        ("0ne00EMU1A7/registrations/dev2/api-version=2019-03-31", 5),
    ] {
        let mut peer = MqttDevice::connect(&emulator).await;
        assert_eq!(peer.sign_in(&connect(CLEAN, 60, "dev1", user, NODE)).await, code, "{user}");
        assert_eq!(peer.hear().await, None);
        assert!(last(&emulator).cause.unwrap().contains(if code == 4 { "user name" } else { "client id" }));
    }
}

#[tokio::test]
async fn a_subscription_is_granted_with_at_most_qos_1() {
    let emulator = start().await;
    for (asked, granted) in [(0, 0), (1, 1), (2, 1)] {
        let mut peer = MqttDevice::connect(&emulator).await;
        peer.say(&connect(CLEAN, 60, "dev1", MQTT_USER, NODE)).await;
        peer.hear().await;
        peer.say(&packet(0x82, &[&[1, 2], &text(REPLIES), &[asked]])).await;
        assert_eq!(peer.hear().await, Some((0x90, vec![1, 2, granted])));
        peer.publish(0, 0, &format!("{REGISTER}1"), "").await;
        assert_eq!(peer.published().await.first, 0x30 | granted << 1);
    }
}

#[tokio::test]
async fn the_request_id_comes_back_byte_for_byte() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
    for rid in ["", "1", "su1", "a%2Fb+c d/é?x=y", &"r".repeat(1024)] {
        peer.publish(0, 0, &format!("{REGISTER}{rid}"), "").await;
        let wanted = format!("$dps/registrations/res/202/?$rid={rid}&retry-after=3");
        assert_eq!(peer.published().await.topic, wanted);
    }
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_answered_400() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
    for (body, code) in [
        ("{", 400_012),
        ("[]", 400_012),
        ("\u{0}", 400_012),
        ("\u{feff}{}", 400_012),
        (r#"{"payload":"{ "a": 1 }"}"#, 400_012),
        (r#"{"registrationId":"dev2"}"#, 400_000),
        (r#"{"regId":"dev1"}"#, 400_000),
    ] {
        peer.publish(0, 0, &format!("{REGISTER}1"), body).await;
        let reply = peer.published().await;
        assert_eq!(reply.topic, "$dps/registrations/res/400/?$rid=1", "{body}");
        assert_eq!(reply.body["errorCode"], code, "{body}");
    }
    peer.publish(0, 0, &format!("{POLL}1&operationId=5.nothing"), "").await;
    assert_eq!(peer.published().await.topic, "$dps/registrations/res/404/?$rid=1");
}

#[tokio::test]
async fn a_disabled_enrollment_ends_as_disabled() {
    let mut enrollment = enrollment();
    enrollment["provisioningStatus"] = "disabled".into();
    let seed = json!({"enrollments": [enrollment]});
    let emulator = start_with(Emulator::builder().seed_json(seed.to_string())).await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;

    assert_eq!(peer.register(1, "", "").await.unwrap()["status"], "disabled");
}

#[tokio::test]
async fn the_newer_of_two_connections_stays() {
    let emulator = start().await;
    let mut older = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;
    let mut newer = MqttDevice::signed_in(&emulator, CLEAN, 60, MQTT_USER, NODE).await;

    assert_eq!(older.hear().await, None);
    assert_eq!(newer.register(1, "", "").await.unwrap()["status"], "assigned");
    let causes = causes(&emulator);
    assert!(causes.contains("a newer connection has the same client id"), "{causes}");
}

#[tokio::test]
async fn without_a_subscription_there_is_no_reply() {
    let emulator = start().await;
    let mut peer = MqttDevice::connect(&emulator).await;
    peer.say(&connect(CLEAN, 60, "dev1", MQTT_USER, NODE)).await;
    peer.hear().await;
    peer.publish(1, 1, &format!("{REGISTER}1"), "").await;
    assert_eq!(peer.hear().await, Some(puback(1)));
    peer.say(&[0xC0, 0]).await;
    assert_eq!(peer.hear().await, Some((0xD0, vec![])));
    assert!(causes(&emulator).contains("no SUBSCRIBE came"));
    assert!(emulator.registrations().as_array().unwrap().is_empty());
}

#[tokio::test]
async fn the_clock_decides_whether_a_token_has_expired() {
    let emulator = start().await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 0, MQTT_USER, NODE).await;
    let mut status = async || {
        peer.publish(0, 0, &format!("{REGISTER}1"), "").await;
        peer.published().await.topic["$dps/registrations/res/".len()..][..3].to_owned()
    };
    emulator.set_clock(UNIX_EPOCH + Duration::from_secs(4_102_444_800 + 300));
    assert_eq!(status().await, "202");
    emulator.advance_clock(Duration::from_secs(1));
    assert_eq!(status().await, "401");
    let entry = last(&emulator);
    assert_eq!(entry.cause.as_deref(), Some("the token expired 301 s ago"));
    assert_eq!(entry.time, UNIX_EPOCH + Duration::from_secs(4_102_444_800 + 301));
    emulator.reset_clock();
    assert_eq!(status().await, "202");
}

#[tokio::test]
async fn the_journal_has_no_secret() {
    let emulator = start_with(seeded().refuse_at(RefuseAt::Connect)).await;
    let mut peer = MqttDevice::signed_in(&emulator, CLEAN, 0, MQTT_USER, NODE).await;
    peer.register(1, r#"{"payload":{"password":"hunter2"}}"#, "").await.unwrap();
    for (user, token) in [(MQTT_USER, WRONG_KEY), (NODE, ""), ("", NODE)] {
        let mut peer = MqttDevice::connect(&emulator).await;
        peer.say(&connect(CLEAN, 0, "dev1", user, token)).await;
        peer.hear().await;
        assert_eq!(peer.hear().await, None);
    }
    let text = format!("{:?} {emulator:?}", emulator.journal());
    for secret in ["sig=", "SharedAccess", "Eha5Nv0", "hunter2", PRIMARY] {
        assert!(!text.contains(secret), "{secret}");
    }
}
