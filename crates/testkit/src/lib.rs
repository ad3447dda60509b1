//! Test support for black-box tests: the hub as a child process, raw HTTP/1.1 and Server-Sent
//! Events over blocking sockets, token minting, awkward peers.
//!
//! Everything here is blocking and uses threads, so that a test reads from top to bottom, and
//! shares no code with the hub: the parsers are a second opinion on what the hub writes.
//! Fallible functions return [`Outcome`]; a [`Failure`] is a text that says what was expected and
//! what came, meant to be read by a person.

#![forbid(unsafe_code)]

mod address;
mod batch;
mod curl;
mod failure;
mod form;
mod http;
mod hub;
pub mod peers;
mod program;
mod proxy;
mod seed;
mod sse;
mod stream;
mod tls;
mod token;
mod wait;

pub use address::own_address;
pub use batch::{BATCH_END, begin_batch, send_batch_line};
pub use curl::Curl;
pub use failure::{Failure, Outcome};
pub use form::{encode_component, encode_form};
pub use http::{Connection, Head, Request, Response, exchange};
pub use hub::{HubBuilder, HubProcess, send_signal};
pub use program::ProgramLink;
pub use proxy::{forward_to, proxy_v2, proxy_v2_with};
pub use seed::seed;
pub use sse::{SseEvent, SseItem, SseParser};
pub use stream::SseStream;
pub use tls::{CertificateFiles, write_certificate};
pub use token::{Claims, KeyPair, TokenKey, unix_now, unsigned_token};
pub use wait::{Deadline, eventually};

/// How long one expected thing may take before a test fails.
///
/// Generous: on a loaded two-core machine a start-up or an fsync can take seconds; a hub that
/// works never waits this long, so the value costs nothing in a passing run.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
