//! Mode `topics`: subscribers spread over many topics, each event for one of them.

use super::common::{Delivered, Moment, request, server_of, topic_name};
use super::fanout::{nothing_opened, parameters};
use crate::engine::load::Load;
use crate::engine::{Fleet, NO_TOPIC, Plan, Role};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::progress::Progress;
use crate::report::Report;
use crate::target::Target;

/// The streams that get nothing first, then the subscribers, whose topics take turns.
fn fleet(options: &BenchOptions, target: &Target) -> Result<Fleet, BenchError> {
    let (idle, topics, is_templated) = (options.idle, options.topics, options.is_templated);
    let assign = move |number: u64| {
        let place = number.checked_sub(idle);
        let topic = place.and_then(|place| u32::try_from(place % u64::from(topics)).ok());
        Role {
            topic: topic.unwrap_or(NO_TOPIC),
            is_slow: false,
        }
    };
    let plan = Plan {
        streams: options.subscribers + idle,
        beside: 0,
        address: target.subscribe_address(),
        topics,
        lanes: options.publishers,
        assign: Box::new(assign),
        request: {
            let target = target.clone();
            Box::new(move |role| request(&target, role, is_templated))
        },
    };
    Fleet::start(plan, options)
}

/// Runs the mode.
///
/// # Errors
/// [`BenchError`] for more topics than subscribers, or when the target cannot be used.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    if options.topics == 0 || u64::from(options.topics) > options.subscribers {
        return Err(BenchError::Usage(format!(
            "{} topics for {} subscribers: each topic needs one",
            options.topics, options.subscribers
        )));
    }
    let target = Target::from_options(options)?;
    let server = server_of(options, &target);
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
    progress.phase("delivering", 0);
    let load = Load::from_options(options, &target, &topic_name);
    fleet.take_latencies();
    let before = Moment::now(&server);
    let driven = fleet.drive(&load, progress)?;
    let after = Moment::now(&server);
    progress.end();
    let latencies = fleet.take_latencies();
    let counts = fleet.finish();

    let mut report = Report::new("topics", target.name());
    parameters(options, &mut report);
    report.parameter("topics", options.topics);
    report.parameter("templates", options.is_templated);
    report.parameter("idle_streams", options.idle);
    report.count("topics_wrong_count", fleet.wrong_topics());
    Delivered {
        readers: options.subscribers + options.idle,
        driven: &driven,
        counts,
        latencies: &latencies,
        before,
        after,
    }
    .write(&mut report);
    report.check_none("every topic exact", fleet.wrong_topics());
    Ok(report)
}
