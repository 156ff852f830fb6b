//! TPMs at the emulator's AMQP port: the challenge of the SASL mechanism TPM, in literal frames.

use azure_dps_emulator::{Emulator, Fault, Operation, RefuseAt};
use azure_dps_tests::amqp_bytes::say;
use azure_dps_tests::amqp_device::{AmqpDevice, condition, data, register};
use azure_dps_tests::dev1::start_with;
use azure_dps_tests::emulated::{Emulated, sign};
use azure_dps_tests::journal::last;
use azure_dps_tests::sasl_bytes::{challenge, init, offers, outcome, respond, sign_in, tls};
use azure_dps_tests::tls::ClientStream;
use azure_dps_tests::tpm_device::{OTHER_TPM, TPM, seeded as with_tpm};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;

/// The Node client takes a challenge of one byte as the question for the storage root key; the Java client wants the
/// bytes 00, 80 and C1, one after the other, and nothing else; no frame of the protocol has more than 512 bytes.
#[tokio::test]
async fn a_tpm_answers_a_challenge_in_two_parts_and_gets_the_key_for_its_hub_in_the_end() {
    let emulator = start_with(with_tpm()).await;
    let mut stream = shows_its_keys(&emulator).await;
    let first = challenge(&mut stream).await;
    answer(&mut stream, b"").await;
    let last = challenge(&mut stream).await;
    assert_eq!((first[0], last[0]), (0x80, 0xc1));
    assert!(first.len() <= 471 && last.len() <= 471);
    let key = TPM.open(&[&first[1..], &last[1..]].concat()).unwrap();
    answer(&mut stream, tpm_token(&key).as_bytes()).await;
    assert_eq!(outcome(&mut stream).await, 0);

    let mut peer = AmqpDevice::open(stream).await;
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
        ("0ne00EMU1A7", "gw-7", &other, &other_root, "the endorsement key differs"),
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
        answer(&mut stream, token_of(scope, id, &key).as_bytes()).await;

        assert_eq!(outcome(&mut stream).await, 1, "{why}");

        let entry = last(&emulator);
        assert_eq!((entry.method.as_str(), entry.id.as_deref()), ("sasl-response", Some(id)));
        assert!(entry.cause.as_ref().unwrap().starts_with(why), "{entry}");
    }
    assert_eq!(emulator.registrations(), json!([]));
}

#[tokio::test]
async fn unusable_keys_are_refused_before_a_challenge() {
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
            assert_eq!(outcome(&mut stream).await, 1, "{why}");
            assert!(last(&emulator).cause.unwrap().starts_with(why), "{}", last(&emulator));
        }
    }
}

#[tokio::test]
async fn the_refusal_of_a_tpm_whose_enrollment_is_gone_speaks_of_its_tpm() {
    let emulated = Emulated::start(with_tpm()).await;
    let emulator = &emulated.emulator;
    let mut stream = shows_its_keys(emulator).await;
    let key = TPM.open(&sealed(&mut stream).await).unwrap();
    answer(&mut stream, tpm_token(&key).as_bytes()).await;
    assert_eq!(outcome(&mut stream).await, 0);
    let mut peer = AmqpDevice::open(stream).await;
    peer.attach("0ne00EMU1A7/registrations/gw-7").await;
    let deleted = emulated.service("DELETE", "/enrollments/gw-7", "").await;
    assert_eq!(deleted.status, 204, "{}", deleted.body);

    let error = peer.ask(register(), Some("1"), data("")).await.unwrap_err();

    assert_eq!(condition(&error), "amqp:not-found");
    let cause = "the token answers a TPM challenge, but individual enrollment gw-7 was deleted";
    assert_eq!(last(emulator).cause.as_deref(), Some(cause));
}

#[tokio::test]
async fn a_wrong_answer_of_a_tpm_is_refused_at_sasl_whatever_was_chosen() {
    for refuse_at in [RefuseAt::Connect, RefuseAt::Register] {
        let emulator = start_with(with_tpm().refuse_at(refuse_at)).await;
        for (between, token, why) in [
            (&b""[..], tpm_token(b"wrong"), "signature does not match the key of the latest challenge"),
            (b"", String::new(), "the request has neither a token nor a client certificate"),
            (b"x", String::new(), "the response of TPM to the first part"),
        ] {
            let mut stream = shows_its_keys(&emulator).await;
            challenge(&mut stream).await;
            answer(&mut stream, between).await;
            if between.is_empty() {
                challenge(&mut stream).await;
                answer(&mut stream, token.as_bytes()).await;
            }

            assert_eq!(outcome(&mut stream).await, 1, "{why}");

            assert!(last(&emulator).cause.unwrap().starts_with(why), "{}", last(&emulator));
        }
    }
}

/// The key of a challenge signs where there is a challenge: not in PLAIN.
#[tokio::test]
async fn the_key_of_a_challenge_is_not_a_password() {
    let emulator = start_with(with_tpm()).await;
    let mut stream = shows_its_keys(&emulator).await;
    let key = TPM.open(&sealed(&mut stream).await).unwrap();

    let mut stream = tls(&emulator, None).await;
    assert_eq!(sign_in(&mut stream, "0ne00EMU1A7/registrations/gw-7", &tpm_token(&key)).await, 0);
    let mut peer = AmqpDevice::open(stream).await;
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
    answer(&mut stream, tpm_token(&key).as_bytes()).await;

    assert_eq!(outcome(&mut stream).await, 4, "at the token, where clients notice it");
}

/// A connection on which the enrolled TPM has shown both keys.
async fn shows_its_keys(emulator: &Emulator) -> ClientStream {
    shows(emulator, "0ne00EMU1A7", "gw-7", &TPM.endorsement_key(), &TPM.storage_root_key()).await
}

/// A connection on which some TPM has shown both keys.
async fn shows(emulator: &Emulator, scope: &str, id: &str, endorsement: &[u8], root: &[u8]) -> ClientStream {
    let mut stream = tls(emulator, None).await;
    offers(&mut stream).await;
    let response = [format!("\0{scope}\0{id}\0").as_bytes(), endorsement].concat();
    say(&mut stream, &init("TPM", Some(&response))).await;
    assert_eq!(challenge(&mut stream).await, [0]);
    answer(&mut stream, root).await;
    stream
}

/// What both parts of a challenge hold.
async fn sealed(stream: &mut ClientStream) -> Vec<u8> {
    let first = challenge(stream).await;
    answer(stream, b"").await;
    let last = challenge(stream).await;
    [&first[1..], &last[1..]].concat()
}

/// Sends a zero byte and what follows it.
async fn answer(stream: &mut ClientStream, bytes: &[u8]) {
    respond(stream, &[&[0], bytes].concat()).await;
}

fn tpm_token(key: &[u8]) -> String {
    token_of("0ne00EMU1A7", "gw-7", key)
}

fn token_of(scope: &str, id: &str, key: &[u8]) -> String {
    sign(&BASE64.encode(key), &format!("{scope}/registrations/{id}"), "registration")
}
