//! The fault matrix, which a step runs, and the soak, which is run by hand: both have a section of
//! `docs/reliability.md`.

use std::fs;
use std::path::PathBuf;

use crate::features::all;
use crate::workspace::{Result, Workspace, run};

/// Runs the matrix, and compares its rows with those of the page. The figures differ from run to run: they depend
/// on how the messages of a goodbye meet.
pub(crate) fn check(workspace: &Workspace) -> Result {
    let figures = matrix(workspace)?;
    let page = read(&workspace.root().join(PAGE))?;
    let is_whole = std::env::var_os("DPS_MATRIX_ONLY").is_none();
    if is_whole && rows(&figures) != rows(section(&page, MATRIX)) {
        return Err(format!("{PAGE} has other rows than ran; `cargo xtask reliability` writes it again"));
    }
    Ok(())
}

/// Runs the matrix and writes its section.
pub(crate) fn write(workspace: &Workspace) -> Result {
    let figures = matrix(workspace)?;
    replace(workspace, MATRIX, &format!("{RULES}{figures}"))
}

/// Runs the soak for some minutes and writes its section, also when its figures were not flat.
pub(crate) fn soak(workspace: &Workspace, minutes: u32) -> Result {
    let select = ["build", "--quiet", "--workspace", "--bin", "bench", "--bin", "azure-dps-emulator"];
    run(workspace.cargo(&select).args(all(workspace)))?;
    let binary =
        |name: &str| workspace.target("debug").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let figures = workspace.target("soak.md");
    let cannot = |error| format!("{} cannot be written: {error}", figures.display());
    let mut soak = workspace.program(binary("bench"), &["--soak", &minutes.to_string()]);
    soak.env("DPS_EMULATOR_PROGRAM", binary("azure-dps-emulator"));
    let outcome = run(soak.stdout(fs::File::create(&figures).map_err(cannot)?));
    let text = read(&figures)?;
    if !text.is_empty() {
        replace(workspace, SOAK, &text)?;
    }
    outcome
}

/// Runs the matrix and returns its figures.
fn matrix(workspace: &Workspace) -> Result<String> {
    let figures = workspace.target("reliability.md");
    let mut test = workspace.cargo(&["test", "--workspace", "--test", "matrix"]);
    test.args(all(workspace)).args(["--", "--ignored", "--nocapture"]);
    run(test.env("DPS_RELIABILITY", &figures))?;
    read(&figures)
}

/// Writes a section of the page and leaves the others as they are.
fn replace(workspace: &Workspace, heading: &str, text: &str) -> Result {
    let path = workspace.root().join(PAGE);
    let page = fs::read_to_string(&path).unwrap_or_default();
    fs::write(path, with(&page, heading, text)).map_err(|error| format!("{PAGE} cannot be written: {error}"))
}

/// The page with another section of this heading.
fn with(page: &str, heading: &str, text: &str) -> String {
    let text_of = |of: &str| if of == heading { text } else { section(page, of) }.trim().to_owned();
    let sections = [MATRIX, SOAK].map(|of| (of, text_of(of)));
    let written = sections.iter().filter(|(_, text)| !text.is_empty());
    written.fold(HEAD.to_owned(), |page, (of, text)| format!("{page}\n## {of}\n\n{text}\n"))
}

/// The text below a heading; empty if the page does not have it.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let below = page.split_once(&format!("\n## {heading}\n")).map_or("", |(_, below)| below);
    below.split("\n## ").next().unwrap_or_default()
}

/// The first cells of all tables.
fn rows(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()).collect()
}

fn read(path: &PathBuf) -> Result<String> {
    fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

const PAGE: &str = "docs/reliability.md";
const MATRIX: &str = "One fault anywhere";
const SOAK: &str = "A mixed load for minutes";
const HEAD: &str = "# Reliability\n";
const RULES: &str = "\
`cargo xtask reliability` wrote this section, and the step `matrix` of `cargo xtask test` runs the same cases. A
relay between the SDK and the emulator harms one TLS record or one message of a registration or a service call,
or of a second call on the same connection. It does so on the first connection that gets there, or on every
connection. Runs without a fault find the units: each place, in both directions, gets each harm.

A cell has the successful and all cases, then the kinds of the errors. A fault that happens once, and a delay,
must end in success. After other faults on every connection, `Connect`, `Io` and `Timeout` are right. Each case
must end by its deadline, leave one record, and let a second call of the same client succeed. Each case must get
to its fault, except at the last three units and at those that not every run without a fault sent: the
messages of a goodbye are not always sent, and two messages can share a record. Rows show the range.

";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_section_is_written_without_the_other() {
        let page = with("", SOAK, "flat");
        let page = with(&page, MATRIX, "| a | 1 |\n");
        let page = with(&page, SOAK, "flat again\n");

        assert_eq!(page, format!("# Reliability\n\n## {MATRIX}\n\n| a | 1 |\n\n## {SOAK}\n\nflat again\n"));
        assert_eq!(section(&page, MATRIX).trim(), "| a | 1 |");
    }

    #[test]
    fn rows_are_compared_by_their_titles() {
        assert_eq!(rows("text\n| a | 1 |\n| --- | --- |\n"), ["a", "---"]);
    }
}
