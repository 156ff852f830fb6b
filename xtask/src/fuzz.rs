//! `cargo xtask fuzz`: runs the targets in `fuzz/`, or one input again. Corpus and findings stay in
//! `target/fuzz`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::tools;
use crate::workspace::{Result, Workspace, run as run_command};

/// The targets to run, and the time for each.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan<'w> {
    only: Option<&'w str>,
    seconds: u32,
}

impl<'w> Plan<'w> {
    /// Reads the options. By default, every target runs for 30 seconds.
    pub(crate) fn read(words: &[&'w str]) -> Option<Self> {
        let mut plan = Plan { only: None, seconds: 30 };
        for option in words.chunks(2) {
            match option {
                ["--seconds", seconds] => {
                    plan.seconds = seconds.parse().ok().filter(|seconds| *seconds > 0)?
                }
                ["--only", target] => plan.only = Some(target),
                _ => return None,
            }
        }
        Some(plan)
    }
}

/// Runs the targets one after another, also after a target that finds something.
pub(crate) fn run(workspace: &Workspace, plan: &Plan<'_>) -> Result {
    let cargo_fuzz = prepare(workspace)?;
    let targets = match plan.only {
        Some(target) => vec![known(workspace, target)?],
        None => targets(workspace)?,
    };
    let mut failures = String::new();
    for (number, target) in targets.iter().enumerate() {
        println!("[{}/{}] {target}: {} s", number + 1, targets.len(), plan.seconds);
        let (corpus, artifacts) =
            (folder(workspace, "corpus", target)?, folder(workspace, "artifacts", target)?);
        let before = files(&artifacts)?;
        let mut fuzz = command(workspace, &cargo_fuzz, target);
        fuzz.args([&corpus, &workspace.root().join("fuzz/seeds").join(target)])
            .args(["--", "-print_final_stats=1"]);
        fuzz.arg(format!("-max_total_time={}", plan.seconds));
        fuzz.arg(format!("-artifact_prefix={}/", artifacts.display())).args(LIMITS);
        if let Err(failure) = run_command(&mut fuzz) {
            failures += &format!("\n{target}: {failure}\n");
            for artifact in files(&artifacts)?.iter().filter(|artifact| !before.contains(artifact)) {
                let path = artifact.strip_prefix(workspace.root()).unwrap_or(artifact);
                failures += &format!("  again: cargo xtask fuzz --again {target} {}\n", path.display());
            }
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(format!("fuzzing found something\n{failures}")) }
}

/// Runs a target once, on the input in a file.
pub(crate) fn again(workspace: &Workspace, target: &str, input: &str) -> Result {
    let cargo_fuzz = prepare(workspace)?;
    let target = known(workspace, target)?;
    run_command(command(workspace, &cargo_fuzz, &target).args([input, "--"]).args(LIMITS))
}

fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    fetch(workspace)?;
    tools::cargo_fuzz(workspace)
}

/// Fetches the dependencies in the targets' lock file.
pub(crate) fn fetch(workspace: &Workspace) -> Result {
    run_command(&mut workspace.cargo(&["fetch", "--quiet", "--locked", "--manifest-path", "fuzz/Cargo.toml"]))
}

fn command(workspace: &Workspace, cargo_fuzz: &Path, target: &str) -> Command {
    let mut command = workspace.program(cargo_fuzz, &["run", "--fuzz-dir", "fuzz", "--target-dir"]);
    // Sanitizers are a nightly feature. This variable enables it in the stable compiler.
    command.arg(workspace.target("fuzz")).arg(target).env("RUSTC_BOOTSTRAP", "1");
    command
}

/// The names of the targets, which are those of the folders with seeds.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folders = files(&workspace.root().join("fuzz/seeds"))?;
    Ok(folders.iter().filter_map(|folder| Some(folder.file_name()?.to_str()?.to_owned())).collect())
}

fn known(workspace: &Workspace, target: &str) -> Result<String> {
    let targets = targets(workspace)?;
    let known = targets.iter().find(|known| *known == target).cloned();
    known.ok_or_else(|| format!("unknown target `{target}`; the targets are {}", targets.join(", ")))
}

fn folder(workspace: &Workspace, kind: &str, target: &str) -> Result<PathBuf> {
    let folder = workspace.target("fuzz").join(kind).join(target);
    fs::create_dir_all(&folder)
        .map_err(|error| format!("{} cannot be created: {error}", folder.display()))?;
    Ok(folder)
}

/// The entries of a folder, sorted by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |error| format!("{} cannot be read: {error}", folder.display());
    let entries = fs::read_dir(folder).map_err(unreadable)?;
    let mut files = entries.map(|entry| Ok(entry.map_err(unreadable)?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// An input that takes longer, in seconds, or allocates more at once, in MiB, is a finding.
const LIMITS: [&str; 3] = ["-timeout=10", "-malloc_limit_mb=8", "-rss_limit_mb=2048"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_runs_half_a_minute_by_default() {
        assert_eq!(Plan::read(&[]), Some(Plan { only: None, seconds: 30 }));
        let read = Plan::read(&["--only", "sasl", "--seconds", "180"]);
        assert_eq!(read, Some(Plan { only: Some("sasl"), seconds: 180 }));
        // libFuzzer takes 0 as "no limit".
        for wrong in [&["--seconds"][..], &["--seconds", "0"], &["--seconds", "soon"], &["sasl"]] {
            assert_eq!(Plan::read(wrong), None, "{wrong:?}");
        }
    }
}
