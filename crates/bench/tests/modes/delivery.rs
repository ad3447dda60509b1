//! The modes that count deliveries: `fanout`, `topics`, `idle`, `connect`, `slow`.

use std::time::Duration;

use gush_bench::BenchOptions;
use gush_bench::modes::{connect, fanout, idle, slow, topics};
use gush_bench::options::Wait;

use crate::mock::Faults;
use crate::{PATIENCE, fails, has, refuses, run};

fn options() -> BenchOptions {
    BenchOptions {
        subscribers: 3,
        events: Some(40),
        window: Some(8),
        size: 64,
        patience: PATIENCE,
        duration: Some(Duration::from_millis(50)),
        ..BenchOptions::default()
    }
}

#[test]
fn a_fan_out_of_a_correct_hub_passes() {
    for (publishers, wait) in [(1, Wait::Sleep), (4, Wait::Tick), (2, Wait::Spin)] {
        let options = BenchOptions {
            publishers,
            wait,
            ..options()
        };
        let report = run(fanout::run, Faults::default(), options);
        fails(&report, &[]);
        let counts = [
            ("delivered_count", 120),
            ("expected_count", 120),
            ("lost_count", 0),
        ];
        has(&report, &counts);
    }
}

#[test]
fn a_fan_out_counts_lost_doubled_and_reordered_deliveries_exactly() {
    let faults = Faults {
        lost: [5, 31].into(),
        doubled: [7].into(),
        reordered: [9, 19].into(),
        ..Faults::default()
    };
    let report = run(fanout::run, faults, options());
    let counts = [
        ("lost_count", 2),
        ("doubled_count", 1),
        ("reordered_count", 2),
        ("delivered_count", 118),
        ("expected_count", 120),
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
fn a_dropped_stream_and_what_it_missed_fail_a_fan_out() {
    let faults = Faults {
        drops_after: Some(10),
        ..Faults::default()
    };
    let report = run(fanout::run, faults, options());
    has(&report, &[("dropped_count", 1), ("lost_count", 30)]);
    let is_failed = |name: &str| {
        let mut checks = report.checks.iter();
        checks.any(|check| check.name == name && !check.passed)
    };
    // Whether the deliveries add up depends on when the end of the stream is seen.
    assert!(is_failed("nothing lost") && is_failed("no stream dropped"));
}

#[test]
fn refused_publishes_fail_a_fan_out() {
    let faults = Faults {
        refused: [3].into(),
        ..Faults::default()
    };
    let report = run(fanout::run, faults, options());
    has(&report, &[("publish_refused_count", 1), ("lost_count", 0)]);
    fails(&report, &["publishes accepted"]);
}

#[test]
fn a_delay_shows_in_the_latency_of_deliveries() {
    let faults = Faults {
        delay: Duration::from_millis(20),
        ..Faults::default()
    };
    let report = run(fanout::run, faults, options());
    fails(&report, &[]);
    let p50 = report.value("latency_p50_us").unwrap_or_default();
    assert!(p50 >= 20_000.0, "{p50}");
}

fn of_topics(is_templated: bool) -> BenchOptions {
    BenchOptions {
        subscribers: 8,
        topics: 4,
        idle: 2,
        is_templated,
        ..options()
    }
}

#[test]
fn topics_of_a_correct_hub_pass() {
    for is_templated in [false, true] {
        let report = run(topics::run, Faults::default(), of_topics(is_templated));
        fails(&report, &[]);
        has(&report, &[("delivered_count", 80), ("strayed_count", 0)]);
    }
}

#[test]
fn events_of_other_topics_are_counted() {
    let faults = Faults {
        ignores_topics: true,
        ..Faults::default()
    };
    let report = run(topics::run, faults, of_topics(false));
    // 40 events to 10 streams, of which 2 had asked for each.
    has(&report, &[("delivered_count", 80), ("strayed_count", 320)]);
    fails(&report, &["nothing strayed"]);
}

#[test]
fn a_topic_that_loses_an_event_is_found() {
    // The first stream of all is one of those that get nothing.
    let options = BenchOptions {
        idle: 0,
        ..of_topics(false)
    };
    let faults = Faults {
        lost: (1..=40).collect(),
        ..Faults::default()
    };
    let report = run(topics::run, faults, options);
    has(&report, &[("lost_count", 10), ("topics_wrong_count", 1)]);
    fails(
        &report,
        &["nothing lost", "deliveries add up", "every topic exact"],
    );
}

#[test]
fn idle_streams_of_a_correct_hub_pass() {
    let options = BenchOptions {
        is_broadcast: true,
        ..options()
    };
    let report = run(idle::run, Faults::default(), options);
    fails(&report, &[]);
    has(&report, &[("opened_count", 3), ("delivered_count", 3)]);
}

#[test]
fn a_broadcast_that_one_idle_stream_misses_fails() {
    let options = BenchOptions {
        is_broadcast: true,
        ..options()
    };
    let faults = Faults {
        lost: [1].into(),
        ..Faults::default()
    };
    let report = run(idle::run, faults, options);
    has(&report, &[("lost_count", 1), ("delivered_count", 2)]);
    fails(
        &report,
        &["the broadcast reached every stream", "nothing lost"],
    );
}

#[test]
fn each_topic_of_idle_streams_gets_one_event() {
    let spread = |topics| BenchOptions {
        subscribers: 8,
        topics,
        is_broadcast: true,
        ..options()
    };
    for topics in [3, 8] {
        let report = run(idle::run, Faults::default(), spread(topics));
        fails(&report, &[]);
        has(&report, &[("delivered_count", 8), ("lost_count", 0)]);
    }
    let refused = refuses(idle::run, Faults::default(), spread(9));
    assert!(refused.contains("each topic needs one"), "{refused}");
}

#[test]
fn refused_streams_fail_every_mode() {
    let two = || Faults {
        refuses_after: Some(2),
        ..Faults::default()
    };
    let report = run(idle::run, two(), options());
    has(&report, &[("opened_count", 2), ("refused_count", 1)]);
    fails(&report, &["every stream opened"]);
    let report = run(connect::run, two(), options());
    has(&report, &[("opened_count", 2), ("refused_count", 1)]);
    fails(&report, &["every stream opened"]);
    let report = run(fanout::run, two(), options());
    has(&report, &[("refused_count", 1), ("delivered_count", 80)]);
    fails(&report, &["every stream opened"]);
    let all = || Faults {
        refuses_after: Some(0),
        ..Faults::default()
    };
    for mode in [idle::run, connect::run, fanout::run] {
        assert!(refuses(mode, all(), options()).contains("503"));
    }
}

#[test]
fn connects_to_a_correct_hub_pass() {
    let options = BenchOptions {
        subscribers: 20,
        idle: 5,
        connect_rate: Some(1000.0),
        ..options()
    };
    let report = run(connect::run, Faults::default(), options);
    fails(&report, &[]);
    has(&report, &[("opened_count", 20), ("refused_count", 0)]);
}

fn of_slow() -> BenchOptions {
    BenchOptions {
        subscribers: 10,
        share: 20.0,
        ..options()
    }
}

#[test]
fn readers_beside_slow_streams_of_a_correct_hub_pass() {
    let report = run(slow::run, Faults::default(), of_slow());
    fails(&report, &[]);
    has(
        &report,
        &[
            ("slow_count", 2),
            ("delivered_count", 320),
            ("lost_count", 0),
        ],
    );
}

#[test]
fn what_a_reader_loses_beside_slow_streams_is_counted() {
    let faults = Faults {
        // The first 40 events are published before the slow streams are there.
        lost: [41, 60].into(),
        doubled: [70].into(),
        ..Faults::default()
    };
    let report = run(slow::run, faults, of_slow());
    has(
        &report,
        &[
            ("lost_count", 2),
            ("doubled_count", 1),
            ("delivered_count", 318),
        ],
    );
    fails(
        &report,
        &["nothing lost", "nothing doubled", "deliveries add up"],
    );
}
