//! A rate with a burst, as one number: the moment at which the bucket would be full again (the
//! generic cell rate algorithm, ITU-T I.371). No timer refills it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::Wait;

/// How many per second, and how many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// Over any long time; from one a day to a thousand million a second.
    pub per_second: f64,
    /// At once, when nothing came for a while; at least 1.
    pub burst: u32,
}

impl Rate {
    /// So many per second, and so many at once.
    #[must_use]
    pub const fn new(per_second: f64, burst: u32) -> Self {
        Self { per_second, burst }
    }
}

impl Rate {
    /// Nanoseconds between two tokens, and in which an empty bucket fills.
    fn nanos(self) -> (u64, u64) {
        let step_ns = nanos(1.0 / self.per_second.clamp(1.0 / 86_400.0, 1e9));
        (
            step_ns,
            step_ns.saturating_mul(u64::from(self.burst.max(1))),
        )
    }
}

/// When the bucket is full, as it stands now: between now and the time that it needs when empty.
/// Never emptier than empty, so that a rate that was raised does not wait for what the old one
/// owed.
fn full_at(full_at_ns: u64, now_ns: u64, depth_ns: u64) -> u64 {
    full_at_ns.clamp(now_ns, now_ns.saturating_add(depth_ns))
}

/// The same once `price_ns` are taken out of it.
fn full_after(full_at_ns: u64, now_ns: u64, price_ns: u64, depth_ns: u64) -> Result<u64, Wait> {
    let after_ns = full_at_ns.saturating_add(price_ns);
    let over_ns = (after_ns - now_ns).saturating_sub(depth_ns);
    if over_ns > 0 {
        return Err(Wait(Duration::from_nanos(over_ns)));
    }
    Ok(after_ns)
}

fn whole_nanos(now: Duration) -> u64 {
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}

/// The bucket of one key (see [`crate::Keyed`]): 8 bytes, told its rate each time. The default is
/// full.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    ///
    /// How long until there is one.
    pub fn take(&mut self, now: Duration, rate: Rate) -> Result<(), Wait> {
        let (step_ns, depth_ns) = rate.nanos();
        let now_ns = whole_nanos(now);
        self.full_at_ns = full_at(self.full_at_ns, now_ns, depth_ns);
        self.full_at_ns = full_after(self.full_at_ns, now_ns, step_ns, depth_ns)?;
        Ok(())
    }

    /// Takes back a token that was taken just now, because something else refused.
    pub fn give_back(&mut self, rate: Rate) {
        self.full_at_ns = self.full_at_ns.saturating_sub(rate.nanos().0);
    }

    /// Whether it is full, so that a new one in its place would decide the same.
    #[must_use]
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at_ns <= whole_nanos(now)
    }
}

/// A token bucket that threads share. Admits in one atomic exchange.
#[derive(Debug)]
pub struct TokenBucket {
    // All in nanoseconds.
    /// When the bucket is full, in the caller's time.
    full_at: AtomicU64,
    /// Between two tokens.
    step: AtomicU64,
    /// In which an empty bucket fills.
    depth: AtomicU64,
}

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        let bucket = Self {
            full_at: AtomicU64::new(0),
            step: AtomicU64::new(0),
            depth: AtomicU64::new(0),
        };
        bucket.set(rate);
        bucket
    }

    /// Changes the rate; what was taken stays taken.
    pub fn set(&self, rate: Rate) {
        let (step_ns, depth_ns) = rate.nanos();
        self.step.store(step_ns, Ordering::Relaxed);
        self.depth.store(depth_ns, Ordering::Relaxed);
    }

    /// Takes a token.
    ///
    /// # Errors
    ///
    /// How long until there is one.
    pub fn take(&self, now: Duration) -> Result<(), Wait> {
        self.take_many(1, now)
    }

    /// Takes `count` tokens or none.
    ///
    /// # Errors
    ///
    /// How long until there are so many. More than the burst are never there at once; then it is
    /// the time to gather them at this rate.
    pub fn take_many(&self, count: u32, now: Duration) -> Result<(), Wait> {
        let now_ns = whole_nanos(now);
        let (step_ns, depth_ns) = (
            self.step.load(Ordering::Relaxed),
            self.depth.load(Ordering::Relaxed),
        );
        let price_ns = step_ns.saturating_mul(u64::from(count));
        let mut seen_ns = self.full_at.load(Ordering::Relaxed);
        loop {
            let full_at_ns = full_at(seen_ns, now_ns, depth_ns);
            let after = full_after(full_at_ns, now_ns, price_ns, depth_ns);
            if after.is_err() && full_at_ns >= seen_ns {
                return after.map(drop);
            }
            match self.full_at.compare_exchange_weak(
                seen_ns,
                after.unwrap_or(full_at_ns),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return after.map(drop),
                Err(seen) => seen_ns = seen,
            }
        }
    }

    /// Takes back a token that was taken just now, because something else refused.
    pub fn give_back(&self) {
        let step_ns = self.step.load(Ordering::Relaxed);
        let earlier = |full_at_ns: u64| Some(full_at_ns.saturating_sub(step_ns));
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
    }

    /// Whether it is full, so that a new one in its place would decide the same.
    #[must_use]
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at.load(Ordering::Relaxed) <= whole_nanos(now)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive time of at most a day"
)]
fn nanos(seconds: f64) -> u64 {
    ((seconds * 1e9) as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let bucket = TokenBucket::new(Rate {
            per_second: 10.0,
            burst: 3,
        });
        let now = at(5_000);
        for _ in 0..3 {
            assert_eq!(bucket.take(now), Ok(()));
        }
        assert_eq!(bucket.take(now), Err(Wait(at(100))));
        assert_eq!(bucket.take(at(5_060)), Err(Wait(at(40))));
        assert_eq!(bucket.take(at(5_100)), Ok(()));
        assert!(bucket.take(at(5_199)).is_err());
        assert!(!bucket.is_full(at(5_300)));
        assert!(bucket.is_full(at(5_400)));
        assert_eq!(bucket.take_many(3, at(9_000)), Ok(()));
        assert_eq!(bucket.take_many(4, at(99_000)), Err(Wait(at(100))));
    }

    #[test]
    fn another_rate_holds_at_once() {
        let bucket = TokenBucket::new(Rate {
            per_second: 1.0,
            burst: 1,
        });
        assert!(bucket.take(at(0)).is_ok());
        bucket.set(Rate {
            per_second: 1000.0,
            burst: 100,
        });
        assert!(bucket.take_many(50, at(1_000)).is_ok());
    }

    #[test]
    fn a_raised_rate_does_not_wait_for_the_old_one() {
        let (slow, fast) = (Rate::new(1.0, 60), Rate::new(1000.0, 100));
        let (shared, mut own) = (TokenBucket::new(slow), Bucket::default());
        for _ in 0..60 {
            assert!(shared.take(at(0)).is_ok() && own.take(at(0), slow).is_ok());
        }
        shared.set(fast);
        assert_eq!(shared.take(at(0)), Err(Wait(at(1))));
        assert_eq!(own.take(at(0), fast), Err(Wait(at(1))));
        assert!(shared.take(at(1)).is_ok() && own.take(at(1), fast).is_ok());
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let rate = Rate::new(10.0, 2);
        let (shared, mut own) = (TokenBucket::new(rate), Bucket::default());
        let now = at(5_000);
        for _ in 0..2 {
            assert!(shared.take(now).is_ok() && own.take(now, rate).is_ok());
        }
        assert_eq!(own.take(now, rate), Err(Wait(at(100))));
        assert!(!own.is_full(now));
        shared.give_back();
        own.give_back(rate);
        assert!(shared.take(now).is_ok() && own.take(now, rate).is_ok());
        assert!(shared.take(now).is_err() && own.take(now, rate).is_err());
        assert!(own.is_full(at(5_200)));
    }

    proptest! {
        /// Whatever comes and whenever: never more than burst + rate x time, and the wait that is
        /// told is enough and not too much.
        #[test]
        fn never_more_than_the_rate_allows(
            per_second in 1_u32..2_000, burst in 1_u32..50,
            gaps_us in prop::collection::vec(0_u64..20_000, 1..300),
        ) {
            let rate = Rate { per_second: f64::from(per_second), burst };
            let (bucket, mut own) = (TokenBucket::new(rate), Bucket::default());
            let (mut now, mut taken) = (Duration::ZERO, 0_u64);
            for gap in gaps_us {
                now += Duration::from_micros(gap);
                let taking = bucket.take(now);
                prop_assert_eq!(own.take(now, rate), taking, "both kinds decide the same");
                match taking {
                    Ok(()) => taken += 1,
                    Err(Wait(wait)) => {
                        let early = now + wait.saturating_sub(Duration::from_micros(1));
                        prop_assert!(bucket.take(early).is_err());
                        now += wait;
                        prop_assert!(bucket.take(now).is_ok() && own.take(now, rate).is_ok());
                        taken += 1;
                    }
                }
                // A thousandth for the rounding of the step to whole nanoseconds.
                let allowed = f64::from(burst) + now.as_secs_f64() * f64::from(per_second) * 1.001;
                #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
                let taken = taken as f64;
                prop_assert!(taken <= allowed + 1e-6, "{taken} of {allowed}");
            }
        }
    }
}
