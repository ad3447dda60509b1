//! What reaches a shard from other threads.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gush_middleware::KeyedPermit;

use super::leftovers::{Leftover, Leftovers};
use crate::admit::ConnectionPermit;
use crate::balance::Due;
use crate::peer::Client;
use crate::presence::Attendance;
use crate::replay::Chunk;
use crate::selection::Selection;
use crate::socket::{Arriving, Ticket};
use crate::upgrade::Channel;
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
    pub present: Option<Attendance>,
    /// How large the crowd was for which its delay was drawn.
    pub told_level: u8,
    /// Where it goes.
    pub place: ShardPlace,
    /// Whom it is for, for the records of its begin and end.
    pub client: Option<Client>,
    /// Its place in the limit of connections, given back when the stream ends.
    pub connection: ConnectionPermit,
    /// Its share of its subject's, given back then, too.
    pub subject: Option<KeyedPermit>,
    /// Where another process left off with it.
    pub resumed: Option<Resumed>,
}

/// What a stream brings along from another process, beyond its cursor.
#[derive(Clone, Copy, Debug)]
pub struct Resumed {
    /// Bytes of the frame at its cursor that are out.
    pub partial: u32,
    /// How long it may still live.
    pub life_ticks: Option<u32>,
    /// Since when nothing was written to it: its next heartbeat is due as if it had stayed.
    pub silent_ticks: u32,
}

/// A stream's way into a shard, with a place in that shard's descriptor table if it is a socket.
/// The place is given back when this is dropped, unless the shard has taken it over.
#[derive(Debug)]
pub struct ShardPlace {
    inbox: Arc<Inbox>,
    shard: usize,
    is_claimed: bool,
}

impl ShardPlace {
    /// For a socket, if fewer than `max` are in this shard or on their way there.
    pub(crate) fn claim(inbox: &Arc<Inbox>, shard: usize, max: usize) -> Option<Self> {
        let claim = |sockets| (sockets < max).then_some(sockets + 1);
        let claimed = inbox
            .sockets
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, claim);
        claimed.is_ok().then(|| Self {
            inbox: Arc::clone(inbox),
            shard,
            is_claimed: true,
        })
    }

    /// For a stream that takes no descriptor.
    pub(crate) fn without_socket(inbox: &Arc<Inbox>, shard: usize) -> Self {
        Self {
            inbox: Arc::clone(inbox),
            shard,
            is_claimed: false,
        }
    }

    /// The number of the shard.
    pub(crate) const fn shard(&self) -> usize {
        self.shard
    }

    /// The shard has the stream, and gives its place back.
    pub(super) fn settle(mut self) {
        self.is_claimed = false;
    }
}

impl Drop for ShardPlace {
    fn drop(&mut self) {
        if self.is_claimed {
            self.inbox.release();
        }
    }
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
    /// Give the streams that can be given to another process, and end the others as a drain does.
    /// Once.
    HandOver(Box<HandOver>),
    /// End this many streams more for balance. A few a second.
    Rebalance(Due),
    /// Drop this, which tells whoever waits that all before it were obeyed. One for each way by
    /// which streams come over.
    Obeyed(SyncSender<()>),
}

/// See [`Command::HandOver`].
#[derive(Debug)]
pub struct HandOver {
    /// The way to the other process.
    pub(crate) way: Way,
    /// Whether streams under TLS 1.3 may go by it.
    pub(crate) takes_tls: bool,
    /// Most of them in one message, at most [`SOCKETS_MAX`](crate::socket::table::SOCKETS_MAX).
    pub(crate) together: usize,
    /// For the streams that stay.
    pub window: Duration,
}

/// A channel, as it reaches a shard.
#[derive(Debug)]
pub(crate) enum Way {
    /// Usable as it is.
    Here(Channel),
    /// Sent into the shard's own descriptor table.
    Sent(Ticket),
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
    /// Sockets in the shard and on their way to it.
    sockets: AtomicUsize,
    /// The slowest readers are to be ended; see [`Self::ask_to_shed`].
    shed: AtomicBool,
    leftovers: Leftovers,
}

impl Inbox {
    pub(crate) fn new(waker: mio::Waker) -> Self {
        Self {
            commands: Mutex::new(Some(Vec::new())),
            waker,
            awake: AtomicBool::new(false),
            vacant: AtomicBool::new(true),
            sockets: AtomicUsize::new(0),
            shed: AtomicBool::new(false),
            leftovers: Leftovers::default(),
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

    /// Adds some together, in their order.
    ///
    /// # Errors
    ///
    /// All of them come back when the shard has ended.
    pub(crate) fn send_all(&self, some: Vec<Command>) -> Result<(), Vec<Command>> {
        match &mut *self.lock() {
            Some(commands) => commands.extend(some),
            None => return Err(some),
        }
        self.wake();
        Ok(())
    }

    /// Asks for some of the slowest readers to be ended. No command: a shard that is late has to do
    /// it once, however often it was asked.
    pub(crate) fn ask_to_shed(&self) {
        self.shed.store(true, Ordering::Relaxed);
        self.wake();
    }

    pub(super) fn is_shed_asked(&self) -> bool {
        self.shed.swap(false, Ordering::Relaxed)
    }

    /// What is left of newcomers, for another thread to drop. Empties `more`.
    pub(super) fn put_leftovers(&self, more: &mut Vec<Leftover>) {
        self.leftovers.put(more);
    }

    /// Drops what is left of newcomers. Called by who brings the next one, and when a crowd has
    /// come.
    pub(crate) fn drop_leftovers(&self) {
        drop(self.leftovers.take());
    }

    /// Gives a socket's place back.
    pub(super) fn release(&self) {
        self.sockets.fetch_sub(1, Ordering::Relaxed);
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
    pub(super) fn drain(&self, into: &mut VecDeque<Command>) {
        if let Some(commands) = &mut *self.lock() {
            into.extend(commands.drain(..));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_claimed_by_sockets_and_given_back() {
        let poll = mio::Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), mio::Token(0)).expect("a wake-up");
        let inbox = Arc::new(Inbox::new(waker));
        let claim = || ShardPlace::claim(&inbox, 0, 2);
        let first = claim().expect("the first");
        let second = claim().expect("the second");
        assert!(claim().is_none());
        // Streams of HTTP/2 take no descriptor of the shard's.
        drop(ShardPlace::without_socket(&inbox, 0));
        assert!(claim().is_none());
        drop(first);
        let third = claim().expect("what was given back");
        third.settle();
        drop(second);
        assert!(claim().is_some());
        assert_eq!(inbox.sockets.load(Ordering::Relaxed), 1, "the shard's own");
    }
}
