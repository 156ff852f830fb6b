//! The part of the list that is about issued certificates: requests, renewal, revocation.

use std::sync::Arc;
use std::time::SystemTime;

use azure_dps_core::models::{
    ApiVersion, AttestationMechanism, BulkMode, ConnectionProfile, EnrollmentGroup, IndividualEnrollment,
    X509CertificateWithInfo, X509Certificates,
};
use azure_dps_core::{CertificateRequest, EcCurve, ErrorKind, Identity, IssuedCertificate, RenewalPolicy};
use azure_dps_device::{Credential, Tpm as _};
use azure_dps_emulator::{CertificatePolicy, Emulator, KeyType, Pki};
use azure_dps_service::ServiceClient;
use azure_dps_tests::chip::Chip;
use azure_dps_tests::plant::{Over, Plant, Protocol, certified, key, keys};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use time::{Duration, OffsetDateTime};

scenarios! {
    devices_with_keys_get_certificates_for_their_requests,
    devices_with_certificates_get_others_for_their_requests,
    a_device_with_a_tpm_gets_a_certificate_where_the_transport_allows_tpms,
    requests_that_openssl_made_are_answered_without_their_keys,
    a_renewal_is_a_new_registration_with_a_new_key,
    a_revoked_certificate_is_replaced_by_a_new_registration,
    without_a_policy_the_device_is_assigned_and_has_no_certificate,
    without_a_request_the_device_is_assigned_and_has_no_certificate,
    a_key_that_the_policy_excludes_is_refused_and_nothing_is_assigned,
    a_request_for_another_device_or_an_older_version_is_not_sent,
    the_kind_of_the_hub_comes_with_the_preview_that_has_it,
}

const NAMES: [&str; 3] = ["plant-north", "plant-ca", "sensors"];

fn policy() -> CertificatePolicy {
    let [namespace, authority, policy] = NAMES;
    CertificatePolicy::new(namespace, authority, policy).unwrap()
}

async fn issuing(over: Over) -> Plant {
    Plant::with(over, Emulator::builder().certificate_policy(policy())).await
}

/// The back end of the plant, with the api-version that has certificate policies.
fn service(plant: &Plant) -> ServiceClient {
    plant.service_as(ApiVersion::V2026_11_01)
}

/// Enrolls a device that gets certificates.
async fn enroll(plant: &Plant, id: &str, attestation: AttestationMechanism) -> IndividualEnrollment {
    let [namespace, authority, policy] = NAMES;
    let record =
        IndividualEnrollment::new(id, attestation).with_certificate_policy(namespace, authority, policy);
    service(plant).enrollments().create_or_update(&record).await.unwrap()
}

/// Enrolls a group of devices that get certificates.
async fn enroll_group(plant: &Plant, attestation: AttestationMechanism) -> EnrollmentGroup {
    let [namespace, authority, policy] = NAMES;
    let record =
        EnrollmentGroup::new("plant", attestation).with_certificate_policy(namespace, authority, policy);
    service(plant).enrollment_groups().create_or_update(&record).await.unwrap()
}

/// Enrolls a device with a key, and gives its credential.
async fn keyed(plant: &Plant, id: &str) -> Credential {
    let created = enroll(plant, id, AttestationMechanism::symmetric_key_generated()).await;
    key(id, &keys(&created.attestation).0)
}

fn request(id: &str) -> CertificateRequest {
    CertificateRequest::generate(&id.parse().unwrap()).unwrap()
}

/// The leaf as a hub gets it.
fn leaf(issued: &IssuedCertificate) -> String {
    BASE64_STANDARD.encode(&issued.certificates()[0])
}

/// Registers with a request, and checks what was issued as the device and as its hub.
async fn certify(plant: &Plant, credential: Credential, attestation: &str) -> IssuedCertificate {
    let id = credential.registration_id().to_string();
    let request = request(&id);
    let assignment = plant.device(credential).register().csr(&request).await.unwrap();
    assert_eq!(assignment.device_id(), id);
    let issued = assignment.issued_certificate().unwrap();
    assert!(issued.leaf().subject_name.contains(&id), "{issued:?}");
    assert_eq!(issued.leaf().issuer_name, issued.issuers()[0].subject_name);
    assert_eq!(issued.identity(&request).unwrap().info(), issued.leaf());
    assert_eq!(plant.emulator.check_issued_certificate(&leaf(&issued)).unwrap(), id);
    plant.proved(&format!("{attestation}, with a CSR"), &assignment);
    issued
}

async fn devices_with_keys_get_certificates_for_their_requests(over: Over) {
    let plant = issuing(over).await;
    let credential = keyed(&plant, "dev1").await;
    let issued = certify(&plant, credential, "symmetric key, individual").await;
    let life = issued.leaf().not_after_utc - issued.leaf().not_before_utc;
    assert!((30..=31).contains(&life.whole_days()), "{life}");

    let group = enroll_group(&plant, AttestationMechanism::symmetric_key_generated()).await;
    let group_key = keys(&group.attestation).0.to_base64().parse().unwrap();
    let credential = Credential::from_group(&group_key, "sensor-042".parse().unwrap());
    certify(&plant, credential, "symmetric key, group").await;
}

async fn devices_with_certificates_get_others_for_their_requests(over: Over) {
    let plant = issuing(over).await;
    let pki = Pki::new(["dev1", "sensor-042"], 1).unwrap();
    let certificate = |pem: &str| X509Certificates::new(X509CertificateWithInfo::from_pem(pem).unwrap());
    let [own, member] = &pki.devices[..] else { panic!("{pki:?}") };
    enroll(&plant, "dev1", AttestationMechanism::x509_client(certificate(&own.certificate_pem))).await;
    let root = certificate(&pki.root.certificate_pem);
    enroll_group(&plant, AttestationMechanism::x509_signing(root)).await;

    for (device, attestation) in [(own, "X.509, individual"), (member, "X.509, group")] {
        let issued = certify(&plant, certified(device), attestation).await;
        let own = Identity::from_pem(&device.chain_pem, &device.private_key_pem).unwrap();
        assert_ne!(issued.leaf().sha256_thumbprint, own.info().sha256_thumbprint);
    }
}

async fn a_device_with_a_tpm_gets_a_certificate_where_the_transport_allows_tpms(over: Over) {
    let plant = issuing(over).await;
    let tpm = Arc::new(Chip::new());
    let endorsement_key = tpm.public_keys().unwrap().endorsement_key_base64();
    enroll(&plant, "gw-7", AttestationMechanism::tpm(endorsement_key)).await;
    let credential = Credential::tpm("gw-7".parse().unwrap(), tpm);
    if matches!(over.protocol, Protocol::Mqtt | Protocol::MqttWs) {
        let connections = plant.emulator.connections();
        let error = plant.device(credential).register().csr(&request("gw-7")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(plant.emulator.connections(), connections);
    } else {
        certify(&plant, credential, "TPM, individual").await;
    }
}

async fn requests_that_openssl_made_are_answered_without_their_keys(over: Over) {
    let plant = issuing(over).await;
    let credential = keyed(&plant, "sensor-042").await;
    for pem in [
        include_str!("../../vectors/csr/p384.pem"),
        include_str!("../../vectors/csr/p256.pem"),
        include_str!("../../vectors/csr/rsa-2048.pem"),
    ] {
        let request = CertificateRequest::from_pem(pem).unwrap();
        let assignment = plant.device(credential.clone()).register().csr(&request).await.unwrap();
        let issued = assignment.issued_certificate().unwrap();
        assert_eq!(plant.emulator.check_issued_certificate(&leaf(&issued)).unwrap(), "sensor-042");
        assert_eq!(
            issued.identity(&request).unwrap_err().kind(),
            ErrorKind::Credential,
            "the key is elsewhere"
        );
    }
}

async fn a_renewal_is_a_new_registration_with_a_new_key(over: Over) {
    let plant = issuing(over).await;
    // It outlives the certificates that are issued.
    let own = Pki::new(["dev1"], 0).unwrap().devices.remove(0);
    let certificate = X509CertificateWithInfo::from_pem(&own.certificate_pem).unwrap();
    enroll(&plant, "dev1", AttestationMechanism::x509_client(certificate)).await;
    let client = plant.device(certified(&own));
    let first = client.register().csr(&request("dev1")).await.unwrap().issued_certificate().unwrap();

    let moment = RenewalPolicy::new().moment_of(first.leaf());
    assert!(moment > OffsetDateTime::now_utc() && moment < first.leaf().not_after_utc);
    plant.emulator.set_clock(SystemTime::from(moment));
    let assignment = client.register().csr(&request("dev1")).await.unwrap();
    let second = assignment.issued_certificate_at(moment).unwrap();
    assert!(second.leaf().not_after_utc > first.leaf().not_after_utc);
    assert_ne!(second.leaf().sha256_thumbprint, first.leaf().sha256_thumbprint);
    for issued in [&first, &second] {
        plant.emulator.check_issued_certificate(&leaf(issued)).unwrap();
    }
    let early = assignment.issued_certificate().unwrap_err();
    assert_eq!(early.kind(), ErrorKind::CertificateChain, "by the clock of this machine: {early}");

    plant.emulator.set_clock(SystemTime::from(first.leaf().not_after_utc + Duration::minutes(1)));
    assert!(plant.emulator.check_issued_certificate(&leaf(&first)).is_err(), "expired");
    assert_eq!(plant.emulator.check_issued_certificate(&leaf(&second)).unwrap(), "dev1");
}

async fn a_revoked_certificate_is_replaced_by_a_new_registration(over: Over) {
    let plant = issuing(over).await;
    let client = plant.device(keyed(&plant, "dev1").await);
    let issue = async || client.register().csr(&request("dev1")).await.unwrap().issued_certificate().unwrap();
    let revoked = [issue().await, issue().await];

    assert!(plant.emulator.revoke("dev1"));

    for issued in &revoked {
        let why = plant.emulator.check_issued_certificate(&leaf(issued)).unwrap_err();
        assert!(why.to_string().contains("revoked"), "{why}");
    }
    assert_eq!(plant.emulator.check_issued_certificate(&leaf(&issue().await)).unwrap(), "dev1");
}

async fn without_a_policy_the_device_is_assigned_and_has_no_certificate(over: Over) {
    let plant = issuing(over).await;
    let (primary, _) = plant.enroll("dev1").await;
    let client = plant.device(key("dev1", &primary));

    let assignment = client.register().csr(&request("dev1")).await.unwrap();

    assert_eq!(assignment.device_id(), "dev1");
    let error = assignment.issued_certificate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CertificateNotIssued);
    assert!(error.help().contains("certificate policy"), "{}", error.help());
    let warnings: Vec<_> = plant.emulator.journal().into_iter().filter_map(|entry| entry.warning).collect();
    assert!(warnings.iter().any(|warning| warning.contains("names no certificate policy")), "{warnings:?}");
}

async fn without_a_request_the_device_is_assigned_and_has_no_certificate(over: Over) {
    let plant = issuing(over).await;
    let client = plant.device(keyed(&plant, "dev1").await);

    let assignment = client.register().await.unwrap();

    assert_eq!(assignment.state().issued_certificate_chain, None);
    let error = assignment.issued_certificate().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CertificateNotRequested);
}

async fn a_key_that_the_policy_excludes_is_refused_and_nothing_is_assigned(over: Over) {
    let only = policy().with_key_types([KeyType::P384]).unwrap();
    let plant = Plant::with(over, Emulator::builder().certificate_policy(only)).await;
    let client = plant.device(keyed(&plant, "dev1").await);
    let p256 = CertificateRequest::generate_on(&"dev1".parse().unwrap(), EcCurve::P256).unwrap();

    let error = client.register().csr(&p256).await.unwrap_err();

    assert_eq!(error.kind(), ErrorKind::Service, "{error}");
    let service_error = error.service().unwrap();
    assert_eq!((service_error.status, service_error.code), (400, Some(400_000)));
    assert!(!error.is_retryable() && error.help().contains("does not accept the request"), "{error:?}");
    assert!(plant.cause().contains("csr has a key of type"), "{}", plant.cause());
    assert!(plant.service.registrations().get("dev1").await.unwrap_err().is_not_found());
    let issued = client.register().csr(&request("dev1")).await.unwrap().issued_certificate();
    assert!(issued.is_ok(), "P-384: {issued:?}");
}

async fn a_request_for_another_device_or_an_older_version_is_not_sent(over: Over) {
    let plant = issuing(over).await;
    let client = plant.device(keyed(&plant, "dev1").await);
    let entries = plant.emulator.journal().len();
    for id in ["dev2", "DEV1"] {
        let error = client.register().csr(&request(id)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(id), "{error}");
    }
    let older = client.with_api_version(ApiVersion::V2021_10_01);
    let error = older.register().csr(&request("dev1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("2021-10-01"), "{error}");
    assert_eq!(plant.emulator.journal().len(), entries);
}

async fn the_kind_of_the_hub_comes_with_the_preview_that_has_it(over: Over) {
    let plant = Plant::with(over, Emulator::builder().connection_profile("mqttV5")).await;
    let (primary, _) = plant.enroll("dev1").await;
    for (version, profile) in
        [(ApiVersion::V2026_11_01, None), (ApiVersion::V2026_11_02Preview, Some(ConnectionProfile::MqttV5))]
    {
        let client = plant.device(key("dev1", &primary)).with_api_version(version.clone());
        let assignment = client.register().await.unwrap();
        assert_eq!(assignment.state().connection_profile, profile, "{version}");
        let record = plant.service_as(version).registrations().get("dev1").await.unwrap();
        assert_eq!(record.connection_profile, profile);
    }
}

#[tokio::test]
async fn a_certificate_policy_survives_every_call_of_the_service_client() {
    let plant = issuing(Over::HTTPS).await;
    let service = service(&plant);
    let names = |record: &IndividualEnrollment| {
        [&record.namespace_name, &record.certificate_authority_name, &record.certificate_policy_name]
            .map(|name| name.clone().unwrap())
    };
    let created = enroll(&plant, "dev1", AttestationMechanism::symmetric_key_generated()).await;
    assert_eq!(names(&created), NAMES);
    let enrollments = service.enrollments();
    assert_eq!(names(&enrollments.get("dev1").await.unwrap()), NAMES);
    let updated = enrollments.update("dev1", |record| record.device_id = Some("d".to_owned())).await.unwrap();
    assert_eq!(names(&updated), NAMES);
    let page = enrollments.list().next_page().await.unwrap().unwrap();
    assert_eq!(names(&page.items[0]), NAMES);
    let [namespace, authority, policy] = NAMES;
    let more = IndividualEnrollment::new("dev2", AttestationMechanism::symmetric_key_generated())
        .with_certificate_policy(namespace, authority, policy);
    let result = enrollments.run_bulk_operation(BulkMode::Create, &[more]).await.unwrap();
    assert!(result.is_successful, "{result:?}");
    assert_eq!(names(&enrollments.get("dev2").await.unwrap()), NAMES);
    let group = enroll_group(&plant, AttestationMechanism::symmetric_key_generated()).await;
    assert_eq!(group.certificate_policy_name.as_deref(), Some(policy));

    let preview = plant.service_as(ApiVersion::V2025_07_01Preview).enrollments();
    let record = IndividualEnrollment::new("dev3", AttestationMechanism::symmetric_key_generated())
        .with_credential_policy("sensors");
    let created = preview.create_or_update(&record).await.unwrap();
    assert_eq!(created.credential_policy_name.as_deref(), Some("sensors"));
}
