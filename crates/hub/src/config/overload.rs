//! What the hub does at its limits.

use std::time::Duration;

/// How an event source is told "not now".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusals {
    /// 200, a delay, the end: it comes back by itself.
    Soft,
    /// With a status, as everybody else.
    Hard,
}

/// Settings of refusals and of the brownout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverloadSettings {
    /// How event sources are told "not now".
    pub refusals: Refusals,
    /// Refused clients that are asked back per second.
    pub retry_rate: u32,
    /// The longest delay that the refused are told.
    pub retry_max: Duration,
    /// Topics that have ended: who asks for nothing else is told to stop.
    pub ended_topics: Vec<String>,
}

impl OverloadSettings {
    /// Before the table's defaults are applied.
    pub(super) const fn blank() -> Self {
        Self {
            refusals: Refusals::Soft,
            retry_rate: 1,
            retry_max: Duration::ZERO,
            ended_topics: Vec::new(),
        }
    }
}
