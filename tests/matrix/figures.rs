//! Counts the ends of cases, and writes them as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use azure_dps_core::ErrorKind;
use azure_dps_tests::relay::Harm;

use crate::HARMS;

/// One case.
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

/// The cases of all rows.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    rows: BTreeMap<usize, (String, Vec<Cell>)>,
}

impl Figures {
    pub(crate) fn add(&mut self, number: usize, title: String, cells: Vec<Cell>) {
        self.rows.insert(number, (title, cells));
    }

    pub(crate) fn wrong(&self) -> Vec<&str> {
        self.cells().filter_map(|cell| cell.wrong.as_deref()).collect()
    }

    fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.rows.values().flat_map(|(_, cells)| cells)
    }

    /// Prints the sum, and writes the tables to the file that the environment names, if any.
    #[allow(clippy::print_stdout)] // The step shows it.
    pub(crate) fn write(&self, time: Duration) {
        let sum = format!(
            "{} cases in {} s: {} succeeded, {} failed as they must, {} wrong; {} did not get to their fault",
            self.cells().count(),
            time.as_secs(),
            self.cells().filter(|cell| cell.kind.is_none()).count(),
            self.cells().filter(|cell| cell.kind.is_some() && cell.wrong.is_none()).count(),
            self.wrong().len(),
            self.cells().filter(|cell| !cell.is_reached).count(),
        );
        println!("{sum}");
        if let Ok(file) = std::env::var("DPS_RELIABILITY") {
            let (once, every) = (self.table(false), self.table(true));
            let tables = format!("{sum}.\n\n## Once\n\n{once}\n## On every connection\n\n{every}");
            std::fs::write(file, tables).unwrap();
        }
    }

    fn table(&self, every: bool) -> String {
        let mut table = String::from("| | units | client + server |");
        HARMS.iter().for_each(|harm| write!(table, " {} |", word(*harm)).unwrap());
        table.push_str("\n| --- | --- | --- |");
        table.push_str(&" --- |".repeat(HARMS.len()));
        for (title, cells) in self.rows.values() {
            write!(table, "\n| {title} |").unwrap();
            for harm in HARMS {
                let cells = cells.iter().filter(|cell| (cell.every, cell.harm) == (every, harm));
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
