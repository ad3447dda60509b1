//! What the log has decided on its way to those who wait for it: a batch's answers go to the
//! runtime together.
//!
//! Given one by one by the log's thread, each answer would wake a thread of the runtime, and where
//! the two share a core they would take turns for each event of a batch.

use std::cell::RefCell;
use std::sync::Arc;

use gush_log::{AppendError, Appended, Position, RecordRef, Tail};
use tokio::runtime::Handle;
use tokio::sync::oneshot::Sender;

use crate::window::Window;

#[cfg(test)]
#[path = "answered/tests.rs"]
mod tests;

/// An outcome, and who waits for it.
#[derive(Debug)]
pub(crate) enum Answered {
    /// Of one event.
    One(
        Sender<Result<Appended, AppendError>>,
        Result<Appended, AppendError>,
    ),
    /// Of many that were appended together.
    Many(
        Sender<Vec<Result<Position, AppendError>>>,
        Vec<Result<Position, AppendError>>,
    ),
}

thread_local! {
    /// The answers of a batch, while this thread gives them.
    static HELD: RefCell<Option<Vec<Answered>>> = const { RefCell::new(None) };
}

impl Answered {
    /// Hands it over: at once, or with the rest of its batch.
    pub(crate) fn deliver(self) {
        let alone = HELD.with_borrow_mut(|held| match held {
            Some(held) => {
                held.push(self);
                None
            }
            None => Some(self),
        });
        if let Some(alone) = alone {
            alone.send();
        }
    }

    fn send(self) {
        // Who waited may have gone away; the events stay.
        match self {
            Self::One(waiting, outcome) => drop(waiting.send(outcome)),
            Self::Many(waiting, outcomes) => drop(waiting.send(outcomes)),
        }
    }
}

/// The hub as the log's tail: events go to the window, answers to the runtime.
pub(crate) struct HubTail {
    window: Arc<Window>,
    runtime: Handle,
}

impl HubTail {
    /// To be made inside the runtime of those who publish.
    pub(crate) fn new(window: Arc<Window>) -> Self {
        Self {
            window,
            runtime: Handle::current(),
        }
    }
}

impl Tail for HubTail {
    fn committed(&self, events: &mut dyn Iterator<Item = RecordRef<'_>>) {
        self.window.committed(events);
    }

    fn replying(&self, reply_all: &mut dyn FnMut()) {
        if HELD.with_borrow(Option::is_some) {
            // A reply that has appended again: this goes out with the batch around it.
            return reply_all();
        }
        HELD.set(Some(Vec::new()));
        let _held = SendAtEnd(&self.runtime);
        reply_all();
    }
}

/// Sends what is held, also when a reply has panicked: nobody waits for ever.
struct SendAtEnd<'a>(&'a Handle);

impl Drop for SendAtEnd<'_> {
    fn drop(&mut self) {
        let mut held = HELD.take().unwrap_or_default();
        if held.len() > 1 {
            // One wake for all. A runtime that has ended drops them, which is an answer, too.
            self.0
                .spawn(async move { held.into_iter().for_each(Answered::send) });
        } else if let Some(alone) = held.pop() {
            alone.send();
        }
    }
}
