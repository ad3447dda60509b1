//! At most so many within any stretch of time, from two counters: the stretch before counts in
//! part, by how much of it still lies in the window.
//!
//! With what came spread evenly over the stretch before, the estimate is exact; at worst (all of it
//! came at its end) a window sees up to twice the limit less one. That is the price for 24 bytes
//! instead of a list of moments.

use std::time::Duration;

use crate::Wait;

/// How many within how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowLimit {
    /// Within the window; 0 admits nothing.
    pub max: u32,
    /// Length of the window, at least a millisecond.
    pub window: Duration,
}

impl WindowLimit {
    /// So many within any time of that length.
    #[must_use]
    pub const fn new(max: u32, window: Duration) -> Self {
        Self { max, window }
    }
}

/// Counts of one key. The default has seen nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct SlidingWindow {
    /// Number of the stretch that `current` counts, from the begin of the caller's time.
    stretch: u64,
    current: u32,
    before: u32,
}

impl SlidingWindow {
    /// Counts one, if the limit allows it.
    ///
    /// # Errors
    ///
    /// How long until one is admitted. [`Duration::MAX`] with a limit of 0.
    pub fn admit(&mut self, now: Duration, limit: WindowLimit) -> Result<(), Wait> {
        let window = limit.window.max(Duration::from_millis(1));
        let passed = self.move_to(now, window);
        if limit.max == 0 {
            return Err(Wait(Duration::MAX));
        }
        let weight = 1.0 - passed.as_secs_f64() / window.as_secs_f64();
        let estimate = f64::from(self.before) * weight + f64::from(self.current);
        if estimate + 1.0 <= f64::from(limit.max) + 1e-9 {
            self.current += 1;
            return Ok(());
        }
        Err(Wait(self.wait(passed, window, limit.max)))
    }

    /// Takes back one that [`Self::admit`] counted just now, because something else refused it.
    pub fn give_back(&mut self) {
        self.current = self.current.saturating_sub(1);
    }

    /// Whether nothing that it has seen still counts.
    #[must_use]
    pub fn is_idle(&self, now: Duration, window: Duration) -> bool {
        stretch_of(now, window.max(Duration::from_millis(1))) > self.stretch + 1
    }

    /// Turns to the stretch of `now`; gives how much of it has passed. Time that went back a little
    /// (threads read their clocks one after the other) counts as the begin of the stretch it was
    /// in. More than that is another length of the window: what was counted with the old one is
    /// forgotten.
    fn move_to(&mut self, now: Duration, window: Duration) -> Duration {
        let stretch = stretch_of(now, window);
        if stretch > self.stretch {
            self.before = if stretch == self.stretch + 1 {
                self.current
            } else {
                0
            };
            self.current = 0;
            self.stretch = stretch;
        } else if stretch + 1 == self.stretch {
            return Duration::ZERO;
        } else if stretch < self.stretch {
            *self = Self {
                stretch,
                ..Self::default()
            };
        }
        let begin_ns = u128::from(stretch) * window.as_nanos();
        let passed_ns = now.as_nanos().saturating_sub(begin_ns);
        Duration::from_nanos(u64::try_from(passed_ns).unwrap_or(u64::MAX))
    }

    /// Until the estimate leaves room for one.
    fn wait(&self, passed: Duration, window: Duration, max: u32) -> Duration {
        let room = f64::from(max - 1);
        let (current, before) = (f64::from(self.current), f64::from(self.before));
        let until = if current <= room {
            // Within this stretch, as the one before fades.
            window.mul_f64((1.0 - (room - current) / before.max(1.0)).clamp(0.0, 1.0))
        } else {
            // In the next one, as this one fades.
            window + window.mul_f64((1.0 - room / current).clamp(0.0, 1.0))
        };
        // A microsecond against rounding, so that a try after the wait is admitted.
        (until + Duration::from_micros(1)).saturating_sub(passed)
    }
}

fn stretch_of(now: Duration, window: Duration) -> u64 {
    u64::try_from(now.as_nanos() / window.as_nanos()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: WindowLimit = WindowLimit {
        max: 10,
        window: Duration::from_secs(1),
    };

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_stretch_before_fades() {
        let mut seen = SlidingWindow::default();
        for _ in 0..10 {
            assert_eq!(seen.admit(at(5_500), LIMIT), Ok(()));
        }
        assert!(seen.admit(at(5_999), LIMIT).is_err());
        // At 6.1 s nine tenths of the ten still count.
        assert_eq!(seen.admit(at(6_100), LIMIT), Ok(()));
        assert!(seen.admit(at(6_100), LIMIT).is_err());
        assert_eq!(seen.admit(at(6_200), LIMIT), Ok(()));
        assert!(!seen.is_idle(at(7_999), LIMIT.window));
        assert!(seen.is_idle(at(8_000), LIMIT.window));
    }

    #[test]
    fn a_limit_of_nothing_admits_nothing() {
        let limit = WindowLimit { max: 0, ..LIMIT };
        let refused = SlidingWindow::default().admit(at(0), limit);
        assert_eq!(refused, Err(Wait(Duration::MAX)));
    }

    #[test]
    fn another_length_of_the_window_holds_at_once() {
        let mut seen = SlidingWindow::default();
        let now = at(7_200_000);
        let short = WindowLimit::new(1, at(100));
        let long = WindowLimit::new(2, Duration::from_hours(1));
        assert!(seen.admit(now, short).is_ok() && seen.admit(now, short).is_err());
        assert!(seen.admit(now, long).is_ok() && seen.admit(now, long).is_ok());
        assert!(seen.admit(now, long).is_err());
        assert!(seen.admit(now, short).is_ok());
    }

    #[test]
    fn what_is_given_back_counts_no_more() {
        let mut seen = SlidingWindow::default();
        for _ in 0..10 {
            assert_eq!(seen.admit(at(5_500), LIMIT), Ok(()));
        }
        seen.give_back();
        assert_eq!(seen.admit(at(5_500), LIMIT), Ok(()));
        assert!(seen.admit(at(5_500), LIMIT).is_err());
    }

    proptest! {
        /// The wait that is told is enough; and over any two windows no more than three limits.
        #[test]
        fn waits_are_enough_and_floods_are_held(
            max in 1_u32..40,
            gaps_us in prop::collection::vec(0_u64..300_000, 1..200),
        ) {
            let limit = WindowLimit { max, ..LIMIT };
            let mut seen = SlidingWindow::default();
            let mut now = Duration::ZERO;
            let mut admitted: Vec<Duration> = vec![];
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                if let Err(Wait(wait)) = seen.admit(now, limit) {
                    now += wait;
                    prop_assert!(seen.admit(now, limit).is_ok(), "after {wait:?}");
                }
                admitted.push(now);
            }
            for (index, begin) in admitted.iter().enumerate() {
                let within = admitted[index..].iter()
                    .take_while(|moment| **moment < *begin + limit.window).count();
                prop_assert!(within <= 2 * max as usize, "{within} of {max} in one window");
            }
        }
    }
}
