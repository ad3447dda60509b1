//! Mode `slow`: some subscribers never read. What do the others notice, and what does the kernel
//! hold for those?
//!
//! The readers are measured alone first and then beside the slow ones, in one run. A slow one
//! reads the head of its answer and nothing more; when the server resets it, that is seen.

use super::common::{Delivered, Measured, plan, ratio, server_of, topic_name};
use super::fanout::{nothing_opened, parameters};
use crate::engine::load::Load;
use crate::engine::{Fleet, Role};
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::progress::Progress;
use crate::report::{Report, Unit};
use crate::target::Target;

/// How many of the subscribers are slow: the share, rounded, at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a share of a count of streams"
)]
fn slow_of(options: &BenchOptions) -> u64 {
    let share = options.share.clamp(0.0, 100.0) / 100.0;
    ((options.subscribers as f64 * share).round() as u64).max(1)
}

/// The readers first, then the slow ones.
fn fleet(options: &BenchOptions, target: &Target, readers: u64) -> Result<Fleet, BenchError> {
    let assign = move |number: u64| Role {
        topic: 0,
        is_slow: number >= readers,
    };
    Fleet::start(plan(options, target, assign), options)
}

/// Runs the mode.
///
/// # Errors
/// [`BenchError`] when nobody is left to read, or the target cannot be used.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    let slow = slow_of(options);
    let readers = options.subscribers.saturating_sub(slow);
    if readers == 0 {
        return Err(BenchError::Usage("nobody is left to read".into()));
    }
    let target = Target::from_options(options)?;
    let server = server_of(options, &target, progress);
    let mut fleet = fleet(options, &target, readers)?;
    let load = Load::from_options(options, &target, &topic_name);
    progress.phase("opening streams that read", readers);
    if fleet.open(readers, options.connect_rate, progress).opened == 0 {
        return Err(nothing_opened(&fleet));
    }
    load.begin("delivering without slow ones", readers, progress);
    let alone = Measured::run(&fleet, &load, &server, progress)?;
    progress.phase("opening streams that do not read", slow);
    let opened_slow = fleet.open(slow, options.connect_rate, progress).opened;
    load.begin("delivering beside slow ones", readers, progress);
    let counts_alone = fleet.counts();
    let measured = Measured::run(&fleet, &load, &server, progress)?;
    progress.end();
    let end = fleet.finish();

    let mut report = Report::new("slow", target.name());
    parameters(options, &mut report);
    report.parameter("share_percent", options.share);
    report.count("slow_count", opened_slow);
    report.count("slow_cut_count", end.cut);
    let kernel = measured.after.kernel;
    let grown = kernel
        .buffer_bytes
        .saturating_sub(measured.before.kernel.buffer_bytes);
    let each = ratio(grown, opened_slow);
    report.result("kernel_buffer_bytes_per_slow_stream", each, Unit::Bytes);
    report.count("orphaned_sockets_count", kernel.orphans_count);
    let p99 = |histogram: &crate::report::Histogram<u64>| histogram.value_at_quantile(0.99);
    let without_slow = &alone.latencies.delivery;
    let with_slow = ratio(p99(&measured.latencies.delivery), p99(without_slow));
    report.latencies("latency_without_slow", without_slow);
    report.result("latency_p99_ratio", with_slow, Unit::Ratio);
    let mut counts = end.since(counts_alone);
    // Of the whole run: what happened before the second part is a fault too.
    (counts.opened, counts.lost) = (end.opened, end.lost);
    (counts.doubled, counts.reordered) = (end.doubled, end.reordered);
    Delivered {
        readers: options.subscribers,
        measured: &measured,
        counts,
        error: fleet.first_error(),
    }
    .write(&mut report);
    let sum = format!("{} of {}", counts_alone.delivered, alone.driven.expected);
    let is_exact = counts_alone.delivered == alone.driven.expected;
    report.check("deliveries without slow ones add up", is_exact, sum);
    Ok(report)
}
