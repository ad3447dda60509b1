//! Taking subscribers in and letting them go.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;

use super::inbox::{NewSubscriber, SubscriberKey};
use super::leftovers::Leftover;
use super::subscriber::{Membership, Memberships, NEVER, Phase, Subscriber};
use super::{Shard, introduce};
use crate::admit::Held;
use crate::clock::{TICK_MS, ticks};
use crate::close::CloseReason;
use crate::frame::Frame;
use crate::matcher_table::MatcherId;
use crate::selection::Selection;
use crate::socket::{Arriving, Sink, reason_of};
use crate::stream_log::Sums;

impl Memberships {
    /// Whether one of them is among the matchers, which ascend as these do. The fewer are looked
    /// for among the more: a stream may hold a thousand, an event mostly satisfies one.
    pub(super) fn have_any_of(&self, matchers: &[MatcherId]) -> bool {
        let mine = self.as_slice();
        // Matchers that came with one stream mostly stand together: two looks tell nearly always.
        let spans = (mine.first().zip(mine.last())).zip(matchers.first().zip(matchers.last()));
        let may_meet = spans.is_some_and(|((first, last), (first_asked, last_asked))| {
            first.matcher <= *last_asked && *first_asked <= last.matcher
        });
        if !may_meet {
            return false;
        }
        if mine.len() <= matchers.len() {
            let is_asked = |membership: &Membership| matchers.binary_search(&membership.matcher);
            return mine.iter().any(|membership| is_asked(membership).is_ok());
        }
        matchers.iter().any(|matcher| {
            mine.binary_search_by_key(matcher, |membership| membership.matcher)
                .is_ok()
        })
    }
}

impl Shard {
    /// Gives a new subscriber its place. It starts behind, at its cursor, and catches up from
    /// there: nothing can fall between its admission and now.
    ///
    /// It has its place before its socket and its matchers are looked at, so that whatever goes
    /// wrong there ends it as it would any other.
    pub(super) fn take_in(&mut self, new: NewSubscriber) {
        let now = self.now;
        let sink = match self.arrive(new.sink) {
            Ok(sink) => sink,
            Err(error) => {
                tracing::error!(%error, "a subscriber's socket did not arrive");
                return;
            }
        };
        let selection = self.selections.intern(&new.selection);
        let policy = self.shared.policy.load();
        let resumed = new.resumed;
        // In this order: whoever sees that it is open and not behind sees that it is live.
        self.metrics.behind.add(1);
        self.metrics.opened(sink.kind());
        self.shared.crowd.join();
        new.place.settle();
        let client = new.client.as_ref();
        let records = &self.shared.stream_log;
        let name = client.map(|client| records.opened(client, &selection.matchers));
        let held = Box::new(Held {
            connection: new.connection,
            subject: new.subject.map(Box::new),
            name,
            greatest_lag: 0,
        });
        self.leftovers
            .push(Leftover::new(new.selection, new.client));
        let key = self.subscribers.insert(Subscriber {
            sink,
            memberships: Memberships::default(),
            selection: Arc::clone(&selection),
            cursor: new.start,
            partial: resumed.map_or(0, |resumed| resumed.partial),
            owed: 0,
            told_level: new.told_level,
            phase: Phase::Ready,
            discarded: 0,
            last_write_at: now.saturating_sub(resumed.map_or(0, |resumed| resumed.silent_ticks)),
            stalled_since: NEVER,
            // Rounded down: a stream never outlives its token.
            expires_at: new
                .expires_at_ms
                .map_or(NEVER, |at| u32::try_from(at / TICK_MS).unwrap_or(NEVER)),
            // Each at its own moment in the last fifth, so that streams that began together do
            // not end together.
            life_end: policy.settings.max_stream_life.map_or(NEVER, |life| {
                let life = ticks(life);
                let left = resumed.and_then(|resumed| resumed.life_ticks);
                now.saturating_add(left.unwrap_or_else(|| life - fastrand::u32(0..=life / 5)))
            }),
            opened_at: now,
            events: 0,
            bytes: 0,
            present: new.present,
            held,
        });
        self.visit.subject = key.index;
        if !self.watch_sink(key) {
            return;
        }
        let memberships = self.join_lists(&selection, key.index);
        if let Some(subscriber) = self.subscribers.of_key(key) {
            subscriber.memberships = memberships;
        }
        self.set_timer(key.index, now);
        self.stand_in_line(key, resumed.is_some());
        if self.heir.is_some() {
            self.give(key.index);
        }
    }

    /// Has the poll look at a new subscriber's sink; `false` when it could not, and the stream is
    /// over.
    fn watch_sink(&mut self, key: SubscriberKey) -> bool {
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return false;
        };
        let token = Token(key.index as usize);
        if let Err(error) = subscriber.sink.register(self.poll.registry(), token) {
            tracing::error!(%error, "a subscriber's socket could not be watched");
            self.close(key.index, CloseReason::InternalError);
            return false;
        }
        introduce(&subscriber.sink, &self.inbox, key);
        true
    }

    /// A sink that this thread can use.
    fn arrive(&mut self, arriving: Arriving) -> io::Result<Sink> {
        match (arriving, &mut self.receiver) {
            (Arriving::Here(sink), _) => Ok(sink),
            (Arriving::Sent(ticket, wrapping), Some(receiver)) => {
                Ok(Sink::around(receiver.take(ticket)?, wrapping))
            }
            (Arriving::Sent(..), None) => {
                unreachable!("sockets are sent to shards with a table of their own only")
            }
        }
    }

    /// Finds or makes the matchers first, each noted until all are there: a panic in one of them
    /// leaves no list changed.
    fn join_lists(&mut self, selection: &Selection, index: u32) -> Memberships {
        if let [matcher] = &*selection.matchers {
            let id = self.matchers.intern(matcher);
            return Memberships::One(self.join_list(id, index));
        }
        for matcher in &*selection.matchers {
            let id = self.matchers.intern(matcher);
            self.visit.joining.push(id);
        }
        let mut ids = std::mem::take(&mut self.visit.joining);
        ids.sort_unstable();
        ids.dedup_by(|later, earlier| {
            let is_twice = later == earlier;
            if is_twice {
                // The same matcher twice on one stream counts once.
                self.matchers.release(*later);
            }
            is_twice
        });
        let joined = ids.iter().map(|id| self.join_list(*id, index));
        Memberships::Many(joined.collect())
    }

    fn join_list(&mut self, matcher: MatcherId, index: u32) -> Membership {
        let place = matcher.0 as usize;
        if self.lists.len() <= place {
            self.lists.resize_with(place + 1, Vec::new);
        }
        let list = &mut self.lists[place];
        let position = u32::try_from(list.len()).expect("fewer than 2^32 subscribers");
        list.push(index);
        Membership { matcher, position }
    }

    fn leave_lists(&mut self, memberships: &[Membership]) {
        for membership in memberships {
            let list = &mut self.lists[membership.matcher.0 as usize];
            list.swap_remove(membership.position as usize);
            if let Some(moved) = list.get(membership.position as usize).copied() {
                self.moved(moved, *membership);
            } else if list.is_empty() {
                *list = Vec::new();
            } else if list.capacity() > 8 * list.len().max(64) {
                // Memory comes back after a crowd has left.
                list.shrink_to(2 * list.len());
            }
        }
        // After all lists: whatever a matcher does, none of them names a stream that is gone.
        for membership in memberships {
            self.matchers.release(membership.matcher);
        }
    }

    /// The last of a list has taken the place of one that left.
    fn moved(&mut self, index: u32, to: Membership) {
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        let memberships = subscriber.memberships.as_mut_slice();
        let at = memberships.binary_search_by_key(&to.matcher, |membership| membership.matcher);
        debug_assert!(at.is_ok(), "it was in the list");
        if let Ok(at) = at {
            memberships[at].position = to.position;
        }
    }

    /// Ends a stream for a reason, with nothing more said to the peer.
    pub(super) fn close(&mut self, index: u32, reason: CloseReason) {
        self.close_with(index, reason, None);
    }

    /// Ends a stream; `last_words` go out if the socket has room and stands at a frame's border.
    pub(super) fn close_with(
        &mut self,
        index: u32,
        reason: CloseReason,
        last_words: Option<&Frame>,
    ) {
        let Some(subscriber) = self.take_out(index, reason) else {
            return;
        };
        let at_border = subscriber.at_border();
        drop(subscriber.present);
        subscriber.sink.close(reason, last_words, at_border);
    }

    /// Takes a subscriber out of every table; its sink is as it was.
    pub(super) fn take_out(&mut self, index: u32, reason: CloseReason) -> Option<Subscriber> {
        let generation = self.subscribers.generation(index);
        let mut subscriber = self.subscribers.remove(index)?;
        if subscriber.sink.kind().has_socket() {
            self.inbox.release();
        }
        self.shared.crowd.leave();
        self.wheel.clear(index);
        self.behind.forget(index);
        self.cut_lines.remove(&index);
        self.metrics.closed(subscriber.sink.kind(), reason);
        if subscriber.phase != Phase::Live {
            self.metrics.behind.sub(1);
        }
        self.record_end(&mut subscriber, reason);
        self.selections.release(&subscriber.selection);
        self.leave_lists(subscriber.memberships.as_slice());
        if self.subscribers.is_piece_empty(index)
            && let Some(places) = self.subscribers.give_back()
        {
            self.wheel.give_back(places);
            self.ready.shrink_to(2 * self.ready.len());
        }
        let key = SubscriberKey { index, generation };
        tracing::debug!(
            reason = reason.name(),
            subscriber = ?key,
            events = subscriber.events,
            bytes = subscriber.bytes,
            lag = self.head.since(subscriber.cursor),
            ticks = self.shared.clock.tick().saturating_sub(subscriber.opened_at),
            "stream closed"
        );
        Some(subscriber)
    }

    /// Hands the record of a stream's end to whoever writes it.
    fn record_end(&self, subscriber: &mut Subscriber, reason: CloseReason) {
        subscriber.note_lag(self.shared.window.next());
        let Some(name) = subscriber.held.name.take() else {
            return;
        };
        let lived = self
            .shared
            .clock
            .tick()
            .saturating_sub(subscriber.opened_at);
        let sums = Sums {
            duration: Duration::from_millis(u64::from(lived) * TICK_MS),
            events: subscriber.events,
            bytes: subscriber.bytes,
            greatest_lag: subscriber.held.greatest_lag,
        };
        let matchers = &subscriber.selection.matchers;
        self.shared.stream_log.closed(name, matchers, &sums, reason);
    }

    /// Ends a stream for a socket's error.
    pub(super) fn fail(&mut self, index: u32, error: &std::io::Error) {
        self.close(index, reason_of(error));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn finds_what_both_have(mine in bits(), asked in bits()) {
            let memberships: Box<[_]> = ids(mine)
                .map(|matcher| Membership { matcher, position: 7 })
                .collect();
            let asked_ids: Vec<_> = ids(asked).collect();
            let memberships = Memberships::Many(memberships);
            prop_assert_eq!(memberships.have_any_of(&asked_ids), mine & asked != 0);
        }
    }

    /// Sets of all sizes, empty ones too.
    fn bits() -> impl Strategy<Value = u32> {
        (any::<u32>(), any::<u32>(), 0..4).prop_map(|(bits, mask, kind)| match kind {
            0 => 0,
            1 => 1 << (bits & 31),
            2 => bits & mask,
            _ => bits,
        })
    }

    fn ids(bits: u32) -> impl Iterator<Item = MatcherId> {
        (0..32)
            .filter(move |bit| bits >> bit & 1 == 1)
            .map(MatcherId)
    }
}
