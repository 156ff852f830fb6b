//! Imports point down: the floors of each crate, read from `docs/architecture.md`, against the imports in its
//! sources.
//!
//! | found | verdict |
//! | --- | --- |
//! | an import of a file on a lower floor, or on the same one | allowed |
//! | an import of a file on a higher floor | fails, with file and line |
//! | files or folders side by side that import each other in a circle | fails, with each arrow of the circle |
//! | a file or folder at the top of `src` without a floor, or a floor for one that does not exist | fails |
//! | a file of more than 400 lines without its tests | fails |
//! | a long line of Markdown or of a comment, see `prose.rs` | fails |
//!
//! Tests do not count: a module below `#[cfg(test)]` is skipped.

mod circles;
mod imports;
mod prose;
mod table;
mod tree;

use std::fs;

use crate::workspace::{Result, Workspace};

/// An import of one file by another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Arrow {
    /// Files below `src`, with slashes.
    from: String,
    to: String,
    line: usize,
}

/// Checks every crate that has a table of floors; the published crates must have one.
pub(crate) fn check(workspace: &Workspace) -> Result {
    let page = fs::read_to_string(workspace.root().join(PAGE))
        .map_err(|error| format!("{PAGE} cannot be read: {error}"))?;
    let mut faults = Vec::new();
    for (name, _) in workspace.published() {
        let floors = table::read(&page, name)?;
        let source = workspace.root().join(name).join("src");
        let files = tree::files(&source)?;
        let arrows =
            tree::arrows(&files, &name.replace('-', "_")).map_err(|fault| format!("{name}/src/{fault}"))?;
        println!("      {name}: {} files, {} imports, {} rooms", files.len(), arrows.len(), floors.len());
        let found = judge(&files, &arrows, &floors);
        faults.extend(found.into_iter().map(|fault| format!("{name}/src/{fault}")));
    }
    faults.extend(prose::too_long(workspace.root())?);
    if faults.is_empty() { Ok(()) } else { Err(format!("found:\n  {}", faults.join("\n  "))) }
}

fn judge(files: &[tree::File], arrows: &[Arrow], floors: &table::Floors) -> Vec<String> {
    let mut faults = table::missing(files.iter().map(|file| file.path.as_str()), floors);
    for arrow in arrows {
        let floor = |path: &str| floors.get(tree::room(path)).copied();
        if let (Some(from), Some(to)) = (floor(&arrow.from), floor(&arrow.to))
            && to > from
        {
            faults.push(format!(
                "{}:{}: imports {}, which is on floor {to}, from floor {from}",
                arrow.from, arrow.line, arrow.to
            ));
        }
    }
    faults.extend(circles::find(arrows));
    faults.extend(files.iter().filter_map(too_long));
    faults
}

fn too_long(file: &tree::File) -> Option<String> {
    let lines = tree::lines_without_tests(file);
    (lines > MOST_LINES)
        .then(|| format!("{}: has {lines} lines without its tests; {MOST_LINES} are the most", file.path))
}

const MOST_LINES: usize = 400;
const PAGE: &str = "docs/architecture.md";

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> tree::File {
        tree::File { path: path.to_owned(), text: text.to_owned() }
    }

    fn faults(files: &[tree::File]) -> Vec<String> {
        let page = "### The floors of `house`\n\n| floor | room | what |\n|---|---|---|\n| 2 | `lib` | |\n\
                    | 1 | `front`, `service` | |\n| 0 | `clock` | |\n\nText.\n";
        let floors = table::read(page, "house").unwrap();
        judge(files, &tree::arrows(files, "house").unwrap(), &floors)
    }

    /// A crate without faults. Each test adds the fault that it checks.
    fn house(front: &str, amqp: &str, clock: &str) -> Vec<tree::File> {
        vec![
            file("lib.rs", "mod clock;\nmod front;\nmod service;\npub use front::Front;\n"),
            file("front.rs", &format!("mod amqp;\nmod peer;\n{front}")),
            file("front/amqp.rs", amqp),
            file("front/peer.rs", "use crate::clock::Time;\n"),
            file("service.rs", "use crate::clock::Time;\n"),
            file("clock.rs", clock),
        ]
    }

    #[test]
    fn imports_that_point_down_or_to_a_neighbour_pass() {
        let files = house("use crate::service::Call;\n", "use super::peer::Peer;\n", "");

        assert_eq!(faults(&files), [""; 0]);
    }

    #[test]
    fn an_import_up_a_floor_is_named_with_its_line() {
        let files = house("", "", "\nfn f() { crate::service::call() }\n");

        assert_eq!(faults(&files)[0], "clock.rs:2: imports service.rs, which is on floor 1, from floor 0");
    }

    #[test]
    fn what_the_root_exports_is_up_a_floor_for_those_below() {
        let files = house("", "", "use crate::Front;\n");

        assert_eq!(faults(&files)[0], "clock.rs:1: imports lib.rs, which is on floor 2, from floor 0");
    }

    #[test]
    fn a_circle_of_parent_and_child_is_found() {
        let files = house("use amqp::Talk;\n", "use super::Door;\n", "");

        assert_eq!(
            faults(&files),
            [
                "front.rs and front/amqp import each other: front.rs:3 -> front/amqp.rs, front/amqp.rs:1 -> front.rs"
            ]
        );
    }

    #[test]
    fn a_circle_of_folders_is_found_where_no_two_files_import_each_other() {
        let mut files = house("fn f() { crate::service::call() }\n", "", "");
        files.push(file("service/calls.rs", "use crate::front::peer::Peer;\n"));

        assert_eq!(
            faults(&files),
            [
                "front and service import each other: front.rs:3 -> service.rs, service/calls.rs:1 -> front/peer.rs"
            ]
        );
    }

    #[test]
    fn a_long_file_is_named_and_its_tests_do_not_count() {
        let line = "const A: u8 = 0;\n";
        let long = house(&line.repeat(398), &line.repeat(401), "");
        let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", line.repeat(400), line.repeat(9));
        let mut files = house("", &tests, "");
        files.push(file("clock/tests.rs", &line.repeat(500)));

        assert_eq!(faults(&long), ["front/amqp.rs: has 401 lines without its tests; 400 are the most"]);
        assert_eq!(faults(&files), [""; 0]);
    }

    #[test]
    fn rooms_and_floors_must_match() {
        let mut files = house("", "", "");
        files.retain(|file| file.path != "service.rs");
        files.push(file("cellar.rs", ""));

        assert_eq!(
            faults(&files),
            ["cellar: has no floor in the table", "service: has a floor in the table and does not exist"]
        );
    }
}
