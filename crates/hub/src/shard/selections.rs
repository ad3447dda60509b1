//! The different selections of a shard's subscribers.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::selection::Selection;

/// Selections counted by use: thousands of streams of one page ask for the same.
#[derive(Debug, Default)]
pub(super) struct Selections {
    counted: HashTable<(Arc<Selection>, u32)>,
    /// Chosen at random, so that nobody can build selections that fall together.
    hash: RandomState,
}

impl Selections {
    /// The one that stands for all that are equal: the first of them, copied into this thread's
    /// part of the heap, because it stays for as long as one of them does. See
    /// [`super::leftovers`].
    pub(super) fn intern(&mut self, selection: &Arc<Selection>) -> Arc<Selection> {
        let place = self.hash.hash_one(selection);
        let is_it = |counted: &(Arc<Selection>, u32)| counted.0 == *selection;
        let hash_of = |counted: &(Arc<Selection>, u32)| self.hash.hash_one(&counted.0);
        match self.counted.entry(place, is_it, hash_of) {
            Entry::Occupied(mut found) => {
                let (shared, uses) = found.get_mut();
                *uses += 1;
                Arc::clone(shared)
            }
            Entry::Vacant(vacant) => {
                let copy = Arc::new(selection.copied());
                vacant.insert((Arc::clone(&copy), 1));
                copy
            }
        }
    }

    pub(super) fn release(&mut self, selection: &Arc<Selection>) {
        let place = self.hash.hash_one(selection);
        let is_it = |counted: &(Arc<Selection>, u32)| counted.0 == *selection;
        let Ok(mut found) = self.counted.find_entry(place, is_it) else {
            return;
        };
        let (_, uses) = found.get_mut();
        *uses -= 1;
        if *uses > 0 {
            return;
        }
        found.remove();
        // Memory comes back after a crowd has left.
        if self.counted.capacity() > 8 * self.counted.len().max(64) {
            let hash_of = |counted: &(Arc<Selection>, u32)| self.hash.hash_one(&counted.0);
            self.counted.shrink_to(2 * self.counted.len(), hash_of);
        }
    }
}
