//! Tables of Markdown.

use crate::median::Median;
use std::fmt::Write as _;

/// A table that grows by rows.
#[derive(Clone, Debug)]
pub struct Table {
    text: String,
    columns: usize,
}

impl Table {
    /// With the names of its columns.
    #[must_use]
    pub fn new(columns: &[&str]) -> Self {
        let text = format!("| {} |\n|{}\n", columns.join(" | "), "---|".repeat(columns.len()));
        Self { text, columns: columns.len() }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has another number of cells.
    pub fn row(&mut self, cells: &[String]) {
        assert_eq!(cells.len(), self.columns, "a row of another table");
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "| {} |", cells.join(" | "));
    }

    /// As text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The middle, and the extremes around it.
#[must_use]
pub fn spread(median: &Median, digits: usize) -> String {
    let Median { middle, low, high } = median;
    format!("{middle:.digits$} ({low:.digits$} to {high:.digits$})")
}

/// How many times the control.
#[must_use]
pub fn times(of: &Median, control: &Median) -> String {
    format!("{:.2}", if control.middle > 0.0 { of.middle / control.middle } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_row_and_two_above() {
        let mut table = Table::new(&["what", "ns"]);
        let median = Median::of([1.0, 3.0, 2.0]);
        table.row(&[String::from("page"), spread(&median, 1)]);
        assert_eq!(table.text(), "| what | ns |\n|---|---|\n| page | 2.0 (1.0 to 3.0) |\n");
        assert_eq!(times(&median, &Median::of([4.0])), "0.50");
        assert_eq!(times(&median, &Median::default()), "0.00");
    }
}
