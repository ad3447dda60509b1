//! What is gone from the log, and what of it subscribers are told.

use std::sync::{Mutex, PoisonError};

use gush_log::Offset;

/// Events that a subscriber needed and that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first one.
    pub from: Offset,
    /// The offset after the last one.
    pub until: Offset,
    /// Dropped by retention; else their records are damaged.
    pub is_trimmed: bool,
}

/// Damaged stretches of the log that replays have come upon.
///
/// Kept so that a subscriber can be told at its next request: a plain one cannot be told on a
/// stream that is already open.
#[derive(Debug, Default)]
pub(crate) struct Damage(Mutex<Vec<Gap>>);

/// Most stretches remembered; what more are met closes streams without being announced.
const DAMAGE_MAX: usize = 1024;

impl Damage {
    /// The last damaged stretch that ends behind `start`, if there is any.
    pub(crate) fn last_after(&self, start: Offset) -> Option<Gap> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .iter()
            .filter(|gap| gap.until > start)
            .max_by_key(|gap| gap.until)
            .copied()
    }

    pub(super) fn remember(&self, gap: Gap, first: Offset) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|gap| gap.until > first);
        if known.contains(&gap) || known.len() == DAMAGE_MAX {
            return;
        }
        known.push(gap);
        drop(known);
        tracing::warn!(
            from = gap.from.as_u64(),
            until = gap.until.as_u64(),
            "stored events are damaged and lost; subscribers that need them are told"
        );
    }
}
