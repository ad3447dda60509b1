use super::*;

fn limits() -> Limits {
    Limits::new(&OverloadSettings {
        brownout_turn: Duration::from_millis(100),
        brownout_memory: 80,
        brownout_descriptors: 96,
        brownout_log: Duration::from_secs(1),
        brownout_intake: 50,
        brownout_dwell: Duration::from_secs(2),
        ..crate::config::Settings::default().overload
    })
}

fn reading(source: Source, value: f64) -> Readings {
    let mut readings = [0.0; SOURCES];
    readings[source as usize] = value;
    readings
}

/// The steps reached, second by second, while this is read.
fn watch(brownout: &mut Brownout, now: &mut u64, seconds: u64, readings: &Readings) -> Vec<Step> {
    (0..seconds)
        .map(|_| {
            *now += 1;
            brownout.note(Duration::from_secs(*now), readings, &limits());
            brownout.step()
        })
        .collect()
}

#[test]
fn each_source_climbs_its_own_ladder_to_its_own_end() {
    let rows: [(Source, [f64; 5], Step); SOURCES] = [
        (Source::Turn, [0.0, 0.1, 0.2, 0.4, 0.8], Step::Readers),
        (Source::Memory, [0.79, 0.8, 0.85, 0.9, 0.95], Step::Readers),
        (
            Source::Descriptors,
            [0.95, 0.96, 0.97, 0.98, 0.99],
            Step::Streams,
        ),
        (Source::Log, [0.9, 1.0, 2.0, 4.0, 8.0], Step::Publishes),
        (
            Source::Intake,
            [0.4, 0.5, 0.625, 0.75, 0.875],
            Step::Publishes,
        ),
    ];
    for (source, values, end) in rows {
        for (step, value) in Step::ALL.into_iter().zip(values) {
            // Sums of thirds and fifths are not exact.
            let found = limits().step(&reading(source, value + 1e-9), 1.0);
            assert_eq!(found.0, step.min(end), "{source:?} {value}");
        }
    }
}

#[test]
fn steps_are_climbed_one_after_the_other_while_pressure_lasts() {
    let (mut brownout, mut now) = (Brownout::default(), 0);
    let all = reading(Source::Memory, 0.99);
    let steps = watch(&mut brownout, &mut now, 9, &all);
    let [calm, anonymous, streams, publishes, readers] = Step::ALL;
    assert_eq!(
        steps,
        [
            calm, calm, anonymous, anonymous, streams, streams, publishes, publishes, readers
        ]
    );
    // And left in the same order, each after five times as long.
    let steps = watch(&mut brownout, &mut now, 42, &reading(Source::Memory, 0.1));
    let fell: Vec<_> = (1..steps.len())
        .filter(|at| steps[*at] != steps[at - 1])
        .collect();
    assert_eq!(fell, [10, 20, 30, 40]);
    assert_eq!(brownout.step(), Step::Calm);
}

#[test]
fn a_short_peak_changes_nothing() {
    let (mut brownout, mut now) = (Brownout::default(), 0);
    for _ in 0..50 {
        watch(&mut brownout, &mut now, 2, &reading(Source::Turn, 9.0));
        let steps = watch(&mut brownout, &mut now, 1, &[0.0; SOURCES]);
        assert_eq!(steps, [Step::Calm]);
    }
}

#[test]
fn between_its_two_thresholds_a_step_stays() {
    let (mut brownout, mut now) = (Brownout::default(), 0);
    watch(&mut brownout, &mut now, 3, &reading(Source::Memory, 0.82));
    assert_eq!(brownout.step(), Step::Anonymous);
    // Below where it began, above where it ends.
    watch(&mut brownout, &mut now, 500, &reading(Source::Memory, 0.75));
    assert_eq!(brownout.step(), Step::Anonymous);
    // A short relief begins the wait anew.
    for _ in 0..20 {
        watch(&mut brownout, &mut now, 9, &reading(Source::Memory, 0.5));
        watch(&mut brownout, &mut now, 1, &reading(Source::Memory, 0.75));
    }
    assert_eq!(brownout.step(), Step::Anonymous);
    watch(&mut brownout, &mut now, 11, &reading(Source::Memory, 0.5));
    assert_eq!(brownout.step(), Step::Calm);
}

#[test]
fn a_source_that_is_off_does_not_count() {
    let mut settings = crate::config::Settings::default().overload;
    settings.brownout_memory = 0;
    settings.brownout_turn = Duration::ZERO;
    let limits = Limits::new(&settings);
    for source in [Source::Memory, Source::Turn] {
        assert_eq!(limits.step(&reading(source, 1e9), 1.0).0, Step::Calm);
    }
}

#[test]
fn the_change_names_what_led_to_it() {
    let mut brownout = Brownout::default();
    let mut readings = reading(Source::Turn, 0.15);
    readings[Source::Log as usize] = 5.0;
    assert_eq!(brownout.note(Duration::ZERO, &readings, &limits()), None);
    let change = brownout.note(Duration::from_secs(2), &readings, &limits());
    let expected = Change {
        step: Step::Anonymous,
        by: Some(Source::Log),
    };
    assert_eq!(change, Some(expected));
}
