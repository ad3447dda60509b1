//! What those who have a stream are told for the day when they lose it.
//!
//! Nobody can tell them anything in the moment of a crash: what counts then is the last thing that
//! was said. So each is told a delay of its own beforehand, drawn from a window in which as many as
//! there are can be taken in again. When there are many more (or far fewer) than when it was told,
//! it is told anew.

use std::time::Duration;

/// One step of the level: half as many again. Those who were told longest ago are then told for
/// two thirds of the crowd at least, and their coming back is at most that much too dense.
const STEP: f64 = 1.5;

/// Levels that the crowd has to fall before a shorter delay is worth a line.
const FALL: u8 = 2;

/// The rule by which delays are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comeback {
    /// Middle of the delay while there are few; each gets its own within half of it around it.
    pub retry: Duration,
    /// As many can be taken in again in a second; above 0.
    pub per_second: f64,
    /// No window is wider, unless `retry` is.
    pub window_max: Duration,
}

impl Comeback {
    /// How wide the window is for so many.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "streams of one server")]
    pub fn window(&self, streams: usize) -> Duration {
        let seconds = streams as f64 / self.per_second.clamp(1e-3, 1e9);
        let needed = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        needed.min(self.window_max).max(self.retry)
    }

    /// A delay for one of so many; `share` is drawn evenly from 0 to 1. None is shorter than half
    /// of `retry`.
    #[must_use]
    pub fn delay(&self, streams: usize, share: f64) -> Duration {
        let drawn = self.window(streams).mul_f64(share.clamp(0.0, 1.0));
        (self.retry / 2).saturating_add(drawn)
    }

    /// The size of the crowd in steps, for [`is_outdated`]. 0 while the window is `retry`.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a logarithm of what fits into a duration, and not negative"
    )]
    pub fn level(&self, streams: usize) -> u8 {
        let retry = self.retry.as_secs_f64();
        if retry <= 0.0 {
            return 0;
        }
        let times = self.window(streams).as_secs_f64() / retry;
        times.max(1.0).log(STEP).min(250.0) as u8
    }
}

/// Whether one who was told at a level has to be told anew at another.
#[must_use]
pub const fn is_outdated(told: u8, now: u8) -> bool {
    now > told || now.saturating_add(FALL) < told
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Comeback = Comeback {
        retry: Duration::from_secs(2),
        per_second: 1000.0,
        window_max: Duration::from_mins(1),
    };

    #[test]
    fn few_get_what_is_set_and_a_crowd_a_window_of_its_own_size() {
        let ends = |streams| (RULE.delay(streams, 0.0), RULE.delay(streams, 1.0));
        let secs = Duration::from_secs;
        assert_eq!(ends(1), (secs(1), secs(3)));
        assert_eq!(ends(2_000), (secs(1), secs(3)));
        assert_eq!(ends(50_000), (secs(1), secs(51)));
        assert_eq!(ends(1_000_000), (secs(1), secs(61)), "bounded");
    }

    #[test]
    fn a_crowd_is_told_anew_once_a_step_and_not_when_it_wavers() {
        assert_eq!((RULE.level(0), RULE.level(2_000)), (0, 0));
        assert_eq!((RULE.level(3_000), RULE.level(4_400)), (1, 1));
        assert_eq!(RULE.level(60_000), RULE.level(1_000_000), "bounded");
        assert!(is_outdated(0, 1) && !is_outdated(1, 1));
        assert!(!is_outdated(3, 1) && is_outdated(3, 0));
        let untold = Comeback {
            retry: Duration::ZERO,
            ..RULE
        };
        assert_eq!(untold.level(50_000), 0);
    }

    #[test]
    fn a_crowd_that_was_told_while_it_grew_comes_back_at_most_half_too_densely() {
        let crowd = 50_000;
        let top = RULE.level(crowd);
        let reached = (1..=crowd).find(|streams| RULE.level(*streams) == top);
        let reached = reached.unwrap_or(crowd);
        let mut random = fastrand::Rng::with_seed(1);
        let mut by_second = [0_u32; 62];
        for place in 1..=crowd {
            // Whoever came at a lower level was told when this one was reached.
            let told = RULE.delay(place.max(reached), random.f64());
            by_second[usize::try_from(told.as_secs()).unwrap_or(61)] += 1;
        }
        let peak = by_second.iter().max().copied().unwrap_or_default();
        assert!(f64::from(peak) < 1.6 * RULE.per_second, "{by_second:?}");
    }
}
