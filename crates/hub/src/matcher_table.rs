//! The matchers of one shard, each kept once, and the question every event asks: which match?
//!
//! Plain matchers are found by their text. Templates are found by the literal texts around their
//! expressions: for an event's topic each prefix length in use is looked up, then each suffix
//! length in use behind that prefix, and only what is found there is matched in full. So the
//! cost of an event follows the number of templates that could match, not the number there are.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

use crate::topic::Matcher;

#[cfg(test)]
#[path = "matcher_table/tests.rs"]
mod tests;

/// A matcher's place in one [`MatcherTable`]. Dense from 0; used again after the last release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatcherId(pub u32);

/// The matchers of one shard, counted by use. Two matchers with the same text are one.
#[derive(Debug, Default)]
pub struct MatcherTable {
    slots: Vec<Slot>,
    free: Vec<MatcherId>,
    /// Every live matcher, templates and `*` too: all match their own text.
    by_text: HashMap<ByText, MatcherId>,
    wildcard: Option<MatcherId>,
    templates: TemplateIndex,
}

#[derive(Debug)]
struct Slot {
    /// `None`: free.
    matcher: Option<Matcher>,
    uses_count: u32,
}

impl MatcherTable {
    /// Adds one use of the matcher and says where it is.
    ///
    /// # Panics
    /// With more than `u32::MAX` live matchers, more than memory holds.
    pub fn intern(&mut self, matcher: &Matcher) -> MatcherId {
        if let Some(&id) = self.by_text.get(matcher.text()) {
            self.slots[index(id)].uses_count += 1;
            return id;
        }
        let slot = Slot {
            matcher: Some(matcher.clone()),
            uses_count: 1,
        };
        let id = if let Some(id) = self.free.pop() {
            self.slots[index(id)] = slot;
            id
        } else {
            let id = u32::try_from(self.slots.len()).expect("each slot takes tens of bytes");
            self.slots.push(slot);
            MatcherId(id)
        };
        self.by_text.insert(ByText(matcher.clone()), id);
        if matcher.is_wildcard() {
            self.wildcard = Some(id);
        } else if matcher.is_template() {
            self.templates.insert(matcher, id);
        }
        id
    }

    /// Takes back one use; the last one frees the id. An id that is not live is ignored.
    pub fn release(&mut self, id: MatcherId) {
        let Some(slot) = self.slots.get_mut(index(id)) else {
            return;
        };
        slot.uses_count = slot.uses_count.saturating_sub(1);
        if slot.uses_count > 0 {
            return;
        }
        let Some(matcher) = slot.matcher.take() else {
            return;
        };
        self.free.push(id);
        self.by_text.remove(matcher.text());
        if matcher.is_wildcard() {
            self.wildcard = None;
        } else if matcher.is_template() {
            self.templates.remove(&matcher, id);
        }
        self.shrink();
    }

    /// Appends to `out` the id of every live matcher that matches at least one of the topics,
    /// each once, ascending. Allocates nothing but the growth of `out`.
    pub fn matching<'a>(&self, topics: impl Iterator<Item = &'a str>, out: &mut Vec<MatcherId>) {
        let start = out.len();
        out.extend(self.wildcard);
        for topic in topics {
            out.extend(self.by_text.get(topic));
            self.templates.candidates(topic, |id| {
                let matcher = self.slots[index(id)].matcher.as_ref();
                if matcher.is_some_and(|matcher| matcher.matches(topic)) {
                    out.push(id);
                }
            });
        }
        out[start..].sort_unstable();
        let mut end = start;
        for at in start..out.len() {
            if end == start || out[end - 1] != out[at] {
                out[end] = out[at];
                end += 1;
            }
        }
        out.truncate(end);
    }

    /// The text of a live matcher; empty for an id that is not live.
    #[must_use]
    pub fn text(&self, id: MatcherId) -> &str {
        let slot = self.slots.get(index(id));
        slot.and_then(|slot| slot.matcher.as_ref())
            .map_or("", Matcher::text)
    }

    /// How many different matchers are live.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_text.len()
    }

    /// Whether no matcher is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }

    /// Gives memory back after a crowd has left.
    fn shrink(&mut self) {
        if self.by_text.is_empty() {
            *self = Self::default();
        } else if self.by_text.capacity() > 8 * self.by_text.len().max(64) {
            self.by_text.shrink_to(2 * self.by_text.len());
        }
    }
}

fn index(id: MatcherId) -> usize {
    id.0 as usize
}

/// A matcher as a hash map key, found by its text.
#[derive(Debug, PartialEq, Eq)]
struct ByText(Matcher);

impl Hash for ByText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text().hash(state);
    }
}

impl Borrow<str> for ByText {
    fn borrow(&self) -> &str {
        self.0.text()
    }
}

/// Templates by the literals around their expressions. Literals are kept as keyed hashes: two
/// that collide only cost a match in vain.
#[derive(Debug, Default)]
struct TemplateIndex {
    hash: LiteralHash,
    prefix_lengths: Lengths,
    /// By the prefix's hash: the suffix lengths in use behind it.
    suffix_lengths: HashMap<u64, Lengths, AlreadyHashed>,
    /// By the joint hash of prefix and suffix.
    ids: HashMap<u64, Vec<MatcherId>, AlreadyHashed>,
}

impl TemplateIndex {
    fn insert(&mut self, matcher: &Matcher, id: MatcherId) {
        let (prefix, suffix) = (matcher.literal_prefix(), matcher.literal_suffix());
        let prefix_hash = self.hash.extend(0, prefix.as_bytes());
        self.prefix_lengths.add(prefix.len());
        self.suffix_lengths
            .entry(prefix_hash)
            .or_default()
            .add(suffix.len());
        self.ids
            .entry(self.hash.join(prefix_hash, suffix.as_bytes()))
            .or_default()
            .push(id);
    }

    fn remove(&mut self, matcher: &Matcher, id: MatcherId) {
        let (prefix, suffix) = (matcher.literal_prefix(), matcher.literal_suffix());
        let prefix_hash = self.hash.extend(0, prefix.as_bytes());
        self.prefix_lengths.remove(prefix.len());
        if let Some(lengths) = self.suffix_lengths.get_mut(&prefix_hash) {
            lengths.remove(suffix.len());
            if lengths.0.is_empty() {
                self.suffix_lengths.remove(&prefix_hash);
            }
        }
        let key = self.hash.join(prefix_hash, suffix.as_bytes());
        if let Some(ids) = self.ids.get_mut(&key) {
            if let Some(at) = ids.iter().position(|&other| other == id) {
                ids.swap_remove(at);
            }
            if ids.is_empty() {
                self.ids.remove(&key);
            }
        }
    }

    /// Calls `each` with every template whose literals fit the topic, and rarely with others.
    fn candidates(&self, topic: &str, mut each: impl FnMut(MatcherId)) {
        let topic = topic.as_bytes();
        let (mut prefix_hash, mut hashed) = (0, 0);
        for prefix_length in self.prefix_lengths.iter() {
            let Some(more) = topic.get(hashed..prefix_length) else {
                return;
            };
            prefix_hash = self.hash.extend(prefix_hash, more);
            hashed = prefix_length;
            let Some(lengths) = self.suffix_lengths.get(&prefix_hash) else {
                continue;
            };
            for suffix_length in lengths.iter() {
                let Some(suffix_start) = topic.len().checked_sub(suffix_length) else {
                    break;
                };
                if suffix_start < prefix_length {
                    break;
                }
                let key = self.hash.join(prefix_hash, &topic[suffix_start..]);
                for &id in self.ids.get(&key).into_iter().flatten() {
                    each(id);
                }
            }
        }
    }
}

/// Lengths in use, ascending, each with the number of its users.
#[derive(Debug, Default)]
struct Lengths(Vec<(u16, u32)>);

impl Lengths {
    fn add(&mut self, length: usize) {
        let length = Self::short(length);
        match self.0.binary_search_by_key(&length, |&(length, _)| length) {
            Ok(at) => self.0[at].1 += 1,
            Err(at) => self.0.insert(at, (length, 1)),
        }
    }

    fn remove(&mut self, length: usize) {
        let length = Self::short(length);
        if let Ok(at) = self.0.binary_search_by_key(&length, |&(length, _)| length) {
            self.0[at].1 -= 1;
            if self.0[at].1 == 0 {
                self.0.remove(at);
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().map(|&(length, _)| usize::from(length))
    }

    /// A literal is part of a matcher, and those are far shorter than 64 KiB.
    fn short(length: usize) -> u16 {
        u16::try_from(length).unwrap_or(u16::MAX)
    }
}

/// A polynomial hash modulo 2^61 - 1 at a random point. Unlike the standard hasher it can be
/// read off at every prefix of a text while walking it once, and without the point nobody can
/// build texts that collide.
#[derive(Debug)]
struct LiteralHash {
    point: u64,
}

const PRIME: u64 = (1 << 61) - 1;

impl Default for LiteralHash {
    fn default() -> Self {
        let point = RandomState::new().hash_one("literal") % (PRIME - 512) + 257;
        Self { point }
    }
}

impl LiteralHash {
    /// The hash of a text that hashes to `state` followed by `more`.
    fn extend(&self, state: u64, more: &[u8]) -> u64 {
        more.iter()
            .fold(state, |state, &byte| self.step(state, u64::from(byte) + 1))
    }

    /// One hash for a pair of literals. A step of 257 is no byte's, so it parts the two.
    fn join(&self, prefix_hash: u64, suffix: &[u8]) -> u64 {
        self.extend(self.step(prefix_hash, 257), suffix)
    }

    fn step(&self, state: u64, value: u64) -> u64 {
        let product = u128::from(state) * u128::from(self.point) + u128::from(value);
        // 2^61 is 1 modulo the prime, so the high and the low part add up.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "61 bits and at most 61 bits are left"
        )]
        let sum = (product as u64 & PRIME) + (product >> 61) as u64;
        if sum >= PRIME { sum - PRIME } else { sum }
    }
}

/// Hashes a key that is a hash by spreading it over all 64 bits.
type AlreadyHashed = BuildHasherDefault<Spread>;

#[derive(Debug, Default)]
struct Spread(u64);

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(self.0.rotate_left(8) ^ u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value.wrapping_mul(0x9E37_79B9_7F4A_7C15); // 2^64 over the golden ratio
    }
}
