//! What a crash at any moment leaves.

use fastrand::Rng;

use super::rig::{CONFIG, Ledger, Rig, seeds, small_log};
use super::*;
use crate::sim::{Faults, SimHost};

fn crash_and_recover(seed: u64, config: DiskConfig) {
    let mut rng = Rng::with_seed(seed);
    let host = SimHost::new(seed);
    let mut ledger = Ledger::default();
    for _life in 0..6 {
        let is_cut_short = rng.bool();
        if is_cut_short {
            let power_off_at = Some(host.operations() + rng.u64(1..8));
            host.set_faults(Faults {
                power_off_at,
                ..Faults::default()
            });
        }
        // The power may also go while the log is opened.
        let mut rig = match Rig::try_open(&host, config) {
            Ok(rig) => rig,
            Err(_) if host.is_off() => {
                host.power_on();
                continue;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        };
        if config.sync == Sync::Batch {
            ledger.check_kept(&rig, seed);
        } else {
            ledger.check_meanings(&rig, seed);
        }
        let power_off_at = Some(host.operations() + rng.u64(1..60));
        host.set_faults(Faults {
            power_off_at,
            is_short: rng.bool(),
            ..Faults::default()
        });
        let mut batches = rng.usize(1..30);
        while batches > 0 && !host.is_off() {
            batches -= 1;
            ledger.commit(&mut rig, &mut rng);
            if rng.u8(..8) == 0 {
                rig.committer.sync_visible();
            }
            rig.committer.probe();
        }
        ledger.check_meanings(&rig, seed);
        if rng.bool() {
            let _ = rig.committer.finish();
        }
        drop(rig);
        host.power_on();
    }
    let mut rig = Rig::open(&host, config);
    if config.sync == Sync::Batch {
        ledger.check_kept(&rig, seed);
    }
    rig.append(draft("last")).expect("works again");
}

#[test]
fn nothing_acknowledged_is_lost_at_any_crash() {
    for seed in seeds(1_000) {
        crash_and_recover(seed, CONFIG);
    }
}

#[test]
fn without_syncs_a_crash_loses_events_but_no_id_ever_lies() {
    for seed in seeds(300) {
        crash_and_recover(
            seed,
            DiskConfig {
                sync: Sync::Off,
                ..CONFIG
            },
        );
        let sync = Sync::Interval(Duration::from_secs(1));
        crash_and_recover(seed, DiskConfig { sync, ..CONFIG });
    }
}

#[test]
fn a_crash_while_the_disk_is_probed_leaves_nothing_but_a_tail_to_cut() {
    let mut zeros_cut = 0;
    for (seed, after) in seeds(50).flat_map(|seed| (1..6).map(move |after| (seed, after))) {
        let host = SimHost::new(seed);
        let mut rig = Rig::open(&host, CONFIG);
        rig.append(draft("1")).expect("stored");
        host.set_faults(Faults {
            space_bytes: Some(host.used_bytes()),
            ..Faults::default()
        });
        rig.append(draft("2")).expect_err("the disk is full");
        host.set_faults(Faults {
            power_off_at: Some(host.operations() + after),
            ..Faults::default()
        });
        rig.committer.probe();
        drop(rig);
        host.power_on();
        let mut rig = Rig::open(&host, CONFIG);
        assert_eq!(
            rig.recovery.damaged_count, 0,
            "seed {seed}: {}",
            rig.recovery
        );
        if let Some(cut) = &rig.recovery.cut {
            assert_eq!(cut.reason, "zero bytes", "seed {seed}");
            zeros_cut += 1;
        }
        rig.append(draft("3")).expect("works again");
        let (held, lost) = rig.contents();
        let data: Vec<String> = held.into_iter().map(|(_, data)| data).collect();
        assert_eq!(
            (&data[..], lost),
            (&["1".to_owned(), "3".to_owned()][..], 0)
        );
    }
    assert!(zeros_cut > 0, "the case was never met");
}

#[test]
fn an_unclean_reopen_starts_an_epoch_and_old_ids_still_resolve() {
    let host = SimHost::new(1);
    let mut rig = Rig::open(&host, CONFIG);
    let first = rig.append(draft("1")).expect("stored");
    drop(rig);
    let mut rig = Rig::open(&host, CONFIG);
    assert!(
        !rig.recovery.was_clean && rig.recovery.cut.is_none(),
        "{}",
        rig.recovery
    );
    assert_ne!(rig.log.bounds().epoch, first.position.epoch);
    assert_eq!(rig.log.bounds().last_id.as_deref(), Some(&*first.id()));
    assert_eq!(
        rig.log.locate(&first.id()),
        Located::After(Offset::from_u64(2))
    );
    let second = rig.append(draft("2")).expect("stored");
    assert_eq!(second.position.offset, Offset::from_u64(2));
    let lie = crate::Position {
        epoch: first.position.epoch,
        offset: second.position.offset,
    };
    assert_eq!(
        rig.log.locate(&lie.to_string()),
        Located::Unknown,
        "of the lost life"
    );
}

#[test]
fn what_a_crash_leaves_of_a_segment_just_begun_is_not_kept_for_ever() {
    let (host, events) = small_log(false);
    let config = DiskConfig {
        segment_events: 3,
        ..CONFIG
    };
    for length in [1, 511, 1023] {
        let crashed = host.fork();
        let name = "00000000000000000009.seg";
        crashed.create(name).expect("created");
        crashed.set_bytes(name, vec![0; length]);
        let mut rig = Rig::open(&crashed, config);
        assert_eq!(rig.contents(), (events.clone(), 0));
        rig.append(draft("on")).expect("the log goes on");
        drop(rig);
        let names = crashed.names().expect("names");
        let is_left = names.iter().any(|name| name.ends_with(".damaged"));
        assert!(!is_left, "{length} bytes: {names:?}");
    }
}
