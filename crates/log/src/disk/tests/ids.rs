//! Looking for publishers' own ids.

use fastrand::Rng;

use super::rig::{CONFIG, Rig};
use super::*;
use crate::sim::SimHost;

/// Two different ids with the same hash, found as an attacker would.
fn colliding_ids() -> (String, String) {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let state = |chunk: &[u8; 8]| {
        let mixed = (16 ^ u64::from_le_bytes(*chunk)).wrapping_mul(MULTIPLIER);
        mixed ^ (mixed >> 32)
    };
    let (first, second) = (*b"urn:exam", *b"ple:0007");
    let mut rng = Rng::with_seed(1);
    let (theirs, ours) = (0..1_000_000)
        .find_map(|_| {
            let other = [(); 8].map(|()| rng.u8(b'!'..=b'~'));
            let wanted = state(&first) ^ u64::from_le_bytes(second) ^ state(&other);
            let rest = wanted.to_le_bytes();
            let is_text = rest.iter().all(u8::is_ascii_graphic);
            is_text.then(|| ([first, second].concat(), [other, rest].concat()))
        })
        .expect("one of some thousand is text");
    let text = |bytes| String::from_utf8(bytes).expect("ASCII");
    let (theirs, ours) = (text(theirs), text(ours));
    assert_eq!(hash_id(&theirs), hash_id(&ours));
    (theirs, ours)
}

#[test]
fn an_id_made_to_collide_costs_a_read_and_no_walk() {
    let host = SimHost::new(1);
    let config = DiskConfig {
        segment_events: 1_000,
        segment_bytes: 8 << 20,
        waiting_bytes_max: 8 << 20,
        ..CONFIG
    };
    let (theirs, ours) = colliding_ids();
    let mut rig = Rig::open(&host, config);
    rig.append(draft_with_id(&theirs, "x")).expect("stored");
    for _ in 0..8 {
        let drafts = (0..50).map(|_| draft(&"x".repeat(10_000)));
        assert!(rig.commit(drafts.collect()).iter().all(Result::is_ok));
    }
    let reads_of = |rig: &Rig, id: &str| {
        let before = host.reads();
        let found = rig.log.search(id).expect("readable");
        (found.map(Offset::as_u64), host.reads() - before)
    };
    assert_eq!(reads_of(&rig, &ours), (None, 1));
    // Where both are stored, both are found.
    rig.append(draft_with_id(&ours, "x")).expect("stored");
    assert_eq!(reads_of(&rig, &ours), (Some(403), 2));
    assert_eq!(reads_of(&rig, &theirs), (Some(2), 1));
    rig.committer.roll();
    assert_eq!(
        reads_of(&rig, &ours),
        (Some(403), 3),
        "and a block of the index"
    );
}

#[test]
fn many_own_ids_are_found_in_index_files_and_duplicates_give_the_earliest() {
    let host = SimHost::new(1);
    let config = DiskConfig {
        segment_events: 2_000,
        segment_bytes: 1 << 20,
        ..CONFIG
    };
    let mut rig = Rig::open(&host, config);
    for chunk in 0..60 {
        let drafts = (0..100).map(|number| {
            let number = chunk * 100 + number;
            // A third share one id.
            let id = if number % 3 == 0 {
                "same".into()
            } else {
                format!("own-{number}")
            };
            draft_with_id(&id, "x")
        });
        assert!(rig.commit(drafts.collect()).iter().all(Result::is_ok));
    }
    let check = |rig: &Rig| {
        assert_eq!(rig.log.locate("same"), Located::Search);
        assert_eq!(
            rig.log.search("same").expect("readable"),
            Some(Offset::from_u64(2))
        );
        for number in (0_u64..6_000).filter(|number| number % 3 != 0) {
            let found = rig.log.search(&format!("own-{number}")).expect("readable");
            assert_eq!(found, Some(Offset::from_u64(number + 2)), "own-{number}");
        }
        assert_eq!(rig.log.search("own-0").expect("readable"), None);
    };
    check(&rig);
    rig.committer.finish().expect("closes");
    drop(rig);
    let mut rig = Rig::open(&host, config);
    assert_eq!(rig.recovery.indexes_rebuilt, 0);
    check(&rig);
    rig.append(draft_with_id("more", "x")).expect("stored");
    drop(rig);
    check(&Rig::open(&host, config));
}
