//! Holding events back on request: until an interval is over or a batch is full (`flush_interval`,
//! `flush_batch`, and `flush_topics` for some topics). By default nothing is held.
//!
//! What is held is the start of the sweep, not the event: a subscriber that is visited for another
//! event gets the held ones before it, in order.

use super::{Shard, Stage, Sweep};
use crate::window::Entry;

/// What a shard holds back.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Held events by rule.
    counts: Vec<u32>,
    total: u32,
    /// When the first of them is due, in milliseconds of the hub's clock.
    pub(super) due_ms: Option<u64>,
}

impl Shard {
    /// Whether a new event waits, and for what.
    pub(super) fn stage_of(&mut self, entry: &Entry) -> Stage {
        let policy = self.shared.policy.load();
        let topics = entry.topics();
        let (number, rule) = policy.flush.rule_of(&topics);
        if !rule.holds() {
            return Stage::Due;
        }
        let interval_ms = u64::try_from(rule.interval.as_millis()).unwrap_or(u64::MAX);
        let until_ms = self.shared.clock.now_ms().saturating_add(interval_ms);
        let held = &mut self.held;
        if held.counts.len() <= number {
            held.counts.resize(number + 1, 0);
        }
        held.counts[number] += 1;
        held.total += 1;
        held.due_ms = Some(held.due_ms.map_or(until_ms, |due| due.min(until_ms)));
        Stage::Held {
            until_ms,
            rule: u32::try_from(number).expect("FLUSH_TOPICS_MAX is small"),
        }
    }

    /// Lets go of the events whose interval is over or whose batch is full; of all of them when
    /// the shard has no room for more, or with `must_go`.
    pub(super) fn release_held(&mut self, must_go: bool) {
        if self.held.total == 0 {
            return;
        }
        let now_ms = self.shared.clock.now_ms();
        let all = must_go || self.is_full();
        let full = self
            .shared
            .policy
            .load()
            .flush
            .full_batches(&self.held.counts);
        if !all && full == 0 && self.held.due_ms.is_some_and(|due| now_ms < due) {
            return;
        }
        let held = &mut self.held;
        held.due_ms = None;
        let mut first_released = None;
        for (number, job) in self.jobs.iter_mut().enumerate() {
            let Stage::Held { until_ms, rule } = job.stage else {
                continue;
            };
            if all || until_ms <= now_ms || full >> rule & 1 == 1 {
                job.stage = Stage::Due;
                first_released.get_or_insert(number);
                held.counts[rule as usize] -= 1;
                held.total -= 1;
            } else {
                held.due_ms = Some(held.due_ms.map_or(until_ms, |due| due.min(until_ms)));
            }
        }
        // What became due before the job that is being swept goes first: that one is swept anew,
        // and whoever has had it is passed over. Not otherwise: begun anew each time some event's
        // interval is over, a sweep over many would not come to its end.
        if first_released.is_some_and(|first| first < self.sweep.job) {
            self.sweep = Sweep::default();
        }
    }
}
