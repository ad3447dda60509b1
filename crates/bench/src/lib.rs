//! The load generator behind `gush bench`.
#![deny(missing_docs)]
