//! The timer wheel of a shard: one timer per subscriber, constant cost to set, move and fire.

/// Slots of the wheel. With ticks of 100 ms a turn takes 102 s; a later deadline is parked at the
/// far end and looked at again then.
const SLOTS: u32 = 1024;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
    /// Which slot's list this is in, or `NONE`.
    slot: u32,
}

/// Bytes of one timer.
pub(super) const LINK_BYTES: usize = size_of::<Link>();

const UNLINKED: Link = Link {
    previous: NONE,
    next: NONE,
    slot: NONE,
};

/// Timers by subscriber index, in doubly linked lists threaded through one array: 12 bytes each.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: Box<[u32]>,
    links: Vec<Link>,
    /// The next tick to look at.
    tick: u32,
    armed: usize,
}

impl Wheel {
    pub(super) fn new(now: u32) -> Self {
        Self {
            heads: vec![NONE; SLOTS as usize].into(),
            links: Vec::new(),
            tick: now,
            armed: 0,
        }
    }

    /// Sets the timer of `index` to `deadline` (a tick), replacing an earlier setting. A deadline
    /// in the past fires next.
    pub(super) fn set(&mut self, index: u32, deadline: u32) {
        self.clear(index);
        if self.links.len() <= index as usize {
            self.links.resize(index as usize + 1, UNLINKED);
        }
        let distance = deadline.saturating_sub(self.tick).min(SLOTS - 1);
        let slot = (self.tick.wrapping_add(distance)) % SLOTS;
        let head = self.heads[slot as usize];
        self.links[index as usize] = Link {
            previous: NONE,
            next: head,
            slot,
        };
        if head != NONE {
            self.links[head as usize].previous = index;
        }
        self.heads[slot as usize] = index;
        self.armed += 1;
    }

    /// Stops the timer of `index`, if it runs.
    pub(super) fn clear(&mut self, index: u32) {
        let Some(link) = self.links.get(index as usize).copied() else {
            return;
        };
        if link.slot == NONE {
            return;
        }
        if link.previous == NONE {
            self.heads[link.slot as usize] = link.next;
        } else {
            self.links[link.previous as usize].next = link.next;
        }
        if link.next != NONE {
            self.links[link.next as usize].previous = link.previous;
        }
        self.links[index as usize] = UNLINKED;
        self.armed -= 1;
    }

    /// Forgets the places from `count` on, none of which has a timer.
    pub(super) fn give_back(&mut self, count: u32) {
        debug_assert!(
            self.links
                .iter()
                .skip(count as usize)
                .all(|link| link.slot == NONE),
            "a timer runs for nobody"
        );
        self.links.truncate(count as usize);
        self.links.shrink_to(2 * count as usize);
    }

    /// Takes one timer whose tick is at most `now`.
    pub(super) fn pop_due(&mut self, now: u32) -> Option<u32> {
        while self.tick <= now {
            if self.armed == 0 {
                self.tick = now + 1;
                return None;
            }
            let head = self.heads[(self.tick % SLOTS) as usize];
            if head != NONE {
                self.clear(head);
                return Some(head);
            }
            self.tick += 1;
        }
        None
    }

    /// Ticks from `now` until a timer may be due; `None` when none runs.
    pub(super) fn ticks_to_next(&self, now: u32) -> Option<u32> {
        if self.armed == 0 {
            return None;
        }
        let ahead = (0..SLOTS).find(|ahead| {
            let slot = self.tick.wrapping_add(*ahead) % SLOTS;
            self.heads[slot as usize] != NONE
        })?;
        Some((self.tick + ahead).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(wheel: &mut Wheel, now: u32) -> Vec<u32> {
        let mut fired: Vec<_> = std::iter::from_fn(|| wheel.pop_due(now)).collect();
        fired.sort_unstable();
        fired
    }

    #[test]
    fn fires_at_its_tick_and_once() {
        let mut wheel = Wheel::new(0);
        wheel.set(3, 10);
        wheel.set(4, 10);
        wheel.set(5, 11);
        assert!(due(&mut wheel, 9).is_empty());
        assert_eq!(wheel.ticks_to_next(9), Some(1));
        assert_eq!(due(&mut wheel, 10), [3, 4]);
        assert_eq!(due(&mut wheel, 20), [5]);
        assert_eq!(wheel.ticks_to_next(20), None);
    }

    #[test]
    fn moves_and_stops() {
        let mut wheel = Wheel::new(0);
        for index in 0..5 {
            wheel.set(index, 7);
        }
        wheel.set(2, 3);
        wheel.clear(0);
        wheel.clear(0);
        wheel.clear(99);
        assert_eq!(due(&mut wheel, 3), [2]);
        assert_eq!(due(&mut wheel, 7), [1, 3, 4]);
    }

    #[test]
    fn a_far_deadline_is_parked_within_a_turn() {
        let mut wheel = Wheel::new(0);
        wheel.set(1, 1_000_000);
        assert!(due(&mut wheel, SLOTS - 2).is_empty());
        assert_eq!(due(&mut wheel, SLOTS - 1), [1]);
    }

    #[test]
    fn a_past_deadline_fires_next() {
        let mut wheel = Wheel::new(100);
        wheel.set(1, 5);
        assert_eq!(due(&mut wheel, 100), [1]);
    }

    #[test]
    fn long_idle_does_not_delay_a_new_timer() {
        let mut wheel = Wheel::new(0);
        assert!(due(&mut wheel, 5000).is_empty());
        wheel.set(1, 5003);
        assert!(due(&mut wheel, 5002).is_empty());
        assert_eq!(due(&mut wheel, 5003), [1]);
    }
}
