//! The tables: one per scenario in the run's folder, and one for the front page.

use std::fmt::Write as _;

use super::runs::{Figure, Peer, Run};

/// How a figure is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Bytes,
    Micros,
    PerSecond,
    Count,
}

/// Which way is good. Counts of failures are not marked at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Best {
    Low,
    High,
    None,
}

/// One column: the name that `gush bench` gives the figure, and what people read above it.
struct Column {
    key: &'static str,
    title: &'static str,
    unit: Unit,
    best: Best,
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
const SCENARIOS: [(&str, &str, &[Column]); 8] = [
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
const FRONT: [(&str, &str, &str); 8] = [
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
fn find(scenario: &str, key: &str) -> Option<&'static Column> {
    let (_, _, columns) = SCENARIOS.iter().find(|(name, ..)| *name == scenario)?;
    columns.iter().find(|column| column.key == key)
}

/// The best median of the peers that lost and refused nothing in the scenario.
fn best(run: &Run, scenario: &str, column: &Column) -> Option<f64> {
    let sound = run
        .peers
        .iter()
        .filter(|peer| run.failures(scenario, &peer.name) == 0.0);
    let medians = sound
        .filter_map(|peer| run.figure(scenario, &peer.name, column.key))
        .map(|figure| figure.median);
    match column.best {
        Best::Low => medians.reduce(f64::min),
        Best::High => medians.reduce(f64::max),
        Best::None => None,
    }
}

/// Whether the median is the best one. Medians that read alike are alike.
fn is_best(run: &Run, scenario: &str, peer: &Peer, column: &Column, median: f64) -> bool {
    let reads_best = best(run, scenario, column)
        .is_some_and(|best| shown(best, column.unit) == shown(median, column.unit));
    reads_best && run.failures(scenario, &peer.name) == 0.0
}

/// `README.md` of the run's folder.
pub(super) fn page(run: &Run) -> String {
    let mut page = String::from("# gush and its rivals in one run\n\n");
    let _ = write!(
        page,
        "Written by `cargo xtask bench-records` from `raw/`, which `make bench-peers` wrote. Every \
         server had one core, the\ngenerator (`gush bench`) another; 200-byte events, one topic, \
         HTTP/1.1 on loopback. Figures are medians of {},\nwith the lowest and the highest \
         behind them; **bold** is the best of a column among those that lost, doubled and\nrefused \
         nothing. CPU is the server's user and system time; memory is resident memory beyond what \
         the server had\nbefore the streams came. [What each was tuned with, and \
         why](../../../docs/concepts/rivals.md).\n\n## Servers\n\n",
        rounds(run)
    );
    for peer in &run.peers {
        let state = if peer.is_measured {
            ""
        } else {
            "not measured: "
        };
        let _ = writeln!(page, "- **{}**: {state}{}", peer.title, peer.note);
    }
    for (scenario, title, columns) in SCENARIOS {
        let _ = write!(page, "\n## {title}\n\n{}", detail(run, scenario, columns));
    }
    let _ = write!(page, "\n{}", recorded_note(run));
    page.push_str("## Charts\n\n");
    for (name, chart) in super::charts::all(run) {
        let _ = writeln!(page, "![{}]({name})", chart.title);
    }
    let _ = write!(
        page,
        "\n## Machine and commands\n\nThe commands of the first round are in `commands.txt`.\n\n\
         ```text\n{}\n```\n",
        run.machine.trim_end()
    );
    page
}

fn rounds(run: &Run) -> String {
    match run.rounds() {
        1 => "one round".to_owned(),
        count => format!("{count} rounds"),
    }
}

/// The table of one scenario: a row for each peer that has a figure in it.
fn detail(run: &Run, scenario: &str, columns: &[Column]) -> String {
    let titles: Vec<&str> = columns.iter().map(|column| column.title).collect();
    let mut table = format!(
        "| server | {} |\n| --- |{}\n",
        titles.join(" | "),
        " ---: |".repeat(columns.len())
    );
    for peer in &run.peers {
        let cells: Vec<String> = columns
            .iter()
            .map(
                |column| match run.figure(scenario, &peer.name, column.key) {
                    Some(figure) => {
                        let is_best = is_best(run, scenario, peer, column, figure.median);
                        with_range(figure, column.unit, is_best)
                    }
                    None => recorded_cell(run, scenario, peer, column),
                },
            )
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            let _ = writeln!(
                table,
                "| {} | {} |",
                row_title(run, peer),
                cells.join(" | ")
            );
        }
    }
    table
}

fn with_range(figure: Figure, unit: Unit, is_best: bool) -> String {
    let median = emphasised(&shown(figure.median, unit), is_best);
    if figure.min.to_bits() == figure.max.to_bits() {
        return median;
    }
    let (min, max) = (shown(figure.min, unit), shown(figure.max, unit));
    format!("{median} ({min} to {max})")
}

fn recorded_cell(run: &Run, scenario: &str, peer: &Peer, column: &Column) -> String {
    let figure = run.recorded(scenario, &peer.name, column.key);
    let is_used = !peer.is_measured;
    figure
        .filter(|_| is_used)
        .map_or("-".to_owned(), |figure| shown(figure.median, column.unit))
}

fn row_title(run: &Run, peer: &Peer) -> String {
    if !peer.is_measured && run.is_recorded(&peer.name) {
        format!("{} (another run)", peer.title)
    } else {
        peer.title.clone()
    }
}

fn emphasised(text: &str, is_best: bool) -> String {
    if is_best {
        format!("**{text}**")
    } else {
        text.to_owned()
    }
}

fn recorded_note(run: &Run) -> String {
    let is_used = |peer: &&Peer| !peer.is_measured && run.is_recorded(&peer.name);
    if run.peers.iter().any(|peer| is_used(&peer)) {
        format!("\"Another run\": {}.\n\n", run.recorded_source)
    } else {
        String::new()
    }
}

/// The block of the front page: `place` is the run's folder from there.
pub(super) fn front(run: &Run, place: &str) -> String {
    let titles: Vec<&str> = FRONT.iter().map(|(_, _, title)| *title).collect();
    let mut block = format!(
        "| | {} |\n| --- |{}\n",
        titles.join(" | "),
        " ---: |".repeat(FRONT.len())
    );
    for peer in &run.peers {
        let cells: Vec<String> = FRONT
            .iter()
            .map(|(scenario, key, _)| front_cell(run, scenario, key, peer))
            .collect();
        if cells.iter().any(|cell| cell != "-") {
            let _ = writeln!(
                block,
                "| {} | {} |",
                row_title(run, peer),
                cells.join(" | ")
            );
        }
    }
    let _ = write!(
        block,
        "\nOne machine, one run, {} in turn: the server on one core, the generator on \
         another, 200-byte events, HTTP/1.1 on\nloopback; medians. **Bold** is the best of a \
         column. A cell with \"lost\" did not deliver everything, and is not compared.\n",
        rounds(run)
    );
    for peer in run.peers.iter().filter(|peer| !peer.is_measured) {
        let what = if run.is_recorded(&peer.name) {
            "its row is from another run"
        } else {
            "it has no row"
        };
        let _ = writeln!(
            block,
            "{} was not measured in this run, because Go modules could not be fetched; {what}.",
            peer.title
        );
    }
    let _ = write!(
        block,
        "[Every scenario, versions, ranges, raw data]({place}/README.md). [What each server was \
         tuned with](docs/concepts/rivals.md).\n\n"
    );
    for (name, chart) in super::charts::all(run).iter().take(2) {
        let _ = writeln!(block, "![{}]({place}/{name})\n", chart.title);
    }
    block
}

fn front_cell(run: &Run, scenario: &str, key: &str, peer: &Peer) -> String {
    let Some(column) = find(scenario, key) else {
        return "-".to_owned();
    };
    let Some(figure) = run.figure(scenario, &peer.name, key) else {
        return recorded_cell(run, scenario, peer, column);
    };
    let median = figure.median;
    let is_best = is_best(run, scenario, peer, column, median);
    let text = emphasised(&shown(median, column.unit), is_best);
    if run.failures(scenario, &peer.name) > 0.0 {
        format!("{text}, lost")
    } else {
        text
    }
}

/// A figure with three significant digits and its unit.
fn shown(value: f64, unit: Unit) -> String {
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
