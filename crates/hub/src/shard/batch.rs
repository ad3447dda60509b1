//! The events of one write: gathered once, and used for every subscriber that needs the same ones.

use std::sync::Arc;

use gush_log::Offset;

use super::Job;
use super::subscriber::{Memberships, Subscriber};
use crate::frame::{Frame, Framing};
use crate::matcher_table::MatcherId;
use crate::selection::Selection;
use crate::socket::{Outgoing, WRITE_FRAMES_MAX};
use crate::window::Entry;

/// Most bytes gathered for one write; a larger single event still goes whole.
const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Up to this many bytes several frames are copied into one piece: one copy for all subscribers is
/// less than the kernel's walk over a vector for each of them. Larger batches go as vectors.
const JOINED_BYTES_MAX: usize = 32 * 1024;

/// Most jobs looked at for one batch: past it the look itself would show.
const BATCH_JOBS_MAX: usize = 256;

/// Where a batch, or a write that came up short, ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) cursor: Offset,
    pub(super) partial: u32,
    /// Events before it.
    pub(super) whole: u64,
}

/// Which subscribers a batch gathered from jobs is for.
#[derive(Debug)]
struct Audience {
    /// The offsets it covers.
    from: Offset,
    head: Offset,
    /// Everybody with this selection.
    selection: Arc<Selection>,
    /// Everybody whose only matcher this is; `None` when grants had a say.
    matcher: Option<MatcherId>,
}

/// Frames for one write, in order, in one framing. Kept and used again for its capacity.
#[derive(Debug)]
pub(super) struct Batch {
    frames: Vec<Frame>,
    /// The same bytes in one piece, if there is more than one frame and they are few bytes.
    joined: Vec<u8>,
    /// For each event its offset and where it ends.
    marks: Vec<(Offset, usize)>,
    next: Offset,
    audience: Option<Audience>,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            frames: Vec::new(),
            joined: Vec::new(),
            marks: Vec::new(),
            next: Offset::FIRST,
            audience: None,
        }
    }
}

impl Batch {
    /// Bytes of all frames.
    pub(super) fn len(&self) -> usize {
        self.marks.last().map_or(0, |mark| mark.1)
    }

    /// The first offset a subscriber needs after this batch.
    pub(super) const fn next(&self) -> Offset {
        self.next
    }

    /// Events in it.
    pub(super) const fn events(&self) -> u64 {
        self.marks.len() as u64
    }

    /// Where a subscriber stands after `reached` bytes, fewer than all.
    pub(super) fn stopped_at(&self, reached: usize) -> Stop {
        let whole = self.marks.partition_point(|mark| mark.1 <= reached);
        let begun_at = whole.checked_sub(1).map_or(0, |last| self.marks[last].1);
        Stop {
            cursor: self.marks.get(whole).map_or(self.next, |mark| mark.0),
            partial: u32::try_from(reached - begun_at).expect("frames are under 4 GiB"),
            whole: whole as u64,
        }
    }

    pub(super) fn outgoing(&self) -> Outgoing<'_> {
        Outgoing {
            frames: &self.frames,
            joined: (!self.joined.is_empty()).then_some(&self.joined),
        }
    }

    /// Lets go of what it holds, not of its capacity.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.joined.clear();
        self.marks.clear();
        self.audience = None;
    }

    /// Whether this is what the subscriber needs of the jobs in `[from, head)`.
    #[inline]
    pub(super) fn fits(&self, subscriber: &Subscriber, from: Offset, head: Offset) -> bool {
        let Some(audience) = &self.audience else {
            return false;
        };
        audience.from == from
            && audience.head == head
            && (match &subscriber.memberships {
                Memberships::One(only) => audience.matcher == Some(only.matcher),
                Memberships::Many(_) => false,
            } || Arc::ptr_eq(&audience.selection, &subscriber.selection))
    }

    /// Gathers what a subscriber needs of the waiting jobs, the first of which is at `from`.
    pub(super) fn gather_jobs<'a>(
        &mut self,
        jobs: impl Iterator<Item = &'a Job>,
        subscriber: &Subscriber,
        (from, head): (Offset, Offset),
    ) {
        self.clear();
        self.next = head;
        let framing = subscriber.sink.framing();
        let mut by_grants = false;
        for (looked_at, job) in jobs.enumerate() {
            if looked_at >= BATCH_JOBS_MAX || self.is_full() {
                self.next = job.entry.offset();
                break;
            }
            if !subscriber.memberships.have_any_of(&job.matched) {
                continue;
            }
            if job.entry.is_private {
                by_grants = true;
                let topics = job.entry.topics();
                if !subscriber.selection.may_read(topics) {
                    continue;
                }
            }
            self.push(&job.entry, framing);
        }
        self.join(framing);
        let matcher = match &subscriber.memberships {
            Memberships::One(only) if !by_grants => Some(only.matcher),
            _ => None,
        };
        self.audience = Some(Audience {
            from,
            head,
            selection: Arc::clone(&subscriber.selection),
            matcher,
        });
    }

    fn is_full(&self) -> bool {
        self.frames.len() == WRITE_FRAMES_MAX || self.len() >= BATCH_BYTES_MAX
    }

    fn push(&mut self, entry: &Entry, framing: Framing) {
        let end = self.len() + entry.frame.framed(framing).len();
        self.frames.push(entry.frame.clone());
        self.marks.push((entry.offset(), end));
    }

    fn join(&mut self, framing: Framing) {
        if self.frames.len() > 1 && self.len() <= JOINED_BYTES_MAX {
            for frame in &self.frames {
                self.joined.extend_from_slice(frame.framed(framing));
            }
        }
    }
}
