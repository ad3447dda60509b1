//! Servers that do as they may and not as gush does, and some that nobody should measure.

use std::time::Duration;

use gush_bench::BenchOptions;
use gush_bench::modes::{connect, fanout, publish, replay};

use crate::mock::Faults;
use crate::{PATIENCE, fails, has, refuses, run};

fn options() -> BenchOptions {
    BenchOptions {
        subscribers: 3,
        events: Some(20),
        window: Some(4),
        size: 64,
        patience: PATIENCE,
        rounds: 1,
        ..BenchOptions::default()
    }
}

#[test]
fn lines_that_end_with_a_return_alone_are_read() {
    for line_end in ["\r", "\r\n"] {
        let faults = || Faults {
            line_end: Some(line_end),
            ..Faults::default()
        };
        let report = run(fanout::run, faults(), options());
        fails(&report, &[]);
        has(&report, &[("delivered_count", 60), ("lost_count", 0)]);
        fails(&run(replay::run, faults(), options()), &[]);
    }
}

#[test]
fn hints_before_the_answer_are_no_refusal() {
    let faults = || Faults {
        head: Some(
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n\
             HTTP/1.1 200 OK\r\nContent-Type: text/event-stream",
        ),
        ..Faults::default()
    };
    for mode in [fanout::run, connect::run, publish::run] {
        fails(&run(mode, faults(), options()), &[]);
    }
}

#[test]
fn an_answer_that_no_event_source_reads_opens_no_stream() {
    for (head, why) in [
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html", "another type"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip",
            "compressed",
        ),
        ("SSH-2.0-server", "not HTTP/1"),
    ] {
        let faults = || Faults {
            head: Some(head),
            ..Faults::default()
        };
        for mode in [fanout::run, connect::run] {
            let told = refuses(mode, faults(), options());
            assert!(told.contains(why), "{told}");
        }
    }
}

#[test]
fn a_stream_that_did_not_open_says_why() {
    let faults = Faults {
        refuses_after: Some(2),
        ..Faults::default()
    };
    let report = run(fanout::run, faults, options());
    let mut checks = report.checks.iter();
    let opened = checks.find(|check| check.name == "every stream opened");
    let detail = opened.map(|check| check.detail.as_str());
    let expected = "2 of 3 (a subscribe was answered with status 503)";
    assert_eq!(detail, Some(expected));
}

#[test]
fn a_delivery_that_comes_twice_late_is_counted() {
    let late = || Faults {
        doubled_late: [3, 20].into(),
        ..Faults::default()
    };
    let report = run(fanout::run, late(), options());
    has(&report, &[("doubled_count", 2), ("delivered_count", 60)]);
    fails(&report, &["nothing doubled"]);
    let report = run(publish::run, late(), options());
    has(&report, &[("doubled_count", 2), ("delivered_count", 60)]);
    fails(&report, &["nothing is delivered twice"]);
}

#[test]
fn a_replay_of_which_all_comes_twice_loses_nothing() {
    let faults = Faults {
        doubled: (0..=4000).collect(),
        ..Faults::default()
    };
    let options = BenchOptions {
        subscribers: 1,
        events: Some(3000),
        batch: 500,
        size: 2000,
        ..options()
    };
    let report = run(replay::run, faults, options);
    let counts = [
        ("lost_count", 0),
        ("delivered_count", 3000),
        ("doubled_count", 3000),
    ];
    has(&report, &counts);
}

#[test]
fn a_publisher_whose_idle_connection_was_closed_comes_back() {
    let faults = Faults {
        closes_publishers: true,
        ..Faults::default()
    };
    let options = BenchOptions {
        events: Some(5),
        rate: Some(10.0),
        window: None,
        ..options()
    };
    let report = run(fanout::run, faults, options);
    has(&report, &[("delivered_count", 15), ("lost_count", 0)]);
    fails(&report, &[]);
}

#[test]
fn a_delivery_whose_publish_got_no_answer_counts_for_nothing() {
    let faults = Faults {
        unanswered: [6].into(),
        ..Faults::default()
    };
    let report = run(fanout::run, faults, options());
    let counts = [
        ("published_count", 5),
        ("publish_unanswered_count", 1),
        ("delivered_count", 15),
        ("expected_count", 15),
        ("lost_count", 0),
    ];
    has(&report, &counts);
    fails(&report, &["publishes accepted"]);
}

#[test]
fn a_publish_that_is_not_answered_is_given_up_after_the_patience() {
    let faults = || Faults {
        delay: Duration::from_hours(1),
        delays_from: 4,
        ..Faults::default()
    };
    let options = || BenchOptions {
        patience: Duration::from_millis(1500),
        ..options()
    };
    let report = run(fanout::run, faults(), options());
    has(&report, &[("published_count", 3), ("lost_count", 0)]);
    assert!(
        report.table().contains("none for 1.5 s"),
        "{}",
        report.table()
    );
    let report = run(publish::run, faults(), options());
    has(
        &report,
        &[("acknowledged_count", 3), ("unanswered_count", 1)],
    );
    assert!(
        report.table().contains("no answer for 1.5 s"),
        "{}",
        report.table()
    );
}

#[test]
fn events_that_all_get_lost_are_published_no_faster_for_it() {
    let faults = Faults {
        lost: (0..=20).collect(),
        delay: Duration::from_millis(20),
        ..Faults::default()
    };
    let options = BenchOptions {
        subscribers: 1,
        window: Some(100),
        ..options()
    };
    let report = run(fanout::run, faults, options);
    has(&report, &[("lost_count", 20), ("delivered_count", 0)]);
    let rate = report.value("events_per_second").unwrap_or(f64::MAX);
    assert!(rate <= 50.0, "20 events took 400 ms: {rate}");
}

#[test]
fn a_server_that_answers_publishes_without_ids_replays() {
    let faults = || Faults {
        answer: Some("queued"),
        ..Faults::default()
    };
    for (resume_at, count) in [(0.0, 60), (50.0, 30)] {
        let options = BenchOptions {
            resume_at,
            ..options()
        };
        let report = run(replay::run, faults(), options);
        has(&report, &[("lost_count", 0), ("delivered_count", count)]);
        fails(&report, &[]);
    }
}
