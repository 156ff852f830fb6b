//! Instructions of a registration, counted by callgrind where valgrind is installed.

use std::process::Command;

use crate::job::{Job, Transport, Work};
use crate::report::Page;
use crate::subject::sdk;
use crate::{Bench, Outcome};

pub(crate) fn count(bench: &Bench, page: &mut Page) -> Outcome<()> {
    page.heading(2, "Instructions of each further registration");
    if Command::new("valgrind").arg("--version").output().is_err() {
        page.paragraph("Not counted: valgrind is not installed.");
        return Ok(());
    }
    page.paragraph("On the current-thread runtime, counted by callgrind.");
    let mut rows = Vec::new();
    let works = Transport::ALL.map(|transport| (transport.name().to_owned(), Work::Register(transport)));
    let bare = [("hand-written HTTPS", Work::BareHttps), ("hand-written MQTT", Work::BareMqtt)];
    let works = works.into_iter().chain(bare.map(|(name, work)| (name.to_owned(), work)));
    for (name, work) in works.take(bench.scale.counted) {
        let further = bench.scale.steady.min(10);
        let (few, many) = (collected(bench, work, 1)?, collected(bench, work, 1 + further)?);
        let each = many.saturating_sub(few) / u64::from(further) / 1000;
        rows.push([name, each.to_string(), (few / 1000).to_string()]);
    }
    page.table(["registration", "each further, thousands", "process with one, thousands"], &rows);
    Ok(())
}

fn collected(bench: &Bench, work: Work, count: u32) -> Outcome<u64> {
    let job = Job { current_thread: true, ..bench.run(count, 1).job(work) };
    let client = sdk(&job)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    let output = valgrind.arg(client.get_program()).args(client.get_args()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let counted = said.lines().find_map(|line| line.split_once("Collected : "));
    let (_, counted) = counted.filter(|_| output.status.success()).ok_or_else(|| said.to_string())?;
    Ok(counted.trim().parse()?)
}
