//! Many enrollments at once: ten in a call, an outcome for each.
//!
//! `cargo run --example bulk` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it
//! runs against that instance and deletes what it made, also after an error.
#![allow(clippy::print_stdout)] // A sample talks to a person.

use std::process::ExitCode;

use azure_dps_core::Result;
use azure_dps_core::models::{AttestationMechanism, BulkMode, IndividualEnrollment};
use azure_dps_examples::{Playground, mark, report};
use azure_dps_service::ServiceClient;

#[tokio::main]
async fn main() -> ExitCode {
    report(run().await)
}

async fn run() -> Result<()> {
    let playground = Playground::start().await?;
    println!("{}\n", playground.describe());

    let service = playground.service()?;
    let mark = mark();
    let fleet: Vec<_> = (1..=25)
        .map(|number| {
            let id = format!("sample-{mark}-{number:02}");
            IndividualEnrollment::new(id, AttestationMechanism::symmetric_key_generated())
        })
        .collect();
    let outcome = import(&service, &fleet).await;
    outcome.and(clean_up(&service, &fleet).await)
}

async fn import(service: &ServiceClient, fleet: &[IndividualEnrollment]) -> Result<()> {
    // Somebody has enrolled the third device before: the others are created all the same.
    if let Some(third) = fleet.get(2) {
        service.enrollments().create_or_update(third).await?;
    }
    let (created, failed) = in_tens(service, BulkMode::Create, fleet).await?;
    println!("created {created} of {}", fleet.len());
    for failure in failed {
        println!("  {failure}");
    }
    Ok(())
}

/// Deletes all of them, whatever becomes of each ten.
async fn clean_up(service: &ServiceClient, fleet: &[IndividualEnrollment]) -> Result<()> {
    let (mut deleted, mut outcome) = (0, Ok(()));
    for ten in fleet.chunks(10) {
        match in_tens(service, BulkMode::Delete, ten).await {
            Ok((done, failed)) => {
                deleted += done;
                failed.iter().for_each(|failure| println!("  {failure}"));
            }
            Err(error) => outcome = Err(error),
        }
    }
    println!("deleted {deleted} of {}", fleet.len());
    outcome
}

/// Does the same to all of them, ten in a call. Gives how many it was done to, and what is told about the others.
async fn in_tens(
    service: &ServiceClient,
    mode: BulkMode,
    fleet: &[IndividualEnrollment],
) -> Result<(usize, Vec<String>)> {
    let mut failed = Vec::new();
    for ten in fleet.chunks(10) {
        let result = service.enrollments().run_bulk_operation(mode.clone(), ten).await?;
        failed.extend(result.errors.iter().map(|error| {
            let next = if error.is_conflict() { "; use BulkMode::Update to replace it" } else { "" };
            format!("{error}{next}")
        }));
    }
    Ok((fleet.len() - failed.len(), failed))
}
