//! Where drafts wait for the committer: bounded by count and bytes.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::lock::lock;
use gush_sse::EventId;

use crate::{AppendError, AppendErrorKind, Appended, BatchReply, Draft, Position, Reply};

/// A draft that waits.
pub(crate) struct Pending {
    pub(crate) draft: Draft,
    /// Bytes of its record.
    pub(crate) bytes: usize,
    pub(crate) answer: Answer,
}

/// A reply that is called exactly once, also when the committer's thread dies with it.
pub(crate) struct Answer(Option<Kind>);

enum Kind {
    Alone(Reply),
    Part(Arc<Gathering>, usize),
}

impl Answer {
    pub(crate) fn alone(reply: Reply) -> Self {
        Self(Some(Kind::Alone(reply)))
    }

    /// The event is stored.
    pub(crate) fn stored(mut self, position: Position, own_id: Option<EventId>) {
        match self.0.take() {
            Some(Kind::Alone(reply)) => reply(Ok(Appended { position, own_id })),
            Some(Kind::Part(gathering, index)) => gathering.set(index, Ok(position)),
            None => {}
        }
    }

    pub(crate) fn refused(mut self, error: AppendError) {
        self.refuse(error);
    }

    fn refuse(&mut self, error: AppendError) {
        match self.0.take() {
            Some(Kind::Alone(reply)) => reply(Err(error)),
            Some(Kind::Part(gathering, index)) => gathering.set(index, Err(error)),
            None => {}
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.refuse(AppendError {
                kind: AppendErrorKind::Failed,
                detail: "the log's thread ended".into(),
            });
        }
    }
}

/// The outcomes of a batch on their way to its one reply.
pub(crate) struct Gathering(Mutex<Gathered>);

struct Gathered {
    outcomes: Vec<Option<Result<Position, AppendError>>>,
    missing: usize,
    reply: Option<BatchReply>,
}

impl Gathering {
    /// An answer for each of `count` drafts, at least one.
    pub(crate) fn answers(count: usize, reply: BatchReply) -> impl Iterator<Item = Answer> {
        let gathering = Arc::new(Self(Mutex::new(Gathered {
            outcomes: vec![None; count],
            missing: count,
            reply: Some(reply),
        })));
        (0..count).map(move |index| Answer(Some(Kind::Part(Arc::clone(&gathering), index))))
    }

    fn set(&self, index: usize, outcome: Result<Position, AppendError>) {
        let mut gathered = lock(&self.0);
        gathered.outcomes[index] = Some(outcome);
        gathered.missing -= 1;
        if gathered.missing > 0 {
            return;
        }
        let outcomes = std::mem::take(&mut gathered.outcomes);
        let reply = gathered.reply.take();
        // The reply may append again.
        drop(gathered);
        if let Some(reply) = reply {
            reply(outcomes.into_iter().flatten().collect());
        }
    }
}

/// The most that may wait, and the most that one batch takes; inclusive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IntakeLimits {
    pub(crate) waiting_events: usize,
    pub(crate) waiting_bytes: usize,
    pub(crate) batch_events: usize,
    pub(crate) batch_bytes: usize,
}

pub(crate) struct Intake {
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    limits: IntakeLimits,
    waiting: VecDeque<Pending>,
    bytes: usize,
    is_closed: bool,
    /// The committer sleeps: only then does a push need the system call that wakes it.
    is_idle: bool,
}

impl State {
    fn is_full(&self, bytes: usize) -> bool {
        // One event of any size may wait alone.
        !self.waiting.is_empty()
            && (self.waiting.len() >= self.limits.waiting_events
                || self.bytes + bytes > self.limits.waiting_bytes)
    }
}

impl Intake {
    pub(crate) fn new(limits: IntakeLimits) -> Self {
        let state = State {
            limits,
            waiting: VecDeque::new(),
            bytes: 0,
            is_closed: false,
            is_idle: false,
        };
        Self {
            state: Mutex::new(state),
            work: Condvar::new(),
        }
    }

    /// Lets drafts wait, each with the bytes of its record; answers those at once that may not:
    /// closed, or at the bound.
    pub(crate) fn push(&self, arriving: impl IntoIterator<Item = Pending>) {
        let mut state = lock(&self.state);
        let mut refused = Vec::new();
        for pending in arriving {
            if state.is_closed {
                refused.push((
                    pending.answer,
                    AppendErrorKind::Closed,
                    "the log is closed".into(),
                ));
            } else if state.is_full(pending.bytes) {
                let detail = format!("{} events, {} bytes", state.waiting.len(), state.bytes);
                refused.push((pending.answer, AppendErrorKind::Busy, detail));
            } else {
                state.bytes += pending.bytes;
                state.waiting.push_back(pending);
            }
        }
        let is_idle = !state.waiting.is_empty() && std::mem::take(&mut state.is_idle);
        drop(state);
        if is_idle {
            self.work.notify_one();
        }
        // The replies may append again.
        for (answer, kind, detail) in refused {
            answer.refused(AppendError { kind, detail });
        }
    }

    /// Changes how much may wait. What waits already goes on waiting.
    pub(crate) fn set_waiting_max(&self, events: usize, bytes: usize) {
        let limits = &mut lock(&self.state).limits;
        limits.waiting_events = events;
        limits.waiting_bytes = bytes;
    }

    /// Events that wait, and bytes of their records.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = lock(&self.state);
        (state.waiting.len(), state.bytes)
    }

    /// Moves a batch over, oldest first; waits up to `patience` for the first draft. `true`: the
    /// intake is closed and nothing waits any more.
    pub(crate) fn take(&self, batch: &mut Vec<Pending>, patience: Duration) -> bool {
        let mut state = lock(&self.state);
        if state.waiting.is_empty() && !state.is_closed && !patience.is_zero() {
            state.is_idle = true;
            let waited = self.work.wait_timeout_while(state, patience, |state| {
                state.waiting.is_empty() && !state.is_closed
            });
            (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            state.is_idle = false;
        }
        let mut bytes = 0;
        let limits = state.limits;
        while let Some(pending) = state.waiting.front()
            && batch.len() < limits.batch_events
            && (batch.is_empty() || bytes + pending.bytes <= limits.batch_bytes)
        {
            bytes += pending.bytes;
            batch.extend(state.waiting.pop_front());
        }
        state.bytes -= bytes;
        state.is_closed && batch.is_empty()
    }

    /// Refuses what comes from now on.
    pub(crate) fn close(&self) {
        lock(&self.state).is_closed = true;
        self.work.notify_one();
    }

    /// Refuses and answers everything: the committer is gone.
    pub(crate) fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut lock(&self.state).waiting);
        // Dropping an answer gives it, outside the lock.
        drop(waiting);
    }
}
