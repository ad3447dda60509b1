//! Mode `fanout`: everybody follows one topic, and every event goes to everybody.

use super::common::{Delivered, Measured, plan, role_of, server_of, topic_name};
use crate::engine::load::{DEFAULT_DURATION, DEFAULT_WINDOW, Load};
use crate::engine::{Fleet, Plan};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::progress::Progress;
use crate::report::Report;
use crate::target::Target;

/// A fleet of subscribers of so many topics, which take turns, beside so many streams of other
/// fleets.
pub(crate) fn fleet(
    options: &BenchOptions,
    target: &Target,
    topics: u32,
    beside: u64,
) -> Result<Fleet, BenchError> {
    let plan = Plan {
        beside,
        topics,
        ..plan(options, target, move |number| role_of(Some(number), topics))
    };
    Fleet::start(plan, options)
}

/// Runs the mode.
///
/// # Errors
/// [`BenchError`] when the target cannot be used or no stream can be opened.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    let target = Target::from_options(options)?;
    let server = server_of(options, &target, progress);
    let mut fleet = fleet(options, &target, 1, 0)?;
    progress.phase("opening streams", options.subscribers);
    let opened = fleet.open(options.subscribers, options.connect_rate, progress);
    if opened.opened == 0 {
        return Err(nothing_opened(&fleet));
    }
    let load = Load::from_options(options, &target, &topic_name);
    load.begin("delivering", opened.opened, progress);
    let measured = Measured::run(&fleet, &load, &server, progress)?;
    progress.end();
    let counts = fleet.finish();

    let mut report = Report::new("fanout", target.name());
    parameters(options, &mut report);
    Delivered {
        readers: options.subscribers,
        measured: &measured,
        counts,
        error: fleet.first_error(),
    }
    .write(&mut report);
    Ok(report)
}

/// What was asked for, as far as publishing goes.
pub(crate) fn parameters(options: &BenchOptions, report: &mut Report) {
    report.parameter("subscribers", options.subscribers);
    report.parameter("size_bytes", options.size as u64);
    report.parameter("publishers", options.publishers);
    if let Some(rate) = options.rate {
        report.parameter("rate_per_second", rate);
    } else {
        report.parameter("window_events", options.window.unwrap_or(DEFAULT_WINDOW));
    }
    if let Some(events) = options.events {
        report.parameter("events", events);
    } else {
        let duration = options.duration_or(DEFAULT_DURATION);
        report.parameter("duration_s", duration.as_secs_f64());
    }
}

/// Why there is nothing to measure.
pub(crate) fn nothing_opened(fleet: &Fleet) -> BenchError {
    let why = fleet.first_error();
    BenchError::Server(format!(
        "no stream could be opened: {}",
        why.as_deref().unwrap_or("no answer came")
    ))
}
