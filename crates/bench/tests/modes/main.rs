//! Each mode against a hub that does wrong what it is told to: the report has to say exactly that.

mod delivery;
mod hostile;
mod mock;
mod publish;
mod replay;
mod servers;

use std::time::Duration;

use gush_bench::{BenchError, BenchOptions, Progress, Report};
use mock::{Faults, Mock};

/// How long a mode waits for what the mock will never send. Longer than a busy machine may hold the
/// mock up: it delivers before it answers.
const PATIENCE: Duration = Duration::from_secs(3);

/// A mode, as the library offers them.
type Mode = fn(&BenchOptions, &Progress) -> Result<Report, BenchError>;

/// Runs a mode against a mock with these faults.
fn run(mode: Mode, faults: Faults, options: BenchOptions) -> Report {
    let is_hub = faults.answer.is_none();
    let mock = Mock::start(faults).expect("the loopback has a free port");
    let options = BenchOptions {
        url: mock.url(),
        is_url_given: true,
        // Another server is told where it takes events.
        publish: (!is_hub).then(|| mock.url()),
        ..options
    };
    mode(&options, &Progress::silent()).expect("the mock answers")
}

/// Runs a mode that cannot be measured, and gives the reason.
fn refuses(mode: Mode, faults: Faults, options: BenchOptions) -> String {
    let mock = Mock::start(faults).expect("the loopback has a free port");
    let options = BenchOptions {
        url: mock.url(),
        ..options
    };
    let outcome = mode(&options, &Progress::silent());
    outcome.map_or_else(|error| error.to_string(), |report| report.table())
}

/// Asserts figures by name; a failure shows the whole report.
#[track_caller]
fn has(report: &Report, figures: &[(&str, u64)]) {
    for (name, expected) in figures {
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let expected = Some(*expected as f64);
        assert_eq!(
            report.value(name),
            expected,
            "{name} in:\n{}",
            report.table()
        );
    }
}

/// Asserts which checks failed, in order.
#[track_caller]
fn fails(report: &Report, expected: &[&str]) {
    let failed = report.checks.iter().filter(|check| !check.passed);
    let failed: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
    assert_eq!(failed, expected, "{}", report.table());
    assert_eq!(report.passed(), expected.is_empty());
}
