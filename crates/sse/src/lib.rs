//! Server-Sent Events: bytes to events and back. No I/O, no async, no clock.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

// Ids, types and topics: texts of one line, checked once at the border.
mod field;

// Events to bytes.
mod encode;

// Bytes to events.
mod parser;

pub use encode::{EventFields, HEARTBEAT, Measured, encode_event, encode_retry, encoded_len};
pub use field::{EventId, EventType, FieldError, Topic};
pub use parser::{Item, ParseError, ParsedEvent, Parser};
