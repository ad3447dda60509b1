//! How long to wait before the next attempt: what the server asks for, and full jitter on top.
//!
//! Full jitter (any time between zero and the ceiling) spreads a crowd best: those who failed
//! together have nothing in common afterwards. It comes on top because whoever was told a time must
//! not come sooner: the server counts on it.

use std::time::Duration;

/// Ceiling of the first random wait.
const CEILING_FIRST: Duration = Duration::from_secs(1);

/// Lowest first ceiling: a server that says `retry: 0` does not mean a busy loop.
const CEILING_FIRST_MIN: Duration = Duration::from_millis(1);

/// Highest ceiling of one random wait.
const CEILING_MAX: Duration = Duration::from_secs(30);

/// Longest time that a server may ask for. A longer one is a mistake, or somebody who wants to be
/// rid of us.
const ASKED_MAX: Duration = Duration::from_mins(5);

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

    /// The wait before the next attempt. `asked` is what the server wants at least, with `retry:`
    /// or `Retry-After`; `random` is in `0.0..1.0`. The random part's ceiling starts at a second,
    /// or at what is asked if that is less, and doubles with each failure.
    pub(crate) fn wait(&self, asked: Option<Duration>, random: f64) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        let first = asked.unwrap_or(CEILING_FIRST);
        let first = first.clamp(CEILING_FIRST_MIN, CEILING_FIRST);
        let ceiling = first.saturating_mul(1 << doublings).min(CEILING_MAX);
        asked.unwrap_or_default().min(ASKED_MAX) + ceiling.mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_to_its_cap_and_starts_again_after_success() {
        let mut backoff = Backoff::new(0);
        let mut ceilings = vec![];
        for _ in 0..7 {
            assert!(backoff.failed());
            ceilings.push(backoff.wait(None, 1.0).as_secs());
        }
        assert_eq!(ceilings, [1, 2, 4, 8, 16, 30, 30]);
        backoff.succeeded();
        assert_eq!(backoff.wait(None, 1.0), CEILING_FIRST);
        assert_eq!(backoff.wait(None, 0.0), Duration::ZERO);
    }

    #[test]
    fn it_is_never_sooner_than_asked_nor_much_later() {
        let mut backoff = Backoff::new(0);
        let asked = Duration::from_secs(17);
        assert_eq!(backoff.wait(Some(asked), 0.0), asked);
        assert_eq!(backoff.wait(Some(asked), 1.0), asked + CEILING_FIRST);
        let soon = Duration::from_millis(20);
        assert_eq!(backoff.wait(Some(soon), 1.0), soon * 2);
        for _ in 0..20 {
            backoff.failed();
        }
        assert_eq!(backoff.wait(Some(asked), 1.0), asked + CEILING_MAX);
        assert_eq!(backoff.wait(Some(Duration::MAX), 0.0), ASKED_MAX);
    }

    #[test]
    fn a_server_that_asks_for_no_wait_is_not_hammered() {
        let mut backoff = Backoff::new(0);
        for _ in 0..15 {
            backoff.failed();
        }
        let wait = backoff.wait(Some(Duration::ZERO), 0.5);
        assert!(wait > Duration::from_secs(5), "{wait:?}");
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
        assert_eq!(endless.wait(None, 1.0), CEILING_MAX);
    }
}
