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
    /// Streams that may begin again per second after all were lost.
    pub comeback_rate: u32,
    /// The widest window of delays.
    pub retry_max: Duration,
    /// Topics that have ended: who asks for nothing else is told to stop.
    pub ended_topics: Vec<String>,
    /// Memory that the hub may take, its sockets' share of the kernel's included; zero = the
    /// machine's.
    pub memory_budget: usize,
    /// Where the brownout begins: longest turn of a shard; zero = does not count.
    pub brownout_turn: Duration,
    /// Percent of the memory; zero = does not count.
    pub brownout_memory: u32,
    /// Percent of the descriptors; zero = does not count.
    pub brownout_descriptors: u32,
    /// Longest wait for the log; zero = does not count.
    pub brownout_log: Duration,
    /// Percent of the log's room for what waits; zero = does not count.
    pub brownout_intake: u32,
    /// How long pressure lasts before the next step.
    pub brownout_dwell: Duration,
}

impl OverloadSettings {
    /// Before the table's defaults are applied.
    pub(super) const fn blank() -> Self {
        Self {
            refusals: Refusals::Soft,
            retry_rate: 1,
            comeback_rate: 1,
            retry_max: Duration::ZERO,
            ended_topics: Vec::new(),
            memory_budget: 0,
            brownout_turn: Duration::ZERO,
            brownout_memory: 0,
            brownout_descriptors: 0,
            brownout_log: Duration::ZERO,
            brownout_intake: 0,
            brownout_dwell: Duration::ZERO,
        }
    }
}
