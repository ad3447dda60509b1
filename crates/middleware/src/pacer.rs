//! Delays for those who are sent away.
//!
//! Everybody who is told the same delay comes back at the same moment. So each gets its own, drawn
//! from a window that is as wide as the time in which so many can be taken in: the more are sent
//! away, the wider it gets, and the load of their coming back stays at what can be served.

use std::time::Duration;

/// How fast those who come back can be taken in, and the bounds of a delay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PacerSettings {
    /// Requests per second that may come back; above 0.
    pub per_second: f64,
    /// No delay is shorter.
    pub delay_min: Duration,
    /// No delay is longer, however many wait: a client told to wait for an hour is a lost client.
    pub delay_max: Duration,
}

impl PacerSettings {
    /// Delays of one second to one minute.
    #[must_use]
    pub const fn per_second(per_second: f64) -> Self {
        Self {
            per_second,
            delay_min: Duration::from_secs(1),
            delay_max: Duration::from_mins(1),
        }
    }
}

/// Draws delays. Holds how many are on their way back as one moment: when the last of them would
/// be in, if they came one after the other.
#[derive(Debug)]
pub struct Pacer {
    settings: PacerSettings,
    /// In the caller's time.
    all_back_at: Duration,
    random: fastrand::Rng,
}

impl Pacer {
    /// Nobody is on the way yet.
    #[must_use]
    pub fn new(settings: PacerSettings) -> Self {
        Self::with_seed(settings, fastrand::u64(..))
    }

    /// The same delays for the same seed and times.
    #[must_use]
    pub fn with_seed(settings: PacerSettings, seed: u64) -> Self {
        Self {
            settings,
            all_back_at: Duration::ZERO,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// Other settings; who is on the way stays so.
    pub fn set(&mut self, settings: PacerSettings) {
        self.settings = settings;
    }

    /// The delay for one more that is sent away: uniform over the window.
    pub fn delay(&mut self, now: Duration) -> Duration {
        let step = Duration::from_secs_f64(1.0 / self.settings.per_second.clamp(1e-3, 1e9));
        self.all_back_at = self.all_back_at.max(now) + step;
        let least = self.settings.delay_min;
        let most = self.settings.delay_max.saturating_sub(least);
        let window = self.window(now).min(most);
        least + window.mul_f64(self.random.f64())
    }

    /// The delay for one whom nobody could take in before `least` is over: that, and a part drawn
    /// from the window.
    pub fn delay_after(&mut self, least: Duration, now: Duration) -> Duration {
        let drawn = self.delay(now);
        drawn.saturating_add(least.saturating_sub(self.settings.delay_min))
    }

    /// How wide the window is now: at least the shortest delay, so that there is jitter at all.
    /// Twice the time that those on their way need, because what is drawn lands anywhere in it
    /// while the first come back already.
    #[must_use]
    pub fn window(&self, now: Duration) -> Duration {
        let behind = self.all_back_at.saturating_sub(now);
        (behind * 2).max(self.settings.delay_min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: PacerSettings = PacerSettings {
        per_second: 100.0,
        delay_min: Duration::from_secs(1),
        delay_max: Duration::from_mins(1),
    };

    #[test]
    fn a_few_come_back_soon_and_a_crowd_over_minutes() {
        let mut pacer = Pacer::with_seed(SETTINGS, 1);
        let few: Vec<_> = (0..10).map(|_| pacer.delay(Duration::ZERO)).collect();
        assert!(few.iter().all(|delay| (1..=2).contains(&delay.as_secs())));
        let crowd: Vec<_> = (0..10_000).map(|_| pacer.delay(Duration::ZERO)).collect();
        assert!(crowd.iter().all(|delay| *delay <= SETTINGS.delay_max));
        assert!(crowd.iter().any(|delay| delay.as_secs() > 50));
        // Half a minute without refusals and the window is what it was.
        let mut pacer = Pacer::with_seed(SETTINGS, 1);
        for _ in 0..1000 {
            pacer.delay(Duration::ZERO);
        }
        assert_eq!(pacer.window(Duration::from_secs(30)), SETTINGS.delay_min);
    }

    #[test]
    fn a_crowd_comes_back_no_faster_than_it_can_be_taken_in() {
        let mut pacer = Pacer::with_seed(SETTINGS, 7);
        let mut by_second = [0_u32; 61];
        for _ in 0..2_500 {
            let delay = pacer.delay(Duration::ZERO);
            by_second[usize::try_from(delay.as_secs()).expect("small")] += 1;
        }
        // The first ones were told short delays, when nobody knew how many would follow.
        let peak = by_second.iter().max().expect("61");
        assert!(*peak <= 250, "{by_second:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_delays() {
        let draw = || {
            let mut pacer = Pacer::with_seed(SETTINGS, 3);
            (0..50)
                .map(|_| pacer.delay(Duration::ZERO))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(), draw());
    }
}
