//! Mode `publish`.

use std::time::Duration;

use gush_bench::BenchOptions;
use gush_bench::modes::publish;

use crate::mock::Faults;
use crate::{PATIENCE, fails, has, run};

fn options() -> BenchOptions {
    BenchOptions {
        subscribers: 2,
        publishers: 3,
        events: Some(60),
        size: 64,
        patience: PATIENCE,
        ..BenchOptions::default()
    }
}

#[test]
fn a_correct_hub_passes() {
    for batch in [0, 7] {
        let report = run(
            publish::run,
            Faults::default(),
            BenchOptions { batch, ..options() },
        );
        fails(&report, &[]);
        let counts = [
            ("acknowledged_count", 60),
            ("delivered_count", 120),
            ("lost_count", 0),
        ];
        has(&report, &counts);
    }
}

#[test]
fn several_threads_publish_the_same_events() {
    let options = BenchOptions {
        threads: Some(2),
        ..options()
    };
    let report = run(publish::run, Faults::default(), options);
    fails(&report, &[]);
    has(
        &report,
        &[("acknowledged_count", 60), ("delivered_count", 120)],
    );
}

#[test]
fn lost_doubled_and_reordered_deliveries_are_counted_exactly() {
    let faults = Faults {
        lost: [5, 40].into(),
        doubled: [7, 8, 9].into(),
        ..Faults::default()
    };
    let report = run(publish::run, faults, options());
    let counts = [
        ("lost_count", 2),
        ("doubled_count", 3),
        ("reordered_count", 0),
        ("expected_count", 120),
        ("delivered_count", 118),
    ];
    has(&report, &counts);
    let expected = [
        "every acknowledged event is delivered",
        "nothing is delivered twice",
    ];
    fails(&report, &expected);
}

#[test]
fn events_of_one_publisher_out_of_order_are_counted() {
    let faults = Faults {
        reordered: [10, 20].into(),
        ..Faults::default()
    };
    let options = BenchOptions {
        publishers: 1,
        ..options()
    };
    let report = run(publish::run, faults, options);
    has(
        &report,
        &[
            ("reordered_count", 2),
            ("lost_count", 0),
            ("delivered_count", 120),
        ],
    );
    fails(&report, &["each publisher's events come in order"]);
}

#[test]
fn refused_events_are_not_expected_and_fail_the_run() {
    for batch in [0, 7] {
        let faults = Faults {
            refused: [3, 30].into(),
            ..Faults::default()
        };
        let report = run(publish::run, faults, BenchOptions { batch, ..options() });
        let counts = [
            ("refused_count", 2),
            ("acknowledged_count", 58),
            ("expected_count", 116),
            ("lost_count", 0),
        ];
        has(&report, &counts);
        fails(&report, &["no event is refused"]);
    }
}

#[test]
fn a_refused_event_that_is_delivered_does_not_hide_a_lost_one() {
    let faults = Faults {
        refused_and_delivered: [3].into(),
        lost: [30].into(),
        ..Faults::default()
    };
    let report = run(publish::run, faults, options());
    has(&report, &[("refused_count", 1), ("lost_count", 1)]);
    let expected = [
        "every acknowledged event is delivered",
        "nothing is delivered that was refused",
        "no event is refused",
    ];
    fails(&report, &expected);
}

#[test]
fn ids_given_twice_are_found() {
    let faults = Faults {
        same_id: [11, 50].into(),
        ..Faults::default()
    };
    fails(
        &run(publish::run, faults, options()),
        &["no id is given twice"],
    );
}

#[test]
fn a_publish_without_an_answer_is_neither_acknowledged_nor_lost() {
    let faults = Faults {
        unanswered: [12].into(),
        ..Faults::default()
    };
    let report = run(publish::run, faults, options());
    let counts = [
        ("unanswered_count", 1),
        ("acknowledged_count", 59),
        ("reconnect_count", 1),
        ("lost_count", 0),
    ];
    has(&report, &counts);
    fails(&report, &["every request is answered"]);
}

#[test]
fn a_delay_shows_in_the_latency_of_answers() {
    let faults = Faults {
        delay: Duration::from_millis(20),
        ..Faults::default()
    };
    let options = BenchOptions {
        publishers: 30,
        ..options()
    };
    let report = run(publish::run, faults, options);
    fails(&report, &[]);
    let p50 = report.value("latency_p50_us").unwrap_or_default();
    assert!(p50 >= 20_000.0, "{p50}");
}

#[test]
fn a_stream_that_the_hub_ends_fails_the_run() {
    let faults = Faults {
        drops_after: Some(10),
        ..Faults::default()
    };
    let report = run(publish::run, faults, options());
    has(&report, &[("lost_count", 50), ("delivered_count", 70)]);
    fails(
        &report,
        &["streams stay open", "every acknowledged event is delivered"],
    );
}
