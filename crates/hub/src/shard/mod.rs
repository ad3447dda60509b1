//! A shard: one thread that owns its sockets, its topic index and its timers, and waits for nothing
//! but its poll.
//!
//! A turn looks at readiness, commands, new events and timers, then writes a slice of what is due.
//! So a broadcast to many never keeps a new event, a timer or a leaving peer waiting for long.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::JoinHandle;
use std::time::Duration;

use gush_log::Offset;
use mio::{Events, Poll, Token, Waker};

use crate::clock::{Clock, TICK_MS, ticks};
use crate::close::CloseReason;
use crate::conflate::Conflation;
use crate::crowd::{Crowd, Place};
use crate::frame::{Frame, Framing};
use crate::matcher_table::{MatcherId, MatcherTable};
use crate::metrics::ShardMetrics;
use crate::panics::Panics;
use crate::policy::PolicyCell;
use crate::replay::Replayer;
use crate::socket::{Heard, Sink, reason_of, table};
use crate::stream_log::StreamRecords;
use crate::window::{Entry, Window};

// What reaches a shard from other threads.
mod inbox;

// Taking subscribers in and letting them go.
mod membership;

// Events that are held back on request.
mod flush;

// The events of one write, for all who need the same ones.
mod batch;

// New events to the subscribers that are up to date.
mod fanout;

// The writes of a sweep, several in a row.
mod volleys;

// One turn after another, and what becomes of a panic in one.
mod turn;

// Subscribers that are behind, until they are up to date.
mod catchup;

// What those are kept in the middle of.
mod behind;

// Heartbeats, timeouts, ends of life, and the drain.
mod timers;

// Streams that are closed for balance.
mod rebalance;

// The slowest readers, when nothing else is left to give up.
mod shed;

// Streams that go on in another process.
mod hand_over;

// Streams that have come from another process.
mod arrived;

// Places for subscribers.
mod places;

// One subscriber's state.
mod subscriber;

// Equal selections, each kept once.
mod selections;

// What goes back to the threads that made it.
mod leftovers;

#[cfg(test)]
mod tests;

// The timers themselves.
mod wheel;

use batch::Batch;
use behind::Behind;
use flush::Held;
use hand_over::Heir;
pub(crate) use inbox::Way;
pub use inbox::{Command, HandOver, Inbox, NewSubscriber, Resumed, ShardPlace, SubscriberKey};
use leftovers::Leftover;
use rebalance::Rebalance;
use selections::Selections;
use subscriber::{Sent, Subscribers};
use turn::{NOBODY, Visit};
use volleys::Fired;
use wheel::Wheel;

/// Visits between two looks at the poll: about two milliseconds of sending.
const SLICE_VISITS: usize = 256;

/// Bytes sent between two looks at the poll, give or take a write: with large events as long as the
/// visits take with small ones.
const SLICE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Most events waiting to be swept; more stay in the window.
const JOBS_MAX: usize = 1024;

/// Most bytes of the frames of waiting events. Once the window has let go of them, each may keep a
/// block of its [`crate::frame::FramePool`] alive.
const JOBS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// User memory of one subscriber: its place and, in tables that double when they grow, its timer,
/// its entry in a matcher's list and later one in the list of free places.
pub(crate) const STREAM_STATE_BYTES: usize =
    subscriber::PLACE_BYTES + 2 * (wheel::LINK_BYTES + 2 * size_of::<u32>());

const WAKE: Token = Token(usize::MAX);

/// What the shards share: each part is either immutable or made for sharing.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) window: Arc<Window>,
    pub(crate) replayer: Arc<Replayer>,
    pub(crate) policy: Arc<PolicyCell>,
    pub(crate) clock: Clock,
    pub(crate) crowd: Arc<Crowd>,
    pub(crate) panics: Arc<Panics>,
    pub(crate) stream_log: Arc<StreamRecords>,
    pub(crate) conflation: Arc<Conflation>,
}

/// Whose descriptor table a shard's sockets are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// The process's.
    Shared,
    /// One of the shard's own.
    Own,
}

/// A shard's thread. What it ends with is dropped by whoever joins it.
pub(crate) type ShardThread = JoinHandle<Option<Arc<Shared>>>;

/// A shard's thread, waiting for its shard, and the ways to it: made before the window, which must
/// know all inboxes, and before anything is open that a table's copy should not hold.
#[derive(Debug)]
pub(crate) struct Seat {
    poll: Poll,
    pub(crate) inbox: Arc<Inbox>,
    /// Into the shard's own table, if it has one.
    pub(crate) sender: Option<Arc<table::Sender>>,
    receiver: Option<table::Receiver>,
    start: SyncSender<Shard>,
    thread: ShardThread,
}

impl Seat {
    /// Has to be called inside the runtime for a table of its own.
    pub(crate) fn new(number: usize, whose: Table) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let (sender, receiver) = match whose {
            Table::Shared => (None, None),
            Table::Own => {
                let (sender, receiver) = table::pair()?;
                (Some(Arc::new(sender)), Some(receiver))
            }
        };
        let (start, started) = mpsc::sync_channel::<Shard>(1);
        let (report, reported) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name(format!("shard-{number}"))
            .spawn(move || {
                let left = match whose {
                    Table::Shared => Ok(()),
                    Table::Own => table::leave_shared_table(),
                };
                let _ = report.send(left);
                let shard = started.recv().ok()?;
                let guard = AbortOnPanic;
                let common = Arc::clone(&shard.shared);
                shard.run();
                std::mem::forget(guard);
                // Dropped by whoever joins: what it holds may own descriptors of the process.
                Some(common)
            })?;
        reported
            .recv()
            .map_err(|_| io::Error::other("the shard's thread has ended"))??;
        Ok(Self {
            poll,
            inbox: Arc::new(Inbox::new(waker)),
            sender,
            receiver,
            start,
            thread,
        })
    }
}

/// An event and the matchers of this shard that it satisfies.
#[derive(Debug)]
struct Job {
    entry: Arc<Entry>,
    matched: Vec<MatcherId>,
    stage: Stage,
}

/// Where an event stands on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Held back until a moment of the hub's clock, or until enough of its rule are held.
    Held { until_ms: u64, rule: u32 },
    /// Its turn comes, or it is being swept.
    Due,
    /// Everybody has been visited; an event before it is still held.
    Swept,
}

/// Which job is being swept, and how far the sweep has come. Lists are swept from their end, so
/// that removing a subscriber (the last one takes its place) never moves an unvisited one to the
/// visited side.
#[derive(Clone, Copy, Debug, Default)]
struct Sweep {
    job: usize,
    matcher: usize,
    /// Subscribers of that matcher's list still to visit; `None` before the list was looked at.
    remaining: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct DrainPlan {
    started_at: u32,
    window_ticks: u32,
    /// How many streams there were, for an even rate.
    total: usize,
    /// How many the hub had.
    crowd: usize,
    closed: usize,
    next_place: u32,
    /// More streams are due to end than one slice took.
    is_late: bool,
}

impl DrainPlan {
    /// Where the stream stands that is closed now.
    #[expect(clippy::cast_precision_loss, reason = "streams of one shard")]
    fn place(&self) -> Place {
        Place {
            crowd: self.crowd,
            window: Duration::from_millis(TICK_MS * u64::from(self.window_ticks)),
            share: self.closed as f64 / self.total.max(1) as f64,
        }
    }
}

/// The state of one shard thread.
pub(crate) struct Shard {
    poll: Poll,
    /// Where sockets come in, if the shard has a descriptor table of its own.
    receiver: Option<table::Receiver>,
    inbox: Arc<Inbox>,
    shared: Arc<Shared>,
    metrics: Arc<ShardMetrics>,
    subscribers: Subscribers,
    selections: Selections,
    matchers: MatcherTable,
    /// The subscribers of each matcher, by matcher id.
    lists: Vec<Vec<u32>>,
    /// The first offset not taken from the window yet.
    head: Offset,
    jobs: VecDeque<Job>,
    jobs_bytes: usize,
    sweep: Sweep,
    held: Held,
    /// The last batch of the sweep in each framing: nearly always the next subscriber's too.
    batches: [Batch; Framing::COUNT],
    fired: Fired,
    /// Deliveries not counted in the metrics yet.
    tally: Tally,
    /// The tick of this turn.
    now: u32,
    visit: Visit,
    /// Subscribers that are behind and may go on.
    ready: VecDeque<SubscriberKey>,
    /// Those of another process that have had no turn here yet.
    arrived: VecDeque<SubscriberKey>,
    behind: Behind,
    wheel: Wheel,
    drain: Option<DrainPlan>,
    /// Where streams go that can go on in another process.
    heir: Option<Heir>,
    rebalance: Option<Rebalance>,
    heartbeat: Frame,
    /// `retry:` lines that a full socket took in part. At most one per subscriber.
    cut_lines: HashMap<u32, Frame>,
    /// Kept between turns for their capacity.
    entries: Vec<Arc<Entry>>,
    commands: VecDeque<Command>,
    leftovers: Vec<Leftover>,
    spare_matched: Vec<Vec<MatcherId>>,
}

impl Shard {
    /// Starts a shard on its thread; it ends after a [`Command::Drain`] once its last stream is
    /// closed.
    pub(crate) fn start(
        seat: Seat,
        shared: Arc<Shared>,
        metrics: Arc<ShardMetrics>,
    ) -> ShardThread {
        let now = shared.clock.tick();
        let state = Self {
            poll: seat.poll,
            receiver: seat.receiver,
            inbox: seat.inbox,
            head: shared.window.next(),
            shared,
            metrics,
            subscribers: Subscribers::default(),
            selections: Selections::default(),
            matchers: MatcherTable::default(),
            lists: Vec::new(),
            jobs: VecDeque::new(),
            jobs_bytes: 0,
            sweep: Sweep::default(),
            held: Held::default(),
            batches: std::array::from_fn(|_| Batch::default()),
            fired: Fired::default(),
            tally: Tally::default(),
            now,
            visit: Visit::default(),
            ready: VecDeque::new(),
            arrived: VecDeque::new(),
            behind: Behind::default(),
            wheel: Wheel::new(now),
            drain: None,
            heir: None,
            rebalance: None,
            heartbeat: Frame::of_text(gush_sse::HEARTBEAT),
            cut_lines: HashMap::new(),
            entries: Vec::new(),
            commands: VecDeque::new(),
            leftovers: Vec::new(),
            spare_matched: Vec::new(),
        };
        // The thread waits for nothing else.
        let _ = seat.start.send(state);
        seat.thread
    }

    // Under its own name in profiles, by which `cargo xtask instructions` knows the thread.
    #[inline(never)]
    fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    // A hub that goes on without one of its shards would leave every n-th
                    // subscriber hanging; what was accepted is in the log.
                    tracing::error!(%error, "a shard's poll failed; the hub ends");
                    std::process::abort();
                }
            }
            self.now = self.shared.clock.tick();
            self.metrics.turn.begin(self.shared.clock.now_ms());
            self.whole_turn(&events);
            self.metrics.turn.end(self.shared.clock.now_ms());
            if self.is_done() {
                return;
            }
        }
    }

    /// Zero while there is work, else until the next timer.
    fn timeout(&self) -> Option<Duration> {
        let is_sweeping = self.jobs.get(self.sweep.job).is_some();
        let has_news = self.subscribers.len() > 0 && self.shared.window.next() > self.head;
        let has_arrivals = !self.arrived.is_empty();
        if is_sweeping || has_news || has_arrivals || self.is_rebalance_late() {
            return Some(Duration::ZERO);
        }
        if let Some(soon) = self.behind.timeout(self.ready.is_empty()) {
            return Some(soon);
        }
        let timer = self.time_to_timer();
        let Some(due_ms) = self.held.due_ms else {
            return timer;
        };
        if self.shared.clock.is_manual() {
            return timer;
        }
        let wait = Duration::from_millis(due_ms.saturating_sub(self.shared.clock.now_ms()));
        Some(timer.map_or(wait, |timer| timer.min(wait)))
    }

    fn time_to_timer(&self) -> Option<Duration> {
        if let Some(plan) = &self.drain {
            let wait_ms = if plan.is_late { 0 } else { TICK_MS };
            return Some(Duration::from_millis(wait_ms));
        }
        let now = self.shared.clock.tick();
        let ahead = self.wheel.ticks_to_next(now)?;
        if self.shared.clock.is_manual() {
            // Whoever moves the clock wakes the shards.
            return if ahead == 0 {
                Some(Duration::ZERO)
            } else {
                None
            };
        }
        let due_ms = u64::from(now + ahead) * TICK_MS;
        Some(Duration::from_millis(
            due_ms.saturating_sub(self.shared.clock.now_ms()),
        ))
    }

    fn on_readiness(&mut self, event: &mio::event::Event) {
        let index = u32::try_from(event.token().0).expect("tokens are places");
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        self.visit.subject = index;
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            let mut discarded = subscriber.discarded;
            let heard = subscriber.sink.hear(&mut discarded);
            subscriber.discarded = discarded;
            if let Heard::End(reason) = heard {
                self.close(index, reason);
                return;
            }
        }
        if event.is_writable() {
            self.on_room(index);
        }
    }

    fn on_room(&mut self, index: u32) {
        self.visit.subject = index;
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        if let Err(error) = subscriber.sink.flush() {
            let reason = reason_of(&error);
            self.close(index, reason);
            return;
        }
        if subscriber.phase == subscriber::Phase::Blocked {
            self.make_ready(index);
        }
    }

    fn obey_commands(&mut self) {
        self.inbox.drain(&mut self.commands);
        // One by one: a panic in one leaves the others where they are.
        while let Some(command) = self.commands.pop_front() {
            match command {
                Command::Subscribe(new) => self.take_in(*new),
                Command::Chunk(chunk) => self.on_chunk(*chunk),
                Command::PipeRoom(key) => {
                    if self.subscribers.of_key(key).is_some() {
                        self.on_room(key.index);
                    }
                }
                Command::PipeLeft(key) => {
                    if self.subscribers.of_key(key).is_some() {
                        self.close(key.index, CloseReason::PeerLeft);
                    }
                }
                Command::Drain(window) => self.begin_drain(ticks(window)),
                Command::HandOver(hand_over) => self.hand_over(*hand_over),
                Command::Rebalance(due) => self.begin_rebalance(due),
                Command::Obeyed(told) => drop(told),
            }
            self.visit.subject = NOBODY;
        }
        self.inbox.put_leftovers(&mut self.leftovers);
    }

    fn is_done(&self) -> bool {
        self.drain.is_some() && self.subscribers.len() == 0 && self.inbox.close_if_empty()
    }
}

/// Deliveries of a slice, counted in the metrics at its end: one shared line a slice instead of one
/// a delivery.
#[derive(Debug, Default)]
struct Tally {
    events: u64,
    bytes: u64,
}

impl Tally {
    fn add(&mut self, sent: Sent) {
        self.events += sent.events;
        self.bytes += sent.bytes;
    }

    fn store(&mut self, metrics: &ShardMetrics) {
        if self.bytes > 0 {
            metrics.delivered(self.events, self.bytes);
            *self = Self::default();
        }
    }
}

/// Ends the process when a thread of the hub that is there but once panics, for the reason given at
/// a shard's poll. To be forgotten where the thread ends in good order.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default();
        tracing::error!(thread = name, "a thread panicked; the hub ends");
        std::process::abort();
    }
}

/// How long the kernel may keep unacknowledged bytes of a subscriber that is behind: longer than
/// `write_timeout`, so that the hub's own reason comes first.
fn blocked_user_timeout_ms(write_timeout: Duration) -> u32 {
    let timeout = write_timeout + Duration::from_secs(10);
    u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX)
}

/// Tells a pipe who its subscriber is; sockets need no telling.
fn introduce(sink: &Sink, inbox: &Arc<Inbox>, key: SubscriberKey) {
    if let Sink::Pipe(pipe) = sink {
        pipe.set_owner(Arc::clone(inbox), key);
    }
}
