//! The notices that belong in each copy of the program: the licence texts of its crates, of musl, and of Rust's
//! standard library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::NAME;
use crate::workspace::{Result, Workspace, output};

/// A crate in the program, or musl.
struct Part {
    /// Its name and, of a crate, its version.
    name: String,
    /// Its licence as an SPDX expression.
    licence: String,
    /// Its licence texts and notices.
    texts: Vec<String>,
}

/// Writes the notices into an existing folder, as the files of `FILES`.
pub(crate) fn write(workspace: &Workspace, folder: &Path) -> Result {
    let [crates_file, rust_file] = FILES.map(|file| folder.join(file));
    let apache = read(&workspace.root().join("LICENSE-APACHE"))?;
    let mut parts = crates(workspace)?;
    parts.push(musl());
    let page = page(&parts, &apache)?;
    fs::write(&crates_file, page).map_err(|error| failed(&crates_file, "written", &error))?;
    let sysroot = output(&mut workspace.program("rustc", &["--print", "sysroot"]))?;
    let rust = Path::new(sysroot.trim()).join("share/doc/rust/COPYRIGHT-library.html");
    fs::copy(&rust, rust_file)
        .map(drop)
        .map_err(|error| failed(&rust, "copied", &error) + "; a Rust that rustup has installed has this file")
}

/// The crates whose code the program contains on any system, so that the notices of all packages are the same.
fn crates(workspace: &Workspace) -> Result<Vec<Part>> {
    let mut tree = workspace.cargo(&["tree", "--locked", "--package", NAME, "--target", "all"]);
    tree.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]);
    let tree = output(&mut tree)?;
    let contained: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| line.split_once(" v"))
        .map(|(name, rest)| (name, first(rest)))
        .collect();
    let metadata = output(&mut workspace.cargo(&["metadata", "--locked", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata cannot be read: {error}"))?;
    let packages = metadata.get("packages").and_then(Value::as_array).into_iter().flatten();
    packages
        // A package without a source is a member of the workspace, which has the licences of the packages.
        .filter(|package| package.get("source").is_some_and(Value::is_string))
        .filter(|package| contained.contains(&(text(package, "name"), text(package, "version"))))
        .map(|package| {
            let manifest = Path::new(text(package, "manifest_path"));
            Ok(Part {
                name: format!("{} {}", text(package, "name"), text(package, "version")),
                licence: text(package, "license").to_owned(),
                texts: texts(manifest.parent().unwrap_or(manifest))?,
            })
        })
        .collect()
}

/// The C library, which is in the programs for Linux with musl.
fn musl() -> Part {
    let texts = vec![include_str!("musl.txt").to_owned()];
    Part { name: "musl".to_owned(), licence: "MIT".to_owned(), texts }
}

/// The licence texts and notices below the folder of a crate, where parts from elsewhere have their own.
fn texts(folder: &Path) -> Result<Vec<String>> {
    let unreadable = |error| failed(folder, "read", &error);
    let mut entries =
        fs::read_dir(folder).map_err(unreadable)?.collect::<std::io::Result<Vec<_>>>().map_err(unreadable)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.path();
        if path.is_dir() {
            found.extend(texts(&path)?);
        } else if is_notice(&entry.file_name().to_string_lossy()) {
            found.push(read(&path)?);
        }
    }
    Ok(found)
}

fn is_notice(file: &str) -> bool {
    let name = file.to_ascii_lowercase();
    let starts = ["licence", "license", "copying", "copyright", "notice", "unlicense"];
    starts.iter().any(|start| name.starts_with(start)) && !name.ends_with(".rs")
}

/// All parts, and each text once. A part without a text is used under Apache-2.0, whose text is `apache`.
///
/// # Errors
/// A part has no text and may not be used under Apache-2.0.
fn page(parts: &[Part], apache: &str) -> Result<String> {
    let mut list = String::new();
    let mut texts: BTreeMap<Vec<&str>, (&str, Vec<&str>)> = BTreeMap::new();
    for Part { name, licence, texts: own } in parts {
        let used = match own.as_slice() {
            [] if allows_apache(licence) => " (used under Apache-2.0)",
            [] => return Err(format!("{name} has no licence text, and its licence is `{licence}`")),
            _ => "",
        };
        list += &format!("{name}: {licence}{used}\n");
        let own: Vec<&str> = own.iter().map(String::as_str).collect();
        for text in if own.is_empty() { vec![apache] } else { own } {
            let (_, names) =
                texts.entry(text.split_whitespace().collect()).or_insert_with(|| (text, Vec::new()));
            if names.last() != Some(&name.as_str()) {
                names.push(name);
            }
        }
    }
    let line = "-".repeat(80);
    let texts: String = texts
        .values()
        .map(|(text, names)| format!("\n{line}\n{}:\n\n{}\n", names.join(", "), text.trim_matches('\n')))
        .collect();
    let rust = FILES[1];
    Ok(format!(
        "The program {NAME} contains these libraries, on each system a part of them. Their licence texts and\n\
         notices follow. {rust} has those of the standard library of Rust.\n\n{list}{texts}"
    ))
}

/// Returns whether one of the alternatives of an SPDX expression is Apache-2.0.
fn allows_apache(licence: &str) -> bool {
    // Parts from before the word `OR` have a slash.
    licence.replace(" OR ", "/").split('/').any(|choice| choice.trim() == "Apache-2.0")
}

fn first(words: &str) -> &str {
    words.split_whitespace().next().unwrap_or_default()
}

fn text<'a>(package: &'a Value, member: &str) -> &'a str {
    package.get(member).and_then(Value::as_str).unwrap_or_default()
}

/// The text of a file. Some are not in UTF-8.
fn read(file: &Path) -> Result<String> {
    let bytes = fs::read(file).map_err(|error| failed(file, "read", &error))?;
    Ok(String::from_utf8_lossy(&bytes).replace('\r', ""))
}

fn failed(path: &Path, what: &str, error: &std::io::Error) -> String {
    format!("{} cannot be {what}: {error}", path.display())
}

/// The notices of the crates, and those of the standard library.
pub(super) const FILES: [&str; 2] = ["THIRD-PARTY.txt", "THIRD-PARTY-RUST.html"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_is_listed_and_each_text_is_written_once() {
        let parts =
            [named("a 1.0.0", "MIT", &["MIT of\nA\n"]), named("b 2.0.0", "ISC", &["ISC", " MIT  of A"])];

        let page = page(&parts, "").unwrap();

        assert!(page.contains("\na 1.0.0: MIT\nb 2.0.0: ISC\n"), "{page}");
        assert!(page.contains("\na 1.0.0, b 2.0.0:\n\nMIT of\nA\n"), "{page}");
        assert!(page.contains("\nb 2.0.0:\n\nISC\n"), "{page}");
        assert_eq!(page.matches("of\nA").count(), 1, "{page}");
    }

    #[test]
    fn a_part_without_a_text_is_used_under_apache_or_refused() {
        for licence in ["MIT/Apache-2.0", "MIT OR Apache-2.0 OR LGPL-2.1-or-later", "Apache-2.0"] {
            let page = page(&[named("a 1.0.0", licence, &[])], "the text").unwrap();
            assert!(page.contains(&format!("\na 1.0.0: {licence} (used under Apache-2.0)\n")), "{page}");
            assert!(page.contains("\na 1.0.0:\n\nthe text\n"), "{page}");
        }
        for licence in ["MIT", "Apache-2.0 AND MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", ""] {
            let refused = page(&[named("a 1.0.0", licence, &[])], "the text").unwrap_err();
            assert!(refused.contains("a 1.0.0 has no licence text"), "{refused}");
        }
    }

    #[test]
    fn notices_have_many_names_and_source_files_are_none() {
        for name in
            ["LICENSE", "license-mit", "LICENCE.md", "COPYING", "COPYRIGHT", "NOTICE.txt", "UNLICENSE"]
        {
            assert!(is_notice(name), "{name}");
        }
        for name in ["license.rs", "README.md", "Cargo.toml"] {
            assert!(!is_notice(name), "{name}");
        }
    }

    fn named(name: &str, licence: &str, texts: &[&str]) -> Part {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        Part { name: name.to_owned(), licence: licence.to_owned(), texts }
    }
}
