//! Framed events in the log's order, made once and sent to everybody who needs the same ones.

use std::cell::LazyCell;
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use gush_log::Offset;

use crate::frame::{Frame, Framing};
use crate::selection::Selection;

/// Bytes of all stretches that anybody holds: what helpers framed ahead of what sockets take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicUsize>);

impl Gauge {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts a stretch for as long as it is there.
#[derive(Debug)]
struct Counted {
    gauge: Gauge,
    bytes: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.gauge.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An event of a stretch: its offset, and where it ends in the bytes.
pub(crate) type Mark = (Offset, usize);

/// Where a subscriber stands that looks for what to go on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) cursor: Offset,
    /// A part of the event at the cursor is out: whatever stands for it, it has to be finished.
    pub(crate) is_begun: bool,
    /// Of what is known of conflated events.
    pub(crate) version: u64,
}

impl From<Offset> for Spot {
    fn from(cursor: Offset) -> Self {
        Self {
            cursor,
            is_begun: false,
            version: 0,
        }
    }
}

/// What conflation left out of a stretch, and what it may leave out later.
#[derive(Debug, Default)]
pub(crate) struct Conflated {
    /// Events that newer ones stand for, ascending.
    pub(crate) passed: Vec<Offset>,
    /// With this version of what is known, if there are events in the stretch that a newer one may
    /// stand for by now.
    pub(crate) made_at: Option<u64>,
}

/// The events of `[from, next)` that are for one selection, in one framing, but for those that
/// newer ones stand for. Nothing of that range was missing when it was read.
#[derive(Debug)]
pub(crate) struct Stretch {
    bytes: Bytes,
    marks: Vec<Mark>,
    from: Offset,
    next: Offset,
    conflated: Conflated,
    /// What follows it was asked for ahead.
    is_led: AtomicBool,
    /// Somebody is being sent it.
    is_begun: AtomicBool,
    _counted: Counted,
}

/// A part of a stretch for one write: whole events but for what is already out of the first one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Where it begins and ends in the stretch's bytes.
    begin: usize,
    end: usize,
    /// Its events.
    first: usize,
    last: usize,
}

impl Piece {
    pub(crate) const fn len(&self) -> usize {
        self.end - self.begin
    }
}

/// Where a subscriber stands after a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) cursor: Offset,
    /// Bytes that are out of the event at the cursor.
    pub(crate) partial: usize,
    /// Events that went out whole.
    pub(crate) whole: usize,
}

impl Stretch {
    pub(crate) fn new(
        bytes: Bytes,
        marks: Vec<Mark>,
        (from, next): (Offset, Offset),
        gauge: &Gauge,
    ) -> Self {
        let held = bytes.len() + marks.len() * size_of::<Mark>();
        gauge.0.fetch_add(held, Ordering::Relaxed);
        Self {
            bytes,
            marks,
            is_led: AtomicBool::new(false),
            is_begun: AtomicBool::new(false),
            from,
            next,
            conflated: Conflated::default(),
            _counted: Counted {
                gauge: gauge.clone(),
                bytes: held,
            },
        }
    }

    /// With what conflation did to it. Its few bytes are not counted.
    pub(crate) fn conflated(mut self, conflated: Conflated) -> Self {
        self.conflated = conflated;
        self
    }

    /// Whether it holds events that newer ones may stand for by now.
    pub(crate) const fn may_age(&self) -> bool {
        self.conflated.made_at.is_some()
    }

    /// How many events between two cursors were left out for newer ones.
    pub(crate) fn passed(&self, (from, until): (Offset, Offset)) -> usize {
        let passed = &self.conflated.passed;
        let before = |cursor| passed.partition_point(|offset| *offset < cursor);
        before(until).saturating_sub(before(from))
    }

    /// Whether somebody at this spot gets on with it, though it was made for another.
    pub(crate) fn serves(&self, spot: Spot) -> bool {
        let is_fresh = self
            .conflated
            .made_at
            .is_none_or(|made_at| made_at == spot.version);
        self.covers(spot.cursor) && is_fresh && (!spot.is_begun || self.has(spot.cursor))
    }

    fn has(&self, offset: Offset) -> bool {
        self.marks
            .binary_search_by_key(&offset, |mark| mark.0)
            .is_ok()
    }

    /// Whether somebody at `cursor` gets on with it.
    pub(crate) fn covers(&self, cursor: Offset) -> bool {
        (self.from..self.next).contains(&cursor)
    }

    /// Where what follows it begins, for the first who asks: that one has it read ahead.
    pub(crate) fn lead(&self) -> Option<Offset> {
        (!self.is_led.swap(true, Ordering::Relaxed)).then_some(self.next)
    }

    /// Told when a part of it was sent; `true` the first time.
    pub(crate) fn begin(&self) -> bool {
        !self.is_begun.load(Ordering::Relaxed) && !self.is_begun.swap(true, Ordering::Relaxed)
    }

    /// The next events for somebody at `cursor` who has `partial` bytes of the event there: at
    /// most `bytes_max`, but at least one. `None` when that event is not here to be finished.
    pub(crate) fn piece(&self, cursor: Offset, partial: usize, bytes_max: usize) -> Option<Piece> {
        let first = self.marks.partition_point(|mark| mark.0 < cursor);
        let begun_at = self.end_of(first);
        let is_finishable = self
            .marks
            .get(first)
            .is_some_and(|(offset, end)| *offset == cursor && begun_at + partial < *end);
        if partial > 0 && !is_finishable {
            return None;
        }
        let begin = begun_at + partial;
        let fitting = self.marks[first..].partition_point(|mark| mark.1 <= begin + bytes_max);
        let last = (first + fitting.max(1)).min(self.marks.len());
        Some(Piece {
            begin,
            end: self.end_of(last),
            first,
            last,
        })
    }

    pub(crate) fn frame(&self, piece: &Piece) -> Frame {
        Frame::of_framed(self.bytes.slice(piece.begin..piece.end))
    }

    /// Where a subscriber stands once `taken` bytes of a piece are out.
    pub(crate) fn reached(&self, piece: &Piece, taken: usize) -> Reached {
        let at = piece.begin + taken;
        let marks = &self.marks[piece.first..piece.last];
        let whole = marks.partition_point(|mark| mark.1 <= at);
        let standing_at = piece.first + whole;
        Reached {
            cursor: self.marks.get(standing_at).map_or(self.next, |mark| mark.0),
            partial: at - self.end_of(standing_at),
            whole,
        }
    }

    /// Bytes before event number `index`.
    fn end_of(&self, index: usize) -> usize {
        index
            .checked_sub(1)
            .map_or(0, |before| self.marks[before].1)
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Stretches that were made last: a crowd that resumes after one failure needs the same ones.
#[derive(Debug)]
pub(crate) struct Recent {
    /// The one needed last stands last.
    kept: VecDeque<Kept>,
    bytes: usize,
    count_max: usize,
    bytes_max: usize,
    hasher: RandomState,
}

#[derive(Debug)]
struct Kept {
    selection: Arc<Selection>,
    /// Of the selection. Those of a crowd may differ in the last of a thousand matchers only, and
    /// shards wait while they are compared.
    hash: u64,
    framing: Framing,
    stretch: Arc<Stretch>,
}

impl Recent {
    /// Keeps at most so many and so many bytes; a larger single one is kept alone.
    pub(crate) fn new(count_max: usize, bytes_max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            bytes: 0,
            count_max,
            bytes_max,
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn find(
        &mut self,
        spot: impl Into<Spot>,
        selection: &Arc<Selection>,
        framing: Framing,
    ) -> Option<Arc<Stretch>> {
        let spot = spot.into();
        let hash = LazyCell::new(|| self.hasher.hash_one(selection));
        let is_same = |kept: &Kept| {
            Arc::ptr_eq(&kept.selection, selection)
                || (kept.hash == *hash && kept.selection == *selection)
        };
        let fits =
            |kept: &Kept| kept.stretch.serves(spot) && kept.framing == framing && is_same(kept);
        let index = self.kept.iter().rposition(fits)?;
        let kept = self.kept.remove(index)?;
        let stretch = Arc::clone(&kept.stretch);
        self.kept.push_back(kept);
        Some(stretch)
    }

    /// Where to frame on ahead of `stretch`, for the first who asks: at the end of what is framed
    /// behind it without a break, if those are fewer than `count_min` stretches.
    pub(crate) fn lead(
        &mut self,
        stretch: &Stretch,
        (selection, framing): (&Arc<Selection>, Framing),
        count_min: usize,
    ) -> Option<Offset> {
        let mut next = stretch.next;
        if let Some(from) = stretch.lead() {
            return Some(from);
        }
        for _ in 0..count_min {
            // If it is not there it is being framed.
            let follower = self.find(next, selection, framing)?;
            if let Some(from) = follower.lead() {
                return Some(from);
            }
            next = follower.next;
        }
        None
    }

    pub(crate) fn keep(
        &mut self,
        selection: &Arc<Selection>,
        framing: Framing,
        stretch: &Arc<Stretch>,
    ) {
        self.bytes += stretch.len();
        self.kept.push_back(Kept {
            selection: Arc::clone(selection),
            hash: self.hasher.hash_one(selection),
            framing,
            stretch: Arc::clone(stretch),
        });
        while self.kept.len() > self.count_max
            || (self.bytes > self.bytes_max && self.kept.len() > 1)
        {
            let Some(oldest) = self.kept.pop_front() else {
                return;
            };
            self.bytes -= oldest.stretch.len();
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Lets go of all of them, and of the memory for their places.
    pub(crate) fn clear(&mut self) {
        self.kept = VecDeque::new();
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests;
