//! Counts the ends of cases, and writes them as tables.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use azure_dps_core::ErrorKind;
use azure_dps_tests::relay::Harm;

use crate::case::{HARMS, Units};
use crate::row::Title;

/// The end of a case.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) harm: Harm,
    pub(crate) every: bool,
    /// Whether a conversation got to the place of the fault.
    pub(crate) is_reached: bool,
    /// The kind of the error, if the call failed.
    pub(crate) kind: Option<ErrorKind>,
    pub(crate) wrong: Option<String>,
}

/// The ends of a row's cases.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) title: Title,
    pub(crate) units: Units,
    pub(crate) cells: Vec<Cell>,
    /// How often a case ran again, because a busy machine may have been the cause of its end.
    pub(crate) reruns: usize,
}

/// The title and the numbers of the units.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Units { least, most } = self.units;
        let range = |side: usize| match least[side] == most[side] {
            true => most[side].to_string(),
            false => format!("{}–{}", least[side], most[side]),
        };
        write!(f, "{} | {} + {}", self.title, range(0), range(1))
    }
}

/// The cases of all rows.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: BTreeMap<usize, Figure>,
}

impl Figures {
    pub(crate) fn add(&mut self, number: usize, row: Figure) {
        self.rows.insert(number, row);
    }

    pub(crate) fn cases(&self) -> usize {
        self.count(|_| true)
    }

    pub(crate) fn wrong(&self) -> usize {
        self.count(|cell| cell.wrong.is_some())
    }

    fn count(&self, is_counted: impl Fn(&Cell) -> bool) -> usize {
        self.rows.values().flat_map(|row| &row.cells).filter(|cell| is_counted(cell)).count()
    }

    /// Prints the sum, and writes the tables to the file that the environment names, if any.
    #[allow(clippy::print_stdout)] // The step shows it.
    pub(crate) fn write(&self, time: Duration) {
        let sum = format!(
            "{} cases: {} succeeded, {} failed as they must, {} ended wrong; {} did not get to their fault",
            self.cases(),
            self.count(|cell| cell.kind.is_none() && cell.wrong.is_none()),
            self.count(|cell| cell.kind.is_some() && cell.wrong.is_none()),
            self.wrong(),
            self.count(|cell| !cell.is_reached),
        );
        let reruns: usize = self.rows.values().map(|row| row.reruns).sum();
        println!("      {sum}; {reruns} runs were repeated; {} s", time.as_secs());
        if let Ok(file) = std::env::var("DPS_RELIABILITY") {
            let (once, every) = (self.table(false), self.table(true));
            let tables = format!("{sum}.\n\n### Once\n\n{once}\n### On every connection\n\n{every}");
            std::fs::write(file, tables).unwrap();
        }
    }

    fn table(&self, every: bool) -> String {
        let mut table = String::from("| | client + server |");
        HARMS.iter().for_each(|harm| write!(table, " {} |", word(*harm)).unwrap());
        table.push_str("\n| --- | --- |");
        table.push_str(&" --- |".repeat(HARMS.len()));
        for row in self.rows.values() {
            write!(table, "\n| {row} |").unwrap();
            for harm in HARMS {
                let cells = row.cells.iter().filter(|cell| (cell.every, cell.harm) == (every, harm));
                write!(table, " {} |", summary(cells)).unwrap();
            }
        }
        table + "\n"
    }
}

fn word(harm: Harm) -> &'static str {
    match harm {
        Harm::Cut => "cut",
        Harm::Stall => "stall",
        Harm::Delay => "delay",
        Harm::Truncate => "truncate",
        Harm::HalfThenStall => "half, then stall",
    }
}

/// The number of cases, and how many of them failed with which kind.
fn summary<'a>(cells: impl Iterator<Item = &'a Cell>) -> String {
    let (mut all, mut kinds) = (0, BTreeMap::new());
    for cell in cells {
        all += 1;
        if let Some(kind) = cell.kind {
            *kinds.entry(format!("{kind:?}")).or_insert(0) += 1;
        }
    }
    let succeeded = all - kinds.values().sum::<usize>();
    let failed: String = kinds.iter().map(|(kind, count)| format!(", {count} {kind}")).collect();
    format!("{succeeded}/{all}{failed}")
}
