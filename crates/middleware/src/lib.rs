//! Limits, auth, stream log, panic guard and breaker for servers whose answers never end.
//!
//! Most middleware thinks that a request is over when its answer has begun. For Server-Sent Events
//! the answer *is* the work: it begins within a millisecond and ends hours later. So a limit on
//! concurrent requests that is given back with the head limits nothing, a timeout around the
//! service never fires (or, around the body, cuts every stream), a log line at the head knows
//! neither duration nor events, and a compressor holds events back until its block is full.
//!
//! The parts here come twice:
//!
//! - as **plain state machines**: they are told the time (`now`, a `Duration` since a start the
//!   caller chose) and give a decision. They know no runtime and no clock, so that they can be
//!   tested by moving the time by hand. The gush hub checks its tokens with [`auth`].
//! - as **tower layers** (module [`layer`]) on these same machines, for every service whose body
//!   is an [`http_body::Body`]: axum, hyper, tonic. What a layer holds for a request (a place at
//!   the gate, an open record of the log) it gives back when the *body* ends or is dropped.
//!
//! None of the layers buffers, delays or looks into a frame: what the handler writes goes on in
//! the same poll.
//!
//! # Layers that break a stream, and what to use instead
//!
//! - `tower::limit::ConcurrencyLimit` counts until the head only, and lets the rest wait without an
//!   answer: use [`layer::GateLayer`].
//! - `tower::limit::RateLimit` has one rate for all and lets requests queue: use
//!   [`layer::BucketLayer`] or [`layer::WindowLayer`].
//! - `tower::load_shed` and `tower::buffer` only know whether the service is ready, which one that
//!   streams always is: use [`layer::GateLayer`].
//! - `tower_http::timeout::TimeoutLayer` never fires, since the head comes at once, and
//!   `ResponseBodyTimeoutLayer` cuts quiet streams: use heartbeats, and [`layer::AuthLayer`], which
//!   ends a stream with its token.
//! - `tower_http::compression::CompressionLayer` leaves `text/event-stream` alone by default; with
//!   another predicate it holds events back until a block is full: leave it off, or compress each
//!   event with a flush.
//! - `tower_http::trace::TraceLayer` logs the head only, and does not hear of a client that just
//!   leaves: use [`layer::StreamLogLayer`].
//! - `tower_http::catch_panic::CatchPanicLayer` sees panics of the handler, not those of a running
//!   body: use [`layer::PanicGuardLayer`].
//! - `tower_http::limit::RequestBodyLimitLayer` is fine; so is [`layer::BodyLimitLayer`].
//!
//! # Errors towards a browser
//!
//! A browser's `EventSource` stops **for ever** at the first 429 or 503 and reads no `Retry-After`.
//! So [`Refusal`] answers a request that accepts `text/event-stream` *softly*, with status 200,
//! `retry:` and the end of the body; everything else gets the status, a jittered `Retry-After` and
//! a problem document (RFC 9457).
#![deny(missing_docs)]
#![forbid(unsafe_code)]

// How long to wait, and why a request is not served.
mod refusal;

// At most so many at once, until the stream ends.
mod gate;

// A rate with a burst.
mod token_bucket;

// At most so many within any stretch of time.
mod sliding_window;

// One machine for each address or name, in bounded memory.
mod keyed;

// Whom a request counts for: its address behind listed proxies.
mod peer;

// The same for proxies that forward bytes.
mod proxy_protocol;

// Delays for those who are sent away, so that they come back one after the other.
mod pacer;

// Delays for those who have a stream, told beforehand.
mod comeback;

// Tokens, and the keys they are checked with.
#[cfg(feature = "auth")]
pub mod auth;

// A remote part that fails is left alone for a while.
mod breaker;

// At most so many bytes of a request's body.
mod body_limit;

// A panic ends one stream, and is counted.
mod panic_guard;

// A record when a stream begins and one when it ends.
mod stream_log;

pub mod layer;

pub use body_limit::{BodyLimit, TooLarge};
pub use breaker::{Attempt, Breaker, BreakerSettings, BreakerState};
pub use comeback::{Comeback, is_outdated};
pub use gate::{Gate, KeyedGate, KeyedPermit, KeyedShare, Permit};
pub use keyed::{Keyed, key_of};
pub use pacer::{Pacer, PacerSettings};
pub use panic_guard::{PanicGuard, Panicked, Watched};
pub use peer::{AddressKey, Network, TrustedProxies};
pub use proxy_protocol::{BadProxyHeader, ProxyPrefix};
pub use refusal::{Refusal, Wait, accepts_event_stream};
pub use sliding_window::{SlidingWindow, WindowLimit};
pub use stream_log::{Closed, Described, LogFormat, Opened, StreamLog};
pub use token_bucket::{Bucket, Rate, TokenBucket};

/// Everything a service is put together with.
pub mod prelude {
    pub use crate::layer::*;
    pub use crate::{
        AddressKey, Breaker, BreakerSettings, Gate, KeyedGate, LogFormat, Opened, Pacer,
        PacerSettings, PanicGuard, Rate, StreamLog, TokenBucket, WindowLimit,
    };
}
