//! What is given back when a stream ends.

use gush_middleware::KeyedPermit;

use super::ConnectionPermit;
use crate::stream_log::StreamName;

/// What a stream holds for as long as it lives, in one box, so that a subscriber's place has room
/// for it. Whatever is in here gives itself back when it is dropped.
#[derive(Debug, Default)]
pub struct Held {
    /// Its place in the connection limit, and in its address's.
    pub connection: ConnectionPermit,
    /// Its share of its token's subject's; boxed, because many streams have none.
    pub subject: Option<Box<KeyedPermit>>,
    /// Whom it is for; `None` where nobody knows.
    pub name: Option<StreamName>,
    /// The most events that it was behind.
    pub greatest_lag: u64,
}

/// User memory of it, with what the allocator adds.
pub(crate) const HELD_BYTES: usize = size_of::<Held>() + 16;
