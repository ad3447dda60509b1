//! The templates of the index, in doubly linked lists threaded through one array, so that each is
//! taken out without a search.

use std::cell::Cell;

use super::super::MatcherId;
use crate::topic::Matcher;

/// No entry: the end of a list.
pub(super) const NONE: u32 = u32::MAX;

#[derive(Debug, Default)]
pub(super) struct Entries {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

/// 56 bytes for each template.
#[derive(Debug)]
struct Entry {
    /// `None`: free.
    matcher: Option<Matcher>,
    /// The bytes of its literals, as a set.
    bytes: u64,
    id: MatcherId,
    node: u32,
    previous: u32,
    next: u32,
    /// The topic it last fitted.
    stamp: Cell<u32>,
}

impl Entries {
    pub(super) fn add(&mut self, matcher: &Matcher, id: MatcherId) -> u32 {
        let literals = [matcher.literal_prefix(), matcher.literal_suffix()];
        let literals = literals.into_iter().chain(matcher.inner_literals());
        let entry = Entry {
            bytes: literals.fold(0, |set, literal| set | byte_set(literal)),
            matcher: Some(matcher.clone()),
            id,
            node: NONE,
            previous: NONE,
            next: NONE,
            stamp: Cell::new(0),
        };
        if let Some(number) = self.free.pop() {
            self.entries[number as usize] = entry;
            return number;
        }
        self.entries.push(entry);
        u32::try_from(self.entries.len() - 1).expect("each entry takes tens of bytes")
    }

    pub(super) fn free(&mut self, number: u32) {
        self.entries[number as usize].matcher = None;
        self.free.push(number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.len() == self.free.len()
    }

    /// Puts an entry before `first`, the start of a node's list; the new start.
    pub(super) fn link(&mut self, first: u32, number: u32, node: u32) -> u32 {
        if first != NONE {
            self.entries[first as usize].previous = number;
        }
        let entry = &mut self.entries[number as usize];
        entry.node = node;
        entry.previous = NONE;
        entry.next = first;
        number
    }

    /// Takes an entry out of the list that starts with `first`; the new start.
    pub(super) fn unlink(&mut self, first: u32, number: u32) -> u32 {
        let Entry { previous, next, .. } = self.entries[number as usize];
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        if previous != NONE {
            self.entries[previous as usize].next = next;
        }
        if first == number { next } else { first }
    }

    pub(super) fn next(&self, number: u32) -> u32 {
        self.entries[number as usize].next
    }

    pub(super) fn node(&self, number: u32) -> u32 {
        self.entries[number as usize].node
    }

    pub(super) fn id(&self, number: u32) -> MatcherId {
        self.entries[number as usize].id
    }

    /// The ids of a list from an entry on.
    pub(super) fn ids(&self, first: u32) -> impl Iterator<Item = MatcherId> {
        let entry = |number: u32| self.entries.get(number as usize);
        std::iter::successors(entry(first), move |&last| entry(last.next)).map(|entry| entry.id)
    }

    pub(super) fn matcher(&self, number: u32) -> Option<&Matcher> {
        self.entries.get(number as usize)?.matcher.as_ref()
    }

    pub(super) fn stamp(&self, number: u32) -> u32 {
        self.entries[number as usize].stamp.get()
    }

    pub(super) fn set_stamp(&self, number: u32, stamp: u32) {
        self.entries[number as usize].stamp.set(stamp);
    }

    pub(super) fn forget_stamps(&self) {
        self.entries.iter().for_each(|entry| entry.stamp.set(0));
    }

    /// Whether the bytes of all literals are in the set: else it cannot fit.
    pub(super) fn holds_only(&self, number: u32, bytes: u64) -> bool {
        self.entries[number as usize].bytes & !bytes == 0
    }
}

/// The bytes of a text as a set of 64, into which the 256 are folded.
pub(super) fn byte_set(text: &str) -> u64 {
    // 37 is odd: neighbours come apart, and no two of the ASCII digits fall together.
    text.bytes()
        .fold(0, |set, byte| set | 1 << (byte.wrapping_mul(37) >> 2))
}
