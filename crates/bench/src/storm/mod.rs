//! Reconnect storms, simulated: what happens when everybody comes back at once.
//!
//! A [`Scenario`] says who was dropped and how the server is, a [`Policy`] how the dropped behave
//! and whom the server admits. [`simulate`](fn@simulate) plays one against the other in simulated
//! time, with the very state machines of `gush-middleware` on the server's side. The same seed
//! gives the same storm.

// How those who were dropped behave.
pub mod client;

// Whom the server admits, and what it tells the others.
pub mod policy;

// What they had been told before.
pub mod told;

// The storm itself.
mod simulate;
mod tally;

// The same with real sockets.
pub mod live;

// Storms worth a look, and what they have to show.
mod preset;
mod summary;

pub use client::Behaviour;
pub use policy::{Admission, Policy, Refusing, Share};
pub use preset::{ARTICLE, ArticleRow, Preset};
pub use simulate::simulate;
pub use summary::{chart, report, table};
pub use tally::Tally;
pub use told::{Growth, Told};

use std::time::Duration;

/// What happened to the server, and whom it concerns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// How many had a stream, and lost it.
    pub subscribers: u32,
    /// How long nobody answers; connects are refused meanwhile. 0: the streams are dropped, the
    /// server stays.
    pub away: Duration,
    /// Over this time, evenly, they notice that their streams are gone.
    pub notice: Duration,
    /// How long an admitted attempt keeps the server busy: connect, TLS, token, catching up.
    pub service: Duration,
    /// When the simulation ends, counted from the server's return.
    pub end: Duration,
    /// Of everything random.
    pub seed: u64,
}

impl Scenario {
    /// Most subscribers that are simulated: about 200 bytes of memory each.
    pub const SUBSCRIBERS_MAX: u32 = 10_000_000;
}

#[cfg(test)]
mod tests;
