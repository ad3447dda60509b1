//! Rounds, medians and spreads.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Figures by row and column, each with one value a round.
#[derive(Debug, Default)]
pub struct Rounds {
    rows: Vec<String>,
    columns: Vec<String>,
    cells: BTreeMap<(usize, usize), Vec<f64>>,
}

impl Rounds {
    /// Adds one round's value.
    pub fn add(&mut self, row: &str, column: &str, value: f64) {
        let at = (place(&mut self.rows, row), place(&mut self.columns, column));
        self.cells.entry(at).or_default().push(value);
    }

    /// The median of a cell, or not a number.
    pub fn median(&self, row: &str, column: &str) -> f64 {
        let find = |names: &[String], name| names.iter().position(|have| have == name);
        find(&self.rows, row)
            .zip(find(&self.columns, column))
            .and_then(|at| self.cells.get(&at))
            .map_or(f64::NAN, |values| spread(values).1)
    }

    /// A table in Markdown: median (smallest to largest).
    pub fn table(&self, title: &str) -> String {
        let mut text = format!("| {title} | {} |\n", self.columns.join(" | "));
        let _ = writeln!(text, "| --- |{}", " --- |".repeat(self.columns.len()));
        for (row, name) in self.rows.iter().enumerate() {
            let _ = write!(text, "| {name} |");
            for column in 0..self.columns.len() {
                match self.cells.get(&(row, column)) {
                    Some(values) => {
                        let (low, middle, high) = spread(values);
                        let _ = write!(text, " {}", number(middle));
                        if values.len() > 1 {
                            let _ = write!(text, " ({} to {})", number(low), number(high));
                        }
                    }
                    None => text.push_str(" -"),
                }
                text.push_str(" |");
            }
            text.push('\n');
        }
        text
    }

    /// Every value, one line each, for the raw output.
    pub fn raw(&self) -> String {
        let mut text = String::new();
        for ((row, column), values) in &self.cells {
            let values: Vec<String> = values.iter().map(|value| format!("{value:.4}")).collect();
            let (row, column) = (&self.rows[*row], &self.columns[*column]);
            let _ = writeln!(text, "{row}\t{column}\t{}", values.join("\t"));
        }
        text
    }
}

fn place(names: &mut Vec<String>, name: &str) -> usize {
    names
        .iter()
        .position(|have| have == name)
        .unwrap_or_else(|| {
            names.push(name.to_owned());
            names.len() - 1
        })
}

/// Smallest, median and largest.
pub fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some((low, high)) = sorted.first().zip(sorted.last()) else {
        return (f64::NAN, f64::NAN, f64::NAN);
    };
    let middle = sorted.len() / 2;
    let median = if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    };
    (*low, median, *high)
}

/// The value below which `share` (0 to 1) of them lie.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (share * (sorted.len().max(1) - 1) as f64).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Three digits that mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 10_000.0 => {
            let digits = format!("{:.0}", size / 1000.0);
            let sign = if value < 0.0 { "-" } else { "" };
            format!("{sign}{digits}k")
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
