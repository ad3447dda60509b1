//! The storm: a heap of what happens next, and the time of the earliest of it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use gush_middleware::Permit;

use super::Scenario;
use super::policy::{Answer, Door, Policy};
use super::tally::{GivenUp, Tally};

/// What happens to one subscriber. The order of the variants decides at the same moment, after
/// the order in which they were planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// Its stream is gone, and it knows.
    Notices,
    /// It connects.
    Tries,
    /// Its attempt is through: it has its stream again.
    IsBack,
}

/// When, in which order at the same moment, to whom, what.
type Happening = (Duration, u64, u32, What);

/// What is known of one subscriber.
#[derive(Default)]
struct Subscriber {
    /// Failed attempts in a row.
    failures: u32,
    /// The server's last `retry:`.
    told: Option<Duration>,
    /// Its place at the gate, while it is served.
    permit: Option<Permit>,
}

struct Storm<'a> {
    scenario: &'a Scenario,
    policy: &'a Policy,
    door: Door,
    random: Rng,
    subscribers: Vec<Subscriber>,
    next: BinaryHeap<Reverse<Happening>>,
    /// Happenings planned so far.
    planned: u64,
    tally: Tally,
}

/// Plays a scenario against a policy, to its end or until nothing happens any more.
#[must_use]
pub fn simulate(scenario: &Scenario, policy: &Policy) -> Tally {
    simulate_noticed(scenario, policy, &[])
}

/// The same with the moments at which the loss was noticed, in rising order and one for each
/// subscriber; without any it is noticed evenly, as the scenario says.
pub(super) fn simulate_noticed(
    scenario: &Scenario,
    policy: &Policy,
    noticed: &[Duration],
) -> Tally {
    let mut random = Rng::with_seed(scenario.seed);
    let mut storm = Storm {
        scenario,
        policy,
        door: Door::new(&policy.admission, random.u64(..)),
        random,
        subscribers: vec![],
        next: BinaryHeap::new(),
        planned: 0,
        tally: Tally::new(policy.name, scenario),
    };
    storm.drop_all(noticed);
    let end = scenario.away + scenario.end;
    while let Some((now, _, number, what)) = storm.next_until(end) {
        match what {
            What::Notices => storm.notices(number, now),
            What::Tries => storm.tries(number, now),
            What::IsBack => storm.is_back(number, now),
        }
    }
    // Whoever is neither back nor gone for ever has exactly one thing planned.
    storm.tally.finish(storm.next.len());
    storm.tally
}

impl Storm<'_> {
    /// Every stream ends; each subscriber notices in its turn.
    fn drop_all(&mut self, noticed: &[Duration]) {
        let count = self.scenario.subscribers;
        let over = self.policy.closes_over.unwrap_or(self.scenario.notice);
        for number in 0..count {
            self.subscribers.push(Subscriber::default());
            let place = (f64::from(number) + self.random.f64()) / f64::from(count);
            let at = noticed.get(number as usize).copied();
            let at = at.unwrap_or_else(|| over.mul_f64(place));
            self.plan(at, number, What::Notices);
        }
    }

    fn plan(&mut self, at: Duration, number: u32, what: What) {
        self.next.push(Reverse((at, self.planned, number, what)));
        self.planned += 1;
    }

    fn next_until(&mut self, end: Duration) -> Option<Happening> {
        let Reverse((at, ..)) = self.next.peek()?;
        if *at > end {
            return None;
        }
        self.next.pop().map(|Reverse(happening)| happening)
    }

    fn notices(&mut self, number: u32, now: Duration) {
        let share = (f64::from(number) + 1.0) / f64::from(self.scenario.subscribers);
        let told = self.policy.told;
        let told = self.door.tell(told, share, now, &mut self.random);
        self.subscribers[number as usize].told = told;
        self.plan_attempt(number, now);
    }

    fn plan_attempt(&mut self, number: u32, now: Duration) {
        let subscriber = &self.subscribers[number as usize];
        let behaviour = self.policy.behaviour(number);
        let wait = behaviour.next_wait(subscriber.failures, subscriber.told, &mut self.random);
        self.plan(now + wait, number, What::Tries);
    }

    fn tries(&mut self, number: u32, now: Duration) {
        self.tally.attempt(now);
        if now < self.scenario.away {
            self.tally.unanswered += 1;
            let survives = self.policy.behaviour(number).survives_no_answer;
            return self.failed(number, now, survives, GivenUp::NoAnswer);
        }
        match self.door.knock(now) {
            Answer::Admitted(permit) => {
                self.subscribers[number as usize].permit = permit;
                self.tally.admitted(now);
                self.tally.served(now);
                self.plan(now + self.scenario.service, number, What::IsBack);
            }
            Answer::Softly(delay) => {
                self.tally.refused_softly += 1;
                self.subscribers[number as usize].told = Some(delay);
                self.failed(number, now, true, GivenUp::Status);
            }
            Answer::Hard => {
                self.tally.refused_hard += 1;
                let survives = self.policy.behaviour(number).survives_status;
                self.failed(number, now, survives, GivenUp::Status);
            }
        }
    }

    /// The end of a failed attempt: another one is planned, or there will be none.
    fn failed(&mut self, number: u32, now: Duration, survives: bool, why: GivenUp) {
        if !survives {
            return self.tally.gives_up(why);
        }
        let subscriber = &mut self.subscribers[number as usize];
        subscriber.failures += 1;
        let attempts_max = self.policy.behaviour(number).attempts_max;
        if attempts_max > 0 && subscriber.failures >= attempts_max {
            return self.tally.gives_up(GivenUp::Attempts);
        }
        self.plan_attempt(number, now);
    }

    fn is_back(&mut self, number: u32, now: Duration) {
        // Gives the place at the gate back.
        self.subscribers[number as usize].permit = None;
        self.tally.is_back(now);
    }
}
