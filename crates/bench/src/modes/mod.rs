//! What can be measured. Each mode is `run(&BenchOptions, &Progress) -> Result<Report, BenchError>`.

mod common;
pub mod fanout;
