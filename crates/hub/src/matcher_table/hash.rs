//! Hashes that can be read off at every part of a topic after walking it once.

use std::hash::{BuildHasher, RandomState};

/// A polynomial hash modulo 2^61 - 1 at a secret point: without the point nobody can build texts
/// that collide.
#[derive(Debug)]
pub(super) struct LiteralHash {
    /// The point, its square, the square of that, and so on.
    powers: [u64; GRAMS],
}

const PRIME: u64 = (1 << 61) - 1;

/// Lengths a piece of a literal may have: the powers of two up to 4,096, the longest matcher.
pub(super) const GRAMS: usize = 13;

impl Default for LiteralHash {
    fn default() -> Self {
        Self::at(RandomState::new().hash_one("literal"))
    }
}

impl LiteralHash {
    /// A hash that follows from the seed.
    pub(super) fn at(seed: u64) -> Self {
        // A byte counts as 1 to 256, so points below that would be poor ones.
        let mut power = seed % (PRIME - 512) + 257;
        let powers = std::array::from_fn(|_| {
            let this = power;
            power = multiply(power, power);
            this
        });
        Self { powers }
    }

    /// The hash of what hashes to `state` followed by a value: a byte, or any below 2^60.
    pub(super) fn step(&self, state: u64, value: u64) -> u64 {
        add(multiply(state, self.powers[0]), value + 1)
    }

    /// The hash of a text.
    pub(super) fn of(&self, text: &[u8]) -> u64 {
        self.of_values(text.iter().copied())
    }

    /// The hash of a text from its end to its start.
    pub(super) fn of_reversed(&self, text: &[u8]) -> u64 {
        self.of_values(text.iter().rev().copied())
    }

    fn of_values(&self, bytes: impl Iterator<Item = u8>) -> u64 {
        bytes.fold(0, |state, byte| self.step(state, u64::from(byte)))
    }
}

fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    // 2^61 is 1 modulo the prime, so the high and the low part add up.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "61 bits and at most 61 bits are left"
    )]
    let (low, high) = (product as u64 & PRIME, (product >> 61) as u64);
    add(low, high)
}

fn add(a: u64, b: u64) -> u64 {
    let sum = a + b;
    if sum >= PRIME { sum - PRIME } else { sum }
}

/// The hashes of one topic's parts, each worked out when it is first asked for.
#[derive(Debug, Default)]
pub(super) struct TopicHashes {
    /// By length: the hash of the start.
    starts: Vec<u64>,
    /// By length: the hash of the end, backwards.
    ends: Vec<u64>,
}

impl TopicHashes {
    /// Forgets the last topic, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.starts.clear();
        self.ends.clear();
    }

    /// The hash of the first `length` bytes.
    pub(super) fn start(&mut self, hash: &LiteralHash, topic: &[u8], length: usize) -> u64 {
        extend(&mut self.starts, hash, length, |at| topic[at]);
        self.starts[length]
    }

    /// The hash of the last `length` bytes, backwards.
    pub(super) fn end(&mut self, hash: &LiteralHash, topic: &[u8], length: usize) -> u64 {
        extend(&mut self.ends, hash, length, |at| {
            topic[topic.len() - 1 - at]
        });
        self.ends[length]
    }

    /// The hashes of the pieces of `2^power` bytes in `from..to` of the topic, by their start.
    pub(super) fn grams<'a>(
        &'a mut self,
        hash: &'a LiteralHash,
        topic: &[u8],
        range: std::ops::Range<usize>,
        power: usize,
    ) -> impl Iterator<Item = u64> + use<'a> {
        extend(&mut self.starts, hash, topic.len(), |at| topic[at]);
        let starts = &self.starts[range.start..=range.end];
        let factor = hash.powers[power];
        let length = (1 << power).min(starts.len());
        starts
            .iter()
            .zip(&starts[length..])
            .map(move |(before, after)| {
                let behind = multiply(*before, factor);
                add(*after, if behind == 0 { 0 } else { PRIME - behind })
            })
    }
}

fn extend(hashes: &mut Vec<u64>, hash: &LiteralHash, length: usize, byte: impl Fn(usize) -> u8) {
    if hashes.is_empty() {
        hashes.push(0);
    }
    for at in hashes.len() - 1..length {
        hashes.push(hash.step(hashes[at], u64::from(byte(at))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_hash_as_they_do_alone() {
        let hash = LiteralHash::default();
        let topic = b"https://example.com/\xff\x00/aaaaaaaa";
        let mut hashes = TopicHashes::default();
        for length in [0, 7, 3, topic.len()] {
            assert_eq!(
                hashes.start(&hash, topic, length),
                hash.of(&topic[..length])
            );
            let end = &topic[topic.len() - length..];
            assert_eq!(hashes.end(&hash, topic, length), hash.of_reversed(end));
        }
        for power in 0..GRAMS {
            for range in [0..topic.len(), 5..12, 4..5, 6..6] {
                let expected: Vec<_> = topic[range.clone()]
                    .windows(1 << power)
                    .map(|gram| hash.of(gram))
                    .collect();
                let found: Vec<_> = hashes.grams(&hash, topic, range, power).collect();
                assert_eq!(found, expected);
            }
        }
        assert_ne!(hash.of(b"a"), hash.of(b"b"));
        assert_ne!(hash.of(b"\0"), hash.of(b""));
    }
}
