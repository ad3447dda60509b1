//! What is measured, which figures of it are shown, and how.

/// How a figure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Bytes,
    Micros,
    PerSecond,
    Count,
}

/// Which way is good. Counts of failures are not marked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Best {
    Low,
    High,
    None,
}

/// One column: the name that `gush bench` gives the figure, and what people read above it.
pub(super) struct Column {
    pub key: &'static str,
    pub title: &'static str,
    pub unit: Unit,
    pub best: Best,
}

const fn column(key: &'static str, title: &'static str, unit: Unit, best: Best) -> Column {
    Column {
        key,
        title,
        unit,
        best,
    }
}

const CPU: &str = "server_cpu_us_per_delivery";

const IDLE: &[Column] = &[
    column(
        "server_rss_bytes_per_stream",
        "memory per stream",
        Unit::Bytes,
        Best::Low,
    ),
    column(
        "server_rss_open_bytes",
        "memory in all",
        Unit::Bytes,
        Best::Low,
    ),
    column(
        "server_cpu_us_per_connect",
        "CPU per connect",
        Unit::Micros,
        Best::Low,
    ),
    column("refused_count", "refused", Unit::Count, Best::None),
    column("dropped_count", "dropped", Unit::Count, Best::None),
];

const FAN_OUT: &[Column] = &[
    column(CPU, "CPU per delivery", Unit::Micros, Best::Low),
    column(
        "deliveries_per_second",
        "deliveries/s",
        Unit::PerSecond,
        Best::High,
    ),
    column("latency_p50_us", "p50", Unit::Micros, Best::Low),
    column("latency_p99_us", "p99", Unit::Micros, Best::Low),
    column("latency_max_us", "longest", Unit::Micros, Best::Low),
    column("lost_count", "lost", Unit::Count, Best::None),
    column("doubled_count", "doubled", Unit::Count, Best::None),
    column("refused_count", "refused", Unit::Count, Best::None),
    column("dropped_count", "dropped", Unit::Count, Best::None),
];

/// Where events come on a schedule, how many are delivered in a second says nothing.
const PACED: &[Column] = &[
    column(CPU, "CPU per delivery", Unit::Micros, Best::Low),
    column("latency_p50_us", "p50", Unit::Micros, Best::Low),
    column("latency_p99_us", "p99", Unit::Micros, Best::Low),
    column("latency_max_us", "longest", Unit::Micros, Best::Low),
    column("lost_count", "lost", Unit::Count, Best::None),
    column("doubled_count", "doubled", Unit::Count, Best::None),
    column("refused_count", "refused", Unit::Count, Best::None),
    column("dropped_count", "dropped", Unit::Count, Best::None),
];

const CONNECT: &[Column] = &[
    column(
        "first_byte_p50_us",
        "first byte p50",
        Unit::Micros,
        Best::Low,
    ),
    column(
        "first_byte_p99_us",
        "first byte p99",
        Unit::Micros,
        Best::Low,
    ),
    column(
        "first_byte_max_us",
        "longest first byte",
        Unit::Micros,
        Best::Low,
    ),
    column("refused_count", "refused", Unit::Count, Best::None),
];

/// Scenarios of `bench/peers/run.sh`, by name.
pub(super) const SCENARIOS: [(&str, &str, &[Column]); 8] = [
    ("idle-10000", "10,000 idle streams", IDLE),
    (
        "fanout-1000-window-1",
        "1,000 streams, one event in flight",
        FAN_OUT,
    ),
    (
        "fanout-1000-window-4",
        "1,000 streams, four events in flight",
        FAN_OUT,
    ),
    (
        "fanout-10000-window-1",
        "10,000 streams, one event in flight",
        FAN_OUT,
    ),
    (
        "fanout-10000-window-4",
        "10,000 streams, four events in flight",
        FAN_OUT,
    ),
    (
        "fanout-10000-every-1s",
        "10,000 streams, an event every second",
        PACED,
    ),
    (
        "fanout-10000-every-100ms",
        "10,000 streams, an event every 100 ms (100,000 deliveries/s asked for)",
        PACED,
    ),
    (
        "connect-1500",
        "1,500 connections at 1,000 a second (Pushpin: 350)",
        CONNECT,
    ),
];

/// The front page's choice: scenario, key, title over it.
pub(super) const FRONT: [(&str, &str, &str); 8] = [
    (
        "idle-10000",
        "server_rss_bytes_per_stream",
        "memory per idle stream",
    ),
    (
        "fanout-1000-window-1",
        CPU,
        "CPU per delivery: 1,000 streams, 1 in flight",
    ),
    ("fanout-10000-window-1", CPU, "10,000, 1 in flight"),
    ("fanout-10000-window-4", CPU, "10,000, 4 in flight"),
    ("fanout-10000-every-1s", CPU, "10,000, every second"),
    (
        "fanout-10000-window-4",
        "deliveries_per_second",
        "deliveries/s, 10,000, 4 in flight",
    ),
    (
        "fanout-10000-every-1s",
        "latency_p99_us",
        "p99, every second",
    ),
    ("connect-1500", "first_byte_p99_us", "first byte p99"),
];

/// What people read of a scenario and a key, with the columns' unit.
pub(super) fn find(scenario: &str, key: &str) -> Option<&'static Column> {
    let (_, _, columns) = SCENARIOS.iter().find(|(name, ..)| *name == scenario)?;
    columns.iter().find(|column| column.key == key)
}

/// A figure with three significant digits and its unit.
pub(super) fn shown(value: f64, unit: Unit) -> String {
    const KIB: f64 = 1024.0;
    match unit {
        Unit::Bytes if value >= KIB * KIB => format!("{} MiB", digits(value / KIB / KIB)),
        Unit::Bytes if value >= 10.0 * KIB => format!("{} KiB", digits(value / KIB)),
        Unit::Bytes => format!("{} B", digits(value)),
        Unit::Micros if value >= 1e6 => format!("{} s", digits(value / 1e6)),
        Unit::Micros if value >= 1e3 => format!("{} ms", digits(value / 1e3)),
        Unit::Micros => format!("{} µs", digits(value)),
        Unit::PerSecond if value >= 1e3 => format!("{}k", digits(value / 1e3)),
        Unit::PerSecond | Unit::Count => digits(value),
    }
}

fn digits(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || size == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
