//! Replies of a batch go through the tail, and nobody waits for ever whatever it does.

use std::sync::mpsc::{Receiver, sync_channel};

use super::rig::{CONFIG, Outcome};
use super::*;
use crate::sim::{Faults, SimHost};

type Notes = Arc<Mutex<Vec<&'static str>>>;

/// How a tail has replies called.
#[derive(Clone, Copy)]
enum Way {
    Usual,
    /// Not at all.
    Never,
    PanicsBefore,
    PanicsAfter,
}

/// Notes what it is told, in order.
struct Noting {
    notes: Notes,
    way: Way,
}

impl Tail for Noting {
    fn committed(&self, _: &mut dyn Iterator<Item = RecordRef<'_>>) {
        lock(&self.notes).push("committed");
    }

    fn replying(&self, reply_all: &mut dyn FnMut()) {
        lock(&self.notes).push("replying");
        match self.way {
            Way::Usual => reply_all(),
            Way::Never => {}
            Way::PanicsBefore => panic!("before the replies"),
            Way::PanicsAfter => {
                reply_all();
                panic!("after the replies");
            }
        }
        lock(&self.notes).push("replied");
    }
}

/// Three events that wait for a committer that does not run yet.
fn three_wait(host: &SimHost, way: Way) -> (DiskLog, Committer, Notes, Vec<Receiver<Outcome>>) {
    let files = Arc::new(host.clone());
    let (log, committer, _) =
        DiskLog::open_on(files, "sim".into(), CONFIG, Sealing::Inline).expect("opens");
    let notes = Notes::default();
    log.set_tail(Arc::new(Noting {
        notes: Arc::clone(&notes),
        way,
    }));
    let start = |data| {
        let (sender, receiver) = sync_channel(1);
        let notes = Arc::clone(&notes);
        let reply = move |outcome| {
            lock(&notes).push("reply");
            sender.send(outcome).expect("called once");
        };
        log.append(draft(data), Box::new(reply));
        receiver
    };
    let answers = ["1", "2", "3"].map(start).into();
    (log, committer, notes, answers)
}

fn commit(log: &DiskLog, committer: &mut Committer) {
    let mut batch = Vec::new();
    log.shared.intake.take(&mut batch, Duration::ZERO);
    committer.commit(&mut batch);
}

fn stored(answers: &[Receiver<Outcome>]) -> Vec<bool> {
    let patience = Duration::from_secs(30);
    let answer = |answer: &Receiver<Outcome>| answer.recv_timeout(patience).expect("an answer");
    answers
        .iter()
        .map(answer)
        .map(|outcome| outcome.is_ok())
        .collect()
}

const ALL: [&str; 5] = ["replying", "reply", "reply", "reply", "replied"];

#[test]
fn a_batch_is_shown_and_then_answered_through_the_tail() {
    let (log, mut committer, notes, answers) = three_wait(&SimHost::new(1), Way::Usual);
    commit(&log, &mut committer);
    assert_eq!(stored(&answers), [true; 3]);
    let (first, rest) = lock(&notes)
        .split_first()
        .map(|(f, r)| (*f, r.to_vec()))
        .expect("notes");
    assert_eq!((first, &*rest), ("committed", &ALL[..]));
}

#[test]
fn a_failed_batch_is_refused_through_the_tail() {
    let host = SimHost::new(1);
    let (log, mut committer, notes, answers) = three_wait(&host, Way::Usual);
    host.set_faults(Faults {
        space_bytes: Some(0),
        ..Faults::default()
    });
    commit(&log, &mut committer);
    assert_eq!(stored(&answers), [false; 3]);
    assert_eq!(*lock(&notes), ALL);
}

#[test]
fn a_tail_that_calls_no_reply_keeps_nobody_waiting() {
    let (log, mut committer, _, answers) = three_wait(&SimHost::new(1), Way::Never);
    commit(&log, &mut committer);
    assert_eq!(stored(&answers), [true; 3]);
}

#[test]
fn a_tail_that_panics_at_the_replies_keeps_nobody_waiting() {
    for (way, is_stored) in [(Way::PanicsBefore, false), (Way::PanicsAfter, true)] {
        let (log, committer, _, answers) = three_wait(&SimHost::new(1), way);
        *lock(&log.committer) = Some(thread::spawn(move || committer.run()));
        assert_eq!(stored(&answers), [is_stored; 3]);
        log.close().expect_err("the thread has panicked");
        assert!(log.writable().is_err());
        let late = append(&log, draft("late")).map_err(|error| error.kind);
        assert_eq!(late, Err(AppendErrorKind::Closed));
    }
}
