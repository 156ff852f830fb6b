//! The length of lines that people write and rustfmt does not wrap: Markdown and comments.
//!
//! | line | verdict |
//! | --- | --- |
//! | of more than 120 characters, in a Markdown file or a comment | too long |
//! | of a table or of code, or with an address or a link | of any length |

use std::fs;
use std::path::Path;

use crate::workspace::Result;

/// Each line below a folder that is too long, as `path:line: …`. Generated and installed files are skipped.
pub(super) fn too_long(root: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    search(root, "", &mut found)?;
    found.sort();
    Ok(found)
}

fn search(folder: &Path, prefix: &str, found: &mut Vec<String>) -> Result {
    let unreadable = |error| format!("{} cannot be read: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        // The rest is made by tools: cargo, npm, virtual environments, editors.
        let is_made = name == "node_modules" || name.starts_with("target");
        let is_ours = name == ".github" || !(is_made || name.starts_with('.'));
        // A link could lead out of the folder.
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() && is_ours {
            search(&entry.path(), &format!("{path}/"), found)?;
        } else if kind.is_file() && (name.ends_with(".md") || name.ends_with(".rs")) {
            let text = fs::read_to_string(entry.path())
                .map_err(|error| format!("{path} cannot be read: {error}"))?;
            for line in long_lines(&text, name.ends_with(".rs")) {
                found.push(format!("{path}:{line}: has more than {LONGEST} characters; wrap it at 110"));
            }
        }
    }
    Ok(())
}

/// The numbers of the lines that are too long. Of Rust code, only comments count.
fn long_lines(text: &str, is_rust: bool) -> Vec<usize> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let mut prose = line.trim_start();
        if is_rust {
            let Some(comment) = prose.strip_prefix("//") else {
                is_code = false;
                continue;
            };
            prose = comment.trim_start_matches(['/', '!', ' ']);
        }
        if prose.starts_with("```") {
            is_code = !is_code;
        }
        let may_be_long = is_code || prose.starts_with('|') || prose.contains("](") || prose.contains("://");
        if !may_be_long && line.chars().count() > LONGEST {
            found.push(number + 1);
        }
    }
    found
}

/// Prose is wrapped at 110; a word may end a little later.
const LONGEST: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_prose_is_found_and_tables_code_and_links_are_not() {
        let long = "word ".repeat(30);
        let page = format!(
            "{long}\n| {long} |\n```sh\n{long}\n```\n[{long}](page.md)\nhttps://{long}\nshort\n{long}\n"
        );
        assert_eq!(long_lines(&page, false), [1, 9]);
    }

    #[test]
    fn of_rust_only_comments_count() {
        let long = "word ".repeat(30);
        let file = format!(
            "//! {long}\nlet text = \"{long}\";\n    /// | {long} |\n    // {long}\n/// ```\n/// {long}\nfn a() {{}}\n/// {long}\n"
        );
        assert_eq!(long_lines(&file, true), [1, 4, 8]);
    }

    #[test]
    fn characters_count_and_not_bytes() {
        assert!(long_lines(&"ü".repeat(LONGEST), false).is_empty());
        assert_eq!(long_lines(&"ü".repeat(LONGEST + 1), false), [1]);
    }
}
