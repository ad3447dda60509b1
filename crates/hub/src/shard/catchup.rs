//! Subscribers that are behind: from their cursor through log and window until they are up to
//! date. The switch from replay to live is in [`Shard::catch_up`] and nowhere else.

use std::sync::Arc;

use super::Shard;
use super::batch::Batch;
use super::inbox::SubscriberKey;
use super::subscriber::{NEVER, Phase};
use crate::close::CloseReason;
use crate::dialect;
use crate::frame::Frame;
use crate::replay::{Chunk, Gap, Request};
use crate::socket::Outgoing;

/// Turns given between two looks at the poll. Each may write up to 256 KiB, far more than a visit
/// of the sweep, so there are fewer of them.
const CATCH_UP_VISITS: usize = 32;

/// Window entries looked at in one turn of one subscriber; then others have theirs.
const TURN_ENTRIES: usize = 256;

impl Shard {
    /// Puts a subscriber that is behind in line for its next turn.
    pub(super) fn make_ready(&mut self, index: u32) {
        let generation = self.subscribers.generation(index);
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        subscriber.phase = Phase::Ready;
        self.ready.push_back(SubscriberKey { index, generation });
    }

    /// Gives the subscribers in line a turn each.
    pub(super) fn catch_up_slice(&mut self) {
        for _ in 0..CATCH_UP_VISITS.min(self.ready.len()) {
            let Some(key) = self.ready.pop_front() else {
                return;
            };
            let ready = self
                .subscribers
                .of_key(key)
                .is_some_and(|found| found.phase == Phase::Ready);
            if ready {
                self.catch_up(key);
            }
        }
    }

    fn catch_up(&mut self, key: SubscriberKey) {
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        if subscriber.owed > 0 && !self.pay_owed(key.index) {
            return;
        }
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        if subscriber.cursor >= self.head && subscriber.partial == 0 {
            // Everything before the shard's head is out, everything from it on comes as jobs, and
            // jobs below the cursor are passed over: no gap, no repeat.
            subscriber.phase = Phase::Live;
            self.metrics.behind.sub(1);
            self.unstall(key.index);
            self.set_timer(key.index, self.now);
            return;
        }
        let from = subscriber.cursor;
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        let in_window = self.shared.window.take(from, TURN_ENTRIES, &mut entries);
        if in_window && !entries.is_empty() {
            let mut batch = std::mem::take(&mut self.single);
            if let Some(subscriber) = self.subscribers.of_key(key) {
                batch.gather_entries(&entries, subscriber);
            }
            self.send_single(key, batch);
        } else {
            self.ask_for_chunk(key);
        }
        entries.clear();
        self.entries = entries;
    }

    fn ask_for_chunk(&mut self, key: SubscriberKey) {
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        subscriber.phase = Phase::Reading;
        self.metrics.replay_reads.add(1);
        self.shared.replayer.ask(Request {
            inbox: Arc::clone(&self.inbox),
            key,
            from: subscriber.cursor,
            selection: Arc::downgrade(&subscriber.selection),
            framing: subscriber.sink.framing(),
        });
    }

    /// Takes what a helper read, if the subscriber is still there.
    pub(super) fn on_chunk(&mut self, chunk: &Chunk) {
        let key = chunk.key;
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        if subscriber.phase != Phase::Reading {
            return;
        }
        if subscriber.owed > 0 && !self.pay_owed(key.index) {
            // Read again once the socket has room.
            return;
        }
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        let stuck = chunk.next <= subscriber.cursor && self.head > subscriber.cursor;
        if chunk.failed || (stuck && chunk.marks.is_empty()) {
            self.close(key.index, CloseReason::InternalError);
            return;
        }
        if let Some(gap) = chunk.gap
            && !self.tell_gap(key, gap)
        {
            return;
        }
        let mut batch = std::mem::take(&mut self.single);
        batch.take_framed(chunk.bytes.clone(), &chunk.marks, chunk.next);
        self.send_single(key, batch);
    }

    /// Events the subscriber needed are gone: it hears of it, or is closed so that the next
    /// answer's header tells. `false` when it is gone.
    fn tell_gap(&mut self, key: SubscriberKey, gap: Gap) -> bool {
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return false;
        };
        if subscriber.at_border() && subscriber.selection.told_until >= Some(gap.until) {
            return true;
        }
        if !subscriber.selection.wants_gap || !subscriber.at_border() {
            self.metrics.gaps.add(1);
            self.close(key.index, CloseReason::Gap);
            return false;
        }
        let notice = Frame::of_text(dialect::gap_lost(gap).as_bytes());
        let length = notice.framed(subscriber.sink.framing()).len();
        match subscriber.sink.write(&Outgoing::one(&notice), 0) {
            Ok(taken) if taken == length => {
                self.metrics.gaps.add(1);
                true
            }
            Ok(0) => {
                // The loss is found again by the next read.
                self.block(key.index, false);
                false
            }
            Ok(_) => {
                self.close(key.index, CloseReason::Gap);
                false
            }
            Err(error) => {
                self.fail(key.index, &error);
                false
            }
        }
    }

    /// Writes a batch to a subscriber that is behind; if all of it went out, another turn comes.
    /// The batch is kept for its capacity.
    fn send_single(&mut self, key: SubscriberKey, mut batch: Batch) {
        if self.write_single(key, &batch) {
            self.make_ready(key.index);
        }
        batch.clear();
        self.single = batch;
    }

    /// Whether all of it went out.
    fn write_single(&mut self, key: SubscriberKey, batch: &Batch) -> bool {
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return false;
        };
        if subscriber.partial > 0 && batch.first() != Some(subscriber.cursor) {
            // The event that is half out is no longer there to be finished.
            self.close(key.index, CloseReason::Gap);
            return false;
        }
        match subscriber.send(batch, self.now) {
            Ok(sent) => {
                self.tally.add(sent);
                if !sent.is_whole {
                    self.block(key.index, sent.bytes > 0);
                } else if sent.bytes > 0 {
                    self.unstall(key.index);
                }
                sent.is_whole
            }
            Err(error) => {
                self.fail(key.index, &error);
                false
            }
        }
    }

    /// Finishes a heartbeat that went out in part; `false` when the socket is still full.
    fn pay_owed(&mut self, index: u32) -> bool {
        let heartbeat = self.heartbeat.clone();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return false;
        };
        let length = heartbeat.framed(subscriber.sink.framing()).len();
        let skip = length - usize::from(subscriber.owed);
        match subscriber.sink.write(&Outgoing::one(&heartbeat), skip) {
            Ok(taken) => {
                subscriber.owed -= u8::try_from(taken).expect("a heartbeat has a few bytes");
                if subscriber.owed == 0 {
                    self.unstall(index);
                    return true;
                }
                self.block(index, taken > 0);
                false
            }
            Err(error) => {
                self.fail(index, &error);
                false
            }
        }
    }

    /// The socket took everything: the write timeout stops. What the subscriber waits for from now
    /// on, if anything, is the hub.
    fn unstall(&mut self, index: u32) {
        let policy = self.shared.policy.load();
        let now = self.shared.clock.tick();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        if subscriber.stalled_since != NEVER {
            subscriber.stalled_since = NEVER;
            let timeout = policy.settings.tcp_user_timeout.as_millis();
            subscriber
                .sink
                .set_user_timeout_ms(u32::try_from(timeout).unwrap_or(u32::MAX));
            self.set_timer(index, now);
        }
    }
}
