//! Finds what was lost, doubled or reordered, exactly, in four bytes per stream and lane.
//!
//! A lane is one publisher's numbering of one topic. As long as events come in order, the next
//! expected number says everything. Only a stream that missed something gets a list of the gaps.

use std::collections::HashMap;

/// What one delivery was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// First delivery, and after all before it.
    InOrder,
    /// First delivery, but a later event came before.
    Late,
    /// It had been delivered already.
    Doubled,
}

/// The state of all streams of one thread.
#[derive(Debug, Default)]
pub struct Tracker {
    lanes: usize,
    next: Vec<u32>,
    /// Missing numbers as half-open ranges, ascending. Empty for streams that missed nothing.
    gaps: HashMap<usize, Vec<(u32, u32)>>,
}

impl Tracker {
    /// For streams that each follow `lanes` numberings.
    pub fn new(lanes: u32) -> Self {
        Self {
            lanes: lanes.max(1) as usize,
            ..Self::default()
        }
    }

    /// Adds a stream; they are numbered from 0.
    pub fn push(&mut self) {
        self.next.resize(self.next.len() + self.lanes, 0);
    }

    /// Takes note of a delivery.
    pub fn observe(&mut self, stream: usize, lane: u32, sequence: u32) -> Order {
        let place = stream * self.lanes + lane as usize;
        let Some(next) = self.next.get_mut(place) else {
            return Order::Doubled;
        };
        if sequence == *next {
            *next = sequence.saturating_add(1);
            return Order::InOrder;
        }
        if sequence > *next {
            self.gaps.entry(place).or_default().push((*next, sequence));
            *next = sequence.saturating_add(1);
            return Order::InOrder;
        }
        self.fill(place, sequence)
    }

    /// A number below the next: it fills a gap or comes twice.
    fn fill(&mut self, place: usize, sequence: u32) -> Order {
        let Some(gaps) = self.gaps.get_mut(&place) else {
            return Order::Doubled;
        };
        let at = gaps.partition_point(|&(_, end)| end <= sequence);
        let Some(&(begin, end)) = gaps.get(at).filter(|gap| gap.0 <= sequence) else {
            return Order::Doubled;
        };
        let parts = [(begin, sequence), (sequence + 1, end)];
        gaps.splice(
            at..=at,
            parts.into_iter().filter(|(begin, end)| begin < end),
        );
        if gaps.is_empty() {
            self.gaps.remove(&place);
        }
        Order::Late
    }

    /// How many of the first `published` events of a lane a stream did not get.
    pub fn missing(&self, stream: usize, lane: u32, published: u32) -> u64 {
        let place = stream * self.lanes + lane as usize;
        let next = self.next.get(place).copied().unwrap_or(0);
        let in_gaps: u64 = self
            .gaps
            .get(&place)
            .into_iter()
            .flatten()
            .map(|&(begin, end)| u64::from(end.min(published).saturating_sub(begin)))
            .sum();
        in_gaps + u64::from(published.saturating_sub(next))
    }

    /// How many events a stream got of a lane beside the first `published`.
    pub fn beyond(&self, stream: usize, lane: u32, published: u32) -> u64 {
        let place = stream * self.lanes + lane as usize;
        let next = self.next.get(place).copied().unwrap_or(0);
        let missing =
            self.missing(stream, lane, next) - self.missing(stream, lane, published.min(next));
        u64::from(next.saturating_sub(published)) - missing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn gaps_are_filled_split_and_counted() {
        let mut tracker = Tracker::new(1);
        tracker.push();
        assert_eq!(tracker.observe(0, 0, 0), Order::InOrder);
        assert_eq!(tracker.observe(0, 0, 5), Order::InOrder);
        assert_eq!(tracker.missing(0, 0, 6), 4);
        assert_eq!(tracker.observe(0, 0, 3), Order::Late);
        assert_eq!(tracker.observe(0, 0, 3), Order::Doubled);
        assert_eq!(tracker.observe(0, 0, 5), Order::Doubled);
        assert_eq!(tracker.missing(0, 0, 8), 5);
        assert_eq!(tracker.missing(0, 0, 2), 1);
        // 0, 3 and 5 have come.
        let beyond = [0, 1, 4, 5, 6, 7].map(|published| tracker.beyond(0, 0, published));
        assert_eq!(beyond, [3, 2, 1, 1, 0, 0]);
    }

    #[test]
    fn lanes_of_a_stream_are_counted_apart() {
        let mut tracker = Tracker::new(2);
        tracker.push();
        tracker.push();
        assert_eq!(tracker.observe(0, 1, 0), Order::InOrder);
        assert_eq!(tracker.observe(1, 0, 0), Order::InOrder);
        assert_eq!(tracker.observe(1, 1, 0), Order::InOrder);
        assert_eq!(tracker.missing(0, 0, 1), 1);
        assert_eq!(tracker.missing(0, 1, 1), 0);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(deliveries in proptest::collection::vec(0u32..40, 0..120)) {
            let mut tracker = Tracker::new(1);
            tracker.push();
            let mut seen = HashSet::new();
            for &sequence in &deliveries {
                let is_late = seen.iter().any(|&other| other > sequence);
                let expected = match (seen.insert(sequence), is_late) {
                    (false, _) => Order::Doubled,
                    (true, true) => Order::Late,
                    (true, false) => Order::InOrder,
                };
                prop_assert_eq!(tracker.observe(0, 0, sequence), expected);
            }
            prop_assert_eq!(tracker.missing(0, 0, 40), 40 - seen.len() as u64);
        }
    }
}
