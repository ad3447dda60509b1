//! The event log of gush: every event is appended once, gets a position, and is read from there.
//!
//! The crate knows nothing of HTTP and nothing of subscribers.
//!
//! ```
//! use gush_log::{Conflation, DiskConfig, DiskLog, Draft, Flow, Located, Log, ReadLimit};
//!
//! use gush_sse::Topic;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let dir = tempfile::tempdir()?;
//! let (log, recovery) = DiskLog::open(dir.path(), DiskConfig::default())?;
//! println!("{recovery}");
//!
//! let (sender, receiver) = std::sync::mpsc::sync_channel(1);
//! let draft = Draft {
//!     topics: [Topic::parse("https://example.com/orders/7")?].into(),
//!     is_private: false,
//!     id: None,
//!     kind: None,
//!     retry_ms: None,
//!     conflation: Conflation::default(),
//!     data: "paid".into(),
//! };
//! log.append(draft, Box::new(move |outcome| drop(sender.send(outcome))));
//! let appended = receiver.recv()??;
//!
//! // A subscriber that has seen it goes on behind it.
//! let Located::After(from) = log.locate(&appended.id()) else { panic!("it was just stored") };
//! let limit = ReadLimit { events_max: 100, bytes_max: 1 << 20 };
//! let end = log.read(from, limit, &mut |_| Flow::Continue)?;
//! assert_eq!(end.next, log.bounds().next);
//! log.close()?;
//! # Ok(())
//! # }
//! ```
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
mod files;
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
pub use event::{Conflation, Draft, RecordRef, TopicsRef, WireId};
pub use log::{
    AppendError, AppendErrorKind, Appended, AtOnce, BatchReply, Bounds, Flow, Located, Log,
    ReadEnd, ReadError, ReadLimit, Reply, Tail,
};
pub use memory::{MemoryConfig, MemoryLog};
pub use position::{Epoch, GENERATED_ID_BYTES, Offset, Position};
#[doc(hidden)]
pub use record::measure_encode;
#[doc(hidden)]
pub use recovery::fuzz_recover;
pub use report::{Cut, Damage, Recovery};
