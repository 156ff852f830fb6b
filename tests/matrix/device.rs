//! A registration through a relay, and the records that registrations leave.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use azure_dps_core::GroupKey;
use azure_dps_core::models::{AttestationMechanism, EnrollmentGroup, X509CertificateWithInfo};
use azure_dps_device::{Credential, RegistrationPolicy};
use azure_dps_emulator::{Emulator, Pki};
use azure_dps_service::ServiceClient;
use azure_dps_tests::device;
use azure_dps_tests::plant::{Protocol, certified, keys};
use azure_dps_tests::relay::Fault;

use crate::case::{PATIENT, Seen, deadline, retry};
use crate::row::Row;

/// Makes a group for keys, whose key this returns, and a group for these certificates.
pub(crate) async fn enroll(service: &ServiceClient, pki: &Pki) -> GroupKey {
    let groups = service.enrollment_groups();
    let root = X509CertificateWithInfo::from_pem(&pki.root.certificate_pem).unwrap();
    groups
        .create_or_update(&EnrollmentGroup::new("x509", AttestationMechanism::x509_signing(root)))
        .await
        .unwrap();
    let group = EnrollmentGroup::new("key", AttestationMechanism::symmetric_key_generated());
    let created = groups.create_or_update(&group).await.unwrap();
    keys(&created.attestation).0.to_base64().parse().unwrap()
}

pub(crate) async fn run(row: &Row, protocol: Protocol, name: &str, fault: Option<Fault>) -> Seen {
    let relay = row.relay(protocol.port(&row.emulator), name, fault).await;
    let credential = match row.certificate(name) {
        Some(certificate) => certified(certificate),
        None => Credential::from_group(&row.group_key, name.parse().unwrap()),
    };
    let policy = RegistrationPolicy::new()
        .with_retry(retry(fault))
        .with_connect_attempts(retry(fault).retries() + 1)
        .with_poll_interval(Duration::ZERO)
        .with_min_poll_interval(Duration::ZERO);
    let transport = protocol.transport(row.endpoint(&relay));
    let client = device(row.emulator.id_scope(), credential, transport).with_policy(policy);

    let (began, deadline) = (Instant::now(), deadline(fault));
    let result = client.register().timeout(deadline).await.map(drop);
    let elapsed = began.elapsed();
    relay.disarm();
    let again = client.register().timeout(PATIENT).await.map(drop);
    drop(client);
    relay.ended().await;

    Seen { result, elapsed, deadline, again, hits: relay.hits(), most: relay.most() }
}

/// How many records each device has: one for its registration, if it has one device on all hubs.
pub(crate) fn records(emulator: &Emulator) -> BTreeMap<String, usize> {
    let (mut registered, mut created) = (BTreeMap::new(), BTreeMap::new());
    for record in emulator.registrations().as_array().unwrap() {
        *registered.entry(record["registrationId"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    for hub in emulator.hubs() {
        for device in emulator.hub_devices(&hub).unwrap().as_array().unwrap() {
            *created.entry(device["identity"]["deviceId"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        }
    }
    assert!(registered == created, "each record has one device");
    registered
}
