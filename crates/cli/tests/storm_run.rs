//! `gush storm run` against a hub that it starts, ends and starts again.

use gush_testkit::{Failure, Outcome};
use serde_json::Value;
use std::process::Command;

/// What a run printed.
struct Report {
    document: Value,
    text: String,
}

fn storm(words: &[&str]) -> Outcome<Report> {
    let run = Command::new(env!("CARGO_BIN_EXE_gush"))
        .args(["storm", "run", "--json"])
        .args(words)
        .output()?;
    let mut text = String::from_utf8_lossy(&run.stdout).into_owned();
    let document = serde_json::from_str(&text).map_err(|e| Failure::new(format!("{e}: {text}")))?;
    text.push_str(&String::from_utf8_lossy(&run.stderr));
    Ok(Report { document, text })
}

impl Report {
    /// Demands that a check is there and passed.
    fn holds(&self, name: &str) -> Outcome<()> {
        let checks = self.document["checks"].as_array().into_iter().flatten();
        let mut named = checks.filter(|check| check["name"] == name);
        if named.next().is_some_and(|check| check["passed"] == true) {
            return Ok(());
        }
        Err(Failure::new(format!("{name}: {}", self.text)))
    }

    fn figure(&self, name: &str) -> f64 {
        self.document["results"][name].as_f64().unwrap_or_default()
    }
}

#[test]
fn all_come_back_to_a_killed_hub_with_nothing_lost() -> Outcome<()> {
    let report = storm(&["--subscribers", "200", "--hold", "1", "--event-rate", "20"])?;
    for name in [
        "events lost",
        "events doubled",
        "every stream was dropped once",
        "counts that do not add up",
        "target: not back",
    ] {
        report.holds(name)?;
    }
    Ok(())
}

/// The promises of a drain, counted by two thousand clients: each stream is closed with a retry of
/// its own, nobody gets one from the hub that drains, and what was accepted meanwhile is there.
#[test]
fn a_drained_hub_keeps_what_it_accepted_and_takes_nobody_in() -> Outcome<()> {
    let report = storm(&[
        "--drop",
        "drain",
        "--subscribers",
        "2000",
        "--drain-window",
        "3",
        "--hold",
        "1",
        "--event-rate",
        "10",
    ])?;
    for name in [
        "every stream was closed once by the drain",
        "streams that ended without a retry of their own",
        "streams that the hub took while it drained",
        "clients that it refused with a status",
        "publishes accepted while it drains",
        "accepted publishes not in the log",
        "exit code 0",
        "target: not back",
        "events lost",
        "events doubled",
        "counts that do not add up",
    ] {
        report.holds(name)?;
    }
    // Drawn from two seconds' worth of milliseconds: chance leaves out some.
    let different = report.figure("retry_different_count");
    if different < 800.0 {
        return Failure::mismatch("retries", "each its own", different);
    }
    Ok(())
}

#[test]
fn only_those_who_are_to_be_dropped_are() -> Outcome<()> {
    let few = ["--drop", "close", "--dropped", "20"];
    let report = storm(&[&["--subscribers", "300", "--hold", "1"], &few[..]].concat())?;
    for name in [
        "events lost",
        "events doubled",
        "every stream was dropped once",
        "target: not back",
        "target: failed attempts",
    ] {
        report.holds(name)?;
    }
    let back = report.figure("real_sockets_back_count");
    if (back - 20.0).abs() > 0.5 {
        return Failure::mismatch("back", 20, back);
    }
    Ok(())
}
