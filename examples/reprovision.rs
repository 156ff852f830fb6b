//! A fleet moves from one hub to another: the enrollment decides, and a device moves when it registers again.
//!
//! `cargo run --example reprovision` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and
//! `DPS_ID_SCOPE` set it runs against that instance and deletes what it created there, also after an error;
//! then `DPS_HUBS` names two linked hubs, separated by a comma, and `DPS_MQTT_PORT` is read too. Devices at
//! the hubs are left to you.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;
use std::sync::Arc;

use azure_dps_device::{Credential, DeviceClient};
use azure_dps_examples::{Made, Playground, group_key, mark, play};
use azure_dps_service::core::models::{
    AttestationMechanism, EnrollmentGroup, InitialTwin, ReprovisionPolicy, TwinCollection,
};
use azure_dps_service::core::{Error, ErrorKind, GroupKey, Result};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("reprovision.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let mark = mark();
    let (group, devices) = (format!("sample-{mark}-fleet"), [1, 2, 3].map(|n| format!("sample-{mark}-{n}")));
    relocate(playground, &group, &devices).await
}

async fn relocate(playground: &Playground, group: &str, devices: &[String]) -> Result<()> {
    let [old, new] = &playground.two_hubs()?;
    let groups = playground.service().enrollment_groups();
    let record = EnrollmentGroup::new(group, AttestationMechanism::symmetric_key_generated())
        .with_static_allocation(old)
        .with_initial_twin(InitialTwin::new().with_tags([("configuration", "first")]));
    let created = groups.create_or_update(&record).await;
    let key = group_key(&playground.made([Made::Group(group.to_owned())], created)?.attestation)?;
    for id in devices {
        playground.registers(id);
    }
    step(playground, &key, devices, "first registration").await?;
    step(playground, &key, devices, "nothing changed").await?;

    // Devices keep their hub until they register again: after a restart, or when the back end asks them to.
    let to = |hub: &str, policy: ReprovisionPolicy, tag: &str| {
        let tags = TwinCollection::from([("configuration", tag)]);
        let record = record.clone().with_static_allocation(hub).with_reprovision_policy(policy);
        record.with_initial_twin(InitialTwin::new().with_tags(tags))
    };
    let set = async |record: EnrollmentGroup| {
        let edit = |stored: &mut EnrollmentGroup| {
            stored.iot_hubs.clone_from(&record.iot_hubs);
            stored.reprovision_policy.clone_from(&record.reprovision_policy);
            stored.initial_twin.clone_from(&record.initial_twin);
        };
        groups.update(group, edit).await.map(drop)
    };
    set(to(new, ReprovisionPolicy::never(), "second")).await?;
    step(playground, &key, devices, "never").await?;
    set(to(new, ReprovisionPolicy::reprovision_and_migrate(), "third")).await?;
    step(playground, &key, devices, "reprovision and migrate").await?;
    set(to(old, ReprovisionPolicy::reprovision_and_reset(), "fourth")).await?;
    step(playground, &key, devices, "reprovision and reset").await
}

/// Registers all devices at the same time.
async fn step(playground: &Playground, key: &GroupKey, devices: &[String], what: &str) -> Result<()> {
    println!("{what}");
    let transport = Arc::new(playground.mqtt());
    let registrations: Vec<_> = devices
        .iter()
        .map(|id| {
            let credential = Credential::from_group(key, id.parse()?);
            let device = DeviceClient::new(playground.id_scope(), credential, Arc::clone(&transport));
            let device = device.with_policy(playground.policy());
            Ok(tokio::spawn(async move { device.register().await }))
        })
        .collect::<Result<_>>()?;
    for registration in registrations {
        let assignment = registration
            .await
            .map_err(|why| Error::new(ErrorKind::Protocol, "a registration panicked").with_source(why))??;
        let substatus = assignment.substatus().map(|substatus| substatus.as_str()).unwrap_or_default();
        let (hub, id) = (assignment.hub(), assignment.device_id());
        let tag =
            playground.tag(hub, id, "configuration").map(|tag| format!(", twin {tag}")).unwrap_or_default();
        println!("  {id} at {hub}: {substatus}{tag}");
    }
    Ok(())
}
