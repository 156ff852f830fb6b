//! Circles: neighbours in one folder that lead to each other through imports, at any depth of folders.
//!
//! Each entry of a folder is one node: a file together with the folder of the same name. The file to which
//! the folder itself belongs is a node too. Every circle of files is a circle of neighbours in the innermost
//! folder that contains all of them, so this finds both.

use std::collections::{BTreeMap, BTreeSet};

use super::Arrow;

/// For each node, the nodes that it imports, each with the first arrow.
type Graph<'a> = BTreeMap<String, BTreeMap<String, &'a Arrow>>;

/// Each circle with its nodes and arrows, as one line.
pub(super) fn find(arrows: &[Arrow]) -> Vec<String> {
    let mut found = Vec::new();
    for folder in folders(arrows) {
        let mut graph = Graph::new();
        for arrow in arrows {
            if let (Some(from), Some(to)) = (node(&arrow.from, &folder), node(&arrow.to, &folder))
                && from != to
            {
                graph.entry(from).or_default().entry(to).or_insert(arrow);
            }
        }
        found.extend(circles(&graph).iter().map(|circle| describe(circle, &graph)));
    }
    found
}

/// Every folder that an arrow begins in, with a slash at its end; the top is empty.
fn folders(arrows: &[Arrow]) -> BTreeSet<String> {
    let ends =
        |path: &str| path.match_indices('/').map(|(place, _)| path[..=place].to_owned()).collect::<Vec<_>>();
    arrows.iter().flat_map(|arrow| ends(&arrow.from)).chain([String::new()]).collect()
}

/// What a file belongs to among the entries of a folder: `None` outside.
fn node(path: &str, folder: &str) -> Option<String> {
    if !folder.is_empty() && path.strip_suffix(".rs") == folder.strip_suffix('/') {
        return Some(path.to_owned());
    }
    let entry = path.strip_prefix(folder)?.split('/').next()?;
    Some(format!("{folder}{}", entry.strip_suffix(".rs").unwrap_or(entry)))
}

/// The sets of nodes that reach each other.
fn circles(graph: &Graph<'_>) -> Vec<BTreeSet<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        graph.keys().map(|node| (node, reach(graph, node))).collect();
    let leads = |from: &String, to: &String| reached.get(from).is_some_and(|nodes| nodes.contains(to));
    let mut circles: Vec<BTreeSet<String>> = Vec::new();
    for node in graph.keys().filter(|node| leads(node, node)) {
        if !circles.iter().any(|circle| circle.contains(node)) {
            let others = graph.keys().filter(|other| leads(node, other) && leads(other, node));
            circles.push(others.cloned().collect());
        }
    }
    circles
}

fn reach<'g>(graph: &'g Graph<'_>, start: &'g String) -> BTreeSet<&'g String> {
    let mut reached = BTreeSet::new();
    let mut open = vec![start];
    while let Some(node) = open.pop() {
        let next = graph.get(node).into_iter().flat_map(BTreeMap::keys);
        open.extend(next.filter(|next| reached.insert(*next)));
    }
    reached
}

fn describe(circle: &BTreeSet<String>, graph: &Graph<'_>) -> String {
    let names: Vec<&str> = circle.iter().map(String::as_str).collect();
    let arrows = graph.iter().filter(|(from, _)| circle.contains(*from)).flat_map(|(_, targets)| {
        targets.iter().filter(|(to, _)| circle.contains(*to)).map(|(_, arrow)| arrow)
    });
    let arrows: Vec<String> =
        arrows.map(|arrow| format!("{}:{} -> {}", arrow.from, arrow.line, arrow.to)).collect();
    format!("{} import each other: {}", names.join(" and "), arrows.join(", "))
}
