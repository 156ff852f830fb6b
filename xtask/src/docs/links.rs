//! Links in HTML pages: each one that stays below the folder has an existing page and place as its target.
//!
//! | link | verdict |
//! | --- | --- |
//! | to a page or file below the folder, with or without `#place` | it must exist, and so must the place |
//! | to another site | not followed |
//! | to a script in `trait.impl/`, which lists what other crates implement | not followed; may be absent |
//! | anything else, such as `file.md` or a path that leaves the folder | dead |

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::workspace::Result;

/// Follows the links from a page on, and returns how many pages were read. Pages of other crates are looked
/// up, and their own links are not followed.
pub(super) fn follow(folder: &Path, start: &str) -> Result<usize> {
    let own = start.rfind('/').and_then(|end| start.get(..=end)).unwrap_or_default();
    let mut pages: BTreeMap<String, Page> = BTreeMap::new();
    let mut open = vec![start.to_owned()];
    let mut dead = BTreeSet::new();
    let mut links = Vec::new();
    while let Some(path) = open.pop() {
        if pages.contains_key(&path) {
            continue;
        }
        let text = fs::read_to_string(folder.join(&path)).map_err(|error| format!("{path}: {error}"))?;
        let page = Page::read(&text);
        for link in page.links.iter().filter(|link| !is_elsewhere(link)) {
            let (target, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if target.is_empty() { Some(path.clone()) } else { resolve(&path, target) };
            let Some(target) = target.filter(|target| folder.join(target).is_file()) else {
                dead.insert(format!("{path} -> {link}"));
                continue;
            };
            links.push((path.clone(), link.clone(), target.clone(), place.to_owned()));
            if target.ends_with(".html") && target.starts_with(own) {
                open.push(target);
            }
        }
        pages.insert(path, page);
    }
    for (path, link, target, place) in links {
        let known = pages.get(&target).is_none_or(|page| page.has(&place));
        if !known {
            dead.insert(format!("{path} -> {link}"));
        }
    }
    if dead.is_empty() {
        Ok(pages.len())
    } else {
        Err(format!("dead links:\n  {}", Vec::from_iter(dead).join("\n  ")))
    }
}

struct Page {
    links: BTreeSet<String>,
    places: BTreeSet<String>,
}

impl Page {
    fn read(text: &str) -> Self {
        // Below this mark, rustdoc copies what a dependency documents of its blanket implementations. Its
        // links are not ours to mend.
        let own = text.split("id=\"blanket-implementations-list\"").next().unwrap_or_default();
        Page {
            links: [" href=\"", "<img src=\""].into_iter().flat_map(|name| values(own, name)).collect(),
            places: values(text, " id=\""),
        }
    }

    /// Lines of source pages are numbered by a script, and no place at all is the top of the page.
    fn has(&self, place: &str) -> bool {
        let is_line = place.starts_with(|c: char| c.is_ascii_digit());
        place.is_empty() || is_line || self.places.contains(place)
    }
}

/// The values of an attribute in the tags of a page.
fn values(text: &str, attribute: &str) -> BTreeSet<String> {
    let found = text.split(attribute).skip(1);
    found.filter_map(|rest| rest.split('"').next()).map(|value| value.replace("&amp;", "&")).collect()
}

fn is_elsewhere(link: &str) -> bool {
    if link.contains("trait.impl/") && link.ends_with(".js") {
        return true;
    }
    ["https://", "http://", "mailto:", "data:", "javascript:"].iter().any(|scheme| link.starts_with(scheme))
}

/// The path below the folder that a link on a page names. `None` if it leaves the folder.
pub(super) fn resolve(page: &str, link: &str) -> Option<String> {
    let mut path = PathBuf::from(page);
    path.pop();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::ParentDir if path.pop() => {}
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pages: &[(&str, &str)]) -> Result<usize> {
        let folder = std::env::temp_dir().join(format!("links-{}-{:p}", std::process::id(), pages));
        for (path, text) in pages {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found = follow(&folder, "a/index.html");
        fs::remove_dir_all(folder).unwrap();
        found
    }

    #[test]
    fn pages_that_link_to_each_other_and_to_other_sites_pass() {
        let pages = [
            (
                "a/index.html",
                r##"<a href="b/index.html#x">, <a href="https://example.com">, <a href="../c/i.html">,
                    <script src="../trait.impl/a/trait.T.js">"##,
            ),
            ("a/b/index.html", r##"<h2 id="x"><a href="#x"> <a href="../index.html">"##),
            ("c/i.html", r#"<a href="nowhere.html">"#),
        ];

        assert_eq!(found(&pages), Ok(2), "the links of another crate are not followed");
    }

    #[test]
    fn each_dead_link_is_named_with_its_page() {
        let links = ["b.md", "../../b.html", "/b.html", "#nowhere", "index.html#nowhere"];
        let links = links.map(|link| (link, format!(r#"<p id="x"><a class="l" href="{link}">"#)));
        let picture = ("b.png", r#"<img src="b.png" alt="b">"#.to_owned());
        for (link, page) in links.into_iter().chain([picture]) {
            let failure = found(&[("a/index.html", &page)]).unwrap_err();

            assert_eq!(failure, format!("dead links:\n  a/index.html -> {link}"));
        }
    }
}
