//! Signing requests for which the emulator issues no certificate, over each protocol, with the reason in the
//! journal.

use azure_dps_emulator::{CertificatePolicy, Emulator, KeyType};
use azure_dps_tests::amqp_device::{AmqpDevice, condition, data, register};
use azure_dps_tests::dev1;
use azure_dps_tests::emulated::{Emulated, Reply};
use azure_dps_tests::mqtt_bytes::CLEAN;
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::openssl::OpenSsl;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::certificates::{LATEST, P256, P384, RSA, csr, dev1_with_policy, issue, names, policy};
use crate::tokens::DEV1;

#[tokio::test]
async fn a_csr_that_cannot_be_used_is_refused_with_the_reason_and_nothing_is_registered() {
    let peer = Emulated::start(Emulator::builder().certificate_policy(policy())).await;
    peer.put_as(LATEST, "dev1", names()).await;
    let good = csr("dev1");
    let der = BASE64_STANDARD.decode(&good).unwrap();
    let (start, end) = good.split_at(64);
    let pem = format!("-----BEGIN CERTIFICATE REQUEST-----\n{good}\n-----END CERTIFICATE REQUEST-----\n");
    let mut unsigned = der.clone();
    *unsigned.last_mut().unwrap() ^= 1;
    for (csr, wanted) in [
        (String::new(), "csr is empty"),
        ("A".repeat(8_193), "csr has 8193 characters: 8192 (8 KB) are the most"),
        ("A".repeat(200_000), "csr has 200000 characters: 8192 (8 KB) are the most"),
        (pem.clone(), "csr is PEM: it must be base64 of the request in DER"),
        (BASE64_STANDARD.encode(&pem), "csr is base64 of PEM: "),
        (format!("{start}\r\n{end}"), "csr has a space or a line break at position 65: "),
        (good.replace('A', "-"), "csr is not base64 (there is '-' at position "),
        ("AAAA".to_owned(), "csr is not base64 of a PKCS#10 certificate signing request in DER"),
        ("MDAw".repeat(2_048), "csr is not base64 of a PKCS#10 certificate signing request in DER"),
        (BASE64_STANDARD.encode(&der[..40]), "csr is not base64 of a PKCS#10 "),
        (BASE64_STANDARD.encode(unsigned), "csr has a signature of algorithm 1.2.840.10045.4.3.2 that its "),
        (csr("dev2"), "csr has the common name (CN) \"dev2\": it must be the registration id \"dev1\", "),
        (csr("DEV1"), "csr has the common name (CN) \"DEV1\": it must be the registration id \"dev1\", "),
        (csr("dev1 "), "csr has the common name (CN) \"dev1 \": it must be the registration id \"dev1\", "),
        (csr(&"x".repeat(2_000)), "csr has the common name (CN) \"xxxx"),
    ] {
        let refused = register_dev1(&peer, &json!({"csr": csr}).to_string()).await;

        assert_eq!((refused.status, refused.code()), (400, 400_000), "{wanted}");
        assert!(peer.cause().starts_with(wanted), "{wanted}: {}", peer.cause());
        assert!(peer.cause().len() < 500, "a foreign text is cut: {}", peer.cause());
    }
    for csr in [json!(7), json!(["MIIB"]), json!({})] {
        let refused = register_dev1(&peer, &json!({"csr": csr}).to_string()).await;
        assert_eq!((refused.status, refused.code()), (400, 400_012), "{csr}");
    }
    assert_eq!(peer.emulator.registrations(), json!([]), "nothing was registered");
    for csr in [&good, "MIIB", ""] {
        let body = json!({"csr": csr}).to_string();
        let looked_up =
            peer.send("POST", &format!("/{}?api-version={LATEST}", dev1::DEV1), DEV1, &body).await;
        assert_eq!((looked_up.status, looked_up.code()), (400, 400_000), "in a status look-up");
        assert_eq!(peer.cause(), "csr does not belong into a status lookup");
    }
}

#[tokio::test]
async fn requests_of_openssl_with_weak_keys_other_keys_and_two_names_are_refused() {
    let Some(openssl) = OpenSsl::start() else { return };
    let peer = Emulated::start(Emulator::builder().certificate_policy(policy())).await;
    peer.put_as(LATEST, "dev1", names()).await;
    for (name, key, wanted) in [
        (
            "dev1",
            ["RSA", "rsa_keygen_bits:1024"],
            "csr has an RSA key of 1024 bits: 2048 to 8192 can be used",
        ),
        (
            "dev1",
            ["EC", "ec_paramgen_curve:P-521"],
            "csr has an EC key on a curve other than P-384 and P-256",
        ),
        ("dev1", ["EC", "ec_paramgen_curve:secp256k1"], "csr has an EC key on a curve other than P-384 "),
        ("dev1/CN=dev1", P256, "csr has more than one common name (CN)"),
        ("/O=dev1", P256, "csr has the common name (CN) \"/O=dev1\""),
    ] {
        let name = name.replace("/O=", "\\/O=");
        let body = json!({"csr": openssl.request(&name, key)}).to_string();
        let refused = register_dev1(&peer, &body).await;

        assert_eq!((refused.status, refused.code()), (400, 400_000), "{wanted}");
        assert!(peer.cause().starts_with(wanted), "{wanted}: {}", peer.cause());
    }
}

#[tokio::test]
async fn a_key_type_that_the_policy_excludes_is_refused() {
    let only = policy().with_key_types([KeyType::P384]).unwrap();
    let peer = Emulated::start(Emulator::builder().certificate_policy(only)).await;
    peer.put_as(LATEST, "dev1", names()).await;

    let refused = register_dev1(&peer, &json!({"csr": csr("dev1")}).to_string()).await;
    assert_eq!((refused.status, refused.code()), (400, 400_000));
    let wanted = "csr has a key of type p256: certificate policy plant-north/plant-ca/sensors allows p384";
    assert_eq!(peer.cause(), wanted);

    let Some(openssl) = OpenSsl::start() else { return };
    let refused = register_dev1(&peer, &json!({"csr": openssl.request("dev1", RSA)}).to_string()).await;
    assert_eq!(refused.status, 400);
    assert!(peer.cause().starts_with("csr has a key of type rsa: "), "{}", peer.cause());
    let p384 = openssl.request("dev1", P384);
    assert!(issue(&peer, "dev1", LATEST, &p384).await["issuedCertificateChain"].is_array());
}

#[tokio::test]
async fn refusals_reach_devices_over_mqtt_and_amqp_and_members_are_gated_there() {
    let emulator = dev1::start_with(dev1_with_policy()).await;
    let body = |csr: &str| json!({"csr": csr}).to_string();
    for (version, csr, wanted) in [
        (LATEST, csr("dev2"), "csr has the common name (CN) \"dev2\""),
        (LATEST, "A".repeat(100_000), "csr has 100000 characters"),
        ("2019-03-31", csr("dev1"), "api-version 2019-03-31 does not know csr"),
    ] {
        let user = dev1::MQTT_USER.replace("2019-03-31", version);
        let mut device = MqttDevice::signed_in(&emulator, CLEAN, 0, &user, dev1::NODE).await;
        let refused = device.register(1, &body(&csr), "").await.unwrap_err();
        assert!(refused.topic.starts_with("$dps/registrations/res/400/"), "{}", refused.topic);
        assert_eq!(refused.body["errorCode"], 400_000, "{wanted}");
        let over_mqtt = azure_dps_tests::journal::cause(&emulator);

        let mut device = AmqpDevice::signed_in(&emulator, dev1::NODE).await;
        device.attach_as(&format!("amqps://localhost/{}", dev1::DEV1), version).await;
        let refused = device.ask(register(), Some("1"), data(&body(&csr))).await.unwrap_err();
        assert!(
            condition(&refused).contains("400000") || format!("{refused:?}").contains("400000"),
            "{refused:?}"
        );
        let over_amqp = azure_dps_tests::journal::cause(&emulator);

        assert!(over_mqtt.starts_with(wanted) && over_amqp.starts_with(wanted), "{over_mqtt}; {over_amqp}");
    }
    let registrations: Value = emulator.registrations();
    assert_eq!(registrations, json!([]));
}

#[tokio::test]
async fn policies_with_unusable_names_or_days_are_refused() {
    let error = CertificatePolicy::new("Plant", "plant-ca", "sensors").unwrap_err().to_string();
    assert!(error.starts_with("`Plant` cannot be the name of a namespace: "), "{error}");
    assert_eq!(
        policy().with_days(91).unwrap_err().to_string(),
        "certificates cannot live 91 days: a certificate policy allows 7 to 90"
    );
}

async fn register_dev1(peer: &Emulated, body: &str) -> Reply {
    let target = format!("/{}/register?api-version={LATEST}", dev1::DEV1);
    peer.send("PUT", &target, DEV1, body).await
}
