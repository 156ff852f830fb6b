//! The emulator's AMQP front: requests, their refusals, and what the journal keeps.

use azure_dps_tests::amqp_device::{AmqpDevice, Ask, condition, data, poll, register, value};
use azure_dps_tests::dev1::*;
use azure_dps_tests::journal::last;
use serde_json::{Value, json};

#[tokio::test]
async fn a_wrong_key_is_refused_at_register_with_the_error_as_json() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, WRONG_KEY).await;
    peer.attach(DEV1).await;

    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();

    assert_eq!(condition(&error), "amqp:unauthorized-access");
    let reported: Value = serde_json::from_str(&error.description.unwrap()).unwrap();
    assert_eq!((&reported["errorCode"], &reported["message"]), (&json!(401_002), &json!("Unauthorized")));
    assert!(reported["trackingId"].is_string());
    assert!(last(&emulator).cause.unwrap().contains("signature"), "{:?}", last(&emulator));
    // The connection stays.
    peer.ask(register(), Some("2"), data("")).await.unwrap_err();
    peer.leave().await;
}

#[tokio::test]
async fn a_link_for_another_device_ends_the_connection() {
    let emulator = start().await;
    for (address, condition, why) in [
        ("0ne00EMU1A7/registrations/dev2", "UnauthorizedAccess", "for another device"),
        ("elsewhere", "NotFound", "the address is not"),
    ] {
        let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
        let error = peer.closed_on_attach(address).await;
        assert!(error.contains(condition), "{error}");
        assert!(last(&emulator).cause.unwrap().contains(why));
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_rejected() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;
    let other = Ask::of("iotdps-get-registration");
    let lost = Ask::of("iotdps-get-operationstatus");
    for (ask, body, wanted, code) in [
        (other, "", "amqp:not-allowed", 400_000),
        (lost, "", "amqp:not-allowed", 400_000),
        (poll("5.unknown"), "", "amqp:not-found", 404_203),
        (register(), r#"{"registrationId":"dev2"}"#, "amqp:not-allowed", 400_000),
        (register(), "{", "amqp:not-allowed", 400_012),
        (register(), r#"{"payload":"{ "a": 1 }"}"#, "amqp:not-allowed", 400_012),
        (register(), "[]", "amqp:not-allowed", 400_012),
    ] {
        let error = peer.ask(ask, Some("1"), data(body)).await.unwrap_err();
        assert_eq!(condition(&error), wanted, "{body}");
        let reported: Value = serde_json::from_str(&error.description.unwrap()).unwrap();
        assert_eq!(reported["errorCode"], code);
    }
    peer.leave().await;
}

#[tokio::test]
async fn a_request_without_a_receiving_link_is_rejected() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    peer.attach_sender(DEV1).await;

    let error = peer.send(register(), None, data("")).await.unwrap_err();

    assert_eq!(condition(&error), "amqp:not-allowed");
    assert!(last(&emulator).cause.unwrap().contains("does not listen"));
}

#[tokio::test]
async fn large_payloads_come_in_several_frames_and_go_back() {
    let emulator = start_with(seeded().on_payload(|payload| Some(payload.clone()))).await;
    let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;
    let payload = "x".repeat(200_000);

    let body = json!({"registrationId": "dev1", "payload": payload}).to_string();
    let operation = peer.ask(register(), Some("1"), data(&body)).await.unwrap().operation();
    peer.ask(poll(&operation), Some("2"), value("")).await.unwrap();
    let reply = peer.ask(poll(&operation), Some("3"), value("")).await.unwrap();

    assert_eq!(reply.body["registrationState"]["payload"], payload.as_str());
    peer.leave().await;
}

#[tokio::test]
async fn many_devices_register_at_once() {
    let emulator = start().await;
    let devices = (0..20).map(|_| async {
        let mut peer = AmqpDevice::signed_in(&emulator, NODE).await;
        peer.attach(DEV1).await;
        assert_eq!(peer.register().await["status"], "assigned");
        peer.leave().await;
    });
    futures_util::future::join_all(devices).await;
    assert_eq!(emulator.journal().iter().filter(|entry| entry.status >= 300).count(), 0);
}

#[tokio::test]
async fn the_journal_has_no_secret() {
    let emulator = start().await;
    let mut peer = AmqpDevice::signed_in(&emulator, WRONG_KEY).await;
    peer.attach(DEV1).await;
    let payload = json!({"registrationId": "dev1", "payload": "secret"}).to_string();
    peer.ask(register(), Some("1"), data(&payload)).await.unwrap_err();
    peer.leave().await;

    let reported: String = emulator.journal().iter().map(ToString::to_string).collect();

    for secret in ["sig=", "G%2BJ", "secret"] {
        assert!(!reported.contains(secret), "{reported}");
    }
}
