//! The fault matrix: a step runs it, and `cargo xtask reliability` writes its page too.

use std::process::Command;

use crate::features::all;
use crate::workspace::{Result, Workspace, run};

/// Runs the matrix.
pub(crate) fn check(workspace: &Workspace) -> Result {
    run(&mut matrix(workspace))
}

/// Runs the matrix and writes its figures to `docs/reliability.md`.
pub(crate) fn write(workspace: &Workspace) -> Result {
    let figures = workspace.target("reliability.md");
    run(matrix(workspace).env("DPS_RELIABILITY", &figures))?;
    let figures = std::fs::read_to_string(&figures)
        .map_err(|error| format!("{} cannot be read: {error}", figures.display()))?;
    std::fs::write(workspace.root().join(PAGE), format!("{HEAD}{figures}"))
        .map_err(|error| format!("{PAGE} cannot be written: {error}"))
}

fn matrix(workspace: &Workspace) -> Command {
    let mut test = workspace.cargo(&["test", "--workspace", "--test", "matrix"]);
    test.args(all(workspace)).args(["--", "--ignored", "--nocapture"]);
    test
}

const PAGE: &str = "docs/reliability.md";
const HEAD: &str = "\
# Reliability

`cargo xtask reliability` writes this page. A relay between the SDK and the emulator harms one TLS record or one
message of a registration or a service call, and of a second one. It does so on the first connection that gets
there, or on every connection. A run without a fault finds the units.

A cell has the successful and all cases, then the kinds of the errors. A fault that happens once, and a delay, must
end in success. After other faults on every connection, `Connect`, `Io` and `Timeout` are right. Each case must
end by its deadline, leave one record, and let a second call of the same client succeed.

";
