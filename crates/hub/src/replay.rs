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
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let log = Arc::clone(log);
            let shared = Arc::clone(&shared);
            let damage = Arc::clone(&damage);
            let thread = std::thread::Builder::new()
                .name(format!("replay-{number}"))
                .spawn(move || serve(&*log, &shared, &damage))?;
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

fn serve(log: &dyn Log, shared: &Shared, damage: &Damage) {
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
        let chunk = read(log, &request, &selection, damage);
        // A shard that has ended has no subscribers left.
        let _ = request.inbox.send(Command::Chunk(Box::new(chunk)));
    }
}

/// Reads until the chunk is full, a limit, the head or the next gap. A gap is only reported at the
/// start of a chunk, so that everything before it is delivered first.
fn read(log: &dyn Log, request: &Request, selection: &Selection, damage: &Damage) -> Chunk {
    let mut bytes = Vec::new();
    let mut marks = Vec::new();
    let mut expected = request.from;
    let mut first_found = None;
    let limit = ReadLimit {
        events_max: SCAN_EVENTS_MAX,
        bytes_max: SCAN_BYTES_MAX,
    };
    let end = log.read(request.from, limit, &mut |record| {
        let offset = record.offset();
        if offset > expected && expected > request.from {
            return Flow::StopBefore;
        }
        first_found.get_or_insert(offset);
        expected = offset.plus(1);
        if selection.wants(record.topics.iter(), record.is_private) {
            append_framed(&record, request.framing, &mut bytes);
            marks.push((offset, bytes.len()));
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
    let gap = (gap_until > request.from).then(|| {
        let first = log.bounds().first;
        let is_trimmed = gap_until <= first;
        let gap = Gap {
            from: request.from,
            until: gap_until,
            is_trimmed,
        };
        if !is_trimmed {
            damage.remember(gap, first);
        }
        gap
    });
    Chunk {
        key: request.key,
        bytes: bytes.into(),
        marks,
        next,
        gap,
        failed,
    }
}
