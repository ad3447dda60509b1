//! What is appended to a log and what is read back.

use std::borrow::Cow;

use gush_sse::{EventId, EventType};

use crate::{Offset, Position};

/// A checked event that has no place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// At least one; the first is the canonical one, all are equal for dispatch.
    pub topics: Box<[Box<str>]>,
    /// Only subscribers with a matching grant may get it.
    pub is_private: bool,
    /// The publisher's own id; absent: the log's position makes one.
    pub id: Option<EventId>,
    /// The SSE `event` field.
    pub kind: Option<EventType>,
    /// The SSE `retry` field in milliseconds; absent or 0: not sent.
    pub retry_ms: Option<u64>,
    /// The payload as published; line ends are split when it is encoded.
    pub data: Box<str>,
}

/// An event with its place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Epoch and offset.
    pub position: Position,
    /// When it was appended, in milliseconds since 1970.
    pub time_ms: u64,
    /// What was published.
    pub draft: Draft,
}

impl Event {
    /// The id on the wire: the publisher's own, or the generated one.
    #[must_use]
    pub fn id(&self) -> Cow<'_, str> {
        match &self.draft.id {
            Some(id) => Cow::Borrowed(id.as_str()),
            None => Cow::Owned(self.position.to_string()),
        }
    }

    /// A borrowed view, the form in which backends hand events out.
    #[must_use]
    pub fn as_record(&self) -> RecordRef<'_> {
        RecordRef {
            position: self.position,
            time_ms: self.time_ms,
            is_private: self.draft.is_private,
            topics: TopicsRef::Owned(&self.draft.topics),
            id: self.draft.id.as_ref().map(EventId::as_str),
            kind: self.draft.kind.as_ref().map(EventType::as_str),
            retry_ms: self.draft.retry_ms,
            data: &self.draft.data,
        }
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
    /// The payload.
    pub data: &'a str,
}

impl RecordRef<'_> {
    /// The place in the log.
    #[must_use]
    pub const fn offset(&self) -> Offset {
        self.position.offset
    }

    /// The id on the wire: the publisher's own, or the generated one.
    #[must_use]
    pub fn wire_id(&self) -> Cow<'_, str> {
        match self.id {
            Some(id) => Cow::Borrowed(id),
            None => Cow::Owned(self.position.to_string()),
        }
    }
}

/// The topics of a stored event, in either of the two forms they come in.
#[derive(Clone, Copy, Debug)]
pub enum TopicsRef<'a> {
    /// From an event in memory.
    Owned(&'a [Box<str>]),
    /// From a record: for each topic a little-endian `u16` length and the bytes, already checked
    /// to be UTF-8 and complete.
    Packed(&'a [u8]),
}

impl<'a> TopicsRef<'a> {
    /// The topics in the order they were published in. Allocates nothing.
    pub fn iter(self) -> impl Iterator<Item = &'a str> + Clone {
        let (owned, mut packed): (&[Box<str>], &[u8]) = match self {
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
        owned.iter().map(AsRef::as_ref).chain(unpacked)
    }
}
