//! Streams that have come from another process: each gets one turn at once.
//!
//! They were up to date there, nearly all of them, and are behind only by what was published while
//! they were on their way. In the line of those who replay, which pauses for live events, the last
//! of a crowd would wait seconds: here nearly everybody is in that line, and the live events are
//! theirs. Who is still behind after its turn goes into that line like everybody else.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Shard;
use super::inbox::SubscriberKey;

/// Time given to them between two looks at the poll, beyond the turn that crosses it: about what a
/// slice of a sweep takes. Ours.
const SLICE_TIME: Duration = Duration::from_millis(2);

impl Shard {
    /// Where a newcomer waits for its first turn.
    pub(super) fn stand_in_line(&mut self, key: SubscriberKey, has_come_over: bool) {
        if has_come_over {
            self.arrived.push_back(key);
        } else {
            self.ready.push_back(key);
        }
    }

    /// Gives those in line a turn each, as long as a slice lasts.
    pub(super) fn arrived_slice(&mut self) {
        if self.arrived.is_empty() {
            return;
        }
        let begun = Instant::now();
        while let Some(key) = self.arrived.pop_front() {
            self.catch_up(key);
            if begun.elapsed() >= SLICE_TIME {
                return;
            }
        }
        // Memory goes back after a crowd.
        self.arrived = VecDeque::new();
    }
}
