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

// The backend that keeps: its public face, the drafts that wait, the thread that writes.
mod committer;
mod disk;
mod intake;
mod retention;

// What is on the disk: the view in memory, segments, records, indexes, the clean mark.
mod catalog;
mod clean;
mod index;
mod index_file;
mod record;
mod recovery;
mod report;
mod scan;
mod segment;

// Files and the clock; the hash of ids; locks.
mod hash;
mod host;
mod lock;

// A disk that fails.
#[cfg(test)]
mod sim;

// What each of them must do.
#[cfg(any(test, feature = "contract"))]
pub mod contract;

pub use disk::{DiskConfig, DiskLog, OpenError, Sync};
pub use event::{Draft, Event, RecordRef, TopicsRef};
pub use log::{
    AppendError, AppendErrorKind, Appended, Bounds, Flow, Located, Log, ReadEnd, ReadError,
    ReadLimit, Reply, Tail,
};
pub use memory::{MemoryConfig, MemoryLog};
pub use position::{Epoch, GENERATED_ID_BYTES, Offset, Position};
#[doc(hidden)]
pub use recovery::fuzz_recover;
pub use report::{Cut, Damage, Recovery};
