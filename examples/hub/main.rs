//! A device at its hub, over MQTT: register, keep the assignment, connect, read the twin, report a property,
//! receive a desired change, answer a direct method, send telemetry, and renew the password before it expires.
//!
//! `cargo run --example hub` runs it on an embedded emulator, where the sample also plays the back end. With
//! `DPS_CONNECTION_STRING` and `DPS_ID_SCOPE` set it runs against that instance and deletes what it made, also
//! after an error; the device stays known to its hub. There, change the device meanwhile with the commands that
//! it prints. `DPS_MQTT_PORT` is read for an emulator.
#![allow(clippy::print_stdout)] // A sample prints for a person.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use azure_dps_device::{Assignment, Credential, DeviceClient, HubAccess};
use azure_dps_emulator::{Emulator, MethodCall};
use azure_dps_examples::{Made, Playground, mark, play};
use azure_dps_service::core::models::{AttestationMechanism, IndividualEnrollment};
use azure_dps_service::core::{Error, ErrorKind, Result};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::session::{Event, Session};

mod session;

#[tokio::main]
async fn main() -> ExitCode {
    play(include_str!("main.rs"), run).await
}

async fn run(playground: &Playground) -> Result<()> {
    let (credential, stored) = provision(playground, &format!("sample-{}", mark())).await?;

    // From here on the device needs no provisioning service, also after a restart of the program.
    let assignment: Assignment = serde_json::from_str(&stored).map_err(|why| Error::from_json(&why))?;
    let access = playground.at_hub(HubAccess::new(credential, &assignment)?);
    match playground.emulator() {
        Some(emulator) => tokio::try_join!(device(&access), back_end(emulator, &assignment)).map(drop),
        None => {
            let (hub, id) = (assignment.hub(), assignment.device_id());
            println!(
                "try        az iot hub device-twin update -n {hub} -d {id} --desired '{{\"interval\": 5}}'"
            );
            println!("try        az iot hub invoke-device-method -n {hub} -d {id} --mn reboot");
            device(&access).await
        }
    }
}

/// Enrolls and registers a device; returns its credential and the assignment as the device stores it.
async fn provision(playground: &Playground, id: &str) -> Result<(Credential, String)> {
    let enrollment = IndividualEnrollment::new(id, AttestationMechanism::symmetric_key_generated());
    let created = playground.service().enrollments().create_or_update(&enrollment).await;
    let created = playground.made([Made::Enrollment(id.to_owned())], created)?;
    let keys = created.attestation.as_symmetric_key();
    let key = keys.and_then(|keys| keys.primary_key.as_deref());
    let key = key.ok_or_else(|| Error::new(ErrorKind::Protocol, "the service returned no primary key"))?;

    let credential = Credential::symmetric_key(id.parse()?, key.parse()?);
    let device = DeviceClient::new(playground.id_scope(), credential.clone(), playground.https());
    playground.registers(id);
    let assignment = device.with_policy(playground.policy()).register().await?;
    println!("registered {} at {}", assignment.device_id(), assignment.hub());
    let stored = serde_json::to_string(&assignment).map_err(|why| Error::from_json(&why))?;
    Ok((credential, stored))
}

/// Two sessions: the second one begins with a new password before the first one's expires.
async fn device(access: &HubAccess) -> Result<()> {
    let mut interval = 60;
    for session in ["connected", "renewed"] {
        let stream = access.connect().await?;
        let sign_in = access.sign_in(PASSWORD_LIFE, SystemTime::now().into())?;
        let mut hub = Session::open(stream, access, &sign_in).await?;
        println!("{session:<10} to {} as {}", access.hub(), access.client_id());

        // The hub does not queue changes for a device that is offline: read the twin after every connect.
        let twin = hub.twin().await?;
        let mut version = twin.pointer("/desired/$version").and_then(Value::as_u64).unwrap_or_default();
        apply(twin.get("desired"), &mut interval);
        println!("twin       desired version {version}, interval {interval}");
        let reported = hub.report(&json!({ "interval": interval, "firmware": "1.2.0" })).await?;
        println!("reported   the firmware and the interval, version {reported}");
        hub.send_telemetry(&json!({ "temperature": 21.5 })).await?;
        println!("sent       telemetry");

        let left = sign_in.renew_at().map(|at| SystemTime::from(at).duration_since(SystemTime::now()));
        let until = Instant::now() + left.and_then(|left| left.ok()).unwrap_or(PASSWORD_LIFE);
        while session == "connected"
            && let Some(event) = hub.next(until).await?
        {
            match event {
                // A change that is older than the twin that was read is in it already.
                Event::Desired { version: new, patch } if new > version => {
                    version = new;
                    apply(Some(&patch), &mut interval);
                    hub.report(&json!({ "interval": interval })).await?;
                    println!("desired    version {version}, interval {interval}");
                }
                Event::Desired { .. } => {}
                Event::Method(method) if method.name == "reboot" => {
                    println!("method     {} {}", method.name, method.payload);
                    hub.answer(&method, 200, &json!({ "rebooting": true })).await?;
                }
                Event::Method(method) => hub.answer(&method, 404, &json!("unknown method")).await?,
            }
        }
        hub.close().await?;
    }
    Ok(())
}

/// Takes the desired interval, if there is one that makes sense.
fn apply(desired: Option<&Value>, interval: &mut u64) {
    let wanted = desired.and_then(|desired| desired.get("interval")).and_then(Value::as_u64);
    if let Some(wanted) = wanted.filter(|wanted| *wanted > 0) {
        *interval = wanted;
    }
}

/// What a back end does at the hub, which the emulator offers as functions.
async fn back_end(emulator: &Emulator, assignment: &Assignment) -> Result<()> {
    let failed = |why| Error::new(ErrorKind::Service, "the emulated hub refused a call").with_source(why);
    let (hub, id) = (assignment.hub(), assignment.device_id());
    emulator.wait_for_telemetry(hub, id, 0, Duration::from_secs(10)).await.map_err(failed)?;
    emulator.set_desired(hub, id, json!({ "interval": 5 })).map_err(failed)?;
    let call = MethodCall::new("reboot").with_payload(json!({ "delay": 1 }));
    let answer = emulator.invoke_method(hub, id, call).await.map_err(failed)?;
    println!("back end   the device answered with {} {}", answer.status, answer.payload);
    Ok(())
}

/// Short, so that the sample shows a renewal. A device uses an hour.
const PASSWORD_LIFE: Duration = Duration::from_secs(5);
