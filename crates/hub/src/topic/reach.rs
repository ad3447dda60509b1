//! The positions of a topic that are reached after each part of a template.

use std::ops::RangeInclusive;

use super::{CLASS, Expression, Part, UNLIMITED, is_percent_triplet};
use crate::topic::TOPIC_BYTES_MAX;

/// How far an expansion has come at one position of the topic. Of all ways to get there only
/// those with the fewest separators matter: whatever the others can still reach, these can.
#[derive(Clone, Copy)]
struct Progress {
    /// In the first run.
    is_head: bool,
    /// In a later run, after this many separators; [`Progress::NOT`]: not there.
    separators: u16,
}

impl Progress {
    const NOT: u16 = u16::MAX;
    const NONE: Self = Self {
        is_head: false,
        separators: Self::NOT,
    };

    fn is_alive(self) -> bool {
        self.is_head || self.separators != Self::NOT
    }

    fn join(&mut self, other: Self) {
        self.is_head |= other.is_head;
        self.separators = self.separators.min(other.separators);
    }
}

impl Expression {
    /// Walks the topic once. `starts` says at which positions the expression may begin, the first
    /// and the last of them being those of `range`; `ends` is called with each position where it
    /// may end.
    fn run(
        self,
        topic: &[u8],
        range: RangeInclusive<usize>,
        starts: impl Fn(usize) -> bool,
        ends: impl FnMut(usize),
    ) {
        if self.is_run() {
            self.run_once(topic, range, starts, ends);
        } else {
            self.run_parts(topic, range, starts, ends);
        }
    }

    /// As `run`, for the usual expression: one run and nothing else.
    fn run_once(
        self,
        topic: &[u8],
        range: RangeInclusive<usize>,
        starts: impl Fn(usize) -> bool,
        mut ends: impl FnMut(usize),
    ) {
        // Bit n: the position n ahead is reached.
        let mut reached = 0_u8;
        let (mut at, last_start) = range.into_inner();
        while at <= last_start || reached != 0 {
            if at <= last_start && starts(at) {
                reached |= 1;
            }
            if reached & 1 != 0 {
                ends(at);
                match topic.get(at) {
                    Some(b'%') if is_percent_triplet(topic, at) => reached |= 1 << 3,
                    Some(&byte) if CLASS[usize::from(byte)] & self.head != 0 => reached |= 1 << 1,
                    _ => {}
                }
            }
            reached >>= 1;
            at += 1;
        }
    }

    fn run_parts(
        self,
        topic: &[u8],
        range: RangeInclusive<usize>,
        starts: impl Fn(usize) -> bool,
        mut ends: impl FnMut(usize),
    ) {
        // A step reaches one or three bytes ahead, so four places hold all that is pending.
        let mut window = [Progress::NONE; 4];
        let (mut at, mut horizon) = range.into_inner();
        while at <= horizon {
            let mut here = std::mem::replace(&mut window[at & 3], Progress::NONE);
            let byte = topic.get(at).copied();
            let is_start = starts(at);
            if is_start {
                match self.first {
                    None => here.is_head = true,
                    Some(first) if byte == Some(first) => {
                        window[(at + 1) & 3].is_head = true;
                        horizon = horizon.max(at + 1);
                    }
                    Some(_) => {}
                }
            }
            let is_alive = here.is_alive();
            if is_start || is_alive {
                ends(at);
            }
            if let (true, Some(byte)) = (is_alive, byte) {
                let (next, length) = self.step(here, byte, topic, at);
                if next.is_alive() {
                    window[(at + length) & 3].join(next);
                    horizon = horizon.max(at + length);
                }
            }
            at += 1;
        }
    }

    /// What one byte, or one `%XX`, makes of the progress, and how many bytes that takes.
    fn step(self, here: Progress, byte: u8, topic: &[u8], at: usize) -> (Progress, usize) {
        if byte == b'%' {
            // In every class, and never a separator.
            let next = if is_percent_triplet(topic, at) {
                here
            } else {
                Progress::NONE
            };
            return (next, 3);
        }
        let class = CLASS[usize::from(byte)];
        let mut next = Progress::NONE;
        if here.is_head && class & self.head != 0 {
            next.is_head = true;
        }
        if here.separators != Progress::NOT && class & self.tail != 0 {
            next.separators = here.separators;
        }
        if byte == self.separator {
            let used = if here.is_head { 0 } else { here.separators };
            if self.repeats == UNLIMITED {
                next.separators = 1;
            } else if used < self.repeats {
                next.separators = next.separators.min(used + 1);
            }
        }
        (next, 1)
    }
}

/// One bit for each position of the longest topic, the end included.
const WORDS: usize = TOPIC_BYTES_MAX / 64 + 1;

/// Whether a template of these parts takes the whole topic: carries the set of reachable positions
/// through the parts. `text` is what the template was parsed from.
pub(super) fn reach_end(parts: &[Part], text: &[u8], topic: &[u8]) -> bool {
    if let [Part::Expression(expression)] = parts {
        // The common case needs no sets.
        let mut is_match = false;
        expression.run(
            topic,
            0..=0,
            |at| at == 0,
            |at| is_match |= at == topic.len(),
        );
        return is_match;
    }
    let words = topic.len() / 64 + 1;
    let mut on_stack = [0; 2 * WORDS];
    let mut on_heap = Vec::new(); // request targets can be longer than topics
    let space: &mut [u64] = if words <= WORDS {
        &mut on_stack[..2 * words]
    } else {
        on_heap.resize(2 * words, 0);
        &mut on_heap
    };
    let (mut from, mut to) = space.split_at_mut(words);
    from[0] = 1;
    for part in parts {
        let Some(range) = first_and_last(from) else {
            return false;
        };
        to.fill(0);
        match part {
            Part::Literal {
                from: start,
                to: end,
            } => {
                let literal = &text[usize::from(*start)..usize::from(*end)];
                let begin = *range.start();
                for at in memchr::memchr_iter(literal[0], &topic[begin..]) {
                    let at = begin + at;
                    if contains(from, at) && topic[at..].starts_with(literal) {
                        insert(to, at + literal.len());
                    }
                }
            }
            Part::Expression(expression) => {
                expression.run(topic, range, |at| contains(from, at), |at| insert(to, at));
            }
        }
        std::mem::swap(&mut from, &mut to);
    }
    contains(from, topic.len())
}

fn insert(set: &mut [u64], at: usize) {
    set[at / 64] |= 1 << (at % 64);
}

fn contains(set: &[u64], at: usize) -> bool {
    set[at / 64] & (1 << (at % 64)) != 0
}

fn first_and_last(set: &[u64]) -> Option<RangeInclusive<usize>> {
    let first = set.iter().position(|&word| word != 0)?;
    let last = set.iter().rposition(|&word| word != 0)?;
    let first = first * 64 + set[first].trailing_zeros() as usize;
    Some(first..=last * 64 + 63 - set[last].leading_zeros() as usize)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use crate::topic::TOPIC_BYTES_MAX;
    use crate::topic::template::{Part, Template};

    proptest! {
        /// Whatever the expression, wherever it may begin: each position of the topic is asked
        /// about once and told about once. So no template costs more than topic times expressions.
        #[test]
        fn an_expression_goes_over_the_topic_once(
            text in "\\{[+#./;?&]?(a|b\\*)(,(a|b\\*)){0,3}\\}",
            unit in "(a|,|/|;|=|&|\\.|\\?|#|%2F|%|é| ){1,5}",
            every in 1..5_usize,
        ) {
            let topic = unit.repeat(TOPIC_BYTES_MAX / unit.len());
            let template = Template::parse(&text).expect("it is one");
            let [Part::Expression(expression)] = template.parts.as_slice() else {
                panic!("one expression");
            };
            let (asked, told) = (Cell::new(0), Cell::new(0));
            expression.run(
                topic.as_bytes(),
                0..=topic.len(),
                |at| {
                    asked.set(asked.get() + 1);
                    at % every == 0
                },
                |_| told.set(told.get() + 1),
            );
            // A `%` at the very end looks three bytes ahead.
            prop_assert!(asked.get() <= topic.len() + 4, "{}", asked.get());
            prop_assert!(told.get() <= topic.len() + 4, "{}", told.get());
        }
    }
}
