//! Mode `hostile`: whatever the hub does wrong beside hostile peers fails the run. That the two
//! latencies are near each other is not asserted, since it depends on the machine; that ones that
//! are far apart fail is.

use std::time::Duration;

use gush_bench::options::MemoryBudget;
use gush_bench::{BenchError, BenchOptions, Progress, Report, modes};

use crate::mock::{Faults, Mock};
use crate::{PATIENCE, has};

/// The check whose outcome the machine decides.
const BAR: &str = "p99 at most 2 times the quiet one";

fn options() -> BenchOptions {
    BenchOptions {
        // One hostile one of each kind.
        subscribers: 100,
        rounds: 1,
        events: Some(20),
        window: Some(4),
        size: 64,
        publisher_token: Some("right".into()),
        patience: PATIENCE,
        duration: Some(Duration::from_millis(50)),
        ..BenchOptions::default()
    }
}

fn faults() -> Faults {
    Faults {
        token: Some("right"),
        ..Faults::default()
    }
}

fn run(faults: Faults, options: BenchOptions) -> Result<Report, BenchError> {
    let mock = Mock::start(faults).expect("the loopback has a free port");
    let options = BenchOptions {
        url: mock.url(),
        admin: Some(mock.address()),
        ..options
    };
    modes::hostile::run(&options, &Progress::silent())
}

/// Asserts which checks failed, in order, but for the one that the machine decides.
#[track_caller]
fn fails(report: &Report, expected: &[&str]) {
    assert!(report.checks.iter().any(|check| check.name == BAR));
    let failed = report.checks.iter().filter(|check| !check.passed);
    let failed = failed.map(|check| check.name.as_str());
    let failed: Vec<&str> = failed.filter(|name| *name != BAR).collect();
    assert_eq!(failed, expected, "{}", report.table());
}

#[test]
fn good_streams_beside_hostile_ones_of_a_correct_hub_pass() {
    let report = run(faults(), options()).expect("the mock answers");
    fails(&report, &[]);
    let counts = [
        ("good_count", 90),
        ("hostile_count", 10),
        ("delivered_quiet_count", 90 * 20),
        ("delivered_hostile_count", 90 * 20),
        ("lost_count", 0),
        ("streams_open_after_count", 0),
        ("forged_publishes_accepted_count", 0),
        ("forged_subscribes_accepted_count", 0),
    ];
    has(&report, &counts);
    let opened = report.value("streams_opened_count");
    assert_eq!(opened, report.value("closed_peer_left_count"));
    assert!(opened >= Some(90.0 + 3.0), "{}", report.table());
}

#[test]
fn what_good_streams_lose_beside_hostile_ones_is_counted() {
    let faults = Faults {
        // The first 20 events are those of the quiet part.
        lost: [3, 21, 40].into(),
        doubled: [30].into(),
        reordered: [35].into(),
        ..faults()
    };
    let report = run(faults, options()).expect("the mock answers");
    let counts = [
        ("lost_count", 3),
        ("doubled_count", 1),
        ("reordered_count", 1),
        ("delivered_quiet_count", 90 * 20 - 1),
        ("delivered_hostile_count", 90 * 20 - 2),
    ];
    has(&report, &counts);
    let expected = [
        "nothing lost",
        "nothing doubled",
        "nothing reordered",
        "deliveries add up",
    ];
    fails(&report, &expected);
}

#[test]
fn a_stream_closed_without_a_reason_fails() {
    let faults = Faults {
        unexplained: 2,
        ..faults()
    };
    let report = run(faults, options()).expect("the mock answers");
    fails(&report, &["every closed stream has a reason"]);
}

#[test]
fn a_hub_that_takes_publishes_with_a_bad_token_fails() {
    let faults = Faults {
        token: None,
        ..faults()
    };
    let report = run(faults, options()).expect("the mock answers");
    fails(&report, &["no publish with a bad token accepted"]);
    assert!(report.value("forged_publishes_accepted_count") > Some(0.0));
}

#[test]
fn latency_far_above_the_quiet_one_fails() {
    let faults = Faults {
        // Only the last of all, and by more than a busy machine holds the quiet part up: it is the
        // 99th percentile of the few that there are.
        delay: Duration::from_secs(2),
        delays_from: 40,
        ..faults()
    };
    let options = BenchOptions {
        window: Some(1),
        ..options()
    };
    let report = run(faults, options).expect("the mock answers");
    let bar = report.checks.iter().find(|check| check.name == BAR);
    assert!(bar.is_some_and(|bar| !bar.passed), "{}", report.table());
    fails(&report, &[]);
}

#[test]
fn memory_that_is_lost_at_every_attack_fails() {
    let faults = Faults {
        leaked_bytes: 4 << 20,
        ..faults()
    };
    let options = BenchOptions {
        rounds: 2,
        ..options()
    };
    let report = run(faults, options).expect("the mock answers");
    let expected = [
        "memory back after every attack",
        "memory back near the start",
    ];
    fails(&report, &expected);
}

#[test]
fn descriptors_that_are_not_given_back_fail() {
    let faults = Faults {
        keeps_sockets: true,
        ..faults()
    };
    let report = run(faults, options()).expect("the mock answers");
    fails(&report, &["descriptors back near the start"]);
}

#[test]
fn a_stream_that_is_left_open_fails() {
    let faults = Faults {
        left_open: 1,
        ..faults()
    };
    let report = run(faults, options()).expect("the mock answers");
    fails(&report, &["no stream left open"]);
}

#[test]
fn memory_above_the_budget_fails() {
    let options = BenchOptions {
        budget: Some(MemoryBudget {
            user_bytes: 1,
            kernel_bytes: u64::MAX / 4,
            unread_bytes: 0,
        }),
        ..options()
    };
    let report = run(faults(), options).expect("the mock answers");
    fails(&report, &["memory inside the budget"]);
}

#[test]
fn a_run_without_a_hostile_one_is_refused() {
    let options = BenchOptions {
        subscribers: 9,
        ..options()
    };
    let error = run(faults(), options).expect_err("nobody is hostile");
    assert!(error.to_string().contains("at least 10"), "{error}");
}

#[test]
fn an_admin_listener_without_metrics_is_told() {
    let mock = Mock::start(faults()).expect("the loopback has a free port");
    let options = BenchOptions {
        url: mock.url(),
        // Nothing listens on the port of TCP's port service multiplexer.
        admin: Some(([127, 0, 0, 1], 1).into()),
        ..options()
    };
    let error = modes::hostile::run(&options, &Progress::silent()).expect_err("nobody answers");
    assert!(error.to_string().contains("/metrics"), "{error}");
}
