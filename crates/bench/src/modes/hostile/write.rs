//! What a run found, as figures of both parts side by side, and its verdicts.

use std::collections::BTreeMap;
use std::time::Duration;

use super::counters::Counters;
use super::peer::{Tally, waiting_bytes};
use super::{Part, Rest, Round};
use crate::engine::Counts;
use crate::engine::load::Load;
use crate::modes::common::{Moment, micros_per, per_second, ratio};
use crate::options::{BenchOptions, MemoryBudget};
use crate::report::{Histogram, Report, Unit, latency_histogram, percentile_curve};
use crate::target::Target;

/// The name of the bar in the report.
const BAR: &str = "p99 at most 2 times the quiet one";
/// The quantile that the bar is for.
const P99: f64 = 0.99;
/// The bar: p99 beside hostile ones, in times of the quiet one.
const P99_RATIO_MAX: f64 = 2.0;
/// Resident memory above that of the start that is no leak: what allocators keep for the next
/// ones, and the events that the server holds.
const RSS_SLACK_BYTES: u64 = 16 << 20;
/// Resident memory after the last attack, in percent of that after the first, which may have made
/// the server take what it keeps.
const RSS_GROWN_PERCENT: u64 = 105;
/// What the kernel keeps for a minute of a connection that was closed in order: `struct
/// tcp_timewait_sock`.
const TIME_WAIT_BYTES: u64 = 256;

/// Everything that goes into the report.
pub(super) struct Findings<'a> {
    pub(super) readers: u64,
    pub(super) hostile: u64,
    pub(super) rounds: &'a [Round],
    /// Totals of the good ones over the whole run.
    pub(super) end: Counts,
    pub(super) before: &'a Rest,
    pub(super) after: &'a Rest,
}

/// Which half of the rounds.
type Half = fn(&Round) -> &Part;

/// Both, in the order in which they are shown.
const HALVES: [Half; 2] = [|round| &round.quiet, |round| &round.beside];

/// Adds a figure of both halves, which a table shows side by side.
fn pair(report: &mut Report, name: &str, [quiet, hostile]: [f64; 2], unit: Unit) {
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

fn figure(count: u64) -> f64 {
    ratio(count, 1)
}

impl Findings<'_> {
    pub(super) fn report(
        &self,
        options: &BenchOptions,
        target: &Target,
        load: &Load<'_>,
    ) -> Report {
        let mut report = Report::new("hostile", target.name());
        report.side_by_side = Some(["quiet", "hostile"]);
        report.parameter("subscribers", options.subscribers);
        report.parameter("rounds", self.rounds.len() as u64);
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
        self.write_halves(&mut report);
        self.write_hostile(&mut report);
        self.write_memory(&mut report, options.budget);
        self.write_kernel(&mut report, options.budget);
        self.write_descriptors(&mut report);
        self.write_reasons(&mut report);
        self.check_deliveries(&mut report);
        report
    }

    /// A figure of each half, summed over the rounds.
    fn sums(&self, of: impl Fn(&Part) -> u64) -> [u64; 2] {
        HALVES.map(|half| self.rounds.iter().map(|round| of(half(round))).sum())
    }

    /// The greatest of each half; `None` where one of them is not known.
    fn most(&self, of: impl Fn(&Part) -> Option<u64>) -> Option<[u64; 2]> {
        let [quiet, hostile] =
            HALVES.map(|half| self.rounds.iter().filter_map(|round| of(half(round))).max());
        Some([quiet?, hostile?])
    }

    fn tally(&self) -> Tally {
        let tallies = self.rounds.iter().map(|round| round.tally);
        tallies.fold(Tally::default(), Tally::plus)
    }

    /// The curves, their percentiles side by side, and the bar.
    fn write_latencies(&self, report: &mut Report) {
        let [quiet, hostile] = HALVES.map(|half| {
            let mut all = latency_histogram();
            for round in self.rounds {
                let part = &half(round).measured.latencies.delivery;
                all.add(part).expect("all have the same bounds");
            }
            all
        });
        if quiet.is_empty() || hostile.is_empty() {
            report.check(BAR, false, "nothing came");
            return;
        }
        let at = |of: &Histogram<u64>, quantile| micros(of.value_at_quantile(quantile));
        for (name, quantile) in [("p50", 0.5), ("p90", 0.9), ("p99", P99), ("p999", 0.999)] {
            let both = [at(&quiet, quantile), at(&hostile, quantile)];
            pair(report, &format!("latency_{name}"), both, Unit::Micros);
        }
        let most = [micros(quiet.max()), micros(hostile.max())];
        pair(report, "latency_max", most, Unit::Micros);
        for (number, round) in (1..).zip(self.rounds) {
            let both = HALVES.map(|half| at(&half(round).measured.latencies.delivery, P99));
            let name = format!("round_{number}_latency_p99");
            pair(report, &name, both, Unit::Micros);
        }
        report.series(percentile_curve("quiet", &quiet));
        report.series(percentile_curve("beside hostile ones", &hostile));
        let times = at(&hostile, P99) / at(&quiet, P99);
        report.result("latency_p99_ratio", times, Unit::Ratio);
        report.check(BAR, is_within_bar(times), format!("{times:.2}"));
    }

    fn write_halves(&self, report: &mut Report) {
        let published = self.sums(|part| part.measured.driven.published);
        let expected = self.sums(|part| part.measured.driven.expected);
        let delivered = self.sums(|part| part.counts.delivered);
        let named = [
            ("published", published),
            ("expected", expected),
            ("delivered", delivered),
        ];
        for (name, counts) in named {
            pair(report, name, counts.map(figure), Unit::Count);
        }
        let times = HALVES.map(|half| {
            let rounds = self.rounds.iter();
            rounds
                .map(|round| half(round).measured.driven.elapsed)
                .sum::<Duration>()
        });
        let rates = [0, 1].map(|half| per_second(delivered[half], times[half]));
        pair(report, "deliveries", rates, Unit::PerSecond);
        let costs = [0, 1].map(|half| {
            let rounds = self.rounds.iter();
            let spent = rounds.map(|round| HALVES[half](round).measured.server_cpu());
            let spent: Option<Duration> = spent.sum();
            spent.map_or(f64::NAN, |cpu| micros_per(cpu, delivered[half]))
        });
        pair(report, "server_cpu_per_delivery", costs, Unit::Micros);
        let end = &self.end;
        report.count("lost_count", end.lost);
        report.count("doubled_count", end.doubled);
        report.count("reordered_count", end.reordered);
        report.count("strayed_count", end.strayed);
        report.count("foreign_count", end.foreign);
        report.count("refused_count", end.refused + end.failed);
        report.count("dropped_count", end.dropped);
        let refused = self.sums(|part| part.measured.driven.refused);
        report.count("publish_refused_count", refused.iter().sum());
    }

    /// What the hostile ones did, and that it was done at all.
    fn write_hostile(&self, report: &mut Report) {
        let tally = self.tally();
        report.count("hostile_connects_count", tally.connects);
        report.count("hostile_connects_failed_count", tally.failed);
        report.count("hostile_cut_count", tally.cut);
        report.count("hostile_bytes_dripped_count", tally.dripped);
        report.count("hostile_bytes_trickled_count", tally.trickled);
        report.result("hostile_heads_bytes", ratio(tally.flooded, 1), Unit::Bytes);
        report.count("forged_refused_count", tally.refused);
        report.count("forged_publishes_accepted_count", tally.accepted);
        report.count("forged_subscribes_accepted_count", tally.let_in);
        let reached = tally.connects.saturating_sub(tally.failed);
        let is_attacked = reached >= self.hostile * self.rounds.len() as u64;
        let detail = format!("{reached} connects by {}", self.hostile);
        report.check("the hostile ones were there", is_attacked, detail);
        report.check_none("no publish with a bad token accepted", tally.accepted);
    }

    /// The server's own memory.
    fn write_memory(&self, report: &mut Report, budget: Option<MemoryBudget>) {
        let (before, after) = (&self.before.moment, &self.after.moment);
        let (Some(start), Some(peaks), Some(end)) = (
            before.server_rss(),
            self.most(|part| part.peak.rss_bytes),
            after.server_rss(),
        ) else {
            return;
        };
        write_bytes(report, &[("server_rss_before_bytes", start)]);
        pair(report, "server_rss_peak", peaks.map(figure), Unit::Bytes);
        let calm = self.rounds.iter().map(|round| round.calm.server_rss());
        let calm: Vec<u64> = calm.flatten().collect();
        for (number, bytes) in (1..).zip(&calm) {
            let name = format!("round_{number}_server_rss_after_attack_bytes");
            write_bytes(report, &[(&name, *bytes)]);
        }
        write_bytes(report, &[("server_rss_after_bytes", end)]);
        if let Some(budget) = budget {
            let most = peaks.into_iter().max().unwrap_or_default();
            check_most(report, "memory inside the budget", most, budget.user_bytes);
        }
        if let [first, .., last] = calm[..] {
            let most = first * RSS_GROWN_PERCENT / 100;
            check_most(report, "memory back after every attack", last, most);
        }
        let most = start + RSS_SLACK_BYTES;
        check_most(report, "memory back near the start", end, most);
    }

    /// The kernel's memory for the sockets, both ends of each.
    fn write_kernel(&self, report: &mut Report, budget: Option<MemoryBudget>) {
        let kernel = |moment: &Moment| moment.kernel.total_bytes();
        let before = &self.before.moment;
        let Some(peaks) = self.most(|part| Some(part.peak.kernel_bytes)) else {
            return;
        };
        write_bytes(report, &[("kernel_before_bytes", kernel(before))]);
        pair(report, "kernel_peak", peaks.map(figure), Unit::Bytes);
        write_bytes(
            report,
            &[("kernel_after_bytes", kernel(&self.after.moment))],
        );
        if let Some(budget) = budget.filter(|_| before.kernel.slab_bytes.is_some()) {
            let [quiet, peak] = peaks;
            let most = quiet + self.kernel_share(&budget);
            check_most(report, "kernel memory inside the budget", peak, most);
        }
    }

    /// What the hostile ones may add to the kernel's memory: both ends of their sockets, what waits
    /// for those that do not read, and what is left for a minute of each that has closed.
    fn kernel_share(&self, budget: &MemoryBudget) -> u64 {
        let each = budget.kernel_bytes / (self.readers + self.hostile).max(1);
        2 * self.hostile * each
            + waiting_bytes(self.hostile, budget.unread_bytes)
            + self.tally().connects * TIME_WAIT_BYTES
    }

    fn write_descriptors(&self, report: &mut Report) {
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

    /// The good ones have to get everything, in both halves.
    fn check_deliveries(&self, report: &mut Report) {
        let delivered: u64 = self.sums(|part| part.counts.delivered).iter().sum();
        let expected = self.sums(|part| part.measured.driven.expected);
        let expected: u64 = expected.iter().sum();
        let counts = &self.end;
        let opened = format!("{} of {}", counts.opened, self.readers);
        report.check("every stream opened", counts.opened == self.readers, opened);
        report.check_none("nothing lost", counts.lost);
        report.check_none("nothing doubled", counts.doubled);
        report.check_none("nothing reordered", counts.reordered);
        report.check_none("nothing strayed", counts.strayed);
        report.check_none("no stream dropped", counts.dropped);
        let text = format!("{delivered} of {expected}");
        report.check("deliveries add up", delivered == expected, text);
        let parts = self
            .rounds
            .iter()
            .flat_map(|round| HALVES.map(|half| half(round)));
        let error = parts
            .into_iter()
            .find_map(|part| part.measured.driven.error.clone());
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
