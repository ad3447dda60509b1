//! New events to the subscribers that are up to date: a sweep that can stop at any subscriber.

use std::sync::Arc;

use gush_log::Offset;

use super::subscriber::{NEVER, Phase, Subscriber};
use super::{JOBS_BYTES_MAX, JOBS_MAX, Job, SLICE_VISITS, Shard, Sweep};
use crate::frame::Frame;
use crate::matcher_table::MatcherId;
use crate::socket::WRITE_FRAMES_MAX;
use crate::window::Entry;

/// Most jobs one visit looks at for more frames: past it the visit's own cost would show.
const VISIT_JOBS_MAX: usize = 256;

/// Most bytes gathered for one write.
pub(super) const WRITE_BYTES_MAX: usize = 256 * 1024;

impl Shard {
    /// Takes what the window has new and finds the matchers it satisfies: once per event.
    pub(super) fn take_new_events(&mut self) {
        while self.jobs.len() < JOBS_MAX && self.jobs_bytes < JOBS_BYTES_MAX {
            let mut entries = std::mem::take(&mut self.entries);
            let in_window = self
                .shared
                .window
                .take(self.head, SLICE_VISITS, &mut entries);
            if !in_window && self.jobs.is_empty() {
                self.fall_back();
            }
            let count = entries.len();
            for entry in entries.drain(..) {
                self.head = entry.offset().plus(1);
                self.add_job(entry);
            }
            self.entries = entries;
            if count == 0 {
                break;
            }
        }
    }

    fn add_job(&mut self, entry: Arc<Entry>) {
        let mut matched = self.spare_matched.pop().unwrap_or_default();
        self.matchers
            .matching(entry.topics.iter().map(AsRef::as_ref), &mut matched);
        if matched.is_empty() {
            self.spare_matched.push(matched);
        } else {
            self.jobs_bytes += entry.frame.len();
            self.jobs.push_back(Job { entry, matched });
        }
    }

    /// The window has moved past this shard's head: everybody goes on from the log.
    fn fall_back(&mut self) {
        tracing::warn!(
            behind = self.shared.window.next().since(self.head),
            "a shard fell behind the memory window; its subscribers are served from the log"
        );
        let head = self.head;
        for index in 0..self.subscribers.places() {
            let Some(subscriber) = self.subscribers.get_mut(index) else {
                continue;
            };
            if subscriber.phase == Phase::Live {
                subscriber.cursor = subscriber.cursor.max(head);
                subscriber.phase = Phase::Blocked;
                self.metrics.behind.add(1);
                self.make_ready(index);
            }
        }
        self.head = self.shared.window.next();
    }

    /// Visits the next subscribers of the waiting events.
    pub(super) fn sweep_slice(&mut self) {
        for _ in 0..SLICE_VISITS {
            let Some(index) = self.next_to_visit() else {
                return;
            };
            self.visit(index);
        }
    }

    fn next_to_visit(&mut self) -> Option<u32> {
        loop {
            let job = self.jobs.front()?;
            let Some(matcher) = job.matched.get(self.sweep.matcher) else {
                self.finish_job();
                continue;
            };
            let list = &self.lists[matcher.0 as usize];
            let remaining = self.sweep.remaining.unwrap_or(list.len()).min(list.len());
            let Some(position) = remaining.checked_sub(1) else {
                self.sweep = Sweep {
                    matcher: self.sweep.matcher + 1,
                    remaining: None,
                };
                continue;
            };
            self.sweep.remaining = Some(position);
            return Some(list[position]);
        }
    }

    fn finish_job(&mut self) {
        if let Some(mut job) = self.jobs.pop_front() {
            self.jobs_bytes -= job.entry.frame.len();
            job.matched.clear();
            self.spare_matched.push(job.matched);
        }
        self.sweep = Sweep::default();
    }

    /// Writes everything that waits for one subscriber in one call.
    fn visit(&mut self, index: u32) {
        let Some(first) = self.jobs.front().map(|job| job.entry.offset()) else {
            return;
        };
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        if subscriber.phase != Phase::Live || subscriber.cursor > first {
            return;
        }
        let mut gathered = Gathered::new();
        let next = gathered.collect(self.jobs.iter(), subscriber, self.head);
        let frames = gathered.frames();
        if frames.is_empty() {
            subscriber.cursor = next;
            return;
        }
        let framing = subscriber.sink.framing();
        let total: usize = frames.iter().map(|frame| frame.framed(framing).len()).sum();
        let now = self.shared.clock.tick();
        match subscriber.sink.write(frames, 0) {
            Ok(taken) if taken == total => {
                subscriber.cursor = next;
                subscriber.last_write_at = now;
                subscriber.events += frames.len() as u64;
                subscriber.bytes += taken as u64;
                self.metrics.delivered(frames.len() as u64, taken as u64);
            }
            Ok(taken) => {
                let stop = gathered.stopped_at(taken, framing);
                subscriber.cursor = stop.cursor;
                subscriber.partial = stop.partial;
                subscriber.events += stop.whole;
                subscriber.bytes += taken as u64;
                self.metrics.delivered(stop.whole, taken as u64);
                self.metrics.behind.add(1);
                self.block(index, now, taken > 0);
            }
            Err(error) => self.fail(index, &error),
        }
    }

    /// The socket is full: the subscriber waits for room, and its write timeout runs.
    pub(super) fn block(&mut self, index: u32, now: u32, progressed: bool) {
        let policy = self.shared.policy.load();
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        subscriber.phase = Phase::Blocked;
        if progressed {
            subscriber.last_write_at = now;
        }
        if subscriber.stalled_since == NEVER {
            let timeout = super::blocked_user_timeout_ms(policy.settings.write_timeout);
            subscriber.sink.set_user_timeout_ms(timeout);
        }
        if progressed || subscriber.stalled_since == NEVER {
            subscriber.stalled_since = now;
        }
        self.set_timer(index, now);
    }
}

/// The frames of one write, on the stack.
struct Gathered<'a> {
    frames: [&'a Frame; WRITE_FRAMES_MAX],
    offsets: [Offset; WRITE_FRAMES_MAX],
    count: usize,
}

/// Where a write that came up short stopped.
pub(super) struct Stop {
    pub(super) cursor: Offset,
    pub(super) partial: u32,
    /// Whole events that went out.
    pub(super) whole: u64,
}

impl<'a> Gathered<'a> {
    fn new() -> Self {
        static EMPTY: std::sync::LazyLock<Frame> =
            std::sync::LazyLock::new(|| Frame::of_framed(bytes::Bytes::new()));
        Self {
            frames: [&EMPTY; WRITE_FRAMES_MAX],
            offsets: [Offset::FIRST; WRITE_FRAMES_MAX],
            count: 0,
        }
    }

    fn frames(&self) -> &[&'a Frame] {
        &self.frames[..self.count]
    }

    /// Collects the waiting events for a subscriber; returns the offset it has been served up to.
    fn collect(
        &mut self,
        jobs: impl Iterator<Item = &'a Job>,
        subscriber: &Subscriber,
        head: Offset,
    ) -> Offset {
        let mut bytes = 0;
        for (looked_at, job) in jobs.enumerate() {
            let offset = job.entry.offset();
            if offset < subscriber.cursor {
                continue;
            }
            if looked_at >= VISIT_JOBS_MAX
                || self.count == WRITE_FRAMES_MAX
                || bytes >= WRITE_BYTES_MAX
            {
                return offset;
            }
            if is_for(job, subscriber) {
                self.frames[self.count] = &job.entry.frame;
                self.offsets[self.count] = offset;
                self.count += 1;
                bytes += job.entry.frame.len();
            }
        }
        head
    }

    fn stopped_at(&self, taken: usize, framing: crate::frame::Framing) -> Stop {
        let mut left = taken;
        for index in 0..self.count {
            let length = self.frames[index].framed(framing).len();
            if left < length {
                return Stop {
                    cursor: self.offsets[index],
                    partial: u32::try_from(left).expect("frames are under 4 GiB"),
                    whole: index as u64,
                };
            }
            left -= length;
        }
        unreachable!("the write came up short")
    }
}

/// Whether an event is for a subscriber of this shard, by what the matching already found (in
/// ascending order).
fn is_for(job: &Job, subscriber: &Subscriber) -> bool {
    let matched = |id: MatcherId| job.matched.binary_search(&id).is_ok();
    subscriber
        .memberships
        .iter()
        .any(|membership| matched(membership.matcher))
        && (!job.entry.is_private
            || subscriber
                .selection
                .may_read(job.entry.topics.iter().map(AsRef::as_ref)))
}
