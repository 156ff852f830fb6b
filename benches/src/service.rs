//! What service calls cost.

use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::emulator::Server;
use crate::job::{Transport, Work};
use crate::measure;
use crate::report::{Figures, Page};
use crate::subject::{Subject, sdk};
use crate::{Bench, Outcome};

pub(crate) fn calls(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "Service calls");
    let count = bench.scale.service;
    page.paragraph(&format!(
        "{count} enrollments with generated keys, created one after the other, 32 at once, and ten in each bulk \
         operation; then a list of {count}. CPU is that of a whole process, divided by {count}."
    ));
    let folder = bench.folder.join("service");
    fs::create_dir_all(&folder)?;
    let mut rows = Vec::new();
    for (name, work, word, width) in [
        ("create", Work::Create, Some("create"), 1),
        ("create, 32 at once", Work::Create, None, 32),
        ("bulk create", Work::Bulk, Some("bulk"), 1),
        ("list", Work::List, Some("list"), 1),
    ] {
        let word = word.filter(|_| Subject::Node.can(Transport::Https));
        let (mut own, mut node) = (Vec::new(), Vec::new());
        for _ in 0..bench.scale.runs {
            // A list is that of what was just created, with nothing else in it.
            let server = Server::start(&folder, &json!({}))?;
            let run = || bench.run_on(&server, &bench.identity, count, width);
            if work == Work::List {
                measure::run(&mut sdk(&run().job(Work::Bulk))?, count)?;
            }
            own.push(measure::run(&mut sdk(&run().job(work))?, count)?);
            if let Some(word) = word {
                node.push(measure::run(&mut run().node_service(word)?, count)?);
            }
        }
        for (client, costs) in [("SDK", own), ("Node", node)].iter().filter(|(_, costs)| !costs.is_empty()) {
            let micros = |time: Duration| time.as_secs_f64() * 1e6 / f64::from(count);
            rows.push([
                name.to_owned(),
                (*client).to_owned(),
                costs.iter().map(|cost| micros(cost.cpu)).collect::<Figures>().to_string(),
                costs.iter().map(|cost| micros(cost.wall)).collect::<Figures>().to_string(),
            ]);
        }
    }
    page.table(["call", "client", "CPU each, µs", "time each, µs"], &rows);
    Ok(())
}
