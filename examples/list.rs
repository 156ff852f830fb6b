//! Listings: as a stream, page by page, resumed with a token; and the registration records of a group.
//!
//! `cargo run --example list` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it
//! runs against that instance, where it reads no more than a few pages, and deletes what it made, also after an error.
#![allow(clippy::print_stdout)] // A sample talks to a person.

use std::process::ExitCode;

use azure_dps_core::models::{AttestationMechanism, EnrollmentGroup, IndividualEnrollment};
use azure_dps_core::{Error, ErrorKind, GroupKey, Result};
use azure_dps_device::{Credential, DeviceClient};
use azure_dps_examples::{Playground, cleared, mark, report};
use azure_dps_service::ServiceClient;
use futures_util::TryStreamExt as _;

#[tokio::main]
async fn main() -> ExitCode {
    report(run().await)
}

async fn run() -> Result<()> {
    let playground = Playground::start().await?;
    println!("{}\n", playground.describe());

    let service = playground.service()?;
    let mark = mark();
    let singles: Vec<_> = (1..=5).map(|number| format!("sample-{mark}-single-{number}")).collect();
    let members: Vec<_> = (1..=3).map(|number| format!("sample-{mark}-member-{number}")).collect();
    let group = format!("sample-{mark}-group");
    let outcome = async {
        prepare(&playground, &service, &singles, &group, &members).await?;
        enrollments(&service, &mark).await?;
        records(&service, &group).await
    };
    let outcome = outcome.await;
    for id in &singles {
        cleared("enrollment", service.enrollments().delete(id).await);
    }
    cleared("enrollment group", service.enrollment_groups().delete(&group).await);
    for id in &members {
        cleared("registration record", service.registrations().delete(id).await);
    }
    outcome
}

async fn enrollments(service: &ServiceClient, mark: &str) -> Result<()> {
    // The service lists everything, whatever a query text says: filter here. A page is one billed call.
    let mut listing = service.enrollments().list().page_size(50);
    let (mut seen, mut ours) = (0, 0);
    while let Some(enrollment) = listing.try_next().await? {
        seen += 1;
        ours += usize::from(enrollment.registration_id.contains(mark));
        if seen == 200 {
            break;
        }
    }
    println!("enrollments: {ours} of this sample among the first {seen}");

    // Page by page; the token leads another process to the page after this one.
    let first = service.enrollments().list().page_size(2).next_page().await?;
    if let Some(token) = first.and_then(|page| page.continuation) {
        let next = service.enrollments().list().page_size(2).resume(token).next_page().await?;
        println!("the page after the first one has {} items", next.map_or(0, |page| page.items.len()));
    }
    Ok(())
}

async fn records(service: &ServiceClient, group: &str) -> Result<()> {
    let records: Vec<_> = service.registrations().of_group(group).try_collect().await?;
    println!("devices that registered through {group}:");
    for record in records {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        println!("  {} at {}", text(&record.registration_id), text(&record.assigned_hub));
    }
    Ok(())
}

/// Enrolls some devices, and registers those of the group.
async fn prepare(
    playground: &Playground,
    service: &ServiceClient,
    singles: &[String],
    group: &str,
    members: &[String],
) -> Result<()> {
    let generated = AttestationMechanism::symmetric_key_generated;
    for id in singles {
        service.enrollments().create_or_update(&IndividualEnrollment::new(id, generated())).await?;
    }
    let created =
        service.enrollment_groups().create_or_update(&EnrollmentGroup::new(group, generated())).await?;
    let keys = created.attestation.as_symmetric_key();
    let key: GroupKey = keys
        .and_then(|keys| keys.primary_key.as_deref())
        .ok_or_else(|| Error::new(ErrorKind::Protocol, "the service returned no primary key"))?
        .parse()?;
    for id in members {
        let credential = Credential::from_group(&key, id.parse()?);
        let device = DeviceClient::new(playground.id_scope(), credential, playground.https()?);
        device.with_policy(playground.policy()).register().await?;
    }
    Ok(())
}
