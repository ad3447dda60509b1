//! What can be measured. Each mode is
//! `run(&BenchOptions, &Progress) -> Result<Report, BenchError>`.

pub(crate) mod common;
pub mod connect;
pub mod fanout;
pub mod hostile;
pub mod idle;
pub mod publish;
mod publishing;
mod readers;
pub mod replay;
pub mod slow;
pub mod topics;
