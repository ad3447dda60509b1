//! The memory window: the newest events with their frames, the only part of the log shards read.
//!
//! The hub tails its log into the window. A cursor inside the window is served by its shard from
//! here; an older one is read from the log by a helper thread (`replay.rs`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gush_log::{Offset, Position, RecordRef, Tail};

use crate::conflate::{Conflation, Slot};
use crate::frame::{Frame, FramePool};
use crate::shard::Inbox;

/// An event as shards need it. Its bytes lie in the pool's blocks.
#[derive(Debug)]
pub struct Entry {
    /// Its place in the log.
    pub position: Position,
    /// Only for subscribers with a matching grant.
    pub is_private: bool,
    /// The events that may stand for it; `None`: none.
    pub slot: Option<Slot>,
    /// Each topic behind its length in two bytes.
    topics: Bytes,
    /// What goes to sockets.
    pub frame: Frame,
}

impl Entry {
    /// The place in the log.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.position.offset
    }

    /// Its topics, at least one.
    pub fn topics(&self) -> impl Iterator<Item = &str> + Clone {
        Topics(&self.topics)
    }

    fn from_record(event: &RecordRef<'_>, slot: Option<Slot>, pool: &mut FramePool) -> Self {
        Self {
            slot,
            position: event.position,
            is_private: event.is_private,
            topics: pool.pack(|out| {
                for topic in event.topics.iter() {
                    let length = u16::try_from(topic.len()).expect("topics are under 64 KiB");
                    out.extend_from_slice(&length.to_ne_bytes());
                    out.extend_from_slice(topic.as_bytes());
                }
            }),
            frame: pool.encode(event),
        }
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.frame.len() + self.topics.len()
    }

    /// Lets go of the pool's bytes, so that only the place is kept.
    fn empty(&mut self) {
        self.topics = Bytes::new();
        self.frame = Frame::of_framed(Bytes::new());
    }
}

#[derive(Clone)]
struct Topics<'a>(&'a [u8]);

impl<'a> Iterator for Topics<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (length, rest) = self.0.split_first_chunk::<2>()?;
        let (topic, rest) = rest.split_at_checked(usize::from(u16::from_ne_bytes(*length)))?;
        self.0 = rest;
        Some(std::str::from_utf8(topic).expect("packed from texts"))
    }
}

/// Places of trimmed entries kept for new ones.
const SPARE_MAX: usize = 1024;

/// What new entries are made from, so that in a steady state none of them takes memory anew.
#[derive(Debug)]
struct Maker {
    pool: FramePool,
    spare: Vec<Arc<Entry>>,
}

impl Maker {
    fn make(&mut self, event: &RecordRef<'_>, slot: Option<Slot>) -> Arc<Entry> {
        let entry = Entry::from_record(event, slot, &mut self.pool);
        if let Some(mut place) = self.spare.pop()
            && let Some(free) = Arc::get_mut(&mut place)
        {
            *free = entry;
            return place;
        }
        Arc::new(entry)
    }

    /// Keeps the places of entries that nobody looks at any more.
    fn take_back(&mut self, trimmed: &mut Vec<Arc<Entry>>) {
        for mut place in trimmed.drain(..) {
            if self.spare.len() < SPARE_MAX
                && let Some(entry) = Arc::get_mut(&mut place)
            {
                entry.empty();
                self.spare.push(place);
            }
        }
    }
}

/// The newest events, bounded by count and by bytes.
#[derive(Debug)]
pub struct Window {
    inner: Mutex<Inner>,
    /// Taken by the log alone, which calls for one group of events at a time.
    maker: Mutex<(Maker, Vec<Arc<Entry>>)>,
    next: AtomicU64,
    bytes_max: usize,
    events_max: usize,
    shards: Vec<Arc<Inbox>>,
    conflation: Option<Arc<Conflation>>,
}

#[derive(Debug, Default)]
struct Inner {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

impl Window {
    /// An empty window at `next`. `events_max` and `bytes_max` are at least one event: the newest
    /// always stays, whatever its size.
    #[must_use]
    pub fn new(next: Offset, bytes_max: usize, events_max: usize, shards: Vec<Arc<Inbox>>) -> Self {
        Self {
            inner: Mutex::default(),
            maker: Mutex::new((
                Maker {
                    pool: FramePool::new(bytes_max),
                    spare: Vec::new(),
                },
                Vec::new(),
            )),
            next: AtomicU64::new(next.as_u64()),
            bytes_max,
            events_max: events_max.max(1),
            shards,
            conflation: None,
        }
    }

    /// Has the newest events of each slot noted.
    #[must_use]
    pub fn conflating(mut self, conflation: &Arc<Conflation>) -> Self {
        self.conflation = Some(Arc::clone(conflation));
        self
    }

    /// The offset after the newest event.
    #[must_use]
    pub fn next(&self) -> Offset {
        Offset::from_u64(self.next.load(Ordering::Acquire))
    }

    /// Appends the entries of `[from, from + count_max)` to `out`; `false` when `from` lies before
    /// the window, so that only the log has it. Holds the lock for `count_max` reference counts.
    pub fn take(&self, from: Offset, count_max: usize, out: &mut Vec<Arc<Entry>>) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(front) = inner.entries.front() else {
            return from >= self.next();
        };
        if from < front.offset() {
            return false;
        }
        let skip = usize::try_from(from.since(front.offset())).unwrap_or(usize::MAX);
        out.extend(inner.entries.iter().skip(skip).take(count_max).cloned());
        true
    }

    /// Moves new entries in and trimmed ones out of `entries`.
    fn exchange(&self, entries: &mut Vec<Arc<Entry>>) {
        let Some(last) = entries.last() else { return };
        let next = last.offset().plus(1);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in entries.drain(..) {
            inner.bytes += entry.bytes();
            inner.entries.push_back(entry);
        }
        while inner.entries.len() > 1
            && (inner.entries.len() > self.events_max || inner.bytes > self.bytes_max)
        {
            if let Some(old) = inner.entries.pop_front() {
                inner.bytes -= old.bytes();
                entries.push(old);
            }
        }
        self.next.store(next.as_u64(), Ordering::Release);
    }
}

impl Tail for Window {
    fn committed(&self, events: &mut dyn Iterator<Item = RecordRef<'_>>) {
        let mut maker = self.maker.lock().unwrap_or_else(PoisonError::into_inner);
        let (maker, entries) = &mut *maker;
        let lens = self
            .conflation
            .as_ref()
            .map(|known| known.lens(self.next()));
        // Noted before it can be seen: whoever is told that a newer one stands for an event finds
        // that one.
        entries.extend(events.map(|event| {
            let slot = lens.as_ref().and_then(|lens| lens.note(&event));
            maker.make(&event, slot)
        }));
        self.exchange(entries);
        for shard in &self.shards {
            shard.wake_for_events();
        }
        // After the lock and the wake-ups: letting go of frames may take long.
        maker.take_back(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> gush_sse::Topic {
        gush_sse::Topic::parse(text).expect("a topic")
    }

    #[test]
    fn topics_are_packed_and_unpacked() {
        let position = Position {
            epoch: gush_log::Epoch::from_u64(1),
            offset: Offset::FIRST,
        };
        let draft = gush_log::Draft {
            topics: ["a", "é/{x}", &"b".repeat(4096)].map(topic).into(),
            is_private: false,
            id: None,
            kind: None,
            retry_ms: None,
            conflation: gush_log::Conflation::default(),
            data: "".into(),
        };
        let event = draft.as_record(position, 0);
        let entry = Entry::from_record(&event, None, &mut FramePool::new(1 << 20));
        let topics: Vec<_> = entry.topics().collect();
        assert_eq!(topics, ["a", "é/{x}", "b".repeat(4096).as_str()]);
    }
}
