//! Where and with what the figures were taken.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::report::Page;

pub(crate) fn describe(page: &mut Page) {
    page.paragraph(
        "`cargo xtask bench` wrote this page. All clients of a table ran against one emulator on the same machine, in \
         turns within one run. A figure is the median, with the smallest and the largest in brackets. CPU is user and \
         system time as the operating system counts it for the process of the client. Compare figures of one table \
         only: machines differ, and so do days.",
    );
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let mut rows = vec![
        ["date".into(), time::OffsetDateTime::now_utc().date().to_string()],
        ["processor".into(), format!("{cores} x {}", model.map_or("unknown", |(_, model)| model))],
        ["system".into(), said("uname", &["-sr"])],
        ["Rust".into(), said("rustc", &["--version"])],
        ["Node.js".into(), said("node", &["--version"])],
        ["Python".into(), said("python3", &["--version"])],
    ];
    rows.extend(official());
    page.table(["", ""], &rows);
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.ok().filter(|output| output.status.success());
    text.map_or("not there".to_owned(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The official clients, with the versions that are pinned.
fn official() -> Vec<[String; 2]> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/official_clients");
    let pinned = fs::read_to_string(here.join("node/package.json")).unwrap_or_default();
    let pinned: serde_json::Value = serde_json::from_str(&pinned).unwrap_or_default();
    let node = pinned.get("dependencies").and_then(|all| all.as_object()).into_iter().flatten();
    let node = node.map(|(name, version)| [name.clone(), version.as_str().unwrap_or_default().to_owned()]);
    let python = fs::read_to_string(here.join("python/requirements.txt")).unwrap_or_default();
    let python =
        python.lines().filter_map(|line| line.split_once("==")).filter(|(name, _)| name.starts_with("azure"));
    let python = python.map(|(name, version)| [name.to_owned(), version.to_owned()]);
    node.chain(python)
        .filter(|[name, _]| name.contains("provisioning") || name == "azure-iot-device")
        .collect()
}
