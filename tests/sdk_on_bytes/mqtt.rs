//! The SDK's MQTT transport: its packets, and the service's replies to them.
//!
//! Expected values: MQTT 3.1.1, and packets of the official Node.js client (azure-iot-provisioning-device 1.9.1), apart
//! from the api-version, the keep-alive, `$rid` and the body of a poll.

use std::sync::Arc;

use azure_dps_core::{Endpoint, ErrorKind};
use azure_dps_device::{Credential, DeviceClient, Mqtt, Slot, Tpm, TpmKeys};
use azure_dps_tests::mqtt_bytes::{POLL, REGISTER, REPLIES, puback, take_text, text};
use azure_dps_tests::mqtt_service::{ACCEPTED, MqttService, reply};
use azure_dps_tests::registration::{ID, assigned, assigning, credential, register};
use azure_dps_tests::{CLOSED_PORT, TlsListener, device};
use serde_json::json;

pub(crate) fn client(listener: &TlsListener) -> DeviceClient {
    device("0ne00ABCDEF", credential(), Mqtt::new(listener.endpoint()))
}

#[tokio::test]
async fn a_registration_is_signed_in_subscribed_and_published_as_documented() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = MqttService::accept(&listener).await;

    let (first, rest) = talk.hear().await.unwrap();
    assert_eq!(first, 0x10);
    let mut rest = rest.as_slice();
    assert_eq!(take_text(&mut rest), "MQTT");
    assert_eq!(
        rest[..4],
        [4, 0b1100_0010, 0, 60],
        "level 4; user name, password, clean session; 60 s keep-alive"
    );
    rest = &rest[4..];
    assert_eq!(take_text(&mut rest), ID);
    let user = take_text(&mut rest);
    let version =
        "0ne00ABCDEF/registrations/interop-sym-01/api-version=2021-10-01&ClientVersion=azure-dps-device%2F";
    assert!(user.starts_with(version), "{user}");
    let password = take_text(&mut rest);
    assert!(
        password.starts_with("SharedAccessSignature sr=0ne00ABCDEF%2Fregistrations%2Finterop-sym-01&sig=")
    );
    assert!(rest.is_empty());
    talk.say(&ACCEPTED).await;

    let expected = [&[0, 1][..], &text(REPLIES), &[1]].concat();
    assert_eq!(talk.hear().await.unwrap(), (0x82, expected), "packet id 1, QoS 1");
    talk.say(&[0x90, 3, 0, 1, 1]).await;

    let request = talk.request().await;
    assert_eq!(
        (request.topic.as_str(), request.id),
        ("$dps/registrations/PUT/iotdps-register/?$rid=2", Some(2))
    );
    assert_eq!(request.payload, br#"{"registrationId":"interop-sym-01"}"#);
    talk.acknowledge(&request).await;
    talk.publish(1, 7, &reply(202, "2", "&retry-after=0"), &assigning()).await;
    assert_eq!(talk.hear().await, Some(puback(7)));

    let request = talk.request().await;
    assert_eq!(request.topic, "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=3&operationId=op-1");
    assert!(request.payload.is_empty());
    talk.acknowledge(&request).await;
    talk.publish(1, 8, &reply(200, "3", ""), &assigned()).await;
    assert_eq!(talk.hear().await, Some(puback(8)));
    assert_eq!(talk.hear().await.unwrap(), (0xE0, vec![]), "DISCONNECT");
    assert_eq!(talk.hear().await, None, "and the connection ends");

    let assignment = registration.await.unwrap().unwrap();
    let summary = assignment.summary().unwrap();
    assert_eq!((assignment.hub(), summary.transport, summary.requests), ("hub.example", "MQTT", 2));
}

#[tokio::test]
async fn only_the_reply_to_the_own_request_counts_and_it_may_overtake_the_acknowledgement() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, request) = MqttService::requested(&listener).await;
    talk.publish(1, 1, &reply(401, "somebody-else", ""), "{}").await;
    talk.publish(1, 2, &reply(200, &rid, ""), &assigned()).await;
    talk.acknowledge(&request).await;
    assert_eq!(registration.await.unwrap().unwrap().hub(), "hub.example");
}

#[tokio::test]
async fn a_reply_with_qos_0_is_taken_and_not_acknowledged() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, ..) = MqttService::requested(&listener).await;
    talk.publish(0, 0, &reply(200, &rid, ""), &assigned()).await;
    assert_eq!(talk.hear().await.unwrap().0, 0xE0, "DISCONNECT comes next");
    registration.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_payload_of_256_kib_goes_out_and_a_larger_one_is_refused_before_it_does() {
    let listener = TlsListener::start().await;
    let client = client(&listener);
    let large = client.clone();
    let registration =
        tokio::spawn(async move { large.register().payload("x".repeat(256 * 1024 - 64)).await });
    let (mut talk, rid, request) = MqttService::requested(&listener).await;
    assert!(request.payload.len() > 256 * 1024 - 64 && request.payload.len() <= 256 * 1024);
    talk.publish(1, 1, &reply(200, &rid, ""), &assigned()).await;
    registration.await.unwrap().unwrap();

    let registration = tokio::spawn(async move { client.register().payload("x".repeat(300 * 1024)).await });
    let mut talk = MqttService::listening(&listener).await;
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
        let mut talk = MqttService::accept(&listener).await;
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
        let mut talk = MqttService::accept(&listener).await;
        talk.hear().await.unwrap();
        talk.say(&[0x20, 2, 0, 3]).await;
    }
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Connect);
}

#[tokio::test]
async fn a_refusal_of_the_request_carries_all_the_evidence() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, ..) = MqttService::requested(&listener).await;
    let body = json!({ "errorCode": 401002, "trackingId": "t-1", "message": "Unauthorized" }).to_string();
    talk.publish(1, 1, &reply(401, &rid, ""), &body).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let service = error.service().unwrap();
    assert_eq!((service.code, service.tracking_id.as_deref()), (Some(401002), Some("t-1")));
}

#[tokio::test]
async fn throttling_is_waited_out_on_the_same_connection() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, ..) = MqttService::requested(&listener).await;
    talk.publish(1, 1, &reply(429, &rid, "&retry-after=0"), r#"{"errorCode":429001}"#).await;
    assert_eq!(talk.hear().await.unwrap().0, 0x40);
    let topic = talk.request().await.topic;
    assert_ne!(topic, format!("{REGISTER}{rid}"), "every request has another $rid");
    talk.publish(1, 2, &reply(200, topic.strip_prefix(REGISTER).unwrap(), ""), &assigned()).await;
    registration.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lost_connection_registers_anew() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, rid, ..) = MqttService::requested(&listener).await;
    talk.publish(1, 1, &reply(202, &rid, "&retry-after=0"), &assigning()).await;
    assert_eq!(talk.hear().await.unwrap().0, 0x40);
    let topic = talk.request().await.topic;
    assert!(topic.starts_with(POLL));
    drop(talk);
    let (mut talk, rid, ..) = MqttService::requested(&listener).await;
    talk.publish(1, 1, &reply(200, &rid, ""), &assigned()).await;
    assert_eq!(registration.await.unwrap().unwrap().summary().unwrap().connects, 2);
}

#[tokio::test]
async fn requests_that_mqtt_does_not_support_are_refused_before_anything_is_sent() {
    let endpoint = Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
    let lookup = device("0ne00ABCDEF", credential(), Mqtt::new(endpoint.clone())).lookup().await.unwrap_err();
    assert_eq!(lookup.kind(), ErrorKind::Unsupported);
    let tpm = Credential::tpm(ID.parse().unwrap(), Arc::new(NoTpm));
    let error = device("0ne00ABCDEF", tpm, Mqtt::new(endpoint)).register().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("TPM"), "{error}");
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
