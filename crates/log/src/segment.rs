//! One file of the disk log: a header, then records.

use std::cell::Cell;
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, RwLock};

use crate::files::{Files, Part, Source};
use crate::hash::hash_id;
use crate::host::{Host, LogFile, ReadAt, write_all_at};
use crate::index::{Filter, OwnIds, Sparse};
use crate::index_file::{self, FiledIds, LookupError, Meta};
use crate::lock::{read, write};
use crate::record::{Raw, Stamp, u32_at, u64_at};
use crate::scan::{FIRST_READ_BYTES, Range, Scan};
use crate::{Epoch, Offset};

/// A header is written twice, each copy in a sector of its own: one damaged sector or bit does
/// not make a segment unreadable.
pub(crate) const HEADER_COPY_BYTES: usize = 512;
pub(crate) const HEADER_BYTES: u64 = 2 * HEADER_COPY_BYTES as u64;

const MAGIC: &[u8; 8] = b"GUSHSEG1";
const CRC_AT: usize = HEADER_COPY_BYTES - 4;

/// What is known of a segment from its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// The offset of the first record.
    pub(crate) base: Offset,
    /// The epoch of all of its records.
    pub(crate) epoch: Epoch,
    /// The epoch of the event before `base`, if there ever was one: its id stays known when its
    /// segment is trimmed.
    pub(crate) epoch_before: Option<Epoch>,
    /// When the segment was begun, in milliseconds since 1970.
    pub(crate) time_ms: u64,
    pub(crate) stamp: Stamp,
}

impl Header {
    pub(crate) fn encode_copy(&self) -> [u8; HEADER_COPY_BYTES] {
        let mut copy = [0; HEADER_COPY_BYTES];
        copy[..8].copy_from_slice(MAGIC);
        copy[8..12].copy_from_slice(&self.stamp.marker);
        copy[12..16].copy_from_slice(&self.stamp.salt.to_le_bytes());
        let before = self.epoch_before.map_or(0, Epoch::as_u64);
        for (index, number) in [
            self.base.as_u64(),
            self.epoch.as_u64(),
            before,
            self.time_ms,
        ]
        .into_iter()
        .enumerate()
        {
            copy[16 + index * 8..][..8].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&copy[..CRC_AT]);
        copy[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        copy
    }

    /// `None` when the copy is damaged or of a version that we do not know.
    pub(crate) fn decode_copy(copy: &[u8]) -> Option<Self> {
        let copy = copy.first_chunk::<HEADER_COPY_BYTES>()?;
        if !copy.starts_with(MAGIC) || crc32fast::hash(&copy[..CRC_AT]) != u32_at(copy, CRC_AT) {
            return None;
        }
        Some(Self {
            base: Offset::from_u64(u64_at(copy, 16)),
            epoch: Epoch::from_u64(u64_at(copy, 24)),
            epoch_before: Some(u64_at(copy, 32))
                .filter(|raw| *raw != 0)
                .map(Epoch::from_u64),
            time_ms: u64_at(copy, 40),
            stamp: Stamp {
                marker: [copy[8], copy[9], copy[10], copy[11]],
                salt: u32_at(copy, 12),
            },
        })
    }

    pub(crate) fn file_name(&self) -> String {
        file_name(self.base)
    }

    pub(crate) fn index_name(&self) -> String {
        index_name(self.base)
    }
}

pub(crate) fn file_name(base: Offset) -> String {
    format!("{:020}.seg", base.as_u64())
}

pub(crate) fn index_name(base: Offset) -> String {
    format!("{:020}.idx", base.as_u64())
}

/// A segment, shared by the committer and all readers.
pub(crate) struct Segment {
    pub(crate) header: Header,
    /// Held while it is written; a reader keeps its own reference while it reads.
    source: RwLock<Source>,
    /// The ids, once they are in the index file; outside the lock, since a search asks every
    /// segment.
    filed: OnceLock<FiledIds>,
    body: RwLock<Body>,
    /// The file is removed, or about to be.
    is_trimmed: AtomicBool,
    /// The operator was told that reading this segment came upon damage.
    damage_told: AtomicBool,
}

/// What is visible of a segment. Changed by the committer only.
pub(crate) struct Body {
    /// Where the last visible record ends.
    pub(crate) end_bytes: u64,
    /// The offset after the last visible record.
    pub(crate) next: Offset,
    /// Whole records.
    pub(crate) records: u64,
    pub(crate) first_ms: u64,
    pub(crate) newest_ms: u64,
    pub(crate) sparse: Sparse,
    /// The publisher-given ids, until they are in the index file.
    pub(crate) ids: OwnIds,
}

/// A part of a segment that is no whole record, although records follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) at: u64,
    pub(crate) bytes: u64,
    /// The first event that is missing.
    pub(crate) from: Offset,
    pub(crate) events: u64,
}

impl Body {
    pub(crate) fn empty(base: Offset) -> Self {
        Self {
            end_bytes: HEADER_BYTES,
            next: base,
            records: 0,
            first_ms: 0,
            newest_ms: 0,
            sparse: Sparse::default(),
            ids: OwnIds::default(),
        }
    }

    /// As an index file says, without its ids.
    pub(crate) fn from_meta(meta: &Meta) -> Self {
        Self {
            end_bytes: meta.end_bytes,
            next: meta.next,
            records: meta.records,
            first_ms: meta.first_ms,
            newest_ms: meta.newest_ms,
            sparse: meta.sparse.clone(),
            ids: OwnIds::default(),
        }
    }

    /// Reads a segment from its first record to `to`. `on_hole` is told of damage with whole
    /// records behind it; damage at the end is left out of the body.
    pub(crate) fn scan(
        source: &(impl ReadAt + ?Sized),
        header: &Header,
        to: u64,
        offset_end: Offset,
        mut on_hole: impl FnMut(Hole),
    ) -> io::Result<Self> {
        let range = Range {
            from: HEADER_BYTES,
            offset: header.base,
            to,
            offset_end,
        };
        let mut scan = Scan::new(source, (header.stamp, header.epoch), range, take_buffer());
        let mut body = Self::empty(header.base);
        loop {
            let expected = scan.expected();
            let step = scan.next(|found, raw| {
                if found.skipped > 0 {
                    on_hole(Hole {
                        at: found.at - found.skipped,
                        bytes: found.skipped,
                        from: expected,
                        events: raw.offset().since(expected),
                    });
                }
                body.add(header.base, found.at, raw);
            })?;
            if step.is_none() {
                break;
            }
        }
        keep_buffer(scan.into_buffer());
        Ok(body)
    }

    fn add(&mut self, base: Offset, at: u64, raw: &Raw<'_>) {
        self.next = raw.offset();
        self.end_bytes = at;
        self.note(
            base,
            raw.bytes,
            raw.record.time_ms,
            raw.own_id().map(hash_id),
        );
    }

    /// Takes the record at `next` and `end_bytes` in.
    pub(crate) fn note(&mut self, base: Offset, bytes: usize, time_ms: u64, own: Option<u64>) {
        // A segment has less than 2^32 bytes, so also less events: `open` bounds its size.
        let relative = u32::try_from(self.next.since(base)).unwrap_or(u32::MAX);
        self.sparse
            .note(relative, u32::try_from(self.end_bytes).unwrap_or(u32::MAX));
        if let Some(hash) = own {
            self.ids.insert(hash, relative);
        }
        if self.records == 0 {
            self.first_ms = time_ms;
        }
        self.newest_ms = self.newest_ms.max(time_ms);
        self.records += 1;
        self.next = self.next.plus(1);
        self.end_bytes += bytes as u64;
    }
}

impl Segment {
    /// Begins a file; with `is_synced` it and its name are durable when this returns.
    pub(crate) fn create(host: &dyn Host, header: Header, is_synced: bool) -> io::Result<Self> {
        let name = header.file_name();
        let file = host.create(&name)?;
        let begun = write_all_at(&*file, &header.encode_copy().repeat(2), 0).and_then(|()| {
            if is_synced {
                file.sync()?;
                host.sync_names()?;
            }
            Ok(())
        });
        if let Err(error) = begun {
            // Best effort: a file without records is overwritten when its base is used again.
            let _ = host.remove(&name);
            return Err(error);
        }
        let source = Source::Held(file);
        Ok(Self::with_body(header, source, Body::empty(header.base)))
    }

    /// Tells the operator, once per segment, that reading it came upon damage. That it was trimmed
    /// is none.
    pub(crate) fn tell_damage(&self, lost: u64) {
        if !self.is_trimmed() && !self.damage_told.swap(true, Ordering::Relaxed) {
            let name = self.header.file_name();
            tracing::warn!(name, lost, "a segment is damaged: stored events are lost");
        }
    }

    /// A segment whose ids are in `body`.
    pub(crate) const fn with_body(header: Header, source: Source, body: Body) -> Self {
        Self {
            header,
            source: RwLock::new(source),
            filed: OnceLock::new(),
            body: RwLock::new(body),
            is_trimmed: AtomicBool::new(false),
            damage_told: AtomicBool::new(false),
        }
    }

    /// A segment whose ids are in its index file.
    pub(crate) fn with_filed(header: Header, source: Source, body: Body, filed: FiledIds) -> Self {
        Self {
            header,
            source: RwLock::new(source),
            filed: OnceLock::from(filed),
            body: RwLock::new(body),
            is_trimmed: AtomicBool::new(false),
            damage_told: AtomicBool::new(false),
        }
    }

    pub(crate) fn is_filed(&self) -> bool {
        self.filed.get().is_some()
    }

    pub(crate) fn has_own_ids(&self) -> bool {
        let is_filed = self.filed.get().is_some_and(|filed| filed.own_ids > 0);
        is_filed || self.inspect(|body| !body.ids.all().is_empty())
    }

    /// What the segment and its index take on the disk.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let index_bytes = self.filed.get().map_or(0, |filed| filed.file_bytes);
        self.inspect(|body| body.end_bytes) + index_bytes
    }

    /// An error of the kind `NotFound`: it was trimmed meanwhile.
    pub(crate) fn file(&self) -> io::Result<Arc<dyn LogFile>> {
        let source = read(&self.source).clone();
        let file = source.open();
        self.forget_if_trimmed();
        file
    }

    /// From now on the file is opened when somebody reads. It must no longer be written.
    pub(crate) fn share(&self, files: &Arc<Files>) {
        *write(&self.source) = Source::Shared(Arc::clone(files), self.header.base, Part::Records);
    }

    /// The committer is about to remove the files: that they are not there is no damage.
    pub(crate) fn set_trimmed(&self) {
        self.is_trimmed.store(true, Ordering::SeqCst);
    }

    fn is_trimmed(&self) -> bool {
        self.is_trimmed.load(Ordering::SeqCst)
    }

    /// Told after the files were removed, and asked after each opening: a reader that opened one
    /// just before the removal must not leave it open.
    pub(crate) fn forget_if_trimmed(&self) {
        if self.is_trimmed() {
            read(&self.source).forget();
        }
    }

    /// Looks at what is visible, under a short lock.
    pub(crate) fn inspect<T>(&self, look: impl FnOnce(&Body) -> T) -> T {
        look(&read(&self.body))
    }

    /// Changes what is visible. The committer only.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Body) -> T) -> T {
        change(&mut write(&self.body))
    }

    /// Shows whole records of `[from, until)` in order; damaged ones are passed over, and so are
    /// all of them when the segment was trimmed meanwhile.
    pub(crate) fn walk(
        &self,
        from: Offset,
        until: Offset,
        visit: &mut dyn FnMut(&Raw<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let base = self.header.base;
        let relative = u32::try_from(from.since(base)).unwrap_or(u32::MAX);
        let range = self.inspect(|body| {
            let start = body.sparse.start(relative);
            let (offset, at) = start.map_or((base, HEADER_BYTES), |(relative, at)| {
                (base.plus(u64::from(relative)), u64::from(at))
            });
            Range {
                from: at,
                offset,
                to: body.end_bytes,
                offset_end: body.next.min(until),
            }
        });
        let file = match self.file() {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let stamp = (self.header.stamp, self.header.epoch);
        let mut scan = Scan::new(&*file, stamp, range, take_buffer());
        let outcome = loop {
            if scan.expected() >= range.offset_end {
                break Ok(());
            }
            let step = scan.next(|_, raw| {
                if raw.offset() < from {
                    ControlFlow::Continue(())
                } else {
                    visit(raw)
                }
            });
            match step {
                Ok(Some(ControlFlow::Continue(()))) => {}
                Ok(_) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        keep_buffer(scan.into_buffer());
        outcome
    }

    /// The earliest event with this id. No disk is touched when the filter says no.
    pub(crate) fn find_own(&self, hash: u64, id: &str) -> io::Result<Option<Offset>> {
        if !self.is_filed()
            && let Some(first) = self.inspect(|body| body.ids.candidates(hash).next())
        {
            if let Some(offset) = self.confirm(first, id)? {
                return Ok(Some(offset));
            }
            // Two ids with one hash, which a peer may have made so; or the event is damaged.
            let others: Vec<u32> = self.inspect(|body| body.ids.candidates(hash).skip(1).collect());
            let is_filed = self.is_filed();
            let found = self.confirm_any(&others, id)?;
            if found.is_some() || !is_filed {
                return Ok(found);
            }
        }
        // Asked anew: they may have been filed between the questions.
        let Some(filed) = self.filed.get().filter(|filed| filed.may_hold(hash)) else {
            return Ok(None);
        };
        let tries_max = self.tries_max();
        let (mut found, mut tries) = (None, 0);
        let looked = filed.find(hash, |relative| {
            tries += 1;
            if tries > tries_max {
                return Ok(true);
            }
            found = self.confirm(relative, id)?;
            Ok::<_, LookupError>(found.is_some())
        });
        self.forget_if_trimmed();
        match looked {
            Err(LookupError::Damaged) if self.is_trimmed() => Ok(None),
            Ok(()) if tries > tries_max => self.find_by_walk(id),
            Ok(()) => Ok(found),
            Err(LookupError::Io(error)) => Err(error),
            Err(LookupError::Damaged) => {
                let name = self.header.index_name();
                tracing::warn!(name, "index file damaged; the segment is read instead");
                self.find_by_walk(id)
            }
        }
    }

    /// The offset, if the event there has this id.
    fn confirm(&self, relative: u32, id: &str) -> io::Result<Option<Offset>> {
        let offset = self.header.base.plus(u64::from(relative));
        let mut is_it = false;
        self.walk(offset, offset.plus(1), &mut |raw| {
            is_it = raw.own_id() == Some(id);
            ControlFlow::Break(())
        })?;
        Ok(is_it.then_some(offset))
    }

    /// The first of these that has this id.
    fn confirm_any(&self, candidates: &[u32], id: &str) -> io::Result<Option<Offset>> {
        if candidates.len() as u64 > self.tries_max() {
            return self.find_by_walk(id);
        }
        for relative in candidates {
            if let Some(offset) = self.confirm(*relative, id)? {
                return Ok(Some(offset));
            }
        }
        Ok(None)
    }

    /// More events to confirm than this, each at the cost of a first read, cost more than a walk.
    fn tries_max(&self) -> u64 {
        self.inspect(|body| body.end_bytes) / FIRST_READ_BYTES as u64 + 1
    }

    fn find_by_walk(&self, id: &str) -> io::Result<Option<Offset>> {
        let mut found = None;
        let until = self.inspect(|body| body.next);
        self.walk(self.header.base, until, &mut |raw| {
            if raw.own_id() == Some(id) {
                found = Some(raw.offset());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Writes the index file and lets go of the ids in memory. The segment must no longer be
    /// written.
    pub(crate) fn file_index(&self, files: &Arc<Files>) -> io::Result<()> {
        if self.is_filed() {
            return Ok(());
        }
        let mut ids = self.inspect(|body| body.ids.all().to_vec());
        ids.sort_unstable();
        let meta = self.inspect(|body| Meta {
            header: self.header,
            end_bytes: body.end_bytes,
            next: body.next,
            records: body.records,
            first_ms: body.first_ms,
            newest_ms: body.newest_ms,
            own_ids: u32::try_from(ids.len()).unwrap_or(u32::MAX),
            sparse: body.sparse.clone(),
            filter: Filter::of(ids.iter().map(|(hash, _)| *hash)),
        });
        index_file::write(&*files.host, &meta, &ids)?;
        let source = Source::Shared(Arc::clone(files), self.header.base, Part::Index);
        // In this order: a search finds them in one of the two at any moment.
        self.filed.get_or_init(|| FiledIds::new(&meta, source));
        self.change(|body| body.ids = OwnIds::default());
        Ok(())
    }
}

thread_local! {
    /// The read buffer of this thread, so that a read allocates nothing.
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Empty when a read within a read asks.
fn take_buffer() -> Vec<u8> {
    BUFFER.take()
}

fn keep_buffer(buffer: Vec<u8>) {
    BUFFER.set(buffer);
}
