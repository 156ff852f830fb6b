//! Devices with certificates and their individual enrollments.

use std::sync::Arc;

use azure_dps_emulator::{CaCertificate, Emulator, Pki};
use azure_dps_tests::dev1::{NODE, keys, start_with};
use azure_dps_tests::journal::cause;
use azure_dps_tests::soft_tpm::ENDORSEMENT_KEY;
use azure_dps_tests::x509_device::*;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::version::TLS13;
use serde_json::{Value, json};

#[tokio::test]
async fn either_certificate_of_an_individual_enrollment_lets_its_device_in() {
    let emulator = start_with(Emulator::builder()).await;
    let [first, second, other] = [0, 1, 2].map(|_| Pki::new(["dev1"], 0).unwrap().devices.remove(0));
    enroll(&emulator, "dev1", own(&[&first.certificate_pem, &second.certificate_pem])).await;

    for (device, slot) in [(&first, "primary"), (&second, "secondary")] {
        let state = register(&emulator, "dev1", device).await.unwrap();
        assert_eq!(state["x509"], json!({}), "{slot}");
        assert!(state.get("symmetricKey").is_none());
    }
    let refused = register(&emulator, "dev1", &other).await.unwrap_err();
    assert_eq!((refused.status, refused.error()), (401, (401_002, "Invalid certificate.")));
    assert!(cause(&emulator).ends_with(" is neither the primary nor the secondary of enrollment dev1"));
}

#[tokio::test]
async fn the_common_name_must_be_the_registration_id_in_any_case() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["Dev1"], 0).unwrap();
    enroll(&emulator, "dev1", own(&[&pki.devices[0].certificate_pem])).await;
    group(&emulator, "plant", &[&pki.root]).await;

    for id in ["dev1", "Dev1", "DEV1"] {
        assert_eq!(register(&emulator, id, &pki.devices[0]).await.unwrap()["status"], "assigned");
    }
    let refused = register(&emulator, "dev2", &pki.devices[0]).await.unwrap_err();
    assert_eq!((refused.status, refused.error()), (401, (401_002, "Unauthorized")));
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
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    group(&emulator, "plant", &[&pki.root]).await;
    let stranger = Pki::new(["dev1"], 0).unwrap();
    for (attestation, reported, why) in [
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
        assert_eq!((refused.status, refused.error()), (401, (401_002, reported)));
        assert!(cause(&emulator).contains(why), "{}", cause(&emulator));
        remove(&emulator, "/enrollments/dev1").await;
    }
    assert_eq!(register(&emulator, "dev1", &pki.devices[0]).await.unwrap()["status"], "assigned");
}

#[tokio::test]
async fn a_disabled_individual_enrollment_of_any_type_blocks_its_device() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    let device = &pki.devices[0];
    group(&emulator, "plant", &[&pki.root]).await;
    for attestation in [own(&[&device.certificate_pem]), json!({"type": "symmetricKey"}), tpm()] {
        let kind = attestation["type"].clone();
        let members = json!({"provisioningStatus": "disabled", "attestation": attestation});
        put_enrollment(&emulator, "dev1", members).await;
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
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    enroll(&emulator, "dev1", references(&["root-2026"])).await;

    let refused = register(&emulator, "dev1", &pki.devices[0]).await.unwrap_err();
    assert_eq!(refused.error(), (401_002, "CA certificate not found."));
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
    let emulator = start_with(Emulator::builder()).await;
    let device = &Pki::new(["dev1"], 0).unwrap().devices[0];
    let pem = device.certificate_pem.as_str();
    enroll(&emulator, "dev1", own(&[pem, pem])).await;

    let body = json!({"registrationId": "dev2", "attestation": own(&[pem])}).to_string();
    let refused = ask_service(&emulator, "PUT", "/enrollments/dev2", "", &body).await;
    assert_eq!(refused.status, 400);
    assert_eq!(refused.body["message"], "attestation.x509: the certificate is in enrollment dev1 already");
    let again = json!({"registrationId": "dev1", "attestation": own(&[pem])}).to_string();
    let replaced = ask_service(&emulator, "PUT", "/enrollments/dev1", "If-Match: *\r\n", &again).await;
    assert_eq!(replaced.status, 200);
    // Groups may share theirs.
    let root = &Pki::new(["a"], 0).unwrap().root;
    group(&emulator, "plant", &[root, root]).await;
    group(&emulator, "other", &[root]).await;
}

#[tokio::test]
async fn of_a_token_and_a_certificate_the_token_counts_unless_the_enrollment_has_certificates() {
    let emulator = start_with(Emulator::builder()).await;
    let pki = Pki::new(["dev1"], 0).unwrap();
    let device = &pki.devices[0];
    let config = Arc::new(config(&emulator, &device.chain_pem, &device.private_key_pem, &TLS13));
    let mut both = X509Device::try_connect(&emulator, config).await.unwrap();

    enroll(&emulator, "dev1", keys()).await;
    both.head = format!("Authorization: {NODE}\r\n");
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

fn tpm() -> Value {
    json!({"type": "tpm", "tpm": {"endorsementKey": ENDORSEMENT_KEY}})
}
