//! The messages that the guides quote are those of the sources. A guide quotes a message as a cell of a table,
//! `| "no TPM answers at …" |`, in which `…` and numbers stand for what varies.
#![allow(clippy::unwrap_used)] // Test code.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const CRATES: [&str; 4] = ["azure-dps-core", "azure-dps-device", "azure-dps-emulator", "azure-dps-service"];

#[test]
fn every_quoted_message_is_in_the_sources() {
    let sources: Vec<String> = CRATES
        .iter()
        .flat_map(|name| files(&format!("{name}/src"), "rs"))
        .map(|file| joined(&file))
        .collect();
    let is_known = |part: &str| sources.iter().any(|source| source.contains(part));
    let folders = CRATES.iter().map(|name| format!("{name}/docs")).chain(["docs".to_owned()]);
    let (mut quoted, mut foreign) = (0, Vec::new());
    for file in folders.flat_map(|folder| files(&folder, "md")) {
        for message in quotes(&fs::read_to_string(&file).unwrap()) {
            quoted += 1;
            if let Some(part) = parts(&message).into_iter().find(|part| !is_known(part)) {
                foreign.push(format!("{}: \"{message}\": no source has {part:?}", file.display()));
            }
        }
    }
    assert!(quoted > 10, "only {quoted} quotes were found: how the guides quote messages has changed");
    assert!(foreign.is_empty(), "{}", foreign.join("\n"));
}

/// The cells of tables that are one quoted text.
fn quotes(guide: &str) -> Vec<String> {
    let cells = guide.lines().filter(|line| line.starts_with('|')).flat_map(|row| row.split('|'));
    let quoted = cells.filter_map(|cell| cell.trim().strip_prefix('"')?.strip_suffix('"'));
    quoted.map(str::to_owned).collect()
}

/// The parts of a message that a source has literally. A message that ends with advice joins two texts by a
/// colon; parts of a few characters prove nothing.
fn parts(message: &str) -> Vec<&str> {
    let varies = |c: char| c == '…' || c == ':' || c.is_ascii_digit();
    let parts = message.split(varies).map(|part| part.trim_matches([' ', '(', ')', '.', ',']));
    parts.filter(|part| part.len() >= 6).collect()
}

/// A source whose texts over several lines are joined, as the compiler does.
fn joined(file: &Path) -> String {
    let source = fs::read_to_string(file).unwrap();
    let mut lines = source.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |joined, line| joined + line.trim_start())
}

/// The files with this extension below a folder, if it exists.
fn files(folder: &str, extension: &str) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![Path::new(ROOT).join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found
}
