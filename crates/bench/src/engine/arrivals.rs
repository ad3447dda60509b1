//! Which events have reached everybody: what a window waits for.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::thread::Thread;

/// Events that can be under way at once before their slots are shared. More only happens when a
/// server lags far behind a fixed rate; then the time to reach all is not known for those events.
const SLOTS: usize = 1 << 16;

/// Counts receivers per event, and events that reached all of theirs.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// Receivers that an event still waits for.
    waiting: Vec<AtomicU32>,
    /// Events given to publishers to send.
    started: AtomicU64,
    /// Events that reached everybody, or were given up.
    finished: AtomicU64,
    /// Who waits for an event to finish.
    publishers: RwLock<Vec<Thread>>,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self {
            waiting: (0..SLOTS).map(|_| AtomicU32::new(0)).collect(),
            started: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            publishers: RwLock::new(Vec::new()),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "only the low bits choose the slot"
)]
fn slot(event: u64) -> usize {
    event as usize % SLOTS
}

impl Arrivals {
    /// Lets one more event be under way unless `window` are; the caller then calls
    /// [`Arrivals::expect`] and sends it.
    pub(super) fn try_start(&self, window: Option<u32>) -> bool {
        let Some(window) = window else {
            self.started.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let finished = self.finished.load(Ordering::Acquire);
        let take = |started: u64| {
            let is_room = started.saturating_sub(finished) < u64::from(window);
            is_room.then_some(started + 1)
        };
        self.started
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }

    /// Says how many receivers an event has, before it is sent.
    pub(super) fn expect(&self, event: u64, receivers: u32) {
        self.waiting[slot(event)].store(receivers, Ordering::Release);
        if receivers == 0 {
            self.finish(1);
        }
    }

    /// Takes note of a first delivery. Whether it was the last one the event waited for.
    pub(super) fn arrive(&self, event: u64) -> bool {
        let waiting = &self.waiting[slot(event)];
        let take = |left: u32| left.checked_sub(1);
        if waiting.fetch_update(Ordering::AcqRel, Ordering::Relaxed, take) != Ok(1) {
            return false;
        }
        self.finish(1);
        true
    }

    /// An event could not be sent: nobody will get it.
    pub(super) fn abandon(&self, event: u64) {
        self.waiting[slot(event)].store(0, Ordering::Release);
        self.finish(1);
    }

    fn finish(&self, events: u64) {
        self.finished.fetch_add(events, Ordering::AcqRel);
        let publishers = self.publishers.read();
        for publisher in publishers.unwrap_or_else(PoisonError::into_inner).iter() {
            publisher.unpark();
        }
    }

    /// Gives up on everything that is under way, for a server that lost something.
    pub(super) fn give_up(&self) {
        for waiting in &self.waiting {
            waiting.store(0, Ordering::Release);
        }
        let started = self.started.load(Ordering::Acquire);
        self.finished.fetch_max(started, Ordering::AcqRel);
    }

    /// Events that reached everybody, or were given up.
    pub(super) fn finished(&self) -> u64 {
        self.finished.load(Ordering::Acquire)
    }

    /// Events under way.
    pub(super) fn in_flight(&self) -> u64 {
        let started = self.started.load(Ordering::Acquire);
        started.saturating_sub(self.finished())
    }

    /// Wakes `publisher` whenever an event finishes.
    pub(super) fn subscribe(&self, publisher: Thread) {
        let mut publishers = self
            .publishers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        publishers.push(publisher);
    }

    /// Wakes nobody any more.
    pub(super) fn unsubscribe_all(&self) {
        let mut publishers = self
            .publishers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        publishers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_opens_when_an_event_reached_all() {
        let arrivals = Arrivals::default();
        assert!(arrivals.try_start(Some(1)));
        arrivals.expect(0, 2);
        assert!(!arrivals.try_start(Some(1)));
        assert!(!arrivals.arrive(0));
        assert!(!arrivals.try_start(Some(1)));
        assert!(arrivals.arrive(0));
        assert!(!arrivals.arrive(0));
        assert!(arrivals.try_start(Some(1)));
        assert_eq!((arrivals.finished(), arrivals.in_flight()), (1, 1));
    }

    #[test]
    fn a_lost_event_is_given_up_once() {
        let arrivals = Arrivals::default();
        assert!(arrivals.try_start(Some(1)));
        arrivals.expect(0, 3);
        arrivals.give_up();
        assert!(!arrivals.arrive(0));
        assert_eq!((arrivals.finished(), arrivals.in_flight()), (1, 0));
    }

    #[test]
    fn an_event_without_receivers_is_finished_at_once() {
        let arrivals = Arrivals::default();
        assert!(arrivals.try_start(Some(1)));
        arrivals.expect(0, 0);
        assert!(arrivals.try_start(Some(1)));
    }
}
