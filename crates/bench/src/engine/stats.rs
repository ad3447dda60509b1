//! What the generator counts.

use std::collections::HashSet;

use crate::report::{Histogram, latency_histogram};

/// Totals over all streams. Exact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Streams whose head said 200.
    pub opened: u64,
    /// Answered with another status.
    pub refused: u64,
    /// Could not be connected, or ended before the head.
    pub failed: u64,
    /// Open ones that the server ended.
    pub dropped: u64,
    /// Open ones that read nothing, and that the server ended with a reset.
    pub cut: u64,
    /// Events, each counted once for each stream that got it.
    pub delivered: u64,
    /// Deliveries of an event that the stream had got already.
    pub doubled: u64,
    /// Deliveries after that of a later event.
    pub reordered: u64,
    /// Events on streams that had not asked for their topic.
    pub strayed: u64,
    /// Events that are not of this run.
    pub foreign: u64,
    /// Deliveries that did not come; known after [`super::Fleet::finish`].
    pub lost: u64,
    /// Signs of life beside events: comments such as heartbeats, and `retry:` lines.
    pub signs: u64,
    /// Reads that brought something.
    pub reads: u64,
    /// Bytes read, with heads and framing.
    pub bytes: u64,
}

impl Counts {
    /// Every field with `f(self, other)`.
    fn zip(self, other: Self, f: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            opened: f(self.opened, other.opened),
            refused: f(self.refused, other.refused),
            failed: f(self.failed, other.failed),
            dropped: f(self.dropped, other.dropped),
            cut: f(self.cut, other.cut),
            delivered: f(self.delivered, other.delivered),
            doubled: f(self.doubled, other.doubled),
            reordered: f(self.reordered, other.reordered),
            strayed: f(self.strayed, other.strayed),
            foreign: f(self.foreign, other.foreign),
            lost: f(self.lost, other.lost),
            signs: f(self.signs, other.signs),
            reads: f(self.reads, other.reads),
            bytes: f(self.bytes, other.bytes),
        }
    }

    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        self.zip(before, u64::saturating_sub)
    }

    /// Streams that are neither open nor waited for.
    pub fn settled(&self) -> u64 {
        self.opened + self.refused + self.failed
    }
}

/// Times in nanoseconds.
#[derive(Clone, Debug)]
pub struct Latencies {
    /// From the moment an event was (or should have been) published to its receipt, per delivery.
    pub delivery: Histogram<u64>,
    /// The same until the last receiver had it, per event.
    pub to_all: Histogram<u64>,
    /// From the begin of a connect to the first byte of the answer, per stream.
    pub first_byte: Histogram<u64>,
    /// How late connects began, against their schedule.
    pub connect_late: Histogram<u64>,
    /// Between two signs of life on a stream, or between its head and the first.
    pub sign_gap: Histogram<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            delivery: latency_histogram(),
            to_all: latency_histogram(),
            first_byte: latency_histogram(),
            connect_late: latency_histogram(),
            sign_gap: latency_histogram(),
        }
    }
}

impl Latencies {
    /// Moves everything into `sum`.
    pub(crate) fn move_into(&mut self, sum: &mut Self) {
        let pairs = [
            (&mut self.delivery, &mut sum.delivery),
            (&mut self.to_all, &mut sum.to_all),
            (&mut self.first_byte, &mut sum.first_byte),
            (&mut self.connect_late, &mut sum.connect_late),
            (&mut self.sign_gap, &mut sum.sign_gap),
        ];
        for (from, to) in pairs {
            // An untouched histogram is left alone: its memory has not been used yet.
            if !from.is_empty() {
                to.add(&*from).expect("both have the same bounds");
                from.reset();
            }
        }
    }
}

/// What one generator thread counts.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    pub(crate) counts: Counts,
    pub(crate) latencies: Latencies,
    /// Topics with a delivery lost, doubled or reordered.
    pub(crate) wrong_topics: HashSet<u32>,
    /// The first thing that went wrong with a connection.
    pub(crate) first_error: Option<String>,
}
