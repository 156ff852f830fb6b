//! Enrolls one device and one group of devices, and prints the variables with which they register. This file
//! needs no other: copy it.
//!
//! In your `Cargo.toml`:
//!
//! ```toml
//! [dependencies]
//! azure-dps-service = "0.1" # until it is on crates.io: { path = "…/azure-dps-service" }
//! tokio = { version = "1", features = ["macros", "rt-multi-thread"] }
//! ```
//!
//! `cargo run --example enroll_devices` reads `DPS_CONNECTION_STRING`, and at an emulator `DPS_CA_FILE`. The
//! enrollments `sample-device` and `sample-group` stay in the instance. If they exist, they get new keys. It
//! prints secrets: the keys.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use azure_dps_service::core::models::{
    AttestationMechanism, EnrollmentGroup, IndividualEnrollment, SymmetricKeyAttestation,
};
use azure_dps_service::core::{Result, SharedKey};
use azure_dps_service::{Collection, Enrollment, ServiceClient};

// A `main` that returns an error prints what failed, why, and what to do next.
#[tokio::main]
async fn main() -> Result<()> {
    let service = ServiceClient::from_env()?;

    // One device, with its own key.
    let (key, keys) = new_keys()?;
    enroll(service.enrollments(), &IndividualEnrollment::new("sample-device", keys)).await?;
    println!("# The device of the individual enrollment:");
    print_variables("sample-device", "DPS_KEY", &key);

    // Any number of devices: the key of each is derived from the key of the group.
    let (key, keys) = new_keys()?;
    enroll(service.enrollment_groups(), &EnrollmentGroup::new("sample-group", keys)).await?;
    println!("# A device of the group, by any registration id:");
    print_variables("sample-member", "DPS_GROUP_KEY", &key);
    Ok(())
}

/// Prints a line for a shell. It removes the credential of an earlier line, because two credentials are an error.
fn print_variables(id: &str, name: &str, key: &SharedKey) {
    println!(
        "unset DPS_KEY DPS_GROUP_KEY DPS_CERT_FILE DPS_KEY_FILE; export DPS_REGISTRATION_ID={id} {name}={}",
        key.to_base64().as_str()
    );
}

/// Creates an enrollment, or replaces the one of an earlier run.
async fn enroll<R: Enrollment>(all: Collection<R>, enrollment: &R) -> Result<()> {
    match all.create_or_update(enrollment).await {
        Err(error) if error.is_conflict() => all.replace(enrollment).await.map(drop),
        created => created.map(drop),
    }
}

/// A primary key, and the attestation with it and a secondary key.
fn new_keys() -> Result<(SharedKey, AttestationMechanism)> {
    let (primary, secondary) = (SharedKey::generate()?, SharedKey::generate()?);
    let keys = SymmetricKeyAttestation::new(&primary, &secondary);
    Ok((primary, AttestationMechanism::symmetric_key(keys)))
}
