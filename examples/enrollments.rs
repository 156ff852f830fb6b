//! The life of an enrollment: create, read, change, a conflict, a change by another client, delete; and the
//! same calls on a group.
//!
//! `cargo run --example enrollments` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and
//! `DPS_ID_SCOPE` set it runs against that instance and deletes what it created, also after an error.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;

use azure_dps_examples::{Made, Playground, mark, play};
use azure_dps_service::core::Result;
use azure_dps_service::core::models::{
    AttestationMechanism, EnrollmentGroup, IndividualEnrollment, InitialTwin, ProvisioningStatus,
};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("enrollments.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let mark = mark();
    one_device(playground, &format!("sample-{mark}")).await?;
    a_group(playground, &format!("sample-{mark}-group")).await
}

async fn one_device(playground: &Playground, id: &str) -> Result<()> {
    let enrollments = playground.service().enrollments();

    // The service generates the keys. Only this answer and `attestation_mechanism` return them.
    let wanted = IndividualEnrollment::new(id, AttestationMechanism::symmetric_key_generated())
        .with_device_id("line3-sensor")
        .with_initial_twin(InitialTwin::new().with_tags([("site", "berlin")]));
    let created = enrollments.create_or_update(&wanted).await;
    let created = playground.made([Made::Enrollment(id.to_owned())], created)?;
    println!("created    {id}, has keys: {}", has_keys(&created.attestation));

    let read = enrollments.get(id).await?;
    println!(
        "read       tag {}, has keys: {}",
        read.etag.as_deref().unwrap_or("-"),
        has_keys(&read.attestation)
    );
    let mechanism = enrollments.attestation_mechanism(id).await?;
    println!("mechanism  {}, has keys: {}", mechanism.attestation_type(), has_keys(&mechanism));

    // Reads, edits and writes with etag and keys; retries if another client wrote first.
    let changed = enrollments
        .update(id, |record| record.provisioning_status = Some(ProvisioningStatus::Disabled))
        .await?;
    println!("updated    has keys: {}", has_keys(&changed.attestation));

    // Without an etag this is a create, and the enrollment already exists.
    match enrollments.create_or_update(&wanted).await {
        Err(error) if error.is_conflict() => println!("conflict   {}", error.help()),
        other => drop(other?),
    }
    // With the etag of an old version the write would undo the change in between, so it is refused.
    match enrollments.create_or_update(&read).await {
        Err(error) if error.is_precondition_failed() => println!("stale tag  {}", error.help()),
        other => drop(other?),
    }

    enrollments.delete(id).await?;
    match enrollments.get(id).await {
        Err(error) if error.is_not_found() => println!("deleted    {}\n", error.help()),
        other => drop(other?),
    }
    Ok(())
}

async fn a_group(playground: &Playground, id: &str) -> Result<()> {
    let groups = playground.service().enrollment_groups();
    let group = EnrollmentGroup::new(id, AttestationMechanism::symmetric_key_generated());
    let created = groups.create_or_update(&group).await;
    let created = playground.made([Made::Group(id.to_owned())], created)?;
    println!("created    group {id}, has keys: {}", has_keys(&created.attestation));
    if let Some(tag) = &created.etag {
        // Deletes it only if no client has changed it since.
        groups.delete_if_match(id, tag).await?;
        println!("deleted    version {tag}");
    }
    Ok(())
}

fn has_keys(attestation: &AttestationMechanism) -> bool {
    attestation.as_symmetric_key().is_some_and(|keys| keys.primary_key.is_some())
}
