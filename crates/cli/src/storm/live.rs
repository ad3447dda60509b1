//! `gush storm run`: the storm with real sockets, and the simulation beside it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use gush_bench::Progress;
use gush_bench::report::write_chart;
use gush_bench::storm::live::{self, Drop, LiveOptions};
use gush_bench::storm::{self, Behaviour, Growth, Preset, Share};
use gush_middleware::Comeback;

use super::{output, rate, seconds, wrote};
use crate::failure::{Failure, print};

const EXAMPLES: &str = "\
Examples:
  gush storm run --subscribers 50000                kills a hub of its own
  gush storm run --subscribers 50000 --drop drain   ends it with SIGTERM instead
  gush storm run --url http://127.0.0.1:3000/.well-known/mercure --drop close
  gush storm run --subscribers 50000 --drop close --dropped 20    a few lose their streams alone
  gush storm run --clients mix --check              exit code 1 past the margin or the target

docs/concepts/storms.md has what came of it.";

/// More than all clients: a few are dropped and back before their old place is given back.
const CONNECTIONS_SPARE: u32 = 10_000;

/// Signs the publishes to a hub of our own.
const OWN_KEY: &str = "a key for the time of one storm, which nobody else has to know";

pub(super) fn command() -> Command {
    Command::new("run")
        .about("Play a storm with real sockets against a live hub")
        .long_about(
            "Play a storm with real sockets against a live hub.\n\n\
             Opens the streams, publishes events, drops everybody in one moment and counts what \
             comes back. Without --url it starts a hub of its own, on a disk log in a temporary \
             directory, and kills it. The simulation is played with the same parameters and \
             printed beside it. Exit code 1 when an event was lost or doubled; with --check also \
             when somebody failed, the worst second was more than twice the mean, or the \
             simulation (of 20 seeds) was off by more than the margin.\n\n\
             With --drop drain the hub gets SIGTERM while all streams are open and four more \
             publishers publish to topics of their own. Printed is how steadily it closed the \
             streams, the retry of each, who came back to it meanwhile, and whether the hub that \
             is started after it has every event whose publish was answered.",
        )
        .after_help(EXAMPLES)
        .args(arguments())
        .args(output())
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn time(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let arg = option(name, "S", help);
    arg.value_parser(seconds).default_value(default)
}

fn number(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    let arg = option(name, "R", help);
    arg.value_parser(rate).default_value(default)
}

fn arguments() -> Vec<Arg> {
    let mut arguments = storm_arguments();
    arguments.extend(hub_arguments());
    arguments
}

fn storm_arguments() -> Vec<Arg> {
    vec![
        option("subscribers", "N", "Streams that are opened")
            .value_parser(value_parser!(u32).range(1..=1_000_000))
            .default_value("10000"),
        option(
            "drop",
            "HOW",
            "Close the clients' sockets; kill the hub and start it again; or have it drain first",
        )
        .value_parser(["close", "kill", "drain"]),
        option(
            "dropped",
            "N",
            "Streams that are dropped, with --drop close [default: all]",
        )
        .value_parser(value_parser!(u32).range(1..=1_000_000)),
        time("drain-window", "20", "The hub's setting, for --drop drain"),
        option("clients", "NAME", "How the clients behave")
            .value_parser(known_name)
            .default_value("Chromium"),
        number(
            "connect-rate",
            "4000",
            "Streams opened per second before the storm",
        ),
        time("hold", "12", "Time between the last stream and the drop"),
        number("event-rate", "1", "Events published per second"),
        time("end", "180", "Give up so long after the drop"),
        number(
            "margin",
            "5",
            "How far the simulation may be off, in percent, beside 3 standard deviations",
        ),
        option("seed", "N", "Of the clients and the simulation")
            .value_parser(value_parser!(u64))
            .default_value("1"),
        Arg::new("check")
            .long("check")
            .action(ArgAction::SetTrue)
            .help("Exit code 1 past the target or the margin, too"),
    ]
}

fn hub_arguments() -> Vec<Arg> {
    vec![
        option(
            "url",
            "URL",
            "A hub that runs already [default: one of its own]",
        ),
        option(
            "publisher-key",
            "KEY",
            "Signs the publishes; without it none are made",
        ),
        time(
            "retry",
            "2",
            "The hub's setting, for the simulation and a hub of its own",
        ),
        number("comeback-rate", "10000", "The hub's setting, likewise"),
        time("heartbeat", "10", "The hub's setting, likewise"),
        option(
            "hub-option",
            "WORD",
            "One more word for the command line of a hub of its own",
        )
        .action(ArgAction::Append)
        .allow_hyphen_values(true),
    ]
}

fn behaviours() -> [Behaviour; 11] {
    [
        Behaviour::CHROMIUM,
        Behaviour::FIREFOX,
        Behaviour::EVENTSOURCE,
        Behaviour::LAUNCHDARKLY,
        Behaviour::EVENT_SOURCE_PLUS,
        Behaviour::POLYFILL,
        Behaviour::GUSH_SUB,
        Behaviour::NO_BACKOFF,
        Behaviour::EXPONENTIAL,
        Behaviour::FULL_JITTER,
        Behaviour::OBEDIENT,
    ]
}

fn word(behaviour: &Behaviour) -> String {
    behaviour.name.replace(' ', "-")
}

fn names() -> Vec<String> {
    let all = behaviours();
    let all = all.iter().map(word);
    // The same parameters as `Behaviour::NO_BACKOFF`, with `retry:` obeyed.
    let mut names: Vec<String> = all.take(10).collect();
    names.extend(["obedient".to_owned(), "mix".to_owned()]);
    names
}

fn known_name(text: &str) -> Result<String, String> {
    let names = names();
    if names.iter().any(|name| name == text) {
        return Ok(text.to_owned());
    }
    Err(format!("one of {}", names.join(", ")))
}

fn shares(name: &str) -> Vec<Share> {
    if name == "mix" {
        let policies = Preset::Mix.policies(1.0, 1);
        return policies.into_iter().next().map_or(vec![], |one| one.shares);
    }
    let found = behaviours().into_iter().find(|one| word(one) == name);
    vec![Share {
        behaviour: found.unwrap_or(Behaviour::OBEDIENT),
        parts: 1,
    }]
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let directory = std::env::temp_dir().join(format!("gush-storm-{}", std::process::id()));
    let options = read(matches, &directory)?;
    let outcome = live::run(&options, &Progress::stderr());
    if options.hub.is_some() {
        // It may never have been made.
        let _ = std::fs::remove_dir_all(&directory);
    }
    let (report, tallies) = outcome.map_err(crate::bench::failure)?;
    if let Some(page) = matches.get_one::<PathBuf>("report") {
        wrote(page, std::fs::write(page, report.html()), "--report")?;
    }
    if let Some(picture) = matches.get_one::<PathBuf>("svg") {
        let chart = live::chart(&report, &tallies);
        wrote(picture, write_chart(picture, &chart), "--svg")?;
    }
    print(&if matches.get_flag("json") {
        report.json()
    } else {
        storm::table(&report, &tallies)
    })?;
    let is_strict = matches.get_flag("check");
    let failed = report.checks.iter().filter(|check| {
        let is_wish = check.name.starts_with("target: ") || check.name.starts_with("model: ");
        !check.passed && (is_strict || !is_wish)
    });
    let failed: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("failed: {}", failed.join(", "))))
}

fn read(matches: &ArgMatches, directory: &std::path::Path) -> Result<LiveOptions, Failure> {
    let number = |name: &str| matches.get_one::<f64>(name).copied().unwrap_or(1.0);
    let time = |name: &str| {
        matches
            .get_one::<Duration>(name)
            .copied()
            .unwrap_or_default()
    };
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let subscribers = matches.get_one::<u32>("subscribers").copied().unwrap_or(1);
    let rule = Comeback {
        retry: time("retry"),
        per_second: number("comeback-rate"),
        window_max: Duration::from_mins(1),
    };
    let url = text("url");
    let (hub, key) = if url.is_some() {
        (None, text("publisher-key"))
    } else {
        let program = std::env::current_exe().map_err(Failure::failed)?;
        let mut words = own_hub(subscribers, &rule, time("heartbeat"), directory);
        let window = format!("{}ms", time("drain-window").as_millis());
        words.extend(["--drain-window".to_owned(), window]);
        words.extend(
            matches
                .get_many::<String>("hub-option")
                .into_iter()
                .flatten()
                .cloned(),
        );
        (Some((program, words)), Some(OWN_KEY.to_owned()))
    };
    let drop = match text("drop").as_deref() {
        Some("close") => Drop::Close,
        Some("drain") => Drop::Drain,
        Some(_) => Drop::Kill,
        None if hub.is_some() => Drop::Kill,
        None => Drop::Close,
    };
    let dropped = matches.get_one::<u32>("dropped").copied();
    let dropped = dropped.unwrap_or(subscribers).min(subscribers);
    if drop != Drop::Close && dropped < subscribers {
        let text = "--dropped needs --drop close: a hub that ends drops everybody";
        return Err(Failure::Usage(text.to_owned()));
    }
    let connect_rate = number("connect-rate");
    Ok(LiveOptions {
        url: url.unwrap_or_default(),
        hub,
        subscribers,
        dropped,
        shares: shares(&text("clients").unwrap_or_default()),
        drop,
        drain_window: time("drain-window"),
        connect_rate,
        growth: Growth {
            streams: subscribers,
            opening: Duration::from_secs_f64(f64::from(subscribers) / connect_rate),
            held: time("hold"),
            heartbeat: time("heartbeat"),
        },
        event_rate: number("event-rate"),
        publisher_key: key,
        rule,
        margin: number("margin") / 100.0,
        end: time("end"),
        seed: matches.get_one("seed").copied().unwrap_or(1),
    })
}

/// The command line of a hub of our own.
fn own_hub(
    subscribers: u32,
    rule: &Comeback,
    heartbeat: Duration,
    directory: &std::path::Path,
) -> Vec<String> {
    let connections = (subscribers + CONNECTIONS_SPARE).to_string();
    let log = format!("disk:{}", directory.display());
    let retry = format!("{}ms", rule.retry.as_millis().max(1));
    let heartbeat = format!("{}ms", heartbeat.as_millis());
    let rate = format!("{:.0}", rule.per_second.max(1.0));
    let words = [
        "serve",
        "--listen",
        "127.0.0.1:{port}",
        "--admin-listen",
        "127.0.0.1:0",
        "--anonymous",
        "--publisher-key",
        OWN_KEY,
        "--heartbeat",
        &heartbeat,
        "--log",
        &log,
        "--max-connections",
        &connections,
        "--retry",
        &retry,
        "--comeback-rate",
        &rate,
    ];
    words.map(str::to_owned).to_vec()
}
