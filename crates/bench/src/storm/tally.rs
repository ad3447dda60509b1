//! What is counted while a storm goes on.

use std::collections::VecDeque;
use std::time::Duration;

use super::Scenario;

/// Room of one point of the curve.
const STEP: Duration = Duration::from_millis(500);

/// Room of one count of the arrivals.
pub(super) const ARRIVAL_STEP: Duration = Duration::from_millis(100);

const SECOND: Duration = Duration::from_secs(1);

/// Why a subscriber will never come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GivenUp {
    /// Nobody listened.
    NoAnswer,
    /// A status other than 200.
    Status,
    /// Its attempts were used up.
    Attempts,
}

/// How a storm went under one policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Tally {
    /// The policy's name.
    pub name: &'static str,
    /// Who was dropped.
    pub subscribers: u64,
    /// Connects, answered or not.
    pub attempts: u64,
    /// Connects while nobody listened.
    pub unanswered: u64,
    /// Attempts that the server let in.
    pub admitted: u64,
    /// Attempts that got 200, `retry:` and a close.
    pub refused_softly: u64,
    /// Attempts that got 503.
    pub refused_hard: u64,
    /// Subscribers that stopped for ever because nobody listened.
    pub lost_to_no_answer: u64,
    /// Subscribers that stopped for ever because of a status.
    pub lost_to_status: u64,
    /// Subscribers that stopped after their last allowed attempt.
    pub lost_to_attempts: u64,
    /// Subscribers that have their stream again.
    pub back: u64,
    /// Subscribers that were trying or being served when the simulation ended.
    pub still_trying: u64,
    /// Most attempts that kept the server busy at the same moment.
    pub peak_at_once: u64,
    /// Most attempts admitted within one second, wherever that second begins.
    pub peak_second: u64,
    /// Most attempts, admitted or refused, within one second after the server's return, likewise.
    pub peak_second_tried: u64,
    /// From the first admission to the last.
    pub window: Duration,
    /// From the server's return until the last one was back.
    pub last_back: Duration,
    /// Seconds since the server's return, and the most attempts at once within half a second.
    pub curve: Vec<(f64, f64)>,
    /// Attempts admitted in each tenth of a second since the server's return.
    pub arrivals: Vec<u64>,

    away: Duration,
    at_once: u64,
    first_admitted: Option<Duration>,
    last_admitted: Duration,
    admitted_lately: Lately,
    tried_lately: Lately,
    at_once_by_step: Vec<u64>,
}

impl Tally {
    pub(super) fn new(name: &'static str, scenario: &Scenario) -> Self {
        Self {
            name,
            subscribers: u64::from(scenario.subscribers),
            attempts: 0,
            unanswered: 0,
            admitted: 0,
            refused_softly: 0,
            refused_hard: 0,
            lost_to_no_answer: 0,
            lost_to_status: 0,
            lost_to_attempts: 0,
            back: 0,
            still_trying: 0,
            peak_at_once: 0,
            peak_second: 0,
            peak_second_tried: 0,
            window: Duration::ZERO,
            last_back: Duration::ZERO,
            curve: vec![],
            arrivals: vec![],
            away: scenario.away,
            at_once: 0,
            first_admitted: None,
            last_admitted: Duration::ZERO,
            admitted_lately: Lately::default(),
            tried_lately: Lately::default(),
            at_once_by_step: vec![],
        }
    }

    /// Subscribers that will never come back.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.lost_to_no_answer + self.lost_to_status + self.lost_to_attempts
    }

    /// Attempts that the server answered with a no of either kind.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused_softly + self.refused_hard
    }

    /// Whether every attempt and every subscriber is accounted for.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let answered = self.admitted + self.refused();
        self.attempts == self.unanswered + answered
            && self.admitted == self.back + self.at_once
            && self.back + self.given_up() + self.still_trying == self.subscribers
    }

    /// Admissions per second over the window, which counts as a second at least.
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    #[must_use]
    pub fn mean_per_second(&self) -> f64 {
        self.admitted as f64 / self.window.as_secs_f64().max(1.0)
    }

    /// How many times the mean of the window its worst second is.
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    #[must_use]
    pub fn peak_to_mean(&self) -> f64 {
        self.peak_second as f64 / self.mean_per_second()
    }

    pub(super) fn attempt(&mut self, now: Duration) {
        self.attempts += 1;
        if let Some(since) = now.checked_sub(self.away) {
            self.tried_lately.push(since);
        }
    }

    pub(super) fn admitted(&mut self, now: Duration) {
        let since = now.saturating_sub(self.away);
        self.admitted += 1;
        self.first_admitted.get_or_insert(since);
        self.last_admitted = since;
        self.admitted_lately.push(since);
        count(
            &mut self.arrivals,
            since.as_millis() / ARRIVAL_STEP.as_millis(),
        );
    }

    /// One more keeps the server busy.
    pub(super) fn served(&mut self, now: Duration) {
        self.fill_steps(now.saturating_sub(self.away));
        self.at_once += 1;
        self.peak_at_once = self.peak_at_once.max(self.at_once);
        if let Some(step) = self.at_once_by_step.last_mut() {
            *step = (*step).max(self.at_once);
        }
    }

    /// One less.
    pub(super) fn leaves(&mut self, now: Duration) {
        self.fill_steps(now.saturating_sub(self.away));
        self.at_once = self.at_once.saturating_sub(1);
    }

    pub(super) fn is_back(&mut self, now: Duration) {
        let since = now.saturating_sub(self.away);
        self.leaves(now);
        self.back += 1;
        self.last_back = since;
    }

    pub(super) fn gives_up(&mut self, why: GivenUp) {
        match why {
            GivenUp::NoAnswer => self.lost_to_no_answer += 1,
            GivenUp::Status => self.lost_to_status += 1,
            GivenUp::Attempts => self.lost_to_attempts += 1,
        }
    }

    /// Steps in which nothing changed have what the last change left.
    fn fill_steps(&mut self, since: Duration) {
        let step = usize::try_from(since.as_millis() / STEP.as_millis()).unwrap_or(usize::MAX);
        while self.at_once_by_step.len() <= step {
            self.at_once_by_step.push(self.at_once);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    pub(super) fn finish(&mut self, still_trying: usize) {
        self.still_trying = still_trying as u64;
        let first = self.first_admitted.unwrap_or_default();
        self.window = self.last_admitted.saturating_sub(first);
        self.peak_second = self.admitted_lately.most as u64;
        self.peak_second_tried = self.tried_lately.most as u64;
        let steps = std::mem::take(&mut self.at_once_by_step);
        let points = steps.iter().enumerate();
        self.curve = points
            .map(|(step, most)| (step as f64 * STEP.as_secs_f64(), *most as f64))
            .collect();
        self.curve.push((
            self.curve.len() as f64 * STEP.as_secs_f64(),
            self.at_once as f64,
        ));
    }
}

/// What happened within the last second, and the most that did within any.
#[derive(Clone, Debug, Default, PartialEq)]
struct Lately {
    times: VecDeque<Duration>,
    most: usize,
}

impl Lately {
    /// One more, not before the last one.
    fn push(&mut self, now: Duration) {
        while self.times.front().is_some_and(|at| *at + SECOND <= now) {
            self.times.pop_front();
        }
        self.times.push_back(now);
        self.most = self.most.max(self.times.len());
    }
}

fn count(steps: &mut Vec<u64>, step: u128) {
    let step = usize::try_from(step).unwrap_or(usize::MAX);
    if steps.len() <= step {
        steps.resize(step + 1, 0);
    }
    steps[step] += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_second_begins_anywhere() {
        let mut lately = Lately::default();
        for ms in [100, 800, 900, 1700, 1799, 1800, 3000, 3900, 4000] {
            lately.push(Duration::from_millis(ms));
        }
        // 800 to 1799; the one at 1800 is a second after the first of them.
        assert_eq!(lately.most, 4);
    }
}
