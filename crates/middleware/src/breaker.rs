//! A remote part that fails is left alone for a while, then tried with one probe.
//!
//! ```text
//! closed ── failures in a row ──▶ open ── its time is over ──▶ half open
//!    ▲                             ▲                              │
//!    │                             └── the probe fails: longer ───┤
//!    └──────────────────────────────── the probe succeeds ────────┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Wait;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it; at least 1.
    pub failures_max: u32,
    /// How long it stays open the first time. Each failed probe doubles it.
    pub open_min: Duration,
    /// The longest it stays open.
    pub open_max: Duration,
}

/// Five failures in a row, then a second, and at most half a minute: long enough for a restart.
impl Default for BreakerSettings {
    fn default() -> Self {
        Self {
            failures_max: 5,
            open_min: Duration::from_secs(1),
            open_max: Duration::from_secs(30),
        }
    }
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// Nothing.
    Open,
    /// One probe, which is under way or comes next.
    HalfOpen,
}

impl BreakerState {
    /// The word in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// Guards one remote part. Threads share it.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: State,
    /// Times it opened since it was last closed; 0 while closed.
    opened: u32,
    random: fastrand::Rng,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Duration },
    Probing,
}

/// An attempt that was let through. Say how it ended; one that is dropped has failed.
#[derive(Debug)]
#[must_use = "an attempt that is dropped counts as failed"]
pub struct Attempt {
    breaker: Arc<Breaker>,
    begun: Duration,
    is_told: bool,
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(settings: BreakerSettings) -> Arc<Self> {
        Self::with_seed(settings, fastrand::u64(..))
    }

    /// The same jitter for the same seed.
    #[must_use]
    pub fn with_seed(settings: BreakerSettings, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            settings,
            inner: Mutex::new(Inner {
                state: State::Closed { failures: 0 },
                opened: 0,
                random: fastrand::Rng::with_seed(seed),
            }),
        })
    }

    /// May the remote part be asked now?
    ///
    /// # Errors
    ///
    /// How long until the next probe, while it is left alone; nothing, while a probe is under way.
    pub fn admit(self: &Arc<Self>, now: Duration) -> Result<Attempt, Wait> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.state {
            State::Closed { .. } => {}
            State::Open { until } if until <= now => inner.state = State::Probing,
            State::Open { until } => return Err(Wait(until.saturating_sub(now))),
            State::Probing => return Err(Wait(Duration::ZERO)),
        }
        Ok(Attempt {
            breaker: Arc::clone(self),
            begun: now,
            is_told: false,
        })
    }

    /// What it lets through now.
    #[must_use]
    pub fn state(&self, now: Duration) -> BreakerState {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match inner.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until } if until > now => BreakerState::Open,
            State::Open { .. } | State::Probing => BreakerState::HalfOpen,
        }
    }

    fn succeeded(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // A late success of an attempt from before it opened says nothing about now.
        if !matches!(inner.state, State::Open { .. }) {
            inner.state = State::Closed { failures: 0 };
            inner.opened = 0;
        }
    }

    fn failed(&self, now: Duration) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut inner.state {
            State::Closed { failures } => {
                *failures += 1;
                if *failures >= self.settings.failures_max.max(1) {
                    self.open(&mut inner, now);
                }
            }
            State::Probing => self.open(&mut inner, now),
            State::Open { .. } => {}
        }
    }

    /// Between half and all of the time, so that many hubs do not probe in step.
    fn open(&self, inner: &mut Inner, now: Duration) {
        let factor = 1_u32 << inner.opened.min(16);
        let longest = self.settings.open_max.max(self.settings.open_min);
        let full = self.settings.open_min.saturating_mul(factor).min(longest);
        let time = full.mul_f64(0.5 + inner.random.f64() / 2.0);
        inner.state = State::Open { until: now + time };
        inner.opened = inner.opened.saturating_add(1);
    }
}

impl Attempt {
    /// The remote part answered as it should.
    pub fn succeeded(mut self) {
        self.is_told = true;
        self.breaker.succeeded();
    }

    /// It did not, or not in time.
    pub fn failed(mut self, now: Duration) {
        self.is_told = true;
        self.breaker.failed(now);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_told {
            self.breaker.failed(self.begun);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BreakerSettings = BreakerSettings {
        failures_max: 3,
        open_min: Duration::from_secs(1),
        open_max: Duration::from_secs(10),
    };

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn fail(breaker: &Arc<Breaker>, now: Duration) {
        breaker.admit(now).expect("let through").failed(now);
    }

    fn opened(now: Duration) -> Arc<Breaker> {
        let breaker = Breaker::with_seed(SETTINGS, 5);
        (0..3).for_each(|_| fail(&breaker, now));
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_does_not() {
        let breaker = Breaker::new(SETTINGS);
        for _ in 0..10 {
            fail(&breaker, at(0));
            fail(&breaker, at(0));
            breaker.admit(at(0)).expect("closed").succeeded();
        }
        assert_eq!(breaker.state(at(0)), BreakerState::Closed);
        assert_eq!(opened(at(0)).state(at(0)), BreakerState::Open);
    }

    #[test]
    fn one_probe_decides() {
        let breaker = opened(at(0));
        let Err(Wait(wait)) = breaker.admit(at(0)) else {
            panic!("it is open");
        };
        assert!((at(500)..=at(1_000)).contains(&wait));
        assert_eq!(breaker.state(wait), BreakerState::HalfOpen);
        let probe = breaker.admit(wait).expect("its time is over");
        assert!(breaker.admit(wait).is_err(), "one probe only");
        probe.succeeded();
        assert_eq!(breaker.state(wait), BreakerState::Closed);
        assert!(breaker.admit(wait).is_ok());
    }

    #[test]
    fn failed_probes_double_the_time_up_to_the_longest() {
        let breaker = opened(at(0));
        let mut now = at(0);
        let mut waits = vec![];
        for _ in 0..8 {
            let Err(Wait(wait)) = breaker.admit(now) else {
                panic!("it is open");
            };
            waits.push(wait);
            now += wait;
            // Dropped: the probe's task was cancelled.
            drop(breaker.admit(now).expect("a probe"));
        }
        for (index, wait) in waits.iter().enumerate() {
            let full = at(1_000 << index).min(SETTINGS.open_max);
            assert!(*wait >= full / 2 && *wait <= full, "{waits:?}");
        }
    }

    #[test]
    fn a_late_success_does_not_close_an_open_breaker() {
        let breaker = Breaker::with_seed(SETTINGS, 5);
        let late = breaker.admit(at(0)).expect("closed");
        (0..3).for_each(|_| fail(&breaker, at(0)));
        late.succeeded();
        assert_eq!(breaker.state(at(0)), BreakerState::Open);
    }
}
