//! What is appended to a log and what is read back.

use std::fmt;
use std::ops::Deref;

use gush_sse::{EventId, EventType, Topic};

use crate::{GENERATED_ID_BYTES, Offset, Position};

/// Whether readers that are behind may do with the newest of several events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conflation {
    /// The publisher asked for it.
    pub is_latest: bool,
    /// What tells the events apart that do not stand for each other, besides their topics.
    pub key: Option<Box<str>>,
}

/// A checked event that has no place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// At least one; the first is the canonical one, all are equal for dispatch.
    pub topics: Box<[Topic]>,
    /// Only subscribers with a matching grant may get it.
    pub is_private: bool,
    /// The publisher's own id; absent: the log's position makes one.
    pub id: Option<EventId>,
    /// The SSE `event` field.
    pub kind: Option<EventType>,
    /// The SSE `retry` field in milliseconds; absent or 0: not sent.
    pub retry_ms: Option<u64>,
    /// Whether a newer event may stand for it.
    pub conflation: Conflation,
    /// The payload as published; line ends are split when it is encoded.
    pub data: Box<str>,
}

impl Draft {
    /// The event it becomes at a place, in the form in which backends hand events out. `time_ms`
    /// is when it was appended, in milliseconds since 1970.
    #[must_use]
    pub fn as_record(&self, position: Position, time_ms: u64) -> RecordRef<'_> {
        RecordRef {
            position,
            time_ms,
            is_private: self.is_private,
            topics: TopicsRef::Owned(&self.topics),
            id: self.id.as_ref().map(EventId::as_str),
            kind: self.kind.as_ref().map(EventType::as_str),
            retry_ms: self.retry_ms,
            is_latest: self.conflation.is_latest,
            key: self.conflation.key.as_deref(),
            data: &self.data,
        }
    }
}

/// The id of an event on the wire: the publisher's own, or the generated one. Takes nothing from
/// the heap: every event sent and every publish answered has one.
#[derive(Clone, Copy)]
pub struct WireId<'a>(Kind<'a>);

#[derive(Clone, Copy)]
enum Kind<'a> {
    Own(&'a str),
    Generated([u8; GENERATED_ID_BYTES]),
}

impl<'a> WireId<'a> {
    /// `own` is the publisher's own id, if it gave one.
    #[must_use]
    pub fn new(own: Option<&'a str>, position: Position) -> Self {
        Self(own.map_or_else(|| Kind::Generated(position.id_bytes()), Kind::Own))
    }
}

impl Deref for WireId<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Kind::Own(id) => id,
            Kind::Generated(id) => std::str::from_utf8(id).expect("hex digits are ASCII"),
        }
    }
}

impl fmt::Display for WireId<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self)
    }
}

impl fmt::Debug for WireId<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, out)
    }
}

/// A stored event, borrowed from the backend's read buffer: no allocation per event read.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    /// Epoch and offset.
    pub position: Position,
    /// When it was appended, in milliseconds since 1970.
    pub time_ms: u64,
    /// Only for subscribers with a matching grant.
    pub is_private: bool,
    /// At least one topic.
    pub topics: TopicsRef<'a>,
    /// The publisher's own id, if it gave one.
    pub id: Option<&'a str>,
    /// The SSE `event` field.
    pub kind: Option<&'a str>,
    /// The SSE `retry` field in milliseconds.
    pub retry_ms: Option<u64>,
    /// The publisher lets a newer event of its topics and key stand for it.
    pub is_latest: bool,
    /// The key, if the publisher gave one.
    pub key: Option<&'a str>,
    /// The payload.
    pub data: &'a str,
}

impl<'a> RecordRef<'a> {
    /// The place in the log.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.position.offset
    }

    /// The id on the wire: the publisher's own, or the generated one.
    #[must_use]
    pub fn wire_id(&self) -> WireId<'a> {
        WireId::new(self.id, self.position)
    }
}

/// The topics of a stored event, in either of the two forms they come in.
#[derive(Clone, Copy, Debug)]
pub enum TopicsRef<'a> {
    /// From an event in memory.
    Owned(&'a [Topic]),
    /// From a record: for each topic a little-endian `u16` length and the bytes, already checked
    /// to be complete, and each to be a [`Topic`].
    Packed(&'a [u8]),
}

impl<'a> TopicsRef<'a> {
    /// The topics in the order they were published in. Allocates nothing.
    pub fn iter(self) -> impl Iterator<Item = &'a str> + Clone {
        let (owned, mut packed): (&[Topic], &[u8]) = match self {
            Self::Owned(topics) => (topics, &[]),
            Self::Packed(bytes) => (&[], bytes),
        };
        let unpacked = std::iter::from_fn(move || {
            let (length, rest) = packed.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_le_bytes(*length));
            let (topic, rest) = rest.split_at_checked(length)?;
            packed = rest;
            std::str::from_utf8(topic).ok()
        });
        owned.iter().map(Topic::as_str).chain(unpacked)
    }
}
