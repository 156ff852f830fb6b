//! What registrations cost: the first one of a process, each further one, and many at once.

use std::collections::BTreeMap;

use crate::job::Transport;
use crate::measure::{self, Cost};
use crate::report::{Figures, Page, each, millis};
use crate::subject::Subject;
use crate::{Bench, Outcome};

const PLATFORM: Subject = Subject::Sdk { current_thread: false, platform_roots: true, x509: false };
const ONE_THREAD: Subject = Subject::Sdk { current_thread: true, platform_roots: false, x509: false };
const X509: Subject = Subject::Sdk { current_thread: false, platform_roots: false, x509: true };

/// One registration in a process of its own.
pub(crate) fn cold(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "One registration, from the start of a process to its end");
    let subjects = [Subject::SDK, PLATFORM, X509, Subject::Bare, Subject::Node, Subject::Python];
    let mut rows = Vec::new();
    for transport in Transport::ALL {
        let mut costs: BTreeMap<usize, Vec<Cost>> = BTreeMap::new();
        for _ in 0..bench.scale.cold_runs {
            for (at, subject) in subjects.iter().enumerate().filter(|(_, subject)| subject.can(transport)) {
                costs.entry(at).or_default().push(register(bench, *subject, transport, 1, 1)?);
            }
        }
        for (at, subject) in subjects.iter().enumerate() {
            let Some(costs) = costs.get(&at) else { continue };
            rows.push([
                transport.name().to_owned(),
                subject.name().to_owned(),
                costs.iter().map(|cost| millis(cost.cpu)).collect::<Figures>().to_string(),
                costs.iter().map(|cost| millis(cost.wall)).collect::<Figures>().to_string(),
                costs.iter().map(|cost| cost.peak_kib as f64 / 1024.0).collect::<Figures>().to_string(),
            ]);
        }
    }
    page.table(["transport", "client", "CPU, ms", "time, ms", "peak memory, MiB"], &rows);
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
    let subjects = [Subject::SDK, ONE_THREAD, X509, Subject::Bare, Subject::Node];
    let mut rows = Vec::new();
    for transport in Transport::ALL {
        let mut figures: BTreeMap<usize, Figures> = BTreeMap::new();
        for _ in 0..bench.scale.runs {
            for (at, subject) in subjects.iter().enumerate().filter(|(_, subject)| subject.can(transport)) {
                let few = register(bench, *subject, transport, 1, 1)?;
                let many = register(bench, *subject, transport, count + 1, 1)?;
                figures.entry(at).or_default().add(each(many, few, count));
            }
        }
        let own = figures.get(&0).map_or(f64::NAN, Figures::median);
        for (at, subject) in subjects.iter().enumerate() {
            let Some(figures) = figures.get(&at) else { continue };
            let ratio = crate::report::number(figures.median() / own);
            rows.push([transport.name().to_owned(), subject.name().to_owned(), figures.to_string(), ratio]);
        }
    }
    page.table(["transport", "client", "CPU each, µs", "times the SDK's"], &rows);
    Ok(())
}

/// Many devices at once in one process.
pub(crate) fn fleets(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "Many registrations at once in one process");
    let mut rows = Vec::new();
    for transport in Transport::ALL {
        for (subject, sizes) in [(Subject::SDK, bench.scale.fleets), (Subject::Node, node_sizes(bench))] {
            for size in sizes.iter().filter(|_| subject.can(transport)) {
                let mut costs = Vec::new();
                for _ in 0..bench.scale.runs.min(3) {
                    costs.push(register(bench, subject, transport, *size, *size)?);
                }
                let each = |cost: &Cost| cost.cpu.as_secs_f64() * 1e6 / f64::from(*size);
                rows.push([
                    transport.name().to_owned(),
                    subject.name().to_owned(),
                    size.to_string(),
                    costs.iter().map(each).collect::<Figures>().to_string(),
                    costs.iter().map(|cost| millis(cost.wall)).collect::<Figures>().to_string(),
                    costs.iter().map(|cost| cost.peak_kib as f64 / 1024.0).collect::<Figures>().to_string(),
                ]);
            }
        }
    }
    page.table(["transport", "client", "devices", "CPU each, µs", "time, ms", "peak memory, MiB"], &rows);
    Ok(())
}

/// One size is enough to compare.
fn node_sizes(bench: &Bench) -> &'static [u32] {
    let middle = bench.scale.fleets.len() / 2;
    bench.scale.fleets.get(middle..=middle).unwrap_or_default()
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
