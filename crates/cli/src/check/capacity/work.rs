//! The CPU that streams need: the capacity formula of docs/concepts/performance.md.
//!
//! Its constants are fitted to the runs that page names, on a virtual machine with two cores and
//! over loopback, where about half of a send is the receiver's work.

use std::time::Duration;

use serde_json::{Value, json};

/// Streams up to which the formula has no term for size: their sockets fit into a cache, and what
/// does not is waited for together (decision 0033).
const SMALL: f64 = 10_000.0;

/// A visit of a socket that was written to as soon as all others had been: the call, the segment,
/// the waking of its reader.
const VISIT_US: f64 = 5.0;

/// What a visit costs more for each tenfold number of streams: memory that no cache has.
const VISIT_TENFOLD_US: f64 = 4.4;

/// A delivery to a socket that nobody has touched for a tenth of a second and more, at least.
const COLD_US: f64 = 9.0;

/// Each event that a visit writes: its bytes are copied into a segment.
const EVENT_US: f64 = 0.28;

/// One publish, with its share of the log, where many come at once.
const PUBLISH_US: f64 = 11.5;

/// Accepting and answering a subscribe.
const CONNECT_US: f64 = 41.0;

/// The same for each tenfold number of streams.
const CONNECT_TENFOLD_US: f64 = 19.0;

/// Events in a visit that the listing shows: one at a time, and under pressure.
const EVENTS: [u32; 3] = [1, 4, 16];

/// CPU of one core for so many streams.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    streams: f64,
    /// Zero for none.
    heartbeat: Duration,
}

impl Work {
    pub(super) fn new(streams: u64, heartbeat: Duration) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        let streams = streams as f64;
        Self { streams, heartbeat }
    }

    /// How many times more than few there are, as a power of ten.
    fn tenfolds(self) -> f64 {
        (self.streams / SMALL).log10().max(0.0)
    }

    /// A delivery where each visit of a socket writes so many events and the next visit follows
    /// at once.
    fn delivery_us(self, events: u32) -> f64 {
        (VISIT_US + VISIT_TENFOLD_US * self.tenfolds()) / f64::from(events) + EVENT_US
    }

    /// A delivery to a stream that got nothing for a while; a heartbeat, too.
    fn cold_delivery_us(self) -> f64 {
        self.delivery_us(1).max(COLD_US)
    }

    fn connect_us(self) -> f64 {
        CONNECT_US + CONNECT_TENFOLD_US * self.tenfolds()
    }

    /// Seconds of one core until all have one event.
    fn to_all_s(self) -> f64 {
        self.streams * self.cold_delivery_us() / 1e6
    }

    /// Seconds of one core until all have come back.
    fn connects_s(self) -> f64 {
        self.streams * self.connect_us() / 1e6
    }

    /// Share of one core that heartbeats take.
    fn heartbeats_share(self) -> f64 {
        if self.heartbeat.is_zero() {
            return 0.0;
        }
        self.to_all_s() / self.heartbeat.as_secs_f64()
    }

    /// Lines of a listing.
    pub(super) fn lines(self) -> [String; 5] {
        let rates = EVENTS.map(|events| {
            let thousands = 1000.0 / self.delivery_us(events);
            format!("{thousands:.0}k/s with {events}")
        });
        let share = 100.0 * self.heartbeats_share();
        let connects = 1e6 / self.connect_us();
        [
            "  CPU of a core, within 30 % of what one machine took over loopback".to_owned(),
            format!("    deliveries   {} in a visit", rates.join(", ")),
            format!("    one to all   {:.2} s", self.to_all_s()),
            format!("    heartbeats   {share:.1} %"),
            format!(
                "    all come     {:.1} s, {connects:.0}/s",
                self.connects_s()
            ),
        ]
    }

    /// Members of a JSON object.
    pub(super) fn json(self) -> Value {
        let each = EVENTS.map(|events| (events.to_string(), self.delivery_us(events)));
        json!({
            "delivery_us": each.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
            "cold_delivery_us": self.cold_delivery_us(),
            "publish_us": PUBLISH_US,
            "connect_us": self.connect_us(),
            "one_event_to_all_s": self.to_all_s(),
            "all_connecting_s": self.connects_s(),
            "heartbeats_share": self.heartbeats_share(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(streams: u64) -> Work {
        Work::new(streams, Duration::from_secs(25))
    }

    #[test]
    fn a_delivery_costs_more_with_more_streams_and_less_with_more_events_in_a_visit() {
        let sizes = [1, 1000, 10_000, 100_000, 1_000_000];
        for (few, many) in sizes.iter().zip(&sizes[1..]) {
            assert!(of(*few).delivery_us(1) <= of(*many).delivery_us(1));
            assert!(of(*few).cold_delivery_us() >= of(*few).delivery_us(1));
        }
        assert!(of(100_000).delivery_us(16) < of(100_000).delivery_us(4));
        assert!(of(1).delivery_us(1) > 0.0 && of(1).connect_us() > 0.0);
    }

    /// Streams, loads of a delivery and microseconds, in no order, of the run that the formula was
    /// fitted to.
    fn measured() -> Vec<(u64, String, f64)> {
        let runs = include_str!("../../../../../bench/runs/2026-11-30-growth/growth.jsonl");
        let mut points = Vec::new();
        for line in runs.lines() {
            let run: Value = serde_json::from_str(line).unwrap();
            let (streams, question) = (run["x"].as_u64().unwrap(), run["question"].as_str());
            let question = question.unwrap().trim_start_matches("window-").to_owned();
            let value = |key: &str| run["results"][key].as_f64().unwrap_or_default();
            if question == "broadcast" {
                let connect = value("server_cpu_us_per_connect");
                points.push((streams, "connect".to_owned(), connect));
            }
            points.push((streams, question, value("server_cpu_us_per_delivery")));
        }
        points
    }

    fn median(mut values: Vec<f64>) -> f64 {
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        f64::midpoint(values[(values.len() - 1) / 2], values[middle])
    }

    #[test]
    fn the_formula_is_within_30_percent_of_what_was_measured() {
        let all = measured();
        let mut checked = 0;
        for (streams, load, _) in &all {
            let work = of(*streams);
            let computed = match &**load {
                "1" | "4" | "16" => work.delivery_us(load.parse().unwrap()),
                "broadcast" => work.cold_delivery_us(),
                "connect" => work.connect_us(),
                _ => continue,
            };
            let same = all.iter().filter(|(n, l, _)| n == streams && l == load);
            let measured = median(same.map(|(.., value)| *value).collect());
            let error = computed / measured - 1.0;
            assert!(error.abs() < 0.3, "{streams} {load}: {error:+.2}");
            checked += 1;
        }
        assert!(checked > 30, "{checked}");
    }

    /// A million of them held for 55 s took 31.2 s of CPU, in the same run.
    #[test]
    fn heartbeats_of_a_million_are_near_what_was_measured() {
        let computed = of(1_000_000).heartbeats_share() * 55.0;
        assert!((computed / 31.2 - 1.0).abs() < 0.3, "{computed}");
    }

    #[test]
    fn the_page_has_the_formula_that_is_computed() {
        let page = include_str!("../../../../../docs/concepts/performance.md");
        let (visit, visit_tenfold) = (VISIT_US, VISIT_TENFOLD_US);
        let (connect, connect_tenfold) = (CONNECT_US, CONNECT_TENFOLD_US);
        for line in [
            format!("t        = log10(max(n, {SMALL}) / {SMALL})"),
            format!("visit    = {visit:.1} + {visit_tenfold} t "),
            format!("         = at least {:.2} ", COLD_US - EVENT_US),
            format!("delivery = visit / k + {EVENT_US}"),
            format!("connect  = {connect} + {connect_tenfold} t "),
            format!("publishes/s × {PUBLISH_US} "),
        ] {
            assert!(page.contains(&line), "{line}");
        }
    }

    #[test]
    fn without_heartbeats_they_cost_nothing() {
        assert!(Work::new(1000, Duration::ZERO).heartbeats_share().abs() < 1e-9);
    }
}
