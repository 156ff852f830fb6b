//! Checks the files in `.github`: GitHub can read them, and the workflows reveal no secret.

use crate::tools;
use crate::workspace::{Result, Workspace, probe, run};

/// Checks the workflows and their scripts with actionlint and shellcheck, and everything with zizmor.
pub(crate) fn check(workspace: &Workspace) -> Result {
    let tool = |name| tools::check_tool(workspace, name);
    let mut actionlint = workspace.program(tool("actionlint")?, &["-oneline", "-pyflakes=", "-shellcheck"]);
    let shellcheck = tool("shellcheck")?;
    if probe(&mut workspace.program(&shellcheck, &["--version"])).is_some() {
        actionlint.arg(shellcheck);
    } else {
        println!("      the scripts in workflows are not checked: shellcheck is not on PyPI for this system");
        actionlint.arg("");
    }
    run(&mut actionlint)?;
    run(&mut workspace.program(tool("zizmor")?, &["--offline", "--quiet", "--no-progress", ".github"]))
}
