//! Publishes that reach the old process after the log has gone: they are sent on to the new one,
//! and its answers come back. So no publisher's connection has to end for an upgrade.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use gush_log::{
    AppendError, AppendErrorKind, Appended, Draft, Epoch, Log, Offset, Position, Reply,
};
use gush_sse::EventId;
use tokio::sync::mpsc::{self, Sender};

use super::channel::Channel;
use super::message::{EventNote, RelayAnswer, RelayOutcome, Relayed};

/// Publishes that may wait for an answer, as many as may wait for a disk log.
pub(super) const WAITING_MAX: usize = 65_536;

/// The old process's side.
#[derive(Debug)]
pub(super) struct Relay {
    queue: Sender<(Draft, Reply)>,
    waiting: Arc<Load>,
    /// The most events, and bytes of them, on their way.
    bound: (usize, usize),
}

/// What is on its way.
#[derive(Debug, Default)]
struct Load {
    events: AtomicUsize,
    bytes: AtomicUsize,
}

impl Load {
    fn add(&self, bytes: usize) -> (usize, usize) {
        let events = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        (
            events,
            self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes,
        )
    }

    fn take(&self, bytes: usize) {
        self.events.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// About as many bytes as an event takes while it waits.
pub(super) fn bytes_of(draft: &Draft) -> usize {
    let topics = draft.topics.iter().map(|topic| topic.as_str().len());
    draft.data.len() + topics.sum::<usize>() + 128
}

type Pending = Arc<Mutex<HashMap<u64, (Option<EventId>, Reply)>>>;

impl Relay {
    pub(super) fn start(channel: Channel, bound: (usize, usize)) -> io::Result<Self> {
        let answers = channel.try_clone()?;
        let (queue, mut queued) = mpsc::channel::<(Draft, Reply)>(WAITING_MAX);
        let pending = Pending::default();
        let told = Arc::clone(&pending);
        thread::Builder::new()
            .name("relay-answers".into())
            .spawn(move || {
                while let Ok((answer, _)) = answers.receive::<RelayAnswer>() {
                    let found = lock(&told).remove(&answer.number);
                    if let Some((own_id, reply)) = found {
                        reply(outcome_of(answer.outcome, own_id));
                    }
                }
                let left = std::mem::take(&mut *lock(&told));
                for (_, reply) in left.into_values() {
                    reply(Err(gone()));
                }
            })?;
        thread::Builder::new().name("relay".into()).spawn(move || {
            let next = std::iter::from_fn(|| queued.blocking_recv());
            for (number, (draft, reply)) in (0..).zip(next) {
                lock(&pending).insert(number, (draft.id.clone(), reply));
                let event = EventNote::of_draft(draft);
                if channel.send(&Relayed { number, event }, &[]).is_err()
                    && let Some((_, reply)) = lock(&pending).remove(&number)
                {
                    reply(Err(gone()));
                }
            }
        })?;
        Ok(Self {
            queue,
            waiting: Arc::default(),
            bound,
        })
    }

    pub(super) fn append(&self, draft: Draft, reply: Reply) {
        let bytes = bytes_of(&draft);
        let (events, all) = self.waiting.add(bytes);
        // One of any size may be on its way alone.
        if events > self.bound.0.min(WAITING_MAX) || events > 1 && all > self.bound.1 {
            self.waiting.take(bytes);
            return reply(Err(AppendError {
                kind: AppendErrorKind::Busy,
                detail: "too many events wait for the new process".into(),
            }));
        }
        let waiting = Arc::clone(&self.waiting);
        // However it is decided.
        let reply: Reply = Box::new(move |outcome| {
            waiting.take(bytes);
            reply(outcome);
        });
        // It has room: no more wait than it holds.
        if let Err(refused) = self.queue.try_send((draft, reply)) {
            let (_, reply) = refused.into_inner();
            reply(Err(gone()));
        }
    }
}

fn gone() -> AppendError {
    AppendError {
        kind: AppendErrorKind::Closed,
        detail: "the new process of the upgrade is gone".into(),
    }
}

fn outcome_of(outcome: RelayOutcome, own_id: Option<EventId>) -> Result<Appended, AppendError> {
    match outcome {
        RelayOutcome::Appended { epoch, offset } => Ok(Appended {
            position: Position {
                epoch: Epoch::from_u64(epoch),
                offset: Offset::from_u64(offset),
            },
            own_id,
        }),
        RelayOutcome::Refused { kind, detail } => {
            let kind = KINDS.get(usize::from(kind)).copied();
            let kind = kind.unwrap_or(AppendErrorKind::Failed);
            Err(AppendError { kind, detail })
        }
    }
}

/// By their numbers in a message.
const KINDS: [AppendErrorKind; 5] = [
    AppendErrorKind::Full,
    AppendErrorKind::Failed,
    AppendErrorKind::Busy,
    AppendErrorKind::TooLarge,
    AppendErrorKind::Closed,
];

fn told(outcome: Result<Appended, AppendError>) -> RelayOutcome {
    match outcome {
        Ok(Appended { position, .. }) => RelayOutcome::Appended {
            epoch: position.epoch.as_u64(),
            offset: position.offset.as_u64(),
        },
        Err(error) => {
            let kind = KINDS.iter().position(|kind| *kind == error.kind);
            RelayOutcome::Refused {
                kind: kind.and_then(|kind| u8::try_from(kind).ok()).unwrap_or(1),
                detail: error.detail,
            }
        }
    }
}

/// The new process's side: appends what the old one sends until that ends.
pub(super) fn serve(channel: Channel, log: Arc<dyn Log>) -> io::Result<()> {
    let asked = channel.try_clone()?;
    // As many as the old process lets wait, so that there is always room.
    let (answers, mut answered) = mpsc::channel::<RelayAnswer>(WAITING_MAX);
    thread::Builder::new()
        .name("relay-answers".into())
        .spawn(move || {
            while let Some(answer) = answered.blocking_recv() {
                if channel.send(&answer, &[]).is_err() {
                    return;
                }
            }
        })?;
    thread::Builder::new().name("relay".into()).spawn(move || {
        while let Ok((Relayed { number, event }, _)) = asked.receive() {
            let answers = answers.clone();
            let answer = move |outcome| {
                let outcome = told(outcome);
                // The old process may be gone; the event stays.
                let _ = answers.try_send(RelayAnswer { number, outcome });
            };
            match event.into_draft() {
                Some(draft) => log.append(draft, Box::new(answer)),
                None => answer(Err(AppendError {
                    kind: AppendErrorKind::Failed,
                    detail: "the old process sent no event".into(),
                })),
            }
        }
    })?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
