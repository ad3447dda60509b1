//! Where drafts wait for the committer: bounded by count and bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::lock::lock;
use crate::{AppendError, AppendErrorKind, Appended, Draft, Reply};

/// A draft that waits.
pub(crate) struct Pending {
    pub(crate) draft: Draft,
    /// Bytes of its record.
    pub(crate) bytes: usize,
    pub(crate) answer: Answer,
}

/// A reply that is called exactly once, also when the committer's thread dies with it.
pub(crate) struct Answer(Option<Reply>);

impl Answer {
    pub(crate) fn give(mut self, outcome: Result<Appended, AppendError>) {
        if let Some(reply) = self.0.take() {
            reply(outcome);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(reply) = self.0.take() {
            reply(Err(AppendError {
                kind: AppendErrorKind::Failed,
                detail: "the log's thread ended".into(),
            }));
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
    limits: IntakeLimits,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    bytes: usize,
    is_closed: bool,
    /// The committer sleeps: only then does a push need the system call that wakes it.
    is_idle: bool,
}

impl Intake {
    pub(crate) fn new(limits: IntakeLimits) -> Self {
        Self {
            limits,
            state: Mutex::new(State::default()),
            work: Condvar::new(),
        }
    }

    /// Lets a draft wait, or answers at once: closed, or at the bound.
    pub(crate) fn push(&self, draft: Draft, bytes: usize, reply: Reply) {
        let mut state = lock(&self.state);
        let refusal = if state.is_closed {
            Some((AppendErrorKind::Closed, "the log is closed".into()))
        } else if self.is_full(&state, bytes) {
            let detail = format!("{} events, {} bytes", state.waiting.len(), state.bytes);
            Some((AppendErrorKind::Busy, detail))
        } else {
            None
        };
        if let Some((kind, detail)) = refusal {
            // The reply may append again.
            drop(state);
            return reply(Err(AppendError { kind, detail }));
        }
        state.bytes += bytes;
        state.waiting.push_back(Pending {
            draft,
            bytes,
            answer: Answer(Some(reply)),
        });
        let is_idle = std::mem::take(&mut state.is_idle);
        drop(state);
        if is_idle {
            self.work.notify_one();
        }
    }

    fn is_full(&self, state: &State, bytes: usize) -> bool {
        // One event of any size may wait alone.
        !state.waiting.is_empty()
            && (state.waiting.len() >= self.limits.waiting_events
                || state.bytes + bytes > self.limits.waiting_bytes)
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
        while let Some(pending) = state.waiting.front()
            && batch.len() < self.limits.batch_events
            && (batch.is_empty() || bytes + pending.bytes <= self.limits.batch_bytes)
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
