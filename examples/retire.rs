//! A device goes out of service, then a fleet: the right order of the steps, and the effect of another order.
//!
//! `cargo run --example retire` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and
//! `DPS_ID_SCOPE` set it runs against that instance and deletes what it created there, also after an error.
//! The identity at the hub is deleted on the emulator only: the SDK does not talk to hubs, and says what is
//! left to do.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;

use azure_dps_device::{Assignment, Credential, DeviceClient};
use azure_dps_examples::{Made, Playground, group_key, mark, play};
use azure_dps_service::ServiceClient;
use azure_dps_service::core::models::{
    AttestationMechanism, EnrollmentGroup, IndividualEnrollment, ProvisioningStatus,
};
use azure_dps_service::core::{Error, ErrorKind, GroupKey, Result};
use futures_util::TryStreamExt as _;

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("retire.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let mark = mark();
    let (group, devices) =
        (format!("sample-{mark}-fleet"), ["stolen", "kept"].map(|n| format!("sample-{mark}-{n}")));
    retire(playground, playground.service(), &group, &devices).await
}

async fn retire(
    playground: &Playground,
    service: &ServiceClient,
    group: &str,
    [stolen, kept]: &[String; 2],
) -> Result<()> {
    let record = EnrollmentGroup::new(group, AttestationMechanism::symmetric_key_generated());
    let created = service.enrollment_groups().create_or_update(&record).await;
    let key = group_key(&playground.made([Made::Group(group.to_owned())], created)?.attestation)?;
    let lost = register(playground, &key, stolen).await?;
    register(playground, &key, kept).await?;

    println!("\none device of the group");
    // First, the device must not come back. Its own enrollment has precedence over the group, with any
    // attestation.
    let closed = IndividualEnrollment::new(stolen, AttestationMechanism::symmetric_key_generated())
        .with_provisioning_status(ProvisioningStatus::Disabled);
    let created = service.enrollments().create_or_update(&closed).await;
    playground.made([Made::Enrollment(stolen.clone())], created)?;
    println!("  {stolen}: individual enrollment, disabled");
    // Until this step the device stays connected to its hub.
    delete_identity(playground, lost.hub(), lost.device_id());
    service.registrations().delete(stolen).await?;
    println!("  {stolen}: registration record deleted");
    refused(playground, &key, stolen).await?;
    register(playground, &key, kept).await?;

    println!("\nthe whole group");
    // The records contain the hub of each device. A device that tries to come back loses the hub in its
    // record.
    let records: Vec<_> = service.registrations().of_group(group).try_collect().await?;
    let disable =
        |group: &mut EnrollmentGroup| group.provisioning_status = Some(ProvisioningStatus::Disabled);
    service.enrollment_groups().update(group, disable).await?;
    println!("  {group}: disabled");
    for record in &records {
        let Some(id) = &record.registration_id else { continue };
        if let Some(hub) = &record.assigned_hub {
            delete_identity(playground, hub, record.device_id.as_deref().unwrap_or(id));
        }
        service.registrations().delete(id).await?;
        println!("  {id}: registration record deleted");
    }
    refused(playground, &key, kept).await?;
    service.enrollment_groups().delete(group).await?;
    println!("  {group}: deleted");
    Ok(())
}

async fn register(playground: &Playground, key: &GroupKey, id: &str) -> Result<Assignment> {
    let credential = Credential::from_group(key, id.parse()?);
    let device = DeviceClient::new(playground.id_scope(), credential, playground.https());
    playground.registers(id);
    let assignment = device.with_policy(playground.policy()).register().await?;
    println!("  {id}: registered at {}", assignment.hub());
    Ok(assignment)
}

/// Registers the device again, as a device does that lost its hub.
async fn refused(playground: &Playground, key: &GroupKey, id: &str) -> Result<()> {
    match register(playground, key, id).await {
        // The device does not have the keys of this enrollment, so the service may refuse its token first.
        Err(error) if matches!(error.kind(), ErrorKind::Registration | ErrorKind::Unauthorized) => {
            println!("  {id}: does not get in any more ({error})");
            Ok(())
        }
        Ok(_) => Err(Error::new(ErrorKind::Registration, format!("{id} got in again"))),
        Err(error) => Err(error),
    }
}

fn delete_identity(playground: &Playground, hub: &str, device_id: &str) {
    if playground.delete_hub_device(hub, device_id) {
        println!("  {device_id}: identity deleted at {hub}");
    } else {
        let name = hub.split('.').next().unwrap_or(hub);
        println!("  left to do: az iot hub device-identity delete --hub-name {name} --device-id {device_id}");
    }
}
