//! The documentation and the site build without warnings and have no dead links.

mod links;
mod site;

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

/// Follows the links on the pages of the published crates.
pub(crate) fn follow(workspace: &Workspace) -> Result {
    for (name, _) in workspace.published() {
        let start = format!("{}/index.html", name.replace('-', "_"));
        let count = links::follow(&workspace.target("doc"), &start)?;
        println!("      {name}: {count} pages without a dead link");
    }
    Ok(())
}

/// The crate that the other crates of the family link to; `cargo metadata` names it before them.
pub(crate) const BASE: &str = "azure-dps-core";
