//! The modes that count deliveries: `fanout`, `topics`, `idle`, `connect`, `slow`.

use gush_bench::BenchOptions;
use gush_bench::modes::fanout;

use crate::mock::Faults;
use crate::{PATIENCE, fails, has, run};

fn options() -> BenchOptions {
    BenchOptions {
        subscribers: 3,
        events: Some(40),
        window: Some(2),
        size: 64,
        patience: PATIENCE,
        ..BenchOptions::default()
    }
}

#[test]
fn a_fan_out_of_a_correct_hub_passes() {
    let report = run(fanout::run, Faults::default(), options());
    fails(&report, &[]);
    has(
        &report,
        &[
            ("delivered_count", 120),
            ("expected_count", 120),
            ("lost_count", 0),
        ],
    );
}
