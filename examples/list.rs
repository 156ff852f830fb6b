//! Listings: as a stream, page by page, resumed with a token; and the registration records of a group.
//!
//! `cargo run --example list` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and
//! `DPS_ID_SCOPE` set it runs against that instance, where it reads no more than a few pages, and deletes
//! what it created, also after an error.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;

use azure_dps_device::{Credential, DeviceClient};
use azure_dps_examples::{Made, Playground, group_key, mark, play};
use azure_dps_service::ServiceClient;
use azure_dps_service::core::Result;
use azure_dps_service::core::models::{AttestationMechanism, EnrollmentGroup, IndividualEnrollment};
use futures_util::TryStreamExt as _;

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("list.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let service = playground.service();
    let mark = mark();
    let singles: Vec<_> = (1..=5).map(|number| format!("sample-{mark}-single-{number}")).collect();
    let members: Vec<_> = (1..=3).map(|number| format!("sample-{mark}-member-{number}")).collect();
    let group = format!("sample-{mark}-group");
    prepare(playground, service, &singles, &group, &members).await?;
    enrollments(service, &mark).await?;
    records(service, &group).await
}

async fn enrollments(service: &ServiceClient, mark: &str) -> Result<()> {
    // The service lists everything, whatever the query says: filter here. A page is one billed call.
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

    // Page by page. With the token another process can continue after this page.
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
        let enrollment = IndividualEnrollment::new(id, generated());
        let created = service.enrollments().create_or_update(&enrollment).await;
        playground.made([Made::Enrollment(id.clone())], created)?;
    }
    let created =
        service.enrollment_groups().create_or_update(&EnrollmentGroup::new(group, generated())).await;
    let key = group_key(&playground.made([Made::Group(group.to_owned())], created)?.attestation)?;
    for id in members {
        let credential = Credential::from_group(&key, id.parse()?);
        let device = DeviceClient::new(playground.id_scope(), credential, playground.https());
        playground.registers(id);
        device.with_policy(playground.policy()).register().await?;
    }
    Ok(())
}
