//! Figures of several runs, and the tables that show them.

use std::fmt::{self, Write as _};
use std::time::Duration;

use crate::measure::Cost;

/// One figure of every run, in one unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(Vec<f64>);

impl Figures {
    pub(crate) fn add(&mut self, figure: f64) {
        self.0.push(figure);
        self.0.sort_by(f64::total_cmp);
    }

    /// `NaN` without a figure, so that nothing that was not measured looks like a result.
    pub(crate) fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl FromIterator<f64> for Figures {
    fn from_iter<I: IntoIterator<Item = f64>>(figures: I) -> Self {
        let mut all = Figures::default();
        figures.into_iter().for_each(|figure| all.add(figure));
        all
    }
}

/// The median, and the smallest and largest figure where they differ.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Some(least), Some(most)) = (self.0.first(), self.0.last()) else { return f.write_str("–") };
        match number(*least) == number(*most) {
            true => f.write_str(&number(self.median())),
            false => write!(f, "{} ({}–{})", number(self.median()), number(*least), number(*most)),
        }
    }
}

/// Three significant digits.
pub(crate) fn number(figure: f64) -> String {
    match figure.abs() {
        size if size.is_nan() => "–".to_owned(),
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The CPU time of each of `count` operations, in microseconds, without that of a process that does `less` of them.
pub(crate) fn each(many: Cost, few: Cost, count: u32) -> f64 {
    many.cpu.saturating_sub(few.cpu).as_secs_f64() * 1e6 / f64::from(count)
}

/// The ratio of each figure to the one of `base` from the same turn.
pub(crate) fn ratios(figures: &[f64], base: &[f64]) -> Figures {
    figures.iter().zip(base).map(|(figure, base)| figure / base).collect()
}

/// A page in Markdown.
#[derive(Default)]
pub(crate) struct Page(String);

impl Page {
    pub(crate) fn heading(&mut self, level: usize, text: &str) {
        let _written = writeln!(self.0, "{} {text}\n", "#".repeat(level));
    }

    /// Breaks the text at 110 characters.
    pub(crate) fn paragraph(&mut self, text: &str) {
        let mut column = 0;
        for word in text.split_whitespace() {
            let length = word.chars().count();
            let separator = match column {
                0 => "",
                _ if column + 1 + length <= 110 => " ",
                _ => "\n",
            };
            column = if separator == " " { column + 1 + length } else { length };
            self.0.push_str(separator);
            self.0.push_str(word);
        }
        self.0.push_str("\n\n");
    }

    pub(crate) fn table<const N: usize>(&mut self, head: [&str; N], rows: &[[String; N]]) {
        let mut row = |cells: Vec<&str>| {
            let _written = writeln!(self.0, "| {} |", cells.join(" | "));
        };
        row(head.to_vec());
        row(vec!["---"; N]);
        for cells in rows {
            row(cells.iter().map(String::as_str).collect());
        }
        self.0.push('\n');
    }

    /// The page as text, with one line end at its end.
    pub(crate) fn text(&self) -> String {
        format!("{}\n", self.0.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_show_their_median_and_their_spread() {
        assert_eq!(Figures::from_iter([3.0, 1.0, 20.0]).to_string(), "3.00 (1.00–20.0)");
        assert_eq!(Figures::from_iter([150.4]).to_string(), "150");
        assert_eq!(Figures::default().to_string(), "–");
        assert!(Figures::default().median().is_nan());
    }

    #[test]
    fn ratios_are_those_of_one_turn() {
        assert_eq!(ratios(&[2.0, 30.0, 4.0], &[1.0, 10.0, 4.0]).to_string(), "2.00 (1.00–3.00)");
        assert_eq!(ratios(&[2.0], &[]).to_string(), "–");
    }

    #[test]
    fn a_paragraph_breaks_at_110_characters() {
        let mut page = Page::default();
        page.paragraph(&"four ".repeat(23));

        assert_eq!(page.text(), format!("{}four\nfour\n", "four ".repeat(21)));
    }

    #[test]
    fn a_table_has_a_line_for_each_row() {
        let mut page = Page::default();
        page.heading(2, "A");
        page.table(["a", "b"], &[["1".into(), "2".into()]]);

        assert_eq!(page.text(), "## A\n\n| a | b |\n| --- | --- |\n| 1 | 2 |\n");
    }
}
