//! Server-Sent Events: bytes to events and back. No I/O, no async, no clock.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

// Texts that may stand in an `id` or `event` field, checked once at the border.
mod field;

pub use field::{EventId, EventType, FieldError};
