//! A device with its own certificate: enroll it by the certificate, register it, and roll the certificate
//! over.
//!
//! `cargo run --example x509_individual` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and
//! `DPS_ID_SCOPE` set it runs against that instance and deletes what it created, also after an error.
//! `DPS_MQTT_PORT` is read there too.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;

use azure_dps_device::{Credential, DeviceClient};
use azure_dps_emulator::Pki;
use azure_dps_examples::{Made, Playground, mark, play};
use azure_dps_service::ServiceClient;
use azure_dps_service::core::models::{
    AttestationMechanism, IndividualEnrollment, X509CertificateWithInfo, X509Certificates,
};
use azure_dps_service::core::{Error, ErrorKind, Identity, Result};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("x509_individual.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    roll_over(playground, playground.service(), &format!("sample-{}", mark())).await
}

async fn roll_over(playground: &Playground, service: &ServiceClient, id: &str) -> Result<()> {
    let (old, old_pem) = certificate(id)?;
    let (new, new_pem) = certificate(id)?;

    // Only the certificate goes to the service; a private key in its place is refused before anything is
    // sent.
    let first = X509CertificateWithInfo::from_pem(&old_pem)?;
    let enrollment = IndividualEnrollment::new(id, AttestationMechanism::x509_client(first.clone()));
    let created = service.enrollments().create_or_update(&enrollment).await;
    playground.made([Made::Enrollment(id.to_owned())], created)?;
    playground.registers(id);
    println!("enrolled   {}, until {}", old.info().subject_name, old.info().not_after_utc.date());

    // The registration id is the certificate's common name.
    register(playground, "old certificate", &old).await?;
    match register(playground, "new certificate", &new).await {
        Err(error) if error.kind() == ErrorKind::Unauthorized => {
            println!("refused    new certificate: {}", error.help());
        }
        other => other?,
    }

    // Both certificates are valid while the device changes over. Then the new one becomes the primary.
    let second = X509CertificateWithInfo::from_pem(&new_pem)?;
    let both = X509Certificates::new(first).with_secondary(second.clone());
    set(service, id, both).await?;
    register(playground, "new certificate, beside the old one", &new).await?;
    set(service, id, X509Certificates::new(second)).await?;
    register(playground, "new certificate, alone", &new).await
}

async fn set(service: &ServiceClient, id: &str, certificates: X509Certificates) -> Result<()> {
    let edit = |record: &mut IndividualEnrollment| {
        record.attestation = AttestationMechanism::x509_client(certificates.clone());
    };
    service.enrollments().update(id, edit).await.map(drop)
}

async fn register(playground: &Playground, what: &str, identity: &Identity) -> Result<()> {
    let credential = Credential::x509(identity.clone())?;
    let device = DeviceClient::new(playground.id_scope(), credential, playground.mqtt());
    let assignment = device.with_policy(playground.policy()).register().await?;
    println!("registered {what}: {} at {}", assignment.device_id(), assignment.hub());
    Ok(())
}

/// A certificate for the device and its PEM. A real device has its own; this one is made for this run.
fn certificate(id: &str) -> Result<(Identity, String)> {
    let failed = |why| Error::new(ErrorKind::Credential, "no certificate could be made").with_source(why);
    let pki = Pki::new([id], 0).map_err(failed)?;
    match pki.devices.into_iter().next() {
        Some(device) => {
            Ok((Identity::from_pem(&device.chain_pem, &device.private_key_pem)?, device.certificate_pem))
        }
        None => Err(Error::new(ErrorKind::Credential, "no certificate was made")),
    }
}
