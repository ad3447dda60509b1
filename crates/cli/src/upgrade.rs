//! `gush upgrade`: has a running hub replaced by the binary that is at its path now.

use std::process::Command as Process;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::json;

use crate::admin;
use crate::failure::{Failure, print};

const EXAMPLES: &str = "\
Examples:
  install -m 755 gush-new /usr/local/bin/gush && gush upgrade
  gush upgrade --admin 127.0.0.1:3001
  gush upgrade --pid $(cat /run/gush.pid)

docs/operate/upgrade.md says what goes over and what happens if it fails.";

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn command() -> Command {
    Command::new("upgrade")
        .about("Put a new binary in the place of a running hub, without losing a stream")
        .long_about(
            "Put a new binary in the place of a running hub, without losing a stream.\n\n\
             The hub starts the program at its own path again, with its own arguments, and hands \
             listeners, log, connections and live streams over. If the new process does not come \
             to serve, the old one goes on. Exit codes: 0 the new process serves, 1 the old one \
             goes on, 2 wrong usage.",
        )
        .after_help(EXAMPLES)
        .arg(admin::argument())
        .arg(
            Arg::new("pid")
                .long("pid")
                .value_name("PID")
                .value_parser(value_parser!(u32).range(1..))
                .conflicts_with("admin")
                .help("Signal this process (SIGUSR2) instead, and wait until it has ended")
                .help_heading("Hub"),
        )
        .arg(
            Arg::new("wait")
                .long("wait")
                .value_name("SECONDS")
                .value_parser(value_parser!(u64).range(1..=3600))
                .default_value("120")
                .help("How long to wait for the outcome")
                .help_heading("Hub"),
        )
        .arg(admin::json_argument())
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let seconds = matches.get_one::<u64>("wait").copied().unwrap_or_default();
    let patience = Duration::from_secs(seconds);
    let is_json = matches.get_flag("json");
    if let Some(pid) = matches.get_one::<u32>("pid") {
        return by_signal(*pid, patience, is_json);
    }
    let told = admin::order(matches, "/upgrade", &json!({}), patience)?;
    if told.is_done && is_json {
        return print(&told.document.to_string());
    }
    if told.is_done {
        return print(&format!(
            "process {} serves now; the old one ends when its last request is answered",
            told.document["pid"]
        ));
    }
    let reason = told.document["reason"].as_str().unwrap_or(&told.text);
    if is_json {
        print(&json!({ "reason": reason }).to_string())?;
    }
    Err(Failure::failed(format!(
        "the old process goes on: {reason}"
    )))
}

/// A process that was signalled says nothing: it has handed over when it is gone.
fn by_signal(pid: u32, patience: Duration, is_json: bool) -> Result<(), Failure> {
    // By the program, because sending a signal from here would need unsafe code.
    let signalled = Process::new("kill")
        .args(["-USR2", &pid.to_string()])
        .status()
        .map_err(|error| Failure::failed(format!("kill cannot be run: {error}")))?;
    if !signalled.success() {
        return Err(Failure::failed(format!(
            "--pid {pid}: the process could not be signalled"
        )));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    let ended = runtime.block_on(tokio::time::timeout(patience, async {
        while is_alive(pid) {
            tokio::time::sleep(LOOK).await;
        }
    }));
    if ended.is_err() {
        return Err(Failure::failed(format!(
            "process {pid} has not ended after {} s: its log says why, or it still serves what \
             was under way",
            patience.as_secs()
        )));
    }
    if is_json {
        return print(&json!({ "ended": pid }).to_string());
    }
    print(&format!("process {pid} has handed over and ended"))
}

/// Whether there is such a process that has not ended yet: one that waits for its parent has.
fn is_alive(pid: u32) -> bool {
    let Ok(state) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    let after_name = state.rsplit_once(") ").map_or("", |(_, rest)| rest);
    !after_name.starts_with(['Z', 'X'])
}
