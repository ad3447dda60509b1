//! The index file of a segment that is no longer written.
//!
//! ```text
//! magic | segment header (512) | numbers | sparse entries | filter words | crc u32
//! blocks of 4096: crc u32 | 12 zero bytes | 340 × (hash u64, relative offset u32), sorted
//! ```
//!
//! It can always be made again from the segment, so it is not synced: whatever a crash leaves of
//! it, its CRCs tell.

use std::io;
use std::sync::Arc;

use crate::Offset;
use crate::files::Source;
use crate::host::{Host, LogFile, ReadAt, read_full_at, write_all_at};
use crate::index::{Filter, Sparse};
use crate::record::{u32_at, u64_at};
use crate::segment::{HEADER_COPY_BYTES, Header};

const MAGIC: &[u8; 8] = b"GUSHIDX1";
const NUMBERS_BYTES: usize = 5 * 8 + 3 * 4;
const FIXED_BYTES: usize = MAGIC.len() + HEADER_COPY_BYTES + NUMBERS_BYTES;

const BLOCK_BYTES: usize = 4096;
const BLOCK_HEAD_BYTES: usize = 16;
const ENTRY_BYTES: usize = 12;
const BLOCK_ENTRIES: usize = (BLOCK_BYTES - BLOCK_HEAD_BYTES) / ENTRY_BYTES;

/// No index is larger: a segment has at most 4 GiB, so at most 2^18 sparse entries, and the filter
/// of 2^22 ids has 5 MiB.
const META_BYTES_MAX: usize = 16 << 20;

/// How often a place is guessed from the hash's value before the search halves the range.
const GUESSES_MAX: usize = 4;

/// What an index file says of its segment, without the ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) header: Header,
    /// Length of the segment file.
    pub(crate) end_bytes: u64,
    /// The offset after the last record.
    pub(crate) next: Offset,
    /// Whole records.
    pub(crate) records: u64,
    pub(crate) first_ms: u64,
    pub(crate) newest_ms: u64,
    pub(crate) own_ids: u32,
    pub(crate) sparse: Sparse,
    pub(crate) filter: Filter,
}

impl Meta {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.header.encode_copy());
        for number in [
            self.end_bytes,
            self.next.as_u64(),
            self.records,
            self.first_ms,
            self.newest_ms,
        ] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for count in [
            self.own_ids,
            count_u32(self.sparse.entries().len()),
            count_u32(self.filter.words().len()),
        ] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for (relative, at) in self.sparse.entries() {
            out.extend_from_slice(&relative.to_le_bytes());
            out.extend_from_slice(&at.to_le_bytes());
        }
        for word in self.filter.words() {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let crc = crc32fast::hash(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` when it is damaged or cut.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let length = meta_len(bytes)?;
        let (covered, crc) = bytes.get(..length)?.split_last_chunk::<4>()?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let header = Header::decode_copy(&covered[MAGIC.len()..][..HEADER_COPY_BYTES])?;
        let numbers = &covered[MAGIC.len() + HEADER_COPY_BYTES..];
        let sparse_count = u32_at(numbers, 44) as usize;
        let (sparse, filter) = covered[FIXED_BYTES..].split_at(sparse_count * 8);
        let sparse = sparse
            .chunks_exact(8)
            .map(|entry| (u32_at(entry, 0), u32_at(entry, 4)));
        Some(Self {
            header,
            end_bytes: u64_at(numbers, 0),
            next: Offset::from_u64(u64_at(numbers, 8)),
            records: u64_at(numbers, 16),
            first_ms: u64_at(numbers, 24),
            newest_ms: u64_at(numbers, 32),
            own_ids: u32_at(numbers, 40),
            sparse: Sparse::from_entries(sparse.collect()),
            filter: Filter::from_words(
                filter.chunks_exact(8).map(|word| u64_at(word, 0)).collect(),
            )?,
        })
    }

    /// Bytes before the blocks.
    pub(crate) fn len(&self) -> usize {
        FIXED_BYTES + self.sparse.entries().len() * 8 + self.filter.words().len() * 8 + 4
    }

    fn blocks(&self) -> usize {
        (self.own_ids as usize).div_ceil(BLOCK_ENTRIES)
    }

    /// Bytes of the whole file.
    pub(crate) fn file_bytes(&self) -> u64 {
        (self.len() + self.blocks() * BLOCK_BYTES) as u64
    }
}

/// Reads the length of the part before the blocks; `None` when the start is none of ours.
fn meta_len(bytes: &[u8]) -> Option<usize> {
    if bytes.len() < FIXED_BYTES || !bytes.starts_with(MAGIC) {
        return None;
    }
    let numbers = &bytes[MAGIC.len() + HEADER_COPY_BYTES..];
    let (sparse, words) = (u32_at(numbers, 44) as usize, u32_at(numbers, 48) as usize);
    let length = FIXED_BYTES + sparse.checked_mul(8)?.checked_add(words.checked_mul(8)?)? + 4;
    (length <= META_BYTES_MAX).then_some(length)
}

/// Writes the file under a name of its own first, so that a half-written one is never opened.
///
/// `ids` must be sorted.
pub(crate) fn write(
    host: &dyn Host,
    meta: &Meta,
    ids: &[(u64, u32)],
) -> io::Result<Arc<dyn LogFile>> {
    let mut bytes = meta.encode();
    for block in ids.chunks(BLOCK_ENTRIES) {
        let start = bytes.len();
        bytes.resize(start + BLOCK_HEAD_BYTES, 0);
        for (hash, relative) in block {
            bytes.extend_from_slice(&hash.to_le_bytes());
            bytes.extend_from_slice(&relative.to_le_bytes());
        }
        bytes.resize(start + BLOCK_BYTES, 0);
        let crc = crc32fast::hash(&bytes[start + 4..]);
        bytes[start..start + 4].copy_from_slice(&crc.to_le_bytes());
    }
    let name = meta.header.index_name();
    let unfinished = format!("{name}.tmp");
    let file = host.create(&unfinished)?;
    let written = write_all_at(&*file, &bytes, 0).and_then(|()| host.rename(&unfinished, &name));
    if written.is_err() {
        // Best effort: the name is never read.
        let _ = host.remove(&unfinished);
    }
    written.map(|()| file)
}

/// Reads what stands before the blocks. `Ok(None)`: there is no such file, or not a good one.
pub(crate) fn read_meta(
    host: &dyn Host,
    name: &str,
) -> io::Result<Option<(Meta, Arc<dyn LogFile>)>> {
    let file = match host.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut fixed = [0; FIXED_BYTES];
    let count = read_at(&*file, &mut fixed, 0)?;
    let Some(length) = meta_len(&fixed[..count]) else {
        return Ok(None);
    };
    let file_bytes = file.len()?;
    if length as u64 > file_bytes {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    read_at(&*file, &mut bytes, 0)?;
    let meta = Meta::decode(&bytes).filter(|meta| meta.file_bytes() == file_bytes);
    Ok(meta.map(|meta| (meta, file)))
}

/// The ids of a segment in its index file, looked up block by block.
pub(crate) struct FiledIds {
    source: Source,
    /// Where the blocks begin.
    start: u64,
    count: usize,
    pub(crate) own_ids: usize,
    /// Bytes of the whole file.
    pub(crate) file_bytes: u64,
    filter: Filter,
}

/// Why an id could not be looked up in a file.
pub(crate) enum LookupError {
    /// The disk failed.
    Io(io::Error),
    /// A block is damaged, or the file is gone: only the segment itself can tell.
    Damaged,
}

impl From<io::Error> for LookupError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl FiledIds {
    /// Of a file that [`write`] wrote or [`read_meta`] read.
    pub(crate) fn new(meta: &Meta, source: Source) -> Self {
        let own_ids = meta.own_ids as usize;
        Self {
            source,
            start: meta.len() as u64,
            count: own_ids.div_ceil(BLOCK_ENTRIES),
            own_ids,
            file_bytes: meta.file_bytes(),
            filter: meta.filter.clone(),
        }
    }

    /// `false`: no id with this hash is in the file. Touches no disk.
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        self.filter.may_hold(hash)
    }

    /// Calls `visit` for the events whose id has this hash, earliest first, until it says `true`.
    ///
    /// One or two reads of 4 KiB for the first: the hashes are spread evenly, so that their value
    /// tells the place.
    pub(crate) fn find<E: From<LookupError>>(
        &self,
        hash: u64,
        mut visit: impl FnMut(u32) -> Result<bool, E>,
    ) -> Result<(), E> {
        let Some((mut index, mut block)) = self.first_block(hash)? else {
            return Ok(());
        };
        loop {
            for entry in block.partition_point(hash)..block.entries {
                let (found, relative) = block.entry(entry);
                if found != hash || visit(relative)? {
                    return Ok(());
                }
            }
            index += 1;
            if index == self.count {
                return Ok(());
            }
            block = self.read(index)?;
        }
    }

    /// All ids, in hash order.
    pub(crate) fn all(&self) -> Result<Vec<(u64, u32)>, LookupError> {
        let mut all = Vec::with_capacity(self.own_ids);
        for index in 0..self.count {
            let block = self.read(index)?;
            all.extend((0..block.entries).map(|entry| block.entry(entry)));
        }
        Ok(all)
    }

    /// The first block that ends at or after `hash`.
    fn first_block(&self, hash: u64) -> Result<Option<(usize, Block)>, LookupError> {
        let (mut low, mut high) = (0, self.count);
        let (mut low_hash, mut high_hash) = (0, u64::MAX);
        let mut found = None;
        let mut guesses = 0;
        while low < high {
            let index = if guesses < GUESSES_MAX {
                low + share(
                    hash.saturating_sub(low_hash),
                    high_hash - low_hash,
                    high - low,
                )
            } else {
                low + (high - low) / 2
            };
            guesses += 1;
            let block = self.read(index)?;
            let (first, last) = (block.entry(0).0, block.entry(block.entries - 1).0);
            if last < hash {
                (low, low_hash) = (index + 1, last);
            } else {
                (high, high_hash) = (index, first.max(low_hash));
                found = Some((index, block));
                if first < hash {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn read(&self, index: usize) -> Result<Block, LookupError> {
        let entries = (self.own_ids - index * BLOCK_ENTRIES).min(BLOCK_ENTRIES);
        let mut block = Block {
            bytes: [0; BLOCK_BYTES],
            entries,
        };
        let file = match self.source.open() {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(LookupError::Damaged);
            }
            Err(error) => return Err(error.into()),
        };
        let count = read_at(
            &*file,
            &mut block.bytes,
            self.start + (index * BLOCK_BYTES) as u64,
        )?;
        if count < BLOCK_BYTES || crc32fast::hash(&block.bytes[4..]) != u32_at(&block.bytes, 0) {
            return Err(LookupError::Damaged);
        }
        Ok(block)
    }
}

/// A block as it was read.
struct Block {
    bytes: [u8; BLOCK_BYTES],
    /// At least 1.
    entries: usize,
}

impl Block {
    /// `(hash, offset relative to the base)`.
    fn entry(&self, index: usize) -> (u64, u32) {
        let at = BLOCK_HEAD_BYTES + index * ENTRY_BYTES;
        (u64_at(&self.bytes, at), u32_at(&self.bytes, at + 8))
    }

    /// The first entry that is not below `hash`.
    fn partition_point(&self, hash: u64) -> usize {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle).0 < hash {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}

fn read_at(file: &dyn LogFile, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    // The cast to the smaller trait lets one function serve files and slices.
    let source: &dyn ReadAt = file;
    read_full_at(source, buffer, at)
}

/// `count * part / whole`, below `count`.
fn share(part: u64, whole: u64, count: usize) -> usize {
    let share = u128::from(part) * count as u128 / (u128::from(whole) + 1);
    usize::try_from(share).unwrap_or(usize::MAX).min(count - 1)
}

fn count_u32(count: usize) -> u32 {
    u32::try_from(count).expect("a segment holds at most 4 GiB")
}

#[cfg(test)]
mod tests;
