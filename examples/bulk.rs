//! Many enrollments at once: ten per call, with an outcome for each.
//!
//! `cargo run --example bulk` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and
//! `DPS_ID_SCOPE` set it runs against that instance and deletes what it created, also after an error.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;

use azure_dps_examples::{Made, Playground, mark, play};
use azure_dps_service::core::Result;
use azure_dps_service::core::models::{AttestationMechanism, BulkMode, IndividualEnrollment};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("bulk.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let mark = mark();
    let fleet: Vec<_> = (1..=25)
        .map(|number| {
            let id = format!("sample-{mark}-{number:02}");
            IndividualEnrollment::new(id, AttestationMechanism::symmetric_key_generated())
        })
        .collect();
    import(playground, &fleet).await?;
    remove(playground, &fleet).await
}

async fn import(playground: &Playground, fleet: &[IndividualEnrollment]) -> Result<()> {
    let enrollments = playground.service().enrollments();
    // Another client has already enrolled the third device. The others are still created.
    if let Some(third) = fleet.get(2) {
        let created = enrollments.create_or_update(third).await;
        playground.made([made(third)], created)?;
    }
    let mut failed = Vec::new();
    for ten in fleet.chunks(10) {
        let outcome = enrollments.run_bulk_operation(BulkMode::Create, ten).await;
        failed.extend(playground.made(ten.iter().map(made), outcome)?.errors);
    }
    println!("created {} of {}", fleet.len() - failed.len(), fleet.len());
    for error in failed {
        let next = if error.is_conflict() { "; use `replace` or `update` to change it" } else { "" };
        println!("  {error}{next}");
    }
    Ok(())
}

async fn remove(playground: &Playground, fleet: &[IndividualEnrollment]) -> Result<()> {
    let enrollments = playground.service().enrollments();
    let mut failed = Vec::new();
    for ten in fleet.chunks(10) {
        let errors = enrollments.run_bulk_operation(BulkMode::Delete, ten).await?.errors;
        let gone = ten.iter().filter(|&one| {
            !errors.iter().any(|error| error.registration_id.as_deref() == Some(one.registration_id.as_str()))
        });
        gone.for_each(|one| playground.deleted(&made(one)));
        failed.extend(errors);
    }
    println!("deleted {} of {}", fleet.len() - failed.len(), fleet.len());
    for error in failed {
        println!("  {error}");
    }
    Ok(())
}

fn made(enrollment: &IndividualEnrollment) -> Made {
    Made::Enrollment(enrollment.registration_id.clone())
}
