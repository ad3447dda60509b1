//! The bytes of an event as they go to sockets: built once, shared by every subscriber.

use bytes::Bytes;
use gush_log::RecordRef;
use gush_sse::{EventFields, encode_event, encoded_len};

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
    /// Encodes one event. One allocation, each data byte copied once.
    #[must_use]
    pub fn encode(record: &RecordRef<'_>) -> Self {
        let mut bytes = Vec::new();
        let head = append_chunked(record, &mut bytes);
        Self {
            bytes: bytes.into(),
            head,
            tail: 2,
        }
    }

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

/// Appends an event in a framing to `out`, exactly as [`Frame::encode`] has it: a subscriber that
/// stopped in the middle of one goes on in the other.
pub fn append_framed(record: &RecordRef<'_>, framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Chunked => {
            append_chunked(record, out);
        }
        Framing::Raw => append_event(record, out),
    }
}

fn append_chunked(record: &RecordRef<'_>, out: &mut Vec<u8>) -> u8 {
    let id = record.wire_id();
    let fields = fields(record, &id);
    let length = encoded_len(&fields);
    out.reserve(length + CHUNK_HEAD_MAX + 2);
    let head = push_chunk_head(length, out);
    encode_event(&fields, out);
    out.extend_from_slice(b"\r\n");
    head
}

fn append_event(record: &RecordRef<'_>, out: &mut Vec<u8>) {
    let id = record.wire_id();
    encode_event(&fields(record, &id), out);
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
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4).max(1);
    for place in (0..digits).rev() {
        out.push(HEX[(length >> (place * 4)) & 0xf]);
    }
    out.extend_from_slice(b"\r\n");
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
    fn chunk_heads_are_plain_hex() {
        for length in [0_usize, 1, 15, 16, 255, 256, 4096, 0x00ab_cdef] {
            let mut out = Vec::new();
            let head = push_chunk_head(length, &mut out);
            assert_eq!(out, format!("{length:x}\r\n").into_bytes());
            assert_eq!(usize::from(head), out.len());
        }
    }
}
