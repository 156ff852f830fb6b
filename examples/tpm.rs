//! A device with a TPM: enroll it by its endorsement key, register it, and have its TPM sign the token for
//! its hub.
//!
//! `cargo run --features tpm --example tpm` runs it on an embedded emulator, with a TPM in software that it
//! starts (`swtpm` has to be installed). `DPS_TPM` names another one as libtss2 does, for example
//! `device:/dev/tpmrm0`; this sample keeps its identity key apart from that of the device. With
//! `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it runs against that instance and deletes there what it
//! made, also after an error.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use azure_dps_device::{Credential, DeviceClient, HubAccess, Tpm as _, TssTpm};
use azure_dps_examples::{Made, Playground, chip, mark, play};
use azure_dps_service::core::Result;
use azure_dps_service::core::models::{AttestationMechanism, IndividualEnrollment};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("tpm.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let (tpm, _simulator) = chip()?;
    enroll_and_register(playground, &format!("sample-{}", mark()), tpm).await
}

async fn enroll_and_register(playground: &Playground, id: &str, tpm: TssTpm) -> Result<()> {
    // The manufacturer of the chip, or the owner of the device, reads this key and gives it to the back end.
    let attestation = AttestationMechanism::tpm(tpm.public_keys()?.endorsement_key_base64());
    let enrollment = IndividualEnrollment::new(id, attestation);
    let created = playground.service().enrollments().create_or_update(&enrollment).await;
    playground.made([Made::Enrollment(id.to_owned())], created)?;
    println!("enrolled   {id} by its endorsement key");

    let credential = Credential::tpm(id.parse()?, Arc::new(tpm));
    let device = DeviceClient::new(playground.id_scope(), credential, playground.https());
    let device = device.with_policy(playground.policy());
    playground.registers(id);
    let assignment = device.register().await?;
    println!("registered {} at {}", assignment.device_id(), assignment.hub());

    // From here on, also after a restart of the program, the TPM holds the key that the hub knows.
    let access = HubAccess::new(device.credential().clone(), &assignment)?;
    let sign_in = access.sign_in(HOUR, SystemTime::now().into())?;
    if let Some(expires) = sign_in.expires() {
        println!("signed     a password for the hub in the TPM, good until {expires}");
    }
    Ok(())
}

const HOUR: Duration = Duration::from_secs(3600);
