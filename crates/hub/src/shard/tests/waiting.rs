//! Subscribers that wait for the hub.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gush_log::{
    AppendError, BatchReply, Bounds, Draft, Flow, Located, Log, MemoryLog, Offset, ReadEnd,
    ReadError, ReadLimit, RecordRef, Reply, Tail,
};

use super::rig::{PATIENCE, Rig, Sizes};
use crate::close::CloseReason;

/// A log whose reads wait for the test.
struct Gated {
    inner: MemoryLog,
    gate: Mutex<Gate>,
    changed: Condvar,
}

#[derive(Default)]
struct Gate {
    reads_allowed: u32,
    reads_waiting: u32,
    /// Where those that were allowed began.
    reads: Vec<Offset>,
}

impl Gated {
    fn allow(&self, reads: u32) {
        self.gate.lock().expect("not poisoned").reads_allowed += reads;
        self.changed.notify_all();
    }

    fn wait_for_readers(&self, count: u32) {
        let gate = self.gate.lock().expect("not poisoned");
        let waited = self
            .changed
            .wait_timeout_while(gate, PATIENCE, |gate| gate.reads_waiting < count);
        assert!(!waited.expect("not poisoned").1.timed_out(), "nobody reads");
    }

    fn reads(&self) -> Vec<Offset> {
        self.gate.lock().expect("not poisoned").reads.clone()
    }
}

impl Log for Gated {
    fn append(&self, draft: Draft, reply: Reply) {
        self.inner.append(draft, reply);
    }

    fn append_batch(&self, drafts: Vec<Draft>, reply: BatchReply) {
        self.inner.append_batch(drafts, reply);
    }

    fn set_waiting_max(&self, events: usize, bytes: usize) {
        self.inner.set_waiting_max(events, bytes);
    }

    fn waiting(&self) -> (usize, usize) {
        self.inner.waiting()
    }

    fn set_tail(&self, tail: Arc<dyn Tail>) {
        self.inner.set_tail(tail);
    }

    fn bounds(&self) -> Bounds {
        self.inner.bounds()
    }

    fn locate(&self, id: &str) -> Located {
        self.inner.locate(id)
    }

    fn search(&self, id: &str) -> Result<Option<Offset>, ReadError> {
        self.inner.search(id)
    }

    fn read(
        &self,
        from: Offset,
        limit: ReadLimit,
        visit: &mut dyn FnMut(&RecordRef<'_>) -> Flow,
    ) -> Result<ReadEnd, ReadError> {
        let mut gate = self.gate.lock().expect("not poisoned");
        while gate.reads_allowed == 0 {
            gate.reads_waiting += 1;
            self.changed.notify_all();
            gate = self.changed.wait(gate).expect("not poisoned");
            gate.reads_waiting -= 1;
        }
        gate.reads_allowed -= 1;
        gate.reads.push(from);
        drop(gate);
        self.inner.read(from, limit, visit)
    }

    fn writable(&self) -> Result<(), String> {
        self.inner.writable()
    }

    fn close(&self) -> Result<(), AppendError> {
        self.inner.close()
    }

    fn describe(&self) -> String {
        "gated".to_owned()
    }
}

const SMALL_WINDOW: Sizes = Sizes {
    log_events: 10_000,
    window_events: 4,
};

fn gated() -> (Arc<Gated>, Rig) {
    let log = Arc::new(Gated {
        inner: MemoryLog::new(SMALL_WINDOW.memory()),
        gate: Mutex::default(),
        changed: Condvar::new(),
    });
    let rig = Rig::over(Arc::clone(&log) as Arc<dyn Log>, &SMALL_WINDOW, |_| {});
    (log, rig)
}

/// A subscriber whose socket was full once, and that then waited for the hub alone, was reset.
#[test]
fn a_replay_that_waits_for_the_log_is_not_a_stall() {
    let (log, rig) = gated();
    let start = rig.head();
    let data = "x".repeat(60_000);
    for _ in 0..8 {
        rig.publish("a", &data);
    }
    let mut peer = rig.subscribe_small(&["a"], start);
    rig.wait_taken_in(1);
    // The first read brings one event, which fills the small socket; the second one waits for the
    // test.
    log.allow(1);
    assert_eq!(peer.data(), data);
    rig.wait_for("gush_replay_reads_total 2");
    rig.advance(Duration::from_secs(100));
    log.wait_for_readers(1);
    rig.publish("b", "the shard has seen the time");
    log.allow(u32::MAX / 2);
    peer.expect_data((1..8).map(|_| data.clone()));
}

/// A helper that panicked took the whole hub with it.
#[test]
fn a_read_that_panics_ends_who_waits_for_it_and_no_live_stream() {
    let (log, rig) = gated();
    let start = rig.head();
    for _ in 0..20 {
        rig.publish("a", "only in the log");
    }
    let mut live = rig.subscribe(&["a"]);
    let theirs = Arc::clone(&log);
    let thread = std::thread::spawn(move || {
        let _gate = theirs.gate.lock();
        panic!("for the next ones that read");
    });
    assert!(thread.join().is_err());
    for _ in 0..3 {
        let mut peer = rig.subscribe_as(&["a"], start, |_| {});
        peer.expect_reset();
    }
    rig.wait_closed(CloseReason::Panic, 3);
    rig.wait_for("gush_panics_total{where=\"replay\"} 3");
    rig.publish("a", "live");
    assert_eq!(live.data(), "live");
}

/// It went on for as long as somebody else had the same selection.
#[test]
fn nothing_is_read_for_who_has_left() {
    let (log, rig) = gated();
    let start = rig.head();
    for number in 0..100 {
        rig.publish("a", &format!("{number:01000}"));
    }
    let mut same = rig.subscribe_as(&["a"], start, |_| {});
    let other = rig.subscribe_as(&["b"], start, |_| {});
    log.wait_for_readers(2);
    let left = rig.subscribe_as(&["a"], start.plus(5), |_| {});
    rig.wait_for("gush_replay_reads_total 3");
    drop(left);
    rig.wait_closed(CloseReason::PeerLeft, 1);
    log.allow(u32::MAX / 2);
    same.expect_data((0..100).map(|number| format!("{number:01000}")));
    rig.wait_for("gush_subscribers_behind 0");
    assert!(!log.reads().contains(&start.plus(5)), "{:?}", log.reads());
    drop(other);
}

#[test]
fn what_a_crowd_replays_is_read_for_one() {
    let (log, rig) = gated();
    let start = rig.head();
    for number in 0..1000 {
        rig.publish("a", &format!("{number:01000}"));
    }
    let subscribe = |_| rig.subscribe_as(&["a"], start, |_| {});
    let mut crowd: Vec<_> = (0..30).map(subscribe).collect();
    rig.wait_taken_in(30);
    log.wait_for_readers(1);
    log.allow(u32::MAX / 2);
    std::thread::scope(|scope| {
        for peer in &mut crowd {
            scope.spawn(|| peer.expect_data((0..1000).map(|number| format!("{number:01000}"))));
        }
    });
    // A megabyte takes five reads or six; thirty times as many without sharing.
    let reads = log.reads();
    assert!(reads.len() < 30, "{reads:?}");
}

/// Each takes parts of another size, so that each stops and goes on at other bytes.
#[test]
fn everybody_gets_the_same_bytes_whatever_their_sockets_take() {
    let rig = Rig::new(&SMALL_WINDOW, |_| {});
    let start = rig.head();
    let mut expected = Vec::new();
    for number in 0..200 {
        let length = [10, 3000, 120_000, 0, 20_000][number % 5] / (1 + number / 20);
        let data = format!("{number}:{}", "x".repeat(length));
        let topic = ["a", "b", "a", "a", "c"][number % 5];
        rig.append(&[topic], &data, number % 7 == 0);
        if topic != "b" && number % 7 != 0 {
            expected.push(data);
        }
    }
    let mut small = rig.subscribe_small(&["a", "c"], start);
    let mut usual = rig.subscribe_as(&["a", "c"], start, |_| {});
    let mut late = rig.subscribe_as(&["a", "c"], start.plus(3), |_| {});
    let late_expected = expected.iter().skip_while(|data| !data.starts_with("3:"));
    std::thread::scope(|scope| {
        scope.spawn(|| small.expect_data(expected.iter().cloned()));
        scope.spawn(|| usual.expect_data(expected.iter().cloned()));
        scope.spawn(|| late.expect_data(late_expected.cloned()));
    });
    rig.publish("a", "live");
    for peer in [&mut small, &mut usual, &mut late] {
        assert_eq!(peer.data(), "live");
        assert!(peer.bytes.is_empty());
    }
    rig.wait_for("gush_subscribers_behind 0");
}
