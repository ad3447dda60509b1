//! A table of places that grows by pieces and gives the end back that nobody uses any more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::inbox::SubscriberKey;

/// Places of one piece of the table: it grows by pieces of about 30 KiB, so that a growing table
/// neither copies itself nor leaves its old half behind in the allocator.
const PIECE_PLACES: usize = 256;

/// It begins at a cache line: a sweep touches as few of them as its bytes take.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Place<T> {
    generation: u32,
    holder: Option<T>,
}

/// A piece of the table and how many of its places are taken.
#[derive(Debug)]
struct Piece<T> {
    places: Box<[Place<T>]>,
    taken: usize,
}

/// Subscribers by place. A place is used again under a new generation, the lowest one first, so
/// that the end of the table empties after a crowd has left and can be given back.
#[derive(Debug)]
pub(super) struct Places<T> {
    pieces: Vec<Piece<T>>,
    /// Places used since the table was last made smaller.
    used: u32,
    free: BinaryHeap<Reverse<u32>>,
    count: usize,
    /// Above those of all places that were given back: a key of one of them is nobody's for good.
    generation_min: u32,
}

impl<T> Default for Places<T> {
    fn default() -> Self {
        Self {
            pieces: Vec::new(),
            used: 0,
            free: BinaryHeap::new(),
            count: 0,
            generation_min: 0,
        }
    }
}

impl<T> Places<T> {
    /// The place the next subscriber gets.
    pub(super) fn next_key(&self) -> SubscriberKey {
        let index = self.free.peek().map_or(self.used, |Reverse(index)| *index);
        SubscriberKey {
            index,
            generation: self.generation(index),
        }
    }

    /// Puts a subscriber at [`Self::next_key`].
    pub(super) fn insert(&mut self, holder: T) -> SubscriberKey {
        let key = self.next_key();
        if self.free.pop().is_none() {
            if self.used as usize == self.pieces.len() * PIECE_PLACES {
                let place = || Place {
                    generation: self.generation_min,
                    holder: None,
                };
                self.pieces.push(Piece {
                    places: std::iter::repeat_with(place).take(PIECE_PLACES).collect(),
                    taken: 0,
                });
            }
            self.used += 1;
        }
        if let Some(place) = self.place_mut(key.index) {
            place.holder = Some(holder);
            self.pieces[key.index as usize / PIECE_PLACES].taken += 1;
        }
        self.count += 1;
        key
    }

    pub(super) fn remove(&mut self, index: u32) -> Option<T> {
        let place = self.place_mut(index)?;
        let holder = place.holder.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(Reverse(index));
        self.count -= 1;
        self.pieces[index as usize / PIECE_PLACES].taken -= 1;
        Some(holder)
    }

    /// Gives the end of the table back if a quarter of it is empty: as rarely as tables grow, and
    /// not for a few who come and go. How many places are left, if it became smaller.
    pub(super) fn give_back(&mut self) -> Option<u32> {
        let is_empty = |piece: &&Piece<T>| piece.taken == 0;
        let empty = self.pieces.iter().rev().take_while(is_empty).count();
        if empty == 0 || empty < self.pieces.len() / 4 {
            return None;
        }
        let kept = self.pieces.len() - empty;
        let given_back = self.pieces[kept..].iter().flat_map(|piece| &piece.places);
        let newest = given_back.map(|place| place.generation).max();
        self.generation_min = self
            .generation_min
            .max(newest.map_or(0, |newest| newest.wrapping_add(1)));
        self.pieces.truncate(kept);
        self.pieces.shrink_to(2 * kept);
        self.used = self
            .used
            .min(u32::try_from(kept * PIECE_PLACES).unwrap_or(u32::MAX));
        let used = self.used;
        self.free.retain(|Reverse(index)| *index < used);
        self.free.shrink_to(2 * self.free.len());
        Some(used)
    }

    /// Whether a subscriber that left was the last one in its piece.
    pub(super) fn is_piece_empty(&self, index: u32) -> bool {
        let piece = self.pieces.get(index as usize / PIECE_PLACES);
        piece.is_some_and(|piece| piece.taken == 0)
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let piece = self.pieces.get(index as usize / PIECE_PLACES)?;
        piece.places[index as usize % PIECE_PLACES].holder.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        self.place_mut(index)?.holder.as_mut()
    }

    /// The subscriber of a key, unless it has left and its place is another's.
    pub(super) fn of_key(&mut self, key: SubscriberKey) -> Option<&mut T> {
        let place = self.place_mut(key.index)?;
        if place.generation == key.generation {
            place.holder.as_mut()
        } else {
            None
        }
    }

    pub(super) fn generation(&self, index: u32) -> u32 {
        let piece = self.pieces.get(index as usize / PIECE_PLACES);
        piece.map_or(self.generation_min, |piece| {
            piece.places[index as usize % PIECE_PLACES].generation
        })
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// One past the highest place in use since the table was last made smaller.
    pub(super) const fn places(&self) -> u32 {
        self.used
    }

    fn place_mut(&mut self, index: u32) -> Option<&mut Place<T>> {
        let piece = self.pieces.get_mut(index as usize / PIECE_PLACES)?;
        Some(&mut piece.places[index as usize % PIECE_PLACES])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Crowds come and go in any order: a key is its holder's while that is there and
        /// nobody's after.
        #[test]
        fn a_key_never_leads_to_somebody_else(
            crowds in prop::collection::vec((0..2000_usize, 0..2000_usize, any::<u64>()), 1..8)
        ) {
            let mut places = Places::default();
            let (mut there, mut gone) = (Vec::new(), Vec::new());
            let mut number = 0_u32;
            for (come, go, seed) in crowds {
                let mut random = fastrand::Rng::with_seed(seed);
                for _ in 0..come {
                    let key = places.next_key();
                    prop_assert_eq!(places.insert(number), key);
                    there.push((key, number));
                    number += 1;
                }
                for _ in 0..go.min(there.len()) {
                    let (key, holder) = there.swap_remove(random.usize(..there.len()));
                    prop_assert_eq!(places.remove(key.index), Some(holder));
                    gone.push(key);
                    if places.is_piece_empty(key.index) {
                        let left = places.give_back();
                        prop_assert!(left.is_none_or(|left| left == places.places()));
                    }
                }
                prop_assert_eq!(places.len(), there.len());
                for (key, holder) in &there {
                    prop_assert_eq!(places.of_key(*key).copied(), Some(*holder));
                }
                for key in &gone {
                    prop_assert_eq!(places.of_key(*key), None);
                }
            }
        }
    }

    #[test]
    fn places_of_a_crowd_that_has_left_are_given_back() {
        let mut places = Places::default();
        let keys: Vec<_> = (0..10_000).map(|number| places.insert(number)).collect();
        let mut smaller = 0;
        // Whoever is left stands at the front; those behind leave in no order.
        let mut leaving = keys[100..].to_vec();
        fastrand::Rng::with_seed(7).shuffle(&mut leaving);
        for key in leaving {
            places.remove(key.index);
            if places.is_piece_empty(key.index) {
                smaller += u32::from(places.give_back().is_some());
            }
        }
        assert_eq!((places.len(), places.pieces.len()), (100, 1));
        assert!(places.free.capacity() <= 4 * PIECE_PLACES);
        // Each time by a quarter at least.
        assert!(smaller <= 16, "{smaller}");
        for key in &keys[..100] {
            places.remove(key.index);
        }
        assert_eq!(places.give_back(), Some(0));
        assert!(places.pieces.is_empty());
    }
}
