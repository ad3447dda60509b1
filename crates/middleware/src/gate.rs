//! At most so many at once. A permit is given back when it is dropped: with the stream, not with
//! the head of its answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts what is open against a limit that may change at any time.
#[derive(Debug)]
pub struct Gate {
    open: AtomicUsize,
    max: AtomicUsize,
}

/// One share of a gate's limit, given back on drop.
#[derive(Debug)]
pub struct Permit(Arc<Gate>);

impl Gate {
    /// At most `max` at once; 0 admits nobody.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicUsize::new(0),
            max: AtomicUsize::new(max),
        })
    }

    /// A permit, or `None` at the limit. Two atomic operations.
    #[must_use]
    pub fn admit(self: &Arc<Self>) -> Option<Permit> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        // Made first, so that a refusal gives its count back.
        let permit = Permit(Arc::clone(self));
        (before < self.max.load(Ordering::Relaxed)).then_some(permit)
    }

    /// How many are open now.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The limit.
    #[must_use]
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// Changes the limit. What is open stays open; below it nobody is admitted until enough left.
    pub fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Parts of a [`KeyedGate`], each with a lock of its own.
const PARTS: usize = 64;

/// At most so many at once for each key (an address, a name; see [`crate::key_of`]). Only keys with
/// something open are kept, so the memory is bounded by what is open in all.
#[derive(Debug)]
pub struct KeyedGate {
    parts: [Mutex<HashMap<u64, u32>>; PARTS],
    /// `usize::MAX`: no limit.
    max: AtomicUsize,
}

/// One share of a key's limit, given back on drop.
#[derive(Debug)]
pub struct KeyedPermit {
    gate: Arc<KeyedGate>,
    key: u64,
}

impl KeyedGate {
    /// At most `max` at once for each key; `None`: no limit.
    #[must_use]
    pub fn new(max: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            parts: std::array::from_fn(|_| Mutex::default()),
            max: AtomicUsize::new(max.unwrap_or(usize::MAX)),
        })
    }

    /// A permit, or `None` at the key's limit. It is counted also while there is no limit, so that
    /// one that is set later holds for what is open by then.
    #[must_use]
    pub fn admit(self: &Arc<Self>, key: u64) -> Option<KeyedPermit> {
        let max = self.max.load(Ordering::Relaxed);
        let mut part = self
            .part(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let open = part.entry(key).or_insert(0);
        if *open as usize >= max {
            if *open == 0 {
                part.remove(&key);
            }
            return None;
        }
        *open = open.saturating_add(1);
        drop(part);
        Some(KeyedPermit {
            gate: Arc::clone(self),
            key,
        })
    }

    /// How many of this key are open now.
    #[must_use]
    pub fn open(&self, key: u64) -> usize {
        let part = self
            .part(key)
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        part.get(&key).map_or(0, |&open| open as usize)
    }

    /// Keys with something open.
    #[must_use]
    pub fn keys(&self) -> usize {
        let count = |part: &Mutex<HashMap<u64, u32>>| {
            part.lock().unwrap_or_else(PoisonError::into_inner).len()
        };
        self.parts.iter().map(count).sum()
    }

    /// Changes the limit of every key; `None`: no limit.
    pub fn set_max(&self, max: Option<usize>) {
        self.max.store(max.unwrap_or(usize::MAX), Ordering::Relaxed);
    }

    fn part(&self, key: u64) -> &Mutex<HashMap<u64, u32>> {
        // Addresses differ in their low bits, hashes in all.
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        &self.parts[usize::try_from(mixed).unwrap_or(0) % PARTS]
    }
}

impl Drop for KeyedPermit {
    fn drop(&mut self) {
        let part = self.gate.part(self.key);
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut open) = part.entry(self.key) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_counts_until_permits_are_dropped() {
        let gate = Gate::new(2);
        let (first, second) = (gate.admit(), gate.admit());
        assert!(first.is_some() && second.is_some() && gate.admit().is_none());
        assert_eq!(gate.open(), 2);
        drop(first);
        let third = gate.admit();
        assert!(third.is_some());
        gate.set_max(1);
        drop(third);
        assert!(gate.admit().is_none(), "one is still open");
        drop(second);
        assert!(gate.admit().is_some());
        assert_eq!(gate.open(), 0);
    }

    #[test]
    fn keys_have_their_own_limit_and_go_when_nothing_is_open() {
        let gate = KeyedGate::new(Some(1));
        let of_one = gate.admit(1);
        assert!(of_one.is_some() && gate.admit(1).is_none() && gate.admit(2).is_some());
        assert_eq!((gate.open(1), gate.open(2), gate.keys()), (1, 0, 1));
        drop(of_one);
        assert_eq!(gate.keys(), 0);
        gate.set_max(Some(0));
        assert!(gate.admit(1).is_none());
        assert_eq!(gate.keys(), 0);
        gate.set_max(None);
        let many: Vec<_> = (0..1000).map(|_| gate.admit(7)).collect();
        assert!(many.iter().all(Option::is_some));
        gate.set_max(Some(1000));
        assert!(gate.admit(7).is_none(), "what is open counts");
    }

    #[test]
    fn threads_never_hold_more_than_the_limit() {
        let gate = Gate::new(3);
        let (held, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        let permits: Vec<_> = std::iter::from_fn(|| gate.admit()).take(2).collect();
                        let now = held.fetch_add(permits.len(), Ordering::SeqCst) + permits.len();
                        most.fetch_max(now, Ordering::SeqCst);
                        // Before they are given back, or others could be counted beside them.
                        held.fetch_sub(permits.len(), Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(gate.open(), 0);
        let most = most.load(Ordering::SeqCst);
        assert!((1..=3).contains(&most), "{most}");
    }
}
