//! The simulation beside real sockets. One storm is not compared with one draw of another, but with
//! what many draws have in common, and how far they are apart among themselves.

use std::time::Duration;

use super::LiveOptions;
use crate::report::{Report, Series, Shape};
use crate::storm::simulate::simulate_noticed;
use crate::storm::tally::ARRIVAL_STEP;
use crate::storm::{Scenario, Tally};

/// Seeds that are played.
const SEEDS: u32 = 20;

/// A real figure may be off by the margin and so many standard deviations of one among the seeds:
/// it is one draw, too.
const DEVIATIONS: f64 = 3.0;

/// The share of those who are back may differ by so much at any time, beside chance.
const CURVE_MARGIN: f64 = 0.01;

/// What chance makes of that distance in one draw of a hundred at most, times the root of the
/// number of subscribers (Kolmogorov's distribution).
const CURVE_CHANCE: f64 = 1.63;

/// What the seeds gave for one figure.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    mean: f64,
    /// The standard deviation.
    deviation: f64,
}

impl Spread {
    #[expect(clippy::cast_precision_loss, reason = "some seeds")]
    fn of(values: &[f64]) -> Self {
        let count = values.len().max(1) as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares = values.iter().map(|value| (value - mean).powi(2));
        let free = (count - 1.0).max(1.0);
        Self {
            mean,
            deviation: (squares.sum::<f64>() / free).sqrt(),
        }
    }

    /// Whether a real figure may be another draw of the same, but for the margin.
    fn allows(&self, real: f64, margin: f64) -> bool {
        let most = margin * self.mean.abs() + DEVIATIONS * self.deviation;
        (real - self.mean).abs() <= most
    }
}

/// The storm as simulated with many seeds.
pub(super) struct Model {
    tallies: Vec<Tally>,
}

impl Model {
    /// Plays the scenario with its own seed and those behind it. What is simulated begins when the
    /// loss is noticed: when that was, is measured.
    pub(super) fn play(scenario: &Scenario, noticed: &[Duration], options: &LiveOptions) -> Self {
        let policy = options.policy("simulated");
        let seeds = (0..SEEDS).map(|more| scenario.seed.wrapping_add(u64::from(more)));
        let tallies =
            seeds.map(|seed| simulate_noticed(&Scenario { seed, ..*scenario }, &policy, noticed));
        Self {
            tallies: tallies.collect(),
        }
    }

    /// The storm of the scenario's own seed.
    pub(super) fn first(&self) -> &Tally {
        &self.tallies[0]
    }

    fn spread(&self, figure: fn(&Tally) -> f64) -> Spread {
        Spread::of(&self.tallies.iter().map(figure).collect::<Vec<_>>())
    }

    /// Holds what was measured against it.
    pub(super) fn verdicts(&self, live: &Tally, margin: f64, report: &mut Report) {
        for (what, figure) in FIGURES {
            let (real, spread) = (figure(live), self.spread(*figure));
            let name = format!(
                "model: {what} within {:.0} % and {DEVIATIONS:.0} deviations",
                margin * 100.0
            );
            let off = (real / spread.mean - 1.0) * 100.0;
            let detail = format!(
                "{real:.1} real, {:.1} ± {:.1} simulated: {off:+.1} %",
                spread.mean, spread.deviation
            );
            report.check(&name, spread.allows(real, margin), detail);
        }
        let apart = self.apart(live);
        let chance = CURVE_CHANCE / real_count(live).sqrt();
        let name = format!(
            "model: share that is back within {:.0} points and chance at any time",
            CURVE_MARGIN * 100.0
        );
        let detail = format!(
            "{:.2} points apart at most; chance {:.2}",
            apart * 100.0,
            chance * 100.0
        );
        report.check(&name, apart <= CURVE_MARGIN + chance, detail);
    }

    /// The most by which the shares of those let in are apart at any time: the distance of
    /// Kolmogorov and Smirnov.
    fn apart(&self, live: &Tally) -> f64 {
        let all: Vec<&[u64]> = self.tallies.iter().map(|one| &one.arrivals[..]).collect();
        let (real, model) = (shares(&[&live.arrivals]), shares(&all));
        let steps = real.len().max(model.len());
        let at = |shares: &[f64], step: usize| {
            let last = shares.last().copied().unwrap_or_default();
            shares.get(step).copied().unwrap_or(last)
        };
        let apart = (0..steps).map(|step| (at(&real, step) - at(&model, step)).abs());
        apart.fold(0.0, f64::max)
    }

    /// Both curves of those let in, second by second.
    pub(super) fn curves(&self, live: &Tally) -> [Series; 2] {
        let all: Vec<&[u64]> = self.tallies.iter().map(|one| &one.arrivals[..]).collect();
        [
            series("real sockets", &[&live.arrivals]),
            series("simulated, mean of the seeds", &all),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn real_count(live: &Tally) -> f64 {
    live.subscribers.max(1) as f64
}

type Figure = (&'static str, fn(&Tally) -> f64);

#[expect(clippy::cast_precision_loss, reason = "some millions")]
const FIGURES: &[Figure] = &[
    ("attempts", |tally| tally.attempts as f64),
    ("let in per second at most", |tally| {
        tally.peak_second as f64
    }),
    ("mean per second", Tally::mean_per_second),
    ("last back", |tally| tally.last_back.as_secs_f64()),
];

/// The sum of several counts, step by step.
fn sum(counts: &[&[u64]]) -> Vec<u64> {
    let steps = counts.iter().map(|count| count.len()).max().unwrap_or(0);
    let at = |step: usize| counts.iter().filter_map(|count| count.get(step)).sum();
    (0..steps).map(at).collect()
}

/// The part of all that came by the end of each step.
#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn shares(counts: &[&[u64]]) -> Vec<f64> {
    let counts = sum(counts);
    let all = counts.iter().sum::<u64>().max(1) as f64;
    let mut so_far = 0;
    let mut share = |count: &u64| {
        so_far += count;
        so_far as f64 / all
    };
    counts.iter().map(&mut share).collect()
}

#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn series(name: &str, counts: &[&[u64]]) -> Series {
    let steps = usize::try_from(1000 / ARRIVAL_STEP.as_millis()).unwrap_or(1);
    let storms = counts.len().max(1) as f64;
    let total = sum(counts);
    let seconds = total.chunks(steps).enumerate();
    Series {
        chart: "Let in per second".to_owned(),
        name: name.to_owned(),
        x_unit: "s after the server's return".to_owned(),
        y_unit: "let in".to_owned(),
        shape: Shape::Line,
        labels: vec![],
        points: seconds
            .map(|(second, counts)| (second as f64, counts.iter().sum::<u64>() as f64 / storms))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use gush_middleware::Comeback;

    use super::*;
    use crate::storm::live::Drop;
    use crate::storm::{Behaviour, Growth, Share, simulate};

    const SCENARIO: Scenario = Scenario {
        subscribers: 2000,
        away: Duration::from_millis(500),
        notice: Duration::from_millis(700),
        service: Duration::from_millis(1),
        end: Duration::from_mins(1),
        seed: 1,
    };

    fn options(per_second: f64) -> LiveOptions {
        LiveOptions {
            url: String::new(),
            hub: None,
            subscribers: 2000,
            dropped: 2000,
            shares: vec![Share {
                behaviour: Behaviour::CHROMIUM,
                parts: 1,
            }],
            drop: Drop::Close,
            drain_window: Duration::ZERO,
            connect_rate: 200.0,
            growth: Growth {
                streams: 2000,
                opening: Duration::from_secs(10),
                held: Duration::from_secs(12),
                heartbeat: Duration::from_secs(10),
            },
            event_rate: 0.0,
            publisher_key: None,
            rule: Comeback {
                retry: Duration::from_secs(2),
                per_second,
                window_max: Duration::from_mins(1),
            },
            margin: 0.05,
            end: Duration::from_mins(1),
            seed: 1,
        }
    }

    fn failed(live: &Tally, model: &Model) -> Vec<String> {
        let mut report = Report::new("storm run", "test");
        model.verdicts(live, 0.05, &mut report);
        assert_eq!(report.checks.len(), FIGURES.len() + 1);
        let failed = report.checks.into_iter().filter(|check| !check.passed);
        failed.map(|check| check.name).collect()
    }

    #[test]
    fn another_draw_of_the_same_storm_passes_and_another_storm_does_not() {
        let options = options(200.0);
        let model = Model::play(&SCENARIO, &[], &options);
        let storm = |options: &LiveOptions, seed| {
            simulate(&Scenario { seed, ..SCENARIO }, &options.policy("real"))
        };
        for seed in 100..110 {
            assert_eq!(failed(&storm(&options, seed), &model), [""; 0]);
        }
        // All notice at the end of the time instead of evenly.
        let late = Model::play(&SCENARIO, &vec![SCENARIO.notice; 2000], &options);
        assert_eq!(failed(&storm(&options, 100), &late).len(), 1, "the curve");
        let denser = self::options(300.0);
        let denser = failed(&storm(&denser, 100), &model);
        assert_eq!(denser.len(), 4, "all but the attempts: {denser:?}");
        assert!(model.curves(model.first())[0].points.len() > 10);
    }

    #[test]
    fn the_spread_is_that_of_a_sample() {
        let spread = Spread::of(&[1.0, 2.0, 3.0]);
        assert_eq!(
            spread,
            Spread {
                mean: 2.0,
                deviation: 1.0
            }
        );
        assert!(spread.allows(5.1, 0.05) && !spread.allows(5.2, 0.05));
        assert_eq!(Spread::of(&[7.0]).deviation.to_string(), "0");
    }
}
