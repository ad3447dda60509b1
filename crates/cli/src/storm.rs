//! `gush storm`: what happens when everybody comes back at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use gush_bench::report::write_chart;
use gush_bench::storm::{self, Preset, Scenario, Tally};

use crate::bench::{unwritable, verdict};
use crate::failure::{Failure, note, print};

// The same with real sockets.
mod live;

const EXAMPLES: &str = "\
Examples:
  gush storm simulate                              the rows of the article, and server pacing
  gush storm simulate --preset mix --subscribers 50000    the libraries that people use
  gush storm simulate --preset drop --rate 2000 --report drop.html

docs/concepts/storms.md says what each preset assumes.";

/// Longest time of a scenario that can be asked for: a day.
const SECONDS_MAX: f64 = 86_400.0;

pub(crate) fn command() -> Command {
    Command::new("storm")
        .about("Play a reconnect storm through before it comes")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(simulate_command())
        .subcommand(live::command())
}

fn simulate_command() -> Command {
    Command::new("simulate")
        .about("Simulate a storm under several policies, side by side")
        .long_about(
            "Simulate a storm under several policies, side by side.\n\n\
             Takes no network and no hub: subscribers that were dropped try again as they are \
             known to, against the limits of the hub, in simulated time. The same seed gives the \
             same storm. Prints a table (or JSON), a page with a chart with --report, the chart \
             alone with --svg. Exit code 1 when a preset does not show what it has to.",
        )
        .after_help(EXAMPLES)
        .args(scenario())
        .args(output())
}

fn scenario() -> Vec<Arg> {
    let presets = Preset::ALL.map(Preset::name);
    let number = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let arguments = vec![
        number(
            "preset",
            "NAME",
            "What happens, and which policies are compared",
        )
        .value_parser(presets)
        .default_value(Preset::Article.name()),
        number(
            "subscribers",
            "N",
            "Streams that are dropped [default: the preset's]",
        )
        .value_parser(value_parser!(u32).range(1..=i64::from(Scenario::SUBSCRIBERS_MAX))),
        number(
            "away",
            "S",
            "Nobody answers for so long [default: the preset's]",
        )
        .value_parser(seconds),
        number(
            "notice",
            "S",
            "All notice the loss within this [default: the preset's]",
        )
        .value_parser(seconds),
        number(
            "service",
            "S",
            "An attempt keeps the server busy [default: the preset's]",
        )
        .value_parser(seconds),
        number(
            "rate",
            "R",
            "Attempts per second that are admitted [default: the preset's]",
        )
        .value_parser(rate),
        number("seed", "N", "Of everything random")
            .value_parser(value_parser!(u64))
            .default_value("1"),
    ];
    headed("Scenario", arguments)
}

fn output() -> Vec<Arg> {
    let file = |name: &'static str, help: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("FILE")
            .help(help)
            .value_parser(value_parser!(PathBuf))
    };
    let arguments = vec![
        Arg::new("json")
            .long("json")
            .action(ArgAction::SetTrue)
            .help("Print one JSON object instead of the table"),
        file(
            "report",
            "Write a page with a chart; it needs no other file",
        ),
        file("svg", "Write the chart: attempts at once over time"),
    ];
    headed("Output", arguments)
}

fn headed(heading: &'static str, arguments: Vec<Arg>) -> Vec<Arg> {
    let arguments = arguments.into_iter();
    arguments
        .map(|argument| argument.help_heading(heading))
        .collect()
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("simulate", matches)) => simulate(matches),
        Some(("run", matches)) => live::run(matches),
        _ => unreachable!("clap requires one of the subcommands above"),
    }
}

fn simulate(matches: &ArgMatches) -> Result<(), Failure> {
    let preset = preset(matches);
    let scenario = asked(preset, matches);
    let given = matches.get_one::<f64>("rate").copied();
    let per_second = given.unwrap_or_else(|| preset.per_second());
    let policies = preset.policies(per_second, scenario.subscribers);
    let tallies = policies
        .iter()
        .map(|policy| storm::simulate(&scenario, policy));
    let tallies: Vec<Tally> = tallies.collect();
    let report = storm::report(preset, &scenario, per_second, &tallies);
    if let Some(page) = matches.get_one::<PathBuf>("report") {
        wrote(page, std::fs::write(page, report.html()), "--report")?;
    }
    if let Some(picture) = matches.get_one::<PathBuf>("svg") {
        wrote(
            picture,
            write_chart(picture, &storm::chart(&tallies)),
            "--svg",
        )?;
    }
    print(&if matches.get_flag("json") {
        report.json()
    } else {
        storm::table(&report, &tallies)
    })?;
    verdict(&report)
}

fn wrote(path: &Path, result: std::io::Result<()>, flag: &str) -> Result<(), Failure> {
    result.map_err(|error| unwritable(flag, path, &error))?;
    note(&format!("wrote {}", path.display()));
    Ok(())
}

fn preset(matches: &ArgMatches) -> Preset {
    let name = matches.get_one::<String>("preset").map(String::as_str);
    let found = Preset::ALL
        .into_iter()
        .find(|preset| Some(preset.name()) == name);
    found.expect("clap knows no other names than these, and a default")
}

/// The preset's scenario with what was asked for in place of its own.
fn asked(preset: Preset, matches: &ArgMatches) -> Scenario {
    let stated = preset.scenario();
    let time = |name: &str| matches.get_one::<Duration>(name).copied();
    let count = |name: &str| matches.get_one::<u32>(name).copied();
    Scenario {
        subscribers: count("subscribers").unwrap_or(stated.subscribers),
        away: time("away").unwrap_or(stated.away),
        notice: time("notice").unwrap_or(stated.notice),
        service: time("service").unwrap_or(stated.service),
        seed: matches.get_one("seed").copied().unwrap_or(stated.seed),
        ..stated
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value = text.parse().ok();
    let value = value.filter(|value: &f64| (0.0..=SECONDS_MAX).contains(value));
    value
        .map(Duration::from_secs_f64)
        .ok_or_else(|| format!("a number of seconds from 0 to {SECONDS_MAX} is needed"))
}

fn rate(text: &str) -> Result<f64, String> {
    let value = text.parse().ok();
    let value = value.filter(|value: &f64| (0.001..=1e9).contains(value));
    value.ok_or_else(|| "a number from 0.001 to 1000000000 is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked_by(line: &str) -> (Preset, Scenario) {
        let words = line.split_whitespace();
        let matches = simulate_command()
            .no_binary_name(true)
            .try_get_matches_from(words)
            .unwrap();
        let preset = preset(&matches);
        (preset, asked(preset, &matches))
    }

    #[test]
    fn nothing_asked_is_the_article_as_stated() {
        let (preset, scenario) = asked_by("");
        assert_eq!(preset, Preset::Article);
        assert_eq!(scenario, Preset::Article.scenario());
    }

    #[test]
    fn what_is_asked_takes_the_place_of_the_presets() {
        let line = "--preset drop --subscribers 7 --away 1.5 --notice 0 --service 0.25 --seed 9";
        let (preset, scenario) = asked_by(line);
        assert_eq!(preset, Preset::Drop);
        assert_eq!((scenario.subscribers, scenario.seed), (7, 9));
        assert_eq!(scenario.away, Duration::from_millis(1500));
        assert_eq!(scenario.notice, Duration::ZERO);
        assert_eq!(scenario.service, Duration::from_millis(250));
        assert_eq!(scenario.end, preset.scenario().end);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, is_good) in [("0", true), ("1e3", true), ("-1", false), ("NaN", false)] {
            assert_eq!(seconds(text).is_ok(), is_good, "{text}");
        }
        for (text, is_good) in [("0.5", true), ("0", false), ("inf", false), ("x", false)] {
            assert_eq!(rate(text).is_ok(), is_good, "{text}");
        }
    }
}
