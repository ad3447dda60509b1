use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};

use fastrand::Rng;

use super::*;
use crate::Appended;
use crate::files::OPEN_SEALED_MAX;
use crate::sim::{Faults, SimHost};

/// Small segments, so that rolls happen all the time.
const CONFIG: DiskConfig = DiskConfig {
    sync: Sync::Batch,
    segment_bytes: 3000,
    segment_events: 20,
    retention_bytes: None,
    retention_age: None,
    retention_events: None,
    waiting_events_max: 100,
    waiting_bytes_max: 1 << 20,
};

type Outcome = Result<Appended, AppendError>;

/// A log whose committer moves when the test says so.
struct Rig {
    log: DiskLog,
    committer: Committer,
    recovery: Recovery,
}

impl Rig {
    fn open(host: &SimHost, config: DiskConfig) -> Self {
        Self::try_open(host, config).expect("opens")
    }

    fn try_open(host: &SimHost, config: DiskConfig) -> io::Result<Self> {
        let files = Arc::new(host.clone());
        let (log, committer, recovery) =
            DiskLog::open_on(files, "sim".into(), config, Sealing::Inline)?;
        Ok(Self {
            log,
            committer,
            recovery,
        })
    }

    /// One batch.
    fn commit(&mut self, drafts: Vec<Draft>) -> Vec<Outcome> {
        let answers: Vec<Receiver<Outcome>> = drafts
            .into_iter()
            .map(|draft| {
                let (sender, receiver) = sync_channel(1);
                let reply = move |outcome| sender.send(outcome).expect("called once");
                self.log.append(draft, Box::new(reply));
                receiver
            })
            .collect();
        let mut batch = Vec::new();
        loop {
            self.log.shared.intake.take(&mut batch, Duration::ZERO);
            if batch.is_empty() {
                break;
            }
            self.committer.commit(&mut batch);
        }
        answers
            .into_iter()
            .map(|answer| answer.try_recv().expect("answered"))
            .collect()
    }

    fn append(&mut self, draft: Draft) -> Outcome {
        self.commit(vec![draft]).remove(0)
    }

    /// `(wire id, data)` of all that is readable, and what is not.
    fn contents(&self) -> (Vec<(String, String)>, u64) {
        let bounds = self.log.bounds();
        let limit = ReadLimit {
            events_max: usize::MAX,
            bytes_max: usize::MAX,
        };
        let mut held = Vec::new();
        let end = self
            .log
            .read(bounds.first, limit, &mut |record| {
                held.push((record.wire_id().to_string(), record.data.to_owned()));
                Flow::Continue
            })
            .expect("readable");
        assert_eq!(end.next, bounds.next);
        assert_eq!(
            end.next.since(bounds.first),
            held.len() as u64 + end.lost,
            "all accounted for"
        );
        (held, end.lost)
    }
}

fn data_at(log: &DiskLog, offset: Offset) -> Option<String> {
    let mut data = None;
    log.read(
        offset,
        ReadLimit {
            events_max: 1,
            bytes_max: usize::MAX,
        },
        &mut |record| {
            data = (record.offset() == offset).then(|| record.data.to_owned());
            Flow::Stop
        },
    )
    .expect("readable");
    data
}

/// What a test knows of everything that was ever published.
#[derive(Default)]
struct Ledger {
    count: usize,
    acknowledged: Vec<(String, String)>,
    /// What an id stood for when it was seen; it may never stand for anything else.
    meaning: HashMap<String, String>,
}

impl Ledger {
    fn drafts(&mut self, rng: &mut Rng) -> Vec<Draft> {
        (0..rng.usize(1..6))
            .map(|_| {
                self.count += 1;
                let data = format!("{} {}", self.count, "x".repeat(rng.usize(..200)));
                if rng.u8(..4) == 0 {
                    draft_with_id(&format!("own-{}", self.count), &data)
                } else {
                    draft(&data)
                }
            })
            .collect()
    }

    fn commit(&mut self, rig: &mut Rig, rng: &mut Rng) {
        let drafts = self.drafts(rng);
        for (outcome, draft) in rig.commit(drafts.clone()).into_iter().zip(drafts) {
            if let Ok(appended) = outcome {
                self.acknowledged
                    .push((appended.id().to_string(), draft.data.to_string()));
            }
        }
    }

    /// Nothing acknowledged is missing, out of order or changed; every id means what it meant.
    fn check_kept(&mut self, rig: &Rig, seed: u64) {
        self.check_meanings(rig, seed);
        let (held, _) = rig.contents();
        let mut rest = held.iter();
        for expected in &self.acknowledged {
            let is_there = rest.any(|event| event == expected);
            assert!(
                is_there,
                "seed {seed}: {expected:?} is lost\n{}",
                rig.recovery
            );
            let after = resolve(&rig.log, &expected.0);
            let offset = after.and_then(|after| after.as_u64().checked_sub(1));
            let data = offset.and_then(|offset| data_at(&rig.log, Offset::from_u64(offset)));
            assert_eq!(
                data.as_ref(),
                Some(&expected.1),
                "seed {seed}: {}",
                expected.0
            );
        }
    }

    fn check_meanings(&mut self, rig: &Rig, seed: u64) {
        let (held, _) = rig.contents();
        for (id, data) in self.acknowledged.iter().chain(&held) {
            let before = self
                .meaning
                .entry(id.clone())
                .or_insert_with(|| data.clone());
            assert_eq!(before, data, "seed {seed}: {id} stands for two events");
        }
        for (id, data) in &self.meaning {
            if let Some(after) = resolve(&rig.log, id)
                && let Some(offset) = after.as_u64().checked_sub(1)
                && let Some(found) = data_at(&rig.log, Offset::from_u64(offset))
            {
                assert_eq!(found, *data, "seed {seed}: {id} leads to another event");
            }
        }
    }
}

/// As many as fit an ordinary run; `GUSH_LOG_SEEDS` asks for more.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("GUSH_LOG_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    0..asked.unwrap_or(usual)
}

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

/// Two and a half segments with own ids, and what is in them.
fn small_log(is_clean: bool) -> (SimHost, Vec<(String, String)>) {
    let host = SimHost::new(7);
    let config = DiskConfig {
        segment_events: 3,
        ..CONFIG
    };
    let mut rig = Rig::open(&host, config);
    for number in 0..8 {
        let data = format!("data {number}");
        let draft = if number % 2 == 0 {
            draft_with_id(&format!("own-{number}"), &data)
        } else {
            draft(&data)
        };
        rig.append(draft).expect("stored");
    }
    let (held, _) = rig.contents();
    if is_clean {
        rig.committer.finish().expect("closes");
    }
    (host, held)
}

/// What became of a damaged log.
struct Damaged {
    missing: usize,
    /// The operator or the readers were told that events are lost.
    is_loss_told: bool,
    /// Something was noticed.
    is_told: bool,
}

/// Opens a damaged copy and compares: what is read is right, what is missing is told.
fn check_damaged(host: &SimHost, events: &[(String, String)], what: &str) -> Damaged {
    let mut rig = Rig::open(
        host,
        DiskConfig {
            segment_events: 3,
            ..CONFIG
        },
    );
    let (held, lost) = rig.contents();
    let mut rest = events.iter();
    for event in &held {
        assert!(
            rest.any(|expected| expected == event),
            "{what}: {event:?} was never published"
        );
    }
    for (id, data) in &held {
        let Some(after) = resolve(&rig.log, id) else {
            // Only the epoch of a header that is lost in all copies takes ids with it.
            panic!("{what}: {id} no longer resolves\n{}", rig.recovery);
        };
        let offset = Offset::from_u64(after.as_u64() - 1);
        assert_eq!(data_at(&rig.log, offset).as_ref(), Some(data), "{what}");
    }
    let Recovery {
        cut,
        damaged_count,
        indexes_rebuilt,
        was_clean,
        ..
    } = rig.recovery.clone();
    let is_loss_told = lost > 0 || cut.is_some() || damaged_count > 0;
    let is_told = is_loss_told || indexes_rebuilt > 0 || !was_clean;
    rig.append(draft("on")).expect("the log goes on");
    Damaged {
        missing: events.len() - held.len(),
        is_loss_told,
        is_told,
    }
}

#[test]
fn every_flipped_bit_costs_at_most_its_record_and_is_told() {
    for is_clean in [true, false] {
        let (host, events) = small_log(is_clean);
        for name in host.names().expect("names") {
            let good = host.bytes(&name);
            for bit in 0..good.len() * 8 {
                // Of the padding of an index's blocks a few bits stand for all.
                if name.contains(".idx") && bit > 1000 * 8 && bit % 97 != 0 {
                    continue;
                }
                let damaged = host.fork();
                let mut bytes = good.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                damaged.set_bytes(&name, bytes);
                let what = format!("{name}, bit {bit}, clean {is_clean}");
                let Damaged {
                    missing,
                    is_loss_told,
                    is_told,
                } = check_damaged(&damaged, &events, &what);
                assert!(missing <= 1, "{what}: {missing} events lost");
                assert!(missing == 0 || is_loss_told, "{what}: silent loss");
                // The blocks of an index are looked at when they are used, and then not trusted.
                assert!(is_told || name.contains(".idx"), "{what}: not detected");
            }
        }
    }
}

#[test]
fn a_file_cut_at_any_length_loses_no_more_than_was_cut() {
    let newest = "00000000000000000007.seg";
    for is_clean in [true, false] {
        let (host, events) = small_log(is_clean);
        for name in host.names().expect("names") {
            let good = host.bytes(&name);
            for length in 0..good.len() {
                let damaged = host.fork();
                damaged.set_bytes(&name, good[..length].to_vec());
                let what = format!("{name} cut to {length}, clean {is_clean}");
                let Damaged {
                    missing,
                    is_loss_told,
                    is_told,
                } = check_damaged(&damaged, &events, &what);
                let most = if name.contains(".seg") { 3 } else { 0 };
                assert!(missing <= most, "{what}: {missing} events lost");
                // Cut between two records, an open segment looks as if there never was more.
                let is_between = name == newest && !is_clean;
                assert!(
                    missing == 0 || is_loss_told || is_between,
                    "{what}: silent loss"
                );
                assert!(is_told || !is_clean, "{what}: not detected");
            }
        }
    }
}

#[test]
fn a_torn_tail_is_cut_and_told_but_damage_before_whole_records_is_kept_as_a_hole() {
    let (host, events) = small_log(false);
    let name = "00000000000000000007.seg";
    let good = host.bytes(name);
    let torn = host.fork();
    torn.set_bytes(name, good[..good.len() - 5].to_vec());
    let rig = Rig::open(&torn, CONFIG);
    let cut = rig.recovery.cut.clone().expect("a cut");
    assert_eq!(
        (cut.from, cut.reason),
        (Offset::from_u64(8), "an unfinished record")
    );
    assert_eq!(rig.recovery.damaged_count, 0);
    assert_eq!(rig.contents(), (events[..7].to_vec(), 0));
    assert_eq!(
        rig.log.bounds().next,
        Offset::from_u64(8),
        "its offset is given out again"
    );

    let holed = host.fork();
    let mut bytes = good;
    bytes[1024 + 30] ^= 1;
    holed.set_bytes(name, bytes);
    let rig = Rig::open(&holed, CONFIG);
    assert_eq!(rig.recovery.cut, None);
    assert_eq!(rig.recovery.damaged_count, 1, "{}", rig.recovery);
    assert_eq!(
        (rig.recovery.damaged[0].from, rig.recovery.damaged[0].events),
        (Offset::from_u64(7), 1)
    );
    assert_eq!(rig.contents().1, 1, "told to every reader");
}

#[test]
fn a_record_hidden_in_data_is_never_taken_for_one() {
    let host = SimHost::new(3);
    let mut rig = Rig::open(&host, CONFIG);
    // The data of the first event holds copies of a whole record of the same log, made with the
    // real marker: only the salt stays unknown to a publisher.
    rig.append(draft("stolen")).expect("stored");
    let name = "00000000000000000001.seg";
    let bytes = host.bytes(name);
    let mut forged = bytes[1024..].to_vec();
    forged[12..20].copy_from_slice(&2_u64.to_le_bytes());
    let forged: String = forged.iter().map(|byte| char::from(byte & 0x7f)).collect();
    rig.append(draft(&forged)).expect("stored");
    rig.append(draft("after")).expect("stored");
    drop(rig);
    let mut bytes = host.bytes(name);
    let second = bytes.len() - 200;
    bytes[second] ^= 1;
    host.set_bytes(name, bytes);
    let rig = Rig::open(&host, CONFIG);
    let (held, _) = rig.contents();
    assert!(
        held.iter()
            .all(|(_, data)| data == "stolen" || data == "after" || *data == forged)
    );
}

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

#[test]
fn a_reader_in_a_segment_that_is_trimmed_reads_on() {
    let host = SimHost::new(1);
    let config = DiskConfig {
        retention_events: Some(10),
        segment_events: 10,
        ..CONFIG
    };
    let mut rig = Rig::open(&host, config);
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
    let config = DiskConfig {
        retention_events: Some(10),
        segment_events: 10,
        ..CONFIG
    };
    let mut rig = Rig::open(&host, config);
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
