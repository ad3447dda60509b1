//! The guards that keep a panic from spreading: each ends the one thing that was being served.

use std::sync::Arc;

use gush_middleware::PanicGuard;

/// One guard for each kind of work, so that the metric says where something panicked.
#[derive(Debug)]
pub(crate) struct Panics {
    /// A shard's turns: the stream under visit ends.
    pub(crate) shard: PanicGuard,
    /// Connections and requests: the request, or a connection whose own task panicked, ends.
    pub(crate) request: Arc<PanicGuard>,
    /// Reads of the log for streams that are behind: those that wait for the read end.
    pub(crate) replay: PanicGuard,
}

impl Default for Panics {
    fn default() -> Self {
        Self {
            shard: PanicGuard::new(),
            request: Arc::new(PanicGuard::new()),
            replay: PanicGuard::new(),
        }
    }
}

impl Panics {
    /// Label values of the metric, and how many were caught there.
    pub(crate) fn caught(&self) -> [(&'static str, u64); 3] {
        [
            ("shard", self.shard.caught()),
            ("request", self.request.caught()),
            ("replay", self.replay.caught()),
        ]
    }
}
