//! Every attestation over every transport: the device, the number of requests and the time.
//!
//! `cargo run --example transports` runs it on an embedded emulator with certificates made for this run. With
//! `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it runs against that instance and deletes what it created,
//! also after an error; X.509 through a group is left out there, because that needs a CA that is verified on
//! the instance. `DPS_MQTT_PORT` and `DPS_AMQP_PORT` are read there too.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;
use std::sync::Arc;

use azure_dps_device::transport::Transport;
use azure_dps_device::{Credential, DeviceClient};
use azure_dps_emulator::{KeyedCertificate, Pki};
use azure_dps_examples::{Made, Playground, mark, play};
use azure_dps_service::ServiceClient;
use azure_dps_service::core::models::{
    AttestationMechanism, EnrollmentGroup, IndividualEnrollment, X509CertificateWithInfo,
};
use azure_dps_service::core::{Error, ErrorKind, GroupKey, Identity, Result};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("transports.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let mark = mark();
    let names = Names {
        devices: ["key", "key-member", "x509", "x509-member"].map(|kind| format!("sample-{mark}-{kind}")),
        groups: ["key-group", "x509-group"].map(|kind| format!("sample-{mark}-{kind}")),
    };
    matrix(playground, playground.service(), &names).await
}

/// The devices of this run: one by key, one through a group by key, and both by certificate.
struct Names {
    devices: [String; 4],
    groups: [String; 2],
}

async fn matrix(playground: &Playground, service: &ServiceClient, names: &Names) -> Result<()> {
    let credentials = enroll(playground, service, names).await?;
    // The lines of `Auto` have its name and the transport that it chose.
    let transports: [(&str, Arc<dyn Transport>); 6] = [
        ("", Arc::new(playground.https())),
        ("", Arc::new(playground.mqtt())),
        ("", Arc::new(playground.mqtt_websocket())),
        ("", Arc::new(playground.amqp())),
        ("", Arc::new(playground.amqp_websocket())),
        ("Auto: ", Arc::new(playground.auto()?)),
    ];
    for id in &names.devices {
        playground.registers(id);
    }
    println!("{:<18} {:<13} {:>8} {:>6}", "attestation", "transport", "requests", "ms");
    for (asked, transport) in transports {
        for (attestation, credential) in &credentials {
            let device = DeviceClient::new(playground.id_scope(), credential.clone(), Arc::clone(&transport));
            let assignment = device.with_policy(playground.policy()).register().await?;
            let summary = assignment.summary().unwrap_or_default();
            let name = format!("{asked}{}", summary.transport);
            let (requests, time) = (summary.requests, summary.elapsed.as_millis());
            println!("{attestation:<18} {name:<13} {requests:>8} {time:>6}");
        }
    }
    Ok(())
}

async fn enroll(
    playground: &Playground,
    service: &ServiceClient,
    names: &Names,
) -> Result<Vec<(&'static str, Credential)>> {
    let [single, member, own, signed] = &names.devices;
    let [keys, authority] = &names.groups;
    let (enrollments, groups) = (service.enrollments(), service.enrollment_groups());
    let generated = AttestationMechanism::symmetric_key_generated;

    let created = enrollments.create_or_update(&IndividualEnrollment::new(single, generated())).await;
    let created = playground.made([Made::Enrollment(single.clone())], created)?;
    let key = primary_key(&created.attestation)?.parse()?;
    let created = groups.create_or_update(&EnrollmentGroup::new(keys, generated())).await;
    let created = playground.made([Made::Group(keys.clone())], created)?;
    let group: GroupKey = primary_key(&created.attestation)?.parse()?;

    let pki = Pki::new([own, signed], 1)
        .map_err(|why| Error::new(ErrorKind::Credential, "no certificates could be made").with_source(why))?;
    let [own_certificate, signed_certificate] = pki.devices.as_slice() else {
        return Err(Error::new(ErrorKind::Credential, "no certificates were made"));
    };
    let certificate = X509CertificateWithInfo::from_pem(&own_certificate.certificate_pem)?;
    let attestation = AttestationMechanism::x509_client(certificate);
    let created = enrollments.create_or_update(&IndividualEnrollment::new(own, attestation)).await;
    playground.made([Made::Enrollment(own.clone())], created)?;

    let mut credentials = vec![
        ("key, individual", Credential::symmetric_key(single.parse()?, key)),
        ("key, group", Credential::from_group(&group, member.parse()?)),
        ("X.509, individual", x509(own_certificate)?),
    ];
    if playground.is_emulator() {
        let root = X509CertificateWithInfo::from_pem(&pki.root.certificate_pem)?;
        let attestation = AttestationMechanism::x509_signing(root);
        let created = groups.create_or_update(&EnrollmentGroup::new(authority, attestation)).await;
        playground.made([Made::Group(authority.clone())], created)?;
        credentials.push(("X.509, group", x509(signed_certificate)?));
    }
    Ok(credentials)
}

fn x509(of: &KeyedCertificate) -> Result<Credential> {
    Credential::x509(Identity::from_pem(&of.chain_pem, &of.private_key_pem)?)
}

fn primary_key(attestation: &AttestationMechanism) -> Result<&str> {
    attestation
        .as_symmetric_key()
        .and_then(|keys| keys.primary_key.as_deref())
        .map(String::as_str)
        .ok_or_else(|| Error::new(ErrorKind::Protocol, "the service returned no primary key"))
}
