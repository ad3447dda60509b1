//! The end of a hub in whose place a new process serves.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{End, Ground, Running};
use crate::drain;
use crate::error::ServeError;
use crate::hub::{Hub, ShardDoor};
use crate::notify;
use crate::shard::{Command, HandOver, ShardThread, Way};
use crate::upgrade::{Channel, Given, Moving, NotGiven, Offer, give};

/// The longest time over which streams are closed that cannot go to the new process. Ours: they
/// get no new events meanwhile, and come back to a process that is there.
const LEFT_WINDOW_MAX: Duration = Duration::from_secs(2);

impl Running {
    /// Tries to put a new process in this one's place. `None`: this one goes on.
    pub(super) async fn upgrade(
        &self,
        ground: &Ground,
        moving: &watch::Sender<Moving>,
        reply: Option<oneshot::Sender<Result<u32, String>>>,
    ) -> Option<End> {
        tracing::info!("upgrade: starting the new process");
        notify::reloading();
        let hub = &self.hub;
        let offer = Offer {
            baton: Arc::clone(&self.baton),
            listeners: Arc::clone(&ground.listeners),
            moving: moving.clone(),
            settings: hub.policy.load_full().settings.clone(),
            ways: hub.shards.len(),
            dev_key: ground.made_key.clone(),
        };
        let given = tokio::task::spawn_blocking(move || give(&offer)).await;
        let given = given.unwrap_or_else(|_| {
            let text = "the hand-over panicked; the log has its backtrace";
            Err(NotGiven::Broken(text.into()))
        });
        let (answer, end) = match given {
            Ok(Given { pid, heir, ways }) => {
                tracing::info!(pid, "upgrade: the new process serves");
                notify::ready(pid);
                hub.begin_drain();
                // Before the connections are told.
                hub.set_heir(heir);
                moving.send_replace(Moving::Gone);
                (Ok(pid), Some(End::Given(ways)))
            }
            Err(NotGiven::Kept(reason)) => {
                tracing::error!("upgrade failed, this process goes on: {reason}");
                notify::ready(std::process::id());
                hub.metrics.upgrade_failed();
                (Err(reason), None)
            }
            Err(NotGiven::Broken(reason)) => {
                tracing::error!("upgrade failed, and this process has to end: {reason}");
                let error = ServeError::new(format!("upgrade: {reason}"));
                (Err(reason), Some(End::Told(Some(error))))
            }
        };
        if let Some(reply) = reply {
            // Whoever asked may have left.
            let _ = reply.send(answer);
        }
        end
    }
}

/// Hands the streams over, ends those that cannot go, and serves what is under way to its end.
pub(super) async fn hand_over(
    hub: &Arc<Hub>,
    shards: Vec<ShardThread>,
    stop: &watch::Sender<bool>,
    ways: Vec<Channel>,
) {
    let drain_window = hub.policy.load().settings.drain_window;
    let window = drain_window.min(LEFT_WINDOW_MAX);
    let mut ways = ways.into_iter();
    for shard in &hub.shards {
        let command = match ways.next() {
            Some(way) => match bring(way, shard).await {
                Ok(way) => Command::HandOver(Box::new(HandOver { way, window })),
                Err(error) => {
                    tracing::error!(%error, "a shard's streams are not handed over");
                    Command::Drain(window)
                }
            },
            None => Command::Drain(window),
        };
        // A shard that has ended has no streams.
        let _ = shard.inbox.send(command);
    }
    // What a publisher is in the middle of goes on through the relay.
    drain::finish(hub, shards, stop, drain_window.max(drain::REQUESTS_GRACE)).await;
}

/// A channel that the shard's thread can use.
async fn bring(way: Channel, shard: &ShardDoor) -> io::Result<Way> {
    match &shard.sender {
        None => Ok(Way::Here(way)),
        Some(sender) => sender.send(way.as_fd()).await.map(Way::Sent),
    }
}
