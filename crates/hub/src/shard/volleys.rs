//! The next subscribers of a sweep that need the same bytes, written to one right after the other.
//!
//! What the shard itself does for a subscriber stands before and behind the writes of a whole
//! volley, not between two of them. There it would give a reader on the same machine the time to
//! come right behind the sender, where each write costs a quarter more (decision 0033).

use std::io;

use gush_log::Offset;
use gush_middleware::PanicGuard;

use super::subscriber::Phase;
use super::turn::NOBODY;
use super::{SLICE_BYTES_MAX, Shard};
use crate::frame::Framing;
use crate::matcher_table::MatcherId;
#[cfg(test)]
use crate::socket::faults::{Place, strike};
use crate::socket::volley::{SHOTS_MAX, Taken, Volley};

/// Writes of which it is not noted yet what became of them. Kept in the shard and not on the stack:
/// a panic over one leaves the others here.
#[derive(Debug)]
pub(super) struct Fired {
    framing: Framing,
    /// Subscribers by place, in the order of the writes.
    indices: [u32; SHOTS_MAX],
    taken: [Taken; SHOTS_MAX],
    noted: usize,
    count: usize,
}

impl Default for Fired {
    fn default() -> Self {
        Self {
            framing: Framing::Raw,
            indices: [0; SHOTS_MAX],
            taken: [Ok(0); SHOTS_MAX],
            noted: 0,
            count: 0,
        }
    }
}

impl Fired {
    fn next(&mut self) -> Option<(u32, Taken)> {
        let at = self.noted;
        if at == self.count {
            return None;
        }
        self.noted += 1;
        Some((self.indices[at], self.taken[at]))
    }
}

impl Shard {
    /// Goes on in the list that is swept, as long as the next subscribers need just what is
    /// gathered: nearly always up to the end of the list. Who needs anything else, or is no bare
    /// socket, is left to [`Self::send_swept`].
    pub(super) fn fire_volleys(&mut self, visits: &mut usize) {
        while let Some((from, offset, matcher)) = self.swept() {
            self.fire((from, offset), matcher, *visits);
            if self.fired.count == 0 {
                return;
            }
            *visits -= self.fired.count;
            self.settle_fired();
            if self.tally.bytes >= SLICE_BYTES_MAX {
                return;
            }
        }
    }

    /// One volley to the next ones in a matcher's list that have not had the event at `offset` and
    /// need what is gathered of the events from `from` on.
    fn fire(&mut self, (from, offset): (Offset, Offset), matcher: MatcherId, most: usize) {
        (self.fired.noted, self.fired.count) = (0, 0);
        let list = &self.lists[matcher.0 as usize];
        let remaining = self.sweep.remaining.unwrap_or(0).min(list.len());
        let Some(first) = list[..remaining].last() else {
            return;
        };
        let Some(first) = self.subscribers.get(*first) else {
            return;
        };
        let framing = first.sink.framing();
        let batch = &self.batches[framing as usize];
        let Some(mut volley) = Volley::of(&batch.outgoing(), framing) else {
            return;
        };
        let (mut count, mut bytes) = (0, self.tally.bytes);
        // All are looked at before the first write, which drives the states of the others out of
        // the cache: the processor waits for them at once instead of for one after the other.
        for index in list[..remaining].iter().rev().take(most) {
            self.visit.subject = *index;
            let Some(subscriber) = self.subscribers.get(*index) else {
                break;
            };
            let is_alike = subscriber.phase == Phase::Live
                && subscriber.partial == 0
                && subscriber.cursor <= from
                && batch.next() > offset
                && batch.fits(subscriber, from, self.head);
            if !is_alike || bytes >= SLICE_BYTES_MAX || !volley.add(&subscriber.sink) {
                break;
            }
            self.fired.indices[count] = *index;
            bytes += batch.len() as u64;
            count += 1;
        }
        volley.fire(&mut self.fired.taken);
        self.fired.framing = framing;
        self.fired.count = count;
        // Whoever was written to is not visited again for these events.
        self.sweep.remaining = Some(remaining - count);
    }

    /// Notes what became of the writes of a volley.
    fn settle_fired(&mut self) {
        while let Some((index, taken)) = self.fired.next() {
            self.visit.subject = index;
            let Some(subscriber) = self.subscribers.get_mut(index) else {
                continue;
            };
            #[cfg(test)]
            strike(subscriber.sink.descriptor(), Place::Wrote);
            let batch = &self.batches[self.fired.framing as usize];
            match taken.map(|taken| subscriber.settle(batch, taken, self.now)) {
                Ok(sent) if sent.is_whole => self.tally.add(sent),
                sent => self.stopped(index, sent.map_err(io::Error::from)),
            }
        }
    }

    /// After a panic over one write of a volley: the others have been made as well.
    pub(super) fn settle_after_panic(&mut self, guard: &PanicGuard) {
        while guard
            .run("noting the writes of a volley", || self.settle_fired())
            .is_err()
        {
            let subject = std::mem::replace(&mut self.visit.subject, NOBODY);
            self.end_after_panic(subject, guard);
        }
        self.visit.subject = NOBODY;
    }
}
