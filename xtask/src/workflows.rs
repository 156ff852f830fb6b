//! The files in `.github`: GitHub can read them, and no attacker gets anything through them.

use crate::tools;
use crate::workspace::{Result, Workspace, run};

/// Checks the workflows and their scripts with actionlint and shellcheck, and everything with zizmor.
pub(crate) fn check(workspace: &Workspace) -> Result {
    let tool = |name| tools::python_tool(workspace, name);
    let mut actionlint = workspace.program(tool("actionlint")?, &["-oneline", "-pyflakes=", "-shellcheck"]);
    run(actionlint.arg(tool("shellcheck")?))?;
    run(&mut workspace.program(tool("zizmor")?, &["--offline", "--quiet", "--no-progress", ".github"]))
}
