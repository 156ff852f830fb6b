//! The tables of floors in `docs/architecture.md`: under the heading `### The floors of `CRATE``, each row
//! has the number of a floor in the first cell and rooms of this floor in the second.

use std::collections::{BTreeMap, BTreeSet};

use super::tree;

/// The floor of each room; a room is a file or folder at the top of `src`, without its ending.
pub(super) type Floors = BTreeMap<String, u32>;

/// # Errors
/// The page does not have the table, a row cannot be read, or a room has two floors.
pub(super) fn read(page: &str, name: &str) -> Result<Floors, String> {
    let heading = format!("### The floors of `{name}`");
    let mut lines = page.lines().skip_while(|line| line.trim() != heading).skip(1).peekable();
    if lines.peek().is_none() {
        return Err(format!("docs/architecture.md has no heading \"{heading}\""));
    }
    let mut floors = Floors::new();
    let rows = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    for row in rows.skip(2) {
        let mut cells = row.trim_matches('|').split('|').map(str::trim);
        let floor = cells.next().and_then(|cell| cell.parse().ok());
        let floor = floor.ok_or_else(|| format!("the floors of {name}: no number in the row \"{row}\""))?;
        for room in cells.next().unwrap_or_default().split('`').skip(1).step_by(2) {
            if floors.insert(room.to_owned(), floor).is_some() {
                return Err(format!("the floors of {name}: `{room}` has two"));
            }
        }
    }
    if floors.is_empty() { Err(format!("the floors of {name}: the table is empty")) } else { Ok(floors) }
}

/// Rooms without a floor, and rooms in the table that do not exist.
pub(super) fn missing<'a>(paths: impl Iterator<Item = &'a str>, floors: &Floors) -> Vec<String> {
    let rooms: BTreeSet<&str> = paths.map(tree::room).collect();
    let without_floor = rooms.iter().filter(|room| !floors.contains_key(**room));
    let without_room = floors.keys().filter(|room| !rooms.contains(room.as_str()));
    without_floor
        .map(|room| format!("{room}: has no floor in the table"))
        .chain(without_room.map(|room| format!("{room}: has a floor in the table and does not exist")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_up_to_its_end() {
        let page = "# A\n### The floors of `a`\n\nWords.\n\n| floor | rooms |\n| --- | --- |\n| 10 | `lib`, `main` | x `y` |\n\
                    | 0 | `clock` | |\n\n| 3 | `other` |\n### The floors of `b`\n";

        let floors = read(page, "a").unwrap();

        assert_eq!(Vec::from_iter(floors), [("clock".into(), 0), ("lib".into(), 10), ("main".into(), 10)]);
        assert_eq!(
            read(page, "c").unwrap_err(),
            "docs/architecture.md has no heading \"### The floors of `c`\""
        );
    }
}
