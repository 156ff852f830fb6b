//! Samples of two processes, and the rule that says whether they stayed flat.

use std::fs;

use crate::Outcome;
use crate::report::{Figures, Page, number};

pub(super) const RULE: &str = "Samples were taken each second. A figure is flat if its median in the last third of the \
    time exceeds its median in the second third by at most 5 % and a slack: 1 MiB, 4 descriptors, 4 tasks or \
    threads.";

/// A figure of a process, in the order of the samples.
struct Series {
    name: &'static str,
    slack: f64,
    samples: Vec<f64>,
}

/// What one process and the emulator use.
pub(super) struct Samples([Series; 6]);

impl Default for Samples {
    fn default() -> Self {
        let named = [
            ("SDK: memory, MiB", 1.0),
            ("SDK: descriptors", 4.0),
            ("SDK: tasks", 4.0),
            ("emulator: memory, MiB", 1.0),
            ("emulator: descriptors", 4.0),
            ("emulator: threads", 4.0),
        ];
        Self(named.map(|(name, slack)| Series { name, slack, samples: Vec::new() }))
    }
}

impl Samples {
    /// Takes a sample of this process and of the emulator.
    pub(super) fn take(&mut self, emulator: u32) -> Outcome<()> {
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks() as f64;
        let (memory, _) = status("self")?;
        let ours = [memory, descriptors("self")?, tasks];
        let emulator = emulator.to_string();
        let (memory, threads) = status(&emulator)?;
        let theirs = [memory, descriptors(&emulator)?, threads];
        for (series, sample) in self.0.iter_mut().zip(ours.into_iter().chain(theirs)) {
            series.samples.push(sample);
        }
        Ok(())
    }

    /// Adds the figures to the page, and returns whether all are flat.
    pub(super) fn report(&self, page: &mut Page) -> bool {
        let head = ["", "second third", "last third", "highest", ""];
        let rows: Vec<_> = self.0.iter().map(Series::row).collect();
        page.table(head, &rows);
        self.0.iter().all(Series::is_flat)
    }
}

impl Series {
    /// The medians of the second and of the last third.
    fn thirds(&self) -> [f64; 2] {
        let third = self.samples.len() / 3;
        let median = |from: usize, to: usize| {
            self.samples.get(from..to).unwrap_or_default().iter().copied().collect::<Figures>().median()
        };
        [median(third, 2 * third), median(2 * third, self.samples.len())]
    }

    /// Not without samples, whose median is not a number.
    fn is_flat(&self) -> bool {
        let [second, last] = self.thirds();
        last <= second * 1.05 + self.slack
    }

    fn row(&self) -> [String; 5] {
        let [second, last] = self.thirds();
        let highest = self.samples.iter().copied().fold(f64::NAN, f64::max);
        let verdict = if self.is_flat() { "flat" } else { "grows" };
        [self.name.to_owned(), number(second), number(last), number(highest), verdict.to_owned()]
    }
}

/// The resident memory in MiB and the threads of a process.
fn status(process: &str) -> Outcome<(f64, f64)> {
    let text = fs::read_to_string(format!("/proc/{process}/status"))?;
    let field = |name: &str| -> Outcome<f64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
        Ok(value.ok_or_else(|| format!("/proc has no {name} of a process"))?.parse()?)
    };
    Ok((field("VmRSS:")? / 1024.0, field("Threads:")?))
}

fn descriptors(process: &str) -> Outcome<f64> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_flat(samples: impl Iterator<Item = f64>) -> bool {
        Series { name: "", slack: 1.0, samples: samples.collect() }.is_flat()
    }

    #[test]
    fn figures_that_rise_at_first_only_are_flat() {
        assert!(is_flat((0..90).map(|second| f64::from(second.min(30)))));
        assert!(is_flat((0..90).map(|second| f64::from(second % 10))));
    }

    #[test]
    fn figures_that_keep_rising_or_are_missing_are_not_flat() {
        assert!(!is_flat((0..90).map(f64::from)));
        assert!(!is_flat(std::iter::empty()));
    }
}
