//! The benchmarks: `cargo xtask bench` writes their page, and a step shows that they build and run.

use crate::features::all;
use crate::tools;
use crate::workspace::{Result, Workspace, output, run};

/// Measures everything and writes `docs/performance.md`.
pub(crate) fn write(workspace: &Workspace) -> Result {
    run(workspace.cargo(&["build", "--release"]).args(BINARIES).args(all(workspace)))?;
    let page = measure(workspace, "release", &[])?;
    std::fs::write(workspace.root().join(PAGE), page)
        .map_err(|error| format!("{PAGE} cannot be written: {error}"))
}

/// Runs each benchmark once, with numbers too small to mean anything.
pub(crate) fn once(workspace: &Workspace) -> Result {
    run(workspace.cargo(&["build", "--quiet"]).args(BINARIES).args(all(workspace)))?;
    let page = measure(workspace, "debug", &["--once"])?;
    println!("      {} lines of figures", page.lines().filter(|line| line.starts_with('|')).count());
    Ok(())
}

fn measure(workspace: &Workspace, profile: &str, options: &[&str]) -> Result<String> {
    let binary =
        |name: &str| workspace.target(profile).join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    let mut bench = workspace.program(binary("bench"), options);
    bench.env("DPS_EMULATOR_PROGRAM", binary("azure-dps-emulator"));
    bench.env("DPS_INTEROP_NODE", tools::node_clients(workspace)?);
    bench.env("DPS_INTEROP_PYTHON", tools::python_clients(workspace)?);
    output(&mut bench)
}

/// With all features of the workspace, so that nothing is compiled a second time.
const BINARIES: [&str; 7] =
    ["--workspace", "--bin", "bench", "--bin", "bench-client", "--bin", "azure-dps-emulator"];
const PAGE: &str = "docs/performance.md";
