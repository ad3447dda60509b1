//! Subscribers that are behind: from their cursor through log and window until they are up to
//! date. The switch from replay to live is in [`Shard::catch_up`] and nowhere else.

use std::sync::Arc;

use gush_log::Offset;

use super::Shard;
use super::fanout::WRITE_BYTES_MAX;
use super::inbox::SubscriberKey;
use super::subscriber::{NEVER, Phase};
use crate::close::CloseReason;
use crate::dialect;
use crate::frame::Frame;
use crate::replay::{Chunk, Gap, Request};
use crate::socket::WRITE_FRAMES_MAX;
use crate::window::Entry;

/// Turns given between two looks at the poll. Each may write up to 256 KiB, far more than a visit
/// of the sweep, so there are fewer of them.
const CATCH_UP_VISITS: usize = 32;

/// Window entries looked at in one turn of one subscriber; then others have theirs.
const TURN_ENTRIES: usize = 256;

/// What came of a write.
enum Written {
    /// All of it: go on.
    All,
    /// The socket is full or the stream is over: nothing more to do now.
    Stopped,
}

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
            self.set_timer(key.index, self.shared.clock.tick());
            return;
        }
        let from = subscriber.cursor;
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        let in_window = self.shared.window.take(from, TURN_ENTRIES, &mut entries);
        if in_window && !entries.is_empty() {
            self.catch_up_from(key, &entries);
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

    fn catch_up_from(&mut self, key: SubscriberKey, entries: &[Arc<Entry>]) {
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return;
        };
        let selection = Arc::clone(&subscriber.selection);
        let mut frames: Vec<&Frame> = Vec::with_capacity(WRITE_FRAMES_MAX);
        let mut offsets = Vec::with_capacity(WRITE_FRAMES_MAX);
        let mut next = subscriber.cursor;
        let mut bytes = 0;
        for entry in entries {
            if frames.len() == WRITE_FRAMES_MAX || bytes >= WRITE_BYTES_MAX {
                break;
            }
            next = entry.offset().plus(1);
            let topics = entry.topics.iter().map(AsRef::as_ref);
            if selection.wants(topics, entry.is_private) {
                frames.push(&entry.frame);
                offsets.push(entry.offset());
                bytes += entry.frame.len();
            }
        }
        let framing = subscriber.sink.framing();
        let mut end = 0;
        let marks: Vec<(Offset, usize)> = frames
            .iter()
            .zip(&offsets)
            .map(|(frame, offset)| {
                end += frame.framed(framing).len();
                (*offset, end)
            })
            .collect();
        if let Written::All = self.write_marked(key, &frames, &marks, next) {
            self.make_ready(key.index);
        }
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
        let frame = Frame::of_framed(chunk.bytes.clone());
        let frames: &[&Frame] = if chunk.marks.is_empty() {
            &[]
        } else {
            &[&frame]
        };
        if let Written::All = self.write_marked(key, frames, &chunk.marks, chunk.next) {
            self.make_ready(key.index);
        }
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
        match subscriber.sink.write(&[&notice], 0) {
            Ok(taken) if taken == length => {
                self.metrics.gaps.add(1);
                true
            }
            Ok(0) => {
                // The loss is found again by the next read.
                self.block(key.index, self.shared.clock.tick(), false);
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

    /// Writes frames whose events end at `marks`; moves the cursor to `next`, or to where the
    /// socket stopped.
    fn write_marked(
        &mut self,
        key: SubscriberKey,
        frames: &[&Frame],
        marks: &[(Offset, usize)],
        next: Offset,
    ) -> Written {
        let now = self.shared.clock.tick();
        let Some(subscriber) = self.subscribers.of_key(key) else {
            return Written::Stopped;
        };
        let skip = subscriber.partial as usize;
        let total = marks.last().map_or(0, |mark| mark.1);
        if skip > 0 && marks.first().is_none_or(|mark| mark.0 != subscriber.cursor) {
            // The event that is half out is no longer there to be finished.
            self.close(key.index, CloseReason::Gap);
            return Written::Stopped;
        }
        if total == 0 {
            subscriber.cursor = next;
            return Written::All;
        }
        match subscriber.sink.write(frames, skip) {
            Ok(taken) if skip + taken == total => {
                subscriber.cursor = next;
                subscriber.partial = 0;
                subscriber.last_write_at = now;
                subscriber.events += marks.len() as u64;
                subscriber.bytes += taken as u64;
                self.metrics.delivered(marks.len() as u64, taken as u64);
                self.unstall(key.index);
                Written::All
            }
            Ok(taken) => {
                let reached = skip + taken;
                let whole = marks.partition_point(|mark| mark.1 <= reached);
                let begun_at = whole.checked_sub(1).map_or(0, |last| marks[last].1);
                subscriber.cursor = marks[whole].0;
                subscriber.partial =
                    u32::try_from(reached - begun_at).expect("frames are under 4 GiB");
                subscriber.events += whole as u64;
                subscriber.bytes += taken as u64;
                self.metrics.delivered(whole as u64, taken as u64);
                self.block(key.index, now, taken > 0);
                Written::Stopped
            }
            Err(error) => {
                self.fail(key.index, &error);
                Written::Stopped
            }
        }
    }

    /// Finishes a heartbeat that went out in part; `false` when the socket is still full.
    fn pay_owed(&mut self, index: u32) -> bool {
        let heartbeat = self.heartbeat.clone();
        let now = self.shared.clock.tick();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return false;
        };
        let length = heartbeat.framed(subscriber.sink.framing()).len();
        let skip = length - usize::from(subscriber.owed);
        match subscriber.sink.write(&[&heartbeat], skip) {
            Ok(taken) => {
                subscriber.owed -= u8::try_from(taken).expect("a heartbeat has a few bytes");
                if subscriber.owed == 0 {
                    self.unstall(index);
                    return true;
                }
                self.block(index, now, taken > 0);
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
