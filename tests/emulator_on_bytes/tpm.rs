//! Attestation by TPM over HTTPS: the challenge, the key for the hub, and how long both hold.

use std::time::{Duration, SystemTime};

use azure_dps_emulator::Emulator;
use azure_dps_tests::http_client::ask_in_clear;
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use azure_dps_tests::tpm_device::*;
use azure_dps_tests::{Act, Peer, body as body_of};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

/// Expected values: the challenge of the service as published with the Java client, and what every client reads of it.
#[tokio::test]
async fn a_tpm_gets_in_by_its_challenge_and_a_key_for_its_hub_in_the_end() {
    let peer = TpmDevice::start().await;

    let challenge = peer.present(&TPM).await;

    assert_eq!((challenge.status, challenge.body.as_object().unwrap().len()), (401, 4));
    assert_eq!(challenge.body["message"], "Authorization required, resend request using supplied key");
    assert_eq!(challenge.body["unencryptedAuthenticationKey"], Value::Null);
    assert_eq!(challenge.body["keyName"], "registration");
    let sealed = challenge.body["authenticationKey"].as_str().unwrap();
    assert!(sealed.starts_with("ADQAI"), "{sealed}");
    let key = opened(&TPM, sealed);
    assert_eq!(key.len(), 32);

    let state = peer.register(&token(&key, SCOPED)).await;

    assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!("gw-7")));
    let sealed = state["tpm"]["authenticationKey"].as_str().unwrap();
    assert!(sealed.starts_with("ADQAI"), "{sealed}");
    let hub_key = opened(&TPM, sealed);
    assert!(hub_key.len() == 32 && hub_key != key);
    let hub_key = BASE64.encode(hub_key);
    assert_eq!(peer.emulator.hub_key("GW-7").as_ref(), Some(&hub_key));
    let device = peer.emulator.hub_device(state["assignedHub"].as_str().unwrap(), "gw-7").unwrap();
    let authentication = &device["identity"]["authentication"];
    assert_eq!(
        (&authentication["type"], &authentication["symmetricKey"]["primaryKey"]),
        (&json!("sas"), &json!(hub_key))
    );
    assert_eq!(peer.statuses(), [401, 202, 202, 200]);
    assert_eq!(peer.last().cause, None);
}

#[tokio::test]
async fn a_blob_for_one_tpm_opens_in_no_other() {
    let peer = TpmDevice::start().await;
    let sealed = sealed(&peer.present(&TPM).await);
    let blob = BASE64.decode(sealed).unwrap();

    assert_eq!(OTHER_TPM.open(&blob), Err("credential seed"));
    for (at, wanted) in [
        (4, "credential"),
        (36, "credential"),
        (56, "credential seed"),
        (316, "duplicate"),
        (348, "duplicate"),
        (458, "duplicate seed"),
        (732, "duplicate"),
    ] {
        let mut flipped = blob.clone();
        flipped[at] ^= 1;
        assert_eq!(TPM.open(&flipped), Err(wanted), "byte {at}");
    }
}

/// A storage root key of another TPM proves nothing: its credential is bound to both keys.
#[tokio::test]
async fn a_challenge_is_bound_to_both_keys() {
    let peer = TpmDevice::start().await;
    let body = body(&TPM.endorsement_key(), &OTHER_TPM.storage_root_key());

    let sealed = sealed(&peer.ask("PUT", "register", "", &body).await);

    assert_eq!(TPM.open(&BASE64.decode(sealed).unwrap()), Err("credential"));
}

/// The identity service leaves `tpm` out of its second request, the others send it again; hex digits of escapes have
/// either case, and the identity service writes the audience in lower case.
#[tokio::test]
async fn the_second_request_may_be_without_tpm_and_every_style_of_token_is_good() {
    let peer = TpmDevice::start().await;
    let key = peer.challenged(&TPM).await;
    let presented = body(&TPM.endorsement_key(), &TPM.storage_root_key());
    for (resource, body) in [
        (SCOPED, presented.as_str()),
        ("0ne00EMU1A7%2fregistrations%2fgw-7", &presented),
        ("0ne00emu1a7/registrations/gw-7", r#"{"registrationId":"gw-7"}"#),
        (SCOPED, ""),
    ] {
        let answer = peer.ask("PUT", "register", &authorization(&token(&key, resource)), body).await;
        assert_eq!(answer.status, 202, "{resource}");
    }
}

#[tokio::test]
async fn the_key_for_the_hub_stays_with_the_tpm_the_device_and_the_hub() {
    let peer = TpmDevice::start().await;
    let first = peer.hub_key(&TPM).await;
    assert_eq!(peer.hub_key(&TPM).await, first);
    // Also when it was out in between.
    peer.enroll(&TPM, json!({"provisioningStatus": "disabled"})).await;
    let key = peer.challenged(&TPM).await;
    assert_eq!(peer.register(&token(&key, SCOPED)).await["status"], "disabled");
    peer.enroll(&TPM, json!({})).await;
    assert_eq!(peer.hub_key(&TPM).await, first);

    peer.enroll(&OTHER_TPM, json!({})).await;
    let replaced = peer.hub_key(&OTHER_TPM).await;
    assert_ne!(replaced, first);

    let hubs = peer.emulator.hubs();
    let current = peer.emulator.registrations()[0]["assignedHub"].as_str().unwrap().to_owned();
    let other = hubs.into_iter().find(|hub| *hub != current).unwrap();
    peer.enroll(&OTHER_TPM, json!({"iotHubHostName": other})).await;
    assert_ne!(peer.hub_key(&OTHER_TPM).await, replaced);
}

#[tokio::test]
async fn a_webhook_gets_the_keys_of_the_tpm_and_the_key_for_the_hub_waits_for_its_answer() {
    let hub = "hub-b.example";
    let answer = Act::json("200 OK", "", &json!({"iotHubHostName": hub}).to_string());
    let hook = Peer::start([answer]).await;
    let builder = seeded().hub("hub-a.example").hub(hub).webhook_ca(&hook.ca_pem);
    let peer = TpmDevice::with(builder).await;
    let url = format!("https://localhost:{}/", hook.port);
    let definition = json!({"webhookUrl": url, "apiVersion": "2021-10-01"});
    peer.enroll(&TPM, json!({"allocationPolicy": "custom", "customAllocationDefinition": definition})).await;

    let hub_key = peer.hub_key(&TPM).await;

    let device = peer.emulator.hub_device(hub, "gw-7").unwrap();
    let keys = &device["identity"]["authentication"]["symmetricKey"];
    assert_eq!(keys["primaryKey"], BASE64.encode(hub_key));
    let requests = hook.requests();
    let asked: Value = serde_json::from_str(body_of(&requests[0])).unwrap();
    let presented: Value =
        serde_json::from_str(&body(&TPM.endorsement_key(), &TPM.storage_root_key())).unwrap();
    assert_eq!(asked["deviceRuntimeContext"]["tpm"], presented["tpm"]);
    assert_eq!(asked["individualEnrollment"]["attestation"], json!({"type": "tpm"}));
}

#[tokio::test]
async fn a_new_start_forgets_challenges_and_keys() {
    let peer = TpmDevice::start().await;
    peer.hub_key(&TPM).await;
    let key = peer.challenged(&TPM).await;

    peer.emulator.reset();

    assert_eq!(peer.emulator.hub_key("gw-7"), None);
    let refused = peer.ask("PUT", "register", &authorization(&token(&key, SCOPED)), "").await;
    assert_eq!((refused.status, refused.code()), (401, 401_002));
}

#[tokio::test]
async fn a_disabled_enrollment_is_challenged_and_ends_disabled_without_a_key() {
    let peer = TpmDevice::start().await;
    peer.enroll(&TPM, json!({"provisioningStatus": "disabled"})).await;
    let key = peer.challenged(&TPM).await;

    let state = peer.register(&token(&key, SCOPED)).await;

    assert_eq!((&state["status"], &state["tpm"]), (&json!("disabled"), &json!({})));
    assert_eq!(peer.emulator.hub_key("gw-7"), None);
}

#[tokio::test]
async fn the_management_port_returns_the_key_of_a_hub_device() {
    let peer = TpmDevice::with(seeded().manage_port(0)).await;
    let hub_key = peer.hub_key(&TPM).await;
    let get = async |path: &str| {
        let port = peer.emulator.manage_port().unwrap();
        let reply = ask_in_clear(port, "GET", path, "Host: localhost\r\n", "").await;
        (reply.status, reply.body)
    };

    let reported = (200, json!({"primaryKey": BASE64.encode(hub_key)}));
    assert_eq!((get("/hub-keys/gw-7").await, get("/hub-keys/gw%2D7").await), (reported.clone(), reported));
    let unknown = json!({"message": "gw-8 was not assigned to a hub by a TPM"});
    assert_eq!(get("/hub-keys/gw-8").await, (404, unknown));
}

#[tokio::test]
async fn a_challenge_has_to_be_answered_within_five_minutes_and_stays_answered() {
    let peer = TpmDevice::start().await;
    peer.emulator.set_clock(SystemTime::now());
    let key = peer.challenged(&TPM).await;
    let head = authorization(&token(&key, SCOPED));
    peer.emulator.advance_clock(Duration::from_secs(301));

    let late = peer.ask("PUT", "register", &head, "").await;

    assert_eq!((late.status, late.code()), (401, 401_002));
    assert!(peer.cause().starts_with("the challenge for gw-7 expired "), "{}", peer.cause());

    let head = authorization(&token(&peer.challenged(&TPM).await, SCOPED));
    peer.emulator.advance_clock(Duration::from_secs(299));
    let begun = peer.ask("PUT", "register", &head, "").await;
    let operation = format!("operations/{}", begun.operation());
    peer.emulator.advance_clock(Duration::from_secs(3_600));
    assert_eq!(peer.ask("GET", &operation, &head, "").await.status, 202);
}

#[tokio::test]
async fn a_new_challenge_takes_the_place_of_the_one_before() {
    let peer = TpmDevice::start().await;
    let (first, second) = (peer.challenged(&TPM).await, peer.challenged(&TPM).await);
    assert_ne!(first, second);

    let refused = peer.ask("PUT", "register", &authorization(&token(&first, SCOPED)), "").await;

    assert_eq!((refused.status, refused.code()), (401, 401_002));
    assert_eq!(peer.cause(), "signature does not match the key of the latest challenge for gw-7");
    assert_eq!(peer.register(&token(&second, SCOPED)).await["status"], "assigned");
}

#[tokio::test]
async fn neither_keys_nor_blobs_are_in_the_journal_or_in_debug() {
    let peer = TpmDevice::start().await;
    let sealed = sealed(&peer.present(&TPM).await);
    let hub_key = peer.hub_key(&TPM).await;

    let reported = format!("{:?} {:?}", *peer.emulator, peer.emulator.journal());

    for secret in [
        &sealed,
        &BASE64.encode(hub_key),
        &BASE64.encode(TPM.endorsement_key()),
        &BASE64.encode(TPM.storage_root_key()),
    ] {
        assert!(!reported.contains(secret.as_str()));
    }
}

#[tokio::test]
async fn an_enrollment_keeps_an_endorsement_key_that_can_be_challenged_and_no_other_one() {
    let builder = Emulator::builder();
    let record = |key: &str| {
        let tpm = json!({"type": "tpm", "tpm": {"endorsementKey": key}});
        json!({"enrollments": [{"registrationId": "gw-7", "attestation": tpm}]}).to_string()
    };
    let emulator = builder.seed_json(record(ENDORSEMENT_KEY)).start().await.unwrap();
    let kept = &emulator.enrollments()["enrollments"][0]["attestation"]["tpm"];
    assert_eq!(*kept, json!({"endorsementKey": ENDORSEMENT_KEY}));

    let mut signing = TPM.endorsement_key();
    signing[7] = 0x05;
    for (key, why) in [
        ("AToA%".to_owned(), "attestation.tpm.endorsementKey is not base64"),
        ("AToAAQ==".to_owned(), "attestation.tpm.endorsementKey is no TPM2B_PUBLIC"),
        (BASE64.encode(signing), "attestation.tpm.endorsementKey lacks the attribute decrypt"),
    ] {
        let refused = Emulator::builder().seed_json(record(&key)).start().await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}
