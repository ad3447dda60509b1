//! The event log of gush: every event is appended once, gets a position, and is read from there.
//!
//! The crate knows nothing of HTTP and nothing of subscribers.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

// Where an event stands, and the id that says so.
mod position;

// What is appended, and what is read back.
mod event;

// The trait every backend fulfils.
mod log;

// The backend that forgets.
mod memory;

// The hash of ids, and locks: used by both backends.
mod hash;
mod lock;

pub use event::{Draft, Event, RecordRef, TopicsRef};
pub use log::{
    AppendError, AppendErrorKind, Appended, Bounds, Flow, Located, Log, ReadEnd, ReadError,
    ReadLimit, Reply, Tail,
};
pub use memory::{MemoryConfig, MemoryLog};
pub use position::{Epoch, GENERATED_ID_BYTES, Offset, Position};
