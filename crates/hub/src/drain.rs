//! The orderly end: not ready, no new streams, streams closed at a steady rate, publishes answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::hub::Hub;
use crate::shard::{Command, ShardThread};

/// How long requests that are still being served may take once all streams are closed.
pub(crate) const REQUESTS_GRACE: Duration = Duration::from_secs(3);

/// Ends all streams over the drain window, then the listeners and what they still serve.
///
/// Publishes are taken until the end: they are in the log, and their subscribers come back.
pub(crate) async fn drain(hub: &Arc<Hub>, shards: Vec<ShardThread>, stop: &watch::Sender<bool>) {
    hub.begin_drain();
    let window = hub.policy.load().settings.drain_window;
    tracing::info!(?window, connections = hub.connections(), "draining");
    for shard in &hub.shards {
        // A shard that has ended has nothing to drain.
        let _ = shard.inbox.send(Command::Drain(window));
    }
    finish(hub, shards, stop, REQUESTS_GRACE).await;
}

/// Waits until the shards have ended their streams, then ends the connections: those with nothing
/// to do at once, the others when they are done, all after `patience`.
pub(crate) async fn finish(
    hub: &Arc<Hub>,
    shards: Vec<ShardThread>,
    stop: &watch::Sender<bool>,
    patience: Duration,
) {
    let ended = tokio::task::spawn_blocking(move || {
        for shard in shards {
            if shard.join().is_err() {
                tracing::error!("a shard ended by a panic");
            }
        }
    });
    let _ = ended.await;
    stop.send_replace(true);
    let quiet = tokio::time::timeout(patience, async {
        while hub.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    if quiet.await.is_err() {
        tracing::warn!(
            connections = hub.connections(),
            "connections cut at the end of the drain"
        );
    }
    tracing::info!("drained");
}
