//! Heartbeats, timeouts, ends of life, and the drain.

use gush_middleware::is_outdated;

use super::subscriber::{NEVER, Phase};
use super::{DrainPlan, SLICE_VISITS, Shard};
use crate::clock::ticks;
use crate::close::CloseReason;
use crate::crowd::{self, Place};
use crate::frame::Frame;
use crate::socket::Outgoing;

/// How soon a heartbeat is thought of again that could not go out: a second. Many may wait for
/// their turn at once, and a look at each of them in every tick would keep them waiting.
const LOOK_AGAIN_TICKS: u32 = 10;

/// How much of a line went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Whole,
    /// Its beginning: the rest is owed.
    Begun,
    Nothing,
}

impl Shard {
    /// Sets a subscriber's one timer to whatever comes first for it.
    pub(super) fn set_timer(&mut self, index: u32, now: u32) {
        let policy = self.shared.policy.load();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        let mut deadline = subscriber.expires_at.min(subscriber.life_end);
        if subscriber.is_stalled() {
            let timeout = ticks(policy.settings.write_timeout).max(1);
            deadline = deadline.min(subscriber.stalled_since.saturating_add(timeout));
        }
        let beat = ticks(policy.settings.heartbeat);
        // A full socket takes no heartbeat either.
        if beat > 0 && subscriber.phase != Phase::Blocked {
            // A little early, each by another amount, so that the heartbeats of all who got the
            // same broadcast do not come due in the same tick for ever after.
            let early = fastrand::u32(0..=beat / 8);
            let due = subscriber.last_write_at.saturating_add(beat - early);
            let soonest = if subscriber.may_beat() {
                1
            } else {
                LOOK_AGAIN_TICKS
            };
            deadline = deadline.min(due.max(now + soonest));
        }
        if deadline == NEVER {
            self.wheel.clear(index);
        } else {
            self.wheel.set(index, deadline);
        }
    }

    /// Handles the timers that are due, a slice at a time.
    pub(super) fn fire_timers(&mut self) {
        let now = self.now;
        for _ in 0..SLICE_VISITS {
            let Some(index) = self.wheel.pop_due(now) else {
                return;
            };
            self.visit.subject = index;
            self.on_timer(index, now);
        }
    }

    fn on_timer(&mut self, index: u32, now: u32) {
        let policy = self.shared.policy.load();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        let write_timeout = ticks(policy.settings.write_timeout).max(1);
        let beat = ticks(policy.settings.heartbeat);
        let ended = if subscriber.expires_at <= now {
            Some(CloseReason::TokenExpired)
        } else if subscriber.life_end <= now {
            Some(CloseReason::StreamLife)
        } else if subscriber.is_stalled()
            && now.saturating_sub(subscriber.stalled_since) >= write_timeout
        {
            Some(CloseReason::WriteTimeout)
        } else {
            None
        };
        if let Some(reason) = ended {
            if reason == CloseReason::StreamLife {
                self.send_waiting(index);
            }
            self.close(index, reason);
            return;
        }
        let silent = now.saturating_sub(subscriber.last_write_at);
        if beat > 0 && subscriber.may_beat() {
            // Streams with many events have no heartbeats, but their timers come due all the same.
            if is_outdated(
                subscriber.told_level,
                self.shared.crowd.level(&policy.settings),
            ) {
                self.tell_anew(index, now);
            } else if silent >= beat - beat / 8 {
                let heartbeat = self.heartbeat.clone();
                if self.say(index, &heartbeat, now) == Said::Whole {
                    self.metrics.heartbeats.add(1);
                }
            }
        }
        self.set_timer(index, now);
    }

    /// Tells a subscriber a delay for a crowd of another size than it was told for.
    fn tell_anew(&mut self, index: u32, now: u32) {
        let told = self.shared.crowd.tell(&self.shared.policy.load().settings);
        if let Some(line) = told.frame() {
            if self.say(index, &line, now) == Said::Nothing {
                // Its next timer tries again.
                return;
            }
            self.metrics.retold.add(1);
        }
        if let Some(subscriber) = self.subscribers.get_mut(index) {
            subscriber.told_level = told.level;
        }
    }

    /// Writes a line that is no event. What the socket does not take of a line that is begun goes
    /// out before anything else.
    fn say(&mut self, index: u32, line: &Frame, now: u32) -> Said {
        let unvisited = self.first_unvisited();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return Said::Nothing;
        };
        let length = line.framed(subscriber.sink.framing()).len();
        let taken = match subscriber.sink.write(&Outgoing::one(line), 0) {
            Ok(taken) => taken,
            Err(error) => {
                self.fail(index, &error);
                return Said::Nothing;
            }
        };
        subscriber.last_write_at = now;
        if taken == length {
            return Said::Whole;
        }
        // Even that does not fit: the subscriber is behind by its rest.
        let owed = if taken == 0 { 0 } else { length - taken };
        subscriber.owed = u8::try_from(owed).expect("such a line has a few bytes");
        if owed > 0 {
            self.cut_lines.insert(index, line.clone());
        }
        if subscriber.phase == Phase::Live {
            subscriber.cursor = subscriber.cursor.max(unvisited);
            self.metrics.behind.add(1);
            self.block(index, false);
        }
        if owed > 0 { Said::Begun } else { Said::Nothing }
    }

    /// Starts ending all streams at a steady rate over the window. A drain that is under way ends
    /// with this window, if that is sooner.
    pub(super) fn begin_drain(&mut self, window_ticks: u32) {
        if let Some(plan) = &mut self.drain {
            let elapsed = self.shared.clock.tick().saturating_sub(plan.started_at);
            plan.window_ticks = plan.window_ticks.min(elapsed.saturating_add(window_ticks));
            return;
        }
        self.drain = Some(DrainPlan {
            started_at: self.shared.clock.tick(),
            window_ticks,
            total: self.subscribers.len(),
            crowd: self.shared.crowd.streams(),
            closed: 0,
            next_place: 0,
            is_late: false,
        });
    }

    /// Ends as many streams as are due by now; all that are left at the end of the window.
    pub(super) fn drain_slice(&mut self) {
        let Some(mut plan) = self.drain else {
            return;
        };
        let elapsed = self.shared.clock.tick().saturating_sub(plan.started_at);
        let over = elapsed >= plan.window_ticks;
        let due = if over {
            usize::MAX
        } else {
            plan.total * elapsed as usize / plan.window_ticks as usize
        };
        let mut visits = 0;
        while plan.closed < due && visits < SLICE_VISITS && self.subscribers.len() > 0 {
            if plan.next_place >= self.subscribers.places() {
                // Streams that were handed over meanwhile sit in places already passed.
                plan.next_place = 0;
            }
            let index = plan.next_place;
            plan.next_place += 1;
            visits += 1;
            if self.subscribers.get_mut(index).is_some() {
                plan.closed += 1;
                // Before it is done: after a panic the drain goes on behind it.
                self.drain = Some(plan);
                self.visit.subject = index;
                self.close_with_retry(index, CloseReason::Drain, plan.place());
            }
        }
        plan.is_late = plan.closed < due && self.subscribers.len() > 0;
        self.drain = Some(plan);
    }

    /// Ends one of many, and tells it when to come back by its place among them.
    pub(super) fn close_with_retry(&mut self, index: u32, reason: CloseReason, place: Place) {
        let told = crowd::tell_drained(&self.shared.policy.load().settings, place);
        let words = told.frame();
        self.send_waiting(index);
        self.close_with(index, reason, words.as_ref());
    }
}
