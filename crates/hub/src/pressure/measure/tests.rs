use super::*;
use crate::config::Settings;
use crate::policy::Policy;

/// A hub whose clock this test moves, where only times and the intake press.
fn hub() -> Arc<Hub> {
    let hub = crate::publish_batch::tests::hub();
    let mut settings = Settings::default();
    settings.overload.memory_budget = usize::MAX;
    settings.overload.brownout_descriptors = 0;
    hub.policy
        .store(Policy::new(settings).expect("valid settings"));
    hub
}

/// Looks as often as the thread does for so long, with `work` done before each look; the steps,
/// each with the second since the begin of this at which it was taken.
fn looks(
    hub: &Hub,
    watcher: &mut Watcher,
    seconds: u32,
    mut work: impl FnMut(),
) -> Vec<(Step, u64)> {
    let (begun_ms, mut steps) = (hub.clock.now_ms(), Vec::new());
    for _ in 0..seconds * 4 {
        hub.clock.advance(LOOK);
        work();
        let before = hub.metrics.pressure.step.load();
        watcher.look(hub, None);
        let step = hub.metrics.pressure.step.load();
        if step != before {
            steps.push((step, (hub.clock.now_ms() - begun_ms) / 1000));
        }
    }
    steps
}

/// The highest step within 40 s of things that take so long, one after the other.
fn highest(hub: &Hub, each: Duration, mut again: impl FnMut()) -> Step {
    again();
    let mut ends_at = hub.clock.now() + each;
    let steps = looks(hub, &mut Watcher::default(), 40, || {
        if hub.clock.now() >= ends_at {
            again();
            ends_at = hub.clock.now() + each;
        }
    });
    let steps = steps.iter().map(|(step, _)| *step);
    steps.max().unwrap_or_default()
}

fn highest_with_waits(wait: Duration) -> Step {
    let (hub, mut waiting) = (hub(), None);
    highest(&hub, wait, || {
        drop(waiting.take());
        waiting = Some(hub.log_waits.begin(1, 10));
    })
}

/// Between two answers the log looks idle.
#[test]
fn a_log_that_answers_slowly_each_time_leads_to_its_step() {
    for (wait_ms, step) in [
        (750, Step::Calm),
        (1_250, Step::Anonymous),
        (1_750, Step::Anonymous),
        (2_500, Step::Streams),
        (5_000, Step::Publishes),
        (9_000, Step::Publishes),
    ] {
        let highest = highest_with_waits(Duration::from_millis(wait_ms));
        assert_eq!(highest, step, "{wait_ms} ms");
    }
}

fn highest_with_turns(turn: Duration) -> Step {
    let hub = hub();
    let (shard, mut is_begun) = (&hub.metrics.shards[0].turn, false);
    highest(&hub, turn, || {
        if is_begun {
            shard.end(hub.clock.now_ms());
        }
        shard.begin(hub.clock.now_ms());
        is_begun = true;
    })
}

#[test]
fn turns_that_are_long_each_time_lead_to_their_step() {
    for (turn_ms, step) in [
        (250, Step::Anonymous),
        (750, Step::Streams),
        (1_250, Step::Publishes),
        (2_500, Step::Readers),
    ] {
        let highest = highest_with_turns(Duration::from_millis(turn_ms));
        assert_eq!(highest, step, "{turn_ms} ms");
    }
}

#[test]
fn one_stall_of_a_second_and_a_half_changes_nothing() {
    let (hub, mut watcher) = (hub(), Watcher::default());
    let mut waiting = Some(hub.log_waits.begin(1, 10));
    let ends_at = hub.clock.now() + Duration::from_millis(1_500);
    let steps = looks(&hub, &mut watcher, 30, || {
        waiting = waiting.take().filter(|_| hub.clock.now() < ends_at);
    });
    assert_eq!(steps, []);
}

/// What is refused on this step, in the order of the steps.
fn given_up(hub: &Hub) -> [bool; 4] {
    let all = [
        Step::Anonymous,
        Step::Streams,
        Step::Publishes,
        Step::Readers,
    ];
    all.map(|what| crate::admit::unless_given_up(hub, what).is_err())
}

#[test]
fn a_shard_that_hangs_takes_every_step_and_they_are_left_in_turn() {
    let (hub, mut watcher) = (hub(), Watcher::default());
    let shard = &hub.metrics.shards[0].turn;
    assert_eq!(given_up(&hub), [false; 4]);
    shard.begin(hub.clock.now_ms());
    let up = looks(&hub, &mut watcher, 12, || ());
    let (steps, at): (Vec<_>, Vec<_>) = up.into_iter().unzip();
    assert_eq!(steps, Step::ALL[1..]);
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 2), "{at:?}");
    assert_eq!(given_up(&hub), [true; 4]);
    let page = hub.metrics_page();
    for line in [
        "gush_brownout_step 4\n",
        "gush_brownout_changes_total{direction=\"up\"} 4\n",
        "gush_pressure_ratio{source=\"turn\"} 48\n",
    ] {
        assert!(page.contains(line), "{page}");
    }
    shard.end(hub.clock.now_ms());
    let down = looks(&hub, &mut watcher, 60, || ());
    let (steps, at): (Vec<_>, Vec<_>) = down.into_iter().unzip();
    let expected: Vec<_> = Step::ALL.into_iter().rev().skip(1).collect();
    assert_eq!(steps, expected);
    // The last turn counts for ten seconds, and then each step has to be calm for ten.
    assert!(at[0] >= 20, "{at:?}");
    assert!(at.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{at:?}");
    assert_eq!(given_up(&hub), [false; 4]);
}

#[test]
fn a_full_intake_goes_up_to_publishes_and_no_further() {
    let (hub, mut watcher) = (hub(), Watcher::default());
    let mut settings = hub.policy.load().settings.clone();
    settings.overload.brownout_log = Duration::ZERO;
    hub.policy
        .store(Policy::new(settings).expect("valid settings"));
    let waiting = hub.log_waits.begin(65_536, 10);
    let up = looks(&hub, &mut watcher, 30, || ());
    let steps: Vec<_> = up.into_iter().map(|(step, _)| step).collect();
    assert_eq!(steps, [Step::Anonymous, Step::Streams, Step::Publishes]);
    drop(waiting);
    looks(&hub, &mut watcher, 40, || ());
    assert_eq!(given_up(&hub), [false; 4]);
}

#[test]
fn what_counts_is_bounded() {
    let mut peaks = Peaks::default();
    // Ever shorter ones, so that each has its own time.
    for look in 0..10_000_u32 {
        peaks.note(LOOK * look, 1_000_000 - u64::from(look));
    }
    assert!(peaks.0.len() <= 41, "{}", peaks.0.len());
}

#[test]
fn a_log_that_stands_still_is_seen_while_it_does() {
    let clock = Clock::manual();
    let waits = LogWaits::new(clock.clone());
    clock.advance(Duration::from_secs(100));
    assert_eq!(waits.longest_ms(), 0);
    let (first, second) = (waits.begin(1, 100), waits.begin(32_767, 100));
    clock.advance(Duration::from_secs(3));
    assert_eq!(waits.longest_ms(), 3_000);
    drop(first);
    // It moves: what still waits has waited since then for it to move again.
    assert_eq!(waits.longest_ms(), 3_000);
    assert_eq!(waits.longest_ms(), 0);
    clock.advance(Duration::from_secs(2));
    assert_eq!(waits.longest_ms(), 2_000);
    drop(second);
    assert_eq!(waits.longest_ms(), 5_000);
    assert_eq!(waits.longest_ms(), 0);
}

#[test]
#[expect(clippy::float_cmp, reason = "halves and quarters are exact")]
fn the_intake_is_held_against_the_limits_that_are_set() {
    let room = |in_flight_events, in_flight_bytes| LimitSettings {
        in_flight_events,
        in_flight_bytes,
        ..LimitSettings::default()
    };
    let waits = LogWaits::new(Clock::manual());
    let waiting = waits.begin(50_000, 1 << 19);
    assert_eq!(waits.fill(&room(200_000, 1 << 21)), 0.25);
    assert_eq!(waits.fill(&room(100_000, 1 << 21)), 0.5);
    assert_eq!(waits.fill(&room(200_000, 1 << 20)), 0.5);
    drop(waiting);
    assert_eq!(waits.fill(&LimitSettings::default()), 0.0);
}

#[test]
fn this_process_is_measured() {
    assert!(resident_bytes() > 1 << 20);
    let before = open_descriptors();
    let more: Vec<_> = (0..20).map(|_| fs::File::open("/dev/null")).collect();
    assert!(
        open_descriptors() >= before + 20 - 5,
        "others may close some"
    );
    drop(more);
    assert!((0.0..1.0).contains(&descriptors_share()));
}
