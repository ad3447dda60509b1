//! Whom the server admits, and what it tells the others. The decisions are made by the machines of
//! `gush-middleware`, which are the hub's; this only hands them the simulated time.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use gush_middleware::{Gate, Pacer, PacerSettings, Permit, Rate, TokenBucket};

use super::client::Behaviour;
use super::told::Told;

/// So many parts of the subscribers behave so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// How they behave.
    pub behaviour: Behaviour,
    /// Parts of the whole; the parts of a policy add up to the whole, whatever their sum.
    pub parts: u32,
}

/// How the server says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusing {
    /// 200, `retry:` and the end of the body.
    Softly,
    /// 503.
    Hard,
}

/// The server's limits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Admission {
    /// Attempts admitted over time; `None`: all.
    pub rate: Option<Rate>,
    /// Attempts under way at once; `None`: any number.
    pub at_once: Option<usize>,
    /// What the others get.
    pub refusing: Refusing,
    /// How long the others are told to stay away, when they are told.
    pub pacing: PacerSettings,
}

impl Admission {
    /// Everybody.
    pub const OPEN: Self = Self {
        rate: None,
        at_once: None,
        refusing: Refusing::Softly,
        pacing: PacerSettings::per_second(1000.0),
    };

    /// So many per second, a tenth of that at once, and the others are told to come back as fast as
    /// they can be taken in, within half a minute. A larger burst is all used in the first second,
    /// and makes that the worst.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate of at most some millions"
    )]
    #[must_use]
    pub fn paced(per_second: f64) -> Self {
        Self {
            rate: Some(Rate::new(per_second, (per_second / 10.0).max(1.0) as u32)),
            pacing: PacerSettings {
                delay_max: Duration::from_secs(30),
                ..PacerSettings::per_second(per_second)
            },
            ..Self::OPEN
        }
    }
}

/// How the subscribers behave, and how the server does.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What it is called in tables and legends.
    pub name: &'static str,
    /// The behaviours; at least one, with parts above 0.
    pub shares: Vec<Share>,
    /// The server's limits.
    pub admission: Admission,
    /// What the subscribers know when they are dropped.
    pub told: Told,
    /// When the server closes the streams itself, over so long; else they notice as the scenario
    /// says.
    pub closes_over: Option<Duration>,
}

impl Policy {
    /// All subscribers behave alike, and the server has no limits.
    #[must_use]
    pub fn of(behaviour: Behaviour) -> Self {
        Self {
            name: behaviour.name,
            shares: vec![Share {
                behaviour,
                parts: 1,
            }],
            admission: Admission::OPEN,
            told: Told::Nothing,
            closes_over: None,
        }
    }

    /// The behaviour of subscriber `number`: the shares are dealt in turn, so that each part of the
    /// crowd holds them all.
    pub(super) fn behaviour(&self, number: u32) -> &Behaviour {
        let all: u64 = self.shares.iter().map(|share| u64::from(share.parts)).sum();
        // A step that has no factor in common with the sums in use walks through all the parts.
        let mut place = (u64::from(number) * 7919) % all.max(1);
        for share in &self.shares {
            if place < u64::from(share.parts) {
                return &share.behaviour;
            }
            place -= u64::from(share.parts);
        }
        &self.shares[0].behaviour
    }
}

/// The server's door, in simulated time.
pub(super) struct Door {
    bucket: Option<TokenBucket>,
    gate: Option<Arc<Gate>>,
    pacer: Pacer,
    refusing: Refusing,
}

/// What an attempt got.
pub(super) enum Answer {
    /// It may stay; the permit is held until it is served.
    Admitted(Option<Permit>),
    /// Come back after this time.
    Softly(Duration),
    /// 503.
    Hard,
}

impl Door {
    pub(super) fn new(admission: &Admission, seed: u64) -> Self {
        Self {
            bucket: admission.rate.map(TokenBucket::new),
            gate: admission.at_once.map(Gate::new),
            pacer: Pacer::with_seed(admission.pacing, seed),
            refusing: admission.refusing,
        }
    }

    /// One attempt at `now`. The place is asked for first: a token is not given back.
    pub(super) fn knock(&mut self, now: Duration) -> Answer {
        let permit = match &self.gate {
            None => None,
            Some(gate) => match gate.admit() {
                Some(permit) => Some(permit),
                None => return self.refuse(now),
            },
        };
        let has_token = self
            .bucket
            .as_ref()
            .is_none_or(|bucket| bucket.take(now).is_ok());
        if has_token {
            return Answer::Admitted(permit);
        }
        self.refuse(now)
    }

    fn refuse(&mut self, now: Duration) -> Answer {
        match self.refusing {
            Refusing::Softly => Answer::Softly(self.pacer.delay(now)),
            Refusing::Hard => Answer::Hard,
        }
    }

    /// What one is told that is dropped at `now`. `share` is its place in the crowd, in the order
    /// of their coming, from 0 to 1.
    pub(super) fn tell(
        &mut self,
        told: Told,
        share: f64,
        now: Duration,
        random: &mut Rng,
    ) -> Option<Duration> {
        match told {
            Told::Nothing => None,
            Told::Between(least, most) => {
                Some(least + most.saturating_sub(least).mul_f64(random.f64()))
            }
            Told::Paced => Some(self.pacer.delay(now)),
            Told::Crowd(rule, growth) => Some(growth.last_told(&rule, share, random)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_dealt_as_they_are_written() {
        let mut policy = Policy::of(Behaviour::CHROMIUM);
        policy.shares[0].parts = 70;
        policy.shares.push(Share {
            behaviour: Behaviour::FIREFOX,
            parts: 30,
        });
        let firefoxes = (0..1000)
            .filter(|number| policy.behaviour(*number).name == "Firefox")
            .count();
        assert_eq!(firefoxes, 300);
        let early = (0..100)
            .filter(|number| policy.behaviour(*number).name == "Firefox")
            .count();
        assert_eq!(early, 30, "in each part of the crowd");
    }

    #[test]
    fn a_door_without_a_token_gives_its_place_back() {
        let admission = Admission {
            at_once: Some(5),
            rate: Some(Rate::new(1.0, 1)),
            ..Admission::OPEN
        };
        let mut door = Door::new(&admission, 1);
        let first = door.knock(Duration::from_secs(9));
        assert!(matches!(first, Answer::Admitted(Some(_))));
        for _ in 0..9 {
            let next = door.knock(Duration::from_secs(9));
            assert!(matches!(next, Answer::Softly(wait) if wait >= Duration::from_secs(1)));
        }
        assert_eq!(door.gate.as_ref().map(|gate| gate.open()), Some(1));
    }
}
