//! The same loads against the references and a hub, by turns.

use std::time::Duration;

use super::process::Running;
use crate::engine::Fleet;
use crate::engine::load::Load;
use crate::error::BenchError;
use crate::modes::common::{Measured, micros_per, per_second, server_of, topic_name};
use crate::modes::fanout;
use crate::options::{BenchOptions, Reference, Wait};
use crate::procfs::Processes;
use crate::progress::Progress;
use crate::report::{Report, Series, Shape, Unit};
use crate::target::Target;

/// How long each load runs where no time was given.
const DEFAULT_DURATION: Duration = Duration::from_secs(3);
/// Events per second of the load with a pace where none was given.
const DEFAULT_PACE: f64 = 1.0;
/// Events that the load with a pace has at least: fewer leave its ratio to chance.
const PACED_EVENTS_MIN: f64 = 10.0;
/// How long the load before the first measured one runs: caches and buffers settle.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long one server is loaded at a time, at least. A machine that others use as well is fast and
/// slow for seconds at a time: short turns let all servers have a share of both.
const TURN_MIN: Duration = Duration::from_millis(500);
/// The same for each stream: some events have to fit into a turn.
const TURN_PER_STREAM: Duration = Duration::from_micros(100);

/// One way to publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Scenario {
    /// Name in results.
    name: &'static str,
    /// Events in flight; 0 is a pace, whether or not an event has reached all.
    window: u32,
    /// What it is compared with.
    against: Reference,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario {
        name: "in_flight_1",
        window: 1,
        against: Reference::Loop,
    },
    Scenario {
        name: "in_flight_4",
        window: 4,
        against: Reference::Sweep,
    },
    Scenario {
        name: "in_flight_16",
        window: 16,
        against: Reference::Sweep,
    },
    Scenario {
        name: "paced",
        window: 0,
        against: Reference::Loop,
    },
];

/// What a chart shows, and which figure that is.
type Charted = (&'static str, fn(&Figures) -> f64);
const CPU: Charted = ("Server CPU per delivery", Figures::cpu_us);
const TO_ALL: Charted = ("Time until all have an event", Figures::to_all_us);

/// What one scenario came to at one server in one round, over all its turns.
#[derive(Debug, Default)]
struct Figures {
    cpu: Duration,
    delivered: u64,
    elapsed: Duration,
    /// Median time until an event had reached all, in microseconds, of each turn.
    to_all_us: Vec<f64>,
}

impl Figures {
    /// No figure where the server's process was not found.
    fn cpu_us(&self) -> f64 {
        if self.cpu.is_zero() {
            return f64::NAN;
        }
        micros_per(self.cpu, self.delivered)
    }

    fn per_second(&self) -> f64 {
        per_second(self.delivered, self.elapsed)
    }

    fn to_all_us(&self) -> f64 {
        median(self.to_all_us.clone())
    }
}

/// Exactness over the whole run.
#[derive(Debug, Default)]
struct Faults {
    not_opened: u64,
    lost: u64,
    doubled: u64,
    reordered: u64,
    errors: Vec<String>,
}

/// A server, the streams to it, and all its rounds.
struct Contender {
    name: &'static str,
    target: Target,
    server: Processes,
    fleet: Fleet,
    rounds: Vec<[Figures; SCENARIOS.len()]>,
    /// Keeps the reference alive.
    _process: Option<Running>,
}

/// Runs the mode. All servers have their streams open all the time, and take turns with each
/// load: what one is compared with was measured seconds before or after it.
///
/// # Errors
/// [`BenchError`] when a reference cannot be started, or a server cannot be used.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    let mut faults = Faults::default();
    let mut contenders = Vec::new();
    for which in [Reference::Loop, Reference::Sweep] {
        let process = Running::start(which, options)?;
        let mut of = options.clone();
        of.url = process.url();
        (of.subscribe, of.publish) = (None, None);
        of.pids = vec![process.pid()];
        let name = which.name();
        contenders.push(Contender::open(
            name,
            &of,
            (progress, &mut faults),
            Some(process),
        )?);
    }
    if options.is_url_given {
        contenders.push(Contender::open(
            "hub",
            options,
            (progress, &mut faults),
            None,
        )?);
    }
    for round in 0..options.rounds.max(1) {
        for contender in &mut contenders {
            contender.rounds.push(Default::default());
        }
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            let name = scenario.name.replace('_', " ");
            progress.phase(&format!("round {}, {name}", round + 1), 0);
            let turns = turns(scenario, options);
            for turn in 0..turns {
                for of in order(round + turn, at, contenders.len()) {
                    contenders[of].measure((at, turns), options, progress, &mut faults)?;
                }
            }
        }
    }
    progress.end();
    for contender in &mut contenders {
        let counts = contender.fleet.finish();
        faults.lost += counts.lost;
        faults.doubled += counts.doubled;
        faults.reordered += counts.reordered;
    }
    Ok(report(options, &contenders, &faults))
}

impl Contender {
    /// Opens the streams, and publishes for a moment.
    fn open(
        name: &'static str,
        options: &BenchOptions,
        (progress, faults): (&Progress, &mut Faults),
        process: Option<Running>,
    ) -> Result<Self, BenchError> {
        progress.phase(
            &format!("opening streams to the {name}"),
            options.subscribers,
        );
        let target = Target::from_options(options)?;
        let mut fleet = fanout::fleet(options, &target, 1, 2 * options.subscribers)?;
        let opened = fleet.open(options.subscribers, options.connect_rate, progress);
        if opened.opened == 0 {
            return Err(fanout::nothing_opened(&fleet));
        }
        faults.not_opened += options.subscribers - opened.opened;
        let mut load = Load::from_options(options, &target, &topic_name);
        (load.events, load.rate, load.window) = (None, None, 1);
        load.duration = WARM_UP;
        progress.timed_phase(&format!("warming up the {name}"), WARM_UP);
        fleet.drive(&load, progress)?;
        Ok(Self {
            name,
            server: server_of(options, &target, progress),
            target,
            fleet,
            rounds: Vec::new(),
            _process: process,
        })
    }

    /// Runs scenario number `at` for one of its turns.
    fn measure(
        &mut self,
        (at, turns): (usize, u32),
        options: &BenchOptions,
        progress: &Progress,
        faults: &mut Faults,
    ) -> Result<(), BenchError> {
        let mut load = Load::from_options(options, &self.target, &topic_name);
        load.duration = options.duration_or(DEFAULT_DURATION) / turns;
        (load.events, load.rate, load.window) = (None, None, SCENARIOS[at].window);
        if load.window == 0 {
            let pace = options.rate.unwrap_or(DEFAULT_PACE);
            load.rate = Some(pace);
            load.duration = load.duration.max(paced_duration(pace));
        }
        let counts = self.fleet.counts();
        let measured = Measured::run(&self.fleet, &load, &self.server, progress)?;
        let delivered = self.fleet.counts().since(counts).delivered;
        let to_all = measured.latencies.to_all.value_at_quantile(0.5);
        if let Some(round) = self.rounds.last_mut() {
            let figures = &mut round[at];
            figures.cpu += measured.server_cpu().unwrap_or_default();
            figures.delivered += delivered;
            figures.elapsed += measured.driven.elapsed;
            let to_all = Duration::from_nanos(to_all);
            figures.to_all_us.push(micros_per(to_all, 1));
        }
        faults.errors.extend(measured.driven.error);
        Ok(())
    }
}

/// In how many turns a round of a scenario is measured; one with a pace in one, or it would be
/// another pace.
fn turns(scenario: &Scenario, options: &BenchOptions) -> u32 {
    if scenario.window == 0 {
        return 1;
    }
    let streams = u32::try_from(options.subscribers).unwrap_or(u32::MAX);
    let turn = TURN_MIN.max(TURN_PER_STREAM.saturating_mul(streams));
    let turns = options.duration_or(DEFAULT_DURATION).div_duration_f64(turn);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive float that is too large becomes the largest number"
    )]
    let whole = turns as u32;
    whole.max(1)
}

/// Who is measured after whom, in a turn with one scenario. In as many turns as there are
/// contenders each has every place, and then again the other way round: what a pause or a load
/// leaves behind for the next one favours nobody.
fn order(turn: u32, at: usize, contenders: usize) -> Vec<usize> {
    let turn = usize::try_from(turn).unwrap_or(0);
    let in_turn = (0..contenders).map(|place| (place + turn + at) % contenders);
    if (turn / contenders.max(1)).is_multiple_of(2) {
        in_turn.collect()
    } else {
        in_turn.rev().collect()
    }
}

/// How long the load with a pace runs at least.
fn paced_duration(pace: f64) -> Duration {
    Duration::try_from_secs_f64(PACED_EVENTS_MIN / pace).unwrap_or(Duration::MAX)
}

/// The middle one; of an even number the lower.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values
        .get(values.len().saturating_sub(1) / 2)
        .copied()
        .unwrap_or(f64::NAN)
}

fn report(options: &BenchOptions, contenders: &[Contender], faults: &Faults) -> Report {
    let target = if options.is_url_given {
        options.url.clone()
    } else {
        "the references alone".to_owned()
    };
    let mut report = Report::new("floor", target);
    report.parameter("subscribers", options.subscribers);
    report.parameter("size_bytes", options.size as u64);
    report.parameter("rounds", options.rounds);
    let duration = options.duration_or(DEFAULT_DURATION);
    report.parameter("duration_s", duration.as_secs_f64());
    let pace = options.rate.unwrap_or(DEFAULT_PACE);
    report.parameter("pace_per_second", pace);
    report.parameter("spin", options.wait == Wait::Spin);
    report.parameter("tick", options.wait == Wait::Tick);
    for (at, scenario) in SCENARIOS.iter().enumerate() {
        for contender in contenders {
            let of = |pick: fn(&Figures) -> f64| {
                median(
                    contender
                        .rounds
                        .iter()
                        .map(|round| pick(&round[at]))
                        .collect(),
                )
            };
            let name = format!("{}_{}", contender.name, scenario.name);
            let cpu = of(Figures::cpu_us);
            report.result(&format!("{name}_cpu_us_per_delivery"), cpu, Unit::Micros);
            let rate = of(Figures::per_second);
            report.result(
                &format!("{name}_deliveries_per_second"),
                rate,
                Unit::PerSecond,
            );
            let to_all = of(Figures::to_all_us);
            report.result(&format!("{name}_to_all_p50_us"), to_all, Unit::Micros);
        }
    }
    ratios(contenders, &mut report);
    charts(contenders, &mut report);
    report.check_none("every stream opened", faults.not_opened);
    report.check_none("nothing lost", faults.lost);
    report.check_none("nothing doubled", faults.doubled);
    report.check_none("nothing reordered", faults.reordered);
    let errors = faults.errors.first().map_or("all", String::as_str);
    report.check("publishes accepted", faults.errors.is_empty(), errors);
    report
}

/// Each against what it is compared with: the median of the ratios of the rounds.
fn ratios(contenders: &[Contender], report: &mut Report) {
    for (at, scenario) in SCENARIOS.iter().enumerate() {
        let reference = |name| contenders.iter().find(|contender| contender.name == name);
        let Some(against) = reference(scenario.against.name()) else {
            continue;
        };
        for contender in contenders.iter().filter(|other| other.name != against.name) {
            let of = |pick: fn(&Figures) -> f64| {
                let rounds = contender.rounds.iter().zip(&against.rounds);
                median(rounds.map(|(a, b)| pick(&a[at]) / pick(&b[at])).collect())
            };
            let name = format!("{}_to_{}_{}", contender.name, against.name, scenario.name);
            let cpu = of(Figures::cpu_us);
            report.result(&format!("{name}_cpu_ratio"), cpu, Unit::Ratio);
            let rate = of(Figures::per_second);
            report.result(&format!("{name}_throughput_ratio"), rate, Unit::Ratio);
            let to_all = of(Figures::to_all_us);
            report.result(&format!("{name}_to_all_ratio"), to_all, Unit::Ratio);
        }
    }
}

/// The figures that have bars, of every round, so that the spread is seen.
fn charts(contenders: &[Contender], report: &mut Report) {
    for (title, pick) in [CPU, TO_ALL] {
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            for contender in contenders {
                let rounds = (1u32..).zip(&contender.rounds);
                let points = rounds.map(|(round, of)| (f64::from(round), pick(&of[at])));
                report.series(Series {
                    labels: Vec::new(),
                    chart: format!("{title}, {}", scenario.name.replace('_', " ")),
                    name: contender.name.to_owned(),
                    x_unit: "round".to_owned(),
                    y_unit: "us".to_owned(),
                    shape: Shape::Line,
                    points: points.collect(),
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_is_measured_in_turns_in_which_some_events_fit() {
        let options = |subscribers, seconds| BenchOptions {
            subscribers,
            duration: Some(Duration::from_secs(seconds)),
            ..BenchOptions::default()
        };
        let [in_flight, .., paced] = &SCENARIOS;
        assert_eq!(turns(in_flight, &options(1000, 3)), 6);
        assert_eq!(turns(in_flight, &options(10_000, 3)), 3);
        assert_eq!(turns(in_flight, &options(100_000, 8)), 1);
        assert_eq!(turns(in_flight, &options(u64::MAX, 1)), 1);
        assert_eq!(turns(paced, &options(1000, 3)), 1);
    }

    #[test]
    fn each_contender_has_every_place_with_every_load() {
        for contenders in [2, 3] {
            for at in 0..SCENARIOS.len() {
                let rounds = 0..u32::try_from(contenders).unwrap();
                for place in 0..contenders {
                    let there = rounds
                        .clone()
                        .map(|round| order(round, at, contenders)[place]);
                    let mut there: Vec<_> = there.collect();
                    there.sort_unstable();
                    assert!(there.into_iter().eq(0..contenders), "at place {place}");
                }
            }
        }
        // Neither does anybody always come after the same other.
        assert_eq!(
            (order(0, 0, 3), order(3, 0, 3)),
            (vec![0, 1, 2], vec![2, 1, 0])
        );
    }
}
