//! The packages as crates.io and docs.rs get them: a rehearsal of the upload, the licence texts, and the
//! documentation from the packages alone, with the features that each item needs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::docs::{self, BASE};
use crate::features::all;
use crate::workspace::{Result, Workspace, line, run};

/// Rehearses the upload of the published crates, and builds their documentation from the packages.
pub(crate) fn check(workspace: &Workspace) -> Result {
    rehearse(workspace)?;
    let folder = unpack(workspace)?;
    for (name, version) in workspace.published() {
        has_licences(workspace, &folder.join(format!("{name}-{version}")))?;
    }
    document(workspace, &folder)?;
    docs::follow(workspace)
}

/// Runs `cargo publish` up to the upload. It does not compile the packages: that would build every dependency
/// anew, and the documentation compiles them too.
fn rehearse(workspace: &Workspace) -> Result {
    let packages = workspace.target("package");
    if packages.exists() {
        fs::remove_dir_all(&packages).map_err(|error| unwritable(&packages, error))?;
    }
    let mut publish =
        workspace.cargo(&["publish", "--workspace", "--dry-run", "--no-verify", "--allow-dirty"]);
    let output =
        publish.output().map_err(|error| format!("`{}` cannot be started: {error}", line(&publish)))?;
    let report = String::from_utf8_lossy(&output.stderr);
    let warnings = unexpected(&report);
    if output.status.success() && warnings.is_empty() {
        return Ok(());
    }
    eprint!("{report}");
    Err(format!("`{}` ended with {} and {} warnings", line(&publish), output.status, warnings.len()))
}

/// The warnings other than the one that ends each rehearsal.
fn unexpected(report: &str) -> Vec<&str> {
    let is_unexpected = |line: &&str| line.starts_with("warning") && !line.contains("due to dry run");
    report.lines().filter(is_unexpected).collect()
}

/// Unpacks the packages into one workspace, in which each depends on the other packages.
fn unpack(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target("packed");
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(|error| unwritable(&folder, error))?;
    }
    fs::create_dir_all(&folder).map_err(|error| unwritable(&folder, error))?;
    let mut manifest =
        String::from("[workspace]\nresolver = \"3\"\nmembers = [\"*-*\"]\n\n[patch.crates-io]\n");
    for (name, version) in workspace.published() {
        manifest += &format!("{name} = {{ path = \"{name}-{version}\" }}\n");
        let file = package(workspace, &format!("{name}-{version}.crate"))?;
        // Files in packages have one fixed time. With it cargo would not notice that they changed.
        let mut unpack = workspace.program("tar", &["--extract", "--touch", "--gzip", "--file"]);
        run(unpack.arg(file).arg("--directory").arg(&folder))?;
    }
    let lock = fs::read(workspace.root().join("Cargo.lock"));
    lock.and_then(|lock| fs::write(folder.join("Cargo.lock"), lock))
        .and_then(|()| fs::write(folder.join("Cargo.toml"), manifest))
        .map_err(|error| unwritable(&folder, error))?;
    Ok(folder)
}

/// The file of a package, in the folder where `cargo publish` or `cargo package` leaves it.
fn package(workspace: &Workspace, file: &str) -> Result<PathBuf> {
    let places = ["package/tmp-crate", "package"].map(|folder| workspace.target(folder).join(file));
    places.into_iter().find(|place| place.exists()).ok_or_else(|| format!("cargo left no file {file}"))
}

/// Compares the licence texts in a package with those at the root, where the files of the crates link to.
fn has_licences(workspace: &Workspace, package: &Path) -> Result {
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let text = fs::read(workspace.root().join(name)).map_err(|error| format!("{name}: {error}"))?;
        if fs::read(package.join(name)).ok() != Some(text) {
            return Err(format!("{} does not contain the text of {name}", package.display()));
        }
    }
    Ok(())
}

/// Builds the documentation as docs.rs does: all features, and a label on each item that needs one.
fn document(workspace: &Workspace, folder: &Path) -> Result {
    let rustdoc = nightly_rustdoc(folder)?;
    let flags = if rustdoc.is_some() { "-Dwarnings --cfg docsrs" } else { "-Dwarnings" };
    // Rustdoc links to the pages of another crate only if they exist.
    for select in [&["--package", BASE][..], &["--workspace", "--exclude", BASE]] {
        // In the target folder of the workspace, which already has most of the dependencies.
        let mut doc = workspace.cargo(&["doc", "--no-deps", "--quiet", "--offline"]);
        doc.args(select).args(all(workspace)).current_dir(folder);
        doc.env("RUSTDOCFLAGS", flags).env("CARGO_TARGET_DIR", workspace.target(""));
        doc.envs(rustdoc.as_ref().map(|program| ("RUSTDOC", program)));
        run(&mut doc)?;
    }
    let page = workspace.target("doc").join("azure_dps_core/struct.Endpoint.html");
    let labelled = fs::read_to_string(&page).is_ok_and(|page| page.contains("portability"));
    if rustdoc.is_some() && !labelled {
        return Err(format!("{} does not name the feature that it needs", page.display()));
    }
    Ok(())
}

/// A program that runs rustdoc with the unstable features of a nightly one, which docs.rs uses. The variable is
/// set for rustdoc alone: build scripts of dependencies watch it and would run again.
#[cfg(unix)]
fn nightly_rustdoc(folder: &Path) -> Result<Option<PathBuf>> {
    use std::os::unix::fs::PermissionsExt as _;

    let program = folder.join("nightly-rustdoc");
    fs::write(&program, "#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc \"$@\"\n")
        .and_then(|()| fs::set_permissions(&program, fs::Permissions::from_mode(0o755)))
        .map_err(|error| unwritable(&program, error))?;
    Ok(Some(program))
}

#[cfg(not(unix))]
fn nightly_rustdoc(_: &Path) -> Result<Option<PathBuf>> {
    println!("      without the labels of features, which need a shell script here");
    Ok(None)
}

fn unwritable(path: &Path, error: std::io::Error) -> String {
    format!("{} cannot be written: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_rehearsal_is_not_a_warning_and_everything_else_is() {
        let missing = "warning: manifest has no documentation, homepage or repository";
        let report =
            format!("   Packaging a v0.1.0\n{missing}\n  |\nwarning: aborting upload due to dry run\n");
        assert_eq!(unexpected(&report), [missing]);
    }
}
