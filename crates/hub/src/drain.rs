//! The orderly end: not ready, no new streams, streams closed at a steady rate, publishes answered.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::hub::Hub;
use crate::shard::{Command, ShardThread};

/// How long requests that are still being served may take once all streams are closed.
const REQUESTS_GRACE: Duration = Duration::from_secs(3);

/// How long answers may take that are under way when the process ends.
const FAREWELLS_GRACE: Duration = Duration::from_millis(250);

/// Whoever ends a hub has told it once more: it is not to wait.
pub(crate) type Hurried = watch::Receiver<bool>;

/// Ends all streams over the drain window, after its delay, then the connections and what they
/// still serve. Once more told to end, it closes all streams that are left at once.
///
/// Publishes are taken until the end: they are in the log, and their subscribers come back.
pub(crate) async fn drain(
    hub: &Arc<Hub>,
    shards: Vec<ShardThread>,
    stop: &watch::Sender<bool>,
    mut hurried: Hurried,
) {
    let settings = &hub.policy.load_full().settings;
    let (delay, window) = (settings.drain_delay, settings.drain_window);
    hub.begin_lame_duck();
    if delay.is_zero() {
        // Before it is said: who has read that line gets no stream any more.
        hub.begin_drain();
    }
    tracing::info!(?delay, ?window, connections = hub.connections(), "draining");
    if !delay.is_zero() {
        let told_again = hurried.wait_for(|is_hurried| *is_hurried);
        // Either way it is time.
        let _ = tokio::time::timeout(delay, told_again).await;
        hub.begin_drain();
    }
    close_all(hub, window);
    let hurry = async {
        if hurried.wait_for(|is_hurried| *is_hurried).await.is_err() {
            return std::future::pending().await;
        }
        close_all(hub, Duration::ZERO);
        std::future::pending::<()>().await;
    };
    let ending = async {
        ended(shards).await;
        end_connections(hub, stop).await;
    };
    tokio::select! {
        () = ending => {}
        () = hurry => {}
    }
}

fn close_all(hub: &Hub, window: Duration) {
    for shard in &hub.shards {
        // A shard that has ended has nothing to drain.
        let _ = shard.inbox.send(Command::Drain(window));
    }
}

/// The last step: from now on nobody is answered any more. Those whose answer is under way get it.
pub(crate) async fn end(hub: &Hub, end: &watch::Sender<bool>) {
    end.send_replace(true);
    let quiet = tokio::time::timeout(FAREWELLS_GRACE, hub.farewells_said());
    // Else they are told to come again in another way, by the end of their connection.
    let _ = quiet.await;
}

/// Waits until the shards have ended their streams.
pub(crate) async fn ended(shards: Vec<ShardThread>) {
    let ended = tokio::task::spawn_blocking(move || {
        for shard in shards {
            if shard.join().is_err() {
                tracing::error!("a shard ended by a panic");
            }
        }
    });
    let _ = ended.await;
}

/// Waits until no connection is open; whether that was so in time.
pub(crate) async fn is_quiet(hub: &Hub, patience: Duration) -> bool {
    let quiet = tokio::time::timeout(patience, async {
        while hub.connections() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    quiet.await.is_ok()
}

/// Ends the connections: those with nothing to do at once, the others when they are done, all
/// after [`REQUESTS_GRACE`].
pub(crate) async fn end_connections(hub: &Hub, stop: &watch::Sender<bool>) {
    stop.send_replace(true);
    if !is_quiet(hub, REQUESTS_GRACE).await {
        tracing::warn!(
            connections = hub.connections(),
            "connections cut at the end of the drain"
        );
    }
    tracing::info!("drained");
}
