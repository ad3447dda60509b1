//! What the subscribers had been told by `retry:` when they lost their streams.

use std::time::Duration;

use fastrand::Rng;
use gush_middleware::{Comeback, is_outdated};

/// The part of the time between two heartbeats by which the hub draws each of them earlier.
const EARLY_PART: f64 = 1.0 / 8.0;

/// What each subscriber had been told by `retry:` when it lost its stream.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// Nothing: it waits as it likes.
    Nothing,
    /// Each its own, evenly drawn.
    Between(Duration, Duration),
    /// Each its own, drawn by the pacer at the moment of the drop.
    Paced,
    /// Each its own, drawn for the crowd when it came, and anew when the crowd had grown.
    Crowd(Comeback, Growth),
}

/// How a crowd came together: what decides who was told for a smaller one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Growth {
    /// Streams that the hub had in the end; those who were dropped are spread evenly among them.
    pub streams: u32,
    /// They came at a steady rate over this time.
    pub opening: Duration,
    /// From the last one's coming to the drop.
    pub held: Duration,
    /// At most this time between two moments at which the hub may tell a stream anew; 0: it never
    /// does.
    pub heartbeat: Duration,
}

impl Growth {
    /// The delay that was told last to the one at `share` of the crowd, from 0 for who came first
    /// to 1 for who came last.
    pub(super) fn last_told(&self, rule: &Comeback, share: f64, random: &mut Rng) -> Duration {
        let dropped_at = self.opening + self.held;
        let mut at = self.opening.mul_f64(share);
        let mut streams = self.streams_at(at);
        while !self.heartbeat.is_zero() {
            at += self.heartbeat.mul_f64(1.0 - EARLY_PART * random.f64());
            if at >= dropped_at {
                break;
            }
            let now = self.streams_at(at);
            if is_outdated(rule.level(streams), rule.level(now)) {
                streams = now;
            }
        }
        rule.delay(streams, random.f64())
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a part of a u32"
    )]
    fn streams_at(&self, at: Duration) -> usize {
        let part = at.as_secs_f64() / self.opening.as_secs_f64().max(f64::MIN_POSITIVE);
        (f64::from(self.streams) * part.min(1.0)).ceil() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Comeback = Comeback {
        retry: Duration::from_secs(2),
        per_second: 1000.0,
        window_max: Duration::from_mins(1),
    };
    const GROWTH: Growth = Growth {
        streams: 50_000,
        opening: Duration::from_secs(10),
        held: Duration::from_secs(12),
        heartbeat: Duration::from_secs(10),
    };

    /// The longest delay that those in the first tenth of the crowd were told.
    fn longest(growth: Growth) -> Duration {
        let mut random = Rng::with_seed(1);
        let told = (0..2000).map(|_| {
            let share = random.f64() / 10.0;
            growth.last_told(&RULE, share, &mut random)
        });
        told.max().unwrap_or_default()
    }

    #[test]
    fn who_came_early_is_told_for_the_crowd_that_a_heartbeat_found() {
        assert!(longest(GROWTH) > Duration::from_secs(48), "of 50,000");
        let mute = Growth {
            heartbeat: Duration::ZERO,
            ..GROWTH
        };
        assert!(longest(mute) < Duration::from_secs(6), "of 5,000");
        // Dropped before the first heartbeat.
        let brief = Growth {
            held: Duration::ZERO,
            opening: Duration::from_secs(8),
            ..GROWTH
        };
        assert!(longest(brief) < Duration::from_secs(6), "of 5,000");
    }

    #[test]
    fn a_crowd_that_grew_slowly_was_told_at_the_beginning_of_its_last_step() {
        let slow = Growth {
            opening: Duration::from_mins(20),
            ..GROWTH
        };
        let top = RULE.level(50_000);
        let begin = (1..50_000).find(|streams| RULE.level(*streams) == top);
        let begin = begin.expect("a step");
        let least = RULE.delay(begin, 1.0);
        let most = longest(slow);
        let off = most.abs_diff(least);
        assert!(off < Duration::from_secs(1), "{most:?} {least:?}");
    }
}
