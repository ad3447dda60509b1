//! Answers between a thread that is no part of the runtime and those who wait inside it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::task::{Context, Wake, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use gush_log::{AppendErrorKind, Epoch, Offset};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot::{self, Receiver};

use super::*;

const PATIENCE: Duration = Duration::from_secs(30);

type Outcome = Result<Appended, AppendError>;

fn runtime() -> Runtime {
    let mut runtime = Builder::new_multi_thread();
    runtime.worker_threads(1).build().expect("a runtime")
}

fn tail(runtime: &Runtime) -> HubTail {
    let _inside = runtime.enter();
    let window = Window::new(Offset::FIRST, 1 << 20, 100, Vec::new());
    HubTail::new(Arc::new(window))
}

fn appended(offset: u64) -> Appended {
    let position = Position {
        epoch: Epoch::from_u64(1),
        offset: Offset::from_u64(offset),
    };
    Appended {
        position,
        own_id: None,
    }
}

fn closed() -> Outcome {
    Err(AppendError {
        kind: AppendErrorKind::Closed,
        detail: "closed".into(),
    })
}

/// One who waits: the reply to it, and where its answer comes.
fn waiting(outcome: Outcome) -> (Answered, Receiver<Outcome>) {
    let (sender, receiver) = oneshot::channel();
    (Answered::One(sender, outcome), receiver)
}

fn three() -> (Vec<Answered>, Vec<Receiver<Outcome>>) {
    (1..4).map(|offset| waiting(Ok(appended(offset)))).unzip()
}

fn offsets(runtime: &Runtime, answers: Vec<Receiver<Outcome>>) -> Vec<u64> {
    let offset = |answer: Outcome| answer.expect("stored").position.offset.as_u64();
    let each = answers.into_iter();
    each.map(|answer| offset(runtime.block_on(answer).expect("an answer")))
        .collect()
}

fn reply_to(tail: &HubTail, replies: Vec<Answered>) {
    let mut replies = replies.into_iter();
    tail.replying(&mut || replies.by_ref().for_each(Answered::deliver));
}

/// Notes which thread wakes it.
struct Woken(SyncSender<ThreadId>);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.send(thread::current().id()).expect("noted");
    }
}

#[test]
fn the_answers_of_a_batch_are_given_by_the_runtime() {
    let runtime = runtime();
    let tail = tail(&runtime);
    let (replies, mut answers) = three();
    let (sender, woken) = sync_channel(3);
    let waker = Waker::from(Arc::new(Woken(sender)));
    for answer in &mut answers {
        let polled = std::pin::Pin::new(answer).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    reply_to(&tail, replies);
    for _ in 0..3 {
        let by = woken.recv_timeout(PATIENCE).expect("woken");
        assert_ne!(by, thread::current().id(), "one by one");
    }
    assert_eq!(offsets(&runtime, answers), [1, 2, 3]);
}

#[test]
fn the_answer_of_a_batch_of_one_is_given_at_once() {
    let runtime = runtime();
    let (reply, mut answer) = waiting(Ok(appended(7)));
    reply_to(&tail(&runtime), vec![reply]);
    assert!(answer.try_recv().expect("there").is_ok());
}

#[test]
fn outside_a_batch_an_answer_is_given_at_once() {
    let (reply, mut answer) = waiting(closed());
    reply.deliver();
    assert!(answer.try_recv().expect("there").is_err());
    let (sender, mut answer) = oneshot::channel();
    Answered::Many(sender, Vec::new()).deliver();
    assert!(answer.try_recv().expect("there").is_empty());
}

#[test]
fn a_batch_inside_a_batch_goes_out_with_it() {
    let runtime = runtime();
    let tail = tail(&runtime);
    let (outer, mut answers) = three();
    let (inner, more) = three();
    answers.extend(more);
    let (mut outer, mut inner) = (Some(outer), Some(inner));
    tail.replying(&mut || {
        reply_to(&tail, inner.take().expect("called once"));
        outer
            .take()
            .into_iter()
            .flatten()
            .for_each(Answered::deliver);
    });
    assert_eq!(offsets(&runtime, answers), [1, 2, 3, 1, 2, 3]);
    outside_a_batch_an_answer_is_given_at_once();
}

#[test]
fn what_was_answered_before_a_reply_panics_is_not_lost() {
    let runtime = runtime();
    let tail = tail(&runtime);
    let (replies, answers) = three();
    let mut replies = replies.into_iter();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        tail.replying(&mut || {
            replies.by_ref().for_each(Answered::deliver);
            panic!("a reply panics");
        });
    }));
    assert!(panicked.is_err());
    assert_eq!(offsets(&runtime, answers), [1, 2, 3]);
    outside_a_batch_an_answer_is_given_at_once();
}

#[test]
fn a_runtime_that_has_ended_leaves_nobody_waiting() {
    let runtime = runtime();
    let tail = tail(&runtime);
    drop(runtime);
    let (replies, answers) = three();
    reply_to(&tail, replies);
    for answer in answers {
        // No outcome, as when the log is gone.
        answer
            .blocking_recv()
            .expect_err("nobody is left to send it");
    }
}
