//! A storm of real sockets: the behaviours of the simulation against a live hub.
//!
//! Clients open their streams, are all dropped in one moment, and come back as their behaviour
//! says, while events are published. What happened is written down with its time and then counted
//! by the very [`Tally`](super::tally::Tally) of the simulation, which is played beside it with
//! the same parameters.

use std::path::PathBuf;
use std::time::Duration;

use gush_middleware::Comeback;

use super::client::Behaviour;
use super::policy::{Policy, Share};
use super::told::{Growth, Told};

// The threads that hold the sockets.
mod worker;

// One subscriber: what it is told, what it has had.
mod subscriber;

// A hub that the run starts and ends itself.
mod server;

// Events that are published meanwhile.
mod publishing;

// From the threads' notes to figures.
mod notes;

// What a drain promises, and what came of it.
mod drain;

// The simulation to compare it with.
mod model;

// The run, and what it has to say.
mod run;

pub use drain::chart;
pub use run::run;

/// What ends everybody's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drop {
    /// The clients close their sockets themselves: what a cut network is to them.
    Close,
    /// The hub that the run started is killed, and started again at once.
    Kill,
    /// The hub that the run started is told to end: it closes one stream after the other, ends, and
    /// is started again at once.
    Drain,
}

impl Drop {
    /// Its word on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Close => "close",
            Self::Kill => "kill",
            Self::Drain => "drain",
        }
    }
}

/// What a run of real sockets is told.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    /// URL of the hub; with a program one is started and its own URL is used.
    pub url: String,
    /// Program and arguments of a hub to start; `{port}` stands for its port.
    pub hub: Option<(PathBuf, Vec<String>)>,
    /// Streams that are opened.
    pub subscribers: u32,
    /// How many of them are dropped, evenly among all; fewer than all only with [`Drop::Close`].
    pub dropped: u32,
    /// How they behave.
    pub shares: Vec<Share>,
    /// What drops them.
    pub drop: Drop,
    /// The time over which a hub that drains closes the streams: what it was told.
    pub drain_window: Duration,
    /// Streams opened per second before the storm.
    pub connect_rate: f64,
    /// How the crowd comes together, for the simulation; also how long it is held before the drop.
    pub growth: Growth,
    /// Events published per second; 0: none.
    pub event_rate: f64,
    /// Signs the publishes.
    pub publisher_key: Option<String>,
    /// What the hub tells, for the simulation.
    pub rule: Comeback,
    /// How far the simulation may be off, as a part of its mean, beside what chance makes of it.
    pub margin: f64,
    /// The run is given up so long after the drop.
    pub end: Duration,
    /// Of the simulation and of the clients.
    pub seed: u64,
}

impl LiveOptions {
    /// The clients and the hub, as the simulation knows them.
    pub(super) fn policy(&self, name: &'static str) -> Policy {
        Policy {
            name,
            shares: self.shares.clone(),
            told: Told::Crowd(self.rule, self.growth),
            ..Policy::of(Behaviour::CHROMIUM)
        }
    }
}
