//! The emulator's MQTT front judged over the wire: literal packets, literal tokens, no codec and nothing of the SDK.
//!
//! The tokens were signed by another program and end in the year 2100. Each test that is named after a client sends
//! what that client sends, and insists on what that client insists on.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use azure_dps_emulator::{Emulator, EmulatorBuilder, Entry, Fault, Operation, Quotas, RefuseAt};
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use azure_dps_tests::{Shown, trusting};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const NODE: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&skn=registration&se=4102444800";
const CSHARP: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev1&sig=P1wMru%2FbYLuUEm38goUGiCB1G0FvU29FyUvULNCa0Us%3D&se=4102444800&skn=registration";
const PYTHON: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev1&sig=P1wMru%2FbYLuUEm38goUGiCB1G0FvU29FyUvULNCa0Us%3D&se=4102444800";
const C: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev1&sig=CvYQofVDffk3a26Mlzdacx4Qs9sBXcpHDOBwIM6IZf8%3d&se=4102444800&skn=registration";
const JAVA: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&se=4102444800&skn=";
const AZ_C: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev1&sig=CvYQofVDffk3a26Mlzdacx4Qs9sBXcpHDOBwIM6IZf8%3D&se=4102444800";
const WRONG_KEY: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=G%2BJlCBHjtC7cBIlLt1wxeGXf2C5YvzW54toF99D1BGo%3D&se=4102444800";
/// sensor-042 with the key derived from `PRIMARY`.
const SENSOR: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fsensor-042&sig=IcJC7HuQ7YbgrywaQH%2FwUTvwZlvXuUuUBsORFkDalWs%3D&se=4102444800";
const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

const V2019: &str = "0ne00EMU1A7/registrations/dev1/api-version=2019-03-31";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=";
const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=";
const REPLIES: &str = "$dps/registrations/res/#";

#[tokio::test]
async fn the_node_client_unsubscribes_before_it_leaves() {
    let emulator = start().await;
    let user = format!("{V2019}&ClientVersion=azure-iot-provisioning-device%2F1.9.2");
    let mut peer = Peer::signed_in(&emulator, CLEAN, 180, &user, NODE).await;
    let (register, poll) = ("66637297-ee10-4344-b4f2-6e1dd96b3da3", "bb003da2-bedc-40ae-bd67-d9d885e533ab");

    peer.publish(1, 21_662, &format!("{REGISTER}{register}"), r#"{"registrationId":"dev1"}"#).await;
    assert_eq!(peer.hear().await, Some(puback(21_662)));
    let reply = peer.reply().await;
    assert_eq!(reply.topic, format!("$dps/registrations/res/202/?$rid={register}&retry-after=3"));
    assert_eq!((reply.first, reply.id), (0x32, Some(2)), "QoS 1, no DUP, no RETAIN, packet id 2");
    let operation = reply.operation();
    assert_eq!(reply.body, json!({"operationId": operation, "status": "assigning"}));
    for (id, status) in [(21_663, 202), (21_664, 200)] {
        peer.publish(1, id, &format!("{POLL}{poll}&operationId={operation}"), " ").await;
        assert_eq!(peer.hear().await, Some(puback(id)));
        let reply = peer.reply().await;
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
    let mut peer = Peer::connect(&emulator).await;
    let user = format!(
        "{V2019}&ClientVersion=Microsoft.Azure.Devices.Provisioning.Client%2F1.19.2%20%28.NET%208.0.0%3B%20Linux%3B%20X64%29"
    );
    peer.say(&connect(CLEAN, 0, "dev1", &user, CSHARP)).await;
    assert_eq!(peer.hear().await, Some((0x20, vec![0, 0])), "no session present");
    peer.say(&packet(0x82, &[&[0, 1], &text(REPLIES), &[1]])).await;
    assert_eq!(peer.hear().await, Some((0x90, vec![0, 1, 1])));

    peer.publish(1, 2, &format!("{REGISTER}2"), "").await;
    assert_eq!(peer.hear().await, Some(puback(2)));
    let reply = peer.reply().await;
    assert!(reply.topic.starts_with("$dps/registrations/res/202/?$rid=2&retry-after="), "{}", reply.topic);
    peer.acknowledge(&reply).await;
    let operation = reply.operation();
    for (id, status) in [(3, "assigning"), (4, "assigned")] {
        peer.publish(1, id, &format!("{POLL}{id}&operationId={operation}"), "").await;
        assert_eq!(peer.hear().await, Some(puback(id)));
        let reply = peer.reply().await;
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
    let user = format!("{V2019}&ClientVersion=azure-iot-device-provisioning-py%2F2.14.0%283.11.7%3BLinux%29");
    let mut peer = Peer::signed_in(&emulator, NO_CLEAN, 60, &user, PYTHON).await;

    let body = r#"{"payload": null, "registrationId": "dev1"}"#;
    let state = peer.register(1, body, " ").await;

    assert_eq!(state["status"], "assigned");
    // It splits the topic at `$`, so that there must be two of them.
    peer.publish(1, 9, &format!("{REGISTER}a"), body).await;
    peer.hear().await;
    assert_eq!(peer.reply().await.topic.matches('$').count(), 2);
    peer.say(&[0xE0, 0]).await;
    // Nothing is kept for the next connection.
    let _again = Peer::signed_in(&emulator, NO_CLEAN, 60, &user, PYTHON).await;
}

#[tokio::test]
async fn the_c_client_publishes_with_qos_0_and_polls_with_a_body() {
    let emulator = start().await;
    let user = "0ne00EMU1A7/registrations/dev1/api-version=2021-06-01&ClientVersion=1.15.0";
    let mut peer = Peer::signed_in(&emulator, CLEAN, 0, user, C).await;

    let body = r#"{"registrationId":"dev1"}"#;
    let state = peer.register(0, body, body).await;

    assert_eq!(state["deviceId"], "dev1");
}

#[tokio::test]
async fn the_java_client_publishes_with_qos_0_and_repeats_the_version_as_its_name() {
    let emulator = start().await;
    let user = format!("{V2019}&ClientVersion=2019-03-31");
    let mut peer = Peer::signed_in(&emulator, NO_CLEAN, 230, &user, JAVA).await;

    let state = peer.register(0, r#"{"registrationId":"dev1","payload":"\"text\""}"#, "").await;

    assert_eq!(state["status"], "assigned");
}

#[tokio::test]
async fn the_az_c_client_uses_one_request_id_for_everything() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 240, V2019, AZ_C).await;
    for body in [r#"{"registrationId":"dev1"}"#, r#"{"registrationId":"dev1","payload":{"a":[1]}}"#] {
        let mut operation = String::new();
        for (topic, status) in [("", 202), ("operation", 202), ("operation", 200)] {
            let topic = match topic {
                "" => format!("{REGISTER}1"),
                _ => format!("{POLL}1&operationId={operation}"),
            };
            peer.publish(1, 7, &topic, if operation.is_empty() { body } else { "" }).await;
            assert_eq!(peer.hear().await, Some(puback(7)));
            let reply = peer.reply().await;
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
    let mut peer = Peer::signed_in(&emulator, CLEAN, 15, user, CSHARP).await;

    let state = peer.register(1, "{}", "").await;

    assert_eq!(state["substatus"], "initialAssignment");
    assert!(state.get("connectionProfile").is_none());
}

#[tokio::test]
async fn a_request_without_a_request_id_is_answered_under_an_empty_one() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
    for topic in ["iotdps-register/?rid=1", "iotdps-register/?$rid=", "iotdps-register/", "iotdps-register"] {
        peer.publish(0, 0, &format!("$dps/registrations/PUT/{topic}"), "{\"payload\" : {\"a\" : 1}}").await;
        let reply = peer.reply().await;
        assert_eq!(reply.topic, "$dps/registrations/res/202/?$rid=&retry-after=3", "{topic}");
        let poll =
            format!("$dps/registrations/GET/iotdps-get-operationstatus/?operationId={}", reply.operation());
        peer.publish(0, 0, &poll, "").await;
        let reply = peer.reply().await;
        assert_eq!(reply.topic, "$dps/registrations/res/202/?$rid=&retry-after=3");
        assert!(reply.body["registrationState"].is_object());
    }
}

#[tokio::test]
async fn a_client_that_goes_on_to_its_hub_here_is_told_so_in_the_journal() {
    let emulator = start().await;
    for user in [
        "hub-1.azure-devices.net/dev1/?api-version=2021-04-12",
        "localhost/dev1/?api-version=2021-04-12&DeviceClientType=x",
        "hub-1.azure-devices.net/dev1",
    ] {
        let mut peer = Peer::connect(&emulator).await;
        peer.say(&connect(CLEAN, 60, "dev1", user, NODE)).await;
        assert_eq!(peer.hear().await, Some((0x20, vec![0, 4])), "{user}");
        let cause = last(&emulator).cause.unwrap();
        assert!(
            cause.starts_with("the user name is that of a device at its IoT hub; this is the"),
            "{cause}"
        );
    }
}

/// As a client that failed and a new one of the same device in one process do, a hundred times a second.
#[tokio::test]
async fn clients_that_take_their_connection_from_each_other_are_one_entry_of_the_journal() {
    let emulator = start().await;
    let mut before = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
    for _ in 0..50 {
        let after = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
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
    let mut peer = Peer::connect(&emulator).await;
    let user = "0NE00EMU1A7/registrations/sensor-042/ClientVersion=a/b&x&api-version=2021-10-01";
    peer.say(&connect(CLEAN, 60, "SENSOR-042", user, SENSOR)).await;
    assert_eq!(peer.hear().await, Some((0x20, vec![0, 0])));
    peer.subscribe(1).await;

    let state = peer.register(1, "", "").await;

    assert_eq!(state["deviceId"], "sensor-042");
    assert!(state.get("symmetricKey").is_none(), "{state}");
}

#[tokio::test]
async fn a_refusal_at_register_has_code_and_tracking_id_and_keeps_the_connection() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 60, V2019, WRONG_KEY).await;
    for _ in 0..2 {
        peer.publish(1, 1, &format!("{REGISTER}r"), "{}").await;
        assert_eq!(peer.hear().await, Some(puback(1)));
        let reply = peer.reply().await;
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
    let mut peer = Peer::connect(&emulator).await;
    peer.say(&connect(CLEAN, 60, "dev2", unknown, &NODE.replace("dev1", "dev2"))).await;
    assert_eq!(peer.hear().await, Some((0x20, vec![0, 0])));
    peer.subscribe(1).await;
    peer.publish(0, 0, &format!("{REGISTER}r"), "{}").await;
    let reply = peer.reply().await;
    assert_eq!(reply.topic, "$dps/registrations/res/404/?$rid=r");
    assert_eq!(reply.body["errorCode"], 404_201);
}

#[tokio::test]
async fn a_refusal_at_connect_is_a_code() {
    let emulator = start_with(seeded().refuse_at(RefuseAt::Connect)).await;
    for (client_id, user, token, code, cause) in [
        ("dev1", V2019, WRONG_KEY, 5, "signature matches neither"),
        ("dev1", V2019, "", 5, "there is no token"),
        ("dev2", "0ne00EMU1A7/registrations/dev2/api-version=2019-03-31", NODE, 5, "another registration id"),
        ("dev1", "0ne00OTHER/registrations/dev1/api-version=2019-03-31", NODE, 5, "ID scope not found"),
        ("dev1", "0ne00EMU1A7/registrations/dev1/ClientVersion=1", NODE, 4, "api-version is missing"),
    ] {
        let mut peer = Peer::connect(&emulator).await;
        peer.say(&connect(CLEAN, 60, client_id, user, token)).await;
        assert_eq!(peer.hear().await, Some((0x20, vec![0, code])), "{user}");
        assert_eq!(peer.hear().await, None, "the connection ends");
        let entry = last(&emulator);
        assert_eq!((entry.method.as_str(), entry.id.as_deref()), ("CONNECT", Some(client_id)));
        assert!(entry.cause.as_ref().unwrap().contains(cause), "{entry}");
    }
    let before = emulator.journal().len();
    let mut peer = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
    assert_eq!(emulator.journal().len(), before, "a connection that is let in is no request");
    assert_eq!(peer.register(1, "", "").await["status"], "assigned");
}

#[tokio::test]
async fn a_tpm_has_no_way_in() {
    let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}});
    let seed = json!({"enrollments": [{"registrationId": "dev1", "attestation": tpm}]}).to_string();
    let emulator = start_with(Emulator::builder().seed_json(seed).refuse_at(RefuseAt::Connect)).await;
    let mut peer = Peer::connect(&emulator).await;

    peer.say(&connect(CLEAN, 60, "dev1", V2019, NODE)).await;

    assert_eq!(peer.hear().await, Some((0x20, vec![0, 5])));
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
        let mut peer = Peer::connect(&emulator).await;
        peer.say(&connect(CLEAN, 60, "dev1", user, NODE)).await;
        assert_eq!(peer.hear().await, Some((0x20, vec![0, code])), "{user}");
        assert_eq!(peer.hear().await, None);
        assert!(last(&emulator).cause.unwrap().contains(if code == 4 { "user name" } else { "client id" }));
    }
}

#[tokio::test]
async fn a_subscription_is_granted_with_at_most_qos_1() {
    let emulator = start().await;
    for (asked, granted) in [(0, 0), (1, 1), (2, 1)] {
        let mut peer = Peer::connect(&emulator).await;
        peer.say(&connect(CLEAN, 60, "dev1", V2019, NODE)).await;
        peer.hear().await;
        peer.say(&packet(0x82, &[&[1, 2], &text(REPLIES), &[asked]])).await;
        assert_eq!(peer.hear().await, Some((0x90, vec![1, 2, granted])));
        peer.publish(0, 0, &format!("{REGISTER}1"), "").await;
        assert_eq!(peer.reply().await.first, 0x30 | granted << 1);
    }
}

#[tokio::test]
async fn the_request_id_comes_back_byte_for_byte() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
    for rid in ["", "1", "su1", "a%2Fb+c d/é?x=y", &"r".repeat(1024)] {
        peer.publish(0, 0, &format!("{REGISTER}{rid}"), "").await;
        let wanted = format!("$dps/registrations/res/202/?$rid={rid}&retry-after=3");
        assert_eq!(peer.reply().await.topic, wanted);
    }
}

#[tokio::test]
async fn a_body_that_does_not_fit_is_answered_400() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
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
        let reply = peer.reply().await;
        assert_eq!(reply.topic, "$dps/registrations/res/400/?$rid=1", "{body}");
        assert_eq!(reply.body["errorCode"], code, "{body}");
    }
    peer.publish(0, 0, &format!("{POLL}1&operationId=5.nothing"), "").await;
    assert_eq!(peer.reply().await.topic, "$dps/registrations/res/404/?$rid=1");
}

#[tokio::test]
async fn a_disabled_enrollment_ends_as_disabled() {
    let mut enrollment = enrollment();
    enrollment["provisioningStatus"] = "disabled".into();
    let seed = json!({"enrollments": [enrollment]});
    let emulator = start_with(Emulator::builder().seed_json(seed.to_string())).await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;

    assert_eq!(peer.register(1, "", "").await["status"], "disabled");
}

#[tokio::test]
async fn the_newer_of_two_connections_stays() {
    let emulator = start().await;
    let mut older = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
    let mut newer = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;

    assert_eq!(older.hear().await, None);
    assert_eq!(newer.register(1, "", "").await["status"], "assigned");
    let causes = causes(&emulator);
    assert!(causes.contains("a newer connection has the same client id"), "{causes}");
}

#[tokio::test]
async fn packets_come_in_any_pieces() {
    let emulator = start().await;
    let mut peer = Peer::connect(&emulator).await;
    for byte in connect(CLEAN, 60, "dev1", V2019, NODE) {
        peer.say(&[byte]).await;
    }
    assert_eq!(peer.hear().await, Some((0x20, vec![0, 0])));
    let subscribe = packet(0x82, &[&[0, 1], &text(REPLIES), &[1]]);
    let register = publish(1, 2, &format!("{REGISTER}2"), "");
    peer.say(&[subscribe, register, vec![0xC0, 0]].concat()).await;
    assert_eq!(peer.hear().await.unwrap().0, 0x90);
    assert_eq!(peer.hear().await, Some(puback(2)));
    assert_eq!(peer.reply().await.operation().get(..2), Some("5."));
    assert_eq!(peer.hear().await, Some((0xD0, vec![])), "PINGRESP");
}

#[tokio::test]
async fn a_large_payload_passes_and_a_larger_one_does_not() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
    let body = |length: usize| json!({"payload": "x".repeat(length - 14)}).to_string();
    peer.publish(1, 1, &format!("{REGISTER}1"), &body(256 * 1024)).await;
    assert_eq!(peer.hear().await, Some(puback(1)));
    assert!(peer.reply().await.topic.contains("/202/"));

    let _broken = peer.stream.write_all(&publish(1, 2, &format!("{REGISTER}2"), &body(300 * 1024))).await;
    while peer.hear().await.is_some() {}
    assert!(causes(&emulator).contains("is larger than 266240"));
}

#[tokio::test]
async fn what_no_client_sends_ends_the_connection_and_the_journal_says_why() {
    let emulator = start().await;
    let mut bystander = Peer::signed_in(&emulator, CLEAN, 0, V2019, NODE).await;
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
        (vec![0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF], None, "no MQTT packet"),
    ] {
        let mut peer = Peer::connect(&emulator).await;
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
        (packet(0x82, &[&[0, 1], &text("#"), &[1]]), "nothing to subscribe to but"),
        (connect(CLEAN, 60, "dev3", other, NODE), "CONNECT is nothing that a connected client sends"),
        (vec![0xD0, 0], "PINGRESP is nothing that a connected client sends"),
        (vec![0x30, 1, 0], "no MQTT packet"),
    ] {
        let mut peer = Peer::connect(&emulator).await;
        peer.say(&connect(CLEAN, 60, "dev3", other, NODE)).await;
        assert_eq!(peer.hear().await, Some((0x20, vec![0, 0])));
        peer.say(&bytes).await;
        assert_eq!(peer.hear().await, None, "{cause}");
        let entry = last(&emulator);
        assert!(entry.status == 400 && entry.cause.as_ref().unwrap().contains(cause), "{entry}");
    }
    assert_eq!(bystander.register(1, "", "").await["status"], "assigned");
}

#[tokio::test]
async fn without_a_subscription_the_answer_goes_nowhere() {
    let emulator = start().await;
    let mut peer = Peer::connect(&emulator).await;
    peer.say(&connect(CLEAN, 60, "dev1", V2019, NODE)).await;
    peer.hear().await;
    peer.publish(1, 1, &format!("{REGISTER}1"), "").await;
    assert_eq!(peer.hear().await, Some(puback(1)));
    peer.say(&[0xC0, 0]).await;
    assert_eq!(peer.hear().await, Some((0xD0, vec![])));
    assert!(causes(&emulator).contains("no SUBSCRIBE came"));
    assert!(emulator.registrations().as_array().unwrap().is_empty());
}

/// The one test that waits for deadlines; they run side by side.
#[tokio::test]
async fn silence_ends_a_connection_after_its_deadline() {
    let emulator = start().await;
    let mut without_tls = TcpStream::connect(("127.0.0.1", emulator.mqtt_port())).await.unwrap();
    let mut without_connect = Peer::connect(&emulator).await;
    let mut without_ping = Peer::signed_in(&emulator, CLEAN, 1, V2019, NODE).await;

    assert_eq!(without_ping.hear().await, None);
    assert!(last(&emulator).cause.unwrap().contains("no packet came for 1.5s"));
    let mut nothing = [0];
    let both = async {
        assert_eq!(without_connect.hear().await, None);
        assert_eq!(without_tls.read(&mut nothing).await.unwrap(), 0);
    };
    timeout(Duration::from_secs(20), both).await.unwrap();
    let causes = causes(&emulator);
    assert!(causes.contains("no CONNECT came in time"), "{causes}");
    assert!(causes.contains("the TLS handshake took too long"), "{causes}");
}

#[tokio::test]
async fn a_client_that_does_not_trust_the_authority_is_in_the_journal() {
    let (emulator, stranger) = (start().await, start().await);

    assert!(Peer::try_connect(emulator.mqtt_port(), stranger.ca_pem()).await.is_err());

    while emulator.journal().is_empty() {
        tokio::task::yield_now().await;
    }
    let entry = last(&emulator);
    assert_eq!(entry.method, "TLS");
    assert!(entry.cause.as_ref().unwrap().starts_with("TLS handshake failed"), "{entry}");
}

#[tokio::test]
async fn the_clock_decides_whether_a_token_has_expired() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 0, V2019, NODE).await;
    let mut status = async || {
        peer.publish(0, 0, &format!("{REGISTER}1"), "").await;
        peer.reply().await.topic["$dps/registrations/res/".len()..][..3].to_owned()
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
async fn a_request_can_be_throttled_or_failed() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 0, V2019, NODE).await;
    emulator.inject(Fault::throttle(15).on(Operation::Register)).unwrap();
    emulator.inject(Fault::status(500).on(Operation::Poll)).unwrap();

    peer.publish(1, 1, &format!("{REGISTER}1"), "").await;
    assert_eq!(peer.hear().await, Some(puback(1)));
    let reply = peer.reply().await;
    assert_eq!(reply.topic, "$dps/registrations/res/429/?$rid=1&retry-after=15");
    assert_eq!(reply.body["errorCode"], 429_001);
    assert!(emulator.registrations().as_array().unwrap().is_empty(), "nothing was carried out");
    assert_eq!(last(&emulator).cause.as_deref(), Some("fault: answered in place of the service"));

    peer.publish(0, 0, &format!("{REGISTER}2"), "").await;
    let operation = peer.reply().await.operation();
    peer.publish(0, 0, &format!("{POLL}3&operationId={operation}"), "").await;
    let reply = peer.reply().await;
    assert_eq!(reply.topic, "$dps/registrations/res/500/?$rid=3");
    assert_eq!(reply.body["errorCode"], 500_000);
    peer.publish(0, 0, &format!("{POLL}4&operationId={operation}"), "").await;
    assert!(peer.reply().await.topic.contains("/202/"));
}

#[tokio::test]
async fn a_quota_is_told_in_the_topic() {
    let emulator =
        start_with(seeded().quotas(Quotas::documented().with_registrations(1).with_polls(1))).await;
    emulator.set_clock(UNIX_EPOCH + Duration::from_secs(1_893_456_000));
    let mut peer = Peer::signed_in(&emulator, CLEAN, 0, V2019, NODE).await;

    peer.publish(0, 0, &format!("{REGISTER}1"), "").await;
    let operation = peer.reply().await.operation();
    peer.publish(0, 0, &format!("{REGISTER}2"), "").await;
    let reply = peer.reply().await;
    assert_eq!(reply.topic, "$dps/registrations/res/429/?$rid=2&retry-after=60");
    assert_eq!(reply.body["errorCode"], 429_001);
    assert_eq!(last(&emulator).cause.as_deref(), Some("quota: 1 device registrations per minute"));
    for (rid, status) in [(3, "202/?$rid=3&retry-after=3"), (4, "429/?$rid=4&retry-after=10")] {
        peer.publish(0, 0, &format!("{POLL}{rid}&operationId={operation}"), "").await;
        assert_eq!(peer.reply().await.topic, format!("$dps/registrations/res/{status}"));
    }
    assert_eq!(last(&emulator).cause.as_deref(), Some("quota: 1 polls of dev1 in 10 s"));
}

#[tokio::test]
async fn an_answer_can_be_lost_spoilt_misdirected_or_doubled() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 0, V2019, NODE).await;
    let topic = format!("{REGISTER}1");
    for fault in
        [Fault::garbage(), Fault::wrong_rid(), Fault::duplicate_reply(), Fault::stall(), Fault::hang_up()]
    {
        emulator.inject(fault.on(Operation::Register).of("dev1")).unwrap();
    }

    peer.publish(0, 0, &topic, "").await;
    let garbage = peer.reply().await;
    assert_eq!((garbage.topic.as_str(), &garbage.body), ("$dps/registrations/res/200/?$rid=1", &Value::Null));
    peer.publish(0, 0, &topic, "").await;
    assert_eq!(peer.reply().await.topic, "$dps/registrations/res/202/?$rid=wrong-1&retry-after=3");
    peer.publish(0, 0, &topic, "").await;
    let (first, second) = (peer.reply().await, peer.reply().await);
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
        let mut peer = Peer::connect(&emulator).await;
        peer.say(&connect(CLEAN, 60, "dev1", V2019, NODE)).await;
        match heard {
            Some((first, rest)) if rest.is_empty() => assert_eq!(peer.stream.read_u8().await.unwrap(), first),
            heard => assert_eq!(peer.hear().await, heard),
        }
        assert_eq!(last(&emulator).method, "CONNECT");
    }
    Peer::signed_in(&emulator, CLEAN, 60, V2019, NODE).await;
}

#[tokio::test]
async fn the_journal_has_no_secret() {
    let emulator = start_with(seeded().refuse_at(RefuseAt::Connect)).await;
    let mut peer = Peer::signed_in(&emulator, CLEAN, 0, V2019, NODE).await;
    peer.register(1, r#"{"payload":{"password":"hunter2"}}"#, "").await;
    for (user, token) in [(V2019, WRONG_KEY), (NODE, ""), ("", NODE)] {
        let mut peer = Peer::connect(&emulator).await;
        peer.say(&connect(CLEAN, 0, "dev1", user, token)).await;
        peer.hear().await;
        assert_eq!(peer.hear().await, None);
    }
    let text = format!("{:?} {emulator:?}", emulator.journal());
    for secret in ["sig=", "SharedAccess", "Eha5Nv0", "hunter2", PRIMARY] {
        assert!(!text.contains(secret), "{secret}");
    }
}

/// A client in literal bytes.
struct Peer {
    stream: TlsStream<TcpStream>,
}

struct Reply {
    first: u8,
    topic: String,
    id: Option<u16>,
    /// Null when it is no JSON.
    body: Value,
}

impl Reply {
    fn operation(&self) -> String {
        self.body["operationId"].as_str().unwrap().to_owned()
    }
}

impl Peer {
    async fn connect(emulator: &Emulator) -> Self {
        Self::try_connect(emulator.mqtt_port(), emulator.ca_pem()).await.unwrap()
    }

    async fn try_connect(port: u16, ca_pem: &str) -> std::io::Result<Self> {
        let config = trusting(ca_pem);
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let stream =
            TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await?;
        Ok(Peer { stream })
    }

    /// A peer that has its CONNACK 0 and its SUBACK 1.
    async fn signed_in(emulator: &Emulator, flags: u8, keep_alive: u16, user: &str, token: &str) -> Self {
        let mut peer = Self::connect(emulator).await;
        peer.say(&connect(flags, keep_alive, "dev1", user, token)).await;
        assert_eq!(peer.hear().await, Some((0x20, vec![0, 0])), "CONNACK 0 without a session");
        peer.subscribe(1).await;
        peer
    }

    async fn subscribe(&mut self, qos: u8) {
        self.say(&packet(0x82, &[&[0, 1], &text(REPLIES), &[qos]])).await;
        assert_eq!(self.hear().await, Some((0x90, vec![0, 1, qos])), "SUBACK");
    }

    /// Registers and polls to the end, and gives the registration state.
    async fn register(&mut self, qos: u8, body: &str, poll_body: &str) -> Value {
        let mut topic = format!("{REGISTER}1");
        let mut body = body;
        for rid in 2.. {
            self.publish(qos, rid, &topic, body).await;
            if qos == 1 {
                assert_eq!(self.hear().await, Some(puback(rid)), "PUBACK before the reply");
            }
            let reply = self.reply().await;
            self.acknowledge(&reply).await;
            assert!(reply.topic.contains(&format!("?$rid={}", rid - 1)), "{}", reply.topic);
            match reply.body["status"].as_str().unwrap() {
                "assigning" => assert!(reply.topic.ends_with("&retry-after=3"), "{}", reply.topic),
                _ => {
                    assert!(rid > 2, "the first answer is never the last");
                    return reply.body["registrationState"].clone();
                }
            }
            topic = format!("{POLL}{rid}&operationId={}", reply.operation());
            body = poll_body;
        }
        unreachable!()
    }

    async fn publish(&mut self, qos: u8, id: u16, topic: &str, body: &str) {
        self.say(&publish(qos, id, topic, body)).await;
    }

    async fn acknowledge(&mut self, reply: &Reply) {
        if let Some(id) = reply.id {
            self.say(&[&[0x40, 2][..], &id.to_be_bytes()].concat()).await;
        }
    }

    async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// The next packet: its first byte, and what stands behind the length. `None` at the end.
    async fn hear(&mut self) -> Option<(u8, Vec<u8>)> {
        let first = self.stream.read_u8().await.ok()?;
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.stream.read_u8().await.ok()?;
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut rest = vec![0; length];
        self.stream.read_exact(&mut rest).await.ok()?;
        Some((first, rest))
    }

    /// The next packet, which is a PUBLISH.
    async fn reply(&mut self) -> Reply {
        let (first, rest) = self.hear().await.unwrap();
        assert_eq!(first & 0xF0, 0x30, "PUBLISH");
        let length = usize::from(rest[0]) << 8 | usize::from(rest[1]);
        let topic = String::from_utf8(rest[2..2 + length].to_vec()).unwrap();
        let mut rest = &rest[2 + length..];
        let id = (first & 0b110 != 0).then(|| {
            let id = u16::from_be_bytes([rest[0], rest[1]]);
            assert_ne!(id, 0);
            rest = &rest[2..];
            id
        });
        Reply { first, topic, id, body: serde_json::from_slice(rest).unwrap_or_default() }
    }
}

const CLEAN: u8 = 0b1100_0010;
const NO_CLEAN: u8 = 0b1100_0000;

fn connect(flags: u8, keep_alive: u16, client_id: &str, user: &str, token: &str) -> Vec<u8> {
    let fixed = [4, flags];
    packet(
        0x10,
        &[&text("MQTT"), &fixed, &keep_alive.to_be_bytes(), &text(client_id), &text(user), &text(token)],
    )
}

fn publish(qos: u8, id: u16, topic: &str, body: &str) -> Vec<u8> {
    let id = id.to_be_bytes();
    packet(0x30 | qos << 1, &[&text(topic), if qos == 0 { &[] } else { &id }, body.as_bytes()])
}

fn puback(id: u16) -> (u8, Vec<u8>) {
    (0x40, id.to_be_bytes().to_vec())
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let rest = parts.concat();
    let mut packet = vec![first];
    let mut length = rest.len();
    while length >= 0x80 {
        packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    packet.push(u8::try_from(length).unwrap());
    packet.extend(rest);
    packet
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

async fn start() -> Shown {
    start_with(seeded()).await
}

async fn start_with(builder: EmulatorBuilder) -> Shown {
    Shown(builder.retry_after(3).polls(1).start().await.unwrap())
}

/// An emulator that knows dev1.
fn seeded() -> EmulatorBuilder {
    Emulator::builder().seed_json(json!({"enrollments": [enrollment()]}).to_string())
}

fn enrollment() -> Value {
    json!({"registrationId": "dev1", "attestation": keys()})
}

fn keys() -> Value {
    json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY}})
}

fn last(emulator: &Emulator) -> Entry {
    emulator.journal().pop().unwrap()
}

fn causes(emulator: &Emulator) -> String {
    emulator.journal().into_iter().filter_map(|entry| entry.cause).collect::<Vec<_>>().join("\n")
}
