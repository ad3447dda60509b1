//! What every backend must do, as a test: run it against a backend with [`check`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use gush_sse::{EventId, EventType, Topic};

use crate::{
    AppendError, AppendErrorKind, Appended, Conflation, Draft, Epoch, Flow, Located, Log, Offset,
    Position, ReadEnd, ReadLimit, RecordRef, Tail,
};

#[path = "contract/batch.rs"]
mod batch;

/// How the suite gets logs to test.
pub trait Backend {
    /// An empty log that drops nothing during a test.
    fn fresh(&self) -> Arc<dyn Log>;

    /// An empty log that has dropped its oldest events by the time 2,000 events of 100 bytes are
    /// stored.
    fn keeping_few(&self) -> Arc<dyn Log>;
}

/// Runs the whole suite.
///
/// # Panics
///
/// When the backend breaks the contract of [`Log`].
pub fn check(backend: &dyn Backend) {
    appended_events_are_dense_and_named(backend.fresh());
    the_tail_is_told_first_and_in_order(&backend.fresh());
    what_is_read_is_what_was_appended(&backend.fresh());
    a_read_keeps_to_its_limits(&backend.fresh());
    generated_ids_are_located(&backend.fresh());
    own_ids_are_found_and_the_earliest_counts(&backend.fresh());
    bounds_follow_the_head(&backend.fresh());
    trimmed_events_are_counted_as_lost(&backend.keeping_few());
    trimmed_own_ids_are_forgotten(&backend.keeping_few());
    appenders_keep_their_own_order(&backend.fresh());
    readers_beside_appenders_see_a_prefix(&backend.fresh());
    a_closed_log_is_readable(&backend.fresh());
    a_reply_may_append(&backend.fresh());
    batch::check(backend);
}

/// Nothing in the suite takes longer, not even on a slow disk.
const PATIENCE: Duration = Duration::from_secs(30);

type Outcome = Result<Appended, AppendError>;

fn topic(text: &str) -> Topic {
    Topic::parse(text).expect("a topic")
}

fn draft(data: &str) -> Draft {
    Draft {
        topics: [topic("https://example.com/a")].into(),
        is_private: false,
        id: None,
        kind: None,
        retry_ms: None,
        conflation: Conflation::default(),
        data: data.into(),
    }
}

fn draft_with_id(id: &str, data: &str) -> Draft {
    Draft {
        id: EventId::parse(id).expect("a good id"),
        ..draft(data)
    }
}

fn start_append(log: &dyn Log, draft: Draft) -> Receiver<Outcome> {
    let (sender, receiver) = sync_channel(1);
    let reply = move |outcome| sender.send(outcome).expect("called once");
    log.append(draft, Box::new(reply));
    receiver
}

fn append(log: &dyn Log, draft: Draft) -> Appended {
    let outcome = start_append(log, draft)
        .recv_timeout(PATIENCE)
        .expect("an answer");
    outcome.expect("the event is stored")
}

/// Offsets and data from `from` to the head.
fn read_all(log: &dyn Log, from: Offset) -> (Vec<(u64, String)>, ReadEnd) {
    let mut seen = Vec::new();
    let limit = ReadLimit {
        events_max: usize::MAX,
        bytes_max: usize::MAX,
    };
    let end = log.read(from, limit, &mut |record| {
        seen.push((record.offset().as_u64(), record.data.to_owned()));
        Flow::Continue
    });
    (seen, end.expect("readable"))
}

/// Where to go on after an id, by `locate` and, where it asks for it, by `search`.
fn resolve(log: &dyn Log, id: &str) -> Option<Offset> {
    match log.locate(id) {
        Located::After(offset) => Some(offset),
        Located::Unknown => None,
        Located::Search => log.search(id).expect("readable"),
    }
}

fn appended_events_are_dense_and_named(log: Arc<dyn Log>) {
    let bounds = log.bounds();
    assert_eq!(bounds.first, bounds.next, "a fresh log is empty");
    for (count, own_id) in [None, Some("own"), None].into_iter().enumerate() {
        let draft = own_id.map_or_else(|| draft("x"), |id| draft_with_id(id, "x"));
        let appended = append(&*log, draft);
        assert_eq!(appended.position.offset, bounds.next.plus(count as u64));
        assert_eq!(appended.position.epoch, bounds.epoch);
        match own_id {
            Some(id) => assert_eq!(&*appended.id(), id),
            None => assert_eq!(Position::parse(&appended.id()), Some(appended.position)),
        }
    }
    assert_eq!(log.writable(), Ok(()));
    assert!(!log.describe().is_empty());
    drop(log);
}

/// Notes what it is told, and that calls do not overlap.
#[derive(Default)]
struct Witness {
    is_busy: AtomicBool,
    offsets: Mutex<Vec<u64>>,
    newest: AtomicU64,
}

impl Witness {
    /// Of all events it was told of.
    fn offsets(&self) -> Vec<u64> {
        let offsets = self.offsets.lock();
        offsets.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Tail for Witness {
    fn committed(&self, events: &mut dyn Iterator<Item = RecordRef<'_>>) {
        assert!(
            !self.is_busy.swap(true, Ordering::SeqCst),
            "calls to the tail overlap"
        );
        let mut seen = self.offsets.lock().unwrap_or_else(PoisonError::into_inner);
        let before = seen.len();
        seen.extend(events.map(|event| event.offset().as_u64()));
        let newest = seen[before..].last().expect("never called for nothing");
        self.newest.store(*newest, Ordering::SeqCst);
        self.is_busy.store(false, Ordering::SeqCst);
    }
}

fn the_tail_is_told_first_and_in_order(log: &Arc<dyn Log>) {
    let witness = Arc::new(Witness::default());
    log.set_tail(Arc::clone(&witness) as Arc<dyn Tail>);
    let first = log.bounds().next;
    thread::scope(|scope| {
        for _ in 0..4 {
            let (log, witness) = (Arc::clone(log), Arc::clone(&witness));
            scope.spawn(move || {
                for _ in 0..50 {
                    let (sender, receiver) = sync_channel(1);
                    let witness = Arc::clone(&witness);
                    let reply = move |outcome: Outcome| {
                        let offset = outcome.expect("stored").position.offset.as_u64();
                        let told = witness.newest.load(Ordering::SeqCst);
                        sender.send(told >= offset).expect("called once");
                    };
                    log.append(draft("x"), Box::new(reply));
                    let is_told = receiver.recv_timeout(PATIENCE).expect("an answer");
                    assert!(is_told, "the reply came before the tail was told");
                }
            });
        }
    });
    let offsets = witness.offsets();
    let expected: Vec<u64> = (first.as_u64()..first.as_u64() + 200).collect();
    assert_eq!(offsets, expected, "each event once, in order");
}

fn what_is_read_is_what_was_appended(log: &Arc<dyn Log>) {
    let full = Draft {
        topics: [topic("a"), topic("b/ü"), topic(&"x".repeat(4096))].into(),
        is_private: true,
        id: EventId::parse("urn:own").expect("good"),
        kind: EventType::parse("added").expect("good"),
        retry_ms: Some(u64::MAX),
        conflation: Conflation {
            is_latest: true,
            key: Some("a key/ü".into()),
        },
        data: "1\r\n2\0 ü".into(),
    };
    let big = Draft {
        data: "y".repeat(1 << 20).into(),
        ..draft("")
    };
    let drafts = [full, draft(""), big, draft("last")];
    let first = append(&**log, drafts[0].clone()).position.offset;
    for draft in &drafts[1..] {
        append(&**log, draft.clone());
    }
    let mut seen = Vec::new();
    let limit = ReadLimit {
        events_max: 100,
        bytes_max: usize::MAX,
    };
    let end = log.read(first, limit, &mut |record: &RecordRef<'_>| {
        assert_eq!(record.position.epoch, log.bounds().epoch);
        assert!(record.time_ms > 0);
        seen.push(Draft {
            topics: record.topics.iter().map(topic).collect(),
            is_private: record.is_private,
            id: record.id.and_then(|id| EventId::parse(id).expect("good")),
            kind: record
                .kind
                .and_then(|kind| EventType::parse(kind).expect("good")),
            retry_ms: record.retry_ms,
            conflation: Conflation {
                is_latest: record.is_latest,
                key: record.key.map(Into::into),
            },
            data: record.data.into(),
        });
        Flow::Continue
    });
    assert_eq!(
        end.expect("readable"),
        ReadEnd {
            next: first.plus(4),
            lost: 0
        }
    );
    assert_eq!(seen, drafts);
}

fn a_read_keeps_to_its_limits(log: &Arc<dyn Log>) {
    let first = log.bounds().next;
    for number in 0..20 {
        append(&**log, draft(&format!("{number:0100}")));
    }
    let read = |from: Offset, events_max, bytes_max, flow: Flow, at: usize| {
        let mut count = 0;
        let end = log.read(
            from,
            ReadLimit {
                events_max,
                bytes_max,
            },
            &mut |record| {
                assert_eq!(
                    record.offset(),
                    from.plus(count as u64),
                    "dense and in order"
                );
                count += 1;
                if count == at { flow } else { Flow::Continue }
            },
        );
        (count, end.expect("readable"))
    };
    let all = usize::MAX;
    let end = |next| ReadEnd { next, lost: 0 };
    assert_eq!(
        read(first, all, all, Flow::Continue, 0),
        (20, end(first.plus(20)))
    );
    assert_eq!(
        read(first.plus(5), 3, all, Flow::Continue, 0),
        (3, end(first.plus(8)))
    );
    assert_eq!(
        read(first, all, 1, Flow::Continue, 0),
        (1, end(first.plus(1)))
    );
    assert_eq!(
        read(first, all, all, Flow::Stop, 4),
        (4, end(first.plus(4)))
    );
    assert_eq!(
        read(first, all, all, Flow::StopBefore, 4),
        (4, end(first.plus(3)))
    );
    assert_eq!(
        read(first.plus(20), all, all, Flow::Continue, 0),
        (0, end(first.plus(20)))
    );
    let (count, bytes_end) = read(first, all, 1000, Flow::Continue, 0);
    assert!(
        (2..=10).contains(&count),
        "{count} records of over 100 bytes in 1,000"
    );
    assert_eq!(bytes_end, end(first.plus(count as u64)));
}

fn generated_ids_are_located(log: &Arc<dyn Log>) {
    let appended: Vec<Appended> = (0..10).map(|_| append(&**log, draft("x"))).collect();
    for appended in &appended {
        let after = appended.position.offset.plus(1);
        assert_eq!(
            log.locate(&appended.id()),
            Located::After(after),
            "{}",
            appended.id()
        );
    }
    let Position { epoch, offset } = appended[9].position;
    let other_epoch = Epoch::from_u64(epoch.as_u64() ^ 1);
    for unknown in [
        Position {
            epoch,
            offset: offset.plus(1),
        },
        Position {
            epoch,
            offset: Offset::from_u64(0),
        },
        Position {
            epoch: other_epoch,
            offset,
        },
    ] {
        assert_eq!(resolve(&**log, &unknown.to_string()), None, "{unknown}");
    }
    for unknown in ["", "x", "urn:uuid:", &appended[0].id()[1..]] {
        assert_eq!(resolve(&**log, unknown), None, "{unknown:?}");
    }
}

fn own_ids_are_found_and_the_earliest_counts(log: &Arc<dyn Log>) {
    // The form of a generated id, from another log: mirrored events keep their ids.
    let foreign = Position {
        epoch: Epoch::from_u64(77),
        offset: Offset::from_u64(5),
    }
    .to_string();
    let ids = ["a", "b", "a", "ü✓", &foreign, "b", "a"];
    let mut expected: HashMap<&str, Offset> = HashMap::new();
    for id in ids {
        append(&**log, draft("between"));
        let offset = append(&**log, draft_with_id(id, "x")).position.offset;
        expected.entry(id).or_insert(offset.plus(1));
    }
    for (id, after) in expected {
        assert_eq!(resolve(&**log, id), Some(after), "{id:?}");
        assert_eq!(log.search(id).expect("readable"), Some(after), "{id:?}");
    }
    assert_eq!(resolve(&**log, "c"), None);
    assert_eq!(log.search("c").expect("readable"), None);
}

fn bounds_follow_the_head(log: &Arc<dyn Log>) {
    let before = log.bounds();
    assert_eq!(before.last_id, None);
    let generated = append(&**log, draft("x"));
    let bounds = log.bounds();
    assert_eq!(
        (bounds.first, bounds.next),
        (before.next, before.next.plus(1))
    );
    assert_eq!(bounds.last_id.as_deref(), Some(&*generated.id()));
    append(&**log, draft_with_id("own", "x"));
    assert_eq!(log.bounds().last_id.as_deref(), Some("own"));
    assert_eq!(log.bounds().epoch, before.epoch);
}

fn trimmed_events_are_counted_as_lost(log: &Arc<dyn Log>) {
    let start = log.bounds().next;
    let ids: Vec<Appended> = (0..2_000)
        .map(|number| append(&**log, draft(&format!("{number:0100}"))))
        .collect();
    let bounds = log.bounds();
    let trimmed = usize::try_from(bounds.first.since(start)).expect("at most 2,000");
    assert!((1..2_000).contains(&trimmed), "{trimmed} of 2,000 trimmed");
    let (seen, end) = read_all(&**log, start);
    assert_eq!(
        end,
        ReadEnd {
            next: bounds.next,
            lost: trimmed as u64
        }
    );
    assert_eq!(seen.len(), 2_000 - trimmed);
    assert_eq!(seen[0].0, bounds.first.as_u64());
    // The event directly before the oldest held one: nothing after it is lost.
    assert_eq!(
        log.locate(&ids[trimmed - 1].id()),
        Located::After(bounds.first)
    );
    if trimmed >= 2 {
        assert_eq!(resolve(&**log, &ids[trimmed - 2].id()), None);
    }
}

fn trimmed_own_ids_are_forgotten(log: &Arc<dyn Log>) {
    append(&**log, draft_with_id("old", "x"));
    append(&**log, draft_with_id("twice", "x"));
    for number in 0..2_000 {
        append(&**log, draft(&format!("{number:0100}")));
    }
    let again = append(&**log, draft_with_id("twice", "x")).position.offset;
    assert_eq!(resolve(&**log, "old"), None);
    assert_eq!(
        resolve(&**log, "twice"),
        Some(again.plus(1)),
        "the earliest that is held"
    );
}

fn appenders_keep_their_own_order(log: &Arc<dyn Log>) {
    let first = log.bounds().next;
    thread::scope(|scope| {
        for appender in 0..4 {
            scope.spawn(move || {
                // Without a wait between them: their order is the order of the calls.
                let waiting: Vec<_> = (0..100)
                    .map(|number| start_append(&**log, draft(&format!("{appender} {number}"))))
                    .collect();
                let offsets: Vec<u64> = waiting
                    .into_iter()
                    .map(|answer| answer.recv_timeout(PATIENCE).expect("an answer"))
                    .map(|outcome| outcome.expect("stored").position.offset.as_u64())
                    .collect();
                assert!(offsets.is_sorted(), "{offsets:?}");
            });
        }
    });
    let (seen, end) = read_all(&**log, first);
    assert_eq!(
        end,
        ReadEnd {
            next: first.plus(400),
            lost: 0
        }
    );
    for appender in 0..4 {
        let own = format!("{appender} ");
        let numbers: Vec<&str> = seen
            .iter()
            .filter_map(|(_, data)| data.strip_prefix(&own))
            .collect();
        let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(numbers, expected);
    }
}

fn readers_beside_appenders_see_a_prefix(log: &Arc<dyn Log>) {
    let first = log.bounds().next;
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut longest = 0;
                loop {
                    let is_last = is_done.load(Ordering::SeqCst);
                    let (seen, end) = read_all(&**log, first);
                    let is_dense =
                        seen.iter()
                            .zip(first.as_u64()..)
                            .all(|((offset, data), expected)| {
                                *offset == expected
                                    && *data == (expected - first.as_u64()).to_string()
                            });
                    assert!(is_dense && end.lost == 0, "{end:?}");
                    assert_eq!(end.next, first.plus(seen.len() as u64));
                    assert!(end.next <= log.bounds().next, "not visible yet");
                    assert!(seen.len() >= longest, "something visible was taken back");
                    longest = seen.len();
                    if is_last {
                        assert_eq!(longest, 300);
                        break;
                    }
                }
            });
        }
        for number in 0..300 {
            append(&**log, draft(&number.to_string()));
        }
        is_done.store(true, Ordering::SeqCst);
    });
}

fn a_closed_log_is_readable(log: &Arc<dyn Log>) {
    let first = log.bounds().next;
    let waiting: Vec<_> = (0..50).map(|_| start_append(&**log, draft("x"))).collect();
    log.close().expect("the last sync works");
    for answer in waiting {
        let outcome = answer
            .recv_timeout(PATIENCE)
            .expect("answered before the close ended");
        assert!(outcome.is_ok(), "what waited is stored: {outcome:?}");
    }
    let refused = start_append(&**log, draft("x"))
        .recv_timeout(PATIENCE)
        .expect("an answer");
    assert_eq!(
        refused.map_err(|error| error.kind),
        Err(AppendErrorKind::Closed)
    );
    assert!(log.writable().is_err());
    assert_eq!(read_all(&**log, first).0.len(), 50);
    log.close().expect("a second close does nothing");
}

fn a_reply_may_append(log: &Arc<dyn Log>) {
    let (sender, receiver) = sync_channel(1);
    let again = Arc::clone(log);
    let reply = move |_: Outcome| {
        let reply = move |outcome: Outcome| sender.send(outcome).expect("called once");
        again.append(draft("second"), Box::new(reply));
    };
    log.append(draft("first"), Box::new(reply));
    let outcome = receiver.recv_timeout(PATIENCE).expect("an answer");
    assert!(outcome.is_ok(), "{outcome:?}");
}
