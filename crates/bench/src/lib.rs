//! The load generator behind `gush bench`, and the storms of `gush storm`.
//!
//! In the order a run goes: options name a target, the engine opens streams to it and reads them,
//! a mode publishes and puts together a report. Each mode is
//! `run(&BenchOptions, &Progress) -> Result<Report, BenchError>` and checks its own totals.
#![deny(missing_docs)]

// What to do, and where.
pub mod error;
pub mod options;
pub mod target;
pub mod token;

// The load.
pub mod clock;
pub mod descriptors;
pub mod engine;
pub mod stamp;

// What is measured.
pub mod floor;
pub mod modes;

// What would happen if everybody came back at once.
pub mod storm;

// What was found.
pub mod machine;
pub mod procfs;
pub mod progress;
pub mod report;

pub use error::BenchError;
pub use options::BenchOptions;
pub use progress::Progress;
pub use report::Report;
pub use target::Target;
