//! A machine for each key (an address, a name), in bounded memory.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Parts, each with a lock of its own.
const PARTS: usize = 64;

/// Keys looked at to find idle ones when a part is full: bounds what one newcomer costs.
const SWEEP_MAX: usize = 64;

/// A key of whatever a peer is known by. Keyed by a secret of this process, so that nobody can
/// choose names that meet in one key.
pub fn key_of(name: &(impl Hash + ?Sized)) -> u64 {
    static SECRET: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    SECRET.hash_one(name)
}

/// Machines by key. When all places are taken and none is idle, further keys share one machine:
/// inventing keys buys nobody a fresh limit, and the memory ends at `keys_max` places.
#[derive(Debug)]
pub struct Keyed<M> {
    parts: [Mutex<Part<M>>; PARTS],
    keys_max: usize,
}

#[derive(Debug)]
struct Part<M> {
    machines: HashMap<u64, M>,
    /// Keys in the order they came; the oldest are looked at first for being idle.
    order: VecDeque<u64>,
    shared: M,
}

impl<M: Default> Keyed<M> {
    /// For about `keys_max` keys, at least one for each part.
    #[must_use]
    pub fn new(keys_max: usize) -> Self {
        Self {
            parts: std::array::from_fn(|_| {
                Mutex::new(Part {
                    machines: HashMap::new(),
                    order: VecDeque::new(),
                    shared: M::default(),
                })
            }),
            keys_max: keys_max.div_ceil(PARTS).max(1),
        }
    }

    /// Runs `act` on the key's machine. `is_idle` says which machines may go: those that would
    /// decide as a new one does.
    pub fn with<T>(
        &self,
        key: u64,
        is_idle: impl Fn(&M) -> bool,
        act: impl FnOnce(&mut M) -> T,
    ) -> T {
        // Addresses differ in their low bits, hashes in all.
        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        let place = usize::try_from(mixed).unwrap_or(0) % PARTS;
        let mut part = self.parts[place]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        act(part.machine(key, self.keys_max, is_idle))
    }

    /// Keys that have a machine of their own now.
    #[must_use]
    pub fn keys(&self) -> usize {
        let count = |part: &Mutex<Part<M>>| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.machines.len()
        };
        self.parts.iter().map(count).sum()
    }
}

impl<M: Default> Part<M> {
    fn machine(&mut self, key: u64, keys_max: usize, is_idle: impl Fn(&M) -> bool) -> &mut M {
        if !self.machines.contains_key(&key) {
            if self.machines.len() >= keys_max && !self.make_room(is_idle) {
                return &mut self.shared;
            }
            self.order.push_back(key);
        }
        self.machines.entry(key).or_default()
    }

    fn make_room(&mut self, is_idle: impl Fn(&M) -> bool) -> bool {
        for _ in 0..SWEEP_MAX.min(self.order.len()) {
            let Some(key) = self.order.pop_front() else {
                return false;
            };
            if self.machines.get(&key).is_none_or(&is_idle) {
                self.machines.remove(&key);
                return true;
            }
            self.order.push_back(key);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SlidingWindow, WindowLimit};
    use std::time::Duration;

    const LIMIT: WindowLimit = WindowLimit {
        max: 2,
        window: Duration::from_secs(1),
    };

    fn admit(keyed: &Keyed<SlidingWindow>, key: u64, now: Duration) -> bool {
        let is_idle = |seen: &SlidingWindow| seen.is_idle(now, LIMIT.window);
        keyed.with(key, is_idle, |seen| seen.admit(now, LIMIT).is_ok())
    }

    #[test]
    fn keys_do_not_disturb_each_other() {
        let keyed = Keyed::new(1000);
        let now = Duration::from_secs(1);
        assert!(admit(&keyed, 1, now) && admit(&keyed, 1, now) && !admit(&keyed, 1, now));
        assert!(admit(&keyed, 2, now));
    }

    #[test]
    fn invented_keys_take_no_more_memory_and_get_no_fresh_limit() {
        let keyed = Keyed::new(640);
        let now = Duration::from_secs(1);
        let admitted = (0..100_000_u64)
            .filter(|number| admit(&keyed, key_of(number), now))
            .count();
        assert!(keyed.keys() <= 640, "{}", keyed.keys());
        // One for each key with a place, and the shared machines' few.
        assert!(admitted <= 640 + PARTS * 2, "{admitted}");
        // Once they are idle their places serve others.
        let later = Duration::from_secs(10);
        assert!(admit(&keyed, key_of("newcomer"), later));
        assert!(keyed.keys() <= 640);
    }
}
