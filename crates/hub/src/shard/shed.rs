//! Ending the slowest readers when nothing else is left to give up.

use super::Shard;
use super::subscriber::Phase;
use crate::close::CloseReason;

/// The part of the blocked readers that one round ends, and how many it ends at least: few at a
/// time, since the next look may find that it was enough.
const SHARE: usize = 64;
const ROUND_MIN: usize = 4;

impl Shard {
    /// Ends some of those whose socket is full, the furthest behind first. They can resume by id.
    pub(super) fn shed_if_asked(&mut self) {
        if !self.inbox.is_shed_asked() {
            return;
        }
        let mut blocked: Vec<_> = (0..self.subscribers.places())
            .filter_map(|index| {
                let subscriber = self.subscribers.get_mut(index)?;
                (subscriber.phase == Phase::Blocked).then_some((subscriber.cursor, index))
            })
            .collect();
        let count = (blocked.len() / SHARE).max(ROUND_MIN).min(blocked.len());
        if count < blocked.len() {
            blocked.select_nth_unstable(count);
        }
        for (_, index) in blocked.into_iter().take(count) {
            self.visit.subject = index;
            self.close(index, CloseReason::Shed);
        }
    }
}
