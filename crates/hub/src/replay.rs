//! Reading the log for subscribers that are behind the memory window, on threads that may wait.
//!
//! A shard never waits for a disk: it asks here and goes on; the answer comes through its inbox.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use gush_log::{Log, Offset};
use gush_middleware::PanicGuard;

use crate::close::CloseReason;
use crate::conflate::Conflation;
use crate::frame::Framing;
use crate::panics::Panics;
use crate::selection::Selection;
use crate::shard::{AbortOnPanic, Command, Inbox, SubscriberKey};
use reader::Reader;
use stretch::{Gauge, Recent, Spot, Stretch};

// Framed events, shared by all who need them.
pub(crate) mod stretch;

// What is gone from the log.
mod damage;

// From the log to a stretch.
mod reader;

// Buffers of stretches.
mod pool;

// What stands before the data of events that follow each other.
mod opening;

pub(crate) use damage::{Damage, Gap};

/// Helper threads. Two keep one slow read from holding up every other; more would only queue on
/// the same disk.
const THREADS: usize = 2;

/// How much nicer than the shards the helpers are (`nice`): where cores are short, live events go
/// first. Ours: a third of a shard's share.
const NICENESS: i32 = 5;

/// Stretches kept for whoever needs the same ones next, and their bytes. Ours: a crowd that
/// resumes at nearly the same id is spread over few of them.
const RECENT_MAX: usize = 64;
const RECENT_BYTES_MAX: usize = 16 << 20;

/// How long they are kept when nobody asks: with the storm over its memory goes back.
const RECENT_KEPT: Duration = Duration::from_secs(1);

/// The next part of the log, please.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) place: Place,
    /// Framed bytes after which the chunk is full (a larger single event still goes whole).
    pub(crate) bytes_max: usize,
    /// Who waits for it; `None`: nobody yet.
    pub(crate) asker: Option<Asker>,
    /// How many stretches are framed after it without being asked for.
    pub(crate) ahead: u32,
}

/// Which stretch of the log is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) from: Offset,
    /// A part of the event at `from` is out.
    pub(crate) is_begun: bool,
    pub(crate) selection: Arc<Selection>,
    pub(crate) framing: Framing,
}

/// A subscriber that waits for a read.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) key: SubscriberKey,
    /// Held by the shard while the subscriber waits: once it is gone nothing is read.
    pub(crate) claim: Weak<()>,
}

impl Request {
    fn is_withdrawn(&self) -> bool {
        let asker = self.asker.as_ref();
        asker.is_some_and(|asker| asker.claim.strong_count() == 0)
    }

    /// What a helper goes on with once this is read.
    fn following(&self, read: &Read) -> Option<Self> {
        let ahead = self.ahead.checked_sub(1)?;
        let stretch = read.outcome.as_ref().ok()?;
        // At the head and before a gap nothing is gained.
        let from = stretch.covers(self.place.from).then(|| stretch.lead())??;
        Some(Self {
            place: Place {
                from,
                is_begun: false,
                ..self.place.clone()
            },
            bytes_max: self.bytes_max,
            asker: None,
            ahead,
        })
    }
}

/// What a helper read for one subscriber.
#[derive(Debug)]
pub struct Chunk {
    pub(crate) key: SubscriberKey,
    pub(crate) read: Read,
}

/// What a helper read.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) outcome: Result<Arc<Stretch>, Failure>,
    /// The events before the stretch that are gone, if any are.
    pub(crate) gap: Option<Gap>,
}

/// Why there is nothing to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The log could not be read.
    Log,
    /// The reading itself panicked.
    Panicked,
}

impl Failure {
    /// Why a subscriber that waited for it is closed.
    pub(crate) const fn reason(self) -> CloseReason {
        match self {
            Self::Log => CloseReason::InternalError,
            Self::Panicked => CloseReason::Panic,
        }
    }
}

/// The helper threads and their requests: at most one per subscriber, and one per stretch that is
/// being sent.
#[derive(Debug)]
pub(crate) struct Replayer {
    shared: Arc<Shared>,
    /// What was found damaged so far.
    pub(crate) damage: Arc<Damage>,
    /// All stretches that are held, by helpers, shards or [`Self::recent`].
    pub(crate) gauge: Gauge,
    recent: Arc<Mutex<Recent>>,
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
    /// What helpers are reading. Who wants the same waits with them, for a stretch just framed.
    under_way: Vec<Place>,
    /// Who waits so.
    joined: Vec<Request>,
    stopped: bool,
}

impl Replayer {
    /// Starts the helper threads.
    pub(crate) fn start(
        log: &Arc<dyn Log>,
        conflation: &Arc<Conflation>,
        panics: &Arc<Panics>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let damage = Arc::new(Damage::default());
        let recent = Arc::new(Mutex::new(Recent::new(RECENT_MAX, RECENT_BYTES_MAX)));
        let gauge = Gauge::default();
        let pool = pool::Pool::default();
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let shared = Arc::clone(&shared);
            let panics = Arc::clone(panics);
            let reader = Reader {
                log: Arc::clone(log),
                conflation: Arc::clone(conflation),
                damage: Arc::clone(&damage),
                recent: Arc::clone(&recent),
                gauge: gauge.clone(),
                pool: pool.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("replay-{number}"))
                .spawn(move || {
                    // Outside a read nothing is expected to panic: what a helper left under way
                    // would be waited for without end.
                    let guard = AbortOnPanic;
                    serve(&reader, &shared, &panics.replay);
                    std::mem::forget(guard);
                })?;
            threads.push(thread);
        }
        Ok(Self {
            shared,
            damage,
            gauge,
            recent,
            threads: Mutex::new(threads),
        })
    }

    /// A stretch that was framed lately and that somebody at this spot gets on with. Waits for
    /// nothing but a short lock.
    pub(crate) fn recent(
        &self,
        spot: Spot,
        selection: &Arc<Selection>,
        framing: Framing,
    ) -> Option<Arc<Stretch>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.find(spot, selection, framing)
    }

    /// Lets go of what was framed: other rules hold from now on.
    pub(crate) fn forget(&self) {
        self.recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Where to frame on ahead of a stretch that is being sent; see [`Recent::lead`].
    pub(crate) fn lead(
        &self,
        stretch: &Stretch,
        place: (&Arc<Selection>, Framing),
        count_min: usize,
    ) -> Option<Offset> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.lead(stretch, place, count_min)
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

fn serve(reader: &Reader, shared: &Shared, guard: &PanicGuard) {
    // A kernel that refuses still serves.
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
    while let Some(request) = shared.next(reader) {
        // Whoever waits for the same asks again, so each ends with its own read.
        let read = guard.run("a read of the log", || reader.read(&request));
        let read = read.unwrap_or(Read {
            outcome: Err(Failure::Panicked),
            gap: None,
        });
        // Before the answer: who asks on will not wait for what is there.
        shared.done(&request.place, request.following(&read));
        if let Some(asker) = request.asker {
            let key = asker.key;
            // A shard that has ended has no subscribers left.
            let _ = asker
                .inbox
                .send(Command::Chunk(Box::new(Chunk { key, read })));
        }
    }
}

impl Shared {
    /// Waits for the next request; `None` at the end.
    fn next(&self, reader: &Reader) -> Option<Request> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.stopped {
                return None;
            }
            while let Some(request) = state.requests.pop_front() {
                if request.is_withdrawn() {
                    continue;
                }
                if state.under_way.contains(&request.place) {
                    state.joined.push(request);
                    continue;
                }
                state.under_way.push(request.place.clone());
                return Some(request);
            }
            let is_over = |state: &mut State| state.requests.is_empty() && !state.stopped;
            if reader.keeps_any() {
                let (after, waited) = self
                    .changed
                    .wait_timeout_while(state, RECENT_KEPT, is_over)
                    .unwrap_or_else(PoisonError::into_inner);
                state = after;
                if waited.timed_out() {
                    reader.forget();
                }
            } else {
                state = self
                    .changed
                    .wait_while(state, is_over)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// A place has been read: who waited for it finds it framed. What follows comes last.
    fn done(&self, place: &Place, following: Option<Request>) {
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        state.under_way.retain(|under_way| under_way != place);
        let is_it = |request: &mut Request| request.place == *place;
        let before = state.requests.len();
        for request in state.joined.extract_if(.., is_it) {
            state.requests.push_front(request);
        }
        let has_more = state.requests.len() > before;
        // This helper goes on with it itself, if there is nothing else.
        state.requests.extend(following);
        drop(guard);
        if has_more {
            self.changed.notify_one();
        }
    }
}
