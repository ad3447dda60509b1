//! Opening a directory: what is there, what is whole, what is cut.

use std::io;
use std::sync::Arc;

use crate::catalog::{Catalog, LastId};
use crate::clean::Clean;
use crate::files::{Files, Part, Source};
use crate::host::{Host, LogFile, ReadAt, read_full_at};
use crate::index::OwnIds;
use crate::index_file::{self, FiledIds, Meta};
use crate::record::Stamp;
use crate::report::{Cut, Damage, Recovery};
use crate::segment::{
    Body, HEADER_BYTES, HEADER_COPY_BYTES, Header, Hole, Segment, file_name, index_name,
};
use crate::{Epoch, Offset, Position};

/// A log read from its directory.
pub(crate) struct Opened {
    pub(crate) catalog: Catalog,
    /// The segment to write on, after a clean close.
    pub(crate) active: Option<Arc<Segment>>,
    pub(crate) recovery: Recovery,
}

/// Reads the directory. Cuts a torn end, makes missing index files, removes the mark of a clean
/// close.
pub(crate) fn open(files: &Arc<Files>) -> io::Result<Opened> {
    let host = &*files.host;
    let bases = segment_bases(host)?;
    let mark = Clean::read(host)?;
    let mut opening = Opening {
        files,
        host,
        recovery: Recovery {
            is_new: bases.is_empty() && mark.is_none(),
            ..Recovery::default()
        },
        clean: mark.filter(|mark| is_of(mark, host, &bases)),
        // Also a mark that no longer fits says which offsets were given out.
        next_min: mark.map_or(Offset::FIRST, |mark| mark.next),
    };
    let segments = opening.load_all(&bases)?;
    let (epoch, next) = match opening.clean {
        Some(clean) => (clean.epoch, clean.next),
        None => (fresh_epoch(host, &segments), opening.next_after(&segments)),
    };
    let mut recovery = opening.recovery;
    let is_active = opening.clean.is_some_and(|clean| clean.is_last_active);
    let active = segments.last().filter(|_| is_active).cloned();
    recovery.was_clean = opening.clean.is_some();
    recovery.segments = segments.len();
    for segment in &segments {
        segment.inspect(|body| {
            recovery.events += body.records;
            recovery.bytes += body.end_bytes;
        });
    }
    let last_id = newest_id(&segments, &mut recovery)?;
    let mut catalog = Catalog::new(segments, epoch, next);
    catalog.last_id = last_id;
    Clean::remove(host)?;
    Ok(Opened {
        catalog,
        active,
        recovery,
    })
}

struct Opening<'a> {
    files: &'a Arc<Files>,
    host: &'a dyn Host,
    recovery: Recovery,
    /// `None` once something contradicts it.
    clean: Option<Clean>,
    /// No offset below this may be given out: a file named after it exists.
    next_min: Offset,
}

impl Opening<'_> {
    fn load_all(&mut self, bases: &[Offset]) -> io::Result<Vec<Arc<Segment>>> {
        let mut segments = Vec::new();
        // From the newest to the oldest: the newest with records is the one that may be torn.
        let mut next_base: Option<Offset> = None;
        for base in bases.iter().rev() {
            let loaded = match next_base {
                Some(next_base) => self.load_sealed(*base, next_base)?,
                None => self.load_newest(*base)?,
            };
            self.next_min = self.next_min.max(*base);
            if let Some(segment) = loaded {
                next_base = Some(*base);
                segments.push(Arc::new(segment));
            }
        }
        segments.reverse();
        Ok(segments)
    }

    /// A segment behind which others follow.
    fn load_sealed(&mut self, base: Offset, next_base: Offset) -> io::Result<Option<Segment>> {
        let Some((header, file)) = self.open_file(base)? else {
            self.recovery.damage(Damage {
                segment: file_name(base),
                at_bytes: 0,
                bytes: 0,
                from: base,
                events: next_base.since(base),
            });
            return Ok(None);
        };
        let length = file.len()?;
        let good = self
            .good_meta(&header, length)?
            .filter(|(meta, _)| meta.next <= next_base);
        let segment = if let Some((meta, _)) = good {
            self.sealed(&meta)
        } else {
            let body = self.scan(&*file, &header, length, next_base)?;
            Segment::with_body(header, self.source(base, Part::Records), body)
        };
        let (end, next) = segment.inspect(|body| (body.end_bytes, body.next));
        if next < next_base {
            self.recovery.damage(Damage {
                segment: file_name(base),
                at_bytes: end,
                bytes: length.saturating_sub(end),
                from: next,
                events: next_base.since(next),
            });
        }
        self.file_index(&segment);
        Ok(Some(segment))
    }

    /// The newest segment: after a clean close it is taken as its index says, else all of it is
    /// read, and what follows its last whole record is cut off.
    fn load_newest(&mut self, base: Offset) -> io::Result<Option<Segment>> {
        let Some((header, file)) = self.open_file(base)? else {
            return Ok(None);
        };
        let length = file.len()?;
        if let Some(clean) = self.clean {
            let segment = self.load_marked(header, Arc::clone(&file), length, clean)?;
            if segment.is_some() {
                return Ok(segment);
            }
            // The mark is wrong: go on as after a crash.
            self.clean = None;
        }
        let body = self.scan(&*file, &header, length, Offset::from_u64(Offset::MAX))?;
        if body.end_bytes < length {
            self.recovery.cut = Some(Cut {
                segment: file_name(base),
                bytes: length - body.end_bytes,
                from: body.next,
                reason: cut_reason(&*file, body.end_bytes, header.stamp)?,
            });
            file.set_len(body.end_bytes)?;
            file.sync()?;
        }
        if body.records == 0 {
            // Its name and place are used again; what it is replaced by has a new epoch.
            return Ok(None);
        }
        let segment = Segment::with_body(header, self.source(base, Part::Records), body);
        self.file_index(&segment);
        Ok(Some(segment))
    }

    /// The newest segment as the mark of a clean close says it is; `None` when it is not so.
    fn load_marked(
        &mut self,
        header: Header,
        file: Arc<dyn LogFile>,
        length: u64,
        clean: Clean,
    ) -> io::Result<Option<Segment>> {
        let is_right = |body: &Body| body.end_bytes == length && body.next == clean.next;
        if let Some((meta, index)) = self.good_meta(&header, length)? {
            let mut body = Body::from_meta(&meta);
            if !clean.is_last_active {
                return Ok(is_right(&body).then(|| self.sealed(&meta)));
            }
            // Held: this index file is replaced once the segment is sealed.
            let filed = FiledIds::new(&meta, Source::Held(index));
            // It is written on, so its ids are taken back into memory.
            if let Ok(ids) = filed.all() {
                body.ids = OwnIds::from_sorted(ids);
                let held = Source::Held(file);
                return Ok(is_right(&body).then(|| Segment::with_body(header, held, body)));
            }
        }
        self.recovery.indexes_rebuilt += 1;
        let body = self.scan(&*file, &header, length, Offset::from_u64(Offset::MAX))?;
        Ok(is_right(&body).then(|| Segment::with_body(header, Source::Held(file), body)))
    }

    /// A segment that is no longer written, as its index file says.
    fn sealed(&self, meta: &Meta) -> Segment {
        let base = meta.header.base;
        let filed = FiledIds::new(meta, self.source(base, Part::Index));
        let records = self.source(base, Part::Records);
        Segment::with_filed(meta.header, records, Body::from_meta(meta), filed)
    }

    fn source(&self, base: Offset, part: Part) -> Source {
        Source::Shared(Arc::clone(self.files), base, part)
    }

    fn scan(
        &mut self,
        file: &dyn LogFile,
        header: &Header,
        to: u64,
        offset_end: Offset,
    ) -> io::Result<Body> {
        let recovery = &mut self.recovery;
        let source: &dyn ReadAt = file;
        Body::scan(source, header, to, offset_end, |hole| {
            recovery.hole(header.base, hole);
        })
    }

    fn good_meta(
        &self,
        header: &Header,
        length: u64,
    ) -> io::Result<Option<(Meta, Arc<dyn LogFile>)>> {
        let read = index_file::read_meta(self.host, &header.index_name())?;
        Ok(read.filter(|(meta, _)| meta.header == *header && meta.end_bytes == length))
    }

    fn file_index(&mut self, segment: &Segment) {
        if segment.is_filed() {
            return;
        }
        self.recovery.indexes_rebuilt += 1;
        if let Err(error) = segment.file_index(self.files) {
            // It works from memory; the next open tries again.
            tracing::warn!(%error, name = segment.header.index_name(), "no index file");
        }
    }

    /// Opens a segment file and reads its header, from either copy or from its index. `None`: the
    /// file has none; if there is anything in it, it is put aside, or removed when it is too short
    /// to hold a record: what a crash leaves of a segment that was just begun.
    fn open_file(&mut self, base: Offset) -> io::Result<Option<(Header, Arc<dyn LogFile>)>> {
        let file = self.host.open(&file_name(base))?;
        let length = file.len()?;
        let mut bytes = [0; 2 * HEADER_COPY_BYTES];
        let count = read_full_at(&*file, &mut bytes, 0)?;
        let copies: Vec<Header> = bytes[..count]
            .chunks(HEADER_COPY_BYTES)
            .filter_map(Header::decode_copy)
            .filter(|copy| copy.base == base)
            .collect();
        let header = match copies.first() {
            Some(copy) => Some(*copy),
            None => {
                index_file::read_meta(self.host, &index_name(base))?.map(|(meta, _)| meta.header)
            }
        };
        let header = header.filter(|header| header.base == base && length >= HEADER_BYTES);
        if header.is_some() && copies.len() < 2 {
            self.recovery.damage(Damage {
                segment: file_name(base),
                at_bytes: 0,
                bytes: HEADER_BYTES,
                from: base,
                events: 0,
            });
        }
        if header.is_none() && length > 0 {
            self.recovery.cut.get_or_insert(Cut {
                segment: file_name(base),
                bytes: length,
                from: base,
                reason: "no header",
            });
            let name = file_name(base);
            if length < HEADER_BYTES {
                self.host.remove(&name)?;
            } else {
                self.host.rename(&name, &format!("{name}.damaged"))?;
            }
        }
        Ok(header.map(|header| (header, file)))
    }

    /// The offset to go on with after an unclean end.
    fn next_after(&mut self, segments: &[Arc<Segment>]) -> Offset {
        let next = segments
            .last()
            .map_or(Offset::FIRST, |last| last.inspect(|body| body.next));
        if next < self.next_min {
            // A mark or the name of a file says that there were more.
            self.recovery.damage(Damage {
                segment: segments
                    .last()
                    .map_or(String::new(), |last| last.header.file_name()),
                at_bytes: segments
                    .last()
                    .map_or(0, |last| last.inspect(|body| body.end_bytes)),
                bytes: 0,
                from: next,
                events: self.next_min.since(next),
            });
        }
        next.max(self.next_min)
    }
}

/// The bases of all segment files, ascending. Removes files that were never finished.
fn segment_bases(host: &dyn Host) -> io::Result<Vec<Offset>> {
    let mut bases = Vec::new();
    for name in host.names()? {
        // `CLEAN.tmp` and index files under way; best effort.
        let is_ours = name.ends_with(".idx.tmp") || name == "CLEAN.tmp";
        if is_ours {
            let _ = host.remove(&name);
        }
        let number = name
            .strip_suffix(".seg")
            .filter(|digits| digits.len() == 20);
        let number = number.and_then(|digits| digits.parse::<u64>().ok());
        bases.extend(
            number
                .filter(|number| (Offset::FIRST.as_u64()..=Offset::MAX).contains(number))
                .map(Offset::from_u64),
        );
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Whether the mark was left by the log that is here.
fn is_of(clean: &Clean, host: &dyn Host, bases: &[Offset]) -> bool {
    if clean.last_base != bases.last().copied() {
        return false;
    }
    let Some(base) = clean.last_base else {
        return true;
    };
    let length = host.open(&file_name(base)).and_then(|file| file.len());
    length.is_ok_and(|length| length == clean.last_bytes)
}

fn cut_reason(file: &dyn LogFile, at: u64, stamp: Stamp) -> io::Result<&'static str> {
    let mut start = [0; 4];
    let count = read_full_at(file, &mut start, at)?;
    Ok(match start {
        _ if start[..count] == stamp.marker[..count] => "an unfinished record",
        [0, 0, 0, 0] => "zero bytes",
        _ => "no record",
    })
}

fn fresh_epoch(host: &dyn Host, segments: &[Arc<Segment>]) -> Epoch {
    let now_ms = host.now_ms();
    loop {
        let epoch = Epoch::begin(now_ms);
        if segments.iter().all(|segment| segment.header.epoch != epoch) {
            return epoch;
        }
    }
}

/// The wire id of the newest event: from its record, or the generated one if that is damaged.
fn newest_id(segments: &[Arc<Segment>], recovery: &mut Recovery) -> io::Result<Option<LastId>> {
    let newest = segments
        .iter()
        .rev()
        .find(|s| s.inspect(|body| body.next > s.header.base));
    let Some(segment) = newest else {
        return Ok(None);
    };
    let Header { base, epoch, .. } = segment.header;
    let (next, at_bytes) = segment.inspect(|body| (body.next, body.end_bytes));
    let offset = Offset::from_u64(next.as_u64().saturating_sub(1));
    let mut id = None;
    segment.walk(offset, next, &mut |raw| {
        id = raw.own_id().map(|id| LastId::Own(id.into()));
        id.get_or_insert(LastId::Generated(Position { epoch, offset }));
        std::ops::ControlFlow::Break(())
    })?;
    if id.is_none() {
        recovery.damage(Damage {
            segment: file_name(base),
            at_bytes,
            bytes: 0,
            from: offset,
            events: 1,
        });
    }
    Ok(id.or(Some(LastId::Generated(Position { epoch, offset }))))
}

/// Reads any bytes as a segment file; for fuzzing: it must neither panic nor hang.
#[doc(hidden)]
pub fn fuzz_recover(bytes: &[u8]) {
    let _ = Clean::decode(bytes);
    let _ = Meta::decode(bytes);
    // Without a header that fits, the rest is read with this stamp, so that records are reached.
    let known = Header {
        base: Offset::FIRST,
        epoch: Epoch::from_u64(1),
        epoch_before: None,
        time_ms: 0,
        stamp: Stamp {
            marker: *b"GUSH",
            salt: 0,
        },
    };
    let header = Header::decode_copy(bytes).unwrap_or(known);
    let to = bytes.len() as u64;
    let scanned = Body::scan(
        bytes,
        &header,
        to,
        Offset::from_u64(Offset::MAX),
        |_: Hole| {},
    );
    if let Ok(body) = scanned {
        assert!(body.end_bytes <= to.max(HEADER_BYTES), "read past the end");
    }
}
