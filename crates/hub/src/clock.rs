//! Time as the hub sees it: real, or moved by hand in tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Length of a timer tick: heartbeats and timeouts are kept to within one. A tenth of a second is
/// finer than any of them needs and keeps the wheel small.
pub const TICK: Duration = Duration::from_millis(100);

/// Milliseconds of a [`TICK`].
pub const TICK_MS: u64 = 100;

/// Where the time comes from. Cloning shares the source.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    Real(Instant),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// The machine's clocks; monotonic time counts from now.
    #[must_use]
    pub fn real() -> Self {
        Self(Source::Real(Instant::now()))
    }

    /// A clock that stands still until [`Self::advance`].
    #[must_use]
    pub fn manual() -> Self {
        Self(Source::Manual(Arc::new(AtomicU64::new(0))))
    }

    /// Moves a manual clock; does nothing to a real one.
    pub fn advance(&self, by: Duration) {
        if let Source::Manual(now_ms) = &self.0 {
            now_ms.fetch_add(millis(by), Ordering::SeqCst);
        }
    }

    /// Monotonic milliseconds since the clock was made.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match &self.0 {
            Source::Real(start) => millis(start.elapsed()),
            Source::Manual(now_ms) => now_ms.load(Ordering::SeqCst),
        }
    }

    /// The same, as fine as the machine has it.
    #[must_use]
    pub fn now(&self) -> Duration {
        match &self.0 {
            Source::Real(start) => start.elapsed(),
            Source::Manual(now_ms) => Duration::from_millis(now_ms.load(Ordering::SeqCst)),
        }
    }

    /// Milliseconds since 1970 by the machine's wall clock (a manual clock moves along with it).
    #[must_use]
    pub fn unix_ms(&self) -> u64 {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, millis);
        match &self.0 {
            Source::Real(_) => wall,
            Source::Manual(now_ms) => wall + now_ms.load(Ordering::SeqCst),
        }
    }

    /// The current timer tick. The last one comes after 13 years of running.
    #[must_use]
    pub fn tick(&self) -> u32 {
        u32::try_from(self.now_ms() / TICK_MS).unwrap_or(u32::MAX)
    }

    /// Whether time only moves by [`Self::advance`].
    #[must_use]
    pub fn is_manual(&self) -> bool {
        matches!(self.0, Source::Manual(_))
    }
}

/// Ticks of a duration, at least one unless it is zero.
#[must_use]
pub fn ticks(duration: Duration) -> u32 {
    u32::try_from(millis(duration).div_ceil(TICK_MS)).unwrap_or(u32::MAX / 2)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
