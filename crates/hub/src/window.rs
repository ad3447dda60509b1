//! The memory window: the newest events with their frames, the only part of the log shards read.
//!
//! The hub tails its log into the window. A cursor inside the window is served by its shard from
//! here; an older one is read from the log by a helper thread (`replay.rs`).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gush_log::{Event, Offset, Position, Tail};
use gush_sse::EventId;

use crate::frame::Frame;
use crate::shard::Inbox;

/// An event as shards need it.
#[derive(Debug)]
pub struct Entry {
    /// Its place in the log.
    pub position: Position,
    /// Only for subscribers with a matching grant.
    pub is_private: bool,
    /// At least one.
    pub topics: Box<[Box<str>]>,
    /// The publisher's own id, if it gave one.
    pub own_id: Option<EventId>,
    /// The bytes.
    pub frame: Frame,
}

impl Entry {
    /// The place in the log.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.position.offset
    }

    /// The id on the wire.
    #[must_use]
    pub fn wire_id(&self) -> String {
        self.own_id
            .as_ref()
            .map_or_else(|| self.position.to_string(), |id| id.as_str().to_owned())
    }

    fn from_event(event: &Event) -> Self {
        Self {
            position: event.position,
            is_private: event.draft.is_private,
            topics: event.draft.topics.clone(),
            own_id: event.draft.id.clone(),
            frame: Frame::encode(&event.as_record()),
        }
    }

    fn bytes(&self) -> usize {
        let topics: usize = self.topics.iter().map(|topic| topic.len() + 16).sum();
        size_of::<Self>() + self.frame.len() + topics
    }
}

/// The newest events, bounded by count and by bytes.
#[derive(Debug)]
pub struct Window {
    inner: Mutex<Inner>,
    next: AtomicU64,
    bytes_max: usize,
    events_max: usize,
    shards: Vec<Arc<Inbox>>,
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
            next: AtomicU64::new(next.as_u64()),
            bytes_max,
            events_max: events_max.max(1),
            shards,
        }
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

    fn push(&self, entries: Vec<Arc<Entry>>) {
        let Some(last) = entries.last() else { return };
        let next = last.offset().plus(1);
        // Freed after the lock: dropping frames may take long.
        let mut trimmed = Vec::new();
        {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            for entry in entries {
                inner.bytes += entry.bytes();
                inner.entries.push_back(entry);
            }
            while inner.entries.len() > 1
                && (inner.entries.len() > self.events_max || inner.bytes > self.bytes_max)
            {
                if let Some(old) = inner.entries.pop_front() {
                    inner.bytes -= old.bytes();
                    trimmed.push(old);
                }
            }
            self.next.store(next.as_u64(), Ordering::Release);
        }
        drop(trimmed);
    }
}

impl Tail for Window {
    fn committed(&self, events: &[Arc<Event>]) {
        self.push(
            events
                .iter()
                .map(|event| Arc::new(Entry::from_event(event)))
                .collect(),
        );
        for shard in &self.shards {
            shard.wake();
        }
    }
}
