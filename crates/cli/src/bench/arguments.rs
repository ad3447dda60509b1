//! Every argument of `gush bench`, once; a mode takes those it reads.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{Arg, ArgAction, value_parser};
use gush_bench::options::DEFAULT_URL;

use super::options::KEY_VARIABLE;

/// Most streams of a kind: more than any machine holds, few enough to count and to number.
const STREAMS_MAX: u64 = 10_000_000;
/// Longest time, a year.
const SECONDS_MAX: f64 = 365.0 * 86_400.0;
/// Least events or connects per second: nine a day.
const RATE_MIN: f64 = 0.0001;
/// Most of them: one each 100 ns.
const RATE_MAX: f64 = 10_000_000.0;

/// Arguments of every mode, by id.
pub(super) const COMMON: [&str; 13] = [
    "url",
    "subscribe",
    "header",
    "subscriber-token",
    "pid",
    "threads",
    "spin",
    "tick",
    "pin-generator",
    "patience",
    "json",
    "report",
    "label",
];

/// All of them; `subscribers` is how many streams the mode opens by default.
pub(super) fn all(subscribers: u64) -> Vec<Arg> {
    let groups = [
        target(),
        access(),
        load(subscribers),
        special(),
        generator(),
        output(),
    ];
    groups.into_iter().flatten().collect()
}

fn option(id: &'static str, value: &'static str, help: impl Into<String>) -> Arg {
    Arg::new(id).long(id).value_name(value).help(help.into())
}

fn flag(id: &'static str, help: &'static str) -> Arg {
    Arg::new(id).long(id).action(ArgAction::SetTrue).help(help)
}

fn headed(heading: &'static str, arguments: Vec<Arg>) -> Vec<Arg> {
    let arguments = arguments.into_iter();
    arguments
        .map(|argument| argument.help_heading(heading))
        .collect()
}

fn target() -> Vec<Arg> {
    let url = format!("URL of a Mercure hub [default: {DEFAULT_URL}]");
    let body = "Body of a publish: form (topic=..&data=..), raw (the data) or json:TEMPLATE with \
                {topic} and {data}";
    let pid = "Process whose CPU time and memory are measured, with its children; may be given \
               several times [default: who listens on the port]";
    let arguments = vec![
        option("url", "URL", url),
        option(
            "subscribe",
            "TEMPLATE",
            "URL of a stream of another server, with {topic}",
        ),
        option(
            "publish",
            "TEMPLATE",
            "URL that another server takes events at, with {topic}",
        ),
        option("publish-body", "FORMAT", body),
        option(
            "header",
            "'NAME: VALUE'",
            "Header of subscribes; may be given several times",
        )
        .action(ArgAction::Append),
        option(
            "publish-header",
            "'NAME: VALUE'",
            "Header of publishes; may be given several times",
        )
        .action(ArgAction::Append),
        option("pid", "PID", pid)
            .action(ArgAction::Append)
            .value_parser(value_parser!(u32)),
    ];
    headed("Target", arguments)
}

fn access() -> Vec<Arg> {
    let key = format!(
        "Sign a token for publishes with this HS256 key: text or file:PATH [env: {KEY_VARIABLE}]"
    );
    let arguments = vec![
        option("publisher-key", "KEY", key).allow_hyphen_values(true),
        option(
            "publisher-token",
            "TOKEN",
            "Token of publishes; goes before the key",
        ),
        option("subscriber-token", "TOKEN", "Token of subscribes"),
    ];
    headed("Access", arguments)
}

fn load(subscribers: u64) -> Vec<Arg> {
    let streams = format!("Streams to open [default: {subscribers}]");
    let rate = "Events (mode publish: requests) per second, due whether or not the server keeps up";
    let arguments = vec![
        option("subscribers", "N", streams).value_parser(value_parser!(u64).range(..=STREAMS_MAX)),
        option("topics", "T", "Topics they are spread over [default: 1]")
            .value_parser(value_parser!(u32).range(1..)),
        flag(
            "templates",
            "Subscribe with URI templates instead of exact topics",
        ),
        option(
            "idle",
            "N",
            "More streams, opened first, that get no events [default: 0]",
        )
        .value_parser(value_parser!(u64).range(..=STREAMS_MAX)),
        option("events", "M", "Events to publish").value_parser(value_parser!(u64).range(1..)),
        option(
            "seconds",
            "S",
            "How long to publish or to hold [default: the mode's]",
        )
        .value_parser(seconds_of),
        option("rate", "R", rate).value_parser(rate_of),
        option(
            "window",
            "W",
            "Most events that have not yet reached every stream [default: 4]",
        )
        .value_parser(value_parser!(u32).range(1..))
        .conflicts_with("rate"),
        option(
            "size",
            "BYTES",
            "Bytes of an event's data, at least 40 [default: 200]",
        )
        .value_parser(value_parser!(u32).range(40..=16 << 20)),
        option(
            "publishers",
            "N",
            "Connections that publish at once [default: 1]",
        )
        .value_parser(value_parser!(u32).range(1..=10_000)),
        option(
            "connect-rate",
            "R",
            "Connects per second [default: as fast as they are answered]",
        )
        .value_parser(rate_of),
    ];
    headed("Load", arguments)
}

/// Arguments that only one or two modes read.
fn special() -> Vec<Arg> {
    let resume = "Resume after this percentage of the published events [default: 0]";
    let admin = "Admin listener of a gush hub (127.0.0.1:3001), whose metrics are read";
    let id = "Replay what the server has already, after this id (or earliest); publish nothing";
    let arguments = vec![
        flag(
            "durability",
            "Measure a hub of its own for each way to keep events: in memory, and on disk with \
             sync = off, interval, batch, and batch with one publisher, who shares no fsync",
        )
        .conflicts_with_all(["url", "subscribe", "publish", "pid"]),
        flag(
            "broadcast",
            "Publish one event to all when they are open, and check it",
        ),
        option(
            "batch",
            "N",
            "Events in one NDJSON request [default: one plain request each]",
        )
        .value_parser(value_parser!(u32).range(1..=100_000)),
        option("resume-at", "PERCENT", resume).value_parser(percent),
        option("resume-id", "ID", id).conflicts_with("resume-at"),
        option(
            "live",
            "N",
            "Live streams, measured alone and beside the replays [default: 0]",
        )
        .value_parser(value_parser!(u64).range(..=STREAMS_MAX)),
        option("admin", "ADDRESS", admin).value_parser(value_parser!(SocketAddr)),
        option("share", "PERCENT", "Streams that never read [default: 5]").value_parser(percent),
        option(
            "rounds",
            "N",
            "How often it is measured, one after the other [default: 3]",
        )
        .value_parser(value_parser!(u32).range(1..=100)),
        option("pin-server", "CPU", "Pin the references to this core")
            .value_parser(value_parser!(u16)),
        option(
            "serve",
            "REFERENCE",
            "Only run this reference until killed: loop or sweep",
        )
        .value_parser(["loop", "sweep"]),
        option(
            "listen",
            "ADDRESS",
            "Where the reference listens [default: 127.0.0.1:0]",
        )
        .value_parser(value_parser!(SocketAddr))
        .requires("serve"),
    ];
    headed("Mode", arguments)
}

fn generator() -> Vec<Arg> {
    let threads = "Generator threads [default: one for each 19,000 streams]";
    let patience = "Time without any progress after which what has not come is lost [default: 10]";
    let arguments = vec![
        option("threads", "N", threads).value_parser(value_parser!(u16).range(1..=1024)),
        flag(
            "spin",
            "Keep the threads that read awake while events are published; needs a core of its own",
        ),
        flag(
            "tick",
            "Read once a millisecond instead of when something comes: no delivery wakes a reader",
        )
        .conflicts_with("spin"),
        option("pin-generator", "CPU", "Pin the generator to this core")
            .value_parser(value_parser!(u16)),
        option("patience", "SECONDS", patience).value_parser(seconds_of),
    ];
    headed("Generator", arguments)
}

fn output() -> Vec<Arg> {
    let arguments = vec![
        flag("json", "Print one JSON object instead of the table"),
        option(
            "report",
            "FILE",
            "Write a page with charts; it needs no other file",
        )
        .value_parser(value_parser!(PathBuf)),
        option(
            "label",
            "TEXT",
            "A word for the server's settings, shown with the figures",
        ),
    ];
    headed("Output", arguments)
}

fn seconds_of(text: &str) -> Result<f64, String> {
    number(text, 0.001..=SECONDS_MAX)
}

fn rate_of(text: &str) -> Result<f64, String> {
    number(text, RATE_MIN..=RATE_MAX)
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 0.0..=100.0)
}

fn number(text: &str, range: RangeInclusive<f64>) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| range.contains(value));
    let (low, high) = (range.start(), range.end());
    value.ok_or_else(|| format!("a number from {low} to {high} is needed"))
}
