//! How long the turns of a shard take.

use std::sync::atomic::{AtomicU64, Ordering};

/// How long turns take. Written by one shard, looked at by others.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// When the turn began that is under way, in the clock's milliseconds and one more; 0 between
    /// two turns.
    begun: AtomicU64,
    longest_ms: AtomicU64,
}

impl Turn {
    pub(crate) fn begin(&self, now_ms: u64) {
        self.begun.store(now_ms + 1, Ordering::Relaxed);
    }

    pub(crate) fn end(&self, now_ms: u64) {
        let took_ms = (now_ms + 1).saturating_sub(self.begun.load(Ordering::Relaxed));
        self.begun.store(0, Ordering::Relaxed);
        // Most turns take no time at all, and share no line then.
        if took_ms > self.longest_ms.load(Ordering::Relaxed) {
            self.longest_ms.store(took_ms, Ordering::Relaxed);
        }
    }

    /// The longest since this was last asked, the one under way included.
    pub(super) fn longest_ms(&self, now_ms: u64) -> u64 {
        let ended_ms = self.longest_ms.swap(0, Ordering::Relaxed);
        match self.begun.load(Ordering::Relaxed) {
            0 => ended_ms,
            begun => ended_ms.max((now_ms + 1).saturating_sub(begun)),
        }
    }
}
