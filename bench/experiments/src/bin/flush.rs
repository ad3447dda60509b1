//! The curve of bytes on the wire, CPU and latency against `flush_interval` and `flush_batch`.
//!
//! `flush --gush PATH --rate R --seconds S --out FILE` runs `gush bench fanout` with 1,000
//! subscribers against a fresh hub (one shard, core 0; generator on core 1) for each pair of
//! values and appends a line to FILE. `flush --charts FOLDER --out FILE` draws and tabulates them.
//!
//! Bytes are what the loopback's counters say, acknowledgements and publishes included, minus those
//! of a run with one event.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::Command;

use gush_experiments::chart::{Words, lines};
use gush_experiments::hub::{Hub, KEY};
use gush_experiments::rounds::{Rounds, number};
use gush_experiments::{Outcome, cpu, option};

const INTERVALS_MS: [u64; 8] = [0, 1, 2, 5, 10, 50, 100, 1000];
const BATCHES: [u64; 6] = [1, 4, 16, 64, 100, 256];
const SUBSCRIBERS: u64 = 1_000;

/// What a line of the file holds, in its order, behind rate, interval and batch.
const COLUMNS: [&str; 7] = [
    "bytes per delivery",
    "packets per delivery",
    "reads per delivery",
    "server CPU µs per delivery",
    "latency p50 ms",
    "latency p99 ms",
    "lost",
];

fn main() -> Outcome {
    let out: String = option("--out", "flush.tsv".to_owned())?;
    let charts: String = option("--charts", String::new())?;
    if !charts.is_empty() {
        return draw(&charts, &out);
    }
    let binary: String = option("--gush", "gush".to_owned())?;
    let rate: u64 = option("--rate", 100)?;
    let seconds: u64 = option("--seconds", 2)?;
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&out)?;
    let opening = run(&binary, (0, 1), &["--events", "1"])?;
    let mut pairs: Vec<(u64, u64)> = INTERVALS_MS[1..]
        .iter()
        .flat_map(|interval| BATCHES.map(|batch| (*interval, batch)))
        .collect();
    pairs.push((0, 1));
    // A far stride instead of the order of the values: a slow minute of the machine must not look
    // like a curve.
    for place in 0..pairs.len() {
        let pair = pairs[place * 19 % pairs.len()];
        let load = [format!("{rate}"), format!("{seconds}")];
        let options = ["--rate", &load[0], "--seconds", &load[1]];
        let measured = run(&binary, pair, &options)?;
        let wire = [
            measured.bytes - opening.bytes,
            measured.packets - opening.packets,
        ];
        let wire = wire.map(|value| value / measured.delivered.max(1.0));
        let mut line = format!("{rate}\t{}\t{}", pair.0, pair.1);
        for value in wire.iter().chain(&measured.rest) {
            let _ = write!(line, "\t{value:.4}");
        }
        writeln!(file, "{line}")?;
    }
    Ok(())
}

struct Measured {
    bytes: f64,
    packets: f64,
    delivered: f64,
    rest: [f64; 5],
}

/// One run against a hub of its own.
fn run(binary: &str, pair: (u64, u64), options: &[&str]) -> Outcome<Measured> {
    let interval = if pair.0 == 0 {
        "off".to_owned()
    } else {
        format!("{}ms", pair.0)
    };
    let batch = pair.1.to_string();
    cpu::pin(0);
    let knobs = [
        "--shards",
        "1",
        "--flush-interval",
        &interval,
        "--flush-batch",
        &batch,
    ];
    let hub = Hub::start(binary, &[], &knobs)?;
    cpu::unpin();
    let before = (lo("tx_bytes"), lo("tx_packets"));
    let output = Command::new(binary)
        .args([
            "bench",
            "fanout",
            "--json",
            "--pin-generator",
            "1",
            "--publisher-key",
            KEY,
        ])
        .args([
            "--url",
            &format!("http://{}/.well-known/mercure", hub.address),
        ])
        .args(["--subscribers", &SUBSCRIBERS.to_string()])
        .args(options)
        .output()?;
    let (bytes, packets) = (lo("tx_bytes") - before.0, lo("tx_packets") - before.1);
    let json = String::from_utf8(output.stdout)?;
    let result = |name: &str| result_of(&json, name);
    Ok(Measured {
        bytes,
        packets,
        delivered: result("delivered_count"),
        rest: [
            result("reads_per_delivery"),
            result("server_cpu_us_per_delivery"),
            result("latency_p50_us") / 1e3,
            result("latency_p99_us") / 1e3,
            result("lost_count"),
        ],
    })
}

/// A number of the report.
fn result_of(json: &str, name: &str) -> f64 {
    json.split_once(&format!("\"{name}\":"))
        .and_then(|(_, rest)| rest.split([',', '}', '\n']).next()?.trim().parse().ok())
        .unwrap_or(f64::NAN)
}

/// A counter of the loopback.
fn lo(name: &str) -> f64 {
    std::fs::read_to_string(format!("/sys/class/net/lo/statistics/{name}"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(f64::NAN)
}

/// Reads all lines back; prints a table for each rate, writes charts for each rate and column.
fn draw(folder: &str, file: &str) -> Outcome {
    let text = std::fs::read_to_string(file)?;
    let mut rates: Vec<(String, Rounds)> = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let [rate, interval, batch, values @ ..] = &words[..] else {
            continue;
        };
        let place = rates
            .iter()
            .position(|(have, _)| have == rate)
            .unwrap_or_else(|| {
                rates.push(((*rate).to_owned(), Rounds::default()));
                rates.len() - 1
            });
        for (name, value) in COLUMNS.iter().zip(values) {
            rates[place]
                .1
                .add(&format!("{interval}/{batch}"), name, value.parse()?);
        }
    }
    let places: Vec<String> = INTERVALS_MS
        .iter()
        .map(|ms| {
            if *ms == 0 {
                "off".to_owned()
            } else {
                ms.to_string()
            }
        })
        .collect();
    for (rate, rounds) in &rates {
        println!("### {rate} events/s, {SUBSCRIBERS} subscribers\n");
        println!("{}", table(rounds));
        for (name, column) in [
            ("bytes", 0),
            ("cpu", 3),
            ("latency-p50", 4),
            ("latency-p99", 5),
        ] {
            let column = COLUMNS[column];
            let series: Vec<(String, Vec<f64>)> = BATCHES
                .iter()
                .map(|batch| {
                    let values = INTERVALS_MS.map(|ms| rounds.median(&row(ms, *batch), column));
                    (format!("flush_batch {batch}"), values.to_vec())
                })
                .collect();
            let words = Words {
                title: &format!("{column}, {rate} events/s to 1,000 subscribers"),
                x: "flush_interval, ms",
                y: column,
            };
            let path = format!("{folder}/flush-{rate}-{name}.svg");
            std::fs::write(path, lines(words, &places, &series))?;
        }
    }
    Ok(())
}

/// Without an interval the batch has no meaning: one run stands for all.
fn row(interval_ms: u64, batch: u64) -> String {
    let batch = if interval_ms == 0 { 1 } else { batch };
    format!("{interval_ms}/{batch}")
}

/// Rows are intervals, columns batches; a cell has bytes, CPU and latencies.
fn table(rounds: &Rounds) -> String {
    let mut text = "bytes, server CPU µs, p50 and p99 ms per delivery\n\n| interval |".to_owned();
    for batch in BATCHES {
        let _ = write!(text, " batch {batch} |");
    }
    let _ = write!(text, "\n| --- |{}", " --- |".repeat(BATCHES.len()));
    for interval in INTERVALS_MS {
        let _ = write!(text, "\n| {interval} ms |");
        for batch in BATCHES {
            let cell: Vec<String> = [0, 3, 4, 5]
                .iter()
                .map(|at| number(rounds.median(&row(interval, batch), COLUMNS[*at])))
                .collect();
            let _ = write!(text, " {} |", cell.join(" · "));
        }
    }
    text.push('\n');
    text
}
