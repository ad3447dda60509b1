//! A subscriber as its shard keeps it: a cursor, a socket, and a few ticks. No queue.

use std::sync::Arc;

use gush_log::Offset;

use super::inbox::{NewSubscriber, SubscriberKey};
use crate::admit::ConnectionPermit;
use crate::matcher_table::MatcherId;
use crate::presence::Present;
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

/// State of one subscriber.
#[derive(Debug)]
pub(super) struct Subscriber {
    pub(super) sink: Sink,
    pub(super) selection: Arc<Selection>,
    pub(super) memberships: Box<[Membership]>,
    /// The first offset it may still need. While `Live` it is only moved by a visit: what lies
    /// between it and the next event for this subscriber was not for it.
    pub(super) cursor: Offset,
    /// Bytes of the frame at `cursor` that are already out.
    pub(super) partial: u32,
    /// Bytes of a heartbeat that are still to go out before anything else.
    pub(super) owed: u8,
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
    pub(super) present: Option<Arc<Present>>,
    /// Held for its drop: the connection counts until the stream ends, not until its head is out.
    pub(super) _permit: Option<ConnectionPermit>,
}

impl Subscriber {
    pub(super) fn new(new: NewSubscriber, memberships: Box<[Membership]>, now: u32) -> Self {
        Self {
            sink: new.sink,
            selection: new.selection,
            memberships,
            cursor: new.start,
            partial: 0,
            owed: 0,
            phase: Phase::Ready,
            discarded: 0,
            last_write_at: now,
            stalled_since: NEVER,
            expires_at: NEVER,
            life_end: NEVER,
            opened_at: now,
            events: 0,
            bytes: 0,
            present: new.present,
            _permit: new.permit,
        }
    }

    /// Whether the peer is what the subscriber waits for: only then does the write timeout run.
    pub(super) fn is_stalled(&self) -> bool {
        self.phase == Phase::Blocked && self.stalled_since != NEVER
    }

    /// Whether what is out so far ends with a whole frame.
    pub(super) const fn at_border(&self) -> bool {
        self.partial == 0 && self.owed == 0
    }
}

/// The subscribers of a shard by place. A place is used again under a new generation.
#[derive(Debug, Default)]
pub(super) struct Subscribers {
    places: Vec<(u32, Option<Box<Subscriber>>)>,
    free: Vec<u32>,
    count: usize,
}

impl Subscribers {
    /// The place the next subscriber gets.
    pub(super) fn next_key(&self) -> SubscriberKey {
        let index = self.free.last().copied().unwrap_or_else(|| {
            u32::try_from(self.places.len()).expect("fewer than 2^32 descriptors")
        });
        let generation = self.places.get(index as usize).map_or(0, |place| place.0);
        SubscriberKey { index, generation }
    }

    /// Puts a subscriber at [`Self::next_key`].
    pub(super) fn insert(&mut self, subscriber: Subscriber) -> SubscriberKey {
        let key = self.next_key();
        let subscriber = Some(Box::new(subscriber));
        if self.free.pop().is_some() {
            self.places[key.index as usize].1 = subscriber;
        } else {
            self.places.push((0, subscriber));
        }
        self.count += 1;
        key
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<Box<Subscriber>> {
        let place = self.places.get_mut(index as usize)?;
        let subscriber = place.1.take()?;
        place.0 = place.0.wrapping_add(1);
        self.free.push(index);
        self.count -= 1;
        Some(subscriber)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut Subscriber> {
        self.places.get_mut(index as usize)?.1.as_deref_mut()
    }

    /// The subscriber of a key, unless it has left and its place is another's.
    pub(super) fn of_key(&mut self, key: SubscriberKey) -> Option<&mut Subscriber> {
        let place = self.places.get_mut(key.index as usize)?;
        if place.0 == key.generation {
            place.1.as_deref_mut()
        } else {
            None
        }
    }

    pub(super) fn generation(&self, index: u32) -> u32 {
        self.places.get(index as usize).map_or(0, |place| place.0)
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// One past the highest place ever used.
    pub(super) fn places(&self) -> u32 {
        u32::try_from(self.places.len()).expect("fewer than 2^32 descriptors")
    }
}
