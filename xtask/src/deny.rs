//! The rules in deny.toml for dependencies: those that hold without a network, and the list of advisories.

use std::path::Path;
use std::process::Command;

use crate::tools;
use crate::workspace::{Result, Workspace, run};

/// Licences, sources and bans of all dependencies.
pub(crate) fn check(workspace: &Workspace) -> Result {
    let program = tools::cargo_deny(workspace)?;
    run(&mut workspace.cargo(&["fetch", "--quiet"]))?;
    run(cargo_deny(workspace, &program, "Cargo.toml").arg("--offline").args(CHECK).args(RULES))
}

/// The same, and that no dependency has a security advisory, also of the fuzz targets. Downloads the list of
/// advisories.
pub(crate) fn advisories(workspace: &Workspace) -> Result {
    let program = tools::cargo_deny(workspace)?;
    run(cargo_deny(workspace, &program, "Cargo.toml").args(CHECK).args(RULES).arg("advisories"))?;
    run(cargo_deny(workspace, &program, "fuzz/Cargo.toml").args(CHECK).arg("advisories"))
}

fn cargo_deny(workspace: &Workspace, program: &Path, manifest: &str) -> Command {
    workspace.program(program, &["--workspace", "--all-features", "--manifest-path", manifest])
}

const CHECK: [&str; 2] = ["check", "--hide-inclusion-graph"];
const RULES: [&str; 3] = ["bans", "licenses", "sources"];
