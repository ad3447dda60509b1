//! New events to the subscribers that are up to date: a sweep that can stop at any subscriber.

use std::io;
use std::sync::Arc;

use gush_log::Offset;

use super::subscriber::{NEVER, Phase, Sent};
use super::{JOBS_BYTES_MAX, JOBS_MAX, Job, SLICE_BYTES_MAX, SLICE_VISITS, Shard, Stage, Sweep};
use crate::matcher_table::MatcherId;
use crate::window::Entry;

/// Events taken from the window under one lock, and how often in one turn. Ours: together what the
/// room for jobs takes, were all of them wanted.
const TAKE_MAX: usize = 256;
const TAKES_MAX: usize = JOBS_MAX / TAKE_MAX;

impl Shard {
    /// Without subscribers events are passed over: a new one starts at its own cursor.
    pub(super) fn skip_if_vacant(&mut self) {
        if self.subscribers.len() == 0 && self.jobs.is_empty() {
            self.head = self.shared.window.next();
        }
    }

    /// Takes what the window has new and finds the matchers it satisfies: once per event.
    pub(super) fn take_new_events(&mut self) {
        let mut is_overtaken = false;
        // A bound of its own: events that nobody here wants fill no room for jobs.
        for _ in 0..TAKES_MAX {
            if self.is_full() {
                break;
            }
            let mut entries = std::mem::take(&mut self.entries);
            let in_window = self.shared.window.take(self.head, TAKE_MAX, &mut entries);
            is_overtaken = !in_window;
            if is_overtaken && self.jobs.is_empty() {
                self.fall_back();
            }
            let count = entries.len();
            self.visit.is_matching = true;
            for entry in entries.drain(..) {
                let next = entry.offset().plus(1);
                self.add_job(entry);
                // Only now: an event in whose matching something panics is matched again.
                self.head = next;
            }
            self.visit.is_matching = false;
            self.entries = entries;
            if count == 0 {
                break;
            }
        }
        // What is held would only keep the subscribers from being served from the log.
        self.release_held(is_overtaken);
    }

    /// Whether there is no room for more jobs.
    pub(super) fn is_full(&self) -> bool {
        self.jobs.len() >= JOBS_MAX || self.jobs_bytes >= JOBS_BYTES_MAX
    }

    fn add_job(&mut self, entry: Arc<Entry>) {
        let mut matched = self.spare_matched.pop().unwrap_or_default();
        self.matchers.matching(entry.topics(), &mut matched);
        self.push_job(entry, matched);
    }

    /// An event with the matchers that it satisfies comes to be swept, if there are any.
    pub(super) fn push_job(&mut self, entry: Arc<Entry>, matched: Vec<MatcherId>) {
        if matched.is_empty() {
            self.spare_matched.push(matched);
        } else {
            self.jobs_bytes += entry.frame.len();
            let stage = self.stage_of(&entry);
            self.jobs.push_back(Job {
                entry,
                matched,
                stage,
            });
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
        let mut visits = SLICE_VISITS;
        while visits > 0 {
            let Some(index) = self.next_to_visit() else {
                return;
            };
            visits -= 1;
            self.visit.subject = index;
            self.send_swept(index);
            self.fire_volleys(&mut visits);
            // What timers and a drain have sent since the last slice counts as well.
            if self.tally.bytes >= SLICE_BYTES_MAX {
                return;
            }
        }
    }

    /// The first waiting offset, that of the event being swept, and the matcher whose list is.
    pub(super) fn swept(&self) -> Option<(Offset, Offset, MatcherId)> {
        let job = self.jobs.get(self.sweep.job)?;
        let matcher = job.matched.get(self.sweep.matcher)?;
        let first = self.jobs.front()?;
        Some((first.entry.offset(), job.entry.offset(), *matcher))
    }

    /// Where one stands that is up to date, at least: what is swept but not visited yet is at or
    /// after the job in front.
    pub(super) fn first_unvisited(&self) -> Offset {
        let front = self.jobs.front();
        front.map_or(self.head, |job| job.entry.offset().min(self.head))
    }

    fn next_to_visit(&mut self) -> Option<u32> {
        loop {
            let job = self.jobs.get(self.sweep.job)?;
            if job.stage != Stage::Due {
                self.next_job();
                continue;
            }
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
                    ..self.sweep
                };
                continue;
            };
            self.sweep.remaining = Some(position);
            return Some(list[position]);
        }
    }

    fn finish_job(&mut self) {
        self.jobs[self.sweep.job].stage = Stage::Swept;
        while let Some(job) = self.jobs.front()
            && job.stage == Stage::Swept
            && let Some(mut job) = self.jobs.pop_front()
        {
            self.jobs_bytes -= job.entry.frame.len();
            job.matched.clear();
            self.spare_matched.push(job.matched);
        }
        // Held jobs may stand before this one, and may have become due meanwhile.
        self.sweep = Sweep::default();
        if self.jobs.is_empty() {
            for batch in &mut self.batches {
                batch.clear();
            }
        }
    }

    /// On to the next job; past the last one when none is due.
    fn next_job(&mut self) {
        self.sweep = Sweep {
            job: self.sweep.job + 1,
            ..Sweep::default()
        };
    }

    /// Sends one subscriber the job that is swept, with all that waits for it.
    fn send_swept(&mut self, index: u32) {
        if let Some(job) = self.jobs.get(self.sweep.job) {
            self.send_up_to(index, job.entry.offset());
        }
    }

    /// Sends a subscriber that is about to leave what the shard has taken in for it and holds
    /// back, or has not swept to it yet: one that has had no id so far could not resume there.
    pub(super) fn send_waiting(&mut self, index: u32) {
        if let Some(job) = self.jobs.back() {
            self.send_up_to(index, job.entry.offset());
        }
    }

    /// Sends a subscriber that is up to date the jobs it has not had, up to this one at least.
    /// Mostly one write: only where jobs are held can more stand before this one than a write
    /// takes, and whoever was visited is not visited for it again.
    fn send_up_to(&mut self, index: u32, offset: Offset) {
        while self.send_jobs(index, offset) {}
    }

    /// Writes the jobs from a subscriber's cursor on in one call, as many as a batch takes, if it
    /// has not had the one at `offset`. Whether that one is still to come.
    fn send_jobs(&mut self, index: u32, offset: Offset) -> bool {
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return false;
        };
        if subscriber.phase != Phase::Live || subscriber.cursor > offset {
            return false;
        }
        let mut start = 0;
        // Only where jobs are held can somebody have had some of them but not all.
        if self.jobs[0].entry.offset() < subscriber.cursor {
            let cursor = subscriber.cursor;
            start = self.jobs.partition_point(|job| job.entry.offset() < cursor);
        }
        let from = self.jobs[start].entry.offset();
        let batch = &mut self.batches[subscriber.sink.framing() as usize];
        if !batch.fits(subscriber, from, self.head) {
            batch.gather_jobs(self.jobs.range(start..), subscriber, (from, self.head));
        }
        match subscriber.send(batch, self.now) {
            Ok(sent) if sent.is_whole => {
                let is_short = subscriber.cursor <= offset;
                self.tally.add(sent);
                is_short
            }
            sent => {
                self.stopped(index, sent);
                false
            }
        }
    }

    /// A write that brought less than all of its batch, or an error.
    #[cold]
    pub(super) fn stopped(&mut self, index: u32, sent: io::Result<Sent>) {
        match sent {
            Ok(sent) => {
                self.tally.add(sent);
                self.metrics.behind.add(1);
                self.block(index, sent.bytes > 0);
            }
            Err(error) => self.fail(index, &error),
        }
    }

    /// The socket is full: the subscriber waits for room, and its write timeout runs.
    pub(super) fn block(&mut self, index: u32, progressed: bool) {
        let policy = self.shared.policy.load();
        let now = self.now;
        let Some(subscriber) = self.subscribers.get_mut(index) else {
            return;
        };
        subscriber.phase = Phase::Blocked;
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
