//! A log on a disk made for tests, whose committer moves when the test says so.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, sync_channel};

use fastrand::Rng;

use super::*;
use crate::Appended;
use crate::sim::SimHost;

/// Small segments, so that rolls happen all the time.
pub(super) const CONFIG: DiskConfig = DiskConfig {
    sync: Sync::Batch,
    segment_bytes: 3000,
    segment_events: 20,
    retention_bytes: None,
    retention_age: None,
    retention_events: None,
    waiting_events_max: 100,
    waiting_bytes_max: 1 << 20,
};

pub(super) type Outcome = Result<Appended, AppendError>;

/// A log whose committer moves when the test says so.
pub(super) struct Rig {
    pub(super) log: DiskLog,
    pub(super) committer: Committer,
    pub(super) recovery: Recovery,
}

impl Rig {
    pub(super) fn open(host: &SimHost, config: DiskConfig) -> Self {
        Self::try_open(host, config).expect("opens")
    }

    pub(super) fn try_open(host: &SimHost, config: DiskConfig) -> io::Result<Self> {
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
    pub(super) fn commit(&mut self, drafts: Vec<Draft>) -> Vec<Outcome> {
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

    pub(super) fn append(&mut self, draft: Draft) -> Outcome {
        self.commit(vec![draft]).remove(0)
    }

    /// `(wire id, data)` of all that is readable, and what is not.
    pub(super) fn contents(&self) -> (Vec<(String, String)>, u64) {
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

pub(super) fn data_at(log: &DiskLog, offset: Offset) -> Option<String> {
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
pub(super) struct Ledger {
    pub(super) count: usize,
    pub(super) acknowledged: Vec<(String, String)>,
    /// What an id stood for when it was seen; it may never stand for anything else.
    pub(super) meaning: HashMap<String, String>,
}

impl Ledger {
    pub(super) fn drafts(&mut self, rng: &mut Rng) -> Vec<Draft> {
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

    pub(super) fn commit(&mut self, rig: &mut Rig, rng: &mut Rng) {
        let drafts = self.drafts(rng);
        for (outcome, draft) in rig.commit(drafts.clone()).into_iter().zip(drafts) {
            if let Ok(appended) = outcome {
                self.acknowledged
                    .push((appended.id().to_string(), draft.data.to_string()));
            }
        }
    }

    /// Nothing acknowledged is missing, out of order or changed; every id means what it meant.
    pub(super) fn check_kept(&mut self, rig: &Rig, seed: u64) {
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

    pub(super) fn check_meanings(&mut self, rig: &Rig, seed: u64) {
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
pub(super) fn seeds(usual: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("GUSH_LOG_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    0..asked.unwrap_or(usual)
}

/// Two and a half segments with own ids, and what is in them.
pub(super) fn small_log(is_clean: bool) -> (SimHost, Vec<(String, String)>) {
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
