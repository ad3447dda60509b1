//! Conflation: of events that stand for each other, a subscriber that is behind gets the newest.
//!
//! What is known is the offset of the newest event of each *slot*: of the same topics, equally
//! private, with the same key. Whoever wants and may read an event wants and may read every other
//! one of its slot, so one of them can stand for another without a look at who asks.
//!
//! The log's tail notes the newest as they come. What was appended before (a restart, a changed
//! rule) is read once, when a replay first meets an event that needs it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gush_log::{Flow, Log, Offset, ReadLimit, RecordRef};

use crate::policy::{Policy, PolicyCell};

/// Slots whose newest event is known, some 50 bytes each. Past it those that have been silent for
/// longest are forgotten: events of theirs that a newer one could stand for are delivered too.
const SLOTS_MAX: usize = 128 * 1024;

/// Events before the hub's start, or before a rule changed, in which the newest are looked for. Of
/// older events only those are passed over that one of these or a later one stands for.
const LOOK_BACK_EVENTS_MAX: u64 = 1_000_000;

/// Events and bytes of one read of that look.
const LOOK_BACK_READ: ReadLimit = ReadLimit {
    events_max: 64 * 1024,
    bytes_max: 16 * 1024 * 1024,
};

/// Slots that are noted under one lock.
const LOOK_BACK_NOTES: usize = 256;

/// Which events stand for each other: two keyed hashes of what they have in common. Two slots agree
/// in both at a chance of 2^-128, and nobody who does not know the keys can look for such a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot([u64; 2]);

/// How an event stands to the others of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// None is newer, as far as is known.
    Newest,
    /// A newer one stands for it.
    Superseded,
    /// What came after it has not been looked at yet.
    Unknown,
}

/// See the module.
#[derive(Debug)]
pub struct Conflation {
    policy: Arc<PolicyCell>,
    hashers: [RandomState; 2],
    known: Mutex<Known>,
    /// How often a newer event has taken the place of another.
    version: AtomicU64,
    /// At most one thread reads the log for what is not known.
    looking: Mutex<()>,
}

#[derive(Debug)]
struct Known {
    newest: HashMap<Slot, Offset>,
    /// From here on every event has been noted.
    from: Offset,
    /// No look goes further back.
    floor: Offset,
    /// By which rules it was noted.
    rules: Vec<String>,
}

impl Known {
    fn new(next: Offset, rules: &[String]) -> Self {
        let floor = next.as_u64().saturating_sub(LOOK_BACK_EVENTS_MAX);
        Self {
            newest: HashMap::new(),
            from: next,
            floor: Offset::from_u64(floor.max(Offset::FIRST.as_u64())),
            rules: rules.to_vec(),
        }
    }

    /// Whether this event takes the place of another.
    fn note(&mut self, slot: Slot, offset: Offset) -> bool {
        if let Some(newest) = self.newest.get_mut(&slot) {
            *newest = offset.max(*newest);
            return true;
        }
        if self.newest.len() >= SLOTS_MAX {
            self.forget_half();
        }
        self.newest.insert(slot, offset);
        false
    }

    fn forget_half(&mut self) {
        let mut offsets: Vec<Offset> = self.newest.values().copied().collect();
        let middle = offsets.len() / 2;
        let (_, bound, _) = offsets.select_nth_unstable(middle);
        let bound = *bound;
        self.newest.retain(|_, newest| *newest >= bound);
    }
}

impl Conflation {
    /// For a log whose next event gets the offset `next`.
    #[must_use]
    pub fn new(policy: Arc<PolicyCell>, next: Offset) -> Self {
        let known = Known::new(next, &policy.load().settings.conflate_topics);
        Self {
            policy,
            hashers: [RandomState::new(), RandomState::new()],
            known: Mutex::new(known),
            version: AtomicU64::new(0),
            looking: Mutex::new(()),
        }
    }

    /// Changes when an event takes the place of another: what was made before may hold one that
    /// has been superseded since.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// What these events are judged by, and `next`, where the log ends: if the rules have changed,
    /// what was known by the old ones is forgotten.
    pub(crate) fn lens(&self, next: Offset) -> Lens<'_> {
        let policy = self.policy.load_full();
        let rules = &policy.settings.conflate_topics;
        let mut known = self.known();
        if known.rules != *rules {
            *known = Known::new(next, rules);
            self.version.fetch_add(1, Ordering::AcqRel);
        }
        drop(known);
        Lens {
            conflation: self,
            policy,
        }
    }

    /// Notes an event that is about to become visible.
    fn note(&self, slot: Slot, offset: Offset) {
        if self.known().note(slot, offset) {
            self.version.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// How an event stands to the newest of its slot.
    pub(crate) fn standing(&self, slot: Slot, offset: Offset) -> Standing {
        let known = self.known();
        if known
            .newest
            .get(&slot)
            .is_some_and(|newest| *newest > offset)
        {
            Standing::Superseded
        } else if offset < known.from && known.from > known.floor {
            Standing::Unknown
        } else {
            Standing::Newest
        }
    }

    /// Whether a newer event stands for one that came while this hub ran.
    pub(crate) fn is_superseded(&self, slot: Slot, offset: Offset) -> bool {
        self.standing(slot, offset) == Standing::Superseded
    }

    /// Reads what has not been noted yet, from this event on. Waits for the log; a helper's to
    /// call.
    pub(crate) fn look_back(&self, log: &dyn Log, offset: Offset) {
        let _alone = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, floor) = {
            let known = self.known();
            (known.from, known.floor)
        };
        let mut from = offset.max(floor);
        if from >= until {
            return;
        }
        let begin = from;
        let lens = self.lens(until);
        let mut found: HashMap<Slot, Offset> = HashMap::new();
        while from < until {
            let read = log.read(from, LOOK_BACK_READ, &mut |record| {
                if record.offset() >= until {
                    return Flow::StopBefore;
                }
                if let Some(slot) = lens.slot_of(record) {
                    let has_room = found.len() < SLOTS_MAX || found.contains_key(&slot);
                    if has_room {
                        found.insert(slot, record.offset());
                    }
                }
                Flow::Continue
            });
            match read {
                Ok(read) if read.next > from => from = read.next,
                // Whoever replays meets the same and says so.
                _ => break,
            }
        }
        let mut found = found.into_iter().peekable();
        loop {
            // A lock for a few at a time: shards look things up meanwhile.
            let mut known = self.known();
            if known.from != until {
                // The rules have changed meanwhile.
                return;
            }
            for (slot, offset) in found.by_ref().take(LOOK_BACK_NOTES) {
                // Nothing newer is forgotten for what is older.
                if known.newest.len() < SLOTS_MAX || known.newest.contains_key(&slot) {
                    known.note(slot, offset);
                }
            }
            if found.peek().is_none() {
                known.from = begin;
                break;
            }
        }
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rules of a moment.
pub(crate) struct Lens<'a> {
    conflation: &'a Conflation,
    policy: Arc<Policy>,
}

impl Lens<'_> {
    /// The slot of an event that another may stand for; `None`: it is always delivered.
    pub(crate) fn slot_of(&self, record: &RecordRef<'_>) -> Option<Slot> {
        if !record.is_latest && !self.policy.is_conflated(record.topics.iter()) {
            return None;
        }
        let hash = |hasher: &RandomState| {
            let mut state = hasher.build_hasher();
            state.write_u8(u8::from(record.is_private));
            state.write_u8(u8::from(record.key.is_some()));
            for text in record.key.into_iter().chain(record.topics.iter()) {
                state.write_usize(text.len());
                state.write(text.as_bytes());
            }
            state.finish()
        };
        let [first, second] = &self.conflation.hashers;
        Some(Slot([hash(first), hash(second)]))
    }

    /// The slot of an event that is about to become visible, which is noted.
    pub(crate) fn note(&self, record: &RecordRef<'_>) -> Option<Slot> {
        let slot = self.slot_of(record)?;
        self.conflation.note(slot, record.offset());
        Some(slot)
    }

    pub(crate) fn standing(&self, slot: Slot, offset: Offset) -> Standing {
        self.conflation.standing(slot, offset)
    }
}

#[cfg(test)]
mod tests;
