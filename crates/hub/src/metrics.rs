//! The metric catalogue: name, type, labels and meaning of each in one table, and their values.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gush_middleware::BreakerState;

use crate::admit::{KeyCounts, Limit};
use crate::close::CloseReason;
use crate::panics::Panics;
use crate::pressure::Gauges;
use crate::socket::SinkKind;
use crate::stream_log::StreamRecords;

// How long the turns of a shard take.
mod turn;

// What the hub does at its limits.
mod overload;

use turn::Turn;

// What the limits count.
mod limits;

// How far a drain is.
mod drain;

/// A number that goes up, or up and down.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Takes away; gauges only.
    pub fn sub(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one shard counts. Written by that shard alone, so no cache line travels per delivery.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardMetrics {
    pub(crate) turn: Turn,
    deliveries: Number,
    delivered_bytes: Number,
    pub(crate) heartbeats: Number,
    pub(crate) retold: Number,
    pub(crate) replay_reads: Number,
    pub(crate) gaps: Number,
    pub(crate) behind: Number,
    pub(crate) conflated: Number,
    pub(crate) evicted: Number,
    lag_buckets: [Number; LAG_BUCKETS.len()],
    lag_count: Number,
    lag_sum: Number,
    opened: Number,
    open: [Number; SinkKind::ALL.len()],
    closed: [Number; CloseReason::ALL.len()],
}

/// Upper bounds of the lag buckets, in events.
const LAG_BUCKETS: [u64; 7] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000];

impl ShardMetrics {
    /// A stream that is behind by this much gets its turn.
    pub(crate) fn lags(&self, events: u64) {
        self.lag_count.add(1);
        self.lag_sum.add(events);
        if let Some(bucket) = LAG_BUCKETS.iter().position(|bound| events <= *bound) {
            self.lag_buckets[bucket].add(1);
        }
    }

    pub(crate) fn delivered(&self, events: u64, bytes: u64) {
        self.deliveries.add(events);
        self.delivered_bytes.add(bytes);
    }

    pub(crate) fn opened(&self, kind: SinkKind) {
        self.opened.add(1);
        self.open[kind as usize].add(1);
    }

    pub(crate) fn closed(&self, kind: SinkKind, reason: CloseReason) {
        self.open[kind as usize].sub(1);
        self.closed[reason as usize].add(1);
    }
}

/// Upper bounds of the publish latency buckets, in microseconds.
const PUBLISH_BUCKETS_US: [u64; 10] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000,
];

/// What the whole process counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// One per shard, in shard order.
    pub shards: Vec<Arc<ShardMetrics>>,
    /// Events accepted from publishers.
    pub published: Number,
    /// Requests refused, by how; see [`Self::refused`].
    rejected: [Number; 4],
    /// Connections over the limit: whose head was read, and not; and those answered by means of the
    /// spare descriptor.
    pub(crate) over_limit: [Number; 3],
    /// Accepts that failed: for want of a descriptor, and for other reasons.
    pub(crate) accept_errors: [Number; 2],
    pub(crate) panics: Arc<Panics>,
    pub(crate) stream_log: Arc<StreamRecords>,
    pub(crate) pressure: Gauges,
    taken_over: Number,
    upgrades_failed: Number,
    publish_buckets: [Number; PUBLISH_BUCKETS_US.len()],
    publish_count: Number,
    publish_sum_us: Number,
}

/// What is read from other parts when the page is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Readings {
    /// Open connections of every kind.
    pub connections: u64,
    /// Most of them on the public listeners.
    pub connections_max: u64,
    /// What each limit refused, in the order of [`Limit::ALL`].
    pub refused: [u64; Limit::ALL.len()],
    /// How many keys the limits tell apart.
    pub keys: KeyCounts,
    /// Events that wait for the log, and their bytes.
    pub in_flight: (u64, u64),
    /// The oldest offset held.
    pub log_first: u64,
    /// The offset the next event gets.
    pub log_next: u64,
    /// Whether events can be appended.
    pub log_writable: bool,
    /// Whether the hub is draining.
    pub draining: bool,
    /// Streams that `gush drain` has still to close.
    pub drain_left: u64,
    /// Seconds since the start.
    pub uptime_seconds: f64,
    /// Breakers around what is remote, by what it is.
    pub breakers: [Option<BreakerState>; 2],
}

/// How a metric behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

impl Kind {
    /// The word of the exposition format.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, with the unit last.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// Its labels and their closed sets; empty for none.
    pub labels: &'static str,
    /// What it counts.
    pub help: &'static str,
    write: fn(&Metrics, &Readings, &mut Page<'_>),
}

/// A metric being written.
#[derive(Debug)]
pub struct Page<'a> {
    name: &'static str,
    out: &'a mut String,
}

impl Page<'_> {
    fn value(&mut self, labels: &str, value: f64) {
        let _ = writeln!(self.out, "{}{labels} {value}", self.name);
    }

    // Counters past 2^53 lose their last digits, as in Prometheus itself.
    #[allow(clippy::cast_precision_loss)]
    fn count(&mut self, labels: &str, value: u64) {
        self.value(labels, value as f64);
    }
}

fn total(metrics: &Metrics, of: impl Fn(&ShardMetrics) -> u64) -> u64 {
    metrics.shards.iter().map(|shard| of(shard)).sum()
}

/// Every metric of the hub.
pub static CATALOGUE: &[Metric] = &[
    Metric {
        name: "gush_connections_open",
        kind: Kind::Gauge,
        labels: "",
        help: "Open connections of every kind, and streams inside HTTP/2 beyond the first of each.",
        write: |_, readings, page| page.count("", readings.connections),
    },
    limits::CONNECTIONS_MAX,
    limits::REFUSALS,
    limits::KEYS,
    limits::IN_FLIGHT_EVENTS,
    limits::IN_FLIGHT_BYTES,
    Metric {
        name: "gush_subscribers_open",
        kind: Kind::Gauge,
        labels: "sink = tcp, tls, h2",
        help: "Open streams by what carries them; `h2` are those inside hyper: HTTP/2, and \
               HTTP/1.1 ones that came in one packet behind another request.",
        write: |metrics, _, page| {
            for kind in SinkKind::ALL {
                let open = total(metrics, |shard| shard.open[kind as usize].value());
                page.count(&format!("{{sink=\"{}\"}}", kind.name()), open);
            }
        },
    },
    Metric {
        name: "gush_subscribers_behind",
        kind: Kind::Gauge,
        labels: "",
        help: "Streams that have not had everything yet: replaying, or their socket is full.",
        write: |metrics, _, page| page.count("", total(metrics, |shard| shard.behind.value())),
    },
    Metric {
        name: "gush_lag_events",
        kind: Kind::Histogram,
        labels: "le",
        help: "How many events of the log a stream was behind, each time that one which is behind \
               gets its turn.",
        write: write_lag,
    },
    Metric {
        name: "gush_streams_opened_total",
        kind: Kind::Counter,
        labels: "",
        help: "Streams opened.",
        write: |metrics, _, page| page.count("", total(metrics, |shard| shard.opened.value())),
    },
    Metric {
        name: "gush_streams_closed_total",
        kind: Kind::Counter,
        labels: "reason: see close reasons",
        help: "Streams ended, by reason.",
        write: |metrics, _, page| {
            for reason in CloseReason::ALL {
                let closed = total(metrics, |shard| shard.closed[reason as usize].value());
                page.count(&format!("{{reason=\"{}\"}}", reason.name()), closed);
            }
        },
    },
    Metric {
        name: "gush_streams_taken_over_total",
        kind: Kind::Counter,
        labels: "",
        help: "Streams that came from the old process of an upgrade; they count as opened too.",
        write: |metrics, _, page| page.count("", metrics.taken_over.value()),
    },
    Metric {
        name: "gush_upgrades_failed_total",
        kind: Kind::Counter,
        labels: "",
        help: "New processes that did not come to serve; this one went on.",
        write: |metrics, _, page| page.count("", metrics.upgrades_failed.value()),
    },
    Metric {
        name: "gush_events_published_total",
        kind: Kind::Counter,
        labels: "",
        help: "Events accepted from publishers.",
        write: |metrics, _, page| page.count("", metrics.published.value()),
    },
    Metric {
        name: "gush_publish_seconds",
        kind: Kind::Histogram,
        labels: "le",
        help: "From a complete publish request to its event being in the log.",
        write: write_publish_seconds,
    },
    Metric {
        name: "gush_requests_rejected_total",
        kind: Kind::Counter,
        labels: "class = 4xx, 5xx, soft, stop",
        help: "Requests that were refused: with a status, softly (200 and a delay, for event \
               sources), or with a 204 that tells a client to stop.",
        write: |metrics, _, page| {
            for (class, count) in ["4xx", "5xx", "soft", "stop"].iter().zip(&metrics.rejected) {
                page.count(&format!("{{class=\"{class}\"}}"), count.value());
            }
        },
    },
    overload::CONNECTIONS_REFUSED,
    overload::ACCEPT_ERRORS,
    Metric {
        name: "gush_deliveries_total",
        kind: Kind::Counter,
        labels: "shard",
        help: "Events handed to subscribers' sockets.",
        write: |metrics, _, page| {
            for (number, shard) in metrics.shards.iter().enumerate() {
                page.count(&format!("{{shard=\"{number}\"}}"), shard.deliveries.value());
            }
        },
    },
    Metric {
        name: "gush_delivered_bytes_total",
        kind: Kind::Counter,
        labels: "shard",
        help: "Bytes of events handed to subscribers' sockets, framing included.",
        write: |metrics, _, page| {
            for (number, shard) in metrics.shards.iter().enumerate() {
                page.count(
                    &format!("{{shard=\"{number}\"}}"),
                    shard.delivered_bytes.value(),
                );
            }
        },
    },
    Metric {
        name: "gush_heartbeats_total",
        kind: Kind::Counter,
        labels: "",
        help: "Heartbeats sent.",
        write: |metrics, _, page| page.count("", total(metrics, |shard| shard.heartbeats.value())),
    },
    Metric {
        name: "gush_retries_told_total",
        kind: Kind::Counter,
        labels: "",
        help: "Delays told anew to open streams, because there are many more streams, or far \
               fewer, than when they were told.",
        write: |metrics, _, page| page.count("", total(metrics, |shard| shard.retold.value())),
    },
    Metric {
        name: "gush_replay_reads_total",
        kind: Kind::Counter,
        labels: "",
        help: "Reads of the log for subscribers behind the memory window.",
        write: |metrics, _, page| {
            page.count("", total(metrics, |shard| shard.replay_reads.value()));
        },
    },
    Metric {
        name: "gush_gaps_total",
        kind: Kind::Counter,
        labels: "",
        help: "Times a connected subscriber needed events that were trimmed or damaged.",
        write: |metrics, _, page| page.count("", total(metrics, |shard| shard.gaps.value())),
    },
    Metric {
        name: "gush_stream_log_dropped_total",
        kind: Kind::Counter,
        labels: "",
        help: "Records of the stream log that were not written: its sink is stuck or failed.",
        write: |metrics, _, page| page.count("", metrics.stream_log.dropped()),
    },
    Metric {
        name: "gush_panics_total",
        kind: Kind::Counter,
        labels: "where = shard, request, replay",
        help: "Faults of the hub that ended one stream or request; each is in the log with its \
               backtrace. Anything but 0 is worth a report.",
        write: |metrics, _, page| {
            for (place, caught) in metrics.panics.caught() {
                page.count(&format!("{{where=\"{place}\"}}"), caught);
            }
        },
    },
    Metric {
        name: "gush_conflated_events_total",
        kind: Kind::Counter,
        labels: "",
        help: "Events passed over for streams that were behind, because a newer one stands for \
               them.",
        write: |metrics, _, page| page.count("", total(metrics, |shard| shard.conflated.value())),
    },
    Metric {
        name: "gush_evicted_events_total",
        kind: Kind::Counter,
        labels: "",
        help: "Events of the log that were trimmed or damaged before a connected stream that was \
               behind had come to them, whoever they were for.",
        write: |metrics, _, page| page.count("", total(metrics, |shard| shard.evicted.value())),
    },
    Metric {
        name: "gush_log_first_offset",
        kind: Kind::Gauge,
        labels: "",
        help: "The oldest offset held.",
        write: |_, readings, page| page.count("", readings.log_first),
    },
    Metric {
        name: "gush_log_next_offset",
        kind: Kind::Gauge,
        labels: "",
        help: "The offset the next event gets.",
        write: |_, readings, page| page.count("", readings.log_next),
    },
    Metric {
        name: "gush_log_writable",
        kind: Kind::Gauge,
        labels: "",
        help: "1 while events can be appended, 0 while publishers get 503.",
        write: |_, readings, page| page.count("", u64::from(readings.log_writable)),
    },
    overload::BROWNOUT_STEP,
    overload::BROWNOUT_CHANGES,
    overload::PRESSURE_RATIO,
    overload::BREAKER_STATE,
    drain::DRAINING,
    drain::LEFT,
    Metric {
        name: "gush_uptime_seconds",
        kind: Kind::Gauge,
        labels: "",
        help: "Seconds since the start.",
        write: |_, readings, page| page.value("", readings.uptime_seconds),
    },
    Metric {
        name: "mercure_subscribers_connected",
        kind: Kind::Gauge,
        labels: "",
        help: "The reference hub's name for the open streams.",
        write: |metrics, _, page| page.count("", open_streams(metrics)),
    },
    Metric {
        name: "mercure_subscribers_total",
        kind: Kind::Counter,
        labels: "",
        help: "The reference hub's name for the streams opened.",
        write: |metrics, _, page| page.count("", total(metrics, |shard| shard.opened.value())),
    },
    Metric {
        name: "mercure_updates_total",
        kind: Kind::Counter,
        labels: "",
        help: "The reference hub's name for the events accepted.",
        write: |metrics, _, page| page.count("", metrics.published.value()),
    },
];

fn open_streams(metrics: &Metrics) -> u64 {
    metrics.streams_open_by_shard().sum()
}

#[allow(clippy::cast_precision_loss)] // microseconds up to 285 years are exact
fn write_publish_seconds(metrics: &Metrics, _: &Readings, page: &mut Page<'_>) {
    let name = page.name;
    let mut below = 0;
    for (bound_us, bucket) in PUBLISH_BUCKETS_US.iter().zip(&metrics.publish_buckets) {
        below += bucket.value();
        let bound = *bound_us as f64 / 1e6;
        let _ = writeln!(page.out, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let count = metrics.publish_count.value();
    let sum = metrics.publish_sum_us.value() as f64 / 1e6;
    let _ = writeln!(page.out, "{name}_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(page.out, "{name}_sum {sum}");
    let _ = writeln!(page.out, "{name}_count {count}");
}

fn write_lag(metrics: &Metrics, _: &Readings, page: &mut Page<'_>) {
    let name = page.name;
    let mut below = 0;
    for (number, bound) in LAG_BUCKETS.iter().enumerate() {
        below += total(metrics, |shard| shard.lag_buckets[number].value());
        let _ = writeln!(page.out, "{name}_bucket{{le=\"{bound}\"}} {below}");
    }
    let count = total(metrics, |shard| shard.lag_count.value());
    let sum = total(metrics, |shard| shard.lag_sum.value());
    let _ = writeln!(page.out, "{name}_bucket{{le=\"+Inf\"}} {count}");
    let _ = writeln!(page.out, "{name}_sum {sum}");
    let _ = writeln!(page.out, "{name}_count {count}");
}

impl Metrics {
    /// Zeroes for this many shards.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            ..Self::default()
        }
    }

    /// Counts accepted events, and how long each of them took.
    pub fn published_in(&self, events: u64, took: Duration) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.published.add(events);
        self.publish_count.add(events);
        self.publish_sum_us.add(took_us.saturating_mul(events));
        let bucket = PUBLISH_BUCKETS_US
            .iter()
            .position(|bound_us| took_us <= *bound_us);
        if let Some(bucket) = bucket {
            self.publish_buckets[bucket].add(events);
        }
    }

    /// The longest turn of any shard since this was last asked.
    pub(crate) fn longest_turn_ms(&self, now_ms: u64) -> u64 {
        let turns = self
            .shards
            .iter()
            .map(|shard| shard.turn.longest_ms(now_ms));
        turns.max().unwrap_or(0)
    }

    /// Streams that have not had everything yet.
    pub(crate) fn behind(&self) -> u64 {
        total(self, |shard| shard.behind.value())
    }

    /// Counts a stream that came from the old process of an upgrade.
    pub(crate) fn taken_over(&self) {
        self.taken_over.add(1);
    }

    /// Counts an upgrade after which this process goes on.
    pub(crate) fn upgrade_failed(&self) {
        self.upgrades_failed.add(1);
    }

    /// Streams now open.
    pub(crate) fn streams_open(&self) -> u64 {
        open_streams(self)
    }

    /// Streams now open in each shard.
    pub(crate) fn streams_open_by_shard(&self) -> impl Iterator<Item = u64> {
        let open = |shard: &Arc<ShardMetrics>| shard.open.iter().map(Number::value).sum();
        self.shards.iter().map(open)
    }

    /// Counts a refusal.
    pub fn refused(&self, status: http::StatusCode, is_soft: bool) {
        let class = match status {
            _ if is_soft => 2,
            http::StatusCode::NO_CONTENT => 3,
            status => usize::from(status.is_server_error()),
        };
        self.rejected[class].add(1);
    }

    /// The page in the Prometheus text format.
    #[must_use]
    pub fn page(&self, readings: &Readings) -> String {
        let mut out = String::with_capacity(8 * 1024);
        for metric in CATALOGUE {
            let _ = writeln!(out, "# HELP {} {}", metric.name, metric.help);
            let _ = writeln!(out, "# TYPE {} {}", metric.name, metric.kind.name());
            (metric.write)(
                self,
                readings,
                &mut Page {
                    name: metric.name,
                    out: &mut out,
                },
            );
        }
        out
    }
}
