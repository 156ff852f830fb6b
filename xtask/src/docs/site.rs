//! The documentation site: mdBook builds it from the pages that docs/SUMMARY.md lists.
//!
//! mdBook wants all pages below one folder, and the guides are beside their crates, which also contain them.
//! So each page is copied to its path in the repository, below `target/site-src`, where relative links between
//! pages hold. A file that a page links to, such as a picture or a sample, is copied too.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::links;
use crate::tools;
use crate::workspace::{Result, Workspace, run};

/// Builds the site and follows its links.
pub(crate) fn build(workspace: &Workspace) -> Result {
    let (book, site) = (workspace.target("site-src"), workspace.target("site"));
    for folder in [&book, &site] {
        if folder.exists() {
            fs::remove_dir_all(folder)
                .map_err(|error| format!("{} cannot be removed: {error}", folder.display()))?;
        }
    }
    let count = lay_out(workspace, &book)?;
    let mdbook = tools::check_tool(workspace, "mdbook")?;
    let mut build = workspace.program(mdbook, &["build", "--dest-dir"]);
    // It reports each step by default.
    build.env("MDBOOK_LOG", "warn");
    run(build.arg(&site).arg(&book))?;
    let found = links::follow(&site, "index.html")?;
    println!("      {count} pages of the repository, {found} of the site, without a dead link");
    Ok(())
}

/// Copies the book's settings, the pages and the files that they link to. Returns how many pages there are.
fn lay_out(workspace: &Workspace, book: &Path) -> Result<usize> {
    let root = workspace.root();
    let written = pages_below(workspace)?;
    let decisions = written.iter().filter(|page| page.starts_with(DECISIONS) && !page.ends_with("README.md"));
    let decisions =
        decisions.map(|page| Ok((page.as_str(), read(root, page)?))).collect::<Result<Vec<_>>>()?;
    let summary = summary(&read(root, SUMMARY)?, &decisions);
    let listed = targets(&summary);
    if let Some(page) = written.iter().find(|page| !listed.contains(&page.as_str())) {
        return Err(format!("{SUMMARY} does not list {page}"));
    }
    let source = book.join("src");
    write(&book.join("book.toml"), read(root, "docs/book.toml")?.as_bytes())?;
    write(&source.join("SUMMARY.md"), summary.as_bytes())?;
    for page in &listed {
        let text = read(root, page)?;
        write(&source.join(page), text.as_bytes())?;
        let linked = targets(&text).into_iter().filter_map(|link| links::resolve(page, link));
        for file in linked.filter(|file| !file.ends_with(".md") && root.join(file).is_file()) {
            let bytes =
                fs::read(root.join(&file)).map_err(|error| format!("{file} cannot be read: {error}"))?;
            write(&source.join(file), &bytes)?;
        }
    }
    Ok(listed.len())
}

/// The pages in docs/ and the guides of the published crates, which all belong to the site.
fn pages_below(workspace: &Workspace) -> Result<BTreeSet<String>> {
    let guides = workspace.published().map(|(name, _)| format!("{name}/docs"));
    let guides = guides.filter(|folder| workspace.root().join(folder).exists());
    let mut folders = Vec::from_iter(guides.chain(["docs".to_owned()]));
    let mut pages = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        let unreadable = |error| format!("{folder} cannot be read: {error}");
        for entry in fs::read_dir(workspace.root().join(&folder)).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.ends_with(".md") && path != SUMMARY {
                pages.insert(path);
            }
        }
    }
    Ok(pages)
}

/// The targets of the links in Markdown: `[text](target)`, `[text]: target`. May find others in code.
fn targets(markdown: &str) -> Vec<&str> {
    let inline = markdown.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let below =
        markdown.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ").map(|(_, to)| to));
    inline.chain(below).collect()
}

/// The summary of the site: its links start at the root of the repository, not at docs/, and the decisions,
/// given with their text, follow the page that lists them.
fn summary(written: &str, decisions: &[(&str, String)]) -> String {
    let mut summary = String::new();
    for line in written.lines() {
        let Some((title, target)) = line.trim_end().strip_suffix(')').and_then(|line| line.split_once("]("))
        else {
            summary += &format!("{line}\n");
            continue;
        };
        let target = links::resolve(SUMMARY, target).unwrap_or_else(|| target.to_owned());
        summary += &format!("{title}]({target})\n");
        if target == format!("{DECISIONS}README.md") {
            for (page, text) in decisions {
                let title = text.lines().next().unwrap_or_default().trim_start_matches("# ");
                summary += &format!("  - [{title}]({page})\n");
            }
        }
    }
    summary
}

fn read(root: &Path, path: &str) -> Result<String> {
    fs::read_to_string(root.join(path)).map_err(|error| format!("{path} cannot be read: {error}"))
}

fn write(path: &Path, bytes: &[u8]) -> Result {
    let folder = path.parent().unwrap_or(path);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(path, bytes))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

const SUMMARY: &str = "docs/SUMMARY.md";
const DECISIONS: &str = "docs/adr/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_in_both_forms() {
        let page = "See [a](x/a.md#place), ![b](b.png \"title\") and [c].\n\n[c]: ../c.rs\n";

        assert_eq!(targets(page), ["x/a.md#place", "b.png", "../c.rs"]);
    }

    #[test]
    fn the_summary_of_the_site_has_paths_from_the_root_and_the_decisions() {
        let written = "[Start](../README.md)\n# Part\n- [Wire](wire/hub.md)\n- [Decisions](adr/README.md)\n";
        let decisions = [("docs/adr/0001-a.md", "# 0001 A `b`\n\nText.\n".to_owned())];

        assert_eq!(
            summary(written, &decisions),
            "[Start](README.md)\n# Part\n- [Wire](docs/wire/hub.md)\n- [Decisions](docs/adr/README.md)\n  \
             - [0001 A `b`](docs/adr/0001-a.md)\n"
        );
    }
}
