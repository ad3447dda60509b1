//! Ending streams for balance, as many as `gush drain` says are due.

use std::sync::Arc;

use super::{SLICE_VISITS, Shard};
use crate::balance::Due;
use crate::close::CloseReason;

/// Places looked at between two looks at the poll, each a few nanoseconds.
const SLICE_LOOKS: usize = 16 * 1024;

/// What of an order is left for this shard to do.
#[derive(Debug)]
pub(super) struct Rebalance {
    /// Streams that are to end now.
    due: Due,
    /// Where the next stream is looked for.
    next_place: u32,
    /// Places in a row where none was found.
    passed: u32,
}

impl Shard {
    /// More streams are to end. Another order takes the place of the one before.
    pub(super) fn begin_rebalance(&mut self, due: Due) {
        match &mut self.rebalance {
            Some(task) if Arc::ptr_eq(&task.due.closing, &due.closing) => {
                task.due.count += due.count;
            }
            _ => {
                self.rebalance = Some(Rebalance {
                    due,
                    next_place: 0,
                    passed: 0,
                });
            }
        }
    }

    /// Whether streams are due to end that one slice was not enough for.
    pub(super) fn is_rebalance_late(&self) -> bool {
        self.rebalance
            .as_ref()
            .is_some_and(|task| task.due.count > 0)
    }

    /// Ends streams that are due, each with its own `retry:`. Those that began after the order did
    /// are left alone: they are who came back.
    pub(super) fn rebalance_slice(&mut self) {
        let (mut looks, mut visits) = (0, 0);
        while let Some(task) = &mut self.rebalance {
            let due = &mut task.due;
            if due.closing.is_cancelled() {
                self.rebalance = None;
                return;
            }
            if due.count == 0 || looks >= SLICE_LOOKS || visits >= SLICE_VISITS {
                return;
            }
            let places = self.subscribers.places();
            if task.passed >= places {
                due.could_not();
                return;
            }
            if task.next_place >= places {
                task.next_place = 0;
            }
            let index = task.next_place;
            task.next_place += 1;
            task.passed += 1;
            looks += 1;
            let found = self.subscribers.get_mut(index);
            if found.is_none_or(|subscriber| subscriber.opened_at > due.closing.since) {
                continue;
            }
            task.passed = 0;
            visits += 1;
            let place = due.close_one();
            self.visit.subject = index;
            self.close_with_retry(index, CloseReason::Rebalance, place);
        }
    }
}
