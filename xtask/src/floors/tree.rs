//! The files below `src` as the modules of one crate, and the file that each import names.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{Arrow, imports};

/// A source file, and its path below `src` with slashes.
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

/// Every Rust file below a folder, in the order of their paths.
///
/// # Errors
/// A folder or file cannot be read.
pub(super) fn files(source: &Path) -> Result<Vec<File>, String> {
    let mut files = Vec::new();
    collect(source, "", &mut files)?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(files)
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> Result<(), String> {
    let unreadable = |error| format!("{} cannot be read: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            collect(&entry.path(), &format!("{path}/"), files)?;
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path())
                .map_err(|error| format!("{path} cannot be read: {error}"))?;
            files.push(File { path, text });
        }
    }
    Ok(())
}

/// The file or folder at the top of `src` that a file belongs to.
pub(super) fn room(path: &str) -> &str {
    let first = path.split_once('/').map_or(path, |(folder, _)| folder);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The number of lines above the module of tests. 0 for a file that is such a module.
pub(super) fn lines_without_tests(file: &File) -> usize {
    if file.path.ends_with("/tests.rs") {
        return 0;
    }
    let code = file.text.find("\n#[cfg(test)]\nmod ").and_then(|end| file.text.get(..=end));
    code.unwrap_or(&file.text).lines().count()
}

/// Every import of a file by another one. Tests neither import nor are imported.
///
/// # Errors
/// A file is not Rust.
pub(super) fn arrows(files: &[File], own_name: &str) -> Result<Vec<Arrow>, String> {
    let modules: Vec<Vec<String>> = files.iter().map(|file| module(&file.path)).collect();
    let mut sources = Vec::new();
    for (file, module) in files.iter().zip(&modules) {
        let below = modules.iter().filter_map(|other| other.split_last());
        let children: Vec<String> =
            below.filter(|(_, parent)| parent == module).map(|(name, _)| name.clone()).collect();
        let source = imports::read(&file.text, module, &children, own_name);
        sources.push(source.map_err(|fault| format!("{} {fault}", file.path))?);
    }
    let mut places: BTreeMap<&[String], &File> = BTreeMap::new();
    for ((file, module), source) in files.iter().zip(&modules).zip(&sources) {
        places.extend(source.inline.iter().map(|inline| (inline.as_slice(), file)));
        places.insert(module, file);
    }
    let tests: Vec<&Vec<String>> = sources.iter().flat_map(|source| &source.tests).collect();
    let is_test = |module: &[String]| tests.iter().any(|test| module.starts_with(test));
    let mut arrows = Vec::new();
    let each = files.iter().zip(&modules).zip(&sources);
    for ((file, _), source) in each.filter(|((_, module), _)| !is_test(module)) {
        for import in &source.imports {
            // The file with the innermost module that the path names.
            let target =
                (1..=import.path.len()).rev().find_map(|length| places.get(import.path.get(..length)?));
            if let Some(target) = target.filter(|target| target.path != file.path) {
                arrows.push(Arrow { from: file.path.clone(), to: target.path.clone(), line: import.line });
            }
        }
    }
    Ok(arrows)
}

/// The path of the module that a file is. The program is a crate beside the library, with its files below
/// `main`.
fn module(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let mut segments: Vec<String> = path.split('/').map(str::to_owned).collect();
    if !matches!(segments.first().map(String::as_str), Some(imports::LIBRARY | "main")) {
        segments.insert(0, imports::LIBRARY.to_owned());
    }
    segments
}
