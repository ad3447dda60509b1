//! Tower layers on the machines of this crate. Each passes the first byte, and every later one, in
//! the poll in which the handler wrote it; what it holds for a request it holds until the body of
//! the answer ends or is dropped.
//!
//! In axum the layer that is added last sees a request first: begin with the panic guard inside and
//! end with the gate outside, so that what is refused costs the least.

// A question about a request's head; what it gives is held until the body ends.
mod check;

// Connections, rates and windows as such questions.
mod limits;

// A good token, for as long as it holds.
#[cfg(feature = "auth")]
mod auth;

// A request's body is counted.
mod body_limit;

// A failing service is left alone.
mod breaker;

// Panics of handlers and bodies.
mod panic_guard;

// A record at the begin and the end of an event stream.
mod stream_log;

#[cfg(feature = "auth")]
pub use auth::{AuthLayer, AuthService, TokenOf, UntilExpiry};
pub use body_limit::{BodyLimitLayer, BodyLimitService, LimitedBody};
pub use breaker::{BreakerLayer, BreakerService};
pub use check::{Check, CheckFuture, CheckLayer, CheckService, HeldBody, Pass};
pub use limits::{
    BucketCheck, BucketLayer, GateCheck, GateLayer, KeyOf, KeyedGateCheck, KeyedGateLayer,
    WindowCheck, WindowLayer,
};
pub use panic_guard::{GuardedBody, PanicGuardLayer, PanicGuardService};
pub use stream_log::{Describe, LoggedBody, StreamLogLayer, StreamLogService};

/// What a body fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
