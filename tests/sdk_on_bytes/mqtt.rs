//! The MQTT transport against a peer that speaks literal bytes: what is on the wire, and every way a peer can fail.
//!
//! Expected values: MQTT 3.1.1, and packets that the official Node.js client (azure-iot-provisioning-device 1.9.1) was
//! seen to send, apart from the api-version, the keep-alive, `$rid` and the body of a poll.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)] // Test code.

use std::sync::Arc;
use std::time::Duration;

use azure_dps_core::{Endpoint, Error, ErrorKind};
use azure_dps_device::{Assignment, Credential, DeviceClient, Mqtt, RegistrationPolicy, Slot, Tpm, TpmKeys};
use azure_dps_tests::{MqttTalk, RawPeer, TlsListener, closed_port, device};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;

const ID: &str = "interop-sym-01";
const KEY: &str = "LUu96OcIySTuTZ+HPaNcqIX1hHXsJEZv4e5FPvaM2Rk=";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=";
const POLL: &str = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=";
const ACCEPTED: [u8; 4] = [0x20, 2, 0, 0];

fn credential() -> Credential {
    Credential::symmetric_key(ID.parse().unwrap(), KEY.parse().unwrap())
}

fn client(listener: &TlsListener) -> DeviceClient {
    device("0ne00ABCDEF", credential(), Mqtt::new(listener.endpoint()))
}

type Registration = tokio::task::JoinHandle<Result<Assignment, Error>>;

fn register(client: DeviceClient) -> Registration {
    tokio::spawn(async move { client.register().await })
}

/// A registration whose first request was just heard: its `$rid`, its body, and the packet id.
async fn heard_register(listener: &TlsListener) -> (MqttTalk, String, Vec<u8>, u8) {
    let mut talk = signed_in(listener).await;
    let (topic, id, body) = heard_publish(&mut talk).await;
    let rid = topic.strip_prefix(REGISTER).unwrap().to_owned();
    (talk, rid, body, id)
}

async fn signed_in(listener: &TlsListener) -> MqttTalk {
    let mut talk = listener.accept().await;
    assert_eq!(talk.hear().await.unwrap().0, 0x10, "CONNECT");
    talk.say(&ACCEPTED).await;
    let (first, rest) = talk.hear().await.unwrap();
    assert_eq!(first, 0x82, "SUBSCRIBE");
    talk.say(&[0x90, 3, rest[0], rest[1], 1]).await;
    talk
}

/// A PUBLISH with QoS 1: topic, packet id, payload.
async fn heard_publish(talk: &mut MqttTalk) -> (String, u8, Vec<u8>) {
    let (first, rest) = talk.hear().await.unwrap();
    assert_eq!(first, 0x32, "PUBLISH, QoS 1, no DUP, no RETAIN");
    let length = usize::from(rest[0]) << 8 | usize::from(rest[1]);
    let topic = String::from_utf8(rest[2..2 + length].to_vec()).unwrap();
    (topic, rest[3 + length], rest[4 + length..].to_vec())
}

fn assigning() -> String {
    json!({ "operationId": "op-1", "status": "assigning" }).to_string()
}

fn assigned() -> String {
    json!({ "operationId": "op-1", "status": "assigned", "registrationState": {
        "registrationId": ID, "assignedHub": "hub.example", "deviceId": ID, "status": "assigned"
    } })
    .to_string()
}

fn reply(status: u16, rid: &str, more: &str) -> String {
    format!("$dps/registrations/res/{status}/?$rid={rid}{more}")
}

fn text(bytes: &mut &[u8]) -> String {
    let length = usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    let text = String::from_utf8(bytes[2..2 + length].to_vec()).unwrap();
    *bytes = &bytes[2 + length..];
    text
}

#[tokio::test]
async fn a_registration_is_signed_in_subscribed_and_published_as_documented() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = listener.accept().await;

    let (first, rest) = talk.hear().await.unwrap();
    assert_eq!(first, 0x10);
    let mut rest = rest.as_slice();
    assert_eq!(text(&mut rest), "MQTT");
    assert_eq!(
        rest[..4],
        [4, 0b1100_0010, 0, 60],
        "level 4; user name, password, clean session; 60 s keep-alive"
    );
    rest = &rest[4..];
    assert_eq!(text(&mut rest), ID);
    let user = text(&mut rest);
    let version =
        "0ne00ABCDEF/registrations/interop-sym-01/api-version=2021-10-01&ClientVersion=azure-dps-device%2F";
    assert!(user.starts_with(version), "{user}");
    let password = text(&mut rest);
    assert!(
        password.starts_with("SharedAccessSignature sr=0ne00ABCDEF%2Fregistrations%2Finterop-sym-01&sig=")
    );
    assert!(rest.is_empty());
    talk.say(&ACCEPTED).await;

    let filter = b"$dps/registrations/res/#";
    let expected = [&[0, 1, 0, filter.len() as u8][..], filter, &[1]].concat();
    assert_eq!(talk.hear().await.unwrap(), (0x82, expected), "packet id 1, QoS 1");
    talk.say(&[0x90, 3, 0, 1, 1]).await;

    let (topic, id, body) = heard_publish(&mut talk).await;
    assert_eq!((topic.as_str(), id), ("$dps/registrations/PUT/iotdps-register/?$rid=2", 2));
    assert_eq!(body, br#"{"registrationId":"interop-sym-01"}"#);
    talk.say(&[0x40, 2, 0, id]).await;
    talk.publish(7, &reply(202, "2", "&retry-after=0"), &assigning()).await;
    assert_eq!(talk.hear().await.unwrap(), (0x40, vec![0, 7]), "PUBACK");

    let (topic, id, body) = heard_publish(&mut talk).await;
    assert_eq!(topic, "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=3&operationId=op-1");
    assert!(body.is_empty());
    talk.say(&[0x40, 2, 0, id]).await;
    talk.publish(8, &reply(200, "3", ""), &assigned()).await;
    assert_eq!(talk.hear().await.unwrap(), (0x40, vec![0, 8]));
    assert_eq!(talk.hear().await.unwrap(), (0xE0, vec![]), "DISCONNECT");
    assert_eq!(talk.hear().await, None, "and the connection ends");

    let assignment = registration.await.unwrap().unwrap();
    let summary = assignment.summary();
    assert_eq!((assignment.hub(), summary.transport, summary.requests), ("hub.example", "MQTT", 2));
}

#[tokio::test]
async fn only_the_reply_to_the_own_request_counts_and_it_may_overtake_the_acknowledgement() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, _, id) = heard_register(&listener).await;
    talk.publish(1, &reply(401, "somebody-else", ""), "{}").await;
    talk.publish(2, &reply(200, &rid, ""), &assigned()).await;
    talk.say(&[0x40, 2, 0, id]).await;
    assert_eq!(registration.await.unwrap().unwrap().hub(), "hub.example");
}

#[tokio::test]
async fn a_reply_with_qos_0_is_taken_and_not_acknowledged() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, ..) = heard_register(&listener).await;
    let (topic, body) = (reply(200, &rid, ""), assigned());
    let length = 2 + topic.len() + body.len();
    let mut packet = vec![0x30, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8, 0, topic.len() as u8];
    packet.extend_from_slice(topic.as_bytes());
    packet.extend_from_slice(body.as_bytes());
    talk.say(&packet).await;
    assert_eq!(talk.hear().await.unwrap().0, 0xE0, "DISCONNECT comes next");
    registration.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_payload_of_256_kib_goes_out_and_a_larger_one_is_refused_before_it_does() {
    let listener = TlsListener::start().await;
    let client = device(
        "0ne00ABCDEF",
        credential(),
        Mqtt::new(listener.endpoint().with_exchange_timeout(Duration::from_secs(20))),
    );
    let large = client.clone();
    let registration =
        tokio::spawn(async move { large.register().payload("x".repeat(256 * 1024 - 64)).await });
    let (mut talk, rid, body, _) = heard_register(&listener).await;
    assert!(body.len() > 256 * 1024 - 64 && body.len() <= 256 * 1024);
    talk.publish(1, &reply(200, &rid, ""), &assigned()).await;
    registration.await.unwrap().unwrap();

    let registration = tokio::spawn(async move { client.register().payload("x".repeat(300 * 1024)).await });
    let mut talk = signed_in(&listener).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("256 KiB"), "{error}");
    assert_eq!(talk.hear().await, None);
}

#[tokio::test]
async fn every_refusal_at_connect_is_a_kind() {
    for (code, kind) in [
        (1, ErrorKind::Protocol),
        (2, ErrorKind::Unauthorized),
        (4, ErrorKind::Unauthorized),
        (5, ErrorKind::Unauthorized),
    ] {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let mut talk = listener.accept().await;
        talk.hear().await.unwrap();
        talk.say(&[0x20, 2, 0, code]).await;
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!("CONNACK {code}")), "{error}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_available_is_tried_again() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    for _ in 0..3 {
        let mut talk = listener.accept().await;
        talk.hear().await.unwrap();
        talk.say(&[0x20, 2, 0, 3]).await;
    }
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_refusal_of_the_request_carries_all_the_evidence() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, ..) = heard_register(&listener).await;
    let body = json!({ "errorCode": 401002, "trackingId": "t-1", "message": "Unauthorized" }).to_string();
    talk.publish(1, &reply(401, &rid, ""), &body).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let service = error.service().unwrap();
    assert_eq!((service.code, service.tracking_id.as_deref()), (Some(401002), Some("t-1")));
}

#[tokio::test]
async fn throttling_is_waited_out_on_the_same_connection() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, ..) = heard_register(&listener).await;
    talk.publish(1, &reply(429, &rid, "&retry-after=0"), r#"{"errorCode":429001}"#).await;
    assert_eq!(talk.hear().await.unwrap().0, 0x40);
    let (topic, ..) = heard_publish(&mut talk).await;
    assert_ne!(topic, format!("{REGISTER}{rid}"), "every request has a $rid of its own");
    talk.publish(2, &reply(200, topic.strip_prefix(REGISTER).unwrap(), ""), &assigned()).await;
    registration.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lost_connection_registers_anew() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, ..) = heard_register(&listener).await;
    talk.publish(1, &reply(202, &rid, "&retry-after=0"), &assigning()).await;
    assert_eq!(talk.hear().await.unwrap().0, 0x40);
    let (topic, ..) = heard_publish(&mut talk).await;
    assert!(topic.starts_with(POLL));
    drop(talk);
    let (mut talk, rid, ..) = heard_register(&listener).await;
    talk.publish(1, &reply(200, &rid, ""), &assigned()).await;
    assert_eq!(registration.await.unwrap().unwrap().summary().connects, 2);
}

/// Cut after each packet of the client in turn, three times in a row: never a hang, always a kind.
#[tokio::test]
async fn a_peer_that_goes_at_any_step_is_a_lost_connection() {
    for step in 0..4 {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        for _ in 0..3 {
            let mut talk = listener.accept().await;
            if step > 0 {
                talk.hear().await.unwrap();
            }
            if step > 1 {
                talk.say(&ACCEPTED).await;
                talk.hear().await.unwrap();
            }
            if step > 2 {
                talk.say(&[0x90, 3, 0, 1, 1]).await;
                talk.hear().await.unwrap();
            }
        }
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "step {step}: {error}");
    }
}

#[tokio::test]
async fn a_peer_that_falls_silent_ends_when_the_step_may_take_no_longer() {
    for step in 0..3 {
        let listener = TlsListener::start().await;
        let policy = RegistrationPolicy::new().with_connect_attempts(1);
        let registration = register(client(&listener).with_policy(policy));
        let mut talk = listener.accept().await;
        talk.hear().await.unwrap();
        if step > 0 {
            talk.say(&ACCEPTED).await;
            talk.hear().await.unwrap();
        }
        if step > 1 {
            talk.say(&[0x90, 3, 0, 1, 1]).await;
            talk.hear().await.unwrap();
        }
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "step {step}");
        assert!(error.to_string().contains("within 300ms"), "{error}");
    }
}

#[tokio::test]
async fn what_is_not_understood_ends_the_registration() {
    let cases: [(&str, &[u8]); 5] = [
        ("no packet of MQTT", &[0x00, 0x04, 1, 2, 3, 4]),
        ("a SUBACK before the CONNACK", &[0x90, 3, 0, 1, 1]),
        ("an unknown CONNACK code", &[0x20, 2, 0, 99]),
        ("a packet larger than agreed", &[0x30, 0xff, 0xff, 0xff, 0x7f]),
        ("a packet of clients", &[0xC0, 0]),
    ];
    for (case, bytes) in cases {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let mut talk = listener.accept().await;
        talk.hear().await.unwrap();
        talk.say(bytes).await;
        let error = registration.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{case}: {error:?}");
    }
}

#[tokio::test]
async fn a_topic_that_holds_no_reply_ends_the_registration() {
    for topic in ["$dps/registrations/res/200", "$iothub/twin/res/200/?$rid=2"] {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let (mut talk, ..) = heard_register(&listener).await;
        talk.publish(1, topic, "{}").await;
        assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);
    }
}

#[tokio::test]
async fn a_refused_subscription_is_a_refused_credential() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = listener.accept().await;
    talk.hear().await.unwrap();
    talk.say(&ACCEPTED).await;
    talk.hear().await.unwrap();
    talk.say(&[0x90, 3, 0, 1, 0x80]).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Unauthorized);
}

#[tokio::test]
async fn a_stalled_poll_ends_with_the_deadline_and_names_the_operation() {
    let listener = TlsListener::start().await;
    let endpoint = listener.endpoint().with_exchange_timeout(Duration::from_secs(60));
    let client = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint));
    let registration =
        tokio::spawn(async move { client.register().timeout(Duration::from_millis(500)).await });
    let (mut talk, rid, ..) = heard_register(&listener).await;
    talk.publish(1, &reply(202, &rid, ""), &assigning()).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.operation_id()), (ErrorKind::Timeout, Some("op-1")));
}

#[tokio::test]
async fn nobody_there_and_nobody_trusted_are_told_apart() {
    let endpoint = Endpoint::new("localhost").unwrap().with_port(closed_port().await);
    let error = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);

    let listener = TlsListener::start().await;
    let endpoint = listener.endpoint().trust_only(&TlsListener::start().await.ca_pem).unwrap();
    let client = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint));
    let registration = register(client);
    let accepted = tokio::spawn(async move { listener.accept().await });
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
    assert!(accepted.await.is_err());
}

#[tokio::test]
async fn a_peer_that_never_speaks_tls_ends_with_the_connect_limit() {
    let peer = RawPeer::silent().await;
    let endpoint = Endpoint::new("localhost")
        .unwrap()
        .with_port(peer.port)
        .with_connect_timeout(Duration::from_millis(200));
    let error = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);

    let peer = RawPeer::start(|mut stream| async move {
        let _ = stream.write_all(b"220 smtp.example ESMTP\r\n").await;
        std::future::pending::<()>().await;
    })
    .await;
    let endpoint = Endpoint::new("localhost").unwrap().with_port(peer.port);
    let error = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
}

#[derive(Debug)]
struct NoTpm;

impl Tpm for NoTpm {
    fn public_keys(&self) -> azure_dps_core::Result<TpmKeys> {
        Ok(TpmKeys { endorsement_key: vec![], storage_root_key: vec![] })
    }

    fn import(&self, _: &[u8], _: Slot) -> azure_dps_core::Result<()> {
        unreachable!("nothing is sent")
    }

    fn sign(&self, _: Slot, _: &[u8]) -> azure_dps_core::Result<Vec<u8>> {
        unreachable!("nothing is sent")
    }
}

#[tokio::test]
async fn what_mqtt_has_no_form_for_is_refused_before_anything_is_sent() {
    let endpoint = Endpoint::new("localhost").unwrap().with_port(closed_port().await);
    let lookup = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint.clone())).lookup().await.unwrap_err();
    assert_eq!(lookup.kind(), ErrorKind::Unsupported);
    let tpm = Credential::tpm(ID.parse().unwrap(), Arc::new(NoTpm));
    let error = device("0ne00ABCDEF", tpm, Mqtt::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("TPM"), "{error}");
}
