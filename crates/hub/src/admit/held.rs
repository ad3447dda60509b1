//! What is given back when a stream ends.

use super::ConnectionPermit;
use crate::stream_log::StreamName;

/// What a stream holds for as long as it lives, in one box, so that a subscriber's place has room
/// for it. Whatever is in here gives itself back when it is dropped.
#[derive(Debug, Default)]
pub struct Held {
    /// Its share of the connection limit; a stream inside HTTP/2 has none of its own.
    pub connection: Option<ConnectionPermit>,
    /// What the record of its end names it by; `None` where none is written.
    pub name: Option<StreamName>,
    /// The most events that it was behind.
    pub greatest_lag: u64,
}

/// User memory of it, with what the allocator adds.
pub(crate) const HELD_BYTES: usize = size_of::<Held>() + 16;
