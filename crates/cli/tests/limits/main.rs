//! Limits per address, per token subject, per publisher, per topic and of the whole hub, at each
//! door.

mod begins;
mod connections;
mod publishes;
mod support;
