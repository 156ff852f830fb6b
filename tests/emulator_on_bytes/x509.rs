//! Devices with certificates, judged over the wire: literal requests over TLS, and nothing of the SDK.
//!
//! The tokens were signed by another program and end in the year 2100.

// Clippy allows these in test functions only, and the helpers below are test code too.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use azure_dps_emulator::{CaCertificate, Emulator, EmulatorBuilder, KeyedCertificate, Pki, RefuseAt};
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use azure_dps_tests::{Shown, read_answer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair};
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SignatureScheme, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const SERVICE: &str = "SharedAccessSignature sr=localhost&sig=fKT4xk%2BZLj1uxZzFcfAmLftBywuB9Y7c9SWGxupnvrE%3D&skn=provisioningserviceowner&se=4102444800";
/// Signed with `PRIMARY`.
const DEV1: &str = "SharedAccessSignature sr=0ne00EMU1A7/registrations/dev1&sig=Eha5Nv0%2BAsNWUBJWm8pu8XmoeaRF%2FOwq0N1%2BJ%2BEhB6k%3D&skn=registration&se=4102444800";
const PRIMARY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

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

// The handshake

#[tokio::test]
async fn every_kind_of_certificate_and_key_works_over_both_versions_of_tls() {
    let emulator = start(Emulator::builder()).await;
    let (pem, key) = authority_as_device("dev1");
    let mut kinds = OPENSSL.to_vec();
    kinds.push(("dev1", &pem, &key));
    for (id, pem, key) in kinds {
        enroll(&emulator, id, own(&[pem])).await;
        for version in [&TLS12, &TLS13] {
            let mut device = Device::connect(&emulator, config(&emulator, pem, key, version)).await;
            assert_eq!(device.stream.get_ref().1.protocol_version(), Some(version.version));
            let state = device.register(id).await.unwrap();
            assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!(id)), "{id}");
        }
    }
}

#[tokio::test]
async fn a_certificate_is_asked_for_without_hints_and_not_required() {
    let emulator = start(Emulator::builder()).await;
    for version in [&TLS12, &TLS13] {
        let asked = Arc::new(Asked::default());
        let config = builder(&emulator, version).with_client_cert_resolver(Arc::clone(&asked) as _);
        let mut device = Device::connect(&emulator, config).await;
        let refused = device.register("dev1").await.unwrap_err();

        assert_eq!(asked.0.lock().unwrap().as_slice(), [0], "once, and with no names of authorities");
        assert_eq!((refused.status, &refused.body["errorCode"]), (401, &json!(401_000)));
        assert_eq!(cause(&emulator), "the request has neither a token nor a client certificate");
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_does_not_pass_the_handshake() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1", "dev2"], 0).unwrap();
    let [victim, thief] = [&pki.devices[0], &pki.devices[1]];
    let v1 = OPENSSL[4].1;
    for version in [&TLS12, &TLS13] {
        for stolen in [victim.chain_pem.as_str(), v1] {
            // A refusal for the same reason is counted in the entry of the one before.
            let refused = || emulator.journal().iter().map(|entry| 1 + entry.repeats).sum::<u64>();
            let before = refused();
            let config = config(&emulator, stolen, &thief.private_key_pem, version);
            // Over TLS 1.3 the client has finished before the server judges.
            if let Ok(mut device) = Device::try_connect(&emulator, config).await {
                assert!(device.stream.read_u8().await.is_err());
            }
            while refused() == before {
                tokio::task::yield_now().await;
            }
            let cause = cause(&emulator);
            assert!(cause.starts_with("TLS handshake failed: ") && cause.contains("BadSignature"), "{cause}");
        }
    }
}

#[tokio::test]
async fn a_resumed_session_still_has_its_certificate() {
    let emulator = start(Emulator::builder()).await;
    let device = &Pki::new(["dev1"], 0).unwrap().devices[0];
    enroll(&emulator, "dev1", own(&[&device.certificate_pem])).await;
    for version in [&TLS12, &TLS13] {
        let config = Arc::new(config(&emulator, &device.chain_pem, &device.private_key_pem, version));
        for kind in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
            let mut device = Device::try_connect(&emulator, Arc::clone(&config)).await.unwrap();
            assert_eq!(device.register("dev1").await.unwrap()["status"], "assigned");
            assert_eq!(device.stream.get_ref().1.handshake_kind(), Some(kind));
        }
    }
}

// Individual enrollments

#[tokio::test]
async fn either_certificate_of_an_individual_enrollment_lets_its_device_in() {
    let emulator = start(Emulator::builder()).await;
    let [first, second, other] = [0, 1, 2].map(|_| Pki::new(["dev1"], 0).unwrap().devices.remove(0));
    enroll(&emulator, "dev1", own(&[&first.certificate_pem, &second.certificate_pem])).await;

    for (device, slot) in [(&first, "primary"), (&second, "secondary")] {
        let state = register(&emulator, "dev1", device).await.unwrap();
        assert_eq!(state["x509"], json!({}), "{slot}");
        assert!(state.get("symmetricKey").is_none());
    }
    let refused = register(&emulator, "dev1", &other).await.unwrap_err();
    assert_eq!((refused.status, refused.told()), (401, (401_002, "Invalid certificate.")));
    assert!(cause(&emulator).ends_with(" is neither the primary nor the secondary of enrollment dev1"));
}

#[tokio::test]
async fn the_common_name_must_be_the_registration_id_in_any_case() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["Dev1"], 0).unwrap();
    enroll(&emulator, "dev1", own(&[&pki.devices[0].certificate_pem])).await;
    group(&emulator, "plant", &[&pki.root]).await;

    for id in ["dev1", "Dev1", "DEV1"] {
        assert_eq!(register(&emulator, id, &pki.devices[0]).await.unwrap()["status"], "assigned");
    }
    let refused = register(&emulator, "dev2", &pki.devices[0]).await.unwrap_err();
    assert_eq!((refused.status, refused.told()), (401, (401_002, "Unauthorized")));
    assert_eq!(cause(&emulator), "the common name of the certificate is Dev1, the registration id is dev2");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let nameless = params.self_signed(&key).unwrap().pem();
    let refused = register_as(&emulator, "dev2", &nameless, &key.serialize_pem()).await.unwrap_err();
    assert_eq!(refused.status, 401);
    assert!(cause(&emulator).contains("has no common name"));
}

#[tokio::test]
async fn an_individual_enrollment_overrides_groups_whatever_its_type() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    group(&emulator, "plant", &[&pki.root]).await;
    let stranger = Pki::new(["dev1"], 0).unwrap();
    for (attestation, told, why) in [
        (
            own(&[&stranger.devices[0].certificate_pem]),
            "Invalid certificate.",
            "neither the primary nor the secondary",
        ),
        (
            json!({"type": "symmetricKey"}),
            "Unauthorized",
            "enrollment dev1 is for attestation by symmetricKey, not by x509",
        ),
        (tpm(), "Unauthorized", "enrollment dev1 is for attestation by tpm, not by x509"),
    ] {
        enroll(&emulator, "dev1", attestation).await;
        let refused = register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err();
        assert_eq!((refused.status, refused.told()), (401, (401_002, told)));
        assert!(cause(&emulator).contains(why), "{}", cause(&emulator));
        remove(&emulator, "/enrollments/dev1").await;
    }
    assert_eq!(register(&emulator, "dev1", &pki.devices[0]).await.unwrap()["status"], "assigned");
}

#[tokio::test]
async fn a_disabled_individual_enrollment_of_any_type_blocks_its_device() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    group(&emulator, "plant", &[&pki.root]).await;
    for attestation in [own(&[&device.certificate_pem]), json!({"type": "symmetricKey"}), tpm()] {
        let kind = attestation["type"].clone();
        let body =
            json!({"registrationId": "dev1", "provisioningStatus": "disabled", "attestation": attestation});
        put(&emulator, "/enrollments/dev1", &body).await;
        let state = register(&emulator, "dev1", device).await.unwrap();
        assert_eq!(state["status"], "disabled", "{kind}");
        assert_eq!(state["x509"], json!({}));
        assert_eq!(cause(&emulator), "enrollment dev1 is disabled");
        assert_eq!(emulator.registrations()[0]["status"], "disabled", "the record is kept");
        let refused = register(&emulator, "dev1", &pki.foreign).await.unwrap_err();
        assert_eq!(refused.status, 401, "the credential is verified all the same");
        remove(&emulator, "/enrollments/dev1").await;
    }
    assert_eq!(register(&emulator, "dev1", device).await.unwrap()["status"], "assigned");
}

#[tokio::test]
async fn an_individual_enrollment_may_refer_to_an_uploaded_authority() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    enroll(&emulator, "dev1", references(&["root-2026"])).await;

    let refused = register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err();
    assert_eq!(refused.told(), (401_002, "CA certificate not found."));
    assert!(
        cause(&emulator).contains("certificate root-2026, to which enrollment dev1 refers, is not uploaded")
    );
    let root = &pki.root.certificate_pem;
    emulator.upload_ca_certificate(CaCertificate::verified("Root-2026", root)).unwrap();
    let state = register(&emulator, "dev1", &pki.devices[0]).await.unwrap();
    assert_eq!(state["x509"], json!({}));
    assert!(state["x509"].get("enrollmentGroupId").is_none());
    assert_eq!(register(&emulator, "dev1", &pki.foreign).await.unwrap_err().status, 401);
}

#[tokio::test]
async fn a_certificate_is_in_one_individual_enrollment_only() {
    let emulator = start(Emulator::builder()).await;
    let device = &Pki::new(["dev1"], 0).unwrap().devices[0];
    let pem = device.certificate_pem.as_str();
    enroll(&emulator, "dev1", own(&[pem, pem])).await;

    let mut service = Device::connect(&emulator, anonymous(&emulator)).await;
    let body = json!({"registrationId": "dev2", "attestation": own(&[pem])}).to_string();
    let refused = service.ask("PUT", "/enrollments/dev2", &authorization(SERVICE), &body).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.body["message"], "attestation.x509: the certificate is in enrollment dev1 already");
    let again = json!({"registrationId": "dev1", "attestation": own(&[pem])}).to_string();
    let head = format!("{}If-Match: *\r\n", authorization(SERVICE));
    assert_eq!(service.ask("PUT", "/enrollments/dev1", &head, &again).await.status, 200);
    // Groups may share theirs.
    let root = &Pki::new(["a"], 0).unwrap().root;
    group(&emulator, "plant", &[root, root]).await;
    group(&emulator, "other", &[root]).await;
}

#[tokio::test]
async fn of_a_token_and_a_certificate_the_token_counts_unless_the_enrollment_has_certificates() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 0).unwrap();
    let device = &pki.devices[0];
    let config = Arc::new(config(&emulator, &device.chain_pem, &device.private_key_pem, &TLS13));
    let mut both = Device::try_connect(&emulator, config).await.unwrap();
    let key = json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": PRIMARY}});

    enroll(&emulator, "dev1", key).await;
    both.head = authorization(DEV1);
    assert!(both.register("dev1").await.unwrap().get("x509").is_none(), "the token counts");
    remove(&emulator, "/enrollments/dev1").await;
    enroll(&emulator, "dev1", own(&[&device.certificate_pem])).await;
    assert!(both.register("dev1").await.unwrap()["x509"].is_object());
    remove(&emulator, "/enrollments/dev1").await;
    group(&emulator, "plant", &[&pki.root]).await;
    assert_eq!(both.register("dev1").await.unwrap_err().status, 404);
    assert_eq!(cause(&emulator), "dev1 has no individual enrollment, and no group has symmetric keys");
    both.head = "Authorization: \r\n".to_owned();
    assert_eq!(both.register("dev1").await.unwrap()["x509"]["enrollmentGroupId"], "plant");
}

// Groups

#[tokio::test]
async fn a_root_need_not_be_presented_and_does_no_harm() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 2).unwrap();
    let device = &pki.devices[0];
    group(&emulator, "plant", &[&pki.root]).await;
    let complete = format!("{}{}", device.chain_pem, pki.root.certificate_pem);
    let upside_down = format!(
        "{}{}{}{}",
        device.certificate_pem,
        pki.root.certificate_pem,
        pki.intermediates[0].certificate_pem,
        pki.intermediates[1].certificate_pem
    );
    for chain in [&device.chain_pem, &complete, &upside_down] {
        let state = register_as(&emulator, "dev1", chain, &device.private_key_pem).await.unwrap();
        assert_eq!((&state["status"], &state["deviceId"]), (&json!("assigned"), &json!("dev1")));
        assert_eq!(state["x509"], json!({"enrollmentGroupId": "plant"}));
    }
}

#[tokio::test]
async fn the_group_nearest_to_the_leaf_decides() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 2).unwrap();
    let device = &pki.devices[0];
    let other = Pki::new(["dev1"], 0).unwrap().root;
    let group_of = async |emulator: &Emulator| {
        let state = register(emulator, "dev1", device).await.unwrap();
        assert_eq!(state["status"], "assigned");
        state["x509"]["enrollmentGroupId"].clone()
    };
    for (id, certificates) in [
        ("a", vec![&pki.root]),
        ("c", vec![&other, &pki.intermediates[0]]),
        ("b", vec![&pki.intermediates[0]]),
    ] {
        group(&emulator, id, &certificates).await;
    }
    assert_eq!(group_of(&emulator).await, "b", "of two that are as near the first by id");
    group(&emulator, "d", &[&pki.intermediates[1]]).await;
    assert_eq!(group_of(&emulator).await, "d");
    remove(&emulator, "/enrollmentGroups/d").await;
    let attestation = signing(&[&pki.intermediates[1]]);
    let body =
        json!({"enrollmentGroupId": "d", "provisioningStatus": "disabled", "attestation": attestation});
    put(&emulator, "/enrollmentGroups/d", &body).await;
    let state = register(&emulator, "dev1", device).await.unwrap();
    assert_eq!(state["status"], "disabled", "a disabled match does not fall through");
    assert_eq!(cause(&emulator), "enrollment group d is disabled");
    for (gone, next) in [("d", "b"), ("b", "c"), ("c", "a")] {
        remove(&emulator, &format!("/enrollmentGroups/{gone}")).await;
        assert_eq!(group_of(&emulator).await, next);
    }
}

#[tokio::test]
async fn a_missing_intermediate_is_named() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 2).unwrap();
    let device = &pki.devices[0];
    group(&emulator, "plant", &[&pki.root]).await;
    let without_upper = format!("{}{}", device.certificate_pem, pki.intermediates[1].certificate_pem);
    let without_lower = format!("{}{}", device.certificate_pem, pki.intermediates[0].certificate_pem);
    for (chain, signed, missing) in [
        (&device.certificate_pem, "CN=dev1", "CN=Azure DPS test intermediate 2"),
        (&without_lower, "CN=dev1", "CN=Azure DPS test intermediate 2"),
        (&without_upper, "CN=Azure DPS test intermediate 2", "CN=Azure DPS test intermediate 1"),
    ] {
        let refused = register_as(&emulator, "dev1", chain, &device.private_key_pem).await.unwrap_err();
        assert_eq!((refused.status, refused.told()), (401, (401_002, "CA certificate not found.")));
        let wanted = format!(
            "dev1 has no individual enrollment, and chain lacks the intermediate that signs {signed}: {missing} is \
             neither presented nor enrolled; presented CN=dev1"
        );
        assert!(cause(&emulator).starts_with(&wanted), "{}", cause(&emulator));
    }
    assert_eq!(emulator.registrations(), json!([]), "no record is kept");
}

#[tokio::test]
async fn a_chain_that_leads_to_no_group_says_where_it_leads() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 0).unwrap();
    let device = &pki.devices[0];
    let complete = format!("{}{}", device.chain_pem, pki.root.certificate_pem);
    let refused = register_as(&emulator, "dev1", &complete, &device.private_key_pem).await.unwrap_err();
    assert_eq!(refused.told(), (401_002, "CA certificate not found."));
    assert_eq!(
        cause(&emulator),
        "dev1 has no individual enrollment, and no group has X.509 certificates; presented CN=dev1 <- CN=Azure DPS test root"
    );
    let other = Pki::new(["a"], 1).unwrap();
    group(&emulator, "plant", &[&other.intermediates[0]]).await;
    let refused = register_as(&emulator, "dev1", &complete, &device.private_key_pem).await.unwrap_err();
    assert_eq!(refused.told(), (401_002, "CA certificate not found."));
    assert_eq!(
        cause(&emulator),
        "dev1 has no individual enrollment, and signing certificate of group plant is not in the chain: \
         presented CN=dev1 <- CN=Azure DPS test root; enrolled: CN=Azure DPS test intermediate 1 of group plant"
    );
    emulator.upload_ca_certificate(CaCertificate::verified("root", &pki.root.certificate_pem)).unwrap();
    let refused = register_as(&emulator, "dev1", &complete, &device.private_key_pem).await.unwrap_err();
    assert_eq!(refused.told(), (401_002, "Signing certificate info did not match chain elements."));
}

#[tokio::test]
async fn a_device_whose_group_was_deleted_learns_no_more_than_that_it_may_not() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    emulator.upload_ca_certificate(CaCertificate::verified("root", &pki.root.certificate_pem)).unwrap();
    group(&emulator, "plant", &[&pki.root]).await;
    assert_eq!(register(&emulator, "dev1", &pki.devices[0]).await.unwrap()["status"], "assigned");
    remove(&emulator, "/enrollmentGroups/plant").await;

    let refused = register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err();

    assert_eq!((refused.status, refused.told()), (401, (401_002, "Unauthorized")));
    assert!(cause(&emulator).contains("no group has X.509 certificates"), "{}", cause(&emulator));
}

#[tokio::test]
async fn signatures_are_verified_and_a_name_is_not_enough() {
    let emulator = start(Emulator::builder()).await;
    let (ours, theirs) = (Pki::new(["dev1"], 1).unwrap(), Pki::new(["dev1"], 1).unwrap());
    group(&emulator, "plant", &[&ours.root]).await;
    let device = &theirs.devices[0];
    let refused = register(&emulator, "dev1", device).await.unwrap_err();
    assert_eq!(refused.told(), (401_002, "Invalid certificate."));
    assert!(
        cause(&emulator).contains(
            "CN=Azure DPS test intermediate 1 names CN=Azure DPS test root as its issuer, which did not sign it"
        ),
        "{}",
        cause(&emulator)
    );
    let mixed = format!("{}{}", device.certificate_pem, ours.intermediates[0].certificate_pem);
    let refused = register_as(&emulator, "dev1", &mixed, &device.private_key_pem).await.unwrap_err();
    assert_eq!(refused.told(), (401_002, "Invalid certificate."));
    assert!(
        cause(&emulator)
            .contains("CN=dev1 names CN=Azure DPS test intermediate 1 as its issuer, which did not")
    );
}

#[tokio::test]
async fn a_device_cannot_sign_another_one() {
    let emulator = start(Emulator::builder()).await;
    let (root, _) = issuer("root", IsCa::Ca(BasicConstraints::Unconstrained), None);
    let (gateway, _) = issuer("gateway", IsCa::NoCa, Some(&root));
    let (_, thing) = issuer("thing", IsCa::NoCa, Some(&gateway));
    let root = json!({"primary": {"certificate": root.pem()}});
    let attestation = json!({"type": "x509", "x509": {"signingCertificates": root}});
    put(
        &emulator,
        "/enrollmentGroups/plant",
        &json!({"enrollmentGroupId": "plant", "attestation": attestation}),
    )
    .await;

    let refused = register_as(&emulator, "thing", &thing.0, &thing.1).await.unwrap_err();
    assert_eq!(refused.told(), (401_002, "Invalid certificate."));
    let wanted = "CN=thing names CN=gateway as its issuer, which is not the certificate of an authority";
    assert!(cause(&emulator).contains(wanted), "{}", cause(&emulator));
}

#[tokio::test]
async fn dates_are_judged_by_the_clock_of_the_emulator() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    group(&emulator, "plant", &[&pki.root]).await;
    let day = Duration::from_secs(86_400);
    let refused = register(&emulator, "dev1", &pki.expired).await.unwrap_err();
    assert_eq!((refused.status, refused.told()), (401, (401_002, "Invalid certificate.")));
    let expired = cause(&emulator);
    assert!(expired.contains("and leaf CN=dev1 expired: it is valid from 20"), "{expired}");

    for (time, what) in
        [(SystemTime::now() + 400 * day, "expired"), (SystemTime::now() - 4 * day, "is not valid yet")]
    {
        emulator.set_clock(time);
        let refused = register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err();
        assert_eq!(refused.told(), (401_002, "Invalid certificate."));
        assert!(cause(&emulator).contains(&format!("leaf CN=dev1 {what}: ")), "{}", cause(&emulator));
    }
    emulator.reset_clock();
    let state = register(&emulator, "dev1", &pki.devices[0]).await.unwrap();
    assert_eq!(state["status"], "assigned");

    // A self-signed one of an individual enrollment expires too.
    enroll(&emulator, "dev1", own(&[&pki.devices[0].certificate_pem])).await;
    emulator.set_clock(SystemTime::now() + 400 * day);
    assert_eq!(register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err().status, 401);
    assert!(cause(&emulator).starts_with("leaf CN=dev1 expired: "));
}

#[tokio::test]
async fn authorities_expire_too() {
    let emulator = start(Emulator::builder()).await;
    let day = Duration::from_secs(86_400);
    let authority = IsCa::Ca(BasicConstraints::Unconstrained);
    let (root, _) = issuer("root", authority, None);
    let (middle, _) = issuer("soon", authority, Some(&root));
    let (_, leaf) = issuer("dev1", IsCa::NoCa, Some(&middle));
    for (id, anchor) in [("a", root.pem()), ("b", middle.pem())] {
        let slots = json!({"primary": {"certificate": anchor}});
        let attestation = json!({"type": "x509", "x509": {"signingCertificates": slots}});
        put(
            &emulator,
            &format!("/enrollmentGroups/{id}"),
            &json!({"enrollmentGroupId": id, "attestation": attestation}),
        )
        .await;
        assert_eq!(register_as(&emulator, "dev1", &leaf.0, &leaf.1).await.unwrap()["status"], "assigned");
        emulator.advance_clock(2 * day);
        let refused = register_as(&emulator, "dev1", &leaf.0, &leaf.1).await.unwrap_err();
        assert_eq!(refused.told(), (401_002, "Invalid certificate."));
        assert!(cause(&emulator).contains("intermediate CN=soon expired: "), "{}", cause(&emulator));
        emulator.reset_clock();
        remove(&emulator, &format!("/enrollmentGroups/{id}")).await;
    }
}

// The certificates of the instance

#[tokio::test]
async fn references_lead_to_verified_certificates_only() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    let attestation = references(&["old-root", "root-2026"]);
    put(
        &emulator,
        "/enrollmentGroups/plant",
        &json!({"enrollmentGroupId": "plant", "attestation": attestation}),
    )
    .await;
    let refuse = async |emulator: &Emulator, why: &str| {
        let refused = register(emulator, "dev1", device).await.unwrap_err();
        assert_eq!((refused.status, refused.told()), (401, (401_002, "CA certificate not found.")));
        assert!(cause(emulator).contains(why), "{}", cause(emulator));
    };

    refuse(&emulator, "certificate root-2026, to which group plant refers, is not uploaded").await;
    emulator
        .upload_ca_certificate(CaCertificate::unverified("root-2026", &pki.root.certificate_pem))
        .unwrap();
    refuse(&emulator, "certificate root-2026, to which group plant refers, is not verified").await;
    assert!(emulator.verify_ca_certificate("root-2026") && !emulator.verify_ca_certificate("old-root"));
    let state = register(&emulator, "dev1", device).await.unwrap();
    assert_eq!(
        (&state["status"], &state["x509"]["enrollmentGroupId"]),
        (&json!("assigned"), &json!("plant"))
    );
    assert!(emulator.journal().iter().all(|entry| entry.warning.is_none()));
    assert!(emulator.delete_ca_certificate("root-2026") && !emulator.delete_ca_certificate("root-2026"));
    refuse(&emulator, "is not uploaded").await;

    // An intermediate may be uploaded as well.
    let intermediate = &pki.intermediates[0].certificate_pem;
    emulator.upload_ca_certificate(CaCertificate::verified("old-root", intermediate)).unwrap();
    assert_eq!(register(&emulator, "dev1", device).await.unwrap()["status"], "assigned");
}

#[tokio::test]
async fn what_the_service_would_want_besides_is_a_warning_or_a_refusal() {
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    let uploaded = CaCertificate::verified("root", &pki.root.certificate_pem);

    let lenient = start(Emulator::builder()).await;
    group(&lenient, "plant", &[&pki.intermediates[0]]).await;
    assert_eq!(register(&lenient, "dev1", device).await.unwrap()["status"], "assigned");
    let journal = lenient.journal();
    let warned: Vec<_> = journal.iter().filter(|entry| entry.warning.is_some()).collect();
    let [entry] = warned.as_slice() else { panic!("{warned:?}") };
    assert_eq!((entry.status, entry.cause.as_ref()), (202, None));
    let wanted = "group plant fits, but no verified CA certificate of the instance is at the end of the chain: \
                  CN=dev1 <- CN=Azure DPS test intermediate 1; the service itself requires one";
    assert_eq!(entry.warning.as_deref(), Some(wanted));
    assert!(entry.to_string().ends_with(&format!(" -> 202 (warning: {wanted})")));

    let strict = start(Emulator::builder().require_verified_ca()).await;
    group(&strict, "plant", &[&pki.intermediates[0]]).await;
    let refused = register(&strict, "dev1", device).await.unwrap_err();
    assert_eq!((refused.status, refused.told()), (401, (401_002, "CA certificate not found.")));
    assert!(cause(&strict).contains("group plant fits, but no verified CA certificate"));
    strict.upload_ca_certificate(CaCertificate::unverified("root", &pki.root.certificate_pem)).unwrap();
    assert_eq!(register(&strict, "dev1", device).await.unwrap_err().status, 401, "not verified yet");

    for emulator in [lenient, strict] {
        emulator.upload_ca_certificate(uploaded.clone()).unwrap();
        assert_eq!(register(&emulator, "dev1", device).await.unwrap()["status"], "assigned");
        assert_eq!(emulator.journal().last().unwrap().warning, None);
    }
}

#[tokio::test]
async fn certificates_of_the_builder_come_back_with_a_reset() {
    let pki = Pki::new(["dev1"], 0).unwrap();
    let uploaded = CaCertificate::verified("root", &pki.root.certificate_pem);
    let emulator = start(Emulator::builder().ca_certificate(uploaded)).await;
    emulator.delete_ca_certificate("root");
    emulator.upload_ca_certificate(CaCertificate::unverified("other", &pki.root.certificate_pem)).unwrap();

    emulator.reset();

    let names: Vec<_> =
        emulator.ca_certificates().as_array().unwrap().iter().map(|of| of["name"].clone()).collect();
    assert_eq!(names, ["root"]);
    let wrong = CaCertificate::verified("leaf", &pki.devices[0].certificate_pem);
    let error = Emulator::builder().ca_certificate(wrong).start().await.unwrap_err();
    assert_eq!(error.to_string(), "certificate `leaf` is not the certificate of an authority");
}

#[tokio::test]
async fn the_management_port_keeps_certificates() {
    let emulator = start(Emulator::builder().manage_port(0)).await;
    let client = reqwest::Client::builder().tls_backend_preconfigured(anonymous(&emulator)).build().unwrap();
    let url = format!("http://127.0.0.1:{}/certificates", emulator.manage_port().unwrap());
    let ask = async |method: &str, path: &str, body: Value| {
        let request = client.request(method.parse().unwrap(), format!("{url}{path}")).body(body.to_string());
        let answer = request.send().await.unwrap();
        (
            answer.status().as_u16(),
            serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap_or_default(),
        )
    };
    let pem = Pki::new(["dev1"], 0).unwrap().root.certificate_pem;

    assert_eq!(ask("GET", "", Value::Null).await, (200, json!([])));
    assert_eq!(ask("PUT", "/root", json!({"certificate": pem})).await.0, 204);
    let (status, root) = ask("GET", "/ROOT", Value::Null).await;
    assert_eq!((status, &root["name"], &root["isVerified"]), (200, &json!("root"), &json!(false)));
    assert_eq!(root["info"]["subjectName"], "CN=Azure DPS test root");
    assert_eq!(ask("PUT", "/root", json!({"isVerified": true})).await.0, 204);
    assert_eq!(ask("GET", "", Value::Null).await.1, emulator.ca_certificates());
    assert_eq!(emulator.ca_certificates()[0]["isVerified"], true);
    assert_eq!(ask("PUT", "/other", json!({"certificate": pem, "isVerified": true})).await.0, 204);
    assert_eq!(ask("DELETE", "/root", Value::Null).await.0, 204);
    for (method, path, body, status, wanted) in [
        ("GET", "/root", Value::Null, 404, "there is no certificate root"),
        ("DELETE", "/root", Value::Null, 404, "there is no certificate root"),
        ("PUT", "/root", json!({"isVerified": true}), 404, "there is no certificate root"),
        ("PUT", "/root", json!({}), 400, "the body must have certificate, isVerified, or both"),
        (
            "PUT",
            "/root",
            json!({"pem": pem}),
            400,
            "a certificate has no pem; there are certificate and isVerified",
        ),
        (
            "PUT",
            "/root",
            json!({"certificate": pem, "isVerified": 1}),
            400,
            "isVerified must be true or false",
        ),
        ("PUT", "/root", json!({"certificate": "%"}), 400, "certificate `root` is neither PEM nor base64"),
        ("POST", "/root", Value::Null, 405, "/certificates/root does not know POST"),
        ("POST", "", Value::Null, 405, "/certificates does not know POST"),
    ] {
        assert_eq!(ask(method, path, body).await, (status, json!({"message": wanted})), "{method} {path}");
    }
}

// MQTT

#[tokio::test]
async fn a_device_with_a_certificate_sends_no_password_or_an_empty_one() {
    let emulator = start(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    group(&emulator, "plant", &[&pki.root]).await;
    for version in [&TLS12, &TLS13] {
        for (flags, password) in [(0b1000_0010, &[][..]), (0b1100_0010, &[0, 0])] {
            let config = config(&emulator, &device.chain_pem, &device.private_key_pem, version);
            let mut mqtt = Mqtt::connect(&emulator, config).await;
            assert_eq!(mqtt.sign_in(flags, "dev1", password).await, 0);
            let state = mqtt.register().await.unwrap();
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
        let emulator = start(Emulator::builder().refuse_at(refuse_at)).await;
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
            let mut mqtt = Mqtt::connect(&emulator, config(&emulator, chain, key, &TLS13)).await;
            let code = mqtt.sign_in(0b1000_0010, id, &[]).await;
            match refuse_at {
                RefuseAt::Connect => assert_eq!(code, 5, "{why}"),
                _ => {
                    assert_eq!(code, 0, "{why}");
                    let (topic, body) = mqtt.register().await.unwrap_err();
                    assert_eq!(topic, "$dps/registrations/res/401/?$rid=1");
                    assert_eq!(body["errorCode"], 401_002);
                }
            }
            assert!(cause(&emulator).contains(why), "{}", cause(&emulator));
        }
    }
}

struct Mqtt(TlsStream<TcpStream>);

impl Mqtt {
    async fn connect(emulator: &Emulator, config: ClientConfig) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", emulator.mqtt_port())).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        Mqtt(connector.connect("localhost".try_into().unwrap(), stream).await.unwrap())
    }

    /// Connects and, if that is accepted, subscribes; gives the code of the CONNACK.
    async fn sign_in(&mut self, flags: u8, id: &str, password: &[u8]) -> u8 {
        let user = format!("0ne00EMU1A7/registrations/{id}/api-version=2019-03-31");
        self.say(0x10, &[&text("MQTT"), &[4, flags, 0, 60], &text(id), &text(&user), password]).await;
        let (first, rest) = self.hear().await;
        assert_eq!((first, rest.len()), (0x20, 2));
        if rest[1] == 0 {
            self.say(0x82, &[&[0, 1], &text("$dps/registrations/res/#"), &[0]]).await;
            assert_eq!(self.hear().await, (0x90, vec![0, 1, 0]));
        }
        rest[1]
    }

    /// The registration state at the end, or the topic and body of a refusal.
    async fn register(&mut self) -> Result<Value, (String, Value)> {
        let mut topic = "$dps/registrations/PUT/iotdps-register/?$rid=1".to_owned();
        loop {
            self.say(0x30, &[&text(&topic)]).await;
            let (first, rest) = self.hear().await;
            assert_eq!(first, 0x30);
            let (length, rest) = rest.split_at(2);
            let (told, body) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
            let told = String::from_utf8(told.to_vec()).unwrap();
            let body: Value = serde_json::from_slice(body).unwrap();
            match told.split('/').nth(3).unwrap() {
                "200" => return Ok(body["registrationState"].clone()),
                "202" => {
                    let operation = body["operationId"].as_str().unwrap();
                    topic = format!(
                        "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId={operation}"
                    );
                }
                _ => return Err((told, body)),
            }
        }
    }

    async fn say(&mut self, first: u8, parts: &[&[u8]]) {
        let rest = parts.concat();
        let mut packet = vec![first];
        let mut length = rest.len();
        while length >= 0x80 {
            packet.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        packet.push(u8::try_from(length).unwrap());
        packet.extend(rest);
        self.0.write_all(&packet).await.unwrap();
        self.0.flush().await.unwrap();
    }

    async fn hear(&mut self) -> (u8, Vec<u8>) {
        let first = self.0.read_u8().await.unwrap();
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            let byte = self.0.read_u8().await.unwrap();
            length |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let mut rest = vec![0; length];
        self.0.read_exact(&mut rest).await.unwrap();
        (first, rest)
    }
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

// HTTPS

/// One connection, and what every request on it has in its head.
struct Device {
    stream: TlsStream<TcpStream>,
    head: String,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    body: Value,
}

impl Answer {
    fn told(&self) -> (u64, &str) {
        (self.body["errorCode"].as_u64().unwrap(), self.body["message"].as_str().unwrap())
    }
}

impl Device {
    async fn connect(emulator: &Emulator, config: ClientConfig) -> Self {
        Self::try_connect(emulator, config).await.unwrap()
    }

    async fn try_connect(emulator: &Emulator, config: impl Into<Arc<ClientConfig>>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", emulator.https_port())).await?;
        stream.set_nodelay(true)?;
        let connector = TlsConnector::from(config.into());
        Ok(Device {
            stream: connector.connect("localhost".try_into().unwrap(), stream).await?,
            head: String::new(),
        })
    }

    /// The registration state at the end, or the first answer that is an error.
    async fn register(&mut self, id: &str) -> Result<Value, Answer> {
        let path = format!("/0ne00EMU1A7/registrations/{id}");
        let (mut method, mut target) = ("PUT", format!("{path}/register"));
        loop {
            let answer = self.ask(method, &target, &self.head.clone(), "").await;
            match answer.status {
                200 => return Ok(answer.body["registrationState"].clone()),
                202 => {
                    method = "GET";
                    target = format!("{path}/operations/{}", answer.body["operationId"].as_str().unwrap());
                }
                _ => return Err(answer),
            }
        }
    }

    async fn ask(&mut self, method: &str, target: &str, head: &str, body: &str) -> Answer {
        let request = format!(
            "{method} {target}?api-version=2021-10-01 HTTP/1.1\r\nHost: localhost\r\n{head}\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.stream.flush().await.unwrap();
        let (head, body) = read_answer(&mut self.stream).await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, body: serde_json::from_str(&body).unwrap_or_default() }
    }
}

async fn register(emulator: &Emulator, id: &str, device: &KeyedCertificate) -> Result<Value, Answer> {
    register_as(emulator, id, &device.chain_pem, &device.private_key_pem).await
}

async fn register_as(emulator: &Emulator, id: &str, chain: &str, key: &str) -> Result<Value, Answer> {
    Device::connect(emulator, config(emulator, chain, key, &TLS13)).await.register(id).await
}

async fn enroll(emulator: &Emulator, id: &str, attestation: Value) -> Value {
    let body = json!({"registrationId": id, "attestation": attestation});
    put(emulator, &format!("/enrollments/{id}"), &body).await
}

async fn group(emulator: &Emulator, id: &str, certificates: &[&KeyedCertificate]) -> Value {
    let body = json!({"enrollmentGroupId": id, "attestation": signing(certificates)});
    put(emulator, &format!("/enrollmentGroups/{id}"), &body).await
}

async fn put(emulator: &Emulator, path: &str, body: &Value) -> Value {
    let mut service = Device::connect(emulator, anonymous(emulator)).await;
    let answer = service.ask("PUT", path, &authorization(SERVICE), &body.to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

async fn remove(emulator: &Emulator, path: &str) {
    let mut service = Device::connect(emulator, anonymous(emulator)).await;
    assert_eq!(service.ask("DELETE", path, &authorization(SERVICE), "").await.status, 204);
}

fn authorization(token: &str) -> String {
    format!("Authorization: {token}\r\n")
}

fn own(certificates: &[&str]) -> Value {
    json!({"type": "x509", "x509": {"clientCertificates": slots(certificates, |pem| json!({"certificate": pem}))}})
}

fn signing(certificates: &[&KeyedCertificate]) -> Value {
    let slots = slots(certificates, |of| json!({"certificate": of.certificate_pem}));
    json!({"type": "x509", "x509": {"signingCertificates": slots}})
}

fn references(names: &[&str]) -> Value {
    json!({"type": "x509", "x509": {"caReferences": slots(names, |name| json!(name))}})
}

fn slots<T>(of: &[T], write: impl Fn(&T) -> Value) -> Value {
    ["primary", "secondary"].into_iter().zip(of).map(|(name, slot)| (name.to_owned(), write(slot))).collect()
}

fn tpm() -> Value {
    json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}})
}

/// The latest reason in the journal.
fn cause(emulator: &Emulator) -> String {
    emulator.journal().into_iter().rev().find_map(|entry| entry.cause).unwrap()
}

async fn start(builder: EmulatorBuilder) -> Shown {
    Shown(builder.start().await.unwrap())
}

// Certificates and TLS

/// An authority that is a device: self-signed, with `CA:TRUE`.
fn authority_as_device(id: &str) -> (String, String) {
    let (issuer, (_, key)) = issuer(id, IsCa::Ca(BasicConstraints::Unconstrained), None);
    (issuer.pem(), key)
}

/// A certificate below another one, as something that signs, and its chain with its key. One that is called `soon`
/// expires within two days.
fn issuer(
    name: &str,
    is_ca: IsCa,
    above: Option<&CertifiedIssuer<'static, KeyPair>>,
) -> (CertifiedIssuer<'static, KeyPair>, (String, String)) {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    if name == "soon" {
        params.not_after = time::OffsetDateTime::now_utc() + Duration::from_secs(86_400);
    }
    let key = KeyPair::generate().unwrap();
    let key_pem = key.serialize_pem();
    let issuer = match above {
        Some(above) => CertifiedIssuer::signed_by(params, key, above).unwrap(),
        None => CertifiedIssuer::self_signed(params, key).unwrap(),
    };
    let chain = format!("{}{}", issuer.pem(), above.map_or_else(String::new, |above| above.pem()));
    (issuer, (chain, key_pem))
}

/// A client without a certificate.
fn anonymous(emulator: &Emulator) -> ClientConfig {
    azure_dps_tests::trusting(emulator.ca_pem())
}

/// A client that presents this chain, whatever is in it, and signs with this key, whoever's it is.
fn config(
    emulator: &Emulator,
    chain_pem: &str,
    key_pem: &str,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap();
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    let presented = Presented(Arc::new(CertifiedKey::new(chain, key)));
    builder(emulator, version).with_client_cert_resolver(Arc::new(presented))
}

fn builder(
    emulator: &Emulator,
    version: &'static SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(emulator.ca_pem().as_bytes()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
}

#[derive(Debug)]
struct Presented(Arc<CertifiedKey>);

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
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
