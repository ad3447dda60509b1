//! At most so many at once. A permit is given back when it is dropped: with the stream, not with
//! the head of its answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

    /// A permit also beyond the limit, for what is open already and was counted elsewhere.
    #[must_use]
    pub fn count(self: &Arc<Self>) -> Permit {
        self.open.fetch_add(1, Ordering::Relaxed);
        Permit(Arc::clone(self))
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

/// One share of a key's limit, given back on drop. Small, since each stream holds some.
#[derive(Debug)]
pub struct KeyedPermit {
    gate: Arc<KeyedGate>,
    key: u64,
}

/// Several shares of a key's limit, such as bytes, given back on drop.
#[derive(Debug)]
pub struct KeyedShare {
    gate: Arc<KeyedGate>,
    key: u64,
    amount: u32,
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
        self.open_more(key, 1).then(|| KeyedPermit {
            gate: Arc::clone(self),
            key,
        })
    }

    /// A permit also beyond the limit, for what is open already and was counted elsewhere.
    #[must_use]
    pub fn count(self: &Arc<Self>, key: u64) -> KeyedPermit {
        let mut part = self.lock(key);
        let open = part.entry(key).or_insert(0);
        *open = open.saturating_add(1);
        drop(part);
        KeyedPermit {
            gate: Arc::clone(self),
            key,
        }
    }

    /// A permit for so many at once, such as bytes, or `None` where the key would have more than
    /// its limit. More than the limit are admitted where the key has nothing open: else they never
    /// would be.
    #[must_use]
    pub fn admit_many(self: &Arc<Self>, key: u64, amount: u32) -> Option<KeyedShare> {
        self.open_more(key, amount).then(|| KeyedShare {
            gate: Arc::clone(self),
            key,
            amount,
        })
    }

    fn open_more(&self, key: u64, amount: u32) -> bool {
        let max = self.max.load(Ordering::Relaxed);
        let mut part = self.lock(key);
        let open = part.get(&key).copied().unwrap_or(0);
        let Some(after) = open.checked_add(amount) else {
            return false;
        };
        if max == 0 || (open > 0 && after as usize > max) {
            return false;
        }
        part.insert(key, after);
        true
    }

    fn give_back(&self, key: u64, amount: u32) {
        let mut part = self.lock(key);
        if let Entry::Occupied(mut open) = part.entry(key) {
            *open.get_mut() -= amount;
            if *open.get() == 0 {
                open.remove();
            }
        }
        // Memory comes back after a crowd has left.
        if part.capacity() > 8 * part.len().max(64) {
            let kept = 2 * part.len();
            part.shrink_to(kept);
        }
    }

    /// What is open of all keys together.
    #[must_use]
    pub fn total(&self) -> u64 {
        let sum = |part: &Mutex<HashMap<u64, u32>>| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.values().map(|&open| u64::from(open)).sum::<u64>()
        };
        self.parts.iter().map(sum).sum()
    }

    /// How many of this key are open now.
    #[must_use]
    pub fn open(&self, key: u64) -> usize {
        let part = self.lock(key);
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

    fn lock(&self, key: u64) -> MutexGuard<'_, HashMap<u64, u32>> {
        // Addresses differ in their low bits, hashes in all.
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let part = &self.parts[usize::try_from(mixed).unwrap_or(0) % PARTS];
        part.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeyedPermit {
    fn drop(&mut self) {
        self.gate.give_back(self.key, 1);
    }
}

impl Drop for KeyedShare {
    fn drop(&mut self) {
        self.gate.give_back(self.key, self.amount);
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
        let beyond = gate.count(7);
        assert_eq!(gate.open(7), 1001);
        drop((many, beyond));
        assert_eq!(gate.keys(), 0);
    }

    #[test]
    fn amounts_count_together_and_one_that_is_too_large_goes_alone() {
        let gate = KeyedGate::new(Some(10));
        let large = gate.admit_many(1, 25);
        assert!(large.is_some() && gate.admit(1).is_none());
        drop(large);
        let (four, six) = (gate.admit_many(1, 4), gate.admit_many(1, 6));
        assert!(four.is_some() && six.is_some() && gate.admit_many(1, 1).is_none());
        assert!(gate.admit_many(2, 3).is_some(), "another key");
        assert_eq!((gate.open(1), gate.total()), (10, 10));
        drop(four);
        assert!(gate.admit_many(1, 5).is_none() && gate.admit_many(1, 4).is_some());
        assert!(gate.admit_many(1, u32::MAX).is_none(), "no sum overflows");
        drop(six);
        assert_eq!((gate.keys(), gate.total()), (0, 0));
    }

    #[test]
    fn memory_comes_back_when_a_crowd_has_left() {
        let gate = KeyedGate::new(None);
        let crowd: Vec<_> = (0..200_000).map(|key| gate.admit(key)).collect();
        let places = || -> usize {
            let capacity =
                |part: &Mutex<HashMap<u64, u32>>| part.lock().expect("unpoisoned").capacity();
            gate.parts.iter().map(capacity).sum()
        };
        assert!(places() >= 200_000);
        drop(crowd);
        assert!(places() <= PARTS * 8 * 64, "{}", places());
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
