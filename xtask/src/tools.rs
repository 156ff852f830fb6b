//! What the steps need beyond cargo, and how it gets onto the machine.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::workspace::{Result, Workspace, line, output, probe, run};

/// Makes sure that a component of the Rust toolchain is there.
pub(crate) fn component(workspace: &Workspace, name: &str) -> Result {
    let subcommand = name.strip_prefix("rust").unwrap_or(name);
    if probe(&mut workspace.cargo(&[subcommand, "--version"])).is_some() {
        return Ok(());
    }
    run(&mut workspace.program("rustup", &["component", "add", name]))
        .map_err(|failure| format!("cargo {subcommand} is missing, and {failure}"))
}

/// A cargo-deny of the version that deny.toml is written for: from the PATH, or built once under target/tools.
pub(crate) fn cargo_deny(workspace: &Workspace) -> Result<PathBuf> {
    let tools = workspace.target("tools");
    let own = tools.join("bin/cargo-deny");
    let fits = |program: &Path| {
        let version = probe(&mut workspace.program(program, &["--version"]));
        version.is_some_and(|version| version.trim() == format!("cargo-deny {CARGO_DENY}"))
    };
    if let Some(found) = [Path::new("cargo-deny"), &own].into_iter().find(|program| fits(program)) {
        return Ok(found.to_owned());
    }
    let package = format!("cargo-deny@{CARGO_DENY}");
    run(workspace.cargo(&["install", "--locked", "--debug", &package, "--root"]).arg(&tools))?;
    Ok(own)
}

/// Installs the official Node clients under target/ unless the lock file that was installed is the one of today.
pub(crate) fn node_clients(workspace: &Workspace) -> Result<PathBuf> {
    let source = workspace.root().join("tests/interop/node");
    let folder = workspace.target("interop/node");
    let done = folder.join("installed-package-lock.json");
    let lock =
        std::fs::read(source.join("package-lock.json")).map_err(|error| format!("no lock file: {error}"))?;
    node(workspace)?;
    if std::fs::read(&done).is_ok_and(|installed| installed == lock) {
        return Ok(folder);
    }
    let place = || -> std::io::Result<()> {
        std::fs::create_dir_all(&folder)?;
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(file), folder.join(file))?;
        }
        Ok(())
    };
    place().map_err(|error| format!("{} cannot be written: {error}", folder.display()))?;
    let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
    run(workspace.program("npm", &arguments).current_dir(&folder))?;
    // Written last: an installation that broke off is made again.
    std::fs::write(&done, lock).map_err(|error| format!("{} cannot be written: {error}", done.display()))?;
    Ok(folder)
}

fn node(workspace: &Workspace) -> Result {
    let there = |program: &str| probe(&mut workspace.program(program, &["--version"])).is_some();
    if there("node") && there("npm") {
        return Ok(());
    }
    let root = probe(&mut workspace.program("id", &["-u"])).is_some_and(|user| user.trim() == "0");
    if !root || !there("apt-get") {
        return Err(
            "Node.js and npm are missing: install them, on Debian with `apt-get install nodejs npm`".into()
        );
    }
    let apt = |arguments: &[&str]| {
        let mut command = workspace.program("apt-get", arguments);
        quiet(command.env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update"])?;
    apt(&["install", "--yes", "--no-install-recommends", "ca-certificates", "nodejs", "npm"])
}

/// Runs a talkative command; its output is shown only when it fails.
fn quiet(command: &mut Command) -> Result {
    output(command).map(drop).map_err(|failure| format!("{failure}; run `{}` to see why", line(command)))
}

const CARGO_DENY: &str = "0.20.2";
