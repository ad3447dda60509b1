//! How those who were dropped behave: when they try again, and what makes them stop for ever.
//!
//! The real ones were measured against a scripted server on loopback; `docs/concepts/storms.md`
//! has the table.

use std::time::Duration;

use fastrand::Rng;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The time until the next attempt, as long as the server has named none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The same each time.
    Fixed(Duration),
    /// Doubles with each failure in a row, up to `most`.
    Doubling {
        /// After the first failure.
        first: Duration,
        /// No wait is longer.
        most: Duration,
    },
    /// Anything between zero and what `Doubling` waits.
    FullJitter {
        /// Ceiling after the first failure.
        first: Duration,
        /// No ceiling is higher.
        most: Duration,
    },
    /// Anything between the half and the whole of what `Doubling` waits.
    HalfJitter {
        /// Ceiling after the first failure.
        first: Duration,
        /// No ceiling is higher.
        most: Duration,
    },
}

/// What a `retry:` of the server changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heeds {
    /// Nothing.
    Never,
    /// It is the wait, but at least this.
    AtLeast(Duration),
    /// It takes the place of the first wait; doubling and jitter stay.
    AsFirst,
    /// It comes on top of the own wait: never sooner, and still spread.
    Plus,
}

/// One kind of subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behaviour {
    /// What it is called in tables.
    pub name: &'static str,
    /// Its own wait.
    pub wait: Wait,
    /// What it makes of `retry:`.
    pub heeds: Heeds,
    /// Whether it tries again when nobody listens.
    pub survives_no_answer: bool,
    /// Whether it tries again after 429 or 503.
    pub survives_status: bool,
    /// Stops after so many failed attempts in a row; 0: never.
    pub attempts_max: u32,
}

impl Behaviour {
    /// One that never gives up and knows no `retry:`.
    const fn plain(name: &'static str, wait: Wait) -> Self {
        Self {
            name,
            wait,
            heeds: Heeds::Never,
            survives_no_answer: true,
            survives_status: true,
            attempts_max: 0,
        }
    }

    /// An `EventSource` by the book: a fixed wait, `retry:` to the letter, and the end at the first
    /// status other than 200.
    const fn browser(name: &'static str, wait: Duration) -> Self {
        Self {
            heeds: Heeds::AtLeast(Duration::ZERO),
            survives_status: false,
            ..Self::plain(name, Wait::Fixed(wait))
        }
    }

    /// A loop around connect: again after a second, and again.
    pub const NO_BACKOFF: Self = Self::plain("no backoff", Wait::Fixed(secs(1)));

    /// Doubling from one second to one minute: the same for everybody.
    pub const EXPONENTIAL: Self = Self::plain(
        "exponential",
        Wait::Doubling {
            first: secs(1),
            most: secs(60),
        },
    );

    /// Full jitter under the same ceilings.
    pub const FULL_JITTER: Self = Self::plain(
        "full jitter",
        Wait::FullJitter {
            first: secs(1),
            most: secs(60),
        },
    );

    /// No backoff of its own, but takes the wait that the server names.
    pub const OBEDIENT: Self = Self {
        heeds: Heeds::AtLeast(Duration::ZERO),
        ..Self::NO_BACKOFF
    };

    /// Chromium 156: measured 3.007, 3.011, 3.009 s in a row, no jitter.
    pub const CHROMIUM: Self = Self::browser("Chromium", secs(3));

    /// Firefox ESR 153: 5.0 s, no `retry:` below half a second, closed for ever after one refused
    /// connect.
    pub const FIREFOX: Self = Self {
        heeds: Heeds::AtLeast(millis(500)),
        survives_no_answer: false,
        ..Self::browser("Firefox", secs(5))
    };

    /// npm `eventsource` 4.1.1 and `undici` 7.30.
    pub const EVENTSOURCE: Self = Self::browser("eventsource", secs(3));

    /// The Rust `eventsource-client` 0.15 (`LaunchDarkly`): jitter, doubling to 30 s, retries all.
    pub const LAUNCHDARKLY: Self = Self {
        heeds: Heeds::AsFirst,
        ..Self::plain(
            "LaunchDarkly",
            Wait::HalfJitter {
                first: secs(1),
                most: secs(30),
            },
        )
    };

    /// `event-source-plus` 0.1.15: every 40 ms, whatever it is told.
    pub const EVENT_SOURCE_PLUS: Self = Self::plain("event-source-plus", Wait::Fixed(millis(40)));

    /// `event-source-polyfill` 1.0.31: 1, 2, 4, 8 s as measured, and by its source up to 16 times
    /// the first wait; stops at a status.
    pub const POLYFILL: Self = Self {
        survives_status: false,
        ..Self::plain(
            "event-source-polyfill",
            Wait::Doubling {
                first: secs(1),
                most: secs(16),
            },
        )
    };

    /// `gush sub`: the server's `retry:` and full jitter above it; ten attempts in a row.
    pub const GUSH_SUB: Self = Self {
        heeds: Heeds::Plus,
        attempts_max: 10,
        ..Self::plain(
            "gush sub",
            Wait::FullJitter {
                first: secs(1),
                most: secs(30),
            },
        )
    };

    /// The wait before the next attempt, after so many failures in a row (0: the stream was fine
    /// until it was dropped), when the server said `told` last.
    pub fn next_wait(&self, failures: u32, told: Option<Duration>, random: &mut Rng) -> Duration {
        match (self.heeds, told) {
            (Heeds::AtLeast(least), Some(told)) => told.max(least),
            (Heeds::AsFirst, Some(told)) => self.wait.drawn(failures, Some(told), random),
            (Heeds::Plus, Some(told)) => told + self.wait.drawn(failures, None, random),
            (Heeds::Never, _) | (_, None) => self.wait.drawn(failures, None, random),
        }
    }
}

impl Wait {
    fn drawn(self, failures: u32, first_told: Option<Duration>, random: &mut Rng) -> Duration {
        let doubled = |first: Duration, most: Duration| {
            let first = first_told.unwrap_or(first);
            first.saturating_mul(1 << failures.min(16)).min(most)
        };
        match self {
            Self::Fixed(wait) => first_told.unwrap_or(wait),
            Self::Doubling { first, most } => doubled(first, most),
            Self::FullJitter { first, most } => doubled(first, most).mul_f64(random.f64()),
            Self::HalfJitter { first, most } => {
                doubled(first, most).mul_f64(0.5 + random.f64() / 2.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(behaviour: &Behaviour, told: Option<Duration>) -> Vec<Duration> {
        let mut random = Rng::with_seed(1);
        (0..8)
            .map(|failures| behaviour.next_wait(failures, told, &mut random))
            .collect()
    }

    #[test]
    fn each_waits_as_it_was_measured() {
        let told = Some(millis(300));
        assert!(
            waits(&Behaviour::CHROMIUM, None)
                .iter()
                .all(|w| *w == secs(3))
        );
        assert!(
            waits(&Behaviour::CHROMIUM, told)
                .iter()
                .all(|w| *w == millis(300))
        );
        assert!(
            waits(&Behaviour::FIREFOX, told)
                .iter()
                .all(|w| *w == millis(500))
        );
        assert!(
            waits(&Behaviour::EVENT_SOURCE_PLUS, told)
                .iter()
                .all(|w| *w == millis(40))
        );
        let polyfill: Vec<u64> = waits(&Behaviour::POLYFILL, told)
            .iter()
            .map(Duration::as_secs)
            .collect();
        assert_eq!(polyfill, [1, 2, 4, 8, 16, 16, 16, 16]);
    }

    #[test]
    fn jitter_stays_below_its_ceiling_and_above_what_was_told() {
        for (failures, wait) in (0_u32..).zip(waits(&Behaviour::FULL_JITTER, None)) {
            assert!(wait < secs(1 << failures).min(secs(60)));
        }
        for (failures, wait) in (0_u32..).zip(waits(&Behaviour::LAUNCHDARKLY, Some(secs(1)))) {
            let ceiling = secs(1 << failures).min(secs(30));
            assert!(wait >= ceiling / 2 && wait <= ceiling);
        }
        for (failures, wait) in (0_u32..).zip(waits(&Behaviour::GUSH_SUB, Some(secs(7)))) {
            let most = secs(1 << failures).min(secs(30));
            assert!(wait >= secs(7) && wait <= secs(7) + most);
        }
    }
}
