//! Walks over the records of a segment, and over damage to the next whole one.

use std::io;

use memchr::memmem;

use crate::host::{ReadAt, read_full_at};
use crate::record::{
    Checked, CheckedTopics, HEAD_BYTES, RECORD_BYTES_MIN, Raw, Stamp, check, decode,
};
use crate::{Epoch, Offset};

/// The first read of a scan. Ours: covers the distance between two index entries and a few
/// records more; a resume that asks for one event copies no more than that.
pub(crate) const FIRST_READ_BYTES: usize = 24 << 10;

/// The later reads. Ours: they stay in a processor's own cache until they are framed, and little is
/// read that a chunk has no room for.
const READ_BYTES: usize = 64 << 10;

/// What a buffer is cut down to before it is kept for the next scan.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// Which part of a segment to walk over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// Where a record begins.
    pub(crate) from: u64,
    /// The offset of that record.
    pub(crate) offset: Offset,
    /// Where the last record ends.
    pub(crate) to: u64,
    /// Records with this offset or a larger one are none of this segment's.
    pub(crate) offset_end: Offset,
}

/// Finds whole records in ascending offset order.
pub(crate) struct Scan<'s, S: ?Sized> {
    source: &'s S,
    stamp: Stamp,
    epoch: Epoch,
    range: Range,
    /// What the next record should have.
    expected: Offset,
    /// Bytes of the segment from `buffer_at` on; the first `filled` are read.
    buffer: Vec<u8>,
    buffer_at: u64,
    filled: usize,
    /// Where the next record should begin.
    at: u64,
    /// Where the current damage began.
    bad_from: Option<u64>,
    read_bytes: usize,
    checked: CheckedTopics,
}

/// Where a whole record was found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    /// Where it begins in the segment.
    pub(crate) at: u64,
    /// Bytes before it that are no record.
    pub(crate) skipped: u64,
}

impl<'s, S: ReadAt + ?Sized> Scan<'s, S> {
    /// A walk over `range`, in a buffer that a scan before may have given back.
    pub(crate) fn new(
        source: &'s S,
        (stamp, epoch): (Stamp, Epoch),
        range: Range,
        buffer: Vec<u8>,
    ) -> Self {
        Self {
            source,
            stamp,
            epoch,
            range,
            expected: range.offset,
            buffer,
            buffer_at: range.from,
            filled: 0,
            at: range.from,
            bad_from: None,
            read_bytes: FIRST_READ_BYTES,
            checked: CheckedTopics::none(),
        }
    }

    /// Goes to the next whole record; `None` at the end. What it is, `visit` is told.
    pub(crate) fn next<T>(
        &mut self,
        visit: impl FnOnce(Found, &Raw<'_>) -> T,
    ) -> io::Result<Option<T>> {
        while let Some(bytes) = self.find()? {
            let start = self.start();
            let record = &self.buffer[start..start + bytes];
            let decoded = decode(record, self.epoch, &mut self.checked);
            let Some(raw) = &decoded else {
                self.skip_bad()?;
                continue;
            };
            let skipped = self.bad_from.take().map_or(0, |from| self.at - from);
            let found = Found {
                at: self.at,
                skipped,
            };
            self.at += bytes as u64;
            self.expected = raw.offset().plus(1);
            return Ok(Some(visit(found, raw)));
        }
        Ok(None)
    }

    /// The offset after the last whole record.
    pub(crate) const fn expected(&self) -> Offset {
        self.expected
    }

    /// The buffer, for the next scan.
    pub(crate) fn into_buffer(mut self) -> Vec<u8> {
        if self.buffer.len() > KEPT_BYTES_MAX {
            self.buffer.truncate(READ_BYTES);
            self.buffer.shrink_to_fit();
        }
        self.buffer
    }

    /// Moves `at` to the next whole record and makes sure that it is in the buffer.
    fn find(&mut self) -> io::Result<Option<usize>> {
        while self.at < self.range.to {
            if let Some((offset, bytes)) = self.check_here()? {
                if offset >= self.range.offset_end {
                    // Left over from writes that failed; the next segment has these offsets.
                    self.bad_from.get_or_insert(self.at);
                    self.at = self.range.to;
                    return Ok(None);
                }
                if self.is_plausible(offset) {
                    return Ok(Some(bytes));
                }
            }
            self.skip_bad()?;
        }
        Ok(None)
    }

    /// Damage begins or goes on at `at`: moves to the next place where a record may begin.
    fn skip_bad(&mut self) -> io::Result<()> {
        self.bad_from.get_or_insert(self.at);
        self.seek_marker()
    }

    /// The offset and length of the record at `at`, if a whole one is there.
    fn check_here(&mut self) -> io::Result<Option<(Offset, usize)>> {
        let mut needed = HEAD_BYTES;
        loop {
            if !self.fill(needed)? {
                return Ok(None);
            }
            let start = self.start();
            match check(self.stamp, &self.buffer[start..self.filled]) {
                Checked::Whole { offset, bytes } => return Ok(Some((offset, bytes))),
                Checked::Bad => return Ok(None),
                // It grows: first the head is missing, then the body.
                Checked::Needs(bytes) => needed = bytes,
            }
        }
    }

    /// In order and dense; behind damage no more events can be missing than fit into it.
    fn is_plausible(&self, offset: Offset) -> bool {
        match self.bad_from {
            None => offset == self.expected,
            Some(from) => {
                let missing_max = (self.at - from) / RECORD_BYTES_MIN as u64;
                offset >= self.expected && offset.since(self.expected) <= missing_max
            }
        }
    }

    /// Moves `at` to the next place behind it where a marker stands, or to the end.
    fn seek_marker(&mut self) -> io::Result<()> {
        self.at += 1;
        while self.fill(self.stamp.marker.len())? {
            let start = self.start();
            if let Some(index) = memmem::find(&self.buffer[start..self.filled], &self.stamp.marker)
            {
                self.at += index as u64;
                return Ok(());
            }
            // The last three bytes may be the start of one.
            self.at = self.buffer_at + self.filled as u64 - 3;
        }
        self.at = self.range.to;
        Ok(())
    }

    /// Where `at` stands in the buffer.
    fn start(&self) -> usize {
        usize::try_from(self.at - self.buffer_at).expect("`at` is within the buffer or at its end")
    }

    /// Makes sure that `needed` bytes from `at` on are in the buffer; `false` when there are not
    /// that many.
    fn fill(&mut self, needed: usize) -> io::Result<bool> {
        let start = self.start().min(self.filled);
        if self.filled - start >= needed {
            return Ok(true);
        }
        if needed as u64 > self.range.to.saturating_sub(self.at) {
            return Ok(false);
        }
        self.buffer.copy_within(start..self.filled, 0);
        self.filled -= start;
        self.buffer_at = self.at;
        let unread = self.range.to - self.buffer_at;
        let wanted = needed
            .max(self.read_bytes)
            .min(usize::try_from(unread).unwrap_or(usize::MAX));
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        let read_at = self.buffer_at + self.filled as u64;
        self.filled += read_full_at(self.source, &mut self.buffer[self.filled..wanted], read_at)?;
        self.read_bytes = READ_BYTES;
        Ok(self.filled >= needed)
    }
}
