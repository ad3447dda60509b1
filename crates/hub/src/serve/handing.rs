//! The end of a hub in whose place a new process serves.

use std::io;
use std::os::fd::AsFd;
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::{End, Ground, Running, Signals};
use crate::drain;
use crate::error::ServeError;
use crate::hub::{Hub, ShardDoor};
use crate::notify;
use crate::shard::{Command, HandOver, ShardThread, Way};
use crate::upgrade::{Channel, Given, Moving, NotGiven, Offer, Recall, give};

/// The longest time over which streams are closed that cannot go to the new process. Ours: they
/// get no new events meanwhile, and come back to a process that is there.
const LEFT_WINDOW_MAX: Duration = Duration::from_secs(2);

/// The process that serves now, and what it is still to be given.
pub(super) struct Successor {
    child: Child,
    /// For the streams, one for each shard.
    ways: Vec<Channel>,
    takes_tls: bool,
}

impl Running {
    /// Tries to put a new process in this one's place. `None`: this one goes on.
    ///
    /// A signal to end that comes before the new one serves ends that one, and then the hub.
    pub(super) async fn upgrade(
        &self,
        ground: &Ground,
        moving: &watch::Sender<Moving>,
        reply: Option<oneshot::Sender<Result<u32, String>>>,
        signals: &mut Signals,
    ) -> Option<End> {
        let hub = &self.hub;
        let patience = hub.policy.load().settings.upgrade_timeout;
        if !hub.arrivals.streams_are_here(patience).await {
            let reason = "streams still come from the process before this one";
            tracing::error!("upgrade failed, this process goes on: {reason}");
            hub.metrics.upgrade_failed();
            answer(reply, Err(reason.into()));
            return None;
        }
        tracing::info!("upgrade: starting the new process");
        notify::reloading();
        let recall = Arc::new(Recall::default());
        let offer = Offer {
            baton: Arc::clone(&self.baton),
            listeners: Arc::clone(&ground.listeners),
            moving: moving.clone(),
            settings: hub.policy.load_full().settings.clone(),
            ways: hub.shards.len(),
            dev_key: ground.made_key.clone(),
            recall: Arc::clone(&recall),
        };
        let mut giving = tokio::task::spawn_blocking(move || give(&offer));
        let mut is_told_to_end = false;
        let given = tokio::select! {
            given = &mut giving => given,
            () = signals.stop.recv() => {
                is_told_to_end = true;
                recall.call();
                giving.await
            }
        };
        let given = given.unwrap_or_else(|_| {
            let text = "the hand-over panicked; the log has its backtrace";
            Err(NotGiven::Broken(text.into()))
        });
        let (outcome, end) = match given {
            Ok(given) => {
                let pid = given.child.id();
                tracing::info!(pid, "upgrade: the new process serves");
                notify::ready(pid);
                let successor = self.leave_to(given, moving);
                (Ok(pid), Some(End::Given(successor)))
            }
            Err(NotGiven::Kept(reason)) => {
                tracing::error!("upgrade failed, this process goes on: {reason}");
                notify::ready(std::process::id());
                hub.metrics.upgrade_failed();
                (Err(reason), is_told_to_end.then_some(End::Told(None)))
            }
            Err(NotGiven::Broken(reason)) => {
                tracing::error!("upgrade failed, and this process has to end: {reason}");
                let error = ServeError::new(format!("upgrade: {reason}"));
                (Err(reason), Some(End::Told(Some(error))))
            }
        };
        answer(reply, outcome);
        end
    }

    /// From now on the other process serves.
    fn leave_to(&self, given: Given, moving: &watch::Sender<Moving>) -> Successor {
        self.hub.begin_drain();
        // Before the connections are told.
        self.hub.set_heir(given.heir);
        moving.send_replace(Moving::Gone);
        Successor {
            child: given.child,
            ways: given.ways,
            takes_tls: given.takes_tls,
        }
    }
}

fn answer(reply: Option<oneshot::Sender<Result<u32, String>>>, outcome: Result<u32, String>) {
    if let Some(reply) = reply {
        // Whoever asked may have left.
        let _ = reply.send(outcome);
    }
}

/// Hands the streams over, ends those that cannot go, and serves what is under way to its end.
///
/// # Errors
///
/// The new process has failed meanwhile: nobody serves any more.
pub(super) async fn hand_over(
    hub: &Arc<Hub>,
    shards: Vec<ShardThread>,
    stop: &watch::Sender<bool>,
    Successor {
        mut child,
        ways,
        takes_tls,
    }: Successor,
) -> Result<(), ServeError> {
    let drain_window = hub.policy.load().settings.drain_window;
    let window = drain_window.min(LEFT_WINDOW_MAX);
    let mut ways = ways.into_iter();
    for shard in &hub.shards {
        let command = match ways.next() {
            Some(way) => match bring(way, shard).await {
                Ok(way) => Command::HandOver(Box::new(HandOver {
                    way,
                    takes_tls,
                    together: hub.handed_together,
                    window,
                })),
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
    drain::ended(shards).await;
    // What a publisher is in the middle of goes on through the relay, a batch for as long as
    // streams would have when a hub drains.
    drain::is_quiet(hub, drain_window).await;
    drain::end_connections(hub, stop).await;
    if !hub.arrivals.old_process_is_gone(drain_window).await {
        tracing::warn!("the process before this one has not ended: what reaches it is lost");
    }
    match child.try_wait() {
        Ok(Some(status)) if !status.success() => Err(ServeError::new(format!(
            "upgrade: the new process served, and then failed: {status}"
        ))),
        _ => Ok(()),
    }
}

/// A channel that the shard's thread can use.
async fn bring(way: Channel, shard: &ShardDoor) -> io::Result<Way> {
    match &shard.sender {
        None => Ok(Way::Here(way)),
        Some(sender) => sender.send(way.as_fd()).await.map(Way::Sent),
    }
}
