//! Devices whose certificates are signed by an authority: enroll the authority once, register any of its
//! devices.
//!
//! `cargo run --example x509_group` runs it on an embedded emulator with certificates made for this run. With
//! `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it runs against that instance and deletes what it created,
//! also after an error; then `DPS_X509_CA` names the PEM file of a root or intermediate whose root is
//! verified on the instance, `DPS_CERT_FILE` and `DPS_KEY_FILE` those of a device below it, whose record is
//! deleted too.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;

use azure_dps_device::{Credential, DeviceClient};
use azure_dps_emulator::Pki;
use azure_dps_examples::{Made, Playground, mark, play, variable};
use azure_dps_service::core::models::{AttestationMechanism, EnrollmentGroup, X509CertificateWithInfo};
use azure_dps_service::core::{Error, ErrorKind, Identity, Result};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("x509_group.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let fleet = if playground.is_emulator() { Fleet::made()? } else { Fleet::of_the_environment()? };
    enroll_and_register(playground, &format!("sample-{}-group", mark()), &fleet).await
}

async fn enroll_and_register(playground: &Playground, group: &str, fleet: &Fleet) -> Result<()> {
    // Only the authority is enrolled. The service does not know the devices yet.
    let attestation = AttestationMechanism::x509_signing(fleet.authority.clone());
    let record = EnrollmentGroup::new(group, attestation);
    let created = playground.service().enrollment_groups().create_or_update(&record).await;
    playground.made([Made::Group(group.to_owned())], created)?;
    println!("enrolled   {group}");

    for identity in &fleet.devices {
        // The identity contains the leaf and its intermediates: the service does not fetch missing
        // certificates.
        let credential = Credential::x509(identity.clone())?;
        playground.registers(credential.registration_id().as_str());
        let device = DeviceClient::new(playground.id_scope(), credential, playground.https());
        let assignment = device.with_policy(playground.policy()).register().await?;
        let chain: Vec<_> = identity.issuers().iter().map(|info| info.subject_name.as_str()).collect();
        println!(
            "registered {} at {}, signed by {}",
            assignment.device_id(),
            assignment.hub(),
            chain.join(", ")
        );
    }
    Ok(())
}

/// An authority, and devices with certificates that it signed, directly or through intermediates.
struct Fleet {
    authority: X509CertificateWithInfo,
    devices: Vec<Identity>,
}

impl Fleet {
    /// A root, two intermediates below it, and two devices below those.
    fn made() -> Result<Self> {
        let failed =
            |why| Error::new(ErrorKind::Credential, "no certificates could be made").with_source(why);
        let pki = Pki::new(["sample-gateway", "sample-sensor"], 2).map_err(failed)?;
        let devices =
            pki.devices.iter().map(|made| Identity::from_pem(&made.chain_pem, &made.private_key_pem));
        Ok(Self {
            authority: X509CertificateWithInfo::from_pem(&pki.root.certificate_pem)?,
            devices: devices.collect::<Result<_>>()?,
        })
    }

    fn of_the_environment() -> Result<Self> {
        let file = |name: &str| {
            variable(name).ok_or_else(|| {
                Error::new(
                    ErrorKind::Config,
                    format!("{name} is not set; it names a PEM file, see the first lines of this sample"),
                )
            })
        };
        let authority = std::fs::read_to_string(file("DPS_X509_CA")?).map_err(|why| {
            Error::new(ErrorKind::Config, "the file that DPS_X509_CA names cannot be read").with_source(why)
        })?;
        let device = Identity::from_pem_files(file("DPS_CERT_FILE")?, file("DPS_KEY_FILE")?)?;
        Ok(Self { authority: X509CertificateWithInfo::from_pem(&authority)?, devices: vec![device] })
    }
}
