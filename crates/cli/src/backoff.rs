//! How long to wait before the next attempt: exponential with full jitter.
//!
//! Full jitter (any time between zero and the ceiling) spreads a crowd best: those who failed
//! together have nothing in common afterwards.

use std::time::Duration;

/// Highest ceiling of one wait.
pub(crate) const CEILING_MAX: Duration = Duration::from_secs(30);

/// Counts failed attempts in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    attempts_max: u32,
    failures: u32,
}

impl Backoff {
    /// Gives up after `attempts_max` failures in a row; 0 = never.
    pub(crate) fn new(attempts_max: u32) -> Self {
        Self {
            attempts_max,
            failures: 0,
        }
    }

    /// The stream worked: the next failure is the first one again.
    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// One more failure. `false` when it was the last one allowed.
    pub(crate) fn failed(&mut self) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.attempts_max == 0 || self.failures < self.attempts_max
    }

    /// Failures in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    /// The wait before the next attempt. `base` is the ceiling of the first one and doubles with
    /// each failure; `random` is in `0.0..1.0`.
    pub(crate) fn wait(&self, base: Duration, random: f64) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let ceiling = base.saturating_mul(1 << doublings).min(CEILING_MAX);
        ceiling.mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_to_its_cap_and_starts_again_after_success() {
        let mut backoff = Backoff::new(0);
        let base = Duration::from_secs(1);
        let mut ceilings = vec![];
        for _ in 0..7 {
            assert!(backoff.failed());
            ceilings.push(backoff.wait(base, 1.0).as_secs());
        }
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30]);
        backoff.succeeded();
        assert_eq!(backoff.wait(base, 1.0), base);
        assert_eq!(backoff.wait(base, 0.0), Duration::ZERO);
    }

    #[test]
    fn it_gives_up_after_the_last_attempt_and_never_at_zero() {
        let mut backoff = Backoff::new(3);
        assert_eq!(
            [backoff.failed(), backoff.failed(), backoff.failed()],
            [true, true, false]
        );
        let mut endless = Backoff {
            attempts_max: 0,
            failures: u32::MAX,
        };
        assert!(endless.failed());
        assert_eq!(endless.wait(Duration::from_mins(1), 1.0), CEILING_MAX);
    }
}
