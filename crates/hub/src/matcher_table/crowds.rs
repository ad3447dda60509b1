//! How many templates one event may have to be compared with, whoever holds them.
//!
//! Templates are found by their literals. Those whose literals a topic has, all of them, have to be
//! compared with it one by one, and somebody can ask for any number of such that differ in their
//! expressions only. So the hub counts: each template of a stream with many belongs to the crowd of
//! one of its literals (of the pieces in `keys.rs`), the smallest one, and a crowd holds
//! [`CROWD_EXPRESSIONS_MAX`] expressions. A topic has few pieces, so it meets few crowds: however
//! many templates there are, it is compared with no more than [`steps_max`] says.
//!
//! What comes on top is small for each stream and free for all: [`FREE_EXPRESSIONS`]. Nobody with
//! a few templates is ever counted or refused, whatever others do.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::hash::LiteralHash;
use super::index::LIST_MAX;
use super::keys;
use crate::topic::Matcher;

/// Expressions of the templates of a crowd, those that accept the same counted once. Comparing a
/// topic of ordinary length with all of them takes some 50 microseconds. Two literals of 300 values
/// each may be combined in 100,000 ways with two expressions before it is too few.
pub const CROWD_EXPRESSIONS_MAX: usize = 512;

/// Expressions of one stream that need no crowd with room. Comparing a topic of ordinary length
/// with them takes about a microsecond, as much as sending the stream an event does. Templates
/// seen in the field hold one to five.
pub const FREE_EXPRESSIONS: usize = 16;

/// The most steps, bytes of the topic times expressions compared with it, that matching one topic
/// takes however many templates there are. Short lists of templates with one or two expressions
/// are on top: comparing those is no more than a look at where they stand.
#[must_use]
pub fn steps_max(topic_bytes: usize, streams_count: usize) -> usize {
    // A prefix, a suffix and pieces of each power of two may begin anywhere.
    let lengths_count = 2 + (topic_bytes.max(1).ilog2() as usize + 1);
    let crowds_count = (topic_bytes + 1) * lengths_count;
    // Up to so many that accept the same may be in a list before they are matched once.
    let each = LIST_MAX as usize * CROWD_EXPRESSIONS_MAX;
    topic_bytes * (crowds_count * each + streams_count * FREE_EXPRESSIONS)
}

/// The templates of all streams that hold many, and their crowds.
#[derive(Debug, Default)]
pub struct Crowds {
    hash: LiteralHash,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the hash of what they accept.
    programs: HashMap<u64, Program>,
    /// Expressions, by the hash of the literal.
    crowds: HashMap<u64, usize>,
}

/// Templates that accept the same.
#[derive(Debug)]
struct Program {
    uses_count: u32,
    expressions: u32,
    crowd: u64,
}

/// Too many templates that their literals do not tell from others. `Display` is for the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowded;

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "more than {FREE_EXPRESSIONS} template expressions in topics whose literal parts too \
             many other templates share: use fewer, or literals that tell them apart"
        )
    }
}

impl std::error::Error for Crowded {}

/// What a stream's templates take of the crowds, until the last clone is dropped. Says nothing
/// about the stream, so all are equal.
#[derive(Clone, Debug, Default)]
pub struct Places(#[expect(dead_code, reason = "held for its drop")] Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    crowds: Arc<Crowds>,
    programs: Vec<u64>,
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut state = self.crowds.lock();
        for program in &self.programs {
            state.leave(*program);
        }
    }
}

impl PartialEq for Places {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

impl Hash for Places {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

impl Crowds {
    /// Takes the places of one stream's matchers.
    ///
    /// # Errors
    ///
    /// [`Crowded`] when more than [`FREE_EXPRESSIONS`] would find no crowd with room.
    pub fn enter(self: &Arc<Self>, matchers: &[Matcher]) -> Result<Places, Crowded> {
        let expressions: usize = matchers.iter().map(Matcher::expressions).sum();
        if expressions <= FREE_EXPRESSIONS {
            return Ok(Places::default());
        }
        let mut held = Held {
            crowds: Arc::clone(self),
            programs: Vec::with_capacity(matchers.len()),
        };
        let mut homeless = 0;
        for matcher in matchers.iter().filter(|matcher| matcher.is_template()) {
            let program = matcher
                .program()
                .fold(0, |state, value| self.hash.step(state, value));
            if self.join(program, matcher) {
                held.programs.push(program);
                continue;
            }
            homeless += matcher.expressions();
            if homeless > FREE_EXPRESSIONS {
                return Err(Crowded); // and what it has so far is given back
            }
        }
        Ok(Places(Some(Arc::new(held))))
    }

    /// Whether a template has a crowd with room, or one that accepts the same is in one.
    fn join(&self, program: u64, matcher: &Matcher) -> bool {
        let crowds = self.crowds_of(matcher);
        let mut state = self.lock();
        if let Some(program) = state.programs.get_mut(&program) {
            program.uses_count += 1;
            return true;
        }
        let size = |crowd: &u64| state.crowds.get(crowd).copied().unwrap_or(0);
        let smallest = crowds.into_iter().min_by_key(size);
        let expressions = matcher.expressions();
        let Some(crowd) =
            smallest.filter(|crowd| size(crowd) + expressions <= CROWD_EXPRESSIONS_MAX)
        else {
            return false;
        };
        *state.crowds.entry(crowd).or_default() += expressions;
        let place = Program {
            uses_count: 1,
            expressions: u32::try_from(expressions).expect("at most 64"),
            crowd,
        };
        state.programs.insert(program, place);
        true
    }

    /// The crowds that a template can be in: a topic that it fits meets all of them.
    fn crowds_of(&self, matcher: &Matcher) -> Vec<u64> {
        let keys = keys::of(&self.hash, matcher).into_iter().enumerate();
        // A prefix, a suffix and a piece with the same text are three.
        keys.map(|(at, key)| self.hash.step(key.hash, 256 + at.min(2) as u64))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn leave(&mut self, program: u64) {
        let Entry::Occupied(mut place) = self.programs.entry(program) else {
            return;
        };
        place.get_mut().uses_count -= 1;
        if place.get().uses_count > 0 {
            return;
        }
        let place = place.remove();
        if let Entry::Occupied(mut crowd) = self.crowds.entry(place.crowd) {
            *crowd.get_mut() -= place.expressions as usize;
            if *crowd.get() == 0 {
                crowd.remove();
            }
        }
        // Memory comes back after a crowd has left.
        if self.programs.capacity() > 8 * self.programs.len().max(64) {
            self.programs.shrink_to(2 * self.programs.len());
            self.crowds.shrink_to(2 * self.crowds.len());
        }
    }
}

#[cfg(test)]
#[path = "tests/crowds.rs"]
mod tests;
