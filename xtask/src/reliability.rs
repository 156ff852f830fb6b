//! The fault matrix, run by hand: `cargo xtask reliability` runs it and writes its page.

use crate::features::all;
use crate::workspace::{Result, Workspace, run};

/// Runs the matrix and writes its figures to `docs/reliability.md`.
pub(crate) fn write(workspace: &Workspace) -> Result {
    let figures = workspace.target("reliability.md");
    let mut test = workspace.cargo(&["test", "--workspace", "--test", "matrix"]);
    test.args(all(workspace)).args(["--", "--ignored", "--nocapture"]);
    run(test.env("DPS_RELIABILITY", &figures))?;
    let figures = std::fs::read_to_string(&figures)
        .map_err(|error| format!("{} cannot be read: {error}", figures.display()))?;
    std::fs::write(workspace.root().join(PAGE), format!("{HEAD}{figures}"))
        .map_err(|error| format!("{PAGE} cannot be written: {error}"))
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
