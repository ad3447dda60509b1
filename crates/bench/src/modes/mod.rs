//! What can be measured. Each mode is `run(&BenchOptions, &Progress) -> Result<Report, BenchError>`.

pub(crate) mod common;
pub mod fanout;
pub mod publish;
pub mod replay;
mod publishing;
mod readers;
