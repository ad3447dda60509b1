//! How hard the hub is pressed, and what it gives up for it: a ladder whose steps are climbed while
//! the pressure lasts, one at a time, and left again when it has been gone for longer.
//!
//! What is open goes on for as long as possible: first newcomers nobody knows are refused, then all
//! new streams, then publishes, and only then are streams ended, those of the slowest readers.
//! Probes and the admin listener are answered on every step.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::config::OverloadSettings;

// When a crowd is over, and its memory goes back to the system.
mod crowd_gone;
// What is measured, and by whom.
mod measure;

pub(crate) use measure::{Gauges, LogWaits, watch};

/// What is given up, each with all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Step {
    /// Nothing.
    #[default]
    Calm,
    /// New streams without a token.
    Anonymous,
    /// New streams.
    Streams,
    /// Publishes.
    Publishes,
    /// The slowest readers.
    Readers,
}

impl Step {
    /// Every step, calm first.
    pub const ALL: [Self; 5] = [
        Self::Calm,
        Self::Anonymous,
        Self::Streams,
        Self::Publishes,
        Self::Readers,
    ];

    /// What it does, for the log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calm => "everything is served",
            Self::Anonymous => "new anonymous streams are refused",
            Self::Streams => "all new streams are refused",
            Self::Publishes => "publishes are refused too",
            Self::Readers => "the slowest readers are shed too",
        }
    }

    fn of(level: usize) -> Self {
        Self::ALL[level.min(Self::ALL.len() - 1)]
    }

    const fn level(self) -> usize {
        self as usize
    }
}

/// Where pressure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The longest turn of a shard: how late an event, a timer or a new stream may be.
    Turn,
    /// Memory, the kernel's for the sockets included, as a share of what there is.
    Memory,
    /// Descriptors in use, as a share of the limit.
    Descriptors,
    /// The longest time from handing an event to the log to its answer.
    Log,
    /// Events that wait for the log, as a share of its room.
    Intake,
}

/// How many sources there are.
pub const SOURCES: usize = 5;

impl Source {
    /// Every source, in the order of the metric's label values.
    pub const ALL: [Self; SOURCES] = [
        Self::Turn,
        Self::Memory,
        Self::Descriptors,
        Self::Log,
        Self::Intake,
    ];

    /// The word in logs and metric labels.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Turn => "turn",
            Self::Memory => "memory",
            Self::Descriptors => "descriptors",
            Self::Log => "log",
            Self::Intake => "intake",
        }
    }

    /// The step that it may lead to at most. Ending streams helps neither the log nor, when new
    /// ones are refused already, the descriptors.
    const fn step_max(self) -> Step {
        match self {
            Self::Turn | Self::Memory => Step::Readers,
            Self::Descriptors => Step::Streams,
            Self::Log | Self::Intake => Step::Publishes,
        }
    }
}

/// What each source reads now, in its own unit: seconds, or a share of a whole.
pub type Readings = [f64; SOURCES];

/// Where the steps of one source begin, ascending.
type Ladder = [f64; 4];

/// The ladders of all sources and the patience of the whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// `None`: the source does not count.
    ladders: [Option<Ladder>; SOURCES],
    /// How long pressure has to last before the next step.
    dwell: Duration,
}

impl Limits {
    /// From the thresholds of the first step.
    #[must_use]
    pub fn new(settings: &OverloadSettings) -> Self {
        let time = |first: Duration| {
            let first = first.as_secs_f64();
            (first > 0.0).then_some([first, first * 2.0, first * 4.0, first * 8.0])
        };
        // The rest of the whole is divided evenly: the last step begins before all is gone.
        let share = |percent: u32| {
            let first = f64::from(percent) / 100.0;
            let rung = (1.0 - first) / 4.0;
            (percent > 0).then_some([0.0, 1.0, 2.0, 3.0].map(|rungs| first + rungs * rung))
        };
        Self {
            ladders: [
                time(settings.brownout_turn),
                share(settings.brownout_memory),
                share(settings.brownout_descriptors),
                time(settings.brownout_log),
                share(settings.brownout_intake),
            ],
            dwell: settings.brownout_dwell,
        }
    }

    /// The highest step whose threshold a source reaches, and that source. With `slack` below 1
    /// thresholds are that much lower.
    fn step(&self, readings: &Readings, slack: f64) -> (Step, Option<Source>) {
        let mut highest = (Step::Calm, None);
        for (source, (reading, ladder)) in Source::ALL
            .into_iter()
            .zip(readings.iter().zip(&self.ladders))
        {
            let Some(ladder) = ladder else { continue };
            let level = ladder.iter().filter(|at| *reading >= **at * slack).count();
            let step = Step::of(level).min(source.step_max());
            if step > highest.0 {
                highest = (step, Some(source));
            }
        }
        highest
    }

    /// A reading as a multiple of its first threshold.
    #[must_use]
    pub fn ratio(&self, source: Source, readings: &Readings) -> f64 {
        self.ladders[source as usize].map_or(0.0, |ladder| readings[source as usize] / ladder[0])
    }
}

/// A step is left when its source has fallen below this part of its threshold.
const SLACK: f64 = 0.9;

/// A step is left after so many times the patience of entering it: what was refused comes back.
const DWELLS_DOWN: u32 = 5;

/// A step that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The step now.
    pub step: Step,
    /// Upwards, and by which source; `None`: downwards.
    pub by: Option<Source>,
}

/// Which step the hub is on.
#[derive(Debug, Default)]
pub struct Brownout {
    step: Step,
    /// Since when the readings ask for a higher step, or allow a lower one.
    above_since: Option<Duration>,
    below_since: Option<Duration>,
}

impl Brownout {
    /// The step now.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }

    /// Takes note of the readings of `now`, and goes one step up or down when it is time.
    pub fn note(&mut self, now: Duration, readings: &Readings, limits: &Limits) -> Option<Change> {
        let (wanted, by) = limits.step(readings, 1.0);
        let (held, _) = limits.step(readings, SLACK);
        if wanted > self.step {
            self.below_since = None;
            let since = *self.above_since.get_or_insert(now);
            if now.saturating_sub(since) < limits.dwell {
                return None;
            }
            // The next step has to be asked for as long again.
            self.above_since = Some(now);
            self.step = Step::of(self.step.level() + 1);
            return Some(Change {
                step: self.step,
                by,
            });
        }
        self.above_since = None;
        if held >= self.step {
            self.below_since = None;
            return None;
        }
        let since = *self.below_since.get_or_insert(now);
        if now.saturating_sub(since) < limits.dwell * DWELLS_DOWN {
            return None;
        }
        self.below_since = Some(now);
        self.step = Step::of(self.step.level() - 1);
        Some(Change {
            step: self.step,
            by: None,
        })
    }
}

/// The step, for everybody who has to know: one load.
#[derive(Debug, Default)]
pub struct StepCell(AtomicU8);

impl StepCell {
    /// The step now.
    #[must_use]
    pub fn load(&self) -> Step {
        Step::of(usize::from(self.0.load(Ordering::Relaxed)))
    }

    pub(crate) fn store(&self, step: Step) {
        self.0.store(step as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
