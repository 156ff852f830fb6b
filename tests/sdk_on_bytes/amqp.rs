//! The SDK's AMQP transport: its frames, and the service's replies to them.
//!
//! Expected values: AMQP 1.0, and frames of the official Node.js client (azure-iot-provisioning-device
//! 1.9.1), apart from the api-version, the names of container and links, and the limits.

use std::time::{Duration, Instant};

use azure_dps_core::{Endpoint, ErrorKind};
use azure_dps_device::{Amqp, DeviceClient, RegistrationPolicy};
use azure_dps_tests::amqp_bytes::*;
use azure_dps_tests::amqp_service::*;
use azure_dps_tests::registration::{assigned, assigning, credential, register};
use azure_dps_tests::{CLOSED_PORT, TlsListener, device};
use serde_json::json;

const ADDRESS: &str = "0ne00ABCDEF/registrations/interop-sym-01";

pub(crate) fn client(listener: &TlsListener) -> DeviceClient {
    device("0ne00ABCDEF", credential(), Amqp::new(listener.endpoint()))
}

/// A client that gives up when a connection fails.
pub(crate) fn once(listener: &TlsListener) -> DeviceClient {
    client(listener).with_policy(RegistrationPolicy::new().with_connect_attempts(1))
}

#[tokio::test]
async fn a_registration_is_signed_in_attached_and_transferred_as_documented() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let mut talk = AmqpService::accept(&listener).await;
    signs_in(&mut talk).await;
    attaches(&mut talk).await;

    let request = talk.hear_request().await;
    assert_eq!(
        request.properties,
        [
            ("iotdps-operation-type", string("iotdps-register")),
            ("iotdps-forceRegistration", Value::Bool(false))
        ]
        .map(owned)
    );
    assert_eq!(request.body, (DATA, binary(*br#"{"registrationId":"interop-sym-01"}"#)));
    talk.accept_request(&request).await;
    talk.reply(&request, &[("retry-after", string("0"))], &assigning()).await;
    let disposition = talk.hear(DISPOSITION).await;
    assert_eq!((&disposition[0], read_composite(&disposition[4]).0), (&Value::Bool(true), ACCEPTED));

    let poll = talk.hear_request().await;
    assert_eq!(
        poll.properties,
        [
            ("iotdps-operation-type", string("iotdps-get-operationstatus")),
            ("iotdps-operation-id", string("op-1"))
        ]
        .map(owned)
    );
    assert_eq!(poll.body, (VALUE, string("")));
    assert_ne!(poll.correlation_id, request.correlation_id, "each request has its own");
    talk.accept_request(&poll).await;
    talk.reply(&poll, &[], &assigned()).await;
    talk.hear(DISPOSITION).await;
    leaves(&mut talk).await;

    let assignment = registration.await.unwrap().unwrap();
    let summary = assignment.summary().unwrap();
    assert_eq!((assignment.hub(), summary.transport, summary.requests), ("hub.example", "AMQP", 2));
}

/// SASL PLAIN, then open and begin.
async fn signs_in(talk: &mut AmqpService) {
    assert_eq!(talk.header().await, SASL);
    talk.raw(&SASL).await;
    talk.offer(&["PLAIN", "EXTERNAL", "TPM", "ANONYMOUS"]).await;
    let init = talk.hear_sasl(INIT).await;
    assert_eq!(init[0], symbol("PLAIN"));
    let plain = String::from_utf8(bytes(&init[1])).unwrap();
    let [authorization, user, password] = plain.split('\0').collect::<Vec<_>>().try_into().unwrap();
    assert_eq!((authorization, user), ("", ADDRESS));
    let token = "SharedAccessSignature sr=0ne00ABCDEF%2Fregistrations%2Finterop-sym-01&sig=";
    assert!(password.starts_with(token) && password.contains("&skn=registration"), "{password}");
    assert_eq!(init[2], string("localhost"));
    talk.judge(0).await;

    assert_eq!(talk.header().await, AMQP);
    let open = talk.hear(OPEN).await;
    talk.raw(&AMQP).await;
    assert_eq!(text(&open[0]).len(), 32, "a container id of random characters");
    assert_eq!(open[1], string("localhost"));
    talk.say(OPEN, open_fields()).await;
    talk.hear(BEGIN).await;
    talk.say(BEGIN, begin_fields()).await;
}

/// The receiving link first, then the sending one.
async fn attaches(talk: &mut AmqpService) {
    let receiver = talk.hear(ATTACH).await;
    assert_eq!((&receiver[1], &receiver[2]), (&Value::Uint(0), &Value::Bool(true)));
    let (code, source) = read_composite(&receiver[5]);
    assert_eq!((code, &source[0]), (SOURCE, &string(ADDRESS)));
    assert_eq!(read_composite(&receiver[6]).0, TARGET);
    has_properties(&receiver);
    talk.say(ATTACH, attach_fields(&receiver)).await;

    let sender = talk.hear(ATTACH).await;
    assert_eq!((&sender[1], &sender[2]), (&Value::Uint(1), &Value::Bool(false)));
    let (code, target) = read_composite(&sender[6]);
    assert_eq!((code, &target[0]), (TARGET, &string(ADDRESS)));
    assert_ne!(sender[0], receiver[0], "each link has its own name");
    has_properties(&sender);
    talk.say(ATTACH, attach_fields(&sender)).await;
    talk.say(FLOW, flow_fields()).await;
}

/// Both links, the session and the connection are ended in this order, and nothing waits for an answer.
async fn leaves(talk: &mut AmqpService) {
    for (code, handle) in [(DETACH, 1), (DETACH, 0)] {
        let fields = talk.hear(code).await;
        assert_eq!((&fields[0], &fields[1]), (&Value::Uint(handle), &Value::Bool(true)));
    }
    for code in [END, CLOSE] {
        let fields = talk.hear(code).await;
        assert_eq!(fields[0], Value::Null, "no error");
    }
    assert_eq!(talk.frame().await, None, "and the connection ends");
}

#[tokio::test]
async fn a_rejected_request_carries_all_the_evidence() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = AmqpService::requested(&listener).await;
    let body = json!({ "errorCode": 401002, "trackingId": "t-1", "message": "Unauthorized" }).to_string();
    talk.settle(&request, rejected("amqp:unauthorized-access", &body, &[])).await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    let service = error.service().unwrap();
    assert_eq!((service.code, service.tracking_id.as_deref()), (Some(401002), Some("t-1")));
}

#[tokio::test]
async fn throttling_is_waited_out_on_the_same_connection() {
    for name in ["retry-after", "Retry-After"].map(symbol) {
        let listener = TlsListener::start().await;
        let registration = register(client(&listener));
        let (mut talk, request) = AmqpService::requested(&listener).await;
        let state = rejected(
            "com.microsoft:device-container-throttled",
            r#"{"errorCode":429001}"#,
            &[(name.clone(), string("1"))],
        );
        let asked = Instant::now();
        talk.settle(&request, state).await;
        let request = talk.hear_request().await;
        assert!(asked.elapsed() >= Duration::from_secs(1), "{name:?} was not heard");
        talk.accept_request(&request).await;
        talk.reply(&request, &[], &assigned()).await;
        talk.leave().await;
        assert_eq!(registration.await.unwrap().unwrap().summary().unwrap().connects, 1);
    }
}

#[tokio::test]
async fn retry_after_has_two_spellings_and_many_types() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, mut request) = AmqpService::requested(&listener).await;
    for property in
        [("retry-after", Value::Int(0)), ("Retry-After", string("0")), ("retry-after", Value::Ulong(0))]
    {
        talk.accept_request(&request).await;
        talk.reply(&request, &[property], &assigning()).await;
        talk.hear(DISPOSITION).await;
        request = talk.hear_request().await;
    }
    talk.accept_request(&request).await;
    let asked = Instant::now();
    talk.reply(&request, &[("retry-after", Value::Uint(1))], &assigning()).await;
    talk.hear(DISPOSITION).await;
    request = talk.hear_request().await;
    assert!(asked.elapsed() >= Duration::from_secs(1));
    talk.accept_request(&request).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    registration.await.unwrap().unwrap();
}

#[tokio::test]
async fn only_the_reply_to_the_own_request_counts_and_it_may_overtake_the_acknowledgement() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = AmqpService::requested(&listener).await;
    let stranger = Request { correlation_id: string("somebody-else"), ..request.clone() };
    talk.reply(&stranger, &[], r#"{"errorCode":401000}"#).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    assert_eq!(registration.await.unwrap().unwrap().hub(), "hub.example");
}

#[tokio::test]
async fn a_reply_without_a_correlation_id_is_taken() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = AmqpService::requested(&listener).await;
    talk.accept_request(&request).await;
    talk.reply(&Request { correlation_id: Value::Null, ..request }, &[], &assigned()).await;
    talk.leave().await;
    assert_eq!(registration.await.unwrap().unwrap().hub(), "hub.example");
}

#[tokio::test]
async fn a_reply_without_data_is_malformed_and_a_released_request_is_a_lost_connection() {
    let listener = TlsListener::start().await;
    let registration = register(client(&listener));
    let (mut talk, request) = AmqpService::requested(&listener).await;
    let message = [performative(PROPERTIES, correlation(&request)), section(VALUE, string("{}"))].concat();
    talk.transfer(&message).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Protocol);

    let listener = TlsListener::start().await;
    let registration = register(once(&listener));
    let (mut talk, request) = AmqpService::requested(&listener).await;
    talk.settle(&request, composite(RELEASED, vec![])).await;
    assert_eq!(registration.await.unwrap().unwrap_err().kind(), ErrorKind::Io);
}

#[tokio::test]
async fn a_payload_larger_than_the_service_takes_is_refused_before_it_is_sent() {
    let listener = TlsListener::start().await;
    let client = client(&listener);
    let registration = tokio::spawn(async move { client.register().payload("x".repeat(100_000)).await });
    let mut talk = AmqpService::signed_in(&listener).await;
    talk.attached().await;
    let error = registration.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
    assert!(error.to_string().contains("65536 bytes"), "{error}");
}

#[tokio::test]
async fn a_payload_larger_than_a_frame_goes_out_in_several() {
    let listener = TlsListener::start().await;
    let client = client(&listener);
    let registration = tokio::spawn(async move { client.register().payload("x".repeat(20_000)).await });
    let mut talk = AmqpService::signed_in(&listener).await;
    talk.frame_size = 4096;
    talk.attached().await;
    let request = talk.hear_request().await;
    assert!(bytes(&request.body.1).len() > 20_000);
    talk.accept_request(&request).await;
    talk.reply(&request, &[], &assigned()).await;
    talk.leave().await;
    registration.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_lookup_is_refused_before_anything_is_sent() {
    let endpoint = Endpoint::new("localhost").unwrap().with_port(CLOSED_PORT);
    for transport in [Amqp::new(endpoint.clone()), Amqp::new(endpoint).with_websocket()] {
        let error = device("0ne00ABCDEF", credential(), transport).lookup().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("use HTTPS"), "{error}");
    }
}

fn has_properties(attach: &[Value]) {
    let Value::Map(properties) = &attach[13] else { panic!("{attach:?}") };
    let mut properties: Vec<_> = properties.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    properties.sort();
    assert_eq!(properties[0], (symbol("com.microsoft:api-version"), "2021-10-01".to_owned()));
    assert_eq!(properties[1].0, symbol("com.microsoft:client-version"));
    assert!(properties[1].1.starts_with("azure-dps-device/"), "{properties:?}");
    assert_eq!(properties.len(), 2);
}

fn owned((name, value): (&str, Value)) -> (String, Value) {
    (name.to_owned(), value)
}
