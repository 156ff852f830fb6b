//! Node.js and npm: those of the machine, or a newer Node.js below target/. And the packages that they run.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CLIENTS, debian, install};
use crate::workspace::{Result, Workspace, probe, run};

/// Makes Node.js and npm available to all further commands.
///
/// As root on Debian, this installs them if they are missing. If Node.js is older than the official clients and
/// the driver of the browser need, a newer one is installed below target/, on Linux.
pub(crate) fn node(workspace: &Workspace) -> Result {
    if workspace.has_preferred() {
        return Ok(());
    }
    let programs: [&[&str]; 2] = [&["node", "--version"], &[NPM, "--version"]];
    debian(workspace, "Node.js or npm", &programs, &["nodejs", "npm"])?;
    if is_new_enough(&version(workspace)) {
        return Ok(());
    }
    let needed =
        format!("Node.js {OLDEST} or newer is needed: install it, see https://nodejs.org/en/download");
    let source = workspace.root().join("xtask/nodejs");
    let folder = packages(workspace, &source, workspace.target("tools/nodejs"))
        .map_err(|failure| format!("{needed} ({failure})"))?;
    workspace.prefer(folder.join("node_modules/.bin"));
    let found = version(workspace);
    if is_new_enough(&found) {
        return Ok(());
    }
    Err(format!("{needed} (`node --version` prints {})", found.trim()))
}

/// Installs the official Node clients below target/, unless their lock file has not changed since.
pub(crate) fn node_clients(workspace: &Workspace) -> Result<PathBuf> {
    node(workspace)?;
    packages(workspace, &workspace.root().join(CLIENTS).join("node"), workspace.target("interop/node"))
}

/// A script of the packages that xtask/node lists, for Node.js.
pub(crate) fn node_tool(workspace: &Workspace, script: &str) -> Result<PathBuf> {
    node(workspace)?;
    let folder = packages(workspace, &workspace.root().join("xtask/node"), workspace.target("tools/node"))?;
    Ok(folder.join("node_modules").join(script))
}

/// Installs the npm packages that a folder lists, unless the list has not changed since. No package runs a script
/// meanwhile, so that none downloads anything itself.
pub(super) fn packages(workspace: &Workspace, source: &Path, folder: PathBuf) -> Result<PathBuf> {
    install(&source.join("package-lock.json"), folder, |folder| {
        for file in ["package.json", "package-lock.json"] {
            std::fs::copy(source.join(file), folder.join(file))
                .map_err(|error| format!("{} cannot be written: {error}", folder.display()))?;
        }
        let arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"];
        run(npm(workspace, &arguments).current_dir(folder))
    })
}

/// npm on the Node.js of the machine. Debian's npm has its libraries where only Debian's Node.js finds them.
pub(crate) fn npm(workspace: &Workspace, arguments: &[&str]) -> Command {
    workspace.own_program(NPM, arguments)
}

/// What `node --version` prints.
fn version(workspace: &Workspace) -> String {
    probe(&mut workspace.program("node", &["--version"])).unwrap_or_default()
}

/// Whether a version such as `v20.20.2` is new enough.
fn is_new_enough(version: &str) -> bool {
    let major = version.trim().trim_start_matches('v').split('.').next();
    major.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= OLDEST)
}

/// npm, which is a script on Windows.
const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };
/// The oldest Node.js for which the pinned packages are made. Debian 12 has an older one.
const OLDEST: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_new_enough_by_its_first_number() {
        for new in ["v20.0.0", "v20.20.2\n", "v22.23.3", "v100.1.0"] {
            assert!(is_new_enough(new), "{new}");
        }
        for old in ["v18.20.4\n", "v9.0.0", "", "v", "version 22"] {
            assert!(!is_new_enough(old), "{old}");
        }
    }

    #[test]
    fn no_pinned_package_needs_a_newer_node() {
        for list in ["tests/official_clients/node", "tests/browser", "xtask/node"] {
            let lock = format!("{}/../{list}/package-lock.json", env!("CARGO_MANIFEST_DIR"));
            let lock: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(lock).unwrap()).unwrap();
            for (name, package) in lock["packages"].as_object().unwrap() {
                let Some(oldest) =
                    package["engines"]["node"].as_str().and_then(|range| range.strip_prefix(">="))
                else {
                    continue;
                };
                let oldest = oldest.trim().split('.').next().unwrap().parse::<u32>().unwrap();
                assert!(oldest <= OLDEST, "{list}: {name} needs Node.js {oldest}");
            }
        }
    }
}
