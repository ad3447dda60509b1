//! `gush bench publish --durability`: hubs of our own, one for each way to keep events, measured by
//! turns with the same load, so that the figures can be compared.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gush_bench::modes::publish;
use gush_bench::report::{Series, Shape, Unit};
use gush_bench::{BenchError, BenchOptions, Progress, Report};

/// One way to keep events, and how it is asked for.
struct Way {
    /// Begin of its figures' names.
    name: &'static str,
    /// The hub's options; `{dir}` is an empty directory.
    options: [&'static str; 4],
    /// Publishers in place of the number asked for.
    publishers: Option<u32>,
}

/// From the one that keeps least to the one that waits longest.
const WAYS: [Way; 5] = [
    Way {
        name: "memory",
        options: ["--log", "memory", "--sync", "off"],
        publishers: None,
    },
    Way {
        name: "sync_off",
        options: ["--log", "disk:{dir}", "--sync", "off"],
        publishers: None,
    },
    Way {
        name: "sync_interval",
        options: ["--log", "disk:{dir}", "--sync", "interval"],
        publishers: None,
    },
    Way {
        name: "sync_batch",
        options: ["--log", "disk:{dir}", "--sync", "batch"],
        publishers: None,
    },
    // Alone, a publisher shares no fsync with anybody.
    Way {
        name: "sync_each",
        options: ["--log", "disk:{dir}", "--sync", "batch"],
        publishers: Some(1),
    },
];

/// Figures of each way, as mode `publish` names them.
const FIGURES: [&str; 8] = [
    "requests_per_second",
    "events_per_second",
    "latency_p50_us",
    "latency_p90_us",
    "latency_p99_us",
    "latency_p999_us",
    "latency_max_us",
    "server_cpu_us_per_request",
];
/// The key of hubs that only this run talks to.
const KEY: &str = "gush-bench-durability-gush-bench-durability";
/// What a hub says before its address.
const LISTENING: &str = "listening on ";

/// A hub that runs beside this process; dropping it ends it and takes its log away.
struct Hub {
    child: Child,
    directory: PathBuf,
    url: String,
}

impl Hub {
    fn start(way: &Way) -> Result<Self, BenchError> {
        let unique = format!("gush-bench-{}-{}", std::process::id(), way.name);
        let directory = std::env::temp_dir().join(unique);
        let program = std::env::current_exe().map_err(|e| BenchError::io("find gush", e))?;
        // Made here and not by the hub: one that is there already is somebody else's, and what is
        // in it would be taken away at the end.
        std::fs::create_dir(&directory).map_err(|e| BenchError::io("make a log's folder", e))?;
        let child = command(&program, way, &directory).spawn();
        let child = child.map_err(|error| BenchError::io("start a hub", error))?;
        let mut hub = Self {
            child,
            directory,
            url: String::new(),
        };
        let mut line = String::new();
        if let Some(stdout) = hub.child.stdout.take() {
            let read = BufReader::new(stdout).read_line(&mut line);
            read.map_err(|error| BenchError::io("hear from a hub", error))?;
        }
        let base = line.strip_prefix(LISTENING).unwrap_or_default();
        let base = base.split_whitespace().next().ok_or_else(|| {
            let text = format!("a hub with {} did not start", way.options.join(" "));
            BenchError::Server(text)
        })?;
        hub.url = format!("{base}/.well-known/mercure");
        Ok(hub)
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn command(program: &Path, way: &Way, directory: &Path) -> Command {
    let directory = directory.to_string_lossy();
    let mut command = Command::new(program);
    command.args(["serve", "--listen", "127.0.0.1:0", "--anonymous"]);
    command.args(["--admin-listen", "127.0.0.1:0", "--publisher-key", KEY]);
    command.args(way.options.map(|word| word.replace("{dir}", &directory)));
    // Settings of a hub in this shell are not those of these.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GUSH_") || text.starts_with("MERCURE_") {
            command.env_remove(&name);
        }
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// Runs mode `publish` against each way.
///
/// # Errors
/// [`BenchError`] when a hub cannot be started or used.
pub(super) fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    let mut report = Report::new("publish", "a hub for each way to keep events");
    let mut rates = Vec::new();
    for way in &WAYS {
        progress.end();
        progress.note(&format!("{}:", way.name));
        let hub = Hub::start(way)?;
        let options = BenchOptions {
            url: hub.url.clone(),
            publisher_key: Some(KEY.into()),
            publishers: way.publishers.unwrap_or(options.publishers),
            ..options.clone()
        };
        let one = publish::run(&options, progress)?;
        if way.publishers.is_none() && report.parameters.is_empty() {
            report.parameters.clone_from(&one.parameters);
        }
        rates.push(one.value("requests_per_second").unwrap_or(f64::NAN));
        add(&mut report, way.name, one);
    }
    let shared_to_each = rates[3] / rates[4];
    report.result("sync_batch_to_sync_each_ratio", shared_to_each, Unit::Ratio);
    let points = (0u32..).map(f64::from).zip(rates);
    report.series(Series {
        chart: "Publishes by durability".into(),
        name: "requests".into(),
        x_unit: String::new(),
        y_unit: "requests/s".into(),
        shape: Shape::Bars,
        labels: WAYS.iter().map(|way| way.name.to_owned()).collect(),
        points: points.collect(),
    });
    Ok(report)
}

/// Takes what is compared out of one way's report.
fn add(report: &mut Report, name: &str, one: Report) {
    for measure in &one.results {
        if FIGURES.contains(&measure.name.as_str()) {
            let long = format!("{name}_{}", measure.name);
            report.result(&long, measure.value, measure.unit);
        }
    }
    let curves = one.series.into_iter();
    for curve in curves.filter(|series| series.name == "latency") {
        report.series(Series {
            name: name.to_owned(),
            ..curve
        });
    }
    for check in one.checks {
        report.check(
            &format!("{name}: {}", check.name),
            check.passed,
            check.detail,
        );
    }
}
