//! What reaches a shard from other threads.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::admit::ConnectionPermit;
use crate::presence::Present;
use crate::replay::Chunk;
use crate::selection::Selection;
use crate::socket::Arriving;
use gush_log::Offset;

/// Names one subscriber of a shard for as long as it is there: places are used again, so the
/// generation tells a late answer for a predecessor apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriberKey {
    /// The place.
    pub index: u32,
    /// How often the place was used before.
    pub generation: u32,
}

/// A subscriber on its way into a shard: admitted, answered, its socket bare.
#[derive(Debug)]
pub struct NewSubscriber {
    /// Where its bytes go.
    pub sink: Arriving,
    /// What it wants and may read.
    pub selection: Arc<Selection>,
    /// The first offset it has not had.
    pub start: Offset,
    /// When its token expires, in milliseconds of the hub's clock.
    pub expires_at_ms: Option<u64>,
    /// Its entry in the active subscriptions, if those are on.
    pub present: Option<Arc<Present>>,
    /// Its share of the connection limit, given back when the stream ends.
    pub permit: Option<ConnectionPermit>,
}

/// A request to a shard.
#[derive(Debug)]
pub enum Command {
    /// Take over a subscriber. At most as many as there are connections.
    Subscribe(Box<NewSubscriber>),
    /// What the helper read. At most one per subscriber.
    Chunk(Box<Chunk>),
    /// The pipe of a subscriber has room again. At most one per subscriber.
    PipeRoom(SubscriberKey),
    /// The reader of a pipe went away. At most one per subscriber.
    PipeLeft(SubscriberKey),
    /// End all streams, spread over this time, then the thread. Once.
    Drain(Duration),
}

/// The one way into a shard.
///
/// Bounded by what it carries: see each [`Command`]. New events are not sent at all; the shard
/// takes them from the window after a wake-up.
#[derive(Debug)]
pub struct Inbox {
    /// `None` once the shard has ended.
    commands: Mutex<Option<Vec<Command>>>,
    waker: mio::Waker,
    awake: AtomicBool,
    /// The shard has no subscriber, so events are no reason to wake it.
    vacant: AtomicBool,
    /// Subscribers in the shard and on their way to it.
    streams: AtomicUsize,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self {
            commands: Mutex::new(Some(Vec::new())),
            waker,
            awake: AtomicBool::new(false),
            vacant: AtomicBool::new(true),
            streams: AtomicUsize::new(0),
        }
    }

    /// Adds a command and wakes the shard.
    ///
    /// # Errors
    ///
    /// The command comes back when the shard has ended.
    pub fn send(&self, command: Command) -> Result<(), Command> {
        match &mut *self.lock() {
            Some(commands) => commands.push(command),
            None => return Err(command),
        }
        self.wake();
        Ok(())
    }

    /// Claims a stream's place, if fewer than `max` are taken.
    pub(crate) fn claim(&self, max: usize) -> bool {
        let claim = |streams| (streams < max).then_some(streams + 1);
        self.streams
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim)
            .is_ok()
    }

    /// Gives a stream's place back.
    pub(crate) fn release(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Wakes the shard so that it looks for new events: one system call, none if it is awake.
    pub fn wake(&self) {
        if !self.awake.swap(true, Ordering::SeqCst) {
            // Fails only if the poll is gone, and then so is the shard.
            let _ = self.waker.wake();
        }
    }

    /// Wakes the shard for new events, unless nobody there could want them.
    pub(crate) fn wake_for_events(&self) {
        // Pairs with `set_vacant`: either this sees the shard's first subscriber, or the shard sees
        // the events.
        fence(Ordering::SeqCst);
        if !self.vacant.load(Ordering::Relaxed) {
            self.wake();
        }
    }

    /// Called by the shard before it looks for new events.
    pub(super) fn set_vacant(&self, vacant: bool) {
        if self.vacant.load(Ordering::Relaxed) != vacant {
            self.vacant.store(vacant, Ordering::Relaxed);
            fence(Ordering::SeqCst);
        }
    }

    /// Called by the shard before it looks for work: later wake-ups count again.
    pub(super) fn rearm(&self) {
        self.awake.store(false, Ordering::SeqCst);
    }

    /// Moves the waiting commands to `into`.
    pub(super) fn drain(&self, into: &mut Vec<Command>) {
        if let Some(commands) = &mut *self.lock() {
            into.append(commands);
        }
    }

    /// Takes no more commands, unless some are waiting. Whether it is closed now.
    pub(super) fn close_if_empty(&self) -> bool {
        let mut commands = self.lock();
        if commands
            .as_ref()
            .is_some_and(|commands| !commands.is_empty())
        {
            return false;
        }
        *commands = None;
        true
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Command>>> {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
