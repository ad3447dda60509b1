//! By which pieces of its literals a template is told from others.

use super::hash::LiteralHash;
use crate::topic::Matcher;

/// One literal or piece of a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) hash: u64,
    /// In bytes.
    pub(super) length: u16,
}

/// The keys of the prefix, of the suffix, and of the pieces of what stands between, long ones
/// first. A topic that a template fits has all of them.
pub(super) fn of(hash: &LiteralHash, matcher: &Matcher) -> Vec<Key> {
    let prefix = matcher.literal_prefix().as_bytes();
    let suffix = matcher.literal_suffix().as_bytes();
    let mut keys = vec![
        Key {
            hash: hash.of(prefix),
            length: short(prefix.len()),
        },
        Key {
            hash: hash.of_reversed(suffix),
            length: short(suffix.len()),
        },
    ];
    let mut grams = Vec::new();
    for literal in matcher.inner_literals().map(str::as_bytes) {
        let length = 1 << literal.len().ilog2();
        for gram in [&literal[..length], &literal[literal.len() - length..]] {
            let key = Key {
                hash: hash.of(gram),
                length: short(length),
            };
            if !grams.contains(&key) {
                grams.push(key);
            }
        }
    }
    grams.sort_by_key(|key| std::cmp::Reverse(key.length));
    keys.append(&mut grams);
    keys
}

/// A literal is part of a matcher, and those are far shorter than 64 KiB.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}
