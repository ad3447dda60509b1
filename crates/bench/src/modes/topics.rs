//! Mode `topics`: subscribers spread over many topics, each event for one of them.

use super::common::{Delivered, Measured, check_topics, plan, role_of, server_of, topic_name};
use super::fanout::{nothing_opened, parameters};
use crate::engine::load::Load;
use crate::engine::{Fleet, Plan};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::progress::Progress;
use crate::report::Report;
use crate::target::Target;

/// The streams that get nothing first, then the subscribers, whose topics take turns.
fn fleet(options: &BenchOptions, target: &Target) -> Result<Fleet, BenchError> {
    let (idle, topics) = (options.idle, options.topics);
    let assign = move |number: u64| role_of(number.checked_sub(idle), topics);
    let plan = Plan {
        streams: options.subscribers + idle,
        topics,
        ..plan(options, target, assign)
    };
    Fleet::start(plan, options)
}

/// Runs the mode.
///
/// # Errors
/// [`BenchError`] for more topics than subscribers, or when the target cannot be used.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    check_topics(options)?;
    let target = Target::from_options(options)?;
    let server = server_of(options, &target, progress);
    let mut fleet = fleet(options, &target)?;
    if options.idle > 0 {
        progress.phase("opening idle streams", options.idle);
        fleet.open(options.idle, options.connect_rate, progress);
    }
    progress.phase("opening streams", options.subscribers);
    let opened = fleet.open(options.subscribers, options.connect_rate, progress);
    if opened.opened == 0 {
        return Err(nothing_opened(&fleet));
    }
    let load = Load::from_options(options, &target, &topic_name);
    // Each event is for the streams of one topic.
    load.begin(
        "delivering",
        opened.opened / u64::from(options.topics),
        progress,
    );
    let measured = Measured::run(&fleet, &load, &server, progress)?;
    progress.end();
    let counts = fleet.finish();

    let mut report = Report::new("topics", target.name());
    parameters(options, &mut report);
    report.parameter("topics", options.topics);
    report.parameter("templates", options.is_templated);
    report.parameter("idle_streams", options.idle);
    report.count("topics_wrong_count", fleet.wrong_topics());
    Delivered {
        readers: options.subscribers + options.idle,
        measured: &measured,
        counts,
        error: fleet.first_error(),
    }
    .write(&mut report);
    report.check_none("every topic exact", fleet.wrong_topics());
    Ok(report)
}
