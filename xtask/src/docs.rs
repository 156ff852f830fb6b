//! The documentation builds without warnings and has no dead links, also from the packed crates; so does the
//! site.

mod links;
mod site;

use std::fs;

pub(crate) use self::site::build as site;
use crate::features::all;
use crate::workspace::{Result, Workspace, run};

/// Builds the documentation and follows its links.
pub(crate) fn check(workspace: &Workspace) -> Result {
    // Rustdoc links to the pages of another crate only if they exist, so those that the others link to come
    // first.
    let mut base = workspace.cargo(&["doc", "--no-deps", "--package", BASE, "--all-features"]);
    run(base.env("RUSTDOCFLAGS", "-Dwarnings"))?;
    let mut others = workspace.cargo(&["doc", "--no-deps", "--workspace", "--exclude", BASE]);
    run(others.args(all(workspace)).env("RUSTDOCFLAGS", "-Dwarnings"))?;
    follow(workspace)
}

/// Packs the published crates, and builds their documentation from the packages alone.
pub(crate) fn packed(workspace: &Workspace) -> Result {
    let folder = workspace.target("packed");
    let unwritable = |error| format!("{} cannot be written: {error}", folder.display());
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(unwritable)?;
    }
    fs::create_dir_all(&folder).map_err(unwritable)?;
    let mut package = workspace.cargo(&["package", "--quiet", "--no-verify", "--allow-dirty"]);
    let mut manifest =
        String::from("[workspace]\nresolver = \"3\"\nmembers = [\"*-*\"]\n\n[patch.crates-io]\n");
    for (name, version) in published(workspace) {
        package.args(["--package", name]);
        manifest += &format!("{name} = {{ path = \"{name}-{version}\" }}\n");
    }
    run(&mut package)?;
    for (name, version) in published(workspace) {
        let file = workspace.target("package").join(format!("{name}-{version}.crate"));
        let mut unpack = workspace.program("tar", &["--extract", "--gzip", "--file"]);
        run(unpack.arg(file).arg("--directory").arg(&folder))?;
    }
    let lock = fs::read(workspace.root().join("Cargo.lock"));
    lock.and_then(|lock| fs::write(folder.join("Cargo.lock"), lock)).map_err(unwritable)?;
    fs::write(folder.join("Cargo.toml"), manifest).map_err(unwritable)?;
    for (name, _) in published(workspace) {
        // In the target folder of the workspace, which already has most of the dependencies.
        let mut doc = workspace.cargo(&["doc", "--no-deps", "--quiet", "--offline", "--package", name]);
        if name == BASE {
            doc.arg("--all-features");
        }
        doc.current_dir(&folder)
            .env("RUSTDOCFLAGS", "-Dwarnings")
            .env("CARGO_TARGET_DIR", workspace.target(""));
        run(&mut doc)?;
    }
    follow(workspace)
}

fn follow(workspace: &Workspace) -> Result {
    for (name, _) in published(workspace) {
        let start = format!("{}/index.html", name.replace('-', "_"));
        let count = links::follow(&workspace.target("doc"), &start)?;
        println!("      {name}: {count} pages without a dead link");
    }
    Ok(())
}

fn published(workspace: &Workspace) -> impl Iterator<Item = (&str, &str)> {
    workspace
        .published()
        .filter_map(|package| Some((package["name"].as_str()?, package["version"].as_str()?)))
}

/// The crate that the other crates of the family link to; `cargo metadata` names it before them.
const BASE: &str = "azure-dps-core";
