//! The log as the rest of the hub sees it, while an upgrade passes it on to another process.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use gush_log::{
    AppendError, AppendErrorKind, Appended, AtOnce, BatchReply, Bounds, Draft, Located, Log,
    Offset, Position, ReadEnd, ReadError, ReadLimit, RecordRef, Reply, Tail,
};

use super::channel::Channel;
use super::relay::{Relay, WAITING_MAX, bytes_of};

/// A log that can change hands: this process's own, held while it is passed on, or the new
/// process's.
///
/// Publishes that come while it is held wait, and go to whoever has the log then. What was stored
/// before stays readable here.
pub(crate) struct Baton {
    keeper: RwLock<Keeper>,
    tail: OnceLock<Arc<dyn Tail>>,
    /// How many events, and bytes of them, may wait for the log; also for one opened anew.
    waiting_max: Mutex<Option<(usize, usize)>>,
}

enum Keeper {
    Own(Arc<dyn Log>),
    Held(Arc<dyn Log>, Mutex<Queue>),
    Away(Arc<dyn Log>, Relay),
}

/// Publishes that wait, and what they come to.
#[derive(Default)]
struct Queue {
    publishes: Vec<Waiting>,
    events: usize,
    bytes: usize,
}

enum Waiting {
    One(Draft, Reply),
    Many(Vec<Draft>, BatchReply),
}

impl Keeper {
    const fn log(&self) -> &Arc<dyn Log> {
        match self {
            Self::Own(log) | Self::Held(log, _) | Self::Away(log, _) => log,
        }
    }
}

impl Waiting {
    fn append_to(self, log: &dyn Log) {
        match self {
            Self::One(draft, reply) => log.append(draft, reply),
            Self::Many(drafts, reply) => log.append_batch(drafts, reply),
        }
    }

    fn drafts(&self) -> &[Draft] {
        match self {
            Self::One(draft, _) => std::slice::from_ref(draft),
            Self::Many(drafts, _) => drafts,
        }
    }

    fn send_by(self, relay: &Relay) {
        match self {
            Self::One(draft, reply) => relay.append(draft, reply),
            Self::Many(drafts, reply) => send_batch(relay, drafts, reply),
        }
    }
}

impl Baton {
    pub(crate) fn new(log: Arc<dyn Log>) -> Self {
        Self {
            keeper: RwLock::new(Keeper::Own(log)),
            tail: OnceLock::new(),
            waiting_max: Mutex::default(),
        }
    }

    /// From now on publishes wait. What was under way in the log itself is its own to answer.
    pub(super) fn hold(&self) -> Arc<dyn Log> {
        let mut keeper = self.keeper_mut();
        let log = Arc::clone(keeper.log());
        if let Keeper::Own(_) = *keeper {
            *keeper = Keeper::Held(Arc::clone(&log), Mutex::default());
        }
        log
    }

    /// The log stays here, as the same or opened anew: what waited is appended to it. What the
    /// other process stored meanwhile is told to the tail.
    pub(super) fn keep(&self, log: &Arc<dyn Log>) {
        let mut keeper = self.keeper_mut();
        let is_new = !Arc::ptr_eq(keeper.log(), log);
        if is_new && let Some(tail) = self.tail.get() {
            catch_up(&**log, keeper.log().bounds().next, &**tail);
            log.set_tail(Arc::clone(tail));
        }
        if is_new && let Some((events, bytes)) = *self.lock_waiting_max() {
            log.set_waiting_max(events, bytes);
        }
        let before = std::mem::replace(&mut *keeper, Keeper::Own(Arc::clone(log)));
        for waiting in before.waiting() {
            waiting.append_to(&**log);
        }
    }

    /// The log is the other process's: what waited is sent there.
    pub(super) fn give(&self, channel: Channel) -> std::io::Result<()> {
        let relay = Relay::start(channel, self.bound())?;
        let mut keeper = self.keeper_mut();
        let log = Arc::clone(keeper.log());
        let waiting = std::mem::replace(&mut *keeper, Keeper::Own(Arc::clone(&log))).waiting();
        for waiting in waiting {
            waiting.send_by(&relay);
        }
        *keeper = Keeper::Away(log, relay);
        Ok(())
    }

    /// The most events, and bytes of them, that wait here.
    fn bound(&self) -> (usize, usize) {
        self.lock_waiting_max().unwrap_or((WAITING_MAX, usize::MAX))
    }

    fn lock_waiting_max(&self) -> MutexGuard<'_, Option<(usize, usize)>> {
        let waiting_max = self.waiting_max.lock();
        waiting_max.unwrap_or_else(PoisonError::into_inner)
    }

    fn keeper(&self) -> RwLockReadGuard<'_, Keeper> {
        self.keeper.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn keeper_mut(&self) -> RwLockWriteGuard<'_, Keeper> {
        self.keeper.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log that reads are served by. Not under the lock: a read may take long.
    fn readable(&self) -> Arc<dyn Log> {
        Arc::clone(self.keeper().log())
    }
}

impl Keeper {
    fn waiting(self) -> Vec<Waiting> {
        match self {
            Self::Held(_, queue) => {
                let queue = queue.into_inner().unwrap_or_else(PoisonError::into_inner);
                queue.publishes
            }
            Self::Own(_) | Self::Away(..) => Vec::new(),
        }
    }
}

/// Lets a publish wait, unless too much does. One of any size may wait alone.
fn wait(queue: &Mutex<Queue>, bound: (usize, usize), publish: Waiting) {
    let drafts = publish.drafts();
    let (events, bytes) = (drafts.len(), drafts.iter().map(bytes_of).sum());
    let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let now = (
        queue.events.saturating_add(events),
        queue.bytes.saturating_add(bytes),
    );
    if queue.publishes.is_empty() || now.0 <= bound.0.min(WAITING_MAX) && now.1 <= bound.1 {
        (queue.events, queue.bytes) = now;
        return queue.publishes.push(publish);
    }
    drop(queue);
    let busy = || AppendError {
        kind: AppendErrorKind::Busy,
        detail: "too many publishes wait for an upgrade".into(),
    };
    match publish {
        Waiting::One(_, reply) => reply(Err(busy())),
        Waiting::Many(drafts, reply) => reply(drafts.iter().map(|_| Err(busy())).collect()),
    }
}

/// The outcomes of a batch whose events are relayed one by one.
struct Gathered {
    outcomes: Vec<Option<Result<Position, AppendError>>>,
    missing: usize,
    reply: Option<BatchReply>,
}

fn send_batch(relay: &Relay, drafts: Vec<Draft>, reply: BatchReply) {
    if drafts.is_empty() {
        return reply(Vec::new());
    }
    let gathered = Arc::new(Mutex::new(Gathered {
        outcomes: drafts.iter().map(|_| None).collect(),
        missing: drafts.len(),
        reply: Some(reply),
    }));
    for (index, draft) in drafts.into_iter().enumerate() {
        let gathered = Arc::clone(&gathered);
        let one = move |outcome: Result<Appended, AppendError>| {
            let mut all = gathered.lock().unwrap_or_else(PoisonError::into_inner);
            all.outcomes[index] = Some(outcome.map(|appended| appended.position));
            all.missing -= 1;
            if all.missing == 0
                && let Some(reply) = all.reply.take()
            {
                let outcomes = std::mem::take(&mut all.outcomes);
                drop(all);
                reply(outcomes.into_iter().flatten().collect());
            }
        };
        relay.append(draft, Box::new(one));
    }
}

/// Tells the tail of everything in the log from an offset on.
fn catch_up(log: &dyn Log, from: Offset, tail: &dyn Tail) {
    let limit = ReadLimit {
        events_max: 1024,
        bytes_max: 4 << 20,
    };
    let mut next = from;
    while next < log.bounds().next {
        let read = log.read(next, limit, &mut |event| {
            tail.committed(&mut std::iter::once(*event));
            gush_log::Flow::Continue
        });
        match read {
            Ok(end) if end.next > next => next = end.next,
            // Subscribers find the loss by themselves when they read there.
            _ => return,
        }
    }
}

impl Log for Baton {
    fn append(&self, draft: Draft, reply: Reply) {
        let keeper = self.keeper();
        match &*keeper {
            Keeper::Own(log) => match log.append_at_once(draft) {
                // Outside the lock, for a reply may append again.
                AtOnce::Done(outcome) => {
                    drop(keeper);
                    reply(outcome);
                }
                AtOnce::MustWait(draft) => log.append(draft, reply),
            },
            Keeper::Held(_, queue) => wait(queue, self.bound(), Waiting::One(draft, reply)),
            Keeper::Away(_, relay) => relay.append(draft, reply),
        }
    }

    fn append_at_once(&self, draft: Draft) -> AtOnce {
        match &*self.keeper() {
            Keeper::Own(log) => log.append_at_once(draft),
            Keeper::Held(..) | Keeper::Away(..) => AtOnce::MustWait(draft),
        }
    }

    fn append_batch(&self, drafts: Vec<Draft>, reply: BatchReply) {
        match &*self.keeper() {
            Keeper::Own(log) => log.append_batch(drafts, reply),
            Keeper::Held(_, queue) => wait(queue, self.bound(), Waiting::Many(drafts, reply)),
            Keeper::Away(_, relay) => send_batch(relay, drafts, reply),
        }
    }

    fn set_waiting_max(&self, events: usize, bytes: usize) {
        let keeper = self.keeper();
        *self.lock_waiting_max() = Some((events, bytes));
        keeper.log().set_waiting_max(events, bytes);
    }

    fn waiting(&self) -> (usize, usize) {
        self.keeper().log().waiting()
    }

    fn set_tail(&self, tail: Arc<dyn Tail>) {
        let keeper = self.keeper();
        if self.tail.set(Arc::clone(&tail)).is_ok() {
            keeper.log().set_tail(tail);
        }
    }

    fn bounds(&self) -> Bounds {
        self.keeper().log().bounds()
    }

    fn locate(&self, id: &str) -> Located {
        self.keeper().log().locate(id)
    }

    fn search(&self, id: &str) -> Result<Option<Offset>, ReadError> {
        self.readable().search(id)
    }

    fn read(
        &self,
        from: Offset,
        limit: ReadLimit,
        visit: &mut dyn FnMut(&RecordRef<'_>) -> gush_log::Flow,
    ) -> Result<ReadEnd, ReadError> {
        self.readable().read(from, limit, visit)
    }

    fn writable(&self) -> Result<(), String> {
        match &*self.keeper() {
            Keeper::Own(log) => log.writable(),
            Keeper::Held(..) | Keeper::Away(..) => Ok(()),
        }
    }

    fn close(&self) -> Result<(), AppendError> {
        match &*self.keeper() {
            Keeper::Own(log) => log.close(),
            // Closed before it was passed on.
            Keeper::Held(..) | Keeper::Away(..) => Ok(()),
        }
    }

    fn describe(&self) -> String {
        self.keeper().log().describe()
    }
}
