//! Reading the log for subscribers that are behind the memory window, on threads that may wait.
//!
//! A shard never waits for a disk: it asks here and goes on; the answer comes through its inbox.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
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
    pub(crate) selection: Arc<Selection>,
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
    /// Events of the stretch that are gone.
    pub(crate) lost: u64,
    pub(crate) failed: bool,
}

/// The helper threads and their requests: at most one request per subscriber.
#[derive(Debug)]
pub(crate) struct Replayer {
    shared: Arc<Shared>,
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
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let log = Arc::clone(log);
            let shared = Arc::clone(&shared);
            let thread = std::thread::Builder::new()
                .name(format!("replay-{number}"))
                .spawn(move || serve(&*log, &shared))?;
            threads.push(thread);
        }
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    /// Queues a request; the answer is a [`Command::Chunk`].
    pub(crate) fn ask(&self, request: Request) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests.push_back(request);
        drop(state);
        self.shared.changed.notify_one();
    }

    /// Ends the threads; what is queued is dropped, since the shards are gone by then.
    pub(crate) fn stop(&self) {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.shared.changed.notify_all();
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}

fn serve(log: &dyn Log, shared: &Shared) {
    loop {
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let request = loop {
            if state.stopped {
                return;
            }
            if let Some(request) = state.requests.pop_front() {
                break request;
            }
            state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let chunk = read(log, &request);
        request.inbox.send(Command::Chunk(Box::new(chunk)));
    }
}

fn read(log: &dyn Log, request: &Request) -> Chunk {
    let mut bytes = Vec::new();
    let mut marks = Vec::new();
    let limit = ReadLimit { events_max: SCAN_EVENTS_MAX, bytes_max: SCAN_BYTES_MAX };
    let end = log.read(request.from, limit, &mut |record| {
        if request.selection.wants(record.topics.iter(), record.is_private) {
            append_framed(&record, request.framing, &mut bytes);
            marks.push((record.offset(), bytes.len()));
        }
        if bytes.len() >= CHUNK_BYTES { Flow::Stop } else { Flow::Continue }
    });
    let (next, lost, failed) = match end {
        Ok(end) => (end.next, end.lost, false),
        Err(error) => {
            tracing::error!(%error, "replay failed; the subscriber is closed and can resume");
            (request.from, 0, true)
        }
    };
    Chunk { key: request.key, bytes: bytes.into(), marks, next, lost, failed }
}
