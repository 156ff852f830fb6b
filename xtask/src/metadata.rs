//! What the published crates declare: licence, documentation, Rust version; and that no dependency needs a newer
//! Rust.

use serde_json::{Value, json};

use crate::workspace::{Result, Workspace, output};

/// Checks the manifests of the published crates and of all dependencies.
pub(crate) fn check(workspace: &Workspace) -> Result {
    let published: Vec<_> = workspace.published_packages().collect();
    if published.is_empty() {
        return Err("no crate is published".into());
    }
    for package in published {
        let name = package["name"].as_str().unwrap_or_default();
        let documentation = format!("https://docs.rs/{name}");
        for (field, wanted) in
            [("rust_version", RUST), ("license", "MIT OR Apache-2.0"), ("documentation", &documentation)]
        {
            if package[field] != wanted {
                return Err(format!("{name} has {field} {}, not {wanted}", package[field]));
            }
        }
        let wanted = json!({"all-features": true, "rustdoc-args": ["--cfg", "docsrs"]});
        if package.pointer("/metadata/docs/rs") != Some(&wanted) {
            return Err(format!("{name} does not ask docs.rs for all features and their labels"));
        }
    }
    let mut tree = workspace.cargo(&["metadata", "--format-version", "1", "--all-features"]);
    let metadata: Value = serde_json::from_str(&output(&mut tree)?)
        .map_err(|error| format!("cargo metadata cannot be read: {error}"))?;
    let newer: Vec<_> = packages(&metadata).filter(|(_, needs)| version(needs) > version(RUST)).collect();
    match newer.first() {
        None => Ok(()),
        Some((name, needs)) => Err(format!("{name} needs Rust {needs}, and the crates declare {RUST}")),
    }
}

/// The packages that declare a Rust version, and the version.
fn packages(metadata: &Value) -> impl Iterator<Item = (&str, &str)> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.filter_map(|package| Some((package["name"].as_str()?, package["rust_version"].as_str()?)))
}

/// The first two numbers of a version.
fn version(text: &str) -> (u32, u32) {
    let mut numbers = text.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The oldest Rust that the crates declare.
const RUST: &str = "1.90";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert!(version("1.100") > version("1.90.0") && version("2") > version("1.99"));
        assert_eq!(version("1.90.3"), version(RUST));
    }
}
