//! What each official client sends over AMQP, and what it expects of the emulator.

use azure_dps_emulator::{Fault, Operation, Protocol};
use azure_dps_tests::amqp_device::{AmqpDevice, data, poll, register, value};
use azure_dps_tests::dev1::*;
use azure_dps_tests::sasl_bytes::{offers, plain_response, say_init, sign_in, tls};
use fe2o3_amqp::types::messaging::{Body, MessageId};
use fe2o3_amqp::types::primitives::SimpleValue;
use serde_json::json;
use tokio::io::AsyncReadExt as _;

/// Its library takes the first mechanism that is offered and that it has credentials for.
#[tokio::test]
async fn the_node_client_gets_its_correlation_id_back() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;

    let body = data(r#"{"registrationId":"dev1"}"#);
    let forced = ("iotdps-forceRegistration", SimpleValue::Bool(false));
    let first = peer.ask(register().with(forced), Some("e0105b8e"), body).await.unwrap();
    assert_eq!(first.correlation_id, Some(MessageId::String("e0105b8e".into())));
    let operation = first.operation();
    assert_eq!(first.body, json!({"operationId": operation, "status": "assigning"}));
    for (id, status) in [("e0adef8a", "assigning"), ("56cd8328", "assigned")] {
        let reply = peer.ask(poll(&operation), Some(id), value("")).await.unwrap();
        assert_eq!(reply.correlation_id, Some(MessageId::String(id.into())));
        assert_eq!(reply.body["status"], status);
        assert_eq!(reply.body["registrationState"]["registrationId"], "dev1");
    }

    peer.leave().await;
    let words: Vec<String> =
        emulator.journal().into_iter().map(|entry| format!("{} {}", entry.protocol, entry.method)).collect();
    assert_eq!(words, ["amqp transfer"; 3]);
    assert_eq!(emulator.journal()[1].target, "iotdps-get-operationstatus");
}

/// It looks for its mechanism by name, has one correlation id for everything, and reads `Retry-After` only.
#[tokio::test]
async fn the_csharp_client_sends_empty_data_and_reads_one_spelling() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, CSHARP).await;
    peer.attach(DEV1).await;

    let first = peer.ask(register(), Some("one"), data("")).await.unwrap();
    assert_eq!(first.text("Retry-After"), Some("3"));
    let operation = first.operation();
    for status in ["assigning", "assigned"] {
        let reply =
            peer.ask(poll(&operation), Some("one"), value("iotdps-get-operationstatus")).await.unwrap();
        assert_eq!(reply.body["status"], status);
        assert_eq!(reply.correlation_id, Some(MessageId::String("one".into())));
    }
    peer.leave().await;
}

/// It continues only if TPM is offered, whatever its credential is, and has no correlation id.
#[tokio::test]
async fn the_java_client_wants_tpm_among_the_offers_and_has_a_slash_before_its_address() {
    let emulator = start().await;
    let mut stream = tls(&emulator, None).await;
    let offers = offers(&mut stream).await;
    assert!(offers.iter().any(|name| name == "TPM"), "{offers:?}");
    assert_eq!(say_init(&mut stream, "PLAIN", Some(&plain_response(DEV1, JAVA))).await, 0);
    let mut peer = AmqpDevice::open(stream).await;
    peer.attach(&format!("/{DEV1}")).await;

    let first =
        peer.ask(register(), None, data(r#"{"registrationId":"dev1","payload":"\"text\""}"#)).await.unwrap();
    assert_eq!((first.text("retry-after"), first.correlation_id.as_ref()), (Some("3"), None));
    let operation = first.operation();
    for status in ["assigning", "assigned"] {
        let reply = peer.ask(poll(&operation), None, Body::Empty).await.unwrap();
        assert_eq!(reply.body["status"], status);
    }
    peer.leave().await;
}

/// It has a URL as address, polls with a body, and distinguishes the codes of the outcome.
#[tokio::test]
async fn the_c_client_has_a_url_as_address_and_maps_the_codes() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, C).await;
    peer.attach(&format!("amqps://localhost/{DEV1}")).await;
    let body = r#"{"registrationId":"dev1"}"#;
    let operation = peer.ask(register(), None, data(body)).await.unwrap().operation();
    peer.ask(poll(&operation), None, data(body)).await.unwrap();
    assert_eq!(peer.ask(poll(&operation), None, data(body)).await.unwrap().body["status"], "assigned");
    peer.leave().await;

    for (fault, code) in [(Fault::throttle(1), 4), (Fault::status(500), 2), (Fault::status(401), 1)] {
        emulator.inject(fault.on(Operation::Connect).over(Protocol::Amqp)).unwrap();
        let mut stream = tls(&emulator, None).await;
        assert_eq!(sign_in(&mut stream, DEV1, C).await, code);
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
