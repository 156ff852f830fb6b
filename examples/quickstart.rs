//! The main job: enroll one device by itself and one through a group, register both over HTTPS and MQTT, and
//! print their hubs. The sample `transports` has every transport.
//!
//! `cargo run --example quickstart` runs it on an embedded emulator. With `DPS_CONNECTION_STRING` and
//! `DPS_ID_SCOPE` set it runs against that instance and deletes what it created, also after an error.
//! `DPS_MQTT_PORT` is read there too.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;
use std::sync::Arc;

use azure_dps_device::transport::Transport;
use azure_dps_device::{Assignment, Credential, DeviceClient};
use azure_dps_examples::{Made, Playground, mark, play};
use azure_dps_service::ServiceClient;
use azure_dps_service::core::models::{AttestationMechanism, EnrollmentGroup, IndividualEnrollment};
use azure_dps_service::core::{Error, ErrorKind, GroupKey, RegistrationId, Result, SharedKey};

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("quickstart.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let rows = enroll_and_register(playground, playground.service(), &Ids::unique()?).await?;
    let head = ["registration id", "attestation", "transport", "assigned hub", "device id", "requests", "ms"];
    print_table(&head.map(str::to_owned), &rows);
    Ok(())
}

async fn enroll_and_register(
    playground: &Playground,
    service: &ServiceClient,
    ids: &Ids,
) -> Result<Vec<[String; 7]>> {
    // One device by itself: the service generates its keys, and the answer contains them.
    let enrollment =
        IndividualEnrollment::new(ids.single.as_str(), AttestationMechanism::symmetric_key_generated());
    let created = service.enrollments().create_or_update(&enrollment).await;
    let created = playground.made([Made::Enrollment(ids.single.to_string())], created)?;
    let key: SharedKey = primary_key(&created.attestation)?.parse()?;
    let single = Credential::symmetric_key(ids.single.clone(), key);

    // Any number of devices through a group: each has a key derived from the group's.
    let group = EnrollmentGroup::new(ids.group.as_str(), AttestationMechanism::symmetric_key_generated());
    let created = service.enrollment_groups().create_or_update(&group).await;
    let created = playground.made([Made::Group(ids.group.clone())], created)?;
    let key: GroupKey = primary_key(&created.attestation)?.parse()?;
    let member = Credential::from_group(&key, ids.member.clone());

    let transports: [Arc<dyn Transport>; 2] = [Arc::new(playground.https()), Arc::new(playground.mqtt())];
    for id in [&ids.single, &ids.member] {
        playground.registers(id.as_str());
    }
    let mut rows = Vec::new();
    for transport in transports {
        for (attestation, credential) in [("key, individual", &single), ("key, group", &member)] {
            let device = DeviceClient::new(playground.id_scope(), credential.clone(), Arc::clone(&transport))
                .with_policy(playground.policy());
            rows.push(row(attestation, &device.register().await?));
        }
    }
    Ok(rows)
}

fn primary_key(attestation: &AttestationMechanism) -> Result<&str> {
    attestation
        .as_symmetric_key()
        .and_then(|keys| keys.primary_key.as_deref())
        .map(String::as_str)
        .ok_or_else(|| Error::new(ErrorKind::Protocol, "the service returned no primary key"))
}

/// The names of the records of this run, unique to it.
struct Ids {
    single: RegistrationId,
    group: String,
    member: RegistrationId,
}

impl Ids {
    fn unique() -> Result<Self> {
        let mark = mark();
        Ok(Self {
            single: format!("quickstart-{mark}-single").parse()?,
            group: format!("quickstart-{mark}-group"),
            member: format!("quickstart-{mark}-member").parse()?,
        })
    }
}

fn row(attestation: &str, assignment: &Assignment) -> [String; 7] {
    let summary = assignment.summary().unwrap_or_default();
    [
        assignment.state().registration_id.clone().unwrap_or_default(),
        attestation.to_owned(),
        summary.transport.to_owned(),
        assignment.hub().to_owned(),
        assignment.device_id().to_owned(),
        summary.requests.to_string(),
        summary.elapsed.as_millis().to_string(),
    ]
}

fn print_table(head: &[String; 7], rows: &[[String; 7]]) {
    let width = |column: usize| {
        let cells = std::iter::once(head).chain(rows).filter_map(|row| row.get(column));
        cells.map(String::len).max().unwrap_or_default()
    };
    for row in std::iter::once(head).chain(rows) {
        let cells: Vec<_> =
            row.iter().enumerate().map(|(i, cell)| format!("{cell:<w$}", w = width(i))).collect();
        println!("{}", cells.join("  ").trim_end());
    }
}
