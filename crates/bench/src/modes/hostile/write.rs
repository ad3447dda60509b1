//! What a run found, as figures of both parts side by side, and its verdicts.

use std::collections::BTreeMap;

use super::counters::Counters;
use super::{Part, Rest, Tally};
use crate::engine::Counts;
use crate::engine::load::{Driven, Load};
use crate::modes::common::{Moment, micros_per, per_second, ratio};
use crate::options::{BenchOptions, MemoryBudget};
use crate::report::{Histogram, Report, Unit, percentile_curve};
use crate::target::Target;

/// The bar: p99 beside hostile ones, in times of the quiet one.
const P99_RATIO_MAX: f64 = 2.0;
/// Resident memory above that of the start that is no leak: what allocators keep for the next
/// ones, and the events that the server holds.
const RSS_SLACK_BYTES: u64 = 16 << 20;

/// Everything that goes into the report.
pub(super) struct Findings<'a> {
    pub(super) readers: u64,
    pub(super) hostile: u64,
    pub(super) quiet: &'a Part,
    pub(super) beside: &'a Part,
    /// Totals of the good ones over the whole run.
    pub(super) end: Counts,
    pub(super) tally: Tally,
    pub(super) before: &'a Rest,
    pub(super) after: &'a Rest,
}

/// Adds a figure of both parts, one below the other.
fn pair(report: &mut Report, name: &str, (quiet, hostile): (f64, f64), unit: Unit) {
    report.result(&format!("{name}_quiet{}", suffix(unit)), quiet, unit);
    report.result(&format!("{name}_hostile{}", suffix(unit)), hostile, unit);
}

fn suffix(unit: Unit) -> &'static str {
    match unit {
        Unit::Micros => "_us",
        Unit::Bytes => "_bytes",
        Unit::PerSecond => "_per_second",
        _ => "_count",
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "nanoseconds and counts below 2^52"
)]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

impl Findings<'_> {
    pub(super) fn report(
        &self,
        options: &BenchOptions,
        target: &Target,
        load: &Load<'_>,
    ) -> Report {
        let mut report = Report::new("hostile", target.name());
        report.parameter("subscribers", options.subscribers);
        report.parameter("size_bytes", options.size as u64);
        report.parameter("publishers", options.publishers);
        if let Some(rate) = load.rate {
            report.parameter("rate_per_second", rate);
        } else {
            report.parameter("window_events", load.window);
        }
        if let Some(events) = load.events {
            report.parameter("events", events);
        } else {
            report.parameter("duration_s", load.duration.as_secs_f64());
        }
        report.count("good_count", self.readers);
        report.count("hostile_count", self.hostile);
        self.write_latencies(&mut report);
        self.write_parts(&mut report);
        self.write_hostile(&mut report);
        self.write_memory(&mut report, options.budget);
        self.write_reasons(&mut report);
        self.check_deliveries(&mut report);
        report
    }

    /// The curves, their percentiles side by side, and the bar.
    fn write_latencies(&self, report: &mut Report) {
        let of = |part: &Part| part.measured.latencies.delivery.clone();
        let (quiet, hostile) = (of(self.quiet), of(self.beside));
        if quiet.is_empty() || hostile.is_empty() {
            report.check("p99 at most 2 times the quiet one", false, "nothing came");
            return;
        }
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
            let at = |histogram: &Histogram<u64>| micros(histogram.value_at_quantile(quantile));
            let both = (at(&quiet), at(&hostile));
            pair(report, &format!("latency_{name}"), both, Unit::Micros);
        }
        let most = (micros(quiet.max()), micros(hostile.max()));
        pair(report, "latency_max", most, Unit::Micros);
        report.series(percentile_curve("quiet", &quiet));
        report.series(percentile_curve("beside hostile ones", &hostile));
        let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99);
        let times = ratio(p99(&hostile), p99(&quiet));
        report.result("latency_p99_ratio", times, Unit::Ratio);
        report.check(
            "p99 at most 2 times the quiet one",
            is_within_bar(times),
            format!("{times:.2}"),
        );
    }

    fn write_parts(&self, report: &mut Report) {
        let parts = [self.quiet, self.beside];
        let [quiet, hostile] = parts.map(|part| (&part.measured.driven, part.counts.delivered));
        let counts = |of: fn(&Driven, u64) -> u64| {
            (
                ratio(of(quiet.0, quiet.1), 1),
                ratio(of(hostile.0, hostile.1), 1),
            )
        };
        let published = counts(|driven, _| driven.published);
        pair(report, "published", published, Unit::Count);
        pair(
            report,
            "expected",
            counts(|driven, _| driven.expected),
            Unit::Count,
        );
        pair(
            report,
            "delivered",
            counts(|_, delivered| delivered),
            Unit::Count,
        );
        let rate = |(driven, delivered): (&Driven, u64)| per_second(delivered, driven.elapsed);
        let rates = (rate(quiet), rate(hostile));
        pair(report, "deliveries", rates, Unit::PerSecond);
        let cost = |part: &Part| match part.measured.server_cpu() {
            Some(cpu) => micros_per(cpu, part.counts.delivered),
            None => f64::NAN,
        };
        let costs = (cost(self.quiet), cost(self.beside));
        report.result("quiet_server_cpu_us_per_delivery", costs.0, Unit::Micros);
        report.result("hostile_server_cpu_us_per_delivery", costs.1, Unit::Micros);
        let end = &self.end;
        report.count("lost_count", end.lost);
        report.count("doubled_count", end.doubled);
        report.count("reordered_count", end.reordered);
        report.count("strayed_count", end.strayed);
        report.count("foreign_count", end.foreign);
        report.count("refused_count", end.refused + end.failed);
        report.count("dropped_count", end.dropped);
        report.count("publish_refused_count", quiet.0.refused + hostile.0.refused);
    }

    /// What the hostile ones did, and that it was done at all.
    fn write_hostile(&self, report: &mut Report) {
        let tally = &self.tally;
        report.count("hostile_connects_count", tally.connects);
        report.count("hostile_connects_failed_count", tally.failed);
        report.count("hostile_cut_count", tally.cut);
        report.count("hostile_bytes_dripped_count", tally.dripped);
        report.count("bad_publishes_refused_count", tally.refused);
        report.count("bad_publishes_accepted_count", tally.accepted);
        let reached = tally.connects.saturating_sub(tally.failed);
        let is_attacked = reached >= self.hostile;
        let detail = format!("{reached} connects by {}", self.hostile);
        report.check("the hostile ones were there", is_attacked, detail);
        report.check_none("no publish with a bad token accepted", tally.accepted);
    }

    fn write_memory(&self, report: &mut Report, budget: Option<MemoryBudget>) {
        let (before, after) = (&self.before.moment, &self.after.moment);
        let peaks = (self.quiet.peak, self.beside.peak);
        if let (Some(start), Some(quiet), Some(peak), Some(end)) = (
            before.server_rss(),
            peaks.0.rss_bytes,
            peaks.1.rss_bytes,
            after.server_rss(),
        ) {
            let named = [
                ("server_rss_before_bytes", start),
                ("server_rss_peak_quiet_bytes", quiet),
                ("server_rss_peak_hostile_bytes", peak),
                ("server_rss_after_bytes", end),
            ];
            write_bytes(report, &named);
            if let Some(budget) = budget {
                let most = peak.max(quiet);
                check_most(report, "memory inside the budget", most, budget.user_bytes);
            }
            let most = start + RSS_SLACK_BYTES;
            check_most(report, "memory back near the start", end, most);
        }
        let kernel = |moment: &Moment| moment.kernel.total_bytes();
        let (start, end) = (kernel(before), kernel(after));
        let peak = peaks.1.kernel_bytes;
        let named = [
            ("kernel_before_bytes", start),
            ("kernel_peak_quiet_bytes", peaks.0.kernel_bytes),
            ("kernel_peak_hostile_bytes", peak),
            ("kernel_after_bytes", end),
        ];
        write_bytes(report, &named);
        if let Some(budget) = budget.filter(|_| before.kernel.slab_bytes.is_some()) {
            // Both ends are in it, and only what the run added: the tables are the machine's.
            let grown = peak.saturating_sub(start);
            let most = 2 * budget.kernel_bytes + self.hostile * budget.unread_bytes;
            check_most(report, "kernel memory inside the budget", grown, most);
        }
        if let (Some(start), Some(end)) = (self.before.descriptors, self.after.descriptors) {
            report.count("server_descriptors_before_count", start);
            report.count("server_descriptors_after_count", end);
            let is_back = self.after.has_descriptors_of(self.before);
            let detail = format!("{end}, {start} at the start");
            report.check("descriptors back near the start", is_back, detail);
        }
    }

    /// The hub's own count of closed streams; only where its admin listener was named.
    fn write_reasons(&self, report: &mut Report) {
        let (Some(before), Some(after)) = (&self.before.counters, &self.after.counters) else {
            return;
        };
        let opened = after.opened.saturating_sub(before.opened);
        report.count("streams_opened_count", opened);
        report.count("streams_open_after_count", after.open);
        for (reason, count) in closed_since(before, after) {
            report.count(&format!("closed_{reason}_count"), count);
        }
        let closed = after.closed_sum();
        let due = after.opened.saturating_sub(after.open);
        let detail = format!("{closed} reasons for {due} closed streams");
        let is_explained = after.unexplained() == 0;
        report.check("every closed stream has a reason", is_explained, detail);
        let is_back = after.open <= before.open;
        let detail = format!("{} open, {} at the start", after.open, before.open);
        report.check("no stream left open", is_back, detail);
    }

    /// The good ones have to get everything, in both parts.
    fn check_deliveries(&self, report: &mut Report) {
        let parts = [self.quiet, self.beside];
        let sum = |of: fn(&Part) -> u64| parts.map(of).iter().sum::<u64>();
        let delivered = sum(|part| part.counts.delivered);
        let expected = sum(|part| part.measured.driven.expected);
        let (counts, driven) = (&self.end, &self.beside.measured.driven);
        let opened = format!("{} of {}", counts.opened, self.readers);
        report.check("every stream opened", counts.opened == self.readers, opened);
        report.check_none("nothing lost", counts.lost);
        report.check_none("nothing doubled", counts.doubled);
        report.check_none("nothing reordered", counts.reordered);
        report.check_none("nothing strayed", counts.strayed);
        report.check_none("no stream dropped", counts.dropped);
        let text = format!("{delivered} of {expected}");
        report.check("deliveries add up", delivered == expected, text);
        let quiet = &self.quiet.measured.driven;
        let error = quiet.error.clone().or_else(|| driven.error.clone());
        let is_accepted = error.is_none();
        let text = error.unwrap_or_else(|| "all".to_owned());
        report.check("publishes accepted", is_accepted, text);
    }
}

/// Whether so many times the quiet p99 are within the bar.
fn is_within_bar(times: f64) -> bool {
    times <= P99_RATIO_MAX
}

/// Streams closed meanwhile, for reasons that came up.
fn closed_since(before: &Counters, after: &Counters) -> BTreeMap<String, u64> {
    let closed = after.closed.iter().map(|(reason, &count)| {
        let earlier = before.closed.get(reason).copied().unwrap_or(0);
        (reason.clone(), count.saturating_sub(earlier))
    });
    closed.filter(|(_, count)| *count > 0).collect()
}

fn write_bytes(report: &mut Report, named: &[(&str, u64)]) {
    for (name, bytes) in named {
        report.result(name, ratio(*bytes, 1), Unit::Bytes);
    }
}

/// Checks that `bytes` are not above `most`.
fn check_most(report: &mut Report, name: &str, bytes: u64, most: u64) {
    let mib = |bytes: u64| ratio(bytes, 1 << 20);
    let detail = format!("{:.1} MiB, at most {:.1} MiB", mib(bytes), mib(most));
    report.check(name, bytes <= most, detail);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_twice_the_quiet_run() {
        assert!(is_within_bar(0.9) && is_within_bar(2.0));
        assert!(!is_within_bar(2.01) && !is_within_bar(f64::NAN));
    }

    #[test]
    fn memory_above_the_budget_fails() {
        let mut report = Report::new("hostile", "x");
        check_most(&mut report, "fits", 1 << 20, 1 << 20);
        assert!(report.passed());
        check_most(&mut report, "fits", (1 << 20) + 1, 1 << 20);
        assert!(!report.passed());
    }

    #[test]
    fn only_reasons_that_came_up_meanwhile_are_told() {
        let of = |left, expired| Counters {
            closed: [
                ("peer_left".to_owned(), left),
                ("token_expired".to_owned(), expired),
            ]
            .into(),
            ..Counters::default()
        };
        let since = closed_since(&of(3, 2), &of(8, 2));
        assert_eq!(since, [("peer_left".to_owned(), 5)].into());
    }
}
