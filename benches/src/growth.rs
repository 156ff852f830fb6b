//! How the emulator's cost grows with what it holds.
#![allow(clippy::indexing_slicing)] // A JSON value returns null for a member that it does not have.

use std::time::Duration;

use azure_dps_emulator::Pki;
use serde_json::{Value, json};

use crate::emulator::{GROUP_KEY, Server, fleet};
use crate::job::Transport;
use crate::measure::{self, cpu_of, resident_of};
use crate::report::{Page, millis, number};
use crate::subject::{Setup, Subject};
use crate::{Bench, Outcome};

pub(crate) fn measure(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "Growth of the emulator");
    groups(bench, page)?;
    seeds(bench, page)
}

/// Registrations while there are more groups, the last of which are the device's.
fn groups(bench: &Bench, page: &mut Page) -> Outcome<()> {
    let mut rows = Vec::new();
    for (kind, most) in [("symmetric key", u32::MAX), ("X.509, roots of one subject", MOST_ROOTS)] {
        for count in bench.scale.groups.iter().filter(|count| **count <= most) {
            let (own, identity) = fleet(&bench.folder)?;
            let mut seed = (1..*count).map(|number| group(kind, number)).collect::<Outcome<Vec<Value>>>()?;
            seed.extend(own["enrollmentGroups"].as_array().cloned().unwrap_or_default());
            let server = Server::start(&bench.folder, &json!({"enrollmentGroups": seed}))?;
            let mut each = Vec::new();
            for setup in [Setup::Plain, Setup::X509] {
                let devices = bench.scale.steady;
                let run = bench.run_on(&server, &identity, devices, 1);
                let before = cpu_of(server.process())?;
                measure::run(&mut run.command(Subject::Sdk(setup), Transport::Https)?, devices)?;
                let used = cpu_of(server.process())?.saturating_sub(before);
                each.push(number(used.as_secs_f64() * 1e6 / f64::from(devices)));
            }
            let [key, certificate] = each.try_into().map_err(|_| "two figures")?;
            rows.push([kind.to_owned(), count.to_string(), key, certificate]);
        }
    }
    let head = ["groups", "number", "CPU of a registration by key, µs", "by certificate, µs"];
    page.table(head, &rows);
    Ok(())
}

fn group(kind: &str, number: u32) -> Outcome<Value> {
    let attestation = match kind {
        "symmetric key" => {
            let key = format!("{number:0>42}A=");
            json!({"type": "symmetricKey", "symmetricKey": {"primaryKey": key, "secondaryKey": key}})
        }
        _ => {
            let root = Pki::new(["a"], 0)?.root.certificate_pem;
            json!({"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": root}}}})
        }
    };
    Ok(json!({"enrollmentGroupId": format!("a{number}"), "attestation": attestation}))
}

/// The start with a seed.
fn seeds(bench: &Bench, page: &mut Page) -> Outcome<()> {
    let empty = Server::start(&bench.folder, &json!({}))?;
    let idle = resident_of(empty.process())?;
    drop(empty);
    let most = bench.scale.enrollments.iter().max().copied().unwrap_or_default();
    let certificates = certificates(most.min(MOST_CERTIFICATES))?;
    let mut rows = Vec::new();
    for (kind, most) in [("symmetric key", u32::MAX), ("X.509", MOST_CERTIFICATES)] {
        for count in bench.scale.enrollments.iter().filter(|count| **count <= most) {
            let enrollments = (0..*count).map(|number| enrollment(kind, number, &certificates));
            let seed = json!({"enrollments": Value::from_iter(enrollments)});
            let server = Server::start(&bench.folder, &seed)?;
            let memory = resident_of(server.process())?.saturating_sub(idle) as f64 / f64::from(*count);
            let cpu: Duration = cpu_of(server.process())?;
            rows.push([
                kind.to_owned(),
                count.to_string(),
                number(millis(server.start)),
                number(millis(cpu)),
                number(memory),
            ]);
        }
    }
    let head = ["enrollments of a seed", "number", "time to the ready line, ms", "CPU, ms", "KiB each"];
    page.table(head, &rows);
    Ok(())
}

fn enrollment(kind: &str, number: u32, certificates: &[String]) -> Value {
    let attestation = match usize::try_from(number).ok().and_then(|number| certificates.get(number)) {
        Some(certificate) if kind == "X.509" => {
            json!({"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": certificate}}}})
        }
        _ => json!({"type": "symmetricKey",
            "symmetricKey": {"primaryKey": GROUP_KEY, "secondaryKey": GROUP_KEY}}),
    };
    json!({"registrationId": format!("seed-{number}"), "attestation": attestation})
}

fn certificates(count: u32) -> Outcome<Vec<String>> {
    let pki = Pki::new((0..count).map(|number| format!("seed-{number}")), 0)?;
    Ok(pki.devices.into_iter().map(|device| device.certificate_pem).collect())
}

/// Making more of these takes longer than what is measured with them.
const MOST_ROOTS: u32 = 1000;
const MOST_CERTIFICATES: u32 = 100_000;
