//! Mode `publish`: how many publishes a second, how fast they are answered, and whether each
//! acknowledged event reached the streams that were open.

use std::sync::atomic::AtomicBool;

use super::common::{Moment, micros_per, per_second, ratio, server_of};
use super::publishing::{self, DURATION_DEFAULT, Load, Published, run_topic};
use super::readers::{Outcomes, Plan, Readers};
use crate::report::Unit;
use crate::{BenchError, BenchOptions, Progress, Report, Target};

/// Publishes and reports.
///
/// # Errors
/// [`BenchError`] when the target cannot be used or reached; what the server does wrong is in the
/// report's checks.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    let target = Target::from_options(options)?;
    let topic = run_topic("publish");
    let load = Load::of(options, &target, &topic);
    let server = server_of(options, &target, progress);
    let plan = Plan {
        address: target.subscribe_address(),
        request: target.subscribe_request(&topic),
        streams: usize::try_from(options.subscribers).unwrap_or(usize::MAX),
        lanes: load.publishers,
        first: 0,
        core: options.pin_generator,
        patience: options.patience,
    };
    progress.phase("opening streams", 0);
    let readers = Readers::start(plan)?;
    readers.wait_open()?;

    let before = Moment::now(&server);
    match options.events {
        Some(events) => progress.phase("publishing", events),
        None => progress.timed_phase("publishing", options.duration_or(DURATION_DEFAULT)),
    }
    let mut published = publishing::publish(&load, &AtomicBool::new(false), progress)?;
    let expected = published.acknowledged * options.subscribers;
    progress.phase("waiting for the streams", expected);
    readers.wait_events(Some(expected), progress);
    let after = Moment::now(&server);
    let outcomes = readers.finish();

    let mut report = Report::new("publish", target.name());
    parameters(&mut report, options);
    figures(&mut report, &published, options);
    deliveries(&mut report, &published, &outcomes);
    costs(&mut report, &published, (&before, &after));
    checks(&mut report, &mut published, options);
    report.series(published.rate);
    Ok(report)
}

fn parameters(report: &mut Report, options: &BenchOptions) {
    report.parameter("publishers", options.publishers);
    match options.rate {
        Some(rate) => report.parameter("requests_per_second_asked", rate),
        None => report.parameter("rate", "as fast as answered"),
    }
    report.parameter("events_per_request", options.batch.max(1));
    report.parameter(
        "format",
        if options.batch > 0 {
            "ndjson"
        } else {
            "one event a request"
        },
    );
    report.parameter("size_bytes", options.size);
    report.parameter("subscribers", options.subscribers);
}

fn figures(report: &mut Report, published: &Published, options: &BenchOptions) {
    let rate = |count: u64| per_second(count, published.elapsed);
    report.count("request_count", published.requests);
    report.count("acknowledged_count", published.acknowledged);
    report.count("refused_count", published.refused());
    report.count("unanswered_count", published.unknown());
    report.count("reconnect_count", published.reconnects);
    report.result(
        "requests_per_second",
        rate(published.requests),
        Unit::PerSecond,
    );
    report.result(
        "events_per_second",
        rate(published.acknowledged),
        Unit::PerSecond,
    );
    let bytes = published.acknowledged * options.size as u64;
    report.result(
        "published_bytes_per_second",
        rate(bytes),
        Unit::BytesPerSecond,
    );
    report.latencies("latency", &published.latencies);
}

fn costs(report: &mut Report, published: &Published, (before, after): (&Moment, &Moment)) {
    let (requests, events) = (published.requests, published.acknowledged);
    if let Some(cpu) = after.server_cpu_since(before) {
        report.result(
            "server_cpu_us_per_request",
            micros_per(cpu, requests),
            Unit::Micros,
        );
        report.result(
            "server_cpu_us_per_event",
            micros_per(cpu, events),
            Unit::Micros,
        );
    }
    if let Some(cpu) = after.own_cpu_since(before) {
        report.result(
            "generator_cpu_us_per_request",
            micros_per(cpu, requests),
            Unit::Micros,
        );
    }
    if let Some(rss) = after.server_rss() {
        report.result("server_rss_bytes", ratio(rss, 1), Unit::Bytes);
    }
}

/// What the attached streams got, and the checks of it.
fn deliveries(report: &mut Report, published: &Published, outcomes: &Outcomes) {
    let streams = outcomes.streams.len();
    if streams == 0 {
        return;
    }
    let (mut lost, mut unasked) = (0, 0);
    for stream in 0..streams {
        for (number, lane) in published.lanes.iter().enumerate() {
            let number = u32::try_from(number).unwrap_or(u32::MAX);
            let missing = |until| outcomes.missing(stream, number, until);
            let is_missing = |sequence: u32| missing(sequence + 1) - missing(sequence);
            let refused = lane.refused.iter().map(|sequence| is_missing(*sequence));
            let refused: u64 = refused.sum();
            let unknown: u64 = lane
                .unknown
                .iter()
                .map(|sequence| is_missing(*sequence))
                .sum();
            lost += missing(lane.sent) - refused - unknown;
            unasked += lane.refused.len() as u64 - refused;
        }
    }
    let delivered = outcomes.sum(|stream| stream.delivered);
    report.count("expected_count", published.acknowledged * streams as u64);
    report.count("delivered_count", delivered);
    report.count("lost_count", lost);
    report.count("doubled_count", outcomes.sum(|stream| stream.doubled));
    report.count("reordered_count", outcomes.sum(|stream| stream.reordered));
    report.latencies("delivery", &outcomes.latencies);
    if let Some(error) = outcomes.first_error() {
        report.check("streams stay open", false, error);
    }
    report.check_none("every acknowledged event is delivered", lost);
    report.check_none(
        "nothing is delivered twice",
        outcomes.sum(|stream| stream.doubled),
    );
    let reordered = outcomes.sum(|stream| stream.reordered);
    report.check_none("each publisher's events come in order", reordered);
    report.check_none("nothing is delivered that was refused", unasked);
}

fn checks(report: &mut Report, published: &mut Published, options: &BenchOptions) {
    let (refused, unknown) = (published.refused(), published.unknown());
    let error = published.error.clone().unwrap_or_default();
    let detail = |count: u64| match error.as_str() {
        error if count > 0 && !error.is_empty() => format!("{count} ({error})"),
        _ => count.to_string(),
    };
    report.check("no event is refused", refused == 0, detail(refused));
    report.check("every request is answered", unknown == 0, detail(unknown));
    let acknowledged = published.acknowledged;
    report.check(
        "events are acknowledged",
        acknowledged > 0,
        acknowledged.to_string(),
    );
    // Another server's answer is no id.
    if options.publish.is_none() {
        let ids = published.ids.len() as u64;
        report.check(
            "every acknowledged event has an id",
            ids == acknowledged,
            format!("{ids} ids for {acknowledged} events"),
        );
        report.check_none("no id is given twice", published.doubled_ids());
    }
}
