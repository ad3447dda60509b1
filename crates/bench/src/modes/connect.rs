//! Mode `connect`: how fast streams open, and how long one waits for the first byte.

use std::time::{Duration, Instant};

use super::common::{IDLE_TOPIC, Moment, check_opened, micros_per, per_second, ratio, server_of};
use super::fanout::nothing_opened;
use crate::engine::{Fleet, NO_TOPIC, Plan, Role};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::progress::Progress;
use crate::report::{Report, Unit};
use crate::target::Target;

/// A fleet of streams that no event is for.
pub(crate) fn fleet(
    options: &BenchOptions,
    target: &Target,
    streams: u64,
) -> Result<Fleet, BenchError> {
    let request = target.subscribe_request(IDLE_TOPIC);
    let plan = Plan {
        streams,
        beside: 0,
        address: target.subscribe_address(),
        topics: 1,
        lanes: 1,
        assign: Box::new(|_| Role {
            topic: NO_TOPIC,
            is_slow: false,
        }),
        request: Box::new(move |_| request.clone()),
    };
    Fleet::start(plan, options)
}

/// Runs the mode.
///
/// # Errors
/// [`BenchError`] when the target cannot be used or no stream can be opened.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    if options.subscribers == 0 {
        return Err(BenchError::Usage(
            "at least one subscriber is needed".into(),
        ));
    }
    let target = Target::from_options(options)?;
    let server = server_of(options, &target, progress);
    let mut fleet = fleet(options, &target, options.subscribers + options.idle)?;
    let mut idle = crate::engine::Counts::default();
    if options.idle > 0 {
        progress.phase("opening idle streams", options.idle);
        idle = fleet.open(options.idle, None, progress);
    }
    progress.phase("opening streams", options.subscribers);
    fleet.take_latencies();
    let before = Moment::now(&server);
    let begin = Instant::now();
    let opened = fleet.open(options.subscribers, options.connect_rate, progress);
    let elapsed = begin.elapsed();
    let after = Moment::now(&server);
    progress.end();
    if opened.opened == 0 {
        return Err(nothing_opened(&fleet));
    }
    let latencies = fleet.take_latencies();
    let error = fleet.first_error();
    let counts = fleet.finish();

    let mut report = Report::new("connect", target.name());
    report.parameter("connections", options.subscribers);
    report.parameter("idle_streams", options.idle);
    if let Some(rate) = options.connect_rate {
        report.parameter("rate_per_second", rate);
    }
    report.count("opened_count", opened.opened);
    report.count("refused_count", opened.refused);
    report.count("failed_count", opened.failed);
    let rate = per_second(opened.opened, elapsed);
    report.result("opened_per_second", rate, Unit::PerSecond);
    report.latencies("first_byte", &latencies.first_byte);
    if !latencies.connect_late.is_empty() {
        let late = Duration::from_nanos(latencies.connect_late.value_at_quantile(0.99));
        report.result("connect_late_p99_us", micros_per(late, 1), Unit::Micros);
    }
    if let Some(cpu) = after.server_cpu_since(&before) {
        let cost = micros_per(cpu, opened.opened);
        report.result("server_cpu_us_per_connect", cost, Unit::Micros);
    }
    if let Some(cpu) = after.own_cpu_since(&before) {
        let cost = micros_per(cpu, opened.opened);
        report.result("generator_cpu_us_per_connect", cost, Unit::Micros);
    }
    if let Some(rss) = after.server_rss() {
        report.result("server_rss_bytes", ratio(rss, 1), Unit::Bytes);
    }
    let wanted = options.subscribers + options.idle;
    let sum = opened.opened + idle.opened;
    check_opened(&mut report, sum, wanted, error.as_deref());
    report.check_none("no stream dropped", counts.dropped);
    Ok(report)
}
