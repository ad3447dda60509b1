//! What a run found: the same data as a table, as JSON and as a page with charts.

mod axis;
mod figure;
mod html;
mod json;
mod svg;
mod table;

pub use axis::Scale;
pub(crate) use figure::shown;
pub use hdrhistogram::Histogram;
pub use svg::{Chart, write_chart};

use crate::machine::Machine;

/// Nanoseconds in the microsecond that latencies are shown in.
const NANOS_PER_MICRO: f64 = 1000.0;

/// Longest latency a histogram takes, in nanoseconds: ten minutes. Longer ones count as this.
pub const LATENCY_NANOS_MAX: u64 = 600_000_000_000;

/// An empty histogram of latencies in nanoseconds, right to three digits; about 330 KB when full.
/// Record with `saturating_record`.
#[expect(
    clippy::missing_panics_doc,
    reason = "the bounds are constants that fit"
)]
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_NANOS_MAX, 3).expect("1 < the bound, and 3 digits are ok")
}

/// What a figure counts. The name of a result ends in the unit; this decides how people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Whole things: events, streams, errors. Name ends in `_count`.
    Count,
    /// Things in a second. Name ends in `_per_second`.
    PerSecond,
    /// Microseconds, shown as µs, ms or s. Name ends in `_us`, or `_us_per_…`.
    Micros,
    /// Seconds. Name ends in `_s`.
    Seconds,
    /// Bytes, shown in KiB, MiB, GiB. Name ends in `_bytes`, or `_bytes_per_…`.
    Bytes,
    /// Bytes in a second. Name ends in `_bytes_per_second`.
    BytesPerSecond,
    /// One figure divided by another. Name ends in `_ratio`, or `a_per_b`.
    Ratio,
    /// Hundredths. Name ends in `_percent`.
    Percent,
}

/// One figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Measure {
    /// Name in `snake_case`, unit last.
    pub name: String,
    /// The figure, in the unit that the name says.
    pub value: f64,
    /// How to show it.
    pub unit: Unit,
}

/// A condition the run has to meet. One that fails makes the run fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What has to be, in a few words: "nothing lost".
    pub name: String,
    /// Whether it is so.
    pub passed: bool,
    /// The figures behind it.
    pub detail: String,
}

/// How a series is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Points joined by a line.
    Line,
    /// A bar for each point; x is only its place.
    Bars,
    /// Latency by percentile: x is a percentile (0 to 100), drawn so that each further nine gets
    /// the same room.
    Percentiles,
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Title of the chart; series of the same title share one.
    pub chart: String,
    /// Name in the legend.
    pub name: String,
    /// What x counts: "s", "percentile".
    pub x_unit: String,
    /// What y counts: "us", "events/s".
    pub y_unit: String,
    /// How it is drawn.
    pub shape: Shape,
    /// Names of the points, for bars; else empty.
    pub labels: Vec<String>,
    /// The points, x rising.
    pub points: Vec<(f64, f64)>,
}

/// Everything a run found.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Name of the mode of `gush bench`; one of two words is a command of its own.
    pub mode: &'static str,
    /// What was measured: a URL, or the name of a reference program.
    pub target: String,
    /// What was asked for, in the order it is shown.
    pub parameters: Vec<(String, serde_json::Value)>,
    /// The figures, in the order they are shown.
    pub results: Vec<Measure>,
    /// Two parts that were measured the same way. A table shows a figure of the first
    /// (`latency_p99_quiet_us`) and the same of the second that follows it on one line, with how
    /// many times the first the second is.
    pub side_by_side: Option<[&'static str; 2]>,
    /// The data of the charts.
    pub series: Vec<Series>,
    /// What the run demanded of itself and of the server.
    pub checks: Vec<Check>,
    /// Where it ran.
    pub machine: Machine,
}

impl Report {
    /// A report without figures; reads the facts of this machine.
    pub fn new(mode: &'static str, target: impl Into<String>) -> Self {
        Self {
            mode,
            target: target.into(),
            parameters: vec![],
            results: vec![],
            side_by_side: None,
            series: vec![],
            checks: vec![],
            machine: Machine::read(),
        }
    }

    /// The command that makes such a report.
    pub(crate) fn command(&self) -> String {
        let is_own = self.mode.contains(' ');
        let bench = if is_own { "" } else { "bench " };
        format!("gush {bench}{}", self.mode)
    }

    /// Adds something that was asked for.
    pub fn parameter(&mut self, name: &str, value: impl Into<serde_json::Value>) {
        self.parameters.push((name.to_owned(), value.into()));
    }

    /// Adds a figure. One that is not a number (a division by nothing) is left out.
    pub fn result(&mut self, name: &str, value: f64, unit: Unit) {
        if value.is_finite() {
            let name = name.to_owned();
            self.results.push(Measure { name, value, unit });
        }
    }

    /// Adds a number of things.
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    pub fn count(&mut self, name: &str, value: u64) {
        self.result(name, value as f64, Unit::Count);
    }

    /// Adds p50, p90, p99, p99.9 and the maximum as `{prefix}_p50_us` … `{prefix}_max_us`, and the
    /// curve of all percentiles to the chart "Latency by percentile". `nanos` holds nanoseconds.
    /// A percentile is left out when fewer times were measured than it takes for one to lie
    /// beyond it: p99 of 50 would only be the maximum again.
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds below 2^52")]
    pub fn latencies(&mut self, prefix: &str, nanos: &Histogram<u64>) {
        if nanos.is_empty() {
            return;
        }
        let percentiles = [
            ("p50", 50.0, 1),
            ("p90", 90.0, 10),
            ("p99", 99.0, 100),
            ("p999", 99.9, 1000),
        ];
        for (name, percentile, least) in percentiles {
            if nanos.len() < least {
                break;
            }
            let micros = nanos.value_at_percentile(percentile) as f64 / NANOS_PER_MICRO;
            self.result(&format!("{prefix}_{name}_us"), micros, Unit::Micros);
        }
        let micros = nanos.max() as f64 / NANOS_PER_MICRO;
        self.result(&format!("{prefix}_max_us"), micros, Unit::Micros);
        if nanos.len() > 1 {
            self.series.push(percentile_curve(prefix, nanos));
        }
    }

    /// Adds a condition; `detail` is shown beside it, whether it passed or not.
    pub fn check(&mut self, name: &str, passed: bool, detail: impl Into<String>) {
        let (name, detail) = (name.to_owned(), detail.into());
        self.checks.push(Check {
            name,
            passed,
            detail,
        });
    }

    /// Adds a condition on a count of faults: passed when there are none.
    pub fn check_none(&mut self, name: &str, faults: u64) {
        self.check(name, faults == 0, faults.to_string());
    }

    /// Adds points of a chart.
    pub fn series(&mut self, series: Series) {
        self.series.push(series);
    }

    /// A figure by name.
    pub fn value(&self, name: &str) -> Option<f64> {
        let named = self.results.iter().find(|result| result.name == name);
        named.map(|result| result.value)
    }

    /// Whether every check passed.
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }
}

/// The percentiles of a histogram, four steps to each halving of what is left, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "nanoseconds below 2^52")]
pub fn percentile_curve(name: &str, nanos: &Histogram<u64>) -> Series {
    let micros = |value: u64| value as f64 / NANOS_PER_MICRO;
    let steps = nanos.iter_quantiles(4);
    let points = steps.map(|step| (step.percentile(), micros(step.value_iterated_to())));
    Series {
        chart: "Latency by percentile".to_owned(),
        name: name.to_owned(),
        x_unit: "percentile".to_owned(),
        y_unit: "us".to_owned(),
        shape: Shape::Percentiles,
        labels: vec![],
        points: points.collect(),
    }
}
