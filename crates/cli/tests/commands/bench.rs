//! `gush bench` and `gush check --capacity` as a person uses them.

// The hub that does wrong what it is told to, as the tests of the modes use it.
#[path = "../../../bench/tests/modes/mock.rs"]
#[allow(dead_code, reason = "some faults only matter there")]
mod mock;

use gush_testkit::{Failure, HubBuilder, Outcome};
use serde_json::Value;

use crate::support::{Finished, finish, gush, holds};
use mock::{Faults, Mock};

fn run(arguments: &[&str]) -> Outcome<Finished> {
    finish(gush(arguments), "")
}

fn expect(finished: &Finished, code: i32) -> Outcome<()> {
    if finished.code == Some(code) {
        return Ok(());
    }
    let text = format!("expected exit code {code}: {finished:?}");
    Err(Failure::new(text))
}

fn json(finished: &Finished) -> Outcome<Value> {
    serde_json::from_str(&finished.stdout).map_err(|error| Failure::new(error.to_string()))
}

#[test]
fn a_hub_is_measured_and_passes() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .anonymous()
        .start()?;
    let url = format!("http://{}/.well-known/mercure", hub.address());
    let token = hub.publisher_token()?;
    let at = ["--url", &url, "--publisher-token", &token];
    let modes: [(&str, &[&str], &str, f64); 4] = [
        (
            "fanout",
            &["--subscribers", "20", "--events", "30"],
            "delivered_count",
            600.0,
        ),
        (
            "publish",
            &["--publishers", "4", "--events", "100"],
            "delivered_count",
            100.0,
        ),
        (
            "replay",
            &["--events", "50", "--resume-at", "20"],
            "delivered_count",
            120.0,
        ),
        (
            "topics",
            &[
                "--subscribers",
                "20",
                "--topics",
                "10",
                "--events",
                "30",
                "--templates",
            ],
            "delivered_count",
            60.0,
        ),
    ];
    for (mode, arguments, name, expected) in modes {
        let all = [&["bench", mode, "--json"], &at[..], arguments].concat();
        let finished = run(&all)?;
        expect(&finished, 0)?;
        let report = json(&finished)?;
        assert_eq!(report["mode"], mode);
        assert_eq!(report["results"][name].as_f64(), Some(expected), "{report}");
        assert_eq!(report["results"]["lost_count"], 0, "{report}");
        let pid = report["results"]["server_cpu_us_per_delivery"].is_number()
            || report["results"]["server_cpu_us_per_request"].is_number()
            || mode == "replay";
        assert!(pid, "the server's process is found: {report}");
    }
    Ok(())
}

#[test]
fn modes_without_publishing_need_no_key() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .anonymous()
        .start()?;
    let url = format!("http://{}/.well-known/mercure", hub.address());
    let connect = ["bench", "connect", "--url", &url, "--subscribers", "10"];
    let finished = run(&connect)?;
    expect(&finished, 0)?;
    holds(
        &finished.stdout,
        &["every stream opened: 10 of 10", "first byte p50"],
    )
}

#[test]
fn a_fault_of_the_server_is_told_and_is_exit_code_1() -> Outcome<()> {
    let faults = Faults {
        doubled: [3].into(),
        ..Faults::default()
    };
    let mock = Mock::start(faults).map_err(|error| Failure::new(error.to_string()))?;
    let folder = tempfile::tempdir().map_err(|error| Failure::new(error.to_string()))?;
    let page = folder.path().join("report.html");
    let shown = page.to_string_lossy();
    let arguments = ["--events", "10", "--report", &shown, "--label", "memory"];
    let url = mock.url();
    let finished = run(&[&["bench", "publish", "--url", &url], &arguments[..]].concat())?;
    expect(&finished, 1)?;
    holds(
        &finished.stdout,
        &["FAILED  nothing is delivered twice: 1", "label memory"],
    )?;
    holds(
        &finished.stderr,
        &["failed: nothing is delivered twice", "wrote "],
    )?;
    let page = std::fs::read_to_string(page).map_err(|error| Failure::new(error.to_string()))?;
    holds(
        &page,
        &["<!doctype html>", "<svg", "nothing is delivered twice"],
    )
}

#[test]
fn a_server_that_is_not_there_is_exit_code_1() -> Outcome<()> {
    // Nothing listens on the port of TCP's port service multiplexer.
    for mode in ["fanout", "publish", "replay", "idle", "connect"] {
        let finished = run(&[
            "bench",
            mode,
            "--url",
            "http://127.0.0.1:1/",
            "--patience",
            "1",
        ])?;
        expect(&finished, 1)?;
        assert_eq!(finished.stdout, "", "{mode}");
    }
    Ok(())
}

#[test]
fn wrong_usage_is_exit_code_2() -> Outcome<()> {
    let wrong: [&[&str]; 9] = [
        &["bench"],
        &["bench", "everything"],
        &["bench", "fanout", "--window", "0"],
        &["bench", "fanout", "--rate", "0"],
        &["bench", "fanout", "--batch", "10"],
        &["bench", "publish", "--publish-body", "xml"],
        &["bench", "publish", "--url", "https://127.0.0.1:1/"],
        &["bench", "slow", "--share", "101"],
        &["bench", "topics", "--topics", "10", "--subscribers", "5"],
    ];
    for arguments in wrong {
        expect(&run(arguments)?, 2)?;
    }
    Ok(())
}

#[test]
fn every_mode_explains_itself() -> Outcome<()> {
    let help = run(&["bench", "--help"])?;
    for mode in [
        "idle", "fanout", "topics", "publish", "replay", "connect", "slow", "hostile", "floor",
    ] {
        holds(&help.stdout, &[mode])?;
        let finished = run(&["bench", mode, "--help"])?;
        expect(&finished, 0)?;
        let example = format!("gush bench {mode} ");
        holds(
            &finished.stdout,
            &["Examples:", &example, "--subscribers", "--json"],
        )?;
    }
    Ok(())
}

#[test]
fn capacity_is_computed_and_compared_with_the_host() -> Outcome<()> {
    let finished = run(&["check", "--capacity", "1", "--json"])?;
    expect(&finished, 0)?;
    let report = json(&finished)?;
    assert_eq!(report["fits"], true, "{report}");
    assert_eq!(report["streams"], 1);
    // More than any test machine has memory for: 64 GiB of the kernel's.
    let finished = run(&["check", "--capacity", "16000000"])?;
    expect(&finished, 1)?;
    holds(
        &finished.stdout,
        &[
            "16,000,000 streams need",
            "too low",
            "--max-connections 16001000",
        ],
    )?;
    holds(
        &finished.stderr,
        &["16,000,000 streams do not fit on this host"],
    )
}

/// How the two latencies compare is not asserted: it depends on the machine.
#[test]
fn good_streams_of_a_hub_get_everything_beside_a_hostile_tenth() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .anonymous()
        .start()?;
    let url = format!("http://{}/.well-known/mercure", hub.address());
    let (token, admin) = (hub.publisher_token()?, hub.admin()?.to_string());
    let of_hub = [
        "--url",
        &url,
        "--publisher-token",
        &token,
        "--admin",
        &admin,
    ];
    let load = [
        "--subscribers",
        "300",
        "--rounds",
        "1",
        "--events",
        "30",
        "--rate",
        "20",
        "--json",
    ];
    let finished = run(&[&["bench", "hostile"], &of_hub[..], &load[..]].concat())?;
    let report = json(&finished)?;
    let counts = [
        ("good_count", 270),
        ("hostile_count", 30),
        ("delivered_quiet_count", 270 * 30),
        ("delivered_hostile_count", 270 * 30),
        ("lost_count", 0),
        ("doubled_count", 0),
        ("reordered_count", 0),
        ("dropped_count", 0),
        ("forged_publishes_accepted_count", 0),
        ("forged_subscribes_accepted_count", 0),
        ("streams_open_after_count", 0),
    ];
    for (name, expected) in counts {
        assert_eq!(report["results"][name], expected, "{name} in {report}");
    }
    let checks = report["checks"].as_array().into_iter().flatten();
    let failed = checks.filter(|check| check["passed"] != true);
    let failed: Vec<&Value> = failed
        .filter(|check| check["name"] != "p99 at most 2 times the quiet one")
        .collect();
    assert!(failed.is_empty(), "{failed:?} in {report}");
    let refused = report["results"]["forged_refused_count"].as_f64();
    assert!(refused > Some(0.0), "{report}");
    Ok(())
}

#[test]
fn numbers_that_no_machine_can_serve_are_wrong_usage() -> Outcome<()> {
    let url = ["--url", "http://127.0.0.1:1/"];
    for arguments in [
        ["fanout", "--subscribers", "18446744073709551615"],
        ["idle", "--subscribers", "100000000000"],
        ["fanout", "--subscribers", "0"],
        ["idle", "--subscribers", "0"],
        ["connect", "--subscribers", "0"],
        ["slow", "--subscribers", "0"],
        ["topics", "--subscribers", "0"],
        ["replay", "--subscribers", "0"],
        ["hostile", "--subscribers", "0"],
        ["floor", "--subscribers", "0"],
        ["connect", "--idle", "100000000000"],
        ["replay", "--live", "100000000000"],
        ["fanout", "--rate", "1e-300"],
        ["connect", "--connect-rate", "1e300"],
        ["fanout", "--seconds", "1e300"],
    ] {
        let finished = run(&[&["bench"], &arguments[..], &url].concat())?;
        expect(&finished, 2).map_err(|error| Failure::new(format!("{arguments:?}: {error}")))?;
    }
    Ok(())
}

#[test]
fn every_mode_raises_its_limit_of_descriptors() -> Outcome<()> {
    let mock = Mock::start(Faults::default()).map_err(|error| Failure::new(error.to_string()))?;
    for mode in ["publish", "replay", "fanout"] {
        let program = env!("CARGO_BIN_EXE_gush");
        let mut command = std::process::Command::new("sh");
        let line = "ulimit -Sn 64 && exec \"$0\" \"$@\"";
        command.args(["-c", line, program, "bench", mode, "--url", &mock.url()]);
        command.args(["--subscribers", "100", "--events", "3"]);
        command.stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped());
        command.stderr(std::process::Stdio::piped());
        expect(&finish(command, "")?, 0)?;
    }
    Ok(())
}

#[test]
fn publishes_are_measured_by_durability() -> Outcome<()> {
    let load = [
        "--durability",
        "--publishers",
        "4",
        "--events",
        "40",
        "--json",
    ];
    let finished = run(&[&["bench", "publish"], &load[..]].concat())?;
    expect(&finished, 0)?;
    let report = json(&finished)?;
    for way in [
        "memory",
        "sync_off",
        "sync_interval",
        "sync_batch",
        "sync_each",
    ] {
        for figure in ["requests_per_second", "latency_p50_us", "latency_max_us"] {
            let value = &report["results"][format!("{way}_{figure}")];
            assert!(value.is_number(), "{way} {figure} in {report}");
        }
    }
    let taken = [
        "bench",
        "publish",
        "--durability",
        "--url",
        "http://127.0.0.1:1/",
    ];
    expect(&run(&taken)?, 2)
}
