//! Who is behind gets the newest of events that stand for each other; who keeps up gets all.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gush_log::{Conflation, Draft, Log, MemoryLog, Offset};

use super::rig::{Peer, ROOMY, Rig, Sizes, parse, topic_of};
use crate::config::Settings;

/// Nearly everything is in the log only.
const SMALL_WINDOW: Sizes = Sizes {
    log_events: 100_000,
    window_events: 4,
};

/// What tells the events of these tests apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    topics: Vec<&'static str>,
    is_private: bool,
    is_latest: bool,
    key: Option<&'static str>,
}

impl Kind {
    fn plain(topic: &'static str) -> Self {
        Self {
            topics: vec![topic],
            is_private: false,
            is_latest: false,
            key: None,
        }
    }

    fn latest(topic: &'static str, key: Option<&'static str>) -> Self {
        Self {
            is_latest: true,
            key,
            ..Self::plain(topic)
        }
    }

    fn draft(&self, data: &str) -> Draft {
        Draft {
            topics: self.topics.iter().map(|topic| topic_of(topic)).collect(),
            is_private: self.is_private,
            id: None,
            kind: None,
            retry_ms: None,
            conflation: Conflation {
                is_latest: self.is_latest,
                key: self.key.map(Into::into),
            },
            data: data.into(),
        }
    }

    /// What events that stand for each other have in common, with these tests' one rule; `None`:
    /// nothing stands for it. By rule or by wish is all the same.
    fn slot(&self) -> Option<Self> {
        let is_conflated =
            self.is_latest || self.topics.iter().any(|topic| topic.starts_with("rule/"));
        is_conflated.then(|| Self {
            is_latest: true,
            ..self.clone()
        })
    }
}

fn with_rule(settings: &mut Settings) {
    settings.conflate_topics = vec!["rule/{x}".into()];
}

fn publish_all(rig: &Rig, kinds: &[Kind]) {
    for (number, kind) in kinds.iter().enumerate() {
        rig.append_draft(kind.draft(&number.to_string()));
    }
}

/// A subscriber to all, that may read private events of `a`.
fn behind(rig: &Rig) -> Peer {
    rig.subscribe_as(&["*"], Offset::FIRST, |parts| {
        parts.0.grants = parse(&["a"]);
    })
}

/// The numbers of those that the subscriber of [`behind`] is to get of events that are all there
/// when it comes.
fn expected(kinds: &[Kind]) -> Vec<usize> {
    let is_readable = |kind: &Kind| !kind.is_private || kind.topics.contains(&"a");
    let slots: Vec<_> = kinds.iter().map(Kind::slot).collect();
    let is_newest =
        |number: usize| slots[number].is_none() || !slots[number + 1..].contains(&slots[number]);
    (0..kinds.len())
        .filter(|number| is_readable(&kinds[*number]) && is_newest(*number))
        .collect()
}

/// One of each that a look at them might confuse.
fn all_kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for topics in [
        vec!["a"],
        vec!["b"],
        vec!["a", "b"],
        vec!["b", "a"],
        vec!["rule/a"],
    ] {
        for is_private in [false, true] {
            for is_latest in [false, true] {
                for key in [None, Some("a"), Some("b")] {
                    kinds.push(Kind {
                        topics: topics.clone(),
                        is_private,
                        is_latest,
                        key,
                    });
                }
            }
        }
    }
    kinds
}

fn random_kinds(count: usize, random: &mut fastrand::Rng) -> Vec<Kind> {
    let all = all_kinds();
    // A flood of one of them, at times.
    let favourite = random.choice(&all).expect("some").clone();
    let mut pick = || {
        if random.u8(..4) == 0 {
            favourite.clone()
        } else {
            random.choice(&all).expect("some").clone()
        }
    };
    (0..count).map(|_| pick()).collect()
}

#[test]
fn who_keeps_up_gets_all_and_who_is_behind_the_newest_of_each_key() {
    let rig = Rig::new(&ROOMY, with_rule);
    let mut live = behind(&rig);
    rig.wait_for("gush_subscribers_behind 0");
    rig.wait_taken_in(1);
    let kinds = [
        Kind::latest("a", None),
        Kind::plain("a"),
        Kind::latest("a", Some("x")),
        Kind::plain("rule/1"),
        Kind::latest("a", None),
        Kind::plain("rule/2"),
        Kind::latest("a", Some("y")),
        Kind::plain("a"),
        Kind::plain("rule/1"),
        Kind::latest("a", Some("x")),
    ];
    for (number, kind) in kinds.iter().enumerate() {
        rig.append_draft(kind.draft(&number.to_string()));
        assert_eq!(live.data(), number.to_string());
    }
    rig.wait_for("gush_conflated_events_total 0");
    let mut late = behind(&rig);
    late.expect_data([1, 4, 5, 6, 7, 8, 9].map(|number: u32| number.to_string()));
    rig.wait_for("gush_conflated_events_total 3");
    // From now on it keeps up.
    rig.wait_for("gush_subscribers_behind 0");
    for data in ["one", "two"] {
        rig.append_draft(Kind::latest("a", None).draft(data));
        assert_eq!(late.data(), data);
        assert_eq!(live.data(), data);
    }
}

/// Through the window and through the log, against a plain reading of the rule. Failures print the
/// seed.
#[test]
fn what_a_late_one_gets_is_what_the_rule_says() {
    for sizes in [ROOMY, SMALL_WINDOW] {
        for _ in 0..12 {
            let seed = fastrand::u64(..);
            let kinds = random_kinds(400, &mut fastrand::Rng::with_seed(seed));
            let rig = Rig::new(&sizes, with_rule);
            publish_all(&rig, &kinds);
            let mut late = behind(&rig);
            for number in expected(&kinds) {
                assert_eq!(late.data(), number.to_string(), "seed {seed}");
            }
            rig.publish("end", "end");
            assert_eq!(late.data(), "end", "seed {seed}");
        }
    }
}

/// The log was filled by another process: what is newest has to be looked for.
#[test]
fn what_was_appended_before_the_start_is_conflated_as_well() {
    let kinds = random_kinds(2000, &mut fastrand::Rng::new());
    let log: Arc<dyn Log> = Arc::new(MemoryLog::new(SMALL_WINDOW.memory()));
    let (before, after) = kinds.split_at(1500);
    for (number, kind) in before.iter().enumerate() {
        log.append(kind.draft(&number.to_string()), Box::new(|_| {}));
    }
    let rig = Rig::over(log, &SMALL_WINDOW, with_rule);
    for (number, kind) in after.iter().enumerate() {
        rig.append_draft(kind.draft(&(1500 + number).to_string()));
    }
    for _ in 0..2 {
        let mut late = behind(&rig);
        late.expect_data(expected(&kinds).iter().map(ToString::to_string));
    }
    // Whoever resumes in the middle gets what the others get from there on.
    let mut middle = rig.subscribe_as(&["*"], Offset::from_u64(1001), |parts| {
        parts.0.grants = parse(&["a"]);
    });
    let rest = expected(&kinds)
        .into_iter()
        .filter(|number| *number >= 1000);
    middle.expect_data(rest.map(|number| number.to_string()));
}

/// Each takes parts of events; while it is behind, what it is in the middle of is superseded.
#[test]
fn a_reader_that_stops_and_goes_on_loses_nothing_that_counts() {
    for sizes in [ROOMY, SMALL_WINDOW] {
        let seed = fastrand::u64(..);
        let mut random = fastrand::Rng::with_seed(seed);
        let kinds = random_kinds(3000, &mut random);
        let rig = Rig::new(&sizes, with_rule);
        let mut slow = rig.subscribe_small(&["*"], Offset::FIRST);
        rig.wait_taken_in(1);
        let filler = "x".repeat(700);
        let (mut got, mut marks) = (Vec::<usize>::new(), 0);
        let number_of = |data: &str| -> Option<usize> {
            data.split(' ').next().and_then(|text| text.parse().ok())
        };
        for (number, kind) in kinds.iter().enumerate() {
            rig.append_draft(kind.draft(&format!("{number} {filler}")));
            if random.u16(..300) == 0 {
                // Nothing stands for a mark. Behind the last one there may be nothing to wait for.
                rig.publish("mark", "mark");
                marks += 1;
                for _ in 0..random.usize(1..20) {
                    let data = slow.data();
                    got.extend(number_of(&data));
                    marks -= usize::from(data == "mark");
                    if marks == 0 {
                        break;
                    }
                }
            }
        }
        rig.publish("end", "end");
        loop {
            let data = slow.data();
            if data == "end" {
                break;
            }
            got.extend(number_of(&data));
        }
        assert!(
            got.is_sorted_by(|one, next| one < next),
            "seed {seed}: {got:?}"
        );
        let had: HashSet<usize> = got.iter().copied().collect();
        let mut newest: HashMap<Kind, usize> = HashMap::new();
        for (number, kind) in kinds
            .iter()
            .enumerate()
            .filter(|(_, kind)| !kind.is_private)
        {
            if let Some(slot) = kind.slot() {
                newest.insert(slot, number);
            } else {
                assert!(had.contains(&number), "seed {seed}: {number} was skipped");
            }
        }
        for (kind, number) in newest {
            assert!(
                had.contains(&number),
                "seed {seed}: the last of {kind:?} was skipped"
            );
        }
        assert!(got.iter().all(|number| !kinds[*number].is_private));
        // It was behind for most of it, or the test shows nothing.
        assert!(had.len() < 2000, "{}", had.len());
    }
}

/// The frame at the cursor is half out when a newer event takes its place.
#[test]
fn what_is_half_out_is_finished_though_a_newer_event_stands_for_it() {
    for sizes in [ROOMY, SMALL_WINDOW] {
        let rig = Rig::new(&sizes, with_rule);
        let mut slow = rig.subscribe_small(&["*"], Offset::FIRST);
        rig.wait_for("gush_subscribers_behind 0");
        rig.wait_taken_in(1);
        let large = |number: usize| format!("{number} {}", "x".repeat(200_000));
        rig.append_draft(Kind::latest("a", None).draft(&large(0)));
        rig.wait_for("gush_subscribers_behind 1");
        for number in 1..10 {
            rig.append_draft(Kind::latest("a", None).draft(&large(number)));
            rig.publish("a", &format!("plain {number}"));
        }
        assert_eq!(slow.data(), large(0));
        slow.expect_data((1..9).map(|number| format!("plain {number}")));
        assert_eq!(slow.data(), large(9));
        assert_eq!(slow.data(), "plain 9");
        rig.wait_for("gush_conflated_events_total 8");
        rig.wait_for("gush_subscribers_behind 0");
    }
}

#[test]
fn lost_events_and_lag_are_counted() {
    let sizes = Sizes {
        log_events: 50,
        window_events: 10,
    };
    let rig = Rig::new(&sizes, |_| {});
    let start = rig.head();
    for number in 0..100 {
        rig.publish("a", &number.to_string());
    }
    let mut told = rig.subscribe_as(&["a"], start, |parts| parts.0.wants_gap = true);
    told.chunk().expect("the gap event");
    told.expect_data((50..100).map(|number| number.to_string()));
    rig.wait_for("gush_gaps_total 1");
    rig.wait_for("gush_evicted_events_total 50");
    rig.wait_for("gush_lag_events_bucket{le=\"10\"} 0");
    let page = rig.page();
    let lags = page
        .lines()
        .find(|line| line.starts_with("gush_lag_events_bucket{le=\"100\"}"));
    assert!(!lags.expect("a bucket").ends_with(" 0"), "{page}");
}
