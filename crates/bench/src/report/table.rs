//! A report as aligned text for a terminal.

use std::fmt::Write as _;

use super::figure::{label, shown};
use super::{Check, Report, Unit};

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
        columns(&self.rows(), &mut text);
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

/// A name, a figure, and where two parts were measured the second's and the quotient.
type Row = [String; 4];

impl Report {
    fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        if let Some([first, second]) = self.side_by_side {
            rows.push([String::new(), first.into(), second.into(), String::new()]);
        }
        let mut results = self.results.iter().peekable();
        while let Some(one) = results.next() {
            let name = label(&one.name);
            let figure = shown(one.value, one.unit);
            let second = self.side_by_side.and_then(|[first, second]| {
                let base = name.strip_suffix(first)?;
                let other =
                    results.next_if(|other| label(&other.name) == format!("{base}{second}"));
                Some((base.trim_end().to_owned(), other?))
            });
            rows.push(match second {
                Some((base, other)) => {
                    let times = other.value / one.value;
                    let times = if times.is_finite() {
                        shown(times, Unit::Ratio)
                    } else {
                        String::new()
                    };
                    [base, figure, shown(other.value, other.unit), times]
                }
                None => [name, figure, String::new(), String::new()],
            });
        }
        rows
    }
}

/// Names to the left, figures to the right.
fn columns(rows: &[Row], text: &mut String) {
    let width = |column: usize| {
        let widths = rows.iter().map(|row| row[column].chars().count());
        widths.max().unwrap_or_default()
    };
    let [left, first, second, times] = [0, 1, 2, 3].map(width);
    for [name, one, two, quotient] in rows {
        let line = format!("{name:left$}  {one:>first$}  {two:>second$}  {quotient:>times$}");
        let _ = writeln!(text, "{}", line.trim_end());
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

    #[test]
    fn two_parts_stand_side_by_side() {
        let mut report = Report::new("hostile", "http://hub");
        report.side_by_side = Some(["quiet", "hostile"]);
        report.count("good_count", 9);
        report.result("latency_p99_quiet_us", 100.0, Unit::Micros);
        report.result("latency_p99_hostile_us", 150.0, Unit::Micros);
        report.result("server_rss_peak_quiet_bytes", 0.0, Unit::Bytes);
        report.result("server_rss_peak_hostile_bytes", 1.0, Unit::Bytes);
        report.result("kernel_quiet_bytes", 1.0, Unit::Bytes);
        let text = report.table();
        let lines: Vec<&str> = text.lines().skip(3).take(5).collect();
        let expected = [
            "                  quiet  hostile",
            "good                  9",
            "latency p99      100 µs   150 µs  1.50 x",
            "server rss peak     0 B   1.00 B",
            "kernel quiet     1.00 B",
        ];
        assert_eq!(lines, expected);
    }
}
