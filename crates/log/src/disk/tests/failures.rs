//! Disks that fail, fill up and come back.

use fastrand::Rng;

use super::rig::{CONFIG, Ledger, Rig, seeds};
use super::*;
use crate::sim::{Faults, SimHost};

fn fail_and_recover(seed: u64, sync: Sync) {
    let mut rng = Rng::with_seed(seed);
    let host = SimHost::new(seed);
    let config = DiskConfig { sync, ..CONFIG };
    let mut rig = Rig::open(&host, config);
    let mut ledger = Ledger::default();
    for _phase in 0..4 {
        for _ in 0..rng.usize(1..10) {
            ledger.commit(&mut rig, &mut rng);
        }
        let one_in = |rng: &mut Rng| rng.bool().then(|| rng.u32(1..6));
        host.set_faults(Faults {
            space_bytes: rng.bool().then(|| host.used_bytes() + rng.u64(..600)),
            is_short: rng.bool(),
            write_error_one_in: one_in(&mut rng),
            sync_error_one_in: one_in(&mut rng),
            is_cut_failing: rng.bool(),
            power_off_at: None,
        });
        for _ in 0..rng.usize(1..10) {
            ledger.commit(&mut rig, &mut rng);
            if rng.u8(..4) == 0 {
                rig.committer.sync_visible();
            }
            if rng.bool() {
                rig.committer.probe();
            }
        }
        host.set_faults(Faults::default());
        // It recovers by itself, and what failed never became visible.
        let appended = rig.append(draft("again")).unwrap_or_else(|error| {
            panic!("seed {seed}: {error} although the disk works again");
        });
        ledger
            .acknowledged
            .push((appended.id().to_string(), "again".into()));
        assert_eq!(rig.log.writable(), Ok(()));
        if sync == Sync::Batch {
            let (held, lost) = rig.contents();
            assert_eq!(
                held, ledger.acknowledged,
                "seed {seed}: exactly what was acknowledged"
            );
            assert_eq!(lost, 0, "seed {seed}");
            ledger.check_kept(&rig, seed);
        } else {
            // A failed sync may have taken events that were visible already.
            ledger.check_meanings(&rig, seed);
        }
    }
    drop(rig);
    host.power_on();
    let rig = Rig::open(&host, config);
    if sync == Sync::Batch {
        ledger.check_kept(&rig, seed);
    } else {
        ledger.check_meanings(&rig, seed);
    }
}

#[test]
fn a_failing_disk_refuses_events_and_keeps_those_it_took() {
    for seed in seeds(1_000) {
        fail_and_recover(seed, Sync::Batch);
    }
}

#[test]
fn a_failing_disk_with_late_syncs_never_lets_an_id_lie() {
    for seed in seeds(300) {
        fail_and_recover(seed, Sync::Interval(Duration::from_secs(1)));
    }
}

#[test]
fn a_full_disk_is_named_and_reading_goes_on() {
    let host = SimHost::new(1);
    let mut rig = Rig::open(&host, CONFIG);
    rig.append(draft("1")).expect("stored");
    let epoch = rig.log.bounds().epoch;
    host.set_faults(Faults {
        space_bytes: Some(host.used_bytes() + 20),
        ..Faults::default()
    });
    for _ in 0..3 {
        let refused = rig.append(draft("2")).map_err(|error| error.kind);
        assert_eq!(refused, Err(AppendErrorKind::Full));
        assert!(rig.log.writable().is_err());
        assert_eq!(rig.contents().0.len(), 1);
    }
    host.set_faults(Faults::default());
    rig.append(draft("3")).expect("stored once there is space");
    assert_eq!(rig.log.writable(), Ok(()));
    assert_eq!(
        rig.log.bounds().epoch,
        epoch,
        "nothing visible was lost: the epoch goes on"
    );
    let data: Vec<String> = rig.contents().0.into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, ["1", "3"]);
}

#[test]
fn a_failed_append_is_forgotten_once_the_disk_takes_bytes_again() {
    let full = |host: &SimHost| Faults {
        space_bytes: Some(host.used_bytes() + 100),
        ..Faults::default()
    };
    let failing = |_: &SimHost| Faults {
        sync_error_one_in: Some(1),
        ..Faults::default()
    };
    let uncut = |host: &SimHost| Faults {
        is_cut_failing: true,
        ..full(host)
    };
    let kinds: [&dyn Fn(&SimHost) -> Faults; 3] = [&full, &failing, &uncut];
    for (faults, sync) in kinds
        .iter()
        .flat_map(|faults| [(faults, Sync::Batch), (faults, Sync::Off)])
    {
        let host = SimHost::new(1);
        let mut rig = Rig::open(&host, DiskConfig { sync, ..CONFIG });
        rig.append(draft("1")).expect("stored");
        host.set_faults(faults(&host));
        let outcome = rig.append(draft(&"x".repeat(200)));
        if outcome.is_ok() {
            // Without syncs a failing one is not noticed.
            continue;
        }
        for _ in 0..3 {
            rig.committer.probe();
            assert!(rig.log.writable().is_err(), "the disk still fails");
        }
        host.set_faults(Faults::default());
        rig.committer.probe();
        assert_eq!(rig.log.writable(), Ok(()), "nobody published");
        assert_eq!(rig.contents().0.len(), 1);
        rig.append(draft("2")).expect("stored");
        rig.committer.finish().expect("closes");
        drop(rig);
        let rig = Rig::open(&host, CONFIG);
        assert!(rig.recovery.was_clean, "{}", rig.recovery);
        let data: Vec<String> = rig.contents().0.into_iter().map(|(_, data)| data).collect();
        assert_eq!(data, ["1", "2"]);
    }
}

#[test]
fn the_committer_probes_a_failed_disk_by_itself() {
    let host = SimHost::new(1);
    let files = Arc::new(host.clone());
    let (log, committer, _) =
        DiskLog::open_on(files, "sim".into(), CONFIG, Sealing::Aside).expect("opens");
    *lock(&log.committer) = Some(thread::spawn(move || committer.run()));
    host.set_faults(Faults {
        space_bytes: Some(0),
        ..Faults::default()
    });
    append(&log, draft("1")).expect_err("the disk is full");
    assert!(log.writable().is_err());
    host.set_faults(Faults::default());
    let begun = std::time::Instant::now();
    while log.writable().is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never probed");
        thread::yield_now();
    }
}

#[test]
fn after_a_failed_sync_a_new_segment_and_epoch_begin() {
    let host = SimHost::new(1);
    let mut rig = Rig::open(&host, CONFIG);
    let first = rig.append(draft("1")).expect("stored");
    host.set_faults(Faults {
        sync_error_one_in: Some(1),
        ..Faults::default()
    });
    let refused = rig.append(draft("2")).map_err(|error| error.kind);
    assert_eq!(refused, Err(AppendErrorKind::Failed));
    assert_eq!(
        rig.log.bounds().next,
        Offset::from_u64(2),
        "it did not become visible"
    );
    host.set_faults(Faults::default());
    let third = rig.append(draft("3")).expect("stored");
    assert_eq!(third.position.offset, Offset::from_u64(2));
    assert_ne!(third.position.epoch, first.position.epoch);
    assert_eq!(
        rig.log.locate(&first.id()),
        Located::After(Offset::from_u64(2))
    );
    let never = crate::Position {
        epoch: first.position.epoch,
        offset: third.position.offset,
    };
    assert_eq!(rig.log.locate(&never.to_string()), Located::Unknown);
    host.power_on();
    let rig = Rig::open(&host, CONFIG);
    let data: Vec<String> = rig.contents().0.into_iter().map(|(_, data)| data).collect();
    assert_eq!(data, ["1", "3"]);
}

#[test]
fn without_a_thread_to_seal_with_a_close_is_still_clean() {
    for sync in [Sync::Batch, Sync::Off] {
        let host = SimHost::new(1);
        let config = DiskConfig {
            sync,
            segment_events: 2,
            ..CONFIG
        };
        // The rig's committer is never given a thread.
        let mut rig = Rig::open(&host, config);
        for number in 0..7 {
            let own = draft_with_id(&format!("own-{number}"), "x");
            rig.append(own).expect("stored");
        }
        let epoch = rig.log.bounds().epoch;
        rig.committer.finish().expect("closes");
        drop(rig);
        let rig = Rig::open(&host, config);
        assert!(rig.recovery.was_clean, "{}", rig.recovery);
        assert_eq!(
            (rig.recovery.segments, rig.recovery.indexes_rebuilt),
            (4, 0)
        );
        assert_eq!(rig.log.bounds().epoch, epoch);
    }
}
