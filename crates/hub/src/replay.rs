//! Reading the log for subscribers that are behind the memory window, on threads that may wait.
//!
//! A shard never waits for a disk: it asks here and goes on; the answer comes through its inbox.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;

use bytes::Bytes;
use gush_log::{Flow, Log, Offset, ReadLimit};

use crate::frame::{Framing, append_framed};
use crate::selection::Selection;
use crate::shard::{Command, Inbox, SubscriberKey};

/// Helper threads. Two keep one slow read from holding up every other; more would only queue on
/// the same disk.
const THREADS: usize = 2;

/// Most log bytes looked at for one request: what keeps many replays fair to each other.
const SCAN_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most events looked at for one request.
const SCAN_EVENTS_MAX: usize = 32 * 1024;

/// Most comparisons of an event with a matcher for one request.
const SCAN_COMPARISONS_MAX: usize = 256 * 1024;

/// Large events kept framed, and their bytes in all. A socket takes such an event in many parts,
/// and without them it would be read and framed anew for each part.
const LARGE_EVENTS_MAX: usize = 16;
const LARGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Framed bytes after which a chunk is full (a larger single event still goes whole): about what a
/// subscriber's socket takes at once, since what it does not take is read again later.
const CHUNK_BYTES: usize = 128 * 1024;

/// A subscriber's next part of the log, please.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) key: SubscriberKey,
    pub(crate) from: Offset,
    /// Gone with the subscriber: then nothing is read for it.
    pub(crate) selection: Weak<Selection>,
    pub(crate) framing: Framing,
}

/// The events for one subscriber in a stretch of the log, framed and joined.
#[derive(Debug)]
pub struct Chunk {
    pub(crate) key: SubscriberKey,
    pub(crate) bytes: Bytes,
    /// For each event its offset and where it ends in `bytes`.
    pub(crate) marks: Vec<(Offset, usize)>,
    /// Where the next read goes on.
    pub(crate) next: Offset,
    /// The events before the first one of this stretch that are gone, if any are.
    pub(crate) gap: Option<Gap>,
    pub(crate) failed: bool,
}

/// Events that a subscriber needed and that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first one.
    pub from: Offset,
    /// The offset after the last one.
    pub until: Offset,
    /// Dropped by retention; else their records are damaged.
    pub is_trimmed: bool,
}

/// Damaged stretches of the log that replays have come upon.
///
/// Kept so that a subscriber can be told at its next request: a plain one cannot be told on a
/// stream that is already open.
#[derive(Debug, Default)]
pub(crate) struct Damage(Mutex<Vec<Gap>>);

/// Most stretches remembered; what more are met closes streams without being announced.
const DAMAGE_MAX: usize = 1024;

impl Damage {
    /// The last damaged stretch that ends behind `start`, if there is any.
    pub(crate) fn last_after(&self, start: Offset) -> Option<Gap> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .filter(|gap| gap.until > start)
            .max_by_key(|gap| gap.until)
            .copied()
    }

    fn remember(&self, gap: Gap, first: Offset) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|gap| gap.until > first);
        if known.contains(&gap) || known.len() == DAMAGE_MAX {
            return;
        }
        known.push(gap);
        drop(known);
        tracing::warn!(
            from = gap.from.as_u64(),
            until = gap.until.as_u64(),
            "stored events are damaged and lost; subscribers that need them are told"
        );
    }
}

/// An event larger than a chunk, framed.
#[derive(Debug)]
struct LargeEvent {
    offset: Offset,
    framing: Framing,
    is_private: bool,
    topics: Box<[Box<str>]>,
    bytes: Bytes,
}

/// The large events that replays came upon last, oldest first.
#[derive(Debug, Default)]
struct LargeEvents(Mutex<VecDeque<Arc<LargeEvent>>>);

impl LargeEvents {
    fn get(&self, offset: Offset, framing: Framing) -> Option<Arc<LargeEvent>> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |event: &&Arc<LargeEvent>| event.offset == offset && event.framing == framing;
        events.iter().find(is_it).cloned()
    }

    fn keep(&self, event: LargeEvent) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push_back(Arc::new(event));
        let is_over = |events: &VecDeque<Arc<LargeEvent>>| {
            let bytes: usize = events.iter().map(|event| event.bytes.len()).sum();
            events.len() > LARGE_EVENTS_MAX || (bytes > LARGE_BYTES_MAX && events.len() > 1)
        };
        while is_over(&events) {
            events.pop_front();
        }
    }
}

/// The helper threads and their requests: at most one request per subscriber.
#[derive(Debug)]
pub(crate) struct Replayer {
    shared: Arc<Shared>,
    /// What was found damaged so far.
    pub(crate) damage: Arc<Damage>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    requests: VecDeque<Request>,
    stopped: bool,
}

impl Replayer {
    /// Starts the helper threads.
    pub(crate) fn start(log: &Arc<dyn Log>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let damage = Arc::new(Damage::default());
        let large = Arc::new(LargeEvents::default());
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let shared = Arc::clone(&shared);
            let reader = Reader {
                log: Arc::clone(log),
                damage: Arc::clone(&damage),
                large: Arc::clone(&large),
            };
            let thread = std::thread::Builder::new()
                .name(format!("replay-{number}"))
                .spawn(move || serve(&reader, &shared))?;
            threads.push(thread);
        }
        Ok(Self {
            shared,
            damage,
            threads: Mutex::new(threads),
        })
    }

    /// Queues a request; the answer is a [`Command::Chunk`].
    pub(crate) fn ask(&self, request: Request) {
        let mut state = self
            .shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.requests.push_back(request);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Ends the threads; what is queued is dropped, since the shards are gone by then.
    pub(crate) fn stop(&self) {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .stopped = true;
        self.shared.changed.notify_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

/// What a helper thread reads with.
struct Reader {
    log: Arc<dyn Log>,
    damage: Arc<Damage>,
    large: Arc<LargeEvents>,
}

fn serve(reader: &Reader, shared: &Shared) {
    loop {
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let request = loop {
            if state.stopped {
                return;
            }
            if let Some(request) = state.requests.pop_front() {
                break request;
            }
            state = shared
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let Some(selection) = request.selection.upgrade() else {
            continue;
        };
        let chunk = reader.chunk(&request, &selection);
        // A shard that has ended has no subscribers left.
        let _ = request.inbox.send(Command::Chunk(Box::new(chunk)));
    }
}

impl Reader {
    fn chunk(&self, request: &Request, selection: &Selection) -> Chunk {
        let large = self.large.get(request.from, request.framing);
        if let Some(event) = large.filter(|event| {
            let topics = event.topics.iter().map(AsRef::as_ref);
            selection.wants(topics, event.is_private)
        }) {
            return Chunk {
                key: request.key,
                bytes: event.bytes.clone(),
                marks: vec![(event.offset, event.bytes.len())],
                next: event.offset.plus(1),
                gap: None,
                failed: false,
            };
        }
        self.read(request, selection)
    }

    /// Reads until the chunk is full, a limit, the head or the next gap. A gap is only reported at
    /// the start of a chunk, so that everything before it is delivered first.
    fn read(&self, request: &Request, selection: &Selection) -> Chunk {
        let mut bytes = Vec::new();
        let mut marks = Vec::new();
        let mut expected = request.from;
        let mut first_found = None;
        let comparisons = selection.matchers.len() + selection.grants.len();
        let limit = ReadLimit {
            events_max: (SCAN_COMPARISONS_MAX / comparisons.max(1)).clamp(64, SCAN_EVENTS_MAX),
            bytes_max: SCAN_BYTES_MAX,
        };
        let end = self.log.read(request.from, limit, &mut |record| {
            let offset = record.offset();
            if offset > expected && expected > request.from {
                return Flow::StopBefore;
            }
            first_found.get_or_insert(offset);
            expected = offset.plus(1);
            if selection.wants(record.topics.iter(), record.is_private) {
                let begun_at = bytes.len();
                append_framed(&record, request.framing, &mut bytes);
                marks.push((offset, bytes.len()));
                if bytes.len() - begun_at > CHUNK_BYTES {
                    self.large.keep(LargeEvent {
                        offset,
                        framing: request.framing,
                        is_private: record.is_private,
                        topics: record.topics.iter().map(Box::from).collect(),
                        bytes: Bytes::copy_from_slice(&bytes[begun_at..]),
                    });
                }
            }
            if bytes.len() >= CHUNK_BYTES {
                Flow::Stop
            } else {
                Flow::Continue
            }
        });
        let (next, gap_until, failed) = match end {
            // What is missing at the end is the next chunk's gap, unless this one has nothing else.
            Ok(end) if first_found.is_none() => (end.next, end.next, false),
            Ok(_) => (expected, first_found.unwrap_or(request.from), false),
            Err(error) => {
                tracing::error!(%error, "replay failed; the subscriber is closed and can resume");
                (request.from, request.from, true)
            }
        };
        let gap = (gap_until > request.from).then(|| self.gap(request.from, gap_until));
        Chunk {
            key: request.key,
            bytes: bytes.into(),
            marks,
            next,
            gap,
            failed,
        }
    }

    fn gap(&self, from: Offset, until: Offset) -> Gap {
        let first = self.log.bounds().first;
        let is_trimmed = until <= first;
        let gap = Gap {
            from,
            until,
            is_trimmed,
        };
        if !is_trimmed {
            self.damage.remember(gap, first);
        }
        gap
    }
}
