//! A shard's turns, and what becomes of a panic in one: the stream that was being served ends, the
//! others go on.
//!
//! One guard stands around a whole turn, so a visit pays for it with a note of who is visited.
//! After a panic the one noted is closed and the turn goes on behind it: what a turn does is kept
//! in the shard (the sweep's place, commands, timers), not on the stack.

use std::sync::Arc;

use gush_middleware::PanicGuard;
use mio::Events;

use super::{Shard, WAKE};
use crate::close::CloseReason;
use crate::matcher_table::MatcherId;

/// Panics without a stream or a matcher to blame, with no whole turn between them, after which the
/// process ends: the shard would not come on any more, and whoever restarts the hub can help it.
/// Ours: far more than a few events that meet the same fault.
const BLAMELESS_PANICS_MAX: u32 = 16;

/// No place of a subscriber.
pub(super) const NOBODY: u32 = u32::MAX;

/// What a turn is at, for the case that it panics.
#[derive(Debug)]
pub(super) struct Visit {
    /// The place of the subscriber that is served.
    pub(super) subject: u32,
    /// Whether the event at the shard's head is being matched.
    pub(super) is_matching: bool,
    /// Matchers that were taken for a newcomer that is in no list yet.
    pub(super) joining: Vec<MatcherId>,
    /// Events of the poll that were looked at.
    heard: usize,
    /// Panics since the last whole turn for which nobody could be blamed.
    blameless: u32,
}

impl Default for Visit {
    fn default() -> Self {
        Self {
            subject: NOBODY,
            is_matching: false,
            joining: Vec::new(),
            heard: 0,
            blameless: 0,
        }
    }
}

impl Shard {
    /// Takes a turn, and goes on with it after each panic.
    pub(super) fn whole_turn(&mut self, events: &Events) {
        let panics = Arc::clone(&self.shared.panics);
        self.visit.heard = 0;
        while panics
            .shard
            .run("a shard's turn", || self.turn(events))
            .is_err()
        {
            self.recover(&panics.shard);
        }
        self.visit.blameless = 0;
    }

    fn turn(&mut self, events: &Events) {
        for event in events.iter().skip(self.visit.heard) {
            self.visit.heard += 1;
            if event.token() != WAKE {
                self.on_readiness(event);
            }
        }
        self.visit.subject = NOBODY;
        self.inbox.rearm();
        self.skip_if_vacant();
        self.obey_commands();
        self.shed_if_asked();
        self.visit.subject = NOBODY;
        self.inbox.set_vacant(self.subscribers.len() == 0);
        self.take_new_events();
        self.fire_timers();
        self.visit.subject = NOBODY;
        self.sweep_slice();
        self.visit.subject = NOBODY;
        self.catch_up_slice();
        self.visit.subject = NOBODY;
        self.arrived_slice();
        self.visit.subject = NOBODY;
        self.tally.store(&self.metrics);
        self.drain_slice();
        self.visit.subject = NOBODY;
        self.rebalance_slice();
        self.visit.subject = NOBODY;
    }

    /// After a panic: whoever was served ends, and what was half done is thrown away.
    fn recover(&mut self, guard: &PanicGuard) {
        let subject = std::mem::replace(&mut self.visit.subject, NOBODY);
        self.settle_after_panic(guard);
        for batch in &mut self.batches {
            batch.clear();
        }
        self.entries.clear();
        let is_matching = std::mem::take(&mut self.visit.is_matching);
        let is_blamed = subject != NOBODY || (is_matching && self.match_one_by_one(guard));
        self.end_after_panic(subject, guard);
        for matcher in std::mem::take(&mut self.visit.joining) {
            let _ = guard.run("letting go of a matcher", || self.matchers.release(matcher));
        }
        if is_blamed {
            return;
        }
        self.visit.blameless += 1;
        if self.visit.blameless > BLAMELESS_PANICS_MAX {
            tracing::error!(
                panics = self.visit.blameless,
                "a shard panics again and again with no stream to end; the hub ends"
            );
            std::process::abort();
        }
    }

    /// Ends the stream, if there was one, that was served when something panicked.
    pub(super) fn end_after_panic(&mut self, subject: u32, guard: &PanicGuard) {
        if subject != NOBODY {
            // What is left of it may panic as well. By then it is out of every table.
            let _ = guard.run("ending a stream that panicked", || {
                self.close(subject, CloseReason::Panic);
            });
        }
    }

    /// Matches the event at the head, in whose matching something panicked, with each matcher by
    /// itself. The streams of those that panic end; the others get the event. Whether there was
    /// one that panicked.
    fn match_one_by_one(&mut self, guard: &PanicGuard) -> bool {
        let mut entries = Vec::new();
        self.shared.window.take(self.head, 1, &mut entries);
        let Some(entry) = entries.pop() else {
            // The window has moved on, and the next turn finds that out.
            return false;
        };
        let mut matched = Vec::new();
        let mut culprits = Vec::new();
        for (id, matcher) in self.matchers.iter() {
            let fits = || entry.topics().any(|topic| matcher.matches(topic));
            match guard.run("a matcher", fits) {
                Ok(true) => matched.push(id),
                Ok(false) => {}
                Err(_) => culprits.push(id),
            }
        }
        for id in &culprits {
            for index in self.lists[id.0 as usize].clone() {
                let _ = guard.run("ending a stream whose matcher panicked", || {
                    self.close(index, CloseReason::Panic);
                });
            }
        }
        self.head = entry.offset().plus(1);
        self.push_job(entry, matched);
        !culprits.is_empty()
    }
}
