//! Attestation by TPM over HTTPS: keys, devices and tokens that are refused.

use std::time::Duration;

use azure_dps_tests::tpm_device::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

#[tokio::test]
async fn keys_that_do_not_fit_get_an_error_and_no_challenge() {
    let peer = TpmDevice::start().await;
    let (endorsement, root) = (TPM.endorsement_key(), TPM.storage_root_key());
    let with = |at: usize, byte: u8| {
        let mut changed = root.clone();
        changed[at] = byte;
        body(&endorsement, &changed)
    };
    let text = |endorsement: Value, root: Value| {
        json!({"tpm": {"endorsementKey": endorsement, "storageRootKey": root}}).to_string()
    };
    let (ek, srk) = (BASE64.encode(&endorsement), BASE64.encode(&root));
    for (body, status, code, cause) in [
        (
            body(&OTHER_TPM.endorsement_key(), &root),
            401,
            401_002,
            "the endorsement key differs from that of enrollment gw-7",
        ),
        (body(&root, &root), 401, 401_002, "the endorsement key differs from that of enrollment gw-7"),
        (with(9, 0x70), 400, 400_000, "tpm.storageRootKey lacks the attribute fixedTPM"),
        (with(7, 0x02), 400, 400_000, "tpm.storageRootKey lacks the attribute restricted"),
        (with(3, 0x23), 400, 400_000, "tpm.storageRootKey has type 0x0023, not 0x0001"),
        (
            body(&endorsement, &root[..283]),
            400,
            400_000,
            "tpm.storageRootKey is no TPM2B_PUBLIC: its first two bytes are not the length of the rest",
        ),
        (
            text(json!(ek), json!("%")),
            400,
            400_000,
            "tpm.storageRootKey is not base64: there is '%' at position 1",
        ),
        (text(json!(ek), json!("")), 400, 400_000, "tpm.storageRootKey is missing"),
        (text(Value::Null, json!(srk)), 400, 400_000, "tpm.endorsementKey is missing"),
        (
            json!({"tpm": {"endorsementKey": ek, "storageRootKey": srk}, "TPM": 1}).to_string(),
            400,
            400_000,
            "no api-version knows TPM",
        ),
    ] {
        let answer = peer.ask("PUT", "register", "", &body).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{cause}");
        assert!(answer.body.get("authenticationKey").is_none());
        assert_eq!(peer.cause(), cause);
    }
}

#[tokio::test]
async fn a_device_that_is_not_enrolled_by_tpm_gets_an_error_and_no_challenge() {
    let peer = TpmDevice::start().await;
    let presented = body(&TPM.endorsement_key(), &TPM.storage_root_key());
    for (path, status, code, cause) in [
        (
            "/0ne00EMU1A7/registrations/gw-8",
            404,
            404_201,
            "gw-8 has no individual enrollment, and groups cannot attest TPMs",
        ),
        (
            "/0ne00EMU1A7/registrations/dev1",
            401,
            401_002,
            "enrollment dev1 is for attestation by symmetricKey, not by tpm",
        ),
        ("/0ne00000000/registrations/gw-7", 404, 404_001, "ID scope not found"),
    ] {
        let target = format!("{path}/register?api-version=2019-03-31");
        let presented = presented.replace("gw-7", path.rsplit('/').next().unwrap());
        let answer = peer.send("PUT", &target, "", &presented).await;
        assert_eq!((answer.status, answer.code()), (status, code));
        assert!(answer.body.get("authenticationKey").is_none());
        assert_eq!(peer.cause(), cause);
    }
}

#[tokio::test]
async fn without_its_keys_or_an_api_version_a_tpm_is_not_challenged() {
    let peer = TpmDevice::start().await;
    for body in ["", "{}", r#"{"registrationId":"gw-7"}"#, r#"{"tpm":null}"#] {
        let answer = peer.ask("PUT", "register", "", body).await;
        assert_eq!((answer.status, answer.code()), (401, 401_000), "{body}");
    }
    let presented = body(&TPM.endorsement_key(), &TPM.storage_root_key());
    let answer = peer.send("PUT", "/0ne00EMU1A7/registrations/gw-7/register", "", &presented).await;
    assert_eq!((answer.status, answer.code()), (400, 400_001));
    // A look-up begins no registration.
    let target = "/0ne00EMU1A7/registrations/gw-7?api-version=2021-06-01";
    assert_eq!(peer.send("POST", target, "", &presented).await.code(), 401_000);
}

#[tokio::test]
async fn a_token_that_does_not_answer_the_challenge_is_refused() {
    let peer = TpmDevice::start().await;
    let early = peer.ask("PUT", "register", &authorization(&token(&[1; 32], SCOPED)), "").await;
    assert_eq!(early.code(), 401_002);
    assert_eq!(peer.cause(), "gw-7 has no challenge that the token could answer");

    let key = peer.challenged(&TPM).await;
    let good = token(&key, SCOPED);
    for (token, code, cause) in [
        (
            token(&[1; 32], SCOPED),
            401_002,
            "signature does not match the key of the latest challenge for gw-7",
        ),
        (
            good.replace("4102444800", "4102444801"),
            401_002,
            "signature does not match the key of the latest challenge for gw-7",
        ),
        (
            token(&key, "0ne00EMU1A7%2Fregistrations%2Fgw-8"),
            401_000,
            "SAS audience is for another registration id: gw-8",
        ),
        (
            token(&key, "0ne00000000%2Fregistrations%2Fgw-7"),
            401_000,
            "SAS audience is for another id scope: 0ne00000000",
        ),
        (
            good.replace("skn=registration", "skn=other"),
            401_000,
            "the token names a policy other than registration",
        ),
    ] {
        let answer = peer.ask("PUT", "register", &authorization(&token), "").await;
        assert_eq!((answer.status, answer.code()), (401, code), "{cause}");
        assert_eq!(peer.cause(), cause);
    }
    peer.emulator.advance_clock(Duration::from_secs(1));
    assert_eq!(peer.register(&good).await["status"], "assigned");
}

#[tokio::test]
async fn a_challenge_is_void_when_the_enrollment_gets_another_tpm() {
    let peer = TpmDevice::start().await;
    let key = peer.challenged(&TPM).await;
    peer.enroll(&OTHER_TPM, json!({})).await;

    let answer = peer.ask("PUT", "register", &authorization(&token(&key, SCOPED)), "").await;

    assert_eq!(answer.code(), 401_002);
    assert_eq!(
        peer.cause(),
        "the endorsement key of enrollment gw-7 has changed since the challenge was made"
    );
}
