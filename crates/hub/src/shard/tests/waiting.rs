//! Subscribers that wait for the hub.

use std::io::Read;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gush_log::{
    AppendError, BatchReply, Bounds, Draft, Flow, Located, Log, MemoryLog, Offset, ReadEnd,
    ReadError, ReadLimit, RecordRef, Reply, Tail,
};

use super::rig::{PATIENCE, Rig, Sizes};

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
}

impl Gated {
    fn allow(&self, reads: u32) {
        self.gate.lock().expect("not poisoned").reads_allowed += reads;
        self.changed.notify_all();
    }

    fn wait_for_reader(&self) {
        let gate = self.gate.lock().expect("not poisoned");
        let waited = self
            .changed
            .wait_timeout_while(gate, PATIENCE, |gate| gate.reads_waiting == 0);
        assert!(!waited.expect("not poisoned").1.timed_out(), "nobody reads");
    }
}

impl Log for Gated {
    fn append(&self, draft: Draft, reply: Reply) {
        self.inner.append(draft, reply);
    }

    fn append_batch(&self, drafts: Vec<Draft>, reply: BatchReply) {
        self.inner.append_batch(drafts, reply);
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
        visit: &mut dyn FnMut(RecordRef<'_>) -> Flow,
    ) -> Result<ReadEnd, ReadError> {
        let mut gate = self.gate.lock().expect("not poisoned");
        while gate.reads_allowed == 0 {
            gate.reads_waiting += 1;
            self.changed.notify_all();
            gate = self.changed.wait(gate).expect("not poisoned");
            gate.reads_waiting -= 1;
        }
        gate.reads_allowed -= 1;
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

/// A subscriber whose socket was full once, and that then waited for the hub alone, was reset.
#[test]
fn a_replay_that_waits_for_the_log_is_not_a_stall() {
    let sizes = Sizes {
        log_events: 1000,
        window_events: 4,
    };
    let log = Arc::new(Gated {
        inner: MemoryLog::new(sizes.memory()),
        gate: Mutex::default(),
        changed: Condvar::new(),
    });
    let rig = Rig::over(Arc::clone(&log) as Arc<dyn Log>, &sizes, |_| {});
    let start = rig.head();
    let data = "x".repeat(60_000);
    for _ in 0..100 {
        rig.publish("a", &data);
    }
    let mut peer = rig.subscribe_small(&["a"], start);
    rig.wait_taken_in(1);
    // The first read fills the small socket; the second one waits for the test.
    log.allow(1);
    let mut first = [0; 1];
    peer.socket.read_exact(&mut first).expect("the first byte");
    peer.bytes.extend_from_slice(&first);
    peer.read_until(|| log.gate.lock().expect("not poisoned").reads_waiting > 0);
    rig.advance(Duration::from_secs(100));
    log.wait_for_reader();
    rig.publish("b", "the shard has seen the time");
    log.allow(u32::MAX / 2);
    peer.expect_data((0..100).map(|_| data.clone()));
}
