//! What still comes from the old process of an upgrade.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

/// Counts the ways by which something may still come; none where nothing was taken over.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    streams: watch::Sender<usize>,
    connections: watch::Sender<usize>,
}

/// What comes by a way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arriving {
    /// Live streams, until a shard of the old process has none left.
    Streams,
    /// Connections, and with them late publishes, until the old process ends.
    Connections,
}

/// A way that is open; closed when this is dropped.
#[derive(Debug)]
pub(super) struct OpenWay(watch::Sender<usize>);

impl Drop for OpenWay {
    fn drop(&mut self) {
        self.0.send_modify(|ways| *ways -= 1);
    }
}

impl Arrivals {
    /// One more way.
    pub(super) fn begin(&self, what: Arriving) -> OpenWay {
        let ways = match what {
            Arriving::Streams => &self.streams,
            Arriving::Connections => &self.connections,
        };
        ways.send_modify(|ways| *ways += 1);
        OpenWay(ways.clone())
    }

    /// Waits until all streams are here; `false` if they are not in time.
    pub(crate) async fn streams_are_here(&self, patience: Duration) -> bool {
        none(&self.streams, patience).await
    }

    /// Waits until the old process has ended; `false` if it has not in time.
    pub(crate) async fn old_process_is_gone(&self, patience: Duration) -> bool {
        none(&self.connections, patience).await
    }
}

async fn none(ways: &watch::Sender<usize>, patience: Duration) -> bool {
    let mut ways = ways.subscribe();
    let closed = ways.wait_for(|ways| *ways == 0);
    matches!(timeout(patience, closed).await, Ok(Ok(_)))
}
