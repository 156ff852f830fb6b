//! Certificates of devices in the TLS handshake of the emulator's HTTPS and MQTT ports.

use std::sync::{Arc, Mutex};

use azure_dps_emulator::{Emulator, Pki, RefuseAt};
use azure_dps_tests::dev1::{MQTT_USER, start_with};
use azure_dps_tests::journal::{cause, requests};
use azure_dps_tests::mqtt_bytes::{CLEAN, NO_PASSWORD, connect_with};
use azure_dps_tests::mqtt_device::MqttDevice;
use azure_dps_tests::x509_device::*;
use rcgen::{BasicConstraints, IsCa};
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::io::AsyncReadExt as _;

const OPENSSL: [(&str, &str, &str); 5] = [
    ("sensor-rsa", include_str!("../vectors/x509/rsa.pem"), include_str!("../vectors/x509/rsa-pkcs1.key")),
    (
        "sensor-3072",
        include_str!("../vectors/x509/rsa-3072.pem"),
        include_str!("../vectors/x509/rsa-3072.key"),
    ),
    (
        "sensor-4096",
        include_str!("../vectors/x509/rsa-4096.pem"),
        include_str!("../vectors/x509/rsa-4096.key"),
    ),
    ("sensor-384", include_str!("../vectors/x509/p384.pem"), include_str!("../vectors/x509/p384-sec1.key")),
    ("sensor-v1", include_str!("../vectors/x509/v1.pem"), include_str!("../vectors/x509/v1.key")),
];

#[tokio::test]
async fn every_kind_of_certificate_and_key_works_over_both_versions_of_tls() {
    let emulator = start_with(Emulator::builder()).await;
    // An authority that is a device: self-signed, with `CA:TRUE`.
    let (_, (pem, key)) = issuer("dev1", IsCa::Ca(BasicConstraints::Unconstrained), None);
    let mut kinds = OPENSSL.to_vec();
    kinds.push(("dev1", &pem, &key));
    for (id, pem, key) in kinds {
        enroll(&emulator, id, own(&[pem])).await;
        for version in [&TLS12, &TLS13] {
            let mut device = X509Device::connect(&emulator, config(&emulator, pem, key, version)).await;
            assert_eq!(device.stream.get_ref().1.protocol_version(), Some(version.version));
            let state = device.register(id).await.unwrap();
            assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!(id)), "{id}");
        }
    }
}

#[tokio::test]
async fn a_certificate_is_asked_for_without_hints_and_not_required() {
    let emulator = start_with(Emulator::builder()).await;
    for version in [&TLS12, &TLS13] {
        let asked = Arc::new(Asked::default());
        let config = builder(&emulator, version).with_client_cert_resolver(Arc::clone(&asked) as _);
        let mut device = X509Device::connect(&emulator, config).await;
        let refused = device.register("dev1").await.unwrap_err();

        assert_eq!(asked.0.lock().unwrap().as_slice(), [0], "once, and with no names of authorities");
        assert_eq!((refused.status, &refused.body["errorCode"]), (401, &json!(401_000)));
        assert_eq!(cause(&emulator), "the request has neither a token nor a client certificate");
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_does_not_pass_the_handshake() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1", "dev2"], 0).unwrap();
    let [victim, thief] = [&pki.devices[0], &pki.devices[1]];
    let v1 = OPENSSL[4].1;
    for version in [&TLS12, &TLS13] {
        for stolen in [victim.chain_pem.as_str(), v1] {
            let before = requests(&emulator);
            let config = config(&emulator, stolen, &thief.private_key_pem, version);
            // Over TLS 1.3 the client has finished before the server judges.
            if let Ok(mut device) = X509Device::try_connect(&emulator, config).await {
                assert!(device.stream.read_u8().await.is_err());
            }
            while requests(&emulator) == before {
                tokio::task::yield_now().await;
            }
            let cause = cause(&emulator);
            assert!(cause.starts_with("TLS handshake failed: ") && cause.contains("BadSignature"), "{cause}");
        }
    }
}

#[tokio::test]
async fn a_resumed_session_still_has_its_certificate() {
    let emulator = start_with(Emulator::builder()).await;
    let device = &Pki::new(["dev1"], 0).unwrap().devices[0];
    enroll(&emulator, "dev1", own(&[&device.certificate_pem])).await;
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(config(&emulator, &device.chain_pem, &device.private_key_pem, version));
        for kind in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
            let mut device = X509Device::try_connect(&emulator, Arc::clone(&config)).await.unwrap();
            assert_eq!(device.register("dev1").await.unwrap()["status"], "assigned");
            assert_eq!(device.stream.get_ref().1.handshake_kind(), Some(kind));
        }
    }
}

#[tokio::test]
async fn a_device_with_a_certificate_sends_no_password_or_an_empty_one() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    group(&emulator, "plant", &[&pki.root]).await;
    for version in [&TLS12, &TLS13] {
        for (flags, texts) in [(NO_PASSWORD, &["dev1", MQTT_USER][..]), (CLEAN, &["dev1", MQTT_USER, ""])] {
            let config = config(&emulator, &device.chain_pem, &device.private_key_pem, version);
            let mut mqtt = MqttDevice::connect_with(&emulator, config).await.unwrap();
            assert_eq!(mqtt.sign_in(&connect_with(flags, 60, texts)).await, 0);
            mqtt.subscribe(0).await;
            let state = mqtt.register(0, "", "").await.unwrap();
            assert_eq!(
                (&state["status"], &state["x509"]["enrollmentGroupId"]),
                (&json!("assigned"), &json!("plant"))
            );
        }
    }
}

#[tokio::test]
async fn a_wrong_certificate_is_refused_over_mqtt_at_either_point() {
    for refuse_at in [RefuseAt::Register, RefuseAt::Connect] {
        let emulator = start_with(Emulator::builder().refuse_at(refuse_at)).await;
        let pki = Pki::new(["dev1"], 1).unwrap();
        group(&emulator, "plant", &[&pki.root]).await;
        let leaf = &pki.devices[0];
        for (id, chain, key, why) in [
            (
                "dev1",
                &pki.foreign.chain_pem,
                &pki.foreign.private_key_pem,
                "chain lacks the intermediate that signs CN=dev1",
            ),
            (
                "dev1",
                &leaf.certificate_pem,
                &leaf.private_key_pem,
                "CN=Azure DPS test intermediate 1 is neither",
            ),
            ("dev1", &pki.expired.chain_pem, &pki.expired.private_key_pem, "leaf CN=dev1 expired"),
            (
                "dev2",
                &leaf.chain_pem,
                &leaf.private_key_pem,
                "the common name of the certificate is dev1, the registration id is dev2",
            ),
        ] {
            let config = config(&emulator, chain, key, &TLS13);
            let mut mqtt = MqttDevice::connect_with(&emulator, config).await.unwrap();
            let user = MQTT_USER.replace("dev1", id);
            let code = mqtt.sign_in(&connect_with(NO_PASSWORD, 60, &[id, &user])).await;
            match refuse_at {
                RefuseAt::Connect => assert_eq!(code, 5, "{why}"),
                _ => {
                    assert_eq!(code, 0, "{why}");
                    mqtt.subscribe(0).await;
                    let refused = mqtt.register(0, "", "").await.unwrap_err();
                    assert_eq!(refused.topic, "$dps/registrations/res/401/?$rid=1");
                    assert_eq!(refused.body["errorCode"], 401_002);
                }
            }
            assert!(cause(&emulator).contains(why), "{}", cause(&emulator));
        }
    }
}

/// Has no certificate, and keeps how many names of authorities came with each question for one.
#[derive(Debug, Default)]
struct Asked(Mutex<Vec<usize>>);

impl ResolvesClientCert for Asked {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().unwrap().push(hints.len());
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}
