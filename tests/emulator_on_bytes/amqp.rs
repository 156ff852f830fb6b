//! The emulator's AMQP front judged over the wire: literal SASL, literal tokens, and above them the client half of an
//! AMQP library; nothing of the SDK.
//!
//! The tokens were signed by another program and end in the year 2100. Each test that is named after a client sends
//! what that client sends, and insists on what that client insists on.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use azure_dps_emulator::{
    Emulator, EmulatorBuilder, Entry, Fault, KeyedCertificate, Operation, Pki, Protocol, RefuseAt,
};
use azure_dps_tests::soft_tpm::SoftTpm;
use azure_dps_tests::{Shown, trusting};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::definitions::{Error, ErrorCondition};
use fe2o3_amqp::types::messaging::{
    AmqpValue, ApplicationProperties, Body, Data, Message, MessageId, Outcome, Properties, Source, Target,
};
use fe2o3_amqp::types::primitives::{Binary, OrderedMap, SimpleValue, Symbol, Value as Amqp};
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

mod links;

static TPM: LazyLock<SoftTpm> = LazyLock::new(SoftTpm::new);
static OTHER_TPM: LazyLock<SoftTpm> = LazyLock::new(SoftTpm::new);

const NODE: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&skn=registration&se=4102444800";
const CSHARP: &str = "SharedAccessSignature sr=0ne00EMU1A7%2Fregistrations%2Fdev1&sig=P1wMru%2FbYLuUEm38goUGiCB1G0FvU29FyUvULNCa0Us%3D&se=4102444800&skn=registration";
const C: &str = "SharedAccessSignature sr=0ne00EMU1A7%2fregistrations%2fdev1&sig=CvYQofVDffk3a26Mlzdacx4Qs9sBXcpHDOBwIM6IZf8%3d&se=4102444800&skn=registration";
const JAVA: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&se=4102444800&skn=";
const WRONG_KEY: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=G%2BJlCBHjtC7cBIlLt1wxeGXf2C5YvzW54toF99D1BGo%3D&se=4102444800";
const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

const DEV1: &str = "0ne00EMU1A7/registrations/dev1";
const SASL: &[u8; 8] = b"AMQP\x03\x01\0\0";
const AMQP: &[u8; 8] = b"AMQP\0\x01\0\0";

// Clients

/// Its library takes the first mechanism that is offered and that it has credentials for.
#[tokio::test]
async fn the_node_client_gets_its_correlation_id_back() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, NODE).await;
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
    let mut peer = Peer::signed_in(&emulator, CSHARP).await;
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

/// It goes on only if TPM is offered, whatever its credential is, and has no correlation id.
#[tokio::test]
async fn the_java_client_wants_tpm_among_the_offers_and_has_a_slash_before_its_address() {
    let emulator = start().await;
    let mut stream = tls(&emulator, None).await;
    let offers = offers(&mut stream).await;
    assert!(offers.windows(3).any(|bytes| bytes == b"TPM"), "{offers:?}");
    assert_eq!(say_plain(&mut stream, DEV1, JAVA).await, 0);
    let mut peer = Peer::open(stream).await;
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

/// It has a URL as address, polls with a body, and tells the codes of the outcome apart.
#[tokio::test]
async fn the_c_client_has_a_url_as_address_and_maps_the_codes() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, C).await;
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

/// None of the official clients speaks SASL when it has a certificate.
#[tokio::test]
async fn a_certificate_needs_no_sasl() {
    let pki = Pki::new(["dev1", "sensor-042"], 1).unwrap();
    let emulator = start_with(certified(&pki)).await;
    for device in &pki.devices {
        let mut peer = Peer::open(tls(&emulator, Some(device)).await).await;
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
    assert!(offers.windows(8).any(|bytes| bytes == b"EXTERNAL"), "{offers:?}");
    assert_eq!(say_init(&mut stream, "EXTERNAL", Some(b"")).await, 0);
    let mut peer = Peer::open(stream).await;
    peer.attach(DEV1).await;
    assert_eq!(peer.register().await["status"], "assigned");
    peer.leave().await;
}

// TPMs

/// The Node client takes a challenge of one byte as the question for the storage root key; the Java client wants the
/// bytes 00, 80 and C1, one after the other, and nothing else; no frame of the protocol has more than 512 bytes.
#[tokio::test]
async fn a_tpm_answers_a_challenge_in_two_parts_and_gets_the_key_for_its_hub_in_the_end() {
    let emulator = start_with(with_tpm()).await;
    let mut stream = shows_its_keys(&emulator).await;
    let first = challenge(&mut stream).await;
    respond(&mut stream, b"").await;
    let last = challenge(&mut stream).await;
    assert_eq!((first[0], last[0]), (0x80, 0xc1));
    assert!(first.len() <= 471 && last.len() <= 471);
    let key = TPM.open(&[&first[1..], &last[1..]].concat()).unwrap();
    respond(&mut stream, tpm_token(&key).as_bytes()).await;
    assert_eq!(code(&frame(&mut stream).await), 0);

    let mut peer = Peer::open(stream).await;
    peer.attach("0ne00EMU1A7/registrations/gw-7").await;
    let state = peer.register().await;
    assert_eq!(state["status"], "assigned");
    let sealed = BASE64.decode(state["tpm"]["authenticationKey"].as_str().unwrap()).unwrap();
    assert_eq!(emulator.hub_key("gw-7"), Some(BASE64.encode(TPM.open(&sealed).unwrap())));
    peer.leave().await;
}

#[tokio::test]
async fn a_tpm_that_is_not_enrolled_is_challenged_like_any_other_and_refused_at_its_token() {
    let emulator = start_with(with_tpm()).await;
    let (endorsement, root) = (TPM.endorsement_key(), TPM.storage_root_key());
    let [other, other_root] = [OTHER_TPM.endorsement_key(), OTHER_TPM.storage_root_key()];
    for (scope, id, endorsement, root, why) in [
        ("0ne00EMU1A7", "gw-7", &other, &other_root, "the endorsement key is another one"),
        ("0ne00EMU1A7", "gw-8", &endorsement, &root, "gw-8 has no individual enrollment"),
        ("0ne00EMU1A7", "dev1", &endorsement, &root, "enrollment dev1 is for attestation by symmetricKey"),
        ("0ne00000000", "gw-7", &endorsement, &root, "ID scope not found"),
    ] {
        let before = emulator.journal().len();
        let mut stream = shows(&emulator, scope, id, endorsement, root).await;
        let blob = sealed(&mut stream).await;
        let tpm = if *endorsement == other { &OTHER_TPM } else { &TPM };
        let key = tpm.open(&blob).expect("the challenge is for the keys that were shown");
        assert_eq!(emulator.journal().len(), before, "nothing is refused yet");
        respond(&mut stream, token_of(scope, id, &key).as_bytes()).await;

        assert_eq!(code(&frame(&mut stream).await), 1, "{why}");

        let entry = last(&emulator);
        assert_eq!((entry.method.as_str(), entry.id.as_deref()), ("sasl-response", Some(id)));
        assert!(entry.cause.as_ref().unwrap().starts_with(why), "{entry}");
    }
    assert_eq!(emulator.registrations(), json!([]));
}

#[tokio::test]
async fn keys_that_nobody_can_read_are_refused_before_a_challenge() {
    let emulator = start_with(with_tpm()).await;
    let (endorsement, root) = (TPM.endorsement_key(), TPM.storage_root_key());
    let mut soft_root = root.clone();
    soft_root[9] = 0x70;
    for (endorsement, root, why) in [
        (&endorsement, &soft_root, "tpm.storageRootKey lacks the attribute fixedTPM"),
        (&b"EK".to_vec(), &root, "tpm.endorsementKey "),
        (&endorsement, &Vec::new(), "tpm.storageRootKey is missing"),
    ] {
        for id in ["gw-7", "nobody"] {
            let mut stream = shows(&emulator, "0ne00EMU1A7", id, endorsement, root).await;
            assert_eq!(code(&frame(&mut stream).await), 1, "{why}");
            assert!(last(&emulator).cause.unwrap().starts_with(why), "{}", last(&emulator));
        }
    }
}

#[tokio::test]
async fn a_tpm_whose_enrollment_went_is_not_told_of_symmetric_keys() {
    let emulator = start_with(with_tpm()).await;
    let mut stream = shows_its_keys(&emulator).await;
    let key = TPM.open(&sealed(&mut stream).await).unwrap();
    respond(&mut stream, tpm_token(&key).as_bytes()).await;
    assert_eq!(code(&frame(&mut stream).await), 0);
    let mut peer = Peer::open(stream).await;
    peer.attach("0ne00EMU1A7/registrations/gw-7").await;
    remove_enrollment(&emulator, "gw-7").await;

    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();

    assert_eq!(condition(&error), "amqp:not-found");
    let cause = "the TPM of gw-7 has a token, and its individual enrollment is gone";
    assert_eq!(last(&emulator).cause.as_deref(), Some(cause));
}

#[tokio::test]
async fn a_wrong_answer_of_a_tpm_is_refused_at_sasl_whatever_was_chosen() {
    for refuse_at in [RefuseAt::Connect, RefuseAt::Register] {
        let emulator = start_with(with_tpm().refuse_at(refuse_at)).await;
        for (between, token, why) in [
            (&b""[..], tpm_token(b"wrong"), "signature does not match the key of the latest challenge"),
            (b"", String::new(), "there is no token"),
            (b"x", String::new(), "the response of TPM to the first part"),
        ] {
            let mut stream = shows_its_keys(&emulator).await;
            challenge(&mut stream).await;
            respond(&mut stream, between).await;
            if between.is_empty() {
                challenge(&mut stream).await;
                respond(&mut stream, token.as_bytes()).await;
            }

            assert_eq!(code(&frame(&mut stream).await), 1, "{why}");

            assert!(last(&emulator).cause.unwrap().starts_with(why), "{}", last(&emulator));
        }
    }
}

/// The key of a challenge signs where there is a challenge: not in PLAIN.
#[tokio::test]
async fn the_key_of_a_challenge_is_no_password() {
    let emulator = start_with(with_tpm()).await;
    let mut stream = shows_its_keys(&emulator).await;
    let key = TPM.open(&sealed(&mut stream).await).unwrap();

    let mut stream = tls(&emulator, None).await;
    assert_eq!(sign_in(&mut stream, "0ne00EMU1A7/registrations/gw-7", &tpm_token(&key)).await, 0);
    let mut peer = Peer::open(stream).await;
    peer.attach("0ne00EMU1A7/registrations/gw-7").await;
    peer.ask(register(), Some("1"), data("")).await.unwrap_err();

    let cause = "enrollment gw-7 is for attestation by tpm, not by symmetric key";
    assert_eq!(last(&emulator).cause.as_deref(), Some(cause));
}

#[tokio::test]
async fn a_fault_may_strike_the_exchange_of_a_tpm() {
    let emulator = start_with(with_tpm()).await;
    emulator.inject(Fault::throttle(1).on(Operation::Connect).of("gw-7")).unwrap();
    let mut stream = shows_its_keys(&emulator).await;
    let key = TPM.open(&sealed(&mut stream).await).unwrap();
    respond(&mut stream, tpm_token(&key).as_bytes()).await;

    assert_eq!(code(&frame(&mut stream).await), 4, "at the token, where clients notice it");
}

// Refusals

#[tokio::test]
async fn a_wrong_key_is_refused_at_register_with_the_error_as_json() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, WRONG_KEY).await;
    peer.attach(DEV1).await;

    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();

    assert_eq!(condition(&error), "amqp:unauthorized-access");
    let told: Value = serde_json::from_str(&error.description.unwrap()).unwrap();
    assert_eq!((&told["errorCode"], &told["message"]), (&json!(401_002), &json!("Unauthorized")));
    assert!(told["trackingId"].is_string());
    assert!(last(&emulator).cause.unwrap().contains("signature"), "{:?}", last(&emulator));
    // The connection stays.
    peer.ask(register(), Some("2"), data("")).await.unwrap_err();
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
    let mut peer = Peer::open(tls(&emulator, Some(&pki.foreign)).await).await;
    peer.attach(DEV1).await;
    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();
    assert_eq!(condition(&error), "amqp:unauthorized-access");
    peer.leave().await;

    let emulator = start_with(certified(&pki).refuse_at(RefuseAt::Connect)).await;
    let mut good = Peer::open(tls(&emulator, Some(&pki.devices[0])).await).await;
    good.attach(DEV1).await;
    let mut peer = Peer::open(tls(&emulator, Some(&pki.foreign)).await).await;
    let error = peer.closed_on_attach(DEV1).await;
    assert!(error.contains("UnauthorizedAccess") && error.contains("401002"), "{error}");
    assert_eq!(last(&emulator).method, "attach");
}

#[tokio::test]
async fn without_sasl_and_without_a_certificate_nobody_gets_in() {
    let emulator = start().await;
    for (header, why) in
        [(AMQP, "neither SASL nor a client certificate"), (b"GET / HT", "does not begin with a header")]
    {
        let mut stream = tls(&emulator, None).await;
        stream.write_all(header).await.unwrap();
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
        ("SCRAM-SHA-1", b"", "none of those that were offered"),
        ("EXTERNAL", b"", "none of those that were offered"),
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
    stream.write_all(&init("PLAIN", None)).await.unwrap();
    let challenge = frame(&mut stream).await;
    assert_eq!(challenge[4..7], [0, 0x53, 0x42]);
    let response = format!("\0{DEV1}\0{NODE}");
    let fields = [&[0xb0][..], &u32_of(response.len()), response.as_bytes()].concat();
    stream.write_all(&composite(0x43, 1, &fields)).await.unwrap();
    assert_eq!(code(&frame(&mut stream).await), 0);
}

#[tokio::test]
async fn what_is_no_sasl_frame_ends_the_connection() {
    let emulator = start().await;
    for bytes in [&[0xff; 8][..], &[0, 0, 0, 4], &[0, 0, 0, 8, 2, 1, 0, 0], &[0, 0, 0, 9, 2, 0, 0, 0, 0x45]] {
        let mut stream = tls(&emulator, None).await;
        offers(&mut stream).await;
        stream.write_all(bytes).await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(last(&emulator).cause.unwrap(), "no SASL frame");
    }
}

/// Each of these would end the process, or keep it busy for minutes.
#[tokio::test]
async fn frames_that_nobody_survives_end_the_connection_and_nothing_else() {
    let emulator = start().await;
    let plain = init("PLAIN", Some(format!("\0{DEV1}\0{NODE}").as_bytes()));
    let open = amqp_frame(0x10, 1, b"\xa1\x01c");
    let begin = amqp_frame(0x11, 4, b"\x40\x43\x52\x64\x52\x64");
    let nested = [[0, 0x53, 1].repeat(5000), vec![0x40]].concat();
    let deep = [&u32::try_from(8 + nested.len()).unwrap().to_be_bytes()[..], &[2, 0, 0, 0], &nested].concat();
    let wide = amqp_frame(0x15, 3, b"\x41\x43\x70\xff\xff\xff\xff");
    for (frame, cause) in [
        (&[0, 0, 0, 5, 0][..], "a frame is shorter"),
        (&deep, "nested too deeply"),
        (&wide, "settles more than was sent"),
    ] {
        let mut stream = tls(&emulator, None).await;
        stream.write_all(&[SASL, &plain[..], AMQP, &open, &begin, frame].concat()).await.unwrap();
        stream.flush().await.unwrap();
        let _end = timeout(DEADLINE, stream.read_to_end(&mut Vec::new())).await.unwrap();
        let told = last(&emulator).cause.unwrap();
        assert!(told.contains(cause), "{told}");
    }
    let mut peer = Peer::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;
    peer.register().await;
}

#[tokio::test]
async fn a_link_for_somebody_else_ends_the_connection() {
    let emulator = start().await;
    for (address, condition, why) in [
        ("0ne00EMU1A7/registrations/dev2", "UnauthorizedAccess", "for another device"),
        ("elsewhere", "NotFound", "the address is not"),
    ] {
        let mut peer = Peer::signed_in(&emulator, NODE).await;
        let error = peer.closed_on_attach(address).await;
        assert!(error.contains(condition), "{error}");
        assert!(last(&emulator).cause.unwrap().contains(why));
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_rejected() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, NODE).await;
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
        let told: Value = serde_json::from_str(&error.description.unwrap()).unwrap();
        assert_eq!(told["errorCode"], code);
    }
    peer.leave().await;
}

#[tokio::test]
async fn a_client_that_does_not_listen_is_told_so() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, NODE).await;
    peer.attach_sender(DEV1).await;

    let error = peer.send(register(), None, data("")).await.unwrap_err();

    assert_eq!(condition(&error), "amqp:not-allowed");
    assert!(last(&emulator).cause.unwrap().contains("does not listen"));
}

#[tokio::test]
async fn large_payloads_come_in_several_frames_and_go_back() {
    let emulator = start_with(seeded().on_payload(|payload| Some(payload.clone()))).await;
    let mut peer = Peer::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;
    let payload = "x".repeat(200_000);

    let body = json!({"registrationId": "dev1", "payload": payload}).to_string();
    let operation = peer.ask(register(), Some("1"), data(&body)).await.unwrap().operation();
    peer.ask(poll(&operation), Some("2"), value("")).await.unwrap();
    let reply = peer.ask(poll(&operation), Some("3"), value("")).await.unwrap();

    assert_eq!(reply.body["registrationState"]["payload"], payload.as_str());
    peer.leave().await;
}

// Faults

#[tokio::test]
async fn a_request_can_be_throttled_or_failed() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;

    emulator.inject(Fault::throttle(7).over(Protocol::Amqp).on(Operation::Register)).unwrap();
    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();
    assert_eq!(condition(&error), "com.microsoft:device-container-throttled");
    let info = error.info.unwrap();
    for spelling in ["retry-after", "Retry-After"] {
        assert_eq!(info.get(&Symbol::from(spelling)), Some(&Amqp::String("7".into())));
    }
    emulator.inject(Fault::status(503)).unwrap();
    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();
    assert_eq!(condition(&error), "amqp:internal-error");
    peer.ask(register(), Some("1"), data("")).await.unwrap();
    peer.leave().await;
}

#[tokio::test]
async fn an_answer_can_be_lost_spoilt_misdirected_or_doubled() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;

    emulator.inject(Fault::wrong_rid()).unwrap();
    let reply = peer.ask(register(), Some("1"), data("")).await.unwrap();
    assert_eq!(reply.correlation_id, Some(MessageId::String("wrong-1".into())));
    emulator.inject(Fault::duplicate_reply()).unwrap();
    let reply = peer.ask(register(), Some("2"), data("")).await.unwrap();
    assert_eq!(peer.hear().await.body, reply.body);
    emulator.inject(Fault::garbage()).unwrap();
    let reply = peer.ask(register(), Some("3"), data("")).await.unwrap();
    assert_eq!(reply.body, Value::Null);
    emulator.inject(Fault::stall()).unwrap();
    peer.send(register(), Some("4"), data("")).await.unwrap();
    assert!(timeout(Duration::from_millis(200), peer.hear()).await.is_err());
    assert!(last(&emulator).cause.unwrap().contains("never sent"));

    emulator.inject(Fault::hang_up()).unwrap();
    peer.send_only(register()).await;
    let lost = timeout(DEADLINE, peer.connection.on_close()).await.unwrap();
    assert!(lost.is_err(), "{lost:?}");
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
        stream.write_all(&init("PLAIN", Some(format!("\0{DEV1}\0{NODE}").as_bytes()))).await.unwrap();
        let mut answer = Vec::new();
        // Without a word there is no good-bye of TLS either.
        let _end = stream.read_to_end(&mut answer).await;
        assert_eq!(answer, wanted);
    }
    fault(Fault::stall());
    let mut stream = tls(&emulator, None).await;
    offers(&mut stream).await;
    stream.write_all(&init("PLAIN", Some(format!("\0{DEV1}\0{NODE}").as_bytes()))).await.unwrap();
    assert!(timeout(Duration::from_millis(200), stream.read(&mut [0; 8])).await.is_err());
}

// Connections

#[tokio::test]
async fn sasl_comes_in_any_pieces() {
    let emulator = start().await;
    let mut stream = tls(&emulator, None).await;
    let response = format!("\0{DEV1}\0{NODE}");
    for byte in [&SASL[..], &init("PLAIN", Some(response.as_bytes())), AMQP].concat() {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(&header, SASL);
    frame(&mut stream).await;
    assert_eq!(code(&frame(&mut stream).await), 0);
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(&header, AMQP);
}

/// However far it came, nothing of a connection is left when its client is gone.
#[tokio::test]
async fn a_dead_client_leaves_nothing_behind() {
    let emulator = start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let plain = init("PLAIN", Some(format!("\0{DEV1}\0{NODE}").as_bytes()));
    let open = amqp_frame(0x10, 1, b"\xa1\x01c");
    let begin = amqp_frame(0x11, 4, b"\x40\x43\x52\x64\x52\x64");
    let address = [&[0xa1, DEV1.len() as u8], DEV1.as_bytes()].concat();
    let source = [&[0, 0x53, 0x28, 0xc0, address.len() as u8 + 1, 1], &address[..]].concat();
    let receiver =
        amqp_frame(0x12, 7, &[b"\xa1\x01r\x43\x41\x40\x40", &source[..], b"\0\x53\x29\x45"].concat());
    let steps = [&SASL[..], &plain, AMQP, &open, &begin, &receiver];
    let mut streams = Vec::new();
    for reached in 0..=steps.len() {
        let mut stream = tls(&emulator, None).await;
        stream.write_all(&steps[..reached].concat()).await.unwrap();
        stream.flush().await.unwrap();
        streams.push(stream);
    }
    // The last one got an answer to everything: two headers, two SASL frames, open, begin and attach.
    let stream = streams.last_mut().unwrap();
    stream.read_exact(&mut [0; 8]).await.unwrap();
    frame(stream).await;
    frame(stream).await;
    stream.read_exact(&mut [0; 8]).await.unwrap();
    for code in [0x10, 0x11, 0x12] {
        assert_eq!(frame(stream).await[6], code);
    }
    assert!(tasks() > before);

    drop(streams);

    settles(|| tasks() == before).await;
}

#[tokio::test]
async fn dropping_the_emulator_ends_its_connections() {
    let emulator = start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let mut peer = Peer::signed_in(&emulator, NODE).await;
    peer.attach(DEV1).await;

    drop(emulator);

    assert!(timeout(DEADLINE, peer.connection.on_close()).await.unwrap().is_err());
    drop(peer);
    settles(|| tasks() == 0).await;
}

/// This takes as long as a client may hesitate.
#[tokio::test]
async fn a_client_that_does_not_go_on_is_sent_away() {
    let emulator = start().await;
    let plain = init("PLAIN", Some(format!("\0{DEV1}\0{NODE}").as_bytes()));
    let silent = [&b""[..], SASL, &[&SASL[..], &plain].concat(), &[&SASL[..], &plain, AMQP].concat()];
    let ends = silent.map(|bytes| {
        let emulator = &emulator;
        async move {
            let mut stream = tls(emulator, None).await;
            stream.write_all(bytes).await.unwrap();
            stream.flush().await.unwrap();
            let _end = timeout(Duration::from_secs(15), stream.read_to_end(&mut Vec::new())).await.unwrap();
        }
    });
    futures_util::future::join_all(ends).await;
    let journal = emulator.journal();
    assert_eq!(journal.iter().map(|entry| 1 + entry.repeats).sum::<u64>(), 4);
    assert!(journal.iter().all(|entry| entry.status == 408));
}

/// This takes as long as a client may hesitate.
#[tokio::test]
async fn a_client_that_takes_no_reply_is_sent_away() {
    let emulator = start().await;
    let mut peer = Peer::signed_in(&emulator, NODE).await;
    let receiver = Receiver::builder().name("receiver").source(DEV1).credit_mode(CreditMode::Manual);
    let _without_credit = receiver.properties(api_version()).attach(&mut peer.session).await.unwrap();
    peer.attach_sender(DEV1).await;
    peer.send(register(), None, data("")).await.unwrap();

    let end = timeout(Duration::from_secs(15), peer.connection.on_close()).await.unwrap().unwrap_err();

    assert!(format!("{end:?}").contains("com.microsoft:timeout"), "{end:?}");
    assert_eq!(last(&emulator).status, 408);
}

#[tokio::test]
async fn many_devices_register_at_once() {
    let emulator = start().await;
    let devices = (0..20).map(|_| async {
        let mut peer = Peer::signed_in(&emulator, NODE).await;
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
    let mut peer = Peer::signed_in(&emulator, WRONG_KEY).await;
    peer.attach(DEV1).await;
    let payload = json!({"registrationId": "dev1", "payload": "secret"}).to_string();
    peer.ask(register(), Some("1"), data(&payload)).await.unwrap_err();
    peer.leave().await;

    let told: String = emulator.journal().iter().map(ToString::to_string).collect();

    for secret in ["sig=", "G%2BJ", "secret"] {
        assert!(!told.contains(secret), "{told}");
    }
}

// Helpers

struct Peer {
    connection: ConnectionHandle<()>,
    session: SessionHandle<()>,
    receiver: Option<Receiver>,
    sender: Option<Sender>,
}

#[derive(Debug)]
struct Reply {
    correlation_id: Option<MessageId>,
    properties: OrderedMap<String, SimpleValue>,
    /// `Null` if it is no JSON.
    body: Value,
}

impl Reply {
    fn operation(&self) -> String {
        self.body["operationId"].as_str().unwrap().to_owned()
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.properties.get(name)? {
            SimpleValue::String(text) => Some(text),
            other => panic!("{other:?}"),
        }
    }
}

struct Ask(OrderedMap<String, SimpleValue>);

impl Ask {
    fn of(operation: &str) -> Self {
        Ask(OrderedMap::new()).with(("iotdps-operation-type", operation.into()))
    }

    fn with(mut self, (name, value): (&str, SimpleValue)) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }
}

fn register() -> Ask {
    Ask::of("iotdps-register")
}

fn poll(operation: &str) -> Ask {
    Ask::of("iotdps-get-operationstatus").with(("iotdps-operation-id", operation.into()))
}

fn data(text: &str) -> Body<Amqp> {
    Body::Data(vec![Data(Binary::from(text.as_bytes()))].into())
}

fn value(text: &str) -> Body<Amqp> {
    Body::Value(AmqpValue(Amqp::String(text.to_owned())))
}

impl Peer {
    async fn signed_in(emulator: &Emulator, token: &str) -> Self {
        let mut stream = tls(emulator, None).await;
        assert_eq!(sign_in(&mut stream, DEV1, token).await, 0);
        Self::open(stream).await
    }

    async fn open(stream: TlsStream<TcpStream>) -> Self {
        let connection = Connection::builder().container_id("peer").max_frame_size(65_536u32);
        let mut connection = timeout(DEADLINE, connection.open_with_stream(stream)).await.unwrap().unwrap();
        let session = timeout(DEADLINE, Session::begin(&mut connection)).await.unwrap().unwrap();
        Peer { connection, session, receiver: None, sender: None }
    }

    async fn attach(&mut self, address: &str) {
        let receiver = Receiver::builder().name("receiver").source(address).target(Target::default());
        let receiver = receiver.properties(api_version()).attach(&mut self.session);
        self.receiver = Some(timeout(DEADLINE, receiver).await.unwrap().unwrap());
        self.attach_sender(address).await;
    }

    async fn attach_sender(&mut self, address: &str) {
        let sender = Sender::builder().name("sender").source(Source::default()).target(address);
        let sender = sender.properties(api_version()).attach(&mut self.session);
        self.sender = Some(timeout(DEADLINE, sender).await.unwrap().unwrap());
    }

    /// How the connection ends when a link is attached that may not be.
    async fn closed_on_attach(&mut self, address: &str) -> String {
        let sender = Sender::builder().name("sender").source(Source::default()).target(address);
        let attached =
            timeout(DEADLINE, sender.properties(api_version()).attach(&mut self.session)).await.unwrap();
        assert!(attached.is_err());
        format!("{:?}", timeout(DEADLINE, self.connection.on_close()).await.unwrap().unwrap_err())
    }

    async fn send(&mut self, ask: Ask, id: Option<&str>, body: Body<Amqp>) -> Result<(), Error> {
        let sent = self.sender.as_mut().unwrap().send(message(ask, id, body));
        match timeout(DEADLINE, sent).await.unwrap().unwrap() {
            Outcome::Accepted(_) => Ok(()),
            Outcome::Rejected(rejected) => Err(rejected.error.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Sends a request that nobody will acknowledge.
    async fn send_only(&mut self, ask: Ask) {
        let sent = self.sender.as_mut().unwrap().send_batchable(message(ask, None, data("")));
        drop(timeout(DEADLINE, sent).await.unwrap().unwrap());
    }

    async fn hear(&mut self) -> Reply {
        let receiver = self.receiver.as_mut().unwrap();
        let delivery = timeout(DEADLINE, receiver.recv::<Body<Amqp>>()).await.unwrap().unwrap();
        receiver.accept(&delivery).await.unwrap();
        let message = delivery.into_message();
        let Body::Data(sections) = message.body else { panic!("{:?}", message.body) };
        let bytes: Vec<u8> = sections.into_iter().flat_map(|Data(bytes)| bytes.into_vec()).collect();
        Reply {
            correlation_id: message.properties.and_then(|properties| properties.correlation_id),
            properties: message.application_properties.unwrap().0,
            body: serde_json::from_slice(&bytes).unwrap_or_default(),
        }
    }

    async fn ask(&mut self, ask: Ask, id: Option<&str>, body: Body<Amqp>) -> Result<Reply, Error> {
        self.send(ask, id, body).await?;
        Ok(self.hear().await)
    }

    /// The registration state at the end.
    async fn register(&mut self) -> Value {
        let operation = self.ask(register(), Some("1"), data("")).await.unwrap().operation();
        loop {
            let mut reply = self.ask(poll(&operation), Some("2"), value("")).await.unwrap();
            if reply.body["status"] != "assigning" {
                return reply.body["registrationState"].take();
            }
        }
    }

    async fn leave(mut self) {
        let parting = async {
            self.sender.take().unwrap().close().await.unwrap();
            self.receiver.take().unwrap().close().await.unwrap();
            self.session.end().await.unwrap();
            self.connection.close().await.unwrap();
        };
        timeout(DEADLINE, parting).await.unwrap();
    }
}

fn message(ask: Ask, id: Option<&str>, body: Body<Amqp>) -> Message<Body<Amqp>> {
    let correlation_id = id.map(|id| MessageId::String(id.to_owned()));
    Message {
        header: None,
        delivery_annotations: None,
        message_annotations: None,
        properties: Some(Properties { correlation_id, ..Properties::default() }),
        application_properties: Some(ApplicationProperties(ask.0)),
        body,
        footer: None,
    }
}

fn api_version() -> OrderedMap<Symbol, Amqp> {
    let mut properties = OrderedMap::new();
    properties.insert(Symbol::from("com.microsoft:api-version"), Amqp::String("2019-03-31".into()));
    properties
}

fn condition(error: &Error) -> String {
    let symbol = match &error.condition {
        ErrorCondition::AmqpError(condition) => Symbol::from(condition),
        ErrorCondition::LinkError(condition) => Symbol::from(condition),
        ErrorCondition::Custom(condition) => condition.clone(),
        other => panic!("{other:?}"),
    };
    symbol.as_str().to_owned()
}

async fn tls(emulator: &Emulator, certificate: Option<&KeyedCertificate>) -> TlsStream<TcpStream> {
    let mut config = trusting(emulator.ca_pem());
    if let Some(certificate) = certificate {
        let chain =
            CertificateDer::pem_slice_iter(certificate.chain_pem.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(certificate.private_key_pem.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        config = builder.with_client_auth_cert(chain, key).unwrap();
    }
    let stream = TcpStream::connect(("127.0.0.1", emulator.amqp_port())).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

/// Speaks SASL PLAIN and gives the code of the outcome.
async fn sign_in(stream: &mut TlsStream<TcpStream>, user_name: &str, token: &str) -> u8 {
    offers(stream).await;
    say_plain(stream, user_name, token).await
}

/// The frame with the mechanisms.
async fn offers(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    stream.write_all(SASL).await.unwrap();
    stream.flush().await.unwrap();
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.unwrap();
    assert_eq!(&header, SASL);
    frame(stream).await
}

async fn say_plain(stream: &mut TlsStream<TcpStream>, user_name: &str, token: &str) -> u8 {
    say_init(stream, "PLAIN", Some(format!("\0{user_name}\0{token}").as_bytes())).await
}

async fn say_init(stream: &mut TlsStream<TcpStream>, mechanism: &str, response: Option<&[u8]>) -> u8 {
    stream.write_all(&init(mechanism, response)).await.unwrap();
    stream.flush().await.unwrap();
    code(&frame(stream).await)
}

fn init(mechanism: &str, response: Option<&[u8]>) -> Vec<u8> {
    let name = [&[0xa3, mechanism.len() as u8], mechanism.as_bytes()].concat();
    let response = match response {
        Some(bytes) => [&[0xb0][..], &u32_of(bytes.len()), bytes].concat(),
        None => vec![0x40],
    };
    composite(0x41, 2, &[name, response].concat())
}

/// A connection on which the enrolled TPM has shown both keys.
async fn shows_its_keys(emulator: &Emulator) -> TlsStream<TcpStream> {
    shows(emulator, "0ne00EMU1A7", "gw-7", &TPM.endorsement_key(), &TPM.storage_root_key()).await
}

/// A connection on which some TPM has shown both keys.
async fn shows(
    emulator: &Emulator,
    scope: &str,
    id: &str,
    endorsement: &[u8],
    root: &[u8],
) -> TlsStream<TcpStream> {
    let mut stream = tls(emulator, None).await;
    offers(&mut stream).await;
    let init = [format!("\0{scope}\0{id}\0").as_bytes(), endorsement].concat();
    stream.write_all(&self::init("TPM", Some(&init))).await.unwrap();
    assert_eq!(challenge(&mut stream).await, [0]);
    respond(&mut stream, root).await;
    stream
}

/// What both parts of a challenge hold.
async fn sealed(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let first = challenge(stream).await;
    respond(stream, b"").await;
    let last = challenge(stream).await;
    [&first[1..], &last[1..]].concat()
}

/// The bytes of the next challenge, without any before them.
async fn challenge(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let frame = frame(stream).await;
    assert!(frame.len() <= 508, "the frame is too long");
    assert_eq!(frame[..7], [2, 1, 0, 0, 0, 0x53, 0x42], "{frame:?}");
    // The list with its length and count, then one binary value, which ends the frame.
    let fields = if frame[7] == 0xc0 { &frame[10..] } else { &frame[16..] };
    let bytes = if fields[0] == 0xa0 { &fields[2..] } else { &fields[5..] };
    bytes.to_vec()
}

/// Sends a zero byte and what follows it.
async fn respond(stream: &mut TlsStream<TcpStream>, bytes: &[u8]) {
    let field = [&[0xb0][..], &u32_of(bytes.len() + 1), &[0], bytes].concat();
    stream.write_all(&composite(0x43, 1, &field)).await.unwrap();
    stream.flush().await.unwrap();
}

fn tpm_token(key: &[u8]) -> String {
    token_of("0ne00EMU1A7", "gw-7", key)
}

fn token_of(scope: &str, id: &str, key: &[u8]) -> String {
    let (resource, expiry) = (format!("{scope}%2Fregistrations%2F{id}"), 4_102_444_800_u64);
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = BASE64.encode(mac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn=registration")
}

fn code(outcome: &[u8]) -> u8 {
    assert_eq!(outcome[..7], [2, 1, 0, 0, 0, 0x53, 0x44], "{outcome:?}");
    assert_eq!(outcome[10], 0x50, "{outcome:?}");
    outcome[11]
}

/// A SASL frame with a list of fields.
fn composite(descriptor: u8, count: usize, fields: &[u8]) -> Vec<u8> {
    framed(1, descriptor, count, fields)
}

fn amqp_frame(descriptor: u8, count: usize, fields: &[u8]) -> Vec<u8> {
    framed(0, descriptor, count, fields)
}

fn framed(kind: u8, descriptor: u8, count: usize, fields: &[u8]) -> Vec<u8> {
    let list = [&[0xd0][..], &u32_of(fields.len() + 4), &u32_of(count), fields].concat();
    [&u32_of(list.len() + 11)[..], &[2, kind, 0, 0, 0, 0x53, descriptor], &list].concat()
}

fn u32_of(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap().to_be_bytes()
}

/// What stands behind the length of a frame.
async fn frame(stream: &mut TlsStream<TcpStream>) -> Vec<u8> {
    let read = async {
        let length = stream.read_u32().await.unwrap() as usize;
        let mut rest = vec![0; length - 4];
        stream.read_exact(&mut rest).await.unwrap();
        rest
    };
    timeout(DEADLINE, read).await.unwrap()
}

/// As a back end does it over HTTPS.
async fn remove_enrollment(emulator: &Emulator, id: &str) {
    let client = reqwest::Client::builder().tls_backend_preconfigured(trusting(emulator.ca_pem())).no_proxy();
    let url = format!("https://localhost:{}/enrollments/{id}?api-version=2021-10-01", emulator.https_port());
    let key = BASE64.encode("this-emulator-key-protects-none!");
    let token = azure_dps_tests::emulated::sign(&key, "localhost", "provisioningserviceowner");
    let answer = client.build().unwrap().delete(url).header("authorization", token).send().await.unwrap();
    assert_eq!(answer.status(), 204);
}

async fn settles(done: impl Fn() -> bool) {
    let waiting = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap();
}

async fn start() -> Shown {
    start_with(seeded()).await
}

async fn start_with(builder: EmulatorBuilder) -> Shown {
    Shown(builder.retry_after(3).polls(1).start().await.unwrap())
}

fn seeded() -> EmulatorBuilder {
    let keys =
        json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": PRIMARY}});
    let enrollment = json!({"registrationId": "dev1", "attestation": keys});
    Emulator::builder().seed_json(json!({"enrollments": [enrollment]}).to_string())
}

/// `gw-7` is enrolled by TPM and `dev1` by symmetric key.
fn with_tpm() -> EmulatorBuilder {
    let tpm = json!({"endorsementKey": BASE64.encode(TPM.endorsement_key())});
    let gateway = json!({"registrationId": "gw-7", "attestation": {"type": "tpm", "tpm": tpm}});
    let keys =
        json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY, "secondaryKey": PRIMARY}});
    let other = json!({"registrationId": "dev1", "attestation": keys});
    Emulator::builder().seed_json(json!({"enrollments": [gateway, other]}).to_string())
}

/// A group whose devices have leaves of this PKI.
fn certified(pki: &Pki) -> EmulatorBuilder {
    let issuer = pki.intermediates.last().unwrap_or(&pki.root);
    let certificates = json!({"primary": {"certificate": issuer.certificate_pem}});
    let attestation = json!({"type": "x509", "x509": {"signingCertificates": certificates}});
    let group = json!({"enrollmentGroupId": "plant", "attestation": attestation});
    Emulator::builder().seed_json(json!({"enrollmentGroups": [group]}).to_string())
}

fn last(emulator: &Emulator) -> Entry {
    emulator.journal().pop().unwrap()
}

const DEADLINE: Duration = Duration::from_secs(10);
