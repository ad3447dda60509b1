//! The trait every log backend fulfils.

use std::fmt;
use std::sync::Arc;

use gush_sse::EventId;

use crate::{Draft, Epoch, Offset, Position, RecordRef, WireId};

/// Called once with the outcome of an append, from any thread. It must not block.
pub type Reply = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// Called once with the outcomes of [`Log::append_batch`], one for each draft and in their order,
/// from any thread. It must not block.
pub type BatchReply = Box<dyn FnOnce(Vec<Result<Position, AppendError>>) + Send>;

/// What became of [`Log::append_at_once`].
#[derive(Debug)]
pub enum AtOnce {
    /// It was appended, or refused.
    Done(Result<Appended, AppendError>),
    /// Nothing: this backend has to wait for something. [`Log::append`] takes the draft.
    MustWait(Draft),
}

/// What an accepted event got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Its place.
    pub position: Position,
    /// The publisher's own id, if it gave one.
    pub own_id: Option<EventId>,
}

impl Appended {
    /// The id subscribers see.
    #[must_use]
    pub fn id(&self) -> WireId<'_> {
        WireId::new(self.own_id.as_ref().map(EventId::as_str), self.position)
    }
}

/// The one reader that is told of events as they become visible.
///
/// Called by the backend in offset order, without a hole, for every visible event once, before
/// the publishers of those events get their replies. Calls never overlap. It must not block and
/// must not call back into the log's `append`.
pub trait Tail: Send + Sync {
    /// New events, oldest first; never empty.
    fn committed(&self, events: &mut dyn Iterator<Item = RecordRef<'_>>);

    /// Has the replies of many appends called, one after the other: `reply_all` calls them. What
    /// they lead to may be kept until it returns and be done for all at once; whoever is woken by
    /// each reply alone takes turns with the log's thread.
    ///
    /// A backend that has many to call at once calls them through this, no lock held; others are
    /// called without. `reply_all` may panic. Replies that it has not called when this returns are
    /// called then.
    fn replying(&self, reply_all: &mut dyn FnMut()) {
        reply_all();
    }
}

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The epoch that new events get.
    pub epoch: Epoch,
    /// The oldest offset still held; equal to `next` when the log is empty.
    pub first: Offset,
    /// The offset the next visible event gets.
    pub next: Offset,
    /// The wire id of the newest visible event; `None` when nothing was ever appended or all is
    /// trimmed.
    pub last_id: Option<Box<str>>,
}

/// Where reading goes on after an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// The event is known (or directly before the oldest held): go on at this offset.
    After(Offset),
    /// No such event, or what followed it is no longer all there.
    Unknown,
    /// Only [`Log::search`] can tell.
    Search,
}

/// How much one [`Log::read`] may hand out.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Stop after this many events; at least 1.
    pub events_max: usize,
    /// Stop once this many bytes of records were looked at (the record that crosses it is still
    /// handed out).
    pub bytes_max: usize,
}

/// Whether the visitor of a read wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop after this event.
    Stop,
    /// Stop before this event: it was not taken, the next read begins with it.
    StopBefore,
}

/// Where a read ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadEnd {
    /// The offset the next read goes on at.
    pub next: Offset,
    /// Events in the range that could not be handed out: trimmed already or damaged. Never
    /// silently: the hub tells the subscriber.
    pub lost: u64,
}

/// An event log. Backends: `memory`, `disk`.
///
/// # Contract
///
/// - One total order: offsets are dense and ascending across epochs. An event becomes visible (to
///   `tail`, `bounds`, `read`) only once it is as durable as configured, and then stays visible
///   until it is trimmed. Nothing visible is ever taken back within an epoch.
/// - `append`, `append_at_once` and `append_batch` may be called from any thread and never block;
///   `reply` is called exactly once, also at close. Events of one caller keep their order.
/// - A batch is many appends for the price of few: its events become visible in their order,
///   perhaps with others between them, perhaps not all at the same moment, and each is stored or
///   refused on its own. The one reply comes when the last of them is decided.
/// - `read` and `search` may block on a disk: never call them on a shard. The other calls do not.
/// - Ids given by publishers need not be unique; the earliest held event with an id counts.
pub trait Log: Send + Sync {
    /// Lets an event wait for the log. How many may wait is bounded; at the bound the reply is
    /// [`AppendErrorKind::Busy`].
    fn append(&self, draft: Draft, reply: Reply);

    /// As `append`, for a backend that need not wait: no reply has to be made, kept and called.
    fn append_at_once(&self, draft: Draft) -> AtOnce {
        AtOnce::MustWait(draft)
    }

    /// As `append` for each of the drafts; lock, wake-up and tail are paid once for many. An empty
    /// batch is answered too.
    fn append_batch(&self, drafts: Vec<Draft>, reply: BatchReply);

    /// Changes how many events may wait, and how many bytes of their records; what waits already
    /// goes on waiting. Does nothing for a backend that lets none wait.
    fn set_waiting_max(&self, events: usize, bytes: usize);

    /// Events that wait now, and bytes of their records.
    fn waiting(&self) -> (usize, usize);

    /// Names the one tail. Called once, before the first append.
    fn set_tail(&self, tail: Arc<dyn Tail>);

    /// What the log holds now.
    fn bounds(&self) -> Bounds;

    /// Where reading goes on after `id`. Never blocks; costs the same whatever the log holds.
    fn locate(&self, id: &str) -> Located;

    /// Finds the earliest held event with a publisher's own id; the offset after it, or `None`.
    /// May block.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the backend cannot be read: not the peer's fault, a retry may help.
    fn search(&self, id: &str) -> Result<Option<Offset>, ReadError>;

    /// Hands events from `from` on to `visit`, in order, until a limit, the head or the visitor
    /// says stop. May block.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when the backend cannot be read.
    fn read(
        &self,
        from: Offset,
        limit: ReadLimit,
        visit: &mut dyn FnMut(&RecordRef<'_>) -> Flow,
    ) -> Result<ReadEnd, ReadError>;

    /// `Err` with the operator's text while appends fail (disk full, closed); cleared by the next
    /// append that succeeds, or sooner when the backend finds by itself that it can write again.
    /// A subscriber is not affected by it.
    ///
    /// # Errors
    ///
    /// The reason of the last failure.
    fn writable(&self) -> Result<(), String>;

    /// Answers everything that waits, syncs, and marks the log as cleanly closed. Later appends get
    /// [`AppendErrorKind::Closed`]. May block; a second call does nothing.
    ///
    /// # Errors
    ///
    /// [`AppendError`] when the last sync fails: the next open treats the log as not closed.
    fn close(&self) -> Result<(), AppendError>;

    /// One line for people: kind, place and durability, e.g. `disk ./data, sync=batch`.
    fn describe(&self) -> String;
}

/// Why an event was not appended. It is not in the log and never becomes visible.
#[derive(Clone, Debug)]
pub struct AppendError {
    /// What a caller decides by.
    pub kind: AppendErrorKind,
    /// For the operator: path, system error.
    pub detail: String,
}

/// The closed list of append failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendErrorKind {
    /// No space left. Temporary: a retry helps once there is space.
    Full,
    /// The disk failed. A retry may help: the next append starts a new segment.
    Failed,
    /// As many events as may wait for the log are waiting. A retry helps.
    Busy,
    /// The event is larger than a record can be. The publisher's fault; a retry does not help.
    TooLarge,
    /// The log is closing. A retry helps after the restart.
    Closed,
}

impl AppendErrorKind {
    /// What a publisher may read.
    #[must_use]
    pub const fn public_text(self) -> &'static str {
        match self {
            Self::Full => "the event log is full (no space left on the hub's disk)",
            Self::Failed => "the event log could not be written",
            Self::Busy => "too many events are waiting for the event log",
            Self::TooLarge => "the event is larger than the event log takes",
            Self::Closed => "the hub is shutting down",
        }
    }
}

impl fmt::Display for AppendError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.kind.public_text(), self.detail)
    }
}

impl std::error::Error for AppendError {}

/// A backend could not be read.
#[derive(Clone, Debug)]
pub struct ReadError {
    /// For the operator: path, system error.
    pub detail: String,
}

impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the event log could not be read: {}", self.detail)
    }
}

impl std::error::Error for ReadError {}
