//! The matchers of one shard, each kept once, and the question every event asks: which match?
//!
//! Plain matchers are found by their text, templates by their literals (`index.rs`). So the cost
//! of an event follows the number of matchers that match, not the number there are.

use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

use hashbrown::HashTable;

use crate::topic::Matcher;

// Templates by their literals.
mod index;

// Hashes of literals and of parts of topics.
mod hash;

#[cfg(test)]
#[path = "matcher_table/tests.rs"]
mod tests;

pub use index::Looked;

use hash::LiteralHash;
use index::TemplateIndex;

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

/// A matcher under the hash of its text. The hash is kept so that the table grows without going
/// to the texts; half of it does for 2^25 matchers.
#[derive(Clone, Copy, Debug)]
struct Named {
    half_hash: u32,
    id: MatcherId,
}

impl MatcherTable {
    /// A table that does the same in every run: for measurements. Other tables choose their hash
    /// at random, so that nobody can build matchers that fall together.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Self {
            text_hash: TextHash { seed },
            templates: TemplateIndex::new(LiteralHash::at(seed)),
            ..Self::default()
        }
    }

    /// Adds one use of the matcher and says where it is.
    ///
    /// # Panics
    /// With more than `u32::MAX` live matchers, more than memory holds.
    pub fn intern(&mut self, matcher: &Matcher) -> MatcherId {
        let half_hash = self.text_hash.of(matcher.text());
        if let Some(id) = self.find(half_hash, matcher.text()) {
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
        self.by_text
            .insert_unique(whole(half_hash), Named { half_hash, id }, |named| {
                whole(named.half_hash)
            });
        if matcher.is_wildcard() {
            self.wildcard = Some(id);
        }
        id
    }

    fn find(&self, half_hash: u32, text: &str) -> Option<MatcherId> {
        let is_it = |named: &Named| named.half_hash == half_hash && self.text(named.id) == text;
        let named = self.by_text.find(whole(half_hash), is_it)?;
        Some(named.id)
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
        let half_hash = self.text_hash.of(matcher.text());
        let found = self
            .by_text
            .find_entry(whole(half_hash), |named| named.id == id);
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
        out.extend(self.wildcard);
        self.templates.begin_event();
        for topic in topics {
            out.extend(self.find(self.text_hash.of(topic), topic));
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
            self.by_text
                .shrink_to(wanted, |named| whole(named.half_hash));
        }
    }
}

fn index(id: MatcherId) -> usize {
    id.0 as usize
}

/// Half of a keyed hash of a text.
#[derive(Debug)]
struct TextHash {
    seed: u64,
}

impl Default for TextHash {
    fn default() -> Self {
        let seed = RandomState::new().hash_one("text");
        Self { seed }
    }
}

impl TextHash {
    fn of(&self, text: &str) -> u32 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        text.hash(&mut hasher);
        #[expect(clippy::cast_possible_truncation, reason = "half of it is wanted")]
        let half_hash = hasher.finish() as u32;
        half_hash
    }
}

/// What the table takes: it finds a place by the low bits and tells neighbours apart by the top
/// ones.
fn whole(half_hash: u32) -> u64 {
    u64::from(half_hash) << 32 | u64::from(half_hash)
}
