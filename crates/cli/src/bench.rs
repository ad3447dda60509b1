//! `gush bench`: puts load on this hub or on any other SSE server, and checks every event.

mod arguments;
mod durability;
mod modes;
mod options;

use std::io;
use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command};
use gush_bench::options::{BenchOptions, Reference};
use gush_bench::{BenchError, Progress, Report};

use crate::failure::{Failure, note, print};
use modes::{MODES, Mode};

const EXAMPLES: &str = "\
Examples:
  gush serve --dev                                   a hub to measure, in another terminal
  gush bench fanout --subscribers 10000 --events 200 --publisher-key file:data/dev.key
  gush bench idle --subscribers 100000 --seconds 60  memory per stream
  gush bench publish --publishers 64 --publisher-key \"$KEY\" --report publish.html
  gush bench floor --pin-server 0 --pin-generator 1  what this machine can do at most
  gush bench fanout --subscribe 'http://localhost:8080/sub/{topic}' \\
    --publish 'http://localhost:8080/pub/{topic}' --publish-body raw    another server

docs/operate/measure.md says how to get figures that can be trusted.";

pub(crate) fn command() -> Command {
    Command::new("bench")
        .about("Measure a hub, or any SSE server, under load")
        .long_about(
            "Measure a hub, or any SSE server, under load.\n\n\
             Opens streams, publishes numbered and timed events, and checks that each arrives once \
             and in order. Prints a table (or JSON), and a page with charts with --report. Exit \
             code 1 when something was lost, doubled, reordered or refused.",
        )
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(MODES.iter().map(Mode::command))
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let Some((name, matches)) = matches.subcommand() else {
        unreachable!("clap requires a mode");
    };
    let mode = MODES.iter().find(|mode| mode.name == name);
    let mode = mode.expect("clap knows no other modes than these");
    let options = options::read(mode, matches)?;
    if let Some(reference) = options.serve {
        return serve(&options, reference);
    }
    let page = matches.get_one::<PathBuf>("report");
    if let Some(page) = page {
        // Before the run, not after an hour of it.
        std::fs::write(page, "").map_err(|error| unwritable("--report", page, &error))?;
    }
    let progress = Progress::stderr();
    let by_durability = matches.try_get_one::<bool>("durability").ok().flatten();
    let run = match by_durability {
        Some(true) => durability::run,
        _ => mode.run,
    };
    let mut report = run(&options, &progress).map_err(failure)?;
    progress.end();
    if let Some(label) = &options.label {
        report.parameter("label", label.as_str());
    }
    if let Some(page) = page {
        std::fs::write(page, report.html())
            .map_err(|error| unwritable("--report", page, &error))?;
        note(&format!("wrote {}", page.display()));
    }
    let is_json = matches.get_flag("json");
    print(&if is_json {
        report.json()
    } else {
        report.table()
    })?;
    verdict(&report)
}

fn serve(options: &BenchOptions, reference: Reference) -> Result<(), Failure> {
    gush_bench::floor::serve(options, reference).map_err(failure)
}

/// The end of a command whose report has checks: 1 when one of them failed.
pub(crate) fn verdict(report: &Report) -> Result<(), Failure> {
    let failed = report.checks.iter().filter(|check| !check.passed);
    let failed: Vec<&str> = failed.map(|check| check.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(());
    }
    Err(Failure::Failed(format!("failed: {}", failed.join(", "))))
}

pub(crate) fn failure(error: BenchError) -> Failure {
    match error {
        BenchError::Usage(text) => Failure::Usage(text),
        other => Failure::failed(other),
    }
}

pub(crate) fn unwritable(flag: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!("{flag} {}: {error}", path.display()))
}
