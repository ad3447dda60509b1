//! A subscriber as its shard keeps it: a cursor, a socket, and a few ticks. No queue.

use std::io;
use std::sync::Arc;

use gush_log::Offset;

use super::batch::Batch;
use super::places::{Place, Places};
use crate::admit::Held;
use crate::matcher_table::MatcherId;
use crate::presence::Attendance;
use crate::replay::stretch::Spot;
use crate::selection::Selection;
use crate::socket::Sink;

/// A tick that never comes.
pub(super) const NEVER: u32 = u32::MAX;

/// How a subscriber stands to the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has had everything the shard has taken in: new events are swept to it.
    Live,
    /// Its socket is full; it goes on from its cursor once there is room.
    Blocked,
    /// It is behind and its turn comes with the next slices.
    Ready,
    /// A helper thread reads the log for it.
    Reading,
}

/// One subscriber's place in the list of one of its matchers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Membership {
    pub(super) matcher: MatcherId,
    pub(super) position: u32,
}

/// A subscriber's memberships. Nearly all have one matcher, so one takes no allocation.
#[derive(Debug)]
pub(super) enum Memberships {
    One(Membership),
    /// Ascending by matcher.
    Many(Box<[Membership]>),
}

/// None yet; takes no allocation either.
impl Default for Memberships {
    fn default() -> Self {
        Self::Many(Box::default())
    }
}

impl Memberships {
    pub(super) fn as_slice(&self) -> &[Membership] {
        match self {
            Self::One(membership) => std::slice::from_ref(membership),
            Self::Many(memberships) => memberships,
        }
    }

    pub(super) fn as_mut_slice(&mut self) -> &mut [Membership] {
        match self {
            Self::One(membership) => std::slice::from_mut(membership),
            Self::Many(memberships) => memberships,
        }
    }
}

/// State of one subscriber: two cache lines, of which a sweep touches little else.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) sink: Sink,
    pub(super) selection: Arc<Selection>,
    pub(super) memberships: Memberships,
    /// The first offset it may still need. While `Live` it is only moved by a visit: what lies
    /// between it and the next event for this subscriber was not for it.
    pub(super) cursor: Offset,
    /// Bytes of the frame at `cursor` that are already out.
    pub(super) partial: u32,
    /// Bytes of a heartbeat or a `retry:` line that are still to go out before anything else.
    pub(super) owed: u8,
    /// How large the crowd was when its delay was drawn.
    pub(super) told_level: u8,
    pub(super) phase: Phase,
    /// Bytes that came in behind the request and were thrown away.
    pub(super) discarded: u32,
    pub(super) last_write_at: u32,
    /// Since when the socket has taken nothing; `NEVER` while it is not blocked.
    pub(super) stalled_since: u32,
    pub(super) expires_at: u32,
    pub(super) life_end: u32,
    pub(super) opened_at: u32,
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// Held for its drop, too.
    pub(super) present: Option<Attendance>,
    /// Held for its drop: a connection counts until the stream ends, not until its head is out.
    pub(super) held: Box<Held>,
}

/// What a write brought.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// Events that went out whole.
    pub(super) events: u64,
    pub(super) bytes: u64,
    /// Nothing of the batch is left.
    pub(super) is_whole: bool,
}

impl Subscriber {
    /// Whether the peer is what the subscriber waits for: only then does the write timeout run.
    pub(super) fn is_stalled(&self) -> bool {
        self.phase == Phase::Blocked && self.stalled_since != NEVER
    }

    /// Whether what is out so far ends with a whole frame.
    pub(super) const fn at_border(&self) -> bool {
        self.partial == 0 && self.owed == 0
    }

    /// Where it stands, for what it may go on with.
    pub(super) const fn spot(&self, version: u64) -> Spot {
        Spot {
            cursor: self.cursor,
            is_begun: self.partial > 0,
            version,
        }
    }

    /// Whether a heartbeat may go out now: nothing is half sent, nor about to be sent.
    pub(super) fn may_beat(&self) -> bool {
        self.at_border() && matches!(self.phase, Phase::Live | Phase::Reading)
    }

    /// How far it is behind the log, which is most just before it gets something or leaves. One
    /// that is up to date is not behind, whatever came that was not for it.
    pub(super) fn note_lag(&mut self, next: Offset) -> u64 {
        if self.phase == Phase::Live || next < self.cursor {
            return 0;
        }
        let lag = next.since(self.cursor);
        self.held.greatest_lag = lag.max(self.held.greatest_lag);
        lag
    }

    /// Writes a batch in one call, without what is already out of its first event, and moves the
    /// cursor behind it or to where the socket stopped.
    #[inline]
    pub(super) fn send(&mut self, batch: &Batch, now: u32) -> io::Result<Sent> {
        if batch.len() == 0 {
            self.cursor = batch.next();
            return Ok(Sent {
                events: 0,
                bytes: 0,
                is_whole: true,
            });
        }
        let taken = self.sink.write(&batch.outgoing(), self.partial as usize)?;
        Ok(self.settle(batch, taken, now))
    }

    /// Notes what the socket has taken of a batch, of which `partial` bytes were out before.
    #[inline]
    pub(super) fn settle(&mut self, batch: &Batch, taken: usize, now: u32) -> Sent {
        if self.partial as usize + taken < batch.len() {
            return self.stop_within(batch, taken, now);
        }
        let events = batch.events();
        self.cursor = batch.next();
        self.partial = 0;
        self.last_write_at = now;
        self.events += events;
        self.bytes += taken as u64;
        Sent {
            events,
            bytes: taken as u64,
            is_whole: true,
        }
    }

    /// The socket took `taken` bytes of a batch, and not all that there were.
    #[cold]
    fn stop_within(&mut self, batch: &Batch, taken: usize, now: u32) -> Sent {
        let stop = batch.stopped_at(self.partial as usize + taken);
        self.cursor = stop.cursor;
        self.partial = stop.partial;
        if taken > 0 {
            self.last_write_at = now;
        }
        self.events += stop.whole;
        self.bytes += taken as u64;
        Sent {
            events: stop.whole,
            bytes: taken as u64,
            is_whole: false,
        }
    }
}

/// The subscribers of a shard by place.
pub(super) type Subscribers = Places<Subscriber>;

/// Bytes of user memory a subscriber's state takes, a sweep's two cache lines.
pub(super) const PLACE_BYTES: usize = size_of::<Place<Subscriber>>();
const _: () = assert!(PLACE_BYTES <= 128);
