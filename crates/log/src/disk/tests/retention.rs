//! What is trimmed, and who reads it meanwhile.

use super::rig::{CONFIG, Rig, data_at};
use super::*;
use crate::files::OPEN_SEALED_MAX;
use crate::sim::SimHost;

#[test]
fn retention_by_bytes_and_count_trims_whole_segments() {
    let bytes = DiskConfig {
        retention_bytes: Some(20_000),
        ..CONFIG
    };
    let host = SimHost::new(1);
    let mut rig = Rig::open(&host, bytes);
    for number in 0..1_000 {
        rig.append(draft(&format!("{number:0100}")))
            .expect("stored");
        assert!(
            host.used_bytes() <= 20_000,
            "{} bytes used",
            host.used_bytes()
        );
    }
    assert!(
        host.used_bytes() > 12_000,
        "most of it is used: {}",
        host.used_bytes()
    );

    let count = DiskConfig {
        retention_events: Some(50),
        ..CONFIG
    };
    let mut rig = Rig::open(&SimHost::new(1), count);
    for number in 0..500 {
        rig.append(draft("x")).expect("stored");
        let bounds = rig.log.bounds();
        let held = bounds.next.since(bounds.first);
        assert!(
            held >= 50.min(number + 1) && held <= 50 + 2 * 20,
            "{held} held"
        );
    }
}

#[test]
fn retention_by_age_trims_idle_logs_too_and_offsets_go_on() {
    let age = DiskConfig {
        retention_age: Some(Duration::from_secs(80)),
        ..CONFIG
    };
    let host = SimHost::new(1);
    let mut rig = Rig::open(&host, age);
    let mut newest = None;
    for _ in 0..100 {
        newest = Some(rig.append(draft("x")).expect("stored"));
        host.advance(5_000);
        rig.committer.tick();
        let bounds = rig.log.bounds();
        let held = bounds.next.since(bounds.first);
        assert!(held <= 20, "{held} events of 5 s each in 80 s + an eighth");
    }
    host.advance(200_000);
    rig.committer.tick();
    let bounds = rig.log.bounds();
    assert_eq!(bounds.first, bounds.next, "an idle log trims too");
    assert_eq!(bounds.last_id, None);
    let newest = newest.expect("appended");
    assert_eq!(
        rig.log.locate(&newest.id()),
        Located::After(bounds.next),
        "nothing after it is lost"
    );
    drop(rig);
    let mut rig = Rig::open(&host, age);
    let after = rig.append(draft("x")).expect("stored");
    assert_eq!(
        after.position.offset, bounds.next,
        "offsets go on behind trimmed events"
    );
    assert!(
        !host
            .names()
            .expect("names")
            .iter()
            .any(|name| name.starts_with("00000000000000000001"))
    );
}

/// Whatever is sealed is soon trimmed.
const ONE_SEGMENT: DiskConfig = DiskConfig {
    retention_events: Some(10),
    segment_events: 10,
    ..CONFIG
};

#[test]
fn a_reader_in_a_segment_that_is_trimmed_reads_on() {
    let host = SimHost::new(1);
    let mut rig = Rig::open(&host, ONE_SEGMENT);
    for number in 0..10 {
        rig.append(draft(&number.to_string())).expect("stored");
    }
    let mut held = 0;
    let Rig { log, committer, .. } = &mut rig;
    let limit = ReadLimit {
        events_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let end = log
        .read(Offset::FIRST, limit, &mut |_| {
            if held == 0 {
                for _ in 0..30 {
                    log.append(draft("x"), Box::new(|outcome| assert!(outcome.is_ok())));
                }
                let mut batch = Vec::new();
                while !log.shared.intake.take(&mut batch, Duration::ZERO) && !batch.is_empty() {
                    committer.commit(&mut batch);
                }
                assert!(log.bounds().first > Offset::FIRST, "trimmed meanwhile");
            }
            held += 1;
            Flow::Continue
        })
        .expect("readable");
    assert_eq!(
        (held, end.lost),
        (10, 0),
        "what was visible at the start of the read"
    );
}

#[test]
fn the_number_of_segments_costs_no_descriptors() {
    let host = SimHost::new(1);
    let config = DiskConfig {
        segment_events: 1,
        ..CONFIG
    };
    // The active one, the lock of a real directory, an index under way.
    let most = OPEN_SEALED_MAX + 3;
    let mut rig = Rig::open(&host, config);
    for number in 0..300 {
        let own = draft_with_id(&format!("own-{number}"), "x");
        rig.append(own).expect("stored");
        assert!(host.open_files() <= 3, "{} open", host.open_files());
    }
    for _life in 0..2 {
        assert_eq!(rig.contents().0.len(), 300);
        for number in 0..300_u64 {
            let found = rig.log.search(&format!("own-{number}")).expect("readable");
            assert_eq!(found, Some(Offset::from_u64(number + 2)));
            assert!(host.open_files() <= most, "{} open", host.open_files());
        }
        // What is read again and again stays open.
        data_at(&rig.log, Offset::FIRST);
        let open = host.open_files();
        data_at(&rig.log, Offset::FIRST);
        assert_eq!(host.open_files(), open);
        rig.committer.finish().expect("closes");
        drop(rig);
        assert_eq!(host.open_files(), 0);
        rig = Rig::open(&host, config);
        assert!(rig.recovery.was_clean && host.open_files() <= 3);
    }
}

#[test]
fn a_segment_trimmed_before_a_reader_opens_it_is_lost_and_no_error() {
    let host = SimHost::new(1);
    let mut rig = Rig::open(&host, ONE_SEGMENT);
    for number in 0..15 {
        let own = draft_with_id(&format!("own-{number}"), "x");
        rig.append(own).expect("stored");
    }
    let (segments, ..) = rig.log.shared.snapshot();
    // Opened by a reader that is done: trimming must give its space back.
    assert!(data_at(&rig.log, Offset::FIRST).is_some());
    assert_eq!(
        rig.log.search("own-3").expect("readable"),
        Some(Offset::from_u64(5))
    );
    for _ in 0..10 {
        rig.append(draft("x")).expect("stored");
    }
    assert_eq!(rig.log.bounds().first, Offset::from_u64(11), "trimmed");
    let open = host.open_files();
    let mut seen = 0;
    let walked = segments[0].walk(Offset::FIRST, Offset::from_u64(11), &mut |_| {
        seen += 1;
        std::ops::ControlFlow::Continue(())
    });
    walked.expect("trimmed is no error");
    assert_eq!(seen, 0);
    let found = segments[0].find_own(hash_id("own-3"), "own-3");
    assert_eq!(found.expect("trimmed is no error"), None);
    assert_eq!(host.open_files(), open);
    assert!(open <= 2, "a removed file is not kept open: {open}");
    let gone = rig.log.read(
        Offset::FIRST,
        ReadLimit {
            events_max: 1,
            bytes_max: 1,
        },
        &mut |_| Flow::Stop,
    );
    assert_eq!(gone.expect("readable").lost, 10);
}
