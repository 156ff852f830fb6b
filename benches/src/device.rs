//! What registrations cost: the first one of a process, each further one, and many at once.

use std::collections::BTreeMap;

use crate::job::Transport;
use crate::measure::{self, Cost};
use crate::report::{Figures, Page, each, millis, ratios};
use crate::subject::{Setup, Subject};
use crate::{Bench, Outcome};

const PLATFORM: Subject = Subject::Sdk(Setup::PlatformRoots);
const ONE_THREAD: Subject = Subject::Sdk(Setup::CurrentThread);
const SPAWNED: Subject = Subject::Sdk(Setup::Spawned);
const X509: Subject = Subject::Sdk(Setup::X509);

/// One registration in a process of its own.
pub(crate) fn cold(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "One registration, from the start of a process to its end");
    page.paragraph("The variables `SSL_CERT_FILE` and `SSL_CERT_DIR` are not set.");
    let subjects = [Subject::SDK, PLATFORM, X509, Subject::Bare, Subject::Node, Subject::Python];
    let mut rows = Vec::new();
    for transport in Transport::ALL {
        let mut costs: BTreeMap<usize, Vec<Cost>> = BTreeMap::new();
        for _ in 0..bench.scale.cold_runs {
            for (at, subject) in subjects.iter().enumerate().filter(|(_, subject)| subject.can(transport)) {
                costs.entry(at).or_default().push(register(bench, *subject, transport, 1, 1)?);
            }
        }
        let own: Vec<f64> = costs.get(&0).into_iter().flatten().map(|cost| millis(cost.cpu)).collect();
        for (at, subject) in subjects.iter().enumerate() {
            let Some(costs) = costs.get(&at) else { continue };
            let cpu: Vec<f64> = costs.iter().map(|cost| millis(cost.cpu)).collect();
            rows.push([
                transport.name().to_owned(),
                subject.name().to_owned(),
                Figures::from_iter(cpu.iter().copied()).to_string(),
                ratios(&cpu, &own).to_string(),
                costs.iter().map(|cost| millis(cost.wall)).collect::<Figures>().to_string(),
                costs.iter().map(|cost| cost.peak_kib as f64 / 1024.0).collect::<Figures>().to_string(),
            ]);
        }
    }
    let head = ["transport", "client", "CPU, ms", "times the SDK's", "time, ms", "peak memory, MiB"];
    page.table(head, &rows);
    Ok(())
}

/// Each further registration, one after the other.
pub(crate) fn steady(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "Each further registration in one process");
    let count = bench.scale.steady;
    page.paragraph(&format!(
        "The CPU time of a process that registers {} devices one after the other, less that of a process that registers \
         one, divided by {count}.",
        count + 1
    ));
    let subjects = [Subject::SDK, SPAWNED, ONE_THREAD, X509, Subject::Bare, Subject::Node];
    let mut rows = Vec::new();
    for transport in Transport::ALL {
        let mut figures: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
        for _ in 0..bench.scale.runs {
            for (at, subject) in subjects.iter().enumerate().filter(|(_, subject)| subject.can(transport)) {
                let few = register(bench, *subject, transport, 1, 1)?;
                let many = register(bench, *subject, transport, count + 1, 1)?;
                figures.entry(at).or_default().push(each(many, few, count));
            }
        }
        let own = figures.get(&0).cloned().unwrap_or_default();
        for (at, subject) in subjects.iter().enumerate() {
            let Some(figures) = figures.get(&at) else { continue };
            rows.push([
                transport.name().to_owned(),
                subject.name().to_owned(),
                Figures::from_iter(figures.iter().copied()).to_string(),
                ratios(figures, &own).to_string(),
            ]);
        }
    }
    page.table(["transport", "client", "CPU each, µs", "times the SDK's"], &rows);
    Ok(())
}

/// Many devices at once in one process.
pub(crate) fn fleets(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "Many registrations at once in one process");
    page.paragraph(
        "The ratio compares the CPU time of each registration with that of the largest fleet when as many workers \
         as the smallest fleet has devices register it, each one device after the other.",
    );
    let mut rows = Vec::new();
    for transport in Transport::ALL {
        let fleets = fleets_of(bench, transport);
        let workers = fleets.iter().position(|(_, devices, width)| devices != width);
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); fleets.len()];
        for _ in 0..bench.scale.runs.min(3) {
            for ((subject, devices, width), costs) in fleets.iter().zip(&mut costs) {
                costs.push(register(bench, *subject, transport, *devices, *width)?);
            }
        }
        let each: Vec<Vec<f64>> =
            fleets.iter().zip(&costs).map(|(fleet, costs)| micros(costs, fleet.1)).collect();
        let base = workers.and_then(|at| each.get(at)).cloned().unwrap_or_default();
        for (((subject, devices, width), costs), each) in fleets.iter().zip(&costs).zip(&each) {
            rows.push([
                transport.name().to_owned(),
                subject.name().to_owned(),
                devices.to_string(),
                width.to_string(),
                Figures::from_iter(each.iter().copied()).to_string(),
                ratios(each, &base).to_string(),
                costs.iter().map(|cost| millis(cost.wall)).collect::<Figures>().to_string(),
                costs.iter().map(|cost| cost.peak_kib as f64 / 1024.0).collect::<Figures>().to_string(),
            ]);
        }
    }
    let head = [
        "transport",
        "client",
        "devices",
        "at once",
        "CPU each, µs",
        "ratio",
        "time, ms",
        "peak memory, MiB",
    ];
    page.table(head, &rows);
    Ok(())
}

/// A client, the number of its devices, and how many register at once.
fn fleets_of(bench: &Bench, transport: Transport) -> Vec<(Subject, u32, u32)> {
    let sizes = bench.scale.fleets;
    let mut fleets = Vec::from_iter(sizes.iter().map(|size| (Subject::SDK, *size, *size)));
    if let (Some(least), Some(most)) = (sizes.first(), sizes.last()) {
        fleets.push((Subject::SDK, *most, (*least).min(most.div_ceil(2))));
    }
    // One size is enough to compare.
    let middle = sizes.get(sizes.len() / 2).filter(|_| Subject::Node.can(transport));
    fleets.extend(middle.map(|size| (Subject::Node, *size, *size)));
    fleets
}

fn micros(costs: &[Cost], devices: u32) -> Vec<f64> {
    costs.iter().map(|cost| cost.cpu.as_secs_f64() * 1e6 / f64::from(devices)).collect()
}

pub(crate) fn register(
    bench: &Bench,
    subject: Subject,
    transport: Transport,
    count: u32,
    width: u32,
) -> Outcome<Cost> {
    measure::run(&mut bench.run(count, width).command(subject, transport)?, count)
}
