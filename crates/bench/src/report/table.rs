//! A report as aligned text for a terminal.

use std::fmt::Write as _;

use super::figure::{label, shown};
use super::{Check, Report};

impl Report {
    /// The report as text, several lines without a line end at the last.
    pub fn table(&self) -> String {
        let mut text = format!("{}  {}\n", self.command(), self.target);
        let parameters = self.parameters.iter();
        let parameters: Vec<String> = parameters
            .map(|(name, value)| match value.as_str() {
                Some(plain) => format!("{name} {plain}"),
                None => format!("{name} {value}"),
            })
            .collect();
        let _ = writeln!(text, "{}\n", parameters.join(", "));
        let rows = self.results.iter();
        let rows = rows.map(|result| (label(&result.name), shown(result.value, result.unit)));
        columns(&rows.collect::<Vec<_>>(), &mut text);
        text.push('\n');
        for check in &self.checks {
            let _ = writeln!(text, "{}", check_line(check));
        }
        let _ = write!(text, "\n{}", self.machine.line());
        if !self.machine.commit.is_empty() {
            let _ = write!(text, "\ncommit {}", self.machine.commit);
        }
        text
    }
}

/// Names to the left, figures to the right.
fn columns(rows: &[(String, String)], text: &mut String) {
    let width = |text: &String| text.chars().count();
    let left = rows
        .iter()
        .map(|(name, _)| width(name))
        .max()
        .unwrap_or_default();
    let right = rows
        .iter()
        .map(|(_, figure)| width(figure))
        .max()
        .unwrap_or_default();
    for (name, figure) in rows {
        let _ = writeln!(text, "{name:left$}  {figure:>right$}");
    }
}

fn check_line(check: &Check) -> String {
    let word = if check.passed { "ok    " } else { "FAILED" };
    let Check { name, detail, .. } = check;
    if detail.is_empty() {
        format!("{word}  {name}")
    } else {
        format!("{word}  {name}: {detail}")
    }
}

#[cfg(test)]
mod tests {
    use crate::report::{Report, Unit};

    #[test]
    fn a_table_has_aligned_figures_and_every_check() {
        let mut report = Report::new("fanout", "http://hub");
        report.parameter("subscribers", 10);
        report.parameter("body", "form");
        report.count("delivered_count", 1000);
        report.result("latency_p50_us", 1.5, Unit::Micros);
        report.result("nothing_per_nothing", f64::NAN, Unit::Ratio);
        report.check_none("nothing lost", 0);
        report.check_none("nothing doubled", 3);
        let text = report.table();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "gush bench fanout  http://hub");
        assert_eq!(lines[1], "subscribers 10, body form");
        assert_eq!(lines[3], "delivered      1,000");
        assert_eq!(lines[4], "latency p50  1.50 µs");
        assert_eq!(lines[6], "ok      nothing lost: 0");
        assert_eq!(lines[7], "FAILED  nothing doubled: 3");
        assert!(!report.passed());
    }
}
