//! Mode `idle`: what an open stream costs while nothing happens, in the server and in the kernel,
//! and whether all of it comes back.

use std::time::{Duration, Instant};

use super::common::{
    Measured, Moment, check_opened, check_topics, micros_per, per_second, ratio, server_of,
    topic_name,
};
use super::fanout::{self, nothing_opened};
use crate::engine::load::Load;
use crate::engine::{Counts, Latencies};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::procfs::Processes;
use crate::progress::Progress;
use crate::report::{Report, Unit};
use crate::target::Target;

/// How long streams are held where no time was given.
const DEFAULT_HOLD: Duration = Duration::from_secs(10);
/// Time without a change after which no more memory is expected back.
const QUIET: Duration = Duration::from_secs(3);
/// How much later than on average a heartbeat may come before one counts as missed.
const HEARTBEAT_SLACK: Duration = Duration::from_secs(1);
/// Events of a broadcast under way where each topic gets one of its own.
const BROADCAST_WINDOW: u32 = 64;

/// The machine before, while the streams are open, and after.
struct Moments {
    before: Moment,
    open: Moment,
    held: Moment,
    closed: Moment,
}

/// Runs the mode.
///
/// # Errors
/// [`BenchError`] for more topics than subscribers, when the target cannot be used or no stream can
/// be opened.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    check_topics(options)?;
    let target = Target::from_options(options)?;
    let server = server_of(options, &target, progress);
    let mut fleet = fanout::fleet(options, &target, options.topics, 0)?;
    let before = Moment::now(&server);
    progress.phase("opening streams", options.subscribers);
    let begin = Instant::now();
    let opened = fleet.open(options.subscribers, options.connect_rate, progress);
    let opening = begin.elapsed();
    if opened.opened == 0 {
        return Err(nothing_opened(&fleet));
    }
    let open = Moment::now(&server);
    let first_byte = fleet.take_latencies().first_byte;
    let hold_time = options.duration_or(DEFAULT_HOLD);
    hold_for(hold_time, progress);
    let held = Moment::now(&server);
    let heartbeats = fleet.take_latencies();
    let signs = fleet.counts().signs - opened.signs;
    let broadcast = if options.is_broadcast {
        progress.phase("broadcasting", opened.opened);
        let mut load = Load::from_options(options, &target, &topic_name);
        // One event for each topic: every stream has exactly one to get.
        (load.events, load.rate) = (Some(options.topics.into()), None);
        load.window = BROADCAST_WINDOW.min(options.topics);
        Some(Measured::run(&fleet, &load, &server, progress)?)
    } else {
        None
    };
    progress.phase("closing streams", 0);
    let counts = fleet.finish();
    let closed = wait_closed(&server, &before, options.patience);
    progress.end();

    let mut report = Report::new("idle", target.name());
    report.parameter("subscribers", options.subscribers);
    report.parameter("topics", options.topics);
    report.parameter("hold_s", hold_time.as_secs_f64());
    report.count("opened_count", opened.opened);
    report.count("refused_count", counts.refused + counts.failed);
    report.count("dropped_count", counts.dropped);
    let rate = per_second(opened.opened, opening);
    report.result("opened_per_second", rate, Unit::PerSecond);
    report.latencies("first_byte", &first_byte);
    let moments = Moments {
        before,
        open,
        held,
        closed,
    };
    write_memory(&mut report, &moments, opened.opened);
    write_heartbeats(&mut report, &heartbeats, (signs, opened.opened), hold_time);
    if let Some(measured) = broadcast {
        write_broadcast(&mut report, &measured, options.topics, &counts);
    }
    let (error, wanted) = (fleet.first_error(), options.subscribers);
    check_opened(&mut report, opened.opened, wanted, error.as_deref());
    report.check_none("no stream dropped", counts.dropped);
    Ok(report)
}

fn hold_for(hold: Duration, progress: &Progress) {
    progress.phase("holding", hold.as_secs());
    let begin = Instant::now();
    while let Some(left) = hold.checked_sub(begin.elapsed()) {
        progress.set(begin.elapsed().as_secs());
        std::thread::park_timeout(left.min(Duration::from_millis(100)));
    }
}

/// Waits until the kernel's sockets are back and the server's memory rests, or the sockets have not
/// become fewer for `patience`: others on the machine may have opened some.
pub(crate) fn wait_closed(server: &Processes, before: &Moment, patience: Duration) -> Moment {
    let mut now = Moment::now(server);
    let (mut fewest, mut fewer_at) = (now.kernel.sockets_count, Instant::now());
    let (mut rss, mut rests_since) = (now.server_rss(), Instant::now());
    loop {
        let is_back = now.kernel.sockets_count <= before.kernel.sockets_count;
        let is_over = fewer_at.elapsed() > patience;
        if is_over || (is_back && rests_since.elapsed() > QUIET) {
            return now;
        }
        std::thread::park_timeout(Duration::from_millis(100));
        now = Moment::now(server);
        if now.kernel.sockets_count < fewest {
            (fewest, fewer_at) = (now.kernel.sockets_count, Instant::now());
        }
        if now.server_rss() != rss {
            (rss, rests_since) = (now.server_rss(), Instant::now());
        }
    }
}

fn write_memory(report: &mut Report, moments: &Moments, streams: u64) {
    let Moments {
        before,
        open,
        held,
        closed,
    } = moments;
    if let (Some(before), Some(open), Some(held), Some(closed)) = (
        before.server_rss(),
        open.server_rss(),
        held.server_rss(),
        closed.server_rss(),
    ) {
        let grown = held.max(open).saturating_sub(before);
        let each = ratio(grown, streams);
        report.result("server_rss_bytes_per_stream", each, Unit::Bytes);
        report.result("server_rss_before_bytes", ratio(before, 1), Unit::Bytes);
        report.result("server_rss_open_bytes", ratio(open, 1), Unit::Bytes);
        report.result("server_rss_held_bytes", ratio(held, 1), Unit::Bytes);
        report.result("server_rss_closed_bytes", ratio(closed, 1), Unit::Bytes);
    }
    let kernel = |moment: &Moment| moment.kernel.total_bytes();
    let grown = kernel(open).saturating_sub(kernel(before));
    // Both ends are in it when the server is on this machine.
    report.result(
        "kernel_bytes_per_stream",
        ratio(grown, streams),
        Unit::Bytes,
    );
    report.result("kernel_before_bytes", ratio(kernel(before), 1), Unit::Bytes);
    report.result("kernel_open_bytes", ratio(kernel(open), 1), Unit::Bytes);
    report.result("kernel_closed_bytes", ratio(kernel(closed), 1), Unit::Bytes);
    report.count("sockets_closed_count", closed.kernel.sockets_count);
    if let Some(own) = held.own {
        let rss = ratio(own.rss_bytes, 1);
        report.result("generator_rss_bytes", rss, Unit::Bytes);
    }
    if let Some(cpu) = open.server_cpu_since(before) {
        let cost = micros_per(cpu, streams);
        report.result("server_cpu_us_per_connect", cost, Unit::Micros);
    }
    if let Some(cpu) = held.server_cpu_since(open) {
        report.result("server_cpu_held_s", cpu.as_secs_f64(), Unit::Seconds);
    }
}

/// `(signs, streams)`: how many signs of life came on how many streams while they were held.
fn write_heartbeats(
    report: &mut Report,
    latencies: &Latencies,
    (signs, streams): (u64, u64),
    hold: Duration,
) {
    let gaps = &latencies.sign_gap;
    report.count("heartbeat_count", signs);
    if gaps.is_empty() {
        return;
    }
    report.latencies("heartbeat_gap", gaps);
    let spread = Duration::from_nanos(gaps.max() - gaps.min());
    report.result(
        "heartbeat_gap_spread_us",
        micros_per(spread, 1),
        Unit::Micros,
    );
    // Every stream has at least as many as fit into the time, one after the other.
    let gap = Duration::from_nanos(gaps.value_at_quantile(0.5)) + HEARTBEAT_SLACK;
    let each = hold.as_nanos() / gap.as_nanos().max(1);
    let due = u64::try_from(each)
        .unwrap_or(u64::MAX)
        .saturating_mul(streams);
    let detail = format!("{signs} of at least {due}");
    report.check("every stream got its heartbeats", signs >= due, detail);
}

fn write_broadcast(report: &mut Report, measured: &Measured, topics: u32, counts: &Counts) {
    let driven = &measured.driven;
    report.count("delivered_count", counts.delivered);
    report.count("expected_count", driven.expected);
    report.count("lost_count", counts.lost);
    report.count("doubled_count", counts.doubled);
    report.latencies("latency", &measured.latencies.delivery);
    report.latencies("to_all", &measured.latencies.to_all);
    if let Some(cpu) = measured.server_cpu() {
        let cost = micros_per(cpu, counts.delivered);
        report.result("server_cpu_us_per_delivery", cost, Unit::Micros);
    }
    let sum = format!("{} of {}", counts.delivered, counts.opened);
    let is_exact = counts.delivered == counts.opened && driven.published == u64::from(topics);
    report.check("the broadcast reached every stream", is_exact, sum);
    report.check_none("nothing lost", counts.lost);
    report.check_none("nothing doubled", counts.doubled);
    let text = driven.error.clone().unwrap_or_else(|| "all".to_owned());
    report.check("publishes accepted", driven.error.is_none(), text);
}
