//! Checks the files in `.github`: GitHub can read them, and the workflows reveal no secret. Checks the Dockerfile,
//! which a workflow builds.

use std::path::Path;

use crate::tools;
use crate::workspace::{Result, Workspace, probe, run};

/// Checks the workflows and their scripts with actionlint and shellcheck, everything in the folder with zizmor,
/// and the Dockerfile with hadolint.
pub(crate) fn check(workspace: &Workspace) -> Result {
    let tool = |name| tools::check_tool(workspace, name);
    let mut actionlint = workspace.program(tool("actionlint")?, &["-oneline", "-pyflakes=", "-shellcheck"]);
    let runs = |program: &Path| probe(&mut workspace.program(program, &["--version"])).is_some();
    let shellcheck = tool("shellcheck")?;
    if runs(&shellcheck) {
        actionlint.arg(shellcheck);
    } else {
        println!("      the scripts in workflows are not checked: shellcheck is not on PyPI for this system");
        actionlint.arg("");
    }
    run(&mut actionlint)?;
    run(&mut workspace.program(tool("zizmor")?, &["--offline", "--quiet", "--no-progress", ".github"]))?;
    let hadolint = tool("hadolint")?;
    if runs(&hadolint) {
        return run(&mut workspace.program(hadolint, &["Dockerfile"]));
    }
    println!("      the Dockerfile is not checked: hadolint is not on PyPI for this system");
    Ok(())
}
