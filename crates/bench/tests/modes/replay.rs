//! Mode `replay`.

use std::time::Duration;

use gush_bench::BenchOptions;
use gush_bench::modes::replay;

use crate::mock::Faults;
use crate::{PATIENCE, fails, has, run};

fn options() -> BenchOptions {
    BenchOptions {
        subscribers: 2,
        rounds: 1,
        events: Some(100),
        resume_at: 40.0,
        size: 64,
        patience: PATIENCE,
        ..BenchOptions::default()
    }
}

#[test]
fn a_correct_hub_passes_and_replays_what_is_after_the_place() {
    for batch in [0, 30] {
        let report = run(
            replay::run,
            Faults::default(),
            BenchOptions { batch, ..options() },
        );
        fails(&report, &[]);
        let counts = [
            ("expected_count", 120),
            ("delivered_count", 120),
            ("lost_count", 0),
        ];
        has(&report, &counts);
    }
}

#[test]
fn rounds_are_added_up() {
    let options = BenchOptions {
        rounds: 3,
        ..options()
    };
    let faults = Faults {
        lost: [50].into(),
        ..Faults::default()
    };
    let report = run(replay::run, faults, options);
    let counts = [
        ("expected_count", 360),
        ("delivered_count", 359),
        ("lost_count", 1),
    ];
    has(&report, &counts);
    fails(&report, &["every event after the place is replayed"]);
}

#[test]
fn one_stream_is_compared_with_a_copied_file() {
    let options = BenchOptions {
        subscribers: 1,
        resume_at: 0.0,
        ..options()
    };
    let report = run(replay::run, Faults::default(), options);
    fails(&report, &[]);
    has(&report, &[("delivered_count", 100)]);
    for name in [
        "replay_to_copy_ratio",
        "replay_to_sendfile_ratio",
        "copy_bytes_per_second",
    ] {
        let value = report.value(name).unwrap_or_default();
        assert!(value > 0.0, "{name} {value}");
    }
}

#[test]
fn lost_doubled_and_reordered_events_are_counted_exactly() {
    let faults = Faults {
        lost: [10, 50, 99].into(),
        doubled: [60].into(),
        reordered: [70, 80].into(),
        ..Faults::default()
    };
    let report = run(replay::run, faults, options());
    let counts = [
        // Number 10 is before the place.
        ("lost_count", 2),
        ("doubled_count", 1),
        ("reordered_count", 2),
        ("delivered_count", 118),
    ];
    has(&report, &counts);
    let expected = [
        "every event after the place is replayed",
        "nothing is replayed twice",
        "events come in the log's order",
    ];
    fails(&report, &expected);
}

#[test]
fn a_replay_that_begins_too_early_is_found() {
    let faults = Faults {
        replayed_early: 2,
        ..Faults::default()
    };
    let report = run(replay::run, faults, options());
    has(&report, &[("lost_count", 0), ("delivered_count", 120)]);
    fails(&report, &["nothing from before the place comes"]);
}

#[test]
fn a_log_that_is_there_has_to_come_to_every_stream_alike() {
    let options = BenchOptions {
        resume_id: Some("urn:mock:0".into()),
        ..options()
    };
    let report = run(replay::run, Faults::default(), options);
    fails(&report, &["every stream gets as many events"]);
}

#[test]
fn live_streams_are_checked_beside_the_replays() {
    let live = || BenchOptions {
        live: 2,
        // Some events at least, however late the publisher begins.
        duration: Some(Duration::from_secs(1)),
        rate: Some(200.0),
        ..options()
    };
    let report = run(replay::run, Faults::default(), live());
    fails(&report, &[]);
    assert!(
        report.value("live_p99_ratio").is_some()
            || report.value("live_delivered_count") > Some(0.0)
    );
    // The first stream is a live one here; the log was published before it was there.
    let faults = Faults {
        lost: [103].into(),
        doubled: [102].into(),
        ..Faults::default()
    };
    let expected = [
        "live streams lose nothing",
        "live streams get nothing twice",
    ];
    fails(&run(replay::run, faults, live()), &expected);
}
