//! One event as bytes on a disk.
//!
//! ```text
//! marker u32 | crc u32 | length u32 | offset u64 | time_ms u64 | body (length bytes)
//! body: flags u8 | [id u16+] | [type u16+] | [retry u64] | [key u16+] | topics u32+ (each u16+)
//!       | data u32+
//! ```
//!
//! All numbers are little-endian; `u16+` is a length and that many bytes. The CRC covers all that
//! follows it.

use gush_sse::{EventId, EventType, Topic};

use crate::{Draft, Epoch, Offset, Position, RecordRef, TopicsRef};

/// Bytes before the body.
pub(crate) const HEAD_BYTES: usize = 28;

/// No record is shorter: a body has flags and two lengths.
pub(crate) const RECORD_BYTES_MIN: usize = HEAD_BYTES + 9;

/// No record is longer. Ours: three times the largest request body of the hub, and small enough
/// that one damaged length cannot make a reader allocate much.
pub(crate) const RECORD_BYTES_MAX: usize = 32 << 20;

const FLAG_PRIVATE: u8 = 1;
const FLAG_ID: u8 = 2;
const FLAG_KIND: u8 = 4;
const FLAG_RETRY: u8 = 8;
/// A newer event may stand for it. This and the next came later: a hub from before them takes such
/// a record for damaged.
const FLAG_LATEST: u8 = 16;
const FLAG_KEY: u8 = 32;
const FLAGS_KNOWN: u8 = FLAG_PRIVATE | FLAG_ID | FLAG_KIND | FLAG_RETRY | FLAG_LATEST | FLAG_KEY;

/// What makes the records of one segment recognisable: random, written in its header.
///
/// A reader that looks for the next whole record behind damage goes by the marker and the CRC.
/// Were they the same everywhere, a publisher could hide a forged record inside its data; so both
/// depend on numbers that it cannot know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) marker: [u8; 4],
    /// Where the CRC starts.
    pub(crate) salt: u32,
}

impl Stamp {
    pub(crate) fn random() -> Self {
        // No zero octet: a marker is never seen in a zero-filled part of a file.
        Self {
            marker: [(); 4].map(|()| fastrand::u8(1..)),
            salt: fastrand::u32(..),
        }
    }

    fn crc(self, covered: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.salt);
        hasher.update(covered);
        hasher.finalize()
    }
}

/// How many bytes the record of an event takes; `None` when it is too large for one.
pub(crate) fn record_len(draft: &Draft) -> Option<usize> {
    let mut topics = 0;
    for topic in &draft.topics {
        topics += 2 + topic.as_str().len();
    }
    let id = draft.id.as_ref().map_or(0, |id| 2 + id.as_str().len());
    let kind = draft
        .kind
        .as_ref()
        .map_or(0, |kind| 2 + kind.as_str().len());
    let retry = draft.retry_ms.map_or(0, |_| 8);
    let key = match &draft.conflation.key {
        Some(key) => 2 + usize::from(u16::try_from(key.len()).ok()?),
        None => 0,
    };
    let length = RECORD_BYTES_MIN + id + kind + retry + key + topics + draft.data.len();
    (length <= RECORD_BYTES_MAX).then_some(length)
}

/// Appends the record of an event for which [`record_len`] gave a length.
pub(crate) fn encode(stamp: Stamp, offset: Offset, time_ms: u64, draft: &Draft, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&stamp.marker);
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&offset.as_u64().to_le_bytes());
    out.extend_from_slice(&time_ms.to_le_bytes());
    encode_body(draft, out);
    let length = out.len() - start - HEAD_BYTES;
    out[start + 8..start + 12].copy_from_slice(&len_u32(length).to_le_bytes());
    let crc = stamp.crc(&out[start + 8..]);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// Appends the record of an event as a segment of no log has it: for measuring what that costs.
#[doc(hidden)]
pub fn measure_encode(draft: &Draft, out: &mut Vec<u8>) {
    let stamp = Stamp {
        marker: [1; 4],
        salt: 1,
    };
    encode(stamp, Offset::FIRST, 1, draft, out);
}

fn encode_body(draft: &Draft, out: &mut Vec<u8>) {
    let mut flags = if draft.is_private { FLAG_PRIVATE } else { 0 };
    let flags_at = out.len();
    out.push(0);
    if let Some(id) = &draft.id {
        flags |= FLAG_ID;
        push_short(id.as_str(), out);
    }
    if let Some(kind) = &draft.kind {
        flags |= FLAG_KIND;
        push_short(kind.as_str(), out);
    }
    if let Some(retry_ms) = draft.retry_ms {
        flags |= FLAG_RETRY;
        out.extend_from_slice(&retry_ms.to_le_bytes());
    }
    if draft.conflation.is_latest {
        flags |= FLAG_LATEST;
    }
    if let Some(key) = &draft.conflation.key {
        flags |= FLAG_KEY;
        push_short(key, out);
    }
    out[flags_at] = flags;
    let packed: usize = draft
        .topics
        .iter()
        .map(|topic| 2 + topic.as_str().len())
        .sum();
    out.extend_from_slice(&len_u32(packed).to_le_bytes());
    for topic in &draft.topics {
        push_short(topic.as_str(), out);
    }
    out.extend_from_slice(&len_u32(draft.data.len()).to_le_bytes());
    out.extend_from_slice(draft.data.as_bytes());
}

fn push_short(text: &str, out: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).expect("ids, types and topics were measured before");
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn len_u32(length: usize) -> u32 {
    u32::try_from(length).expect("a record is at most RECORD_BYTES_MAX long")
}

/// What stands at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// A record with a right CRC; [`decode`] reads it.
    Whole {
        offset: Offset,
        /// Head and body.
        bytes: usize,
    },
    /// It takes this many bytes to tell.
    Needs(usize),
    /// No record.
    Bad,
}

/// A record in a read buffer. It goes on by reference: a move of what was just written field by
/// field makes the processor wait for it, which took a tenth of a replay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw<'a> {
    pub(crate) record: RecordRef<'a>,
    /// Head and body.
    pub(crate) bytes: usize,
}

impl<'a> Raw<'a> {
    pub(crate) const fn offset(&self) -> Offset {
        self.record.position.offset
    }

    /// The publisher's own id.
    pub(crate) const fn own_id(&self) -> Option<&'a str> {
        self.record.id
    }
}

/// Looks whether a record stands at the start of `bytes`. Allocates nothing.
pub(crate) fn check(stamp: Stamp, bytes: &[u8]) -> Checked {
    let Some(head) = bytes.first_chunk::<HEAD_BYTES>() else {
        return if bytes.starts_with(&stamp.marker[..bytes.len().min(4)]) {
            Checked::Needs(HEAD_BYTES)
        } else {
            Checked::Bad
        };
    };
    if head.first_chunk() != Some(&stamp.marker) {
        return Checked::Bad;
    }
    let body_bytes = u32_at(head, 8) as usize;
    if !(RECORD_BYTES_MIN..=RECORD_BYTES_MAX).contains(&body_bytes.saturating_add(HEAD_BYTES)) {
        return Checked::Bad;
    }
    let Some(record) = bytes.get(..HEAD_BYTES + body_bytes) else {
        return Checked::Needs(HEAD_BYTES + body_bytes);
    };
    let offset = u64_at(head, 12);
    let is_offset = (Offset::FIRST.as_u64()..=Offset::MAX).contains(&offset);
    if !is_offset || stamp.crc(&record[8..]) != u32_at(head, 4) {
        return Checked::Bad;
    }
    Checked::Whole {
        offset: Offset::from_u64(offset),
        bytes: record.len(),
    }
}

/// Reads a record of this epoch whose CRC was checked. `None`: its form is none that we know, or
/// its id, type or a topic is none that can be published, so it counts as damaged. Allocates
/// nothing.
pub(crate) fn decode<'a>(
    record: &'a [u8],
    epoch: Epoch,
    checked: &mut CheckedTopics,
) -> Option<Raw<'a>> {
    let (head, body) = record.split_first_chunk::<HEAD_BYTES>()?;
    let (flags, mut rest) = body.split_first()?;
    let flags = *flags;
    if flags & !FLAGS_KNOWN != 0 {
        return None;
    }
    let id = if flags & FLAG_ID == 0 {
        None
    } else {
        Some(take_short(&mut rest).filter(|id| EventId::check(id).is_ok())?)
    };
    let kind = if flags & FLAG_KIND == 0 {
        None
    } else {
        Some(take_short(&mut rest).filter(|kind| EventType::check(kind).is_ok())?)
    };
    let retry_ms = if flags & FLAG_RETRY == 0 {
        None
    } else {
        let (number, after) = rest.split_first_chunk::<8>()?;
        rest = after;
        Some(u64::from_le_bytes(*number))
    };
    let key = if flags & FLAG_KEY == 0 {
        None
    } else {
        Some(take_short(&mut rest)?)
    };
    let topics = take_long(&mut rest)?;
    checked.check(topics)?;
    let data = std::str::from_utf8(take_long(&mut rest)?).ok()?;
    let offset = Offset::from_u64(u64_at(head, 12));
    rest.is_empty().then(|| Raw {
        record: RecordRef {
            position: Position { epoch, offset },
            time_ms: u64_at(head, 20),
            is_private: flags & FLAG_PRIVATE != 0,
            topics: TopicsRef::Packed(topics),
            id,
            kind,
            retry_ms,
            is_latest: flags & FLAG_LATEST != 0,
            key,
            data,
        },
        bytes: record.len(),
    })
}

/// Packed topics up to this long are remembered once they are checked. Ours: a usual topic or two.
const CHECKED_BYTES_MAX: usize = 128;

/// The packed topics that were found good last: the next record often has the same ones, and
/// comparing is cheaper than checking.
pub(crate) struct CheckedTopics {
    bytes: [u8; CHECKED_BYTES_MAX],
    len: usize,
}

impl CheckedTopics {
    pub(crate) const fn none() -> Self {
        Self {
            bytes: [0; CHECKED_BYTES_MAX],
            len: 0,
        }
    }

    /// `None` when packed topics are not whole, or one of them is none.
    fn check(&mut self, packed: &[u8]) -> Option<()> {
        if self.bytes[..self.len] == *packed {
            return Some(());
        }
        let mut rest = packed;
        while !rest.is_empty() {
            Topic::check(take_short(&mut rest)?).ok()?;
        }
        if let Some(place) = self.bytes.get_mut(..packed.len()) {
            place.copy_from_slice(packed);
            self.len = packed.len();
        }
        Some(())
    }
}

fn take_short<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(take_piece(rest)?).ok()
}

fn take_piece<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<2>()?;
    let (bytes, after) = after.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *rest = after;
    Some(bytes)
}

fn take_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    *rest = after;
    Some(bytes)
}

/// The number at `at`; the caller has checked that it is there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(
        *bytes[at..]
            .first_chunk()
            .expect("the caller knows the length"),
    )
}

/// The number at `at`; the caller has checked that it is there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(
        *bytes[at..]
            .first_chunk()
            .expect("the caller knows the length"),
    )
}

#[cfg(test)]
mod tests;
