//! The bytes of an event as they go to sockets: built once, shared by every subscriber.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use gush_log::RecordRef;
use gush_sse::{EventFields, Measured};

/// How a sink wraps the event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// HTTP/1.1 chunked transfer coding, one chunk per event.
    Chunked,
    /// Nothing around it: HTTP/1.0, and HTTP/2 whose own frames do that.
    Raw,
}

impl Framing {
    /// How many framings there are.
    pub const COUNT: usize = 2;
}

/// Encoded bytes with both framings in one buffer: the chunk head, the event, the chunk's end.
#[derive(Clone, Debug)]
pub struct Frame {
    bytes: Bytes,
    head: u8,
    tail: u8,
}

/// Most bytes of a chunk head: eight hex digits and CRLF.
const CHUNK_HEAD_MAX: usize = 10;

impl Frame {
    /// Wraps text that is no event: heartbeats, `retry:`, the gap event.
    #[must_use]
    pub fn of_text(text: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(text.len() + CHUNK_HEAD_MAX + 2);
        let head = push_chunk_head(text.len(), &mut bytes);
        bytes.extend_from_slice(text);
        bytes.extend_from_slice(b"\r\n");
        Self {
            bytes: bytes.into(),
            head,
            tail: 2,
        }
    }

    /// Bytes that are framed already and go out as they are.
    #[must_use]
    pub const fn of_framed(bytes: Bytes) -> Self {
        Self {
            bytes,
            head: 0,
            tail: 0,
        }
    }

    /// What goes to a sink with this framing.
    #[must_use]
    pub fn framed(&self, framing: Framing) -> &[u8] {
        match framing {
            Framing::Chunked => &self.bytes,
            Framing::Raw => &self.bytes[usize::from(self.head)..self.raw_end()],
        }
    }

    /// The same, shared instead of borrowed.
    #[must_use]
    pub fn framed_bytes(&self, framing: Framing) -> Bytes {
        match framing {
            Framing::Chunked => self.bytes.clone(),
            Framing::Raw => self.bytes.slice(usize::from(self.head)..self.raw_end()),
        }
    }

    /// Bytes held in memory.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn raw_end(&self) -> usize {
        self.bytes.len() - usize::from(self.tail)
    }
}

/// Bytes of one block: some hundreds of usual events, few enough that a slow stream that still
/// holds a piece of a frame keeps little else alive.
const BLOCK_BYTES: usize = 64 * 1024;

/// A frame from this size on gets memory of its own: in a block it would waste the rest.
const OWN_BYTES_MIN: usize = BLOCK_BYTES / 4;

/// Blocks beyond those the window fills: for frames that shards still send.
const BLOCKS_SPARE: usize = 64;

/// Blocks looked at for one that is free. In a steady state the oldest is; a block that somebody
/// holds for long is met once a round.
const RECLAIMS_MAX: usize = 4;

/// Where frames come from: blocks that are cut into frames and cut anew once all of a block's
/// frames are gone. In a steady state nothing is allocated.
#[derive(Debug)]
pub struct FramePool {
    /// `None` before the first frame.
    block: Option<BytesMut>,
    /// Used up, oldest first: frames leave the window in the order in which they came.
    resting: VecDeque<BytesMut>,
    resting_max: usize,
    /// A frame is put together here and then copied, for its size to be known.
    scratch: Vec<u8>,
}

impl FramePool {
    /// For a window of this many bytes of frames: the pool keeps about as many, and no more.
    #[must_use]
    pub fn new(window_bytes: usize) -> Self {
        Self {
            block: None,
            resting: VecDeque::new(),
            resting_max: window_bytes / BLOCK_BYTES + BLOCKS_SPARE,
            scratch: Vec::new(),
        }
    }

    /// Encodes one event, once for all subscribers.
    #[must_use]
    pub fn encode(&mut self, record: &RecordRef<'_>) -> Frame {
        let mut head = 0;
        let bytes = self.pack(|out| head = append_chunked(record, out));
        Frame {
            bytes,
            head,
            tail: 2,
        }
    }

    /// What `write` appends, with memory from the pool.
    pub fn pack(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        self.scratch.clear();
        write(&mut self.scratch);
        let length = self.scratch.len();
        if length >= OWN_BYTES_MIN {
            return std::mem::take(&mut self.scratch).into();
        }
        let mut block = match self.block.take() {
            Some(block) if block.capacity() >= length => block,
            used_up => self.next_block(used_up),
        };
        block.extend_from_slice(&self.scratch);
        let bytes = block.split().freeze();
        self.block = Some(block);
        bytes
    }

    fn next_block(&mut self, used_up: Option<BytesMut>) -> BytesMut {
        if self.resting.len() < self.resting_max {
            self.resting.extend(used_up);
        }
        for _ in 0..RECLAIMS_MAX.min(self.resting.len()) {
            let Some(mut oldest) = self.resting.pop_front() else {
                break;
            };
            if oldest.try_reclaim(BLOCK_BYTES) {
                return oldest;
            }
            // Something still holds a frame of it; those behind it are not to wait for that.
            self.resting.push_back(oldest);
        }
        BytesMut::with_capacity(BLOCK_BYTES)
    }
}

fn append_chunked(record: &RecordRef<'_>, out: &mut Vec<u8>) -> u8 {
    let id = record.wire_id();
    push_chunk(&Measured::new(&fields(record, &id)), out)
}

/// Appends an event as a chunk; gives the length of the chunk's head.
#[inline]
pub(crate) fn push_chunk(event: &Measured<'_>, out: &mut Vec<u8>) -> u8 {
    out.reserve(event.len() + CHUNK_HEAD_MAX + 2);
    let head = push_chunk_head(event.len(), out);
    event.append(out);
    out.extend_from_slice(b"\r\n");
    head
}

fn fields<'a>(record: &RecordRef<'a>, id: &'a str) -> EventFields<'a> {
    EventFields {
        kind: record.kind,
        retry_ms: record.retry_ms,
        id: Some(id),
        data: record.data,
    }
}

fn push_chunk_head(length: usize, out: &mut Vec<u8>) -> u8 {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    // Sixteen hex digits are the most a length has.
    let mut text = [0; 18];
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1) as usize;
    for (place, digit) in text[..digits].iter_mut().rev().enumerate() {
        *digit = HEX[(length >> (place * 4)) & 0xf];
    }
    text[digits..digits + 2].copy_from_slice(b"\r\n");
    out.extend_from_slice(&text[..digits + 2]);
    u8::try_from(digits + 2).expect("a chunk head has at most 18 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_framed_both_ways() {
        let frame = Frame::of_text(b":\n");
        assert_eq!(frame.framed(Framing::Chunked), b"2\r\n:\n\r\n");
        assert_eq!(frame.framed(Framing::Raw), b":\n");
    }

    #[test]
    fn a_block_is_cut_anew_once_its_frames_are_gone() {
        let mut pool = FramePool::new(2 * BLOCK_BYTES);
        let mut live = VecDeque::new();
        let mut starts = std::collections::BTreeSet::new();
        for number in 0..10_000_u32 {
            let bytes = pool.pack(|out| out.extend_from_slice(&[number.to_le_bytes()[0]; 200]));
            starts.insert(bytes.as_ptr() as usize / BLOCK_BYTES);
            live.push_back((number, bytes));
            if live.len() > 500 {
                live.pop_front();
            }
            assert!(
                live.iter()
                    .all(|(number, bytes)| bytes[..] == [number.to_le_bytes()[0]; 200])
            );
        }
        // 500 frames of 200 bytes lie in three blocks; a block may straddle two counted stretches.
        assert!(starts.len() <= 10, "{}", starts.len());
    }

    #[test]
    fn a_frame_that_is_held_for_long_does_not_keep_other_blocks_from_use() {
        let mut pool = FramePool::new(2 * BLOCK_BYTES);
        let held = pool.pack(|out| out.extend_from_slice(b"held"));
        let mut starts = std::collections::BTreeSet::new();
        for _ in 0..100_000_u32 {
            let bytes = pool.pack(|out| out.extend_from_slice(&[1; 200]));
            starts.insert(bytes.as_ptr() as usize / BLOCK_BYTES);
        }
        assert_eq!(&held[..], b"held");
        assert!(starts.len() <= 10, "{}", starts.len());
    }

    #[test]
    fn a_large_frame_has_memory_of_its_own() {
        let mut pool = FramePool::new(0);
        let bytes = pool.pack(|out| out.resize(OWN_BYTES_MIN, b'x'));
        assert_eq!(bytes.len(), OWN_BYTES_MIN);
        assert!(pool.block.is_none());
    }

    #[test]
    fn chunk_heads_are_plain_hex() {
        for length in [0_usize, 1, 15, 16, 255, 256, 4096, 0x00ab_cdef] {
            let mut out = Vec::new();
            let head = push_chunk_head(length, &mut out);
            assert_eq!(out, format!("{length:x}\r\n").into_bytes());
            assert_eq!(usize::from(head), out.len());
        }
    }
}
