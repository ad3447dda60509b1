//! What is given back when a stream ends.

use super::ConnectionPermit;

/// What a stream holds for as long as it lives, in one box, so that a subscriber's place has room
/// for it. Whatever is in here gives itself back when it is dropped.
#[derive(Debug, Default)]
pub struct Held {
    /// Its share of the connection limit; a stream inside HTTP/2 has none of its own.
    pub connection: Option<ConnectionPermit>,
}
