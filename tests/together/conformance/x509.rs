//! The part of the list that is about certificates.

use azure_dps_core::models::{
    AttestationMechanism, EnrollmentStatus, IndividualEnrollment, ProvisioningStatus,
    SymmetricKeyAttestation, X509CertificateWithInfo, X509Certificates,
};
use azure_dps_core::{CredentialKind, ErrorKind, Identity};
use azure_dps_device::Credential;
use azure_dps_emulator::{Emulator, KeyedCertificate, Pki, RefuseAt};
use rcgen::{CertificateParams, DistinguishedName, DnType, DnValue, KeyPair};

use azure_dps_tests::plant::{Over, Plant};

scenarios! {
    a_device_registers_with_its_own_certificate,
    a_certificate_is_rolled_over_by_the_secondary_slot,
    keys_are_rolled_over_by_the_secondary_slot,
    a_device_of_a_group_registers_with_its_chain,
    an_intermediate_of_a_group_is_rolled_over,
    a_chain_without_its_intermediate_is_refused_and_the_journal_names_it,
    a_foreign_certificate_is_refused_and_the_help_says_what_to_look_at,
    an_individual_enrollment_keeps_one_device_of_a_group_out,
    a_disabled_group_decides_for_its_devices,
    certificates_made_by_openssl_work,
    a_common_name_in_any_string_type_is_the_registration_id,
}

fn certificate(of: &KeyedCertificate) -> X509CertificateWithInfo {
    X509CertificateWithInfo::from_pem(&of.certificate_pem).unwrap()
}

fn device(id: &str) -> KeyedCertificate {
    Pki::new([id], 0).unwrap().devices.remove(0)
}

async fn a_device_registers_with_its_own_certificate(over: Over) {
    let plant = Plant::start(over).await;
    let own = device("dev1");
    plant.enroll_certificate("dev1", certificate(&own)).await;
    let assignment = plant.register_with(&own).await.unwrap();
    assert_eq!(assignment.device_id(), "dev1");
    assert!(assignment.state().x509.is_some(), "{:?}", assignment.state());
    plant.proved("X.509, individual", &assignment);
    let read = plant.service.enrollments().get("dev1").await.unwrap();
    let x509 = read.attestation.as_x509().unwrap().client_certificates.as_ref().unwrap();
    let info = x509.primary.as_ref().unwrap().info.as_ref().unwrap();
    let identity = Identity::from_pem(&own.chain_pem, &own.private_key_pem).unwrap();
    assert_eq!(info, identity.info(), "both sides describe the certificate alike");
}

async fn a_common_name_in_any_string_type_is_the_registration_id(over: Over) {
    let plant = Plant::start(over).await;
    let names = [
        ("unit-t61", DnValue::TeletexString("unit-t61".try_into().unwrap())),
        ("unit-bmp", DnValue::BmpString("unit-bmp".try_into().unwrap())),
        ("unit-universal", DnValue::UniversalString("unit-universal".try_into().unwrap())),
        ("unit-ia5", DnValue::Ia5String("unit-ia5".try_into().unwrap())),
    ];
    for (id, name) in names {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        plant.enroll_certificate(id, X509CertificateWithInfo::from_pem(&pem).unwrap()).await;
        let identity = Identity::from_pem(&pem, key.serialize_pem()).unwrap();

        let assignment = plant.device(Credential::x509(identity).unwrap()).register().await.unwrap();

        assert_eq!(assignment.device_id(), id);
    }
}

async fn a_certificate_is_rolled_over_by_the_secondary_slot(over: Over) {
    let plant = Plant::start(over).await;
    let (old, new) = (device("dev1"), device("dev1"));
    plant.enroll_certificate("dev1", certificate(&old)).await;
    plant.register_with(&old).await.unwrap();
    assert_eq!(plant.register_with(&new).await.unwrap_err().kind(), ErrorKind::Unauthorized);

    // The back end adds the new certificate; both work while devices change over.
    let set = |certificates: X509Certificates| {
        let enrollments = plant.service.enrollments();
        async move {
            enrollments
                .update("dev1", |record| {
                    record.attestation = AttestationMechanism::x509_client(certificates.clone());
                })
                .await
                .unwrap()
        }
    };
    set(X509Certificates::new(certificate(&old)).with_secondary(certificate(&new))).await;
    let before = plant.register_with(&old).await.unwrap();
    let after = plant.register_with(&new).await.unwrap();
    assert_eq!(before.hub(), after.hub());

    // Then the new one takes the first place, and the old one is out.
    set(X509Certificates::new(certificate(&new))).await;
    plant.register_with(&new).await.unwrap();
    assert_eq!(plant.register_with(&old).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

async fn keys_are_rolled_over_by_the_secondary_slot(over: Over) {
    let plant = Plant::start(over).await;
    let (primary, secondary) = plant.enroll("dev1").await;
    plant.device(super::key("dev1", &primary)).register().await.unwrap();

    // The devices take the secondary key; then the primary one can be replaced without an interruption.
    let enrollments = plant.service.enrollments();
    let replaced = enrollments.update("dev1", |record| {
        let kept = record.attestation.as_symmetric_key().unwrap().secondary_key.as_deref().unwrap().clone();
        record.attestation = AttestationMechanism::symmetric_key(SymmetricKeyAttestation::new(NEW_KEY, kept));
    });
    let replaced = replaced.await.unwrap();
    assert_eq!(super::keys(&replaced.attestation).1, secondary);
    plant.device(super::key("dev1", &secondary)).register().await.unwrap();
    plant.device(super::key("dev1", &super::keys(&replaced.attestation).0)).register().await.unwrap();
    let old = plant.device(super::key("dev1", &primary)).register().await.unwrap_err();
    assert_eq!(old.kind(), ErrorKind::Unauthorized);
}

async fn a_device_of_a_group_registers_with_its_chain(over: Over) {
    let plant = Plant::start(over).await;
    let pki = Pki::new(["dev1", "dev2"], 2).unwrap();
    plant.group_of("plant", certificate(&pki.root)).await;
    for device in &pki.devices {
        let assignment = plant.register_with(device).await.unwrap();
        assert_eq!(assignment.device_id(), device.name);
        let x509 = assignment.state().x509.as_ref().unwrap();
        assert_eq!(x509.enrollment_group_id.as_deref(), Some("plant"));
        plant.proved("X.509, group", &assignment);
    }
    // The entry nearest to the leaf decides.
    plant.group_of("nearer", certificate(&pki.intermediates[1])).await;
    let assignment = plant.register_with(&pki.devices[0]).await.unwrap();
    assert_eq!(assignment.state().x509.as_ref().unwrap().enrollment_group_id.as_deref(), Some("nearer"));
}

async fn an_intermediate_of_a_group_is_rolled_over(over: Over) {
    let plant = Plant::start(over).await;
    let (old, new) = (Pki::new(["dev1"], 1).unwrap(), Pki::new(["dev1"], 1).unwrap());
    let both = X509Certificates::new(certificate(&old.intermediates[0]))
        .with_secondary(certificate(&new.intermediates[0]));
    plant.group_of("plant", both).await;
    let before = plant.register_with(&old.devices[0]).await.unwrap();
    let after = plant.register_with(&new.devices[0]).await.unwrap();
    assert_eq!((before.hub(), before.device_id()), (after.hub(), after.device_id()));
}

async fn a_chain_without_its_intermediate_is_refused_and_the_journal_names_it(over: Over) {
    let plant = Plant::start(over).await;
    let pki = Pki::new(["dev1"], 2).unwrap();
    plant.group_of("plant", certificate(&pki.root)).await;
    let device = &pki.devices[0];
    let leaf = Identity::from_pem(&device.certificate_pem, &device.private_key_pem).unwrap();
    let error = plant.device(Credential::x509(leaf).unwrap()).register().await.unwrap_err();
    assert_eq!((error.kind(), error.credential()), (ErrorKind::Unauthorized, Some(CredentialKind::X509)));
    assert!(error.help().contains("intermediate"), "{}", error.help());
    assert!(plant.cause().contains(&pki.intermediates[1].name), "{}", plant.cause());
}

async fn a_foreign_certificate_is_refused_and_the_help_says_what_to_look_at(over: Over) {
    for refuse_at in [RefuseAt::Register, RefuseAt::Connect] {
        let plant = Plant::with(over, Emulator::builder().refuse_at(refuse_at)).await;
        let pki = Pki::new(["dev1"], 1).unwrap();
        plant.group_of("plant", certificate(&pki.root)).await;
        let error = plant.register_with(&pki.foreign).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
        assert!(error.help().contains("certificate"), "{}", error.help());
    }
}

async fn an_individual_enrollment_keeps_one_device_of_a_group_out(over: Over) {
    let plant = Plant::start(over).await;
    let pki = Pki::new(["dev1", "dev2"], 1).unwrap();
    plant.group_of("plant", certificate(&pki.root)).await;
    // The stolen device's certificate is not at hand: a disabled entry of any kind will do.
    let mut entry = IndividualEnrollment::new("dev1", AttestationMechanism::symmetric_key_generated());
    entry.provisioning_status = Some(ProvisioningStatus::Disabled);
    plant.service.enrollments().create_or_update(&entry).await.unwrap();
    let error = plant.register_with(&pki.devices[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Registration, "{error}");
    assert_eq!(error.state().unwrap().status, Some(EnrollmentStatus::Disabled));
    plant.register_with(&pki.devices[1]).await.unwrap();
    plant.service.enrollments().delete("dev1").await.unwrap();
    plant.register_with(&pki.devices[0]).await.unwrap();
}

async fn a_disabled_group_decides_for_its_devices(over: Over) {
    let plant = Plant::start(over).await;
    let pki = Pki::new(["dev1"], 1).unwrap();
    plant.group_of("plant", certificate(&pki.root)).await;
    let groups = plant.service.enrollment_groups();
    groups
        .update("plant", |group| group.provisioning_status = Some(ProvisioningStatus::Disabled))
        .await
        .unwrap();
    let error = plant.register_with(&pki.devices[0]).await.unwrap_err();
    assert_eq!(error.state().unwrap().status, Some(EnrollmentStatus::Disabled));
    let record = plant.service.registrations().get("dev1").await.unwrap();
    assert_eq!(record.status, Some(EnrollmentStatus::Disabled), "a record is kept");
    assert_eq!(plant.register_with(&pki.foreign).await.unwrap_err().kind(), ErrorKind::Unauthorized);
}

const NEW_KEY: &str = "bmV3LXByaW1hcnkta2V5LW9mLTMyLWJ5dGVzLS0tLSE=";

/// RSA 2048, P-384 and a leaf of version 1: `vectors/x509/README.md`.
async fn certificates_made_by_openssl_work(over: Over) {
    let plant = Plant::start(over).await;
    for (certificate, key) in OPENSSL {
        let identity = Identity::from_pem(certificate, key).unwrap();
        let id = identity.registration_id().unwrap();
        plant.enroll_certificate(id.as_str(), X509CertificateWithInfo::from_pem(certificate).unwrap()).await;
        let assignment = plant.device(Credential::x509(identity).unwrap()).register().await.unwrap();
        assert_eq!(assignment.device_id(), id.as_str());
    }
}

const OPENSSL: [(&str, &str); 3] = [
    (include_str!("../../vectors/x509/rsa.pem"), include_str!("../../vectors/x509/rsa-pkcs1.key")),
    (include_str!("../../vectors/x509/p384.pem"), include_str!("../../vectors/x509/p384-sec1.key")),
    (include_str!("../../vectors/x509/v1.pem"), include_str!("../../vectors/x509/v1.key")),
];
