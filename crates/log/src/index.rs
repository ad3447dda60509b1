//! What a segment's records are found by: their offsets, and the ids that publishers gave.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// Bytes of records between two entries of [`Sparse`]. Ours: a read from any offset looks at most
/// at this much before it, which is less than one read of the disk.
const STEP_BYTES: u32 = 16 << 10;

/// An entry for every [`STEP_BYTES`] of records: 8 bytes of memory for 16 KiB of disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sparse {
    /// `(offset relative to the segment's base, where the record begins)`, both ascending.
    entries: Vec<(u32, u32)>,
}

impl Sparse {
    pub(crate) const fn from_entries(entries: Vec<(u32, u32)>) -> Self {
        Self { entries }
    }

    pub(crate) fn entries(&self) -> &[(u32, u32)] {
        &self.entries
    }

    /// Told of every record in order; keeps what it needs.
    pub(crate) fn note(&mut self, relative: u32, at: u32) {
        let is_due = self
            .entries
            .last()
            .is_none_or(|(_, last)| at - last >= STEP_BYTES);
        if is_due {
            self.entries.push((relative, at));
        }
    }

    /// The last known record at or before `relative`; `None` before the first one.
    pub(crate) fn start(&self, relative: u32) -> Option<(u32, u32)> {
        let after = self
            .entries
            .partition_point(|(entry, _)| *entry <= relative);
        after.checked_sub(1).map(|index| self.entries[index])
    }
}

/// The publisher-given ids of a segment that is still written, or whose index file is not.
#[derive(Clone, Debug, Default)]
pub(crate) struct OwnIds {
    /// The earliest event with each hash.
    earliest: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
    /// `(hash, offset relative to the base)` of all of them, in offset order.
    all: Vec<(u64, u32)>,
}

impl OwnIds {
    pub(crate) fn insert(&mut self, hash: u64, relative: u32) {
        self.earliest.entry(hash).or_insert(relative);
        self.all.push((hash, relative));
    }

    pub(crate) fn all(&self) -> &[(u64, u32)] {
        &self.all
    }

    /// From `(hash, offset relative to the base)` in hash order.
    pub(crate) fn from_sorted(mut entries: Vec<(u64, u32)>) -> Self {
        entries.sort_unstable_by_key(|(_, relative)| *relative);
        let mut ids = Self::default();
        for (hash, relative) in entries {
            ids.insert(hash, relative);
        }
        ids
    }

    /// The events whose id has this hash, earliest first. The first one costs a look-up; the
    /// others, which are only asked for when two ids share a hash, a walk.
    pub(crate) fn candidates(&self, hash: u64) -> impl Iterator<Item = u32> {
        let first = self.earliest.get(&hash).copied();
        let is_other =
            move |(entry, relative): &&(u64, u32)| *entry == hash && Some(*relative) != first;
        let others = if first.is_some() { &self.all[..] } else { &[] };
        first.into_iter().chain(
            others
                .iter()
                .filter(is_other)
                .map(|(_, relative)| *relative),
        )
    }
}

/// A hasher for keys that are hashes already.
#[derive(Clone, Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Bits of a [`Filter`] for each id. Ours: ten bits and six probes let about one of a hundred ids
/// that a segment does not hold through to its index file.
const BITS_PER_ID: usize = 10;
const PROBES: u32 = 6;

/// Words of a line: all probes of one id fall into one, so that a "no" costs one access to memory.
const LINE_WORDS: usize = 8;

/// A Bloom filter: says "no" for almost all ids that a segment does not hold, without the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    words: Box<[u64]>,
}

impl Filter {
    pub(crate) fn of(hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        let lines = (hashes.len() * BITS_PER_ID).div_ceil(LINE_WORDS * 64);
        let mut words = vec![0_u64; lines * LINE_WORDS];
        for hash in hashes {
            let line = line_of(hash, lines);
            for (word, mask) in probes(hash) {
                words[line + word] |= mask;
            }
        }
        Self {
            words: words.into(),
        }
    }

    /// `None` when that is not a whole number of lines.
    pub(crate) fn from_words(words: Vec<u64>) -> Option<Self> {
        words.len().is_multiple_of(LINE_WORDS).then(|| Self {
            words: words.into(),
        })
    }

    pub(crate) const fn words(&self) -> &[u64] {
        &self.words
    }

    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let line = line_of(hash, self.words.len() / LINE_WORDS);
        match self.words.get(line..line + LINE_WORDS) {
            Some(line) => probes(hash).all(|(word, mask)| line[word] & mask != 0),
            None => false,
        }
    }
}

/// Where the line of a hash begins.
fn line_of(hash: u64, lines: usize) -> usize {
    let line = (u128::from(hash) * lines as u128) >> 64;
    usize::try_from(line).expect("below the count of lines") * LINE_WORDS
}

/// The word in the line and the bit in the word of each probe.
fn probes(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    // The line is chosen by the upper bits; these are mixed anew.
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |probe| {
        // Nine bits each: 512 bits of a line.
        let bit = (mixed >> (9 * probe)) & 0x1ff;
        ((bit >> 6) as usize, 1 << (bit & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash_id;

    #[test]
    fn a_start_is_at_or_before_and_at_most_a_step_away() {
        let mut sparse = Sparse::default();
        for relative in 0..1000 {
            sparse.note(relative, 1024 + relative * 100);
        }
        for relative in 0..1000 {
            let (entry, at) = sparse
                .start(relative)
                .expect("the first record has an entry");
            assert!(entry <= relative);
            assert!((1024 + relative * 100) - at <= STEP_BYTES, "{relative}");
        }
        assert_eq!(Sparse::default().start(5), None);
    }

    #[test]
    fn the_filter_lets_every_held_id_and_few_others_through() {
        let hash = |number: u32| hash_id(&format!("urn:example:{number}"));
        let filter = Filter::of((0..10_000).map(hash));
        assert!((0..10_000).all(|number| filter.may_hold(hash(number))));
        let others = (10_000..110_000)
            .filter(|number| filter.may_hold(hash(*number)))
            .count();
        assert!(others < 3_000, "{others} of 100,000");
        assert!(!Filter::of([].into_iter()).may_hold(hash(1)));
    }

    #[test]
    fn the_earliest_of_several_ids_comes_first() {
        let mut ids = OwnIds::default();
        for (hash, relative) in [(7, 1), (8, 2), (7, 3), (7, 5)] {
            ids.insert(hash, relative);
        }
        assert_eq!(ids.candidates(7).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(ids.candidates(9).count(), 0);
    }
}
