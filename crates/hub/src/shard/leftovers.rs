//! What is left of newcomers once their shard has taken them in. It goes back to the HTTP threads,
//! which made it, to be dropped there.
//!
//! glibc hands a freed block out again in the thread that freed it. A shard that freed what the
//! HTTP threads made would so put what lives as long as a stream into their part of the heap,
//! between what they need for a moment while thousands of streams begin, and there each such block
//! keeps a page. So a shard copies what stays and frees nothing of theirs. See decision record
//! 0031.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::matcher_table::crowds::Places;
use crate::peer::Client;
use crate::selection::Selection;

/// Most of them that wait for somebody to drop them; the shard drops more itself. Ours: what one
/// busy turn takes in, at some hundred bytes each.
const WAITING_MAX: usize = 1024;

/// Most bytes of the texts of those that wait. Ours: a page's usual topics for all of them; one
/// stream may ask for a thousand of four thousand bytes.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// Held for its memory only.
#[derive(Debug)]
pub(crate) struct Leftover {
    _selection: Arc<Selection>,
    _client: Option<Client>,
    /// Of the selection's texts.
    bytes: usize,
}

impl Leftover {
    pub(super) fn new(mut selection: Arc<Selection>, client: Option<Client>) -> Self {
        // What counts against a limit is given back with the stream, not when this is dropped.
        if let Some(selection) = Arc::get_mut(&mut selection) {
            selection.places = Places::default();
        }
        let matchers = selection.matchers.iter().chain(selection.grants.iter());
        Self {
            bytes: matchers.map(|matcher| matcher.text().len()).sum(),
            _selection: selection,
            _client: client,
        }
    }
}

/// The way back: filled by the shard, emptied by whoever brings the next newcomer.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    all: Vec<Leftover>,
    bytes: usize,
}

impl Leftovers {
    /// Empties `more`.
    pub(super) fn put(&self, more: &mut Vec<Leftover>) {
        if more.is_empty() {
            return;
        }
        let mut waiting = self.lock();
        let mut bytes = waiting.bytes;
        let room = WAITING_MAX.saturating_sub(waiting.all.len());
        let fits = |leftover: &&Leftover| {
            bytes += leftover.bytes;
            bytes <= WAITING_BYTES_MAX
        };
        let fitting = more.iter().take(room).take_while(fits).count();
        waiting.bytes += more[..fitting]
            .iter()
            .map(|leftover| leftover.bytes)
            .sum::<usize>();
        waiting.all.extend(more.drain(..fitting));
        drop(waiting);
        more.clear();
    }

    /// All that wait, to be dropped without the lock.
    pub(super) fn take(&self) -> Vec<Leftover> {
        mem::take(&mut *self.lock()).all
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic::Matcher;

    #[test]
    fn no_more_wait_than_may_and_they_are_taken_once() {
        let selection = Arc::new(Selection::default());
        let leftovers = Leftovers::default();
        for _ in 0..3 {
            let left = || Leftover::new(Arc::clone(&selection), None);
            let mut more: Vec<_> = std::iter::repeat_with(left).take(700).collect();
            leftovers.put(&mut more);
            assert!(more.is_empty());
        }
        assert_eq!(Arc::strong_count(&selection), 1 + WAITING_MAX);
        assert_eq!(leftovers.take().len(), WAITING_MAX);
        assert!(leftovers.take().is_empty());
        assert_eq!(Arc::strong_count(&selection), 1);
    }

    #[test]
    fn long_texts_do_not_pile_up() {
        let topic = "a".repeat(1000);
        let leftovers = Leftovers::default();
        for _ in 0..2 {
            let selection = || Selection {
                matchers: [Matcher::parse(&topic).expect("a matcher")].into(),
                ..Selection::default()
            };
            let left = || Leftover::new(Arc::new(selection()), None);
            leftovers.put(&mut std::iter::repeat_with(left).take(200).collect());
        }
        assert_eq!(leftovers.take().len(), WAITING_BYTES_MAX / 1000);
        // What was taken counts no more.
        let one = Leftover::new(Arc::new(Selection::default()), None);
        leftovers.put(&mut vec![one]);
        assert_eq!(leftovers.take().len(), 1);
    }
}
