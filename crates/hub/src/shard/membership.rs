//! Taking subscribers in and letting them go.

use mio::Token;

use super::inbox::{NewSubscriber, SubscriberKey};
use super::subscriber::{Membership, NEVER, Subscriber};
use super::{Shard, introduce};
use crate::clock::{TICK_MS, ticks};
use crate::close::CloseReason;
use crate::frame::Frame;
use crate::matcher_table::MatcherId;
use crate::socket::reason_of;

impl Shard {
    /// Gives a new subscriber its place. It starts behind, at its cursor, and catches up from
    /// there: nothing can fall between its admission and now.
    pub(super) fn take_in(&mut self, mut new: NewSubscriber) {
        let now = self.shared.clock.tick();
        let key = self.subscribers.next_key();
        let token = Token(key.index as usize);
        self.metrics.opened(new.sink.kind());
        if let Err(error) = new.sink.register(self.poll.registry(), token) {
            tracing::error!(%error, "a subscriber's socket could not be watched");
            self.metrics
                .closed(new.sink.kind(), CloseReason::InternalError);
            if let Some(present) = &new.present {
                self.shared.presence.leave(present);
            }
            new.sink.close(CloseReason::InternalError, None, false);
            return;
        }
        introduce(&new.sink, &self.inbox, key);
        let expires_at_ms = new.expires_at_ms;
        let memberships = self.join_lists(&new, key.index);
        let mut subscriber = Subscriber::new(new, memberships, now);
        // Rounded down: a stream never outlives its token.
        subscriber.expires_at =
            expires_at_ms.map_or(NEVER, |at| u32::try_from(at / TICK_MS).unwrap_or(NEVER));
        let policy = self.shared.policy.load();
        // Each at its own moment in the last fifth, so that streams that began together do not
        // end together.
        subscriber.life_end = policy.settings.max_stream_life.map_or(NEVER, |life| {
            let life = ticks(life);
            now.saturating_add(life - fastrand::u32(0..=life / 5))
        });
        let inserted = self.subscribers.insert(subscriber);
        debug_assert_eq!(inserted, key);
        self.metrics.behind.add(1);
        self.set_timer(key.index, now);
        self.ready.push_back(key);
    }

    fn join_lists(&mut self, new: &NewSubscriber, index: u32) -> Box<[Membership]> {
        let mut ids: Vec<MatcherId> = Vec::with_capacity(new.selection.matchers.len());
        for matcher in &new.selection.matchers {
            let id = self.matchers.intern(matcher);
            if ids.contains(&id) {
                // The same matcher twice on one stream counts once.
                self.matchers.release(id);
            } else {
                ids.push(id);
            }
        }
        ids.iter()
            .map(|id| {
                let place = id.0 as usize;
                if self.lists.len() <= place {
                    self.lists.resize_with(place + 1, Vec::new);
                }
                let list = &mut self.lists[place];
                let position = u32::try_from(list.len()).expect("fewer than 2^32 subscribers");
                list.push(index);
                Membership {
                    matcher: *id,
                    position,
                }
            })
            .collect()
    }

    fn leave_lists(&mut self, memberships: &[Membership]) {
        for membership in memberships {
            let list = &mut self.lists[membership.matcher.0 as usize];
            list.swap_remove(membership.position as usize);
            if let Some(moved) = list.get(membership.position as usize).copied() {
                self.moved(moved, *membership);
            } else if list.is_empty() {
                *list = Vec::new();
            }
            self.matchers.release(membership.matcher);
        }
    }

    /// The last of a list has taken the place of one that left.
    fn moved(&mut self, index: u32, to: Membership) {
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        for membership in &mut subscriber.memberships {
            if membership.matcher == to.matcher {
                membership.position = to.position;
            }
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
        let generation = self.subscribers.generation(index);
        let Some(subscriber) = self.subscribers.remove(index) else {
            return;
        };
        let subscriber = *subscriber;
        self.wheel.clear(index);
        self.leave_lists(&subscriber.memberships);
        self.metrics.closed(subscriber.sink.kind(), reason);
        if subscriber.phase != super::subscriber::Phase::Live {
            self.metrics.behind.sub(1);
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
        if let Some(present) = &subscriber.present {
            self.shared.presence.leave(present);
        }
        let at_border = subscriber.at_border();
        subscriber.sink.close(reason, last_words, at_border);
    }

    /// Ends a stream for a socket's error.
    pub(super) fn fail(&mut self, index: u32, error: &std::io::Error) {
        self.close(index, reason_of(error));
    }
}
