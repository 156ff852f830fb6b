//! How a device signs in at the emulator's AMQP port: SASL in literal frames, or a certificate.

use std::time::Duration;

use azure_dps_emulator::{Fault, Operation, Pki, RefuseAt};
use azure_dps_tests::amqp_bytes::{AMQP, MECHANISMS, SASL, read_header, say};
use azure_dps_tests::amqp_device::{AmqpDevice, condition, data, register};
use azure_dps_tests::dev1::*;
use azure_dps_tests::journal::last;
use azure_dps_tests::sasl_bytes::*;
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

/// None of the official clients speaks SASL when it has a certificate.
#[tokio::test]
async fn a_certificate_needs_no_sasl() {
    let pki = Pki::new(["dev1", "sensor-042"], 1).unwrap();
    let emulator = start_with(certified(&pki)).await;
    for device in &pki.devices {
        let mut peer = AmqpDevice::open(tls(&emulator, Some(device)).await).await;
        peer.attach(&format!("0ne00EMU1A7/registrations/{}", device.name)).await;
        assert_eq!(peer.register().await["deviceId"], device.name.as_str());
        peer.leave().await;
    }
}

#[tokio::test]
async fn a_generic_client_chooses_external() {
    let pki = Pki::new(["dev1"], 0).unwrap();
    let emulator = start_with(certified(&pki)).await;
    let mut stream = tls(&emulator, Some(&pki.devices[0])).await;
    let offers = offers(&mut stream).await;
    assert!(offers.iter().any(|name| name == "EXTERNAL"), "{offers:?}");
    assert_eq!(say_init(&mut stream, "EXTERNAL", Some(b"")).await, 0);
    let mut peer = AmqpDevice::open(stream).await;
    peer.attach(DEV1).await;
    assert_eq!(peer.register().await["status"], "assigned");
    peer.leave().await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_at_sasl_when_so_chosen() {
    let emulator = start_with(seeded().refuse_at(RefuseAt::Connect)).await;
    for (user_name, token, code) in [(DEV1, NODE, 0), (DEV1, WRONG_KEY, 1), (DEV1, "", 1)] {
        let mut stream = tls(&emulator, None).await;
        assert_eq!(sign_in(&mut stream, user_name, token).await, code, "{token}");
    }
    let entry = last(&emulator);
    assert_eq!((entry.method.as_str(), entry.id.as_deref(), entry.status), ("sasl-init", Some("dev1"), 401));
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_at_both_points() {
    let pki = Pki::new(["dev1"], 0).unwrap();
    let emulator = start_with(certified(&pki)).await;
    let mut peer = AmqpDevice::open(tls(&emulator, Some(&pki.foreign)).await).await;
    peer.attach(DEV1).await;
    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();
    assert_eq!(condition(&error), "amqp:unauthorized-access");
    peer.leave().await;

    let emulator = start_with(certified(&pki).refuse_at(RefuseAt::Connect)).await;
    let mut good = AmqpDevice::open(tls(&emulator, Some(&pki.devices[0])).await).await;
    good.attach(DEV1).await;
    let mut peer = AmqpDevice::open(tls(&emulator, Some(&pki.foreign)).await).await;
    let error = peer.closed_on_attach(DEV1).await;
    assert!(error.contains("UnauthorizedAccess") && error.contains("401002"), "{error}");
    assert_eq!(last(&emulator).method, "attach");
}

#[tokio::test]
async fn a_client_without_sasl_and_without_a_certificate_is_refused() {
    let emulator = start().await;
    for (header, why) in
        [(&AMQP, "neither SASL nor a client certificate"), (b"GET / HT", "does not begin with a header")]
    {
        let mut stream = tls(&emulator, None).await;
        say(&mut stream, header).await;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, SASL);
        assert!(last(&emulator).cause.unwrap().contains(why));
    }
}

#[tokio::test]
async fn mechanisms_that_lead_nowhere_are_refused_with_an_outcome() {
    let emulator = start().await;
    for (mechanism, response, why) in [
        ("TPM", &b"0ne00EMU1A7\0dev1\0EK"[..], "does not begin with a zero byte"),
        ("TPM", b"\x000ne00EMU1A7\0dev1", "has no endorsement key"),
        ("TPM", b"\x000ne00EMU1A7", "has no id scope and registration id"),
        ("SCRAM-SHA-1", b"", "was not offered"),
        ("EXTERNAL", b"", "was not offered"),
        ("PLAIN", b"\0dev1\0secret-password", "user name"),
        ("PLAIN", b"secret-password", "no user name"),
    ] {
        let mut stream = tls(&emulator, None).await;
        offers(&mut stream).await;
        assert_eq!(say_init(&mut stream, mechanism, Some(response)).await, 1, "{mechanism}");
        assert!(last(&emulator).cause.unwrap().contains(why), "{:?}", last(&emulator));
        assert!(!last(&emulator).to_string().contains("secret"));
    }
}

#[tokio::test]
async fn a_password_may_come_after_a_challenge() {
    let emulator = start().await;
    let mut stream = tls(&emulator, None).await;
    offers(&mut stream).await;
    say(&mut stream, &init("PLAIN", None)).await;
    challenge(&mut stream).await;
    respond(&mut stream, &plain_response(DEV1, NODE)).await;
    assert_eq!(outcome(&mut stream).await, 0);
}

#[tokio::test]
async fn bytes_that_are_not_a_sasl_frame_end_the_connection() {
    let emulator = start().await;
    for bytes in [&[0xff; 8][..], &[0, 0, 0, 4], &[0, 0, 0, 8, 2, 1, 0, 0], &[0, 0, 0, 9, 2, 0, 0, 0, 0x45]] {
        let mut stream = tls(&emulator, None).await;
        offers(&mut stream).await;
        say(&mut stream, bytes).await;
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(last(&emulator).cause.unwrap(), "malformed SASL frame");
    }
}

#[tokio::test]
async fn sasl_comes_in_any_pieces() {
    let emulator = start().await;
    let mut stream = tls(&emulator, None).await;
    for byte in [&SASL[..], &plain(NODE), &AMQP].concat() {
        say(&mut stream, &[byte]).await;
    }
    assert_eq!(read_header(&mut stream).await, SASL);
    hear_sasl(&mut stream, MECHANISMS).await;
    assert_eq!(outcome(&mut stream).await, 0);
    assert_eq!(read_header(&mut stream).await, AMQP);
}

#[tokio::test]
async fn a_sign_in_can_fail_too() {
    let emulator = start().await;
    let fault = |fault: Fault| emulator.inject(fault.on(Operation::Connect)).unwrap();
    for (effect, wanted) in
        [(Fault::hang_up(), &b""[..]), (Fault::garbage(), b"<html>502 Bad Gateway</html>")]
    {
        fault(effect);
        let mut stream = tls(&emulator, None).await;
        offers(&mut stream).await;
        say(&mut stream, &plain(NODE)).await;
        let mut answer = Vec::new();
        // Without a word there is no good-bye of TLS either.
        let _end = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, wanted);
    }
    fault(Fault::stall());
    let mut stream = tls(&emulator, None).await;
    offers(&mut stream).await;
    say(&mut stream, &plain(NODE)).await;
    assert!(timeout(Duration::from_millis(200), stream.read(&mut [0; 8])).await.is_err());
}

#[tokio::test]
async fn a_client_that_expects_its_iot_hub_here_is_named_in_the_journal() {
    let emulator = start().await;
    for (mechanism, response, cause) in [
        ("ANONYMOUS", None, "ANONYMOUS is how clients sign in to an IoT hub; this is the"),
        ("MSSBCBS", None, "MSSBCBS is how clients sign in to an IoT hub; this is the"),
        ("PLAIN", Some(&b"\0dev1@sas.hub-1\0token"[..]), "the user name is for an IoT hub; this"),
    ] {
        let mut stream = tls(&emulator, None).await;
        offers(&mut stream).await;
        assert_eq!(say_init(&mut stream, mechanism, response).await, 1);
        let reported = last(&emulator).cause.unwrap();
        assert!(reported.starts_with(cause), "{reported}");
    }
}
