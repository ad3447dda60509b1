use gush_log::{Draft, MemoryConfig, MemoryLog};
use gush_sse::Topic;

use super::*;
use crate::config::Settings;

fn slot(number: u64) -> Slot {
    Slot([number, !number])
}

fn conflation(next: u64) -> Conflation {
    let policy = Policy::new(Settings::default()).expect("valid settings");
    let policy = Arc::new(PolicyCell::new(policy));
    Conflation::new(policy, Offset::from_u64(next))
}

fn standing(conflation: &Conflation, number: u64, offset: u64) -> Standing {
    conflation.standing(slot(number), Offset::from_u64(offset))
}

#[test]
fn the_newest_of_a_slot_stands_for_those_before_it() {
    let conflation = conflation(1);
    for (number, offset) in [(7, 1), (8, 2), (7, 3)] {
        conflation.note(slot(number), Offset::from_u64(offset));
    }
    assert_eq!(standing(&conflation, 7, 1), Standing::Superseded);
    assert_eq!(standing(&conflation, 7, 3), Standing::Newest);
    assert_eq!(standing(&conflation, 8, 2), Standing::Newest);
    assert_eq!(
        conflation.version(),
        1,
        "once an event took the place of another"
    );
}

#[test]
fn with_more_slots_than_are_known_the_silent_ones_are_forgotten() {
    let conflation = conflation(1);
    let count = SLOTS_MAX as u64 + 10;
    for number in 0..count {
        conflation.note(slot(number), Offset::from_u64(number + 1));
        conflation.note(slot(number), Offset::from_u64(number + 2));
    }
    assert!(conflation.known().newest.len() <= SLOTS_MAX);
    // More is delivered than has to be, and nothing less.
    assert_eq!(standing(&conflation, 3, 4), Standing::Newest);
    assert_eq!(
        standing(&conflation, count - 1, count),
        Standing::Superseded
    );
}

#[test]
fn what_came_before_is_read_once_and_not_further_back_than_allowed() {
    let log = MemoryLog::new(MemoryConfig {
        bytes_max: 1 << 24,
        events_max: 1000,
    });
    let log: &dyn Log = &log;
    for number in 0..100_u64 {
        let draft = Draft {
            topics: [Topic::parse(&format!("{}", number % 10)).expect("a topic")].into(),
            is_private: false,
            id: None,
            kind: None,
            retry_ms: None,
            conflation: gush_log::Conflation {
                is_latest: true,
                key: None,
            },
            data: "".into(),
        };
        log.append(draft, Box::new(|_| {}));
    }
    let conflation = conflation(log.bounds().next.as_u64());
    conflation.known().floor = Offset::from_u64(50);
    let lens = conflation.lens(log.bounds().next);
    let standings = || {
        let mut found = Vec::new();
        let read = log.read(Offset::FIRST, LOOK_BACK_READ, &mut |record| {
            let slot = lens.slot_of(record).expect("all are");
            found.push(lens.standing(slot, record.offset()));
            Flow::Continue
        });
        read.expect("memory");
        found
    };
    assert!(standings().iter().all(|found| *found == Standing::Unknown));
    conflation.look_back(log, Offset::FIRST);
    assert_eq!(conflation.known().from, Offset::from_u64(50));
    let found = standings();
    assert!(
        found[..90]
            .iter()
            .all(|found| *found == Standing::Superseded)
    );
    assert!(found[90..].iter().all(|found| *found == Standing::Newest));
}

#[test]
fn a_changed_rule_forgets_what_was_known_by_the_old_one() {
    let conflation = conflation(1);
    conflation.note(slot(7), Offset::from_u64(1));
    conflation.note(slot(7), Offset::from_u64(2));
    let _ = conflation.lens(Offset::from_u64(3));
    assert_eq!(standing(&conflation, 7, 1), Standing::Superseded);
    let version = conflation.version();
    let settings = Settings {
        conflate_topics: vec!["a".into()],
        ..Settings::default()
    };
    let policy = Policy::new(settings).expect("valid settings");
    conflation.policy.store(policy);
    let _ = conflation.lens(Offset::from_u64(3));
    assert_eq!(standing(&conflation, 7, 1), Standing::Unknown);
    assert_ne!(conflation.version(), version);
}
