//! The packages for npm: the launcher, and the program of one platform.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::notices;
use super::platform::{PLATFORMS, Platform, host};
use super::{LICENCES, NAME, NPM, PROGRAM, empty, executable, version};
use crate::tools;
use crate::workspace::{Result, Workspace, output};

/// Packs the launcher, and the program for this machine, into files in a folder.
pub(super) fn pack(workspace: &Workspace, program: &Path, into: &Path) -> Result<(PathBuf, PathBuf)> {
    tools::node(workspace)?;
    let version = version(workspace)?;
    let launcher = stage_launcher(workspace, &version)?;
    let platform = stage_program(workspace, &version, host()?, program)?;
    Ok((packed(workspace, &launcher, into)?, packed(workspace, &platform, into)?))
}

fn stage_launcher(workspace: &Workspace, version: &str) -> Result<PathBuf> {
    let source = workspace.root().join(NPM);
    let folder = stage(workspace, NAME)?;
    let text = fs::read(source.join("package.json"))
        .map_err(|error| format!("{NPM}/package.json cannot be read: {error}"))?;
    let mut package: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| format!("{NPM}/package.json: {error}"))?;
    for file in ["README.md", "bin.js", "index.d.ts", "index.js", "program.js"] {
        copy(&source.join(file), &folder.join(file))?;
    }
    // In one place only: the workspace has the version, and the table of platforms their names.
    let programs: Map<String, Value> =
        PLATFORMS.iter().map(|platform| (package_name(platform), json!(version))).collect();
    package.insert("version".to_owned(), json!(version));
    package.insert("optionalDependencies".to_owned(), Value::Object(programs));
    describe(&folder, &Value::Object(package))?;
    Ok(folder)
}

fn stage_program(
    workspace: &Workspace,
    version: &str,
    platform: &Platform,
    program: &Path,
) -> Result<PathBuf> {
    let name = package_name(platform);
    let folder = stage(workspace, &name)?;
    let bin = empty(&folder.join("bin"))?.join(PROGRAM);
    copy(program, &bin)?;
    executable(&bin)?;
    notices::write(workspace, &folder)?;
    let files = [&["bin"][..], &LICENCES, &notices::FILES].concat();
    let mut package = json!({
        "name": name,
        "version": version,
        "description": format!("The program of {NAME} for {}", platform.name),
        "license": "MIT OR Apache-2.0",
        "files": files,
        "os": [platform.os],
        "cpu": [platform.cpu],
        // For package managers that keep packages packed.
        "preferUnplugged": true,
    });
    if let (Some(package), Some(libc)) = (package.as_object_mut(), platform.libc) {
        package.insert("libc".to_owned(), json!([libc]));
    }
    describe(&folder, &package)?;
    let text = format!(
        "# {name}\n\nThe program of `{NAME}` for {}. Install `{NAME}`, which depends on this package.\n",
        platform.name
    );
    written(&folder.join("README.md"), &text)?;
    Ok(folder)
}

/// An empty folder for a package, with the licences.
fn stage(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let folder = empty(&workspace.target("packaging/npm").join(name))?;
    for licence in LICENCES {
        copy(&workspace.root().join(licence), &folder.join(licence))?;
    }
    Ok(folder)
}

/// Lets npm pack a package.
fn packed(workspace: &Workspace, package: &Path, into: &Path) -> Result<PathBuf> {
    let arguments = ["pack", "--silent", "--ignore-scripts", "--pack-destination"];
    let name = output(tools::npm(workspace, &arguments).arg(into).current_dir(package))?;
    Ok(into.join(name.trim()))
}

fn package_name(platform: &Platform) -> String {
    format!("{NAME}-{}", platform.name)
}

fn describe(folder: &Path, package: &Value) -> Result {
    written(&folder.join("package.json"), &format!("{package:#}\n"))
}

fn written(file: &Path, text: &str) -> Result {
    fs::write(file, text).map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

fn copy(from: &Path, to: &Path) -> Result {
    fs::copy(from, to).map(drop).map_err(|error| format!("{} cannot be copied: {error}", from.display()))
}
