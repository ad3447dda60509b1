//! What every backend must do with many appends in one call, and with one that need not wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use super::{Backend, Outcome, PATIENCE, Witness, append, draft, draft_with_id, read_all, resolve};
use crate::{AppendError, AppendErrorKind, AtOnce, Draft, Log, Offset, Position, Tail};

type Outcomes = Vec<Result<Position, AppendError>>;

pub(super) fn check(backend: &dyn Backend) {
    a_batch_is_appended_in_its_order(&backend.fresh());
    an_empty_batch_is_answered(&backend.fresh());
    one_refused_event_does_not_refuse_the_others(&backend.fresh());
    the_tail_is_told_of_batches_first(&backend.fresh());
    batches_and_single_events_share_one_order(&backend.fresh());
    a_closed_log_answers_batches(&backend.fresh());
    a_batch_reply_may_append(&backend.fresh());
    at_once_is_an_append_or_nothing(&*backend.fresh());
}

fn start_batch(log: &dyn Log, drafts: Vec<Draft>) -> Receiver<Outcomes> {
    let (sender, receiver) = sync_channel(1);
    let reply = move |outcomes| sender.send(outcomes).expect("called once");
    log.append_batch(drafts, Box::new(reply));
    receiver
}

fn append_batch(log: &dyn Log, drafts: Vec<Draft>) -> Outcomes {
    start_batch(log, drafts)
        .recv_timeout(PATIENCE)
        .expect("an answer")
}

/// The offsets, all stored.
fn offsets(outcomes: &Outcomes) -> Vec<Offset> {
    let offset = |outcome: &Result<Position, _>| outcome.as_ref().expect("stored").offset;
    outcomes.iter().map(offset).collect()
}

fn a_batch_is_appended_in_its_order(log: &Arc<dyn Log>) {
    let first = append(&**log, draft("before")).position.offset.plus(1);
    // More than one write of a disk takes.
    let mut drafts: Vec<Draft> = (0..10_000).map(|n| draft(&n.to_string())).collect();
    drafts[7] = draft_with_id("own", "7");
    let outcomes = append_batch(&**log, drafts);
    let expected: Vec<Offset> = (0..10_000).map(|n| first.plus(n)).collect();
    assert_eq!(offsets(&outcomes), expected);
    let epoch = log.bounds().epoch;
    assert!(outcomes.iter().flatten().all(|at| at.epoch == epoch));
    let (seen, end) = read_all(&**log, first);
    assert_eq!((end.next, end.lost), (first.plus(10_000), 0));
    let data: Vec<String> = (0..10_000).map(|n: u32| n.to_string()).collect();
    assert!(seen.iter().map(|(_, data)| data).eq(&data));
    assert_eq!(resolve(&**log, "own"), Some(first.plus(8)));
    let generated = outcomes[8].as_ref().expect("stored").to_string();
    assert_eq!(resolve(&**log, &generated), Some(first.plus(9)));
}

fn an_empty_batch_is_answered(log: &Arc<dyn Log>) {
    let next = log.bounds().next;
    assert!(append_batch(&**log, Vec::new()).is_empty());
    assert_eq!(log.bounds().next, next);
}

fn one_refused_event_does_not_refuse_the_others(log: &Arc<dyn Log>) {
    // Larger than any backend takes.
    let huge = draft(&"x".repeat(80 << 20));
    let outcomes = append_batch(&**log, vec![draft("1"), huge, draft("3")]);
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().map_err(|error| error.kind).err())
        .collect();
    assert_eq!(kinds, [None, Some(AppendErrorKind::TooLarge), None]);
    let first = outcomes[0].as_ref().expect("stored").offset;
    let data: Vec<String> = read_all(&**log, first).0.into_iter().map(|e| e.1).collect();
    assert_eq!(data, ["1", "3"]);
}

fn the_tail_is_told_of_batches_first(log: &Arc<dyn Log>) {
    let witness = Arc::new(Witness::default());
    log.set_tail(Arc::clone(&witness) as Arc<dyn Tail>);
    for _ in 0..20 {
        let (sender, receiver) = sync_channel(1);
        let seen = Arc::clone(&witness);
        let reply = move |outcomes: Outcomes| {
            let newest = offsets(&outcomes).into_iter().max().expect("not empty");
            let told = seen.newest.load(Ordering::SeqCst);
            sender.send(told >= newest.as_u64()).expect("called once");
        };
        log.append_batch(vec![draft("x"); 50], Box::new(reply));
        let is_told = receiver.recv_timeout(PATIENCE).expect("an answer");
        assert!(is_told, "the reply came before the tail was told");
    }
    let seen = witness.offsets();
    let first = seen[0];
    assert_eq!(seen, (first..first + 1000).collect::<Vec<u64>>());
}

fn batches_and_single_events_share_one_order(log: &Arc<dyn Log>) {
    let first = log.bounds().next;
    thread::scope(|scope| {
        for appender in 0..4 {
            scope.spawn(move || {
                for round in 0..20 {
                    let data = |place| format!("{appender} {:03}", round * 10 + place);
                    let batch = start_batch(&**log, (0..9).map(|p| draft(&data(p))).collect());
                    let single = append(&**log, draft(&data(9))).position.offset;
                    let batch = offsets(&batch.recv_timeout(PATIENCE).expect("an answer"));
                    assert!(batch.is_sorted() && batch.iter().all(|at| *at < single));
                }
            });
        }
    });
    let (seen, end) = read_all(&**log, first);
    assert_eq!((seen.len(), end.lost), (800, 0));
    for appender in 0..4 {
        let own = format!("{appender} ");
        let of_one: Vec<_> = seen.iter().filter(|e| e.1.starts_with(&own)).collect();
        assert_eq!(of_one.len(), 200);
        assert!(of_one.is_sorted_by_key(|event| &event.1));
    }
}

fn a_closed_log_answers_batches(log: &Arc<dyn Log>) {
    let waiting = start_batch(&**log, vec![draft("x"); 50]);
    log.close().expect("the last sync works");
    let outcomes = waiting
        .recv_timeout(PATIENCE)
        .expect("answered before the close ended");
    assert_eq!(offsets(&outcomes).len(), 50, "what waited is stored");
    let refused = append_batch(&**log, vec![draft("x"); 2]);
    let is_closed = |outcome: &Result<_, AppendError>| {
        let error = outcome.as_ref().err();
        error.is_some_and(|error| error.kind == AppendErrorKind::Closed)
    };
    assert!(refused.len() == 2 && refused.iter().all(is_closed));
}

fn a_batch_reply_may_append(log: &Arc<dyn Log>) {
    let (sender, receiver) = sync_channel(1);
    let again = Arc::clone(log);
    let reply = move |_: Outcomes| {
        let reply = move |outcomes: Outcomes| sender.send(outcomes).expect("called once");
        again.append_batch(vec![draft("second")], Box::new(reply));
    };
    log.append_batch(vec![draft("first")], Box::new(reply));
    let outcomes = receiver.recv_timeout(PATIENCE).expect("an answer");
    assert_eq!(offsets(&outcomes).len(), 1);
}

fn at_once_is_an_append_or_nothing(log: &dyn Log) {
    let next = log.bounds().next;
    let outcome: Outcome = match log.append_at_once(draft_with_id("own", "x")) {
        AtOnce::Done(outcome) => outcome,
        AtOnce::MustWait(draft) => {
            assert_eq!(log.bounds().next, next, "nothing was appended");
            assert_eq!(draft, draft_with_id("own", "x"));
            return;
        }
    };
    let appended = outcome.expect("stored");
    assert_eq!((appended.position.offset, &*appended.id()), (next, "own"));
    assert_eq!(read_all(log, next).0, [(next.as_u64(), "x".to_owned())]);
    log.close().expect("the last sync works");
    let AtOnce::Done(Err(refused)) = log.append_at_once(draft("x")) else {
        panic!("a closed log takes nothing");
    };
    assert_eq!(refused.kind, AppendErrorKind::Closed);
}
