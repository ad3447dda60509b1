//! The matchers of one shard, each kept once, and the question every event asks: which match?
//!
//! Plain matchers are found by their text, templates by their literals (`index.rs`). So the cost
//! of an event follows the number of matchers that match, not the number there are.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

use hashbrown::HashTable;

use crate::topic::Matcher;

// Templates by their literals.
mod index;

// Hashes of literals and of parts of topics.
mod hash;

// The pieces of literals by which templates are told apart.
mod keys;

// How many templates that they do not tell apart there may be.
pub mod crowds;

#[cfg(test)]
#[path = "matcher_table/tests.rs"]
mod tests;

pub use index::Looked;

use hash::LiteralHash;
use index::TemplateIndex;

/// A topic at which the table panics, though no matcher does.
#[cfg(test)]
pub(crate) const FAULTY_EVENT: &str = "/faulty/event";

/// A matcher that the table panics at.
#[cfg(test)]
pub(crate) const FAULTY_NEWCOMER: &str = "/faulty/newcomer";

#[cfg(test)]
fn strike(text: &str, faulty: &str) {
    assert_ne!(text, faulty, "on purpose, in the table");
}

/// A matcher's place in one [`MatcherTable`]. Dense from 0; used again after the last release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatcherId(pub u32);

/// The matchers of one shard, counted by use. Two matchers with the same text are one.
#[derive(Debug, Default)]
pub struct MatcherTable {
    slots: Vec<Slot>,
    free: Vec<MatcherId>,
    /// Every live matcher, templates and `*` too: all match their own text.
    by_text: HashTable<Named>,
    text_hash: TextHash,
    wildcard: Option<MatcherId>,
    templates: TemplateIndex,
}

/// 32 bytes for each matcher.
#[derive(Debug)]
struct Slot {
    /// `None`: free.
    matcher: Option<Matcher>,
    uses_count: u32,
    /// A template's place in the index.
    template: u32,
}

/// A matcher under two hashes of its text, 16 bytes. An event finds it by them alone: going to the
/// slot and from there to the text to compare would be two more cache misses of four.
#[derive(Clone, Copy, Debug)]
struct Named {
    /// Says where it is, also when the table grows.
    place: [u32; 2],
    /// Says that it is this one. Two texts agree in both at a chance of 2^-96, and without the
    /// table's seeds nobody can look for such a pair.
    proof: u32,
    id: MatcherId,
}

impl Named {
    fn place(&self) -> u64 {
        joined(self.place)
    }
}

impl MatcherTable {
    /// A table that does the same in every run: for measurements. Other tables choose their hash
    /// at random, so that nobody can build matchers that fall together.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            text_hash: TextHash {
                seeds: [seed, !seed],
            },
            templates: TemplateIndex::new(LiteralHash::at(seed)),
            ..Self::default()
        }
    }

    /// Adds one use of the matcher and says where it is.
    ///
    /// # Panics
    /// With more than `u32::MAX` live matchers, more than memory holds.
    pub fn intern(&mut self, matcher: &Matcher) -> MatcherId {
        let text = matcher.text();
        #[cfg(test)]
        strike(text, FAULTY_NEWCOMER);
        if let Some(id) = self.find(text) {
            debug_assert_eq!(self.text(id), text, "hashes that collide are out of reach");
            self.slots[index(id)].uses_count += 1;
            return id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            let id = u32::try_from(self.slots.len()).expect("each slot takes tens of bytes");
            self.slots.push(Slot {
                matcher: None,
                uses_count: 0,
                template: 0,
            });
            MatcherId(id)
        });
        let is_template = matcher.is_template();
        self.slots[index(id)] = Slot {
            matcher: Some(matcher.clone()),
            uses_count: 1,
            template: if is_template {
                self.templates.insert(matcher, id)
            } else {
                0
            },
        };
        let place = self.text_hash.place(text);
        let named = Named {
            place: split(place),
            proof: self.text_hash.proof(text),
            id,
        };
        self.by_text.insert_unique(place, named, Named::place);
        if matcher.is_wildcard() {
            self.wildcard = Some(id);
        }
        id
    }

    fn find(&self, text: &str) -> Option<MatcherId> {
        let place = self.text_hash.place(text);
        // The second hash is worked out for what the first one finds only.
        let is_it =
            |named: &Named| named.place() == place && named.proof == self.text_hash.proof(text);
        self.by_text.find(place, is_it).map(|named| named.id)
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
        if matcher.is_template() {
            self.templates.remove(slot.template);
        }
        self.free.push(id);
        let place = self.text_hash.place(matcher.text());
        let found = self.by_text.find_entry(place, |named| named.id == id);
        if let Ok(found) = found {
            found.remove();
        }
        if matcher.is_wildcard() {
            self.wildcard = None;
        }
        self.shrink();
    }

    /// Appends to `out` the id of every live matcher that matches at least one of the topics,
    /// each once, ascending. Allocates nothing but the growth of `out` and, with longer topics or
    /// more templates than ever before, of its own notes.
    pub fn matching<'a>(&self, topics: impl Iterator<Item = &'a str>, out: &mut Vec<MatcherId>) {
        let start = out.len();
        #[cfg(test)]
        let topics = topics.inspect(|topic| strike(topic, FAULTY_EVENT));
        out.extend(self.wildcard);
        self.templates.begin_event();
        for topic in topics {
            out.extend(self.find(topic));
            self.templates.matching(topic, out);
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

    /// What the last call of [`Self::matching`] looked at.
    #[must_use]
    pub fn looked(&self) -> Looked {
        self.templates.looked()
    }

    /// The text of a live matcher; empty for an id that is not live.
    #[must_use]
    pub fn text(&self, id: MatcherId) -> &str {
        let slot = self.slots.get(index(id));
        slot.and_then(|slot| slot.matcher.as_ref())
            .map_or("", Matcher::text)
    }

    /// Every live matcher, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MatcherId, &Matcher)> {
        let slots = (0..).map(MatcherId).zip(&self.slots);
        slots.filter_map(|(id, slot)| Some((id, slot.matcher.as_ref()?)))
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
            let wanted = 2 * self.by_text.len();
            self.by_text.shrink_to(wanted, Named::place);
        }
    }
}

fn index(id: MatcherId) -> usize {
    id.0 as usize
}

/// Two keyed hashes of a text.
#[derive(Debug)]
struct TextHash {
    seeds: [u64; 2],
}

impl Default for TextHash {
    fn default() -> Self {
        let random = || RandomState::new().hash_one("text");
        Self {
            seeds: [random(), random()],
        }
    }
}

impl TextHash {
    fn place(&self, text: &str) -> u64 {
        hash(self.seeds[0], text)
    }

    fn proof(&self, text: &str) -> u32 {
        split(hash(self.seeds[1], text))[1]
    }
}

fn hash(seed: u64, text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write(text.as_bytes());
    hasher.finish()
}

/// In halves, the high one first, so that what holds it is aligned to four bytes and has no gap.
fn split(hash: u64) -> [u32; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "the low half")]
    let low = hash as u32;
    [(hash >> 32) as u32, low]
}

fn joined(halves: [u32; 2]) -> u64 {
    u64::from(halves[0]) << 32 | u64::from(halves[1])
}
