//! A shard between a real log and real sockets, with a clock that the test moves.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gush_log::{
    AppendError, BatchReply, Bounds, Draft, Flow, Located, Log, MemoryConfig, MemoryLog, Offset,
    ReadEnd, ReadError, ReadLimit, RecordRef, Reply, Tail,
};
use socket2::SockRef;

use super::{Command, Inbox, NewSubscriber, Seat, Shard, ShardThread, Shared, Table};
use crate::clock::Clock;
use crate::close::CloseReason;
use crate::config::Settings;
use crate::frame::Framing;
use crate::metrics::Metrics;
use crate::policy::{Policy, PolicyCell};
use crate::presence::Presence;
use crate::replay::Replayer;
use crate::selection::Selection;
use crate::socket::{Arriving, Sink, TcpSink};
use crate::topic::Matcher;
use crate::window::Window;

mod flush;

/// How long a test waits for bytes before it fails: far beyond what a loaded machine needs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    log: Arc<dyn Log>,
    clock: Clock,
    inbox: Arc<Inbox>,
    metrics: Metrics,
    replayer: Arc<Replayer>,
    thread: Option<ShardThread>,
}

struct Sizes {
    log_events: usize,
    window_events: usize,
}

impl Sizes {
    fn memory(&self) -> MemoryConfig {
        MemoryConfig {
            bytes_max: 1 << 30,
            events_max: self.log_events,
        }
    }
}

const ROOMY: Sizes = Sizes {
    log_events: 100_000,
    window_events: 10_000,
};

impl Rig {
    fn new(sizes: &Sizes, change: impl FnOnce(&mut Settings)) -> Self {
        Self::over(Arc::new(MemoryLog::new(sizes.memory())), sizes, change)
    }

    fn over(log: Arc<dyn Log>, sizes: &Sizes, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let seat = Seat::new(0, Table::Shared).expect("a poll");
        let inbox = Arc::clone(&seat.inbox);
        let next = log.bounds().next;
        let window = Window::new(next, 1 << 30, sizes.window_events, vec![Arc::clone(&inbox)]);
        let window = Arc::new(window);
        log.set_tail(Arc::clone(&window) as Arc<dyn gush_log::Tail>);
        let replayer = Arc::new(Replayer::start(&log).expect("threads"));
        let clock = Clock::manual();
        let metrics = Metrics::new(1);
        let shared = Shared {
            window,
            replayer: Arc::clone(&replayer),
            policy: Arc::new(PolicyCell::new(
                Policy::new(settings).expect("valid settings"),
            )),
            presence: Arc::new(Presence::new(Arc::clone(&log))),
            clock: clock.clone(),
        };
        let counters = Arc::clone(&metrics.shards[0]);
        let thread = Shard::start(seat, Arc::new(shared), counters);
        Self {
            log,
            clock,
            inbox,
            metrics,
            replayer,
            thread: Some(thread),
        }
    }

    fn publish(&self, topic: &str, data: &str) {
        self.append(&[topic], data, false);
    }

    fn append(&self, topics: &[&str], data: &str, is_private: bool) {
        let draft = Draft {
            topics: topics.iter().map(|topic| Box::from(*topic)).collect(),
            is_private,
            id: None,
            kind: None,
            retry_ms: None,
            data: data.into(),
        };
        self.log
            .append(draft, Box::new(|outcome| assert!(outcome.is_ok())));
    }

    fn head(&self) -> Offset {
        self.log.bounds().next
    }

    fn subscribe(&self, matchers: &[&str]) -> Peer {
        self.subscribe_as(matchers, self.head(), |_| {})
    }

    /// With sockets that take a few KiB only.
    fn subscribe_small(&self, matchers: &[&str], start: Offset) -> Peer {
        let (ours, theirs) = pair();
        let small = |socket: &TcpStream| {
            let socket = SockRef::from(socket);
            let set = socket.set_send_buffer_size(8192);
            set.and_then(|()| socket.set_recv_buffer_size(8192))
        };
        small(&ours)
            .and_then(|()| small(&theirs))
            .expect("socket options");
        self.hand_over((ours, theirs), matchers, start, |_| {})
    }

    fn subscribe_as(
        &self,
        matchers: &[&str],
        start: Offset,
        change: impl FnOnce(&mut (Selection, Option<u64>)),
    ) -> Peer {
        self.hand_over(pair(), matchers, start, change)
    }

    fn hand_over(
        &self,
        (ours, theirs): (TcpStream, TcpStream),
        matchers: &[&str],
        start: Offset,
        change: impl FnOnce(&mut (Selection, Option<u64>)),
    ) -> Peer {
        ours.set_nonblocking(true).expect("a socket option");
        let mut parts = (
            Selection {
                matchers: parse(matchers),
                ..Selection::default()
            },
            None,
        );
        change(&mut parts);
        assert!(self.inbox.claim(usize::MAX));
        let sent = self.inbox.send(Command::Subscribe(Box::new(NewSubscriber {
            sink: Arriving::Here(Sink::Tcp(TcpSink::new(ours, Framing::Chunked))),
            selection: Arc::new(parts.0),
            start,
            expires_at_ms: parts.1,
            present: None,
            permit: None,
        })));
        assert!(sent.is_ok());
        Peer {
            socket: theirs,
            bytes: Vec::new(),
        }
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.inbox.wake();
    }

    /// Reads the metrics page until a line is there: the shard is another thread.
    fn wait_for(&self, line: &str) {
        let started = std::time::Instant::now();
        loop {
            let page = self.page();
            if page.lines().any(|found| found == line) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "no line {line:?} in\n{page}");
            std::thread::yield_now();
        }
    }

    /// Waits until this many streams are the shard's: their times count from then.
    fn wait_taken_in(&self, count: u32) {
        self.wait_for(&format!("gush_subscribers_open{{sink=\"tcp\"}} {count}"));
    }

    fn wait_closed(&self, reason: CloseReason, count: u32) {
        let name = reason.name();
        self.wait_for(&format!(
            "gush_streams_closed_total{{reason=\"{name}\"}} {count}"
        ));
    }

    fn page(&self) -> String {
        self.metrics.page(&crate::metrics::Readings {
            connections: 0,
            log_first: 0,
            log_next: 0,
            log_writable: true,
            draining: false,
            uptime_seconds: 0.0,
        })
    }

    fn drain(&self, window: Duration) {
        assert!(self.inbox.send(Command::Drain(window)).is_ok());
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.inbox.send(Command::Drain(Duration::ZERO));
            let ended = thread.join();
            self.replayer.stop();
            if !std::thread::panicking() {
                ended.expect("the shard did not panic");
            }
        }
    }
}

fn parse(matchers: &[&str]) -> Box<[Matcher]> {
    matchers
        .iter()
        .map(|text| Matcher::parse(text).expect("a good matcher"))
        .collect()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let theirs = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (ours, _) = listener.accept().expect("accepts");
    theirs
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    (ours, theirs)
}

/// The other end of a stream.
struct Peer {
    socket: TcpStream,
    bytes: Vec<u8>,
}

impl Peer {
    /// The next chunk of the body; `None` at its end.
    fn chunk(&mut self) -> Option<String> {
        loop {
            if let Some(chunk) = take_chunk(&mut self.bytes) {
                return (!chunk.is_empty()).then_some(chunk);
            }
            let mut buffer = [0; 16 * 1024];
            let count = self.socket.read(&mut buffer).expect("bytes in time");
            if count == 0 {
                assert!(self.bytes.is_empty(), "cut in the middle of a chunk");
                return None;
            }
            self.bytes.extend_from_slice(&buffer[..count]);
        }
    }

    /// The data of the next event; heartbeats before it are passed over.
    fn data(&mut self) -> String {
        let chunk = loop {
            let chunk = self.chunk().expect("an event");
            if chunk != ":\n" {
                break chunk;
            }
        };
        let data = chunk
            .split("data: ")
            .nth(1)
            .unwrap_or_else(|| panic!("no event: {chunk:?}"));
        data.trim_end().to_owned()
    }

    /// The shard has looked at everything so far and sent nothing: what it does for another event
    /// is not before its next turn.
    fn expect_nothing(&mut self) {
        self.socket.set_nonblocking(true).expect("a socket option");
        for _ in 0..1000 {
            let mut buffer = [0; 1024];
            let read = self.socket.read(&mut buffer);
            assert!(read.is_err(), "{:?}", String::from_utf8_lossy(&buffer));
            std::thread::yield_now();
        }
        self.socket.set_nonblocking(false).expect("a socket option");
    }

    fn expect_data(&mut self, expected: impl IntoIterator<Item = String>) {
        for expected in expected {
            assert_eq!(self.data(), expected);
        }
    }

    /// Reads whatever comes until something else has happened.
    fn read_until(&mut self, happened: impl Fn() -> bool) {
        let started = std::time::Instant::now();
        let socket = &self.socket;
        socket.set_nonblocking(true).expect("a socket option");
        while !happened() {
            assert!(started.elapsed() < PATIENCE, "it does not happen");
            let mut buffer = [0; 4096];
            if let Ok(count) = (&*socket).read(&mut buffer) {
                self.bytes.extend_from_slice(&buffer[..count]);
            }
        }
        socket.set_nonblocking(false).expect("a socket option");
    }

    fn expect_reset(&mut self) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => panic!("an orderly end instead of a reset"),
                Ok(_) => {}
                Err(error) => {
                    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                    return;
                }
            }
        }
    }
}

fn take_chunk(bytes: &mut Vec<u8>) -> Option<String> {
    let line = memchr::memmem::find(bytes, b"\r\n")?;
    let head = std::str::from_utf8(&bytes[..line]).expect("a chunk head");
    let length = usize::from_str_radix(head, 16).expect("a chunk length");
    let end = line + 2 + length;
    if bytes.len() < end + 2 {
        return None;
    }
    assert_eq!(&bytes[end..end + 2], b"\r\n");
    let chunk = String::from_utf8(bytes[line + 2..end].to_vec()).expect("UTF-8");
    bytes.drain(..end + 2);
    Some(chunk)
}

#[test]
fn live_events_reach_those_who_asked_in_order() {
    let rig = Rig::new(&ROOMY, |_| {});
    let mut exact = rig.subscribe(&["a"]);
    let mut both = rig.subscribe(&["b", "a", "a"]);
    let mut all = rig.subscribe(&["*"]);
    let mut template = rig.subscribe(&["/{id}"]);
    for number in 0..500 {
        rig.publish("a", &format!("a{number}"));
        rig.publish("b", &format!("b{number}"));
        rig.append(&["/x", "a"], &format!("c{number}"), false);
    }
    exact.expect_data((0..500).flat_map(|n| [format!("a{n}"), format!("c{n}")]));
    template.expect_data((0..500).map(|n| format!("c{n}")));
    for peer in [&mut both, &mut all] {
        peer.expect_data(
            (0..500).flat_map(|n| [format!("a{n}"), format!("b{n}"), format!("c{n}")]),
        );
    }
}

#[test]
fn private_events_need_a_grant_for_one_of_their_topics() {
    let rig = Rig::new(&ROOMY, |_| {});
    let start = rig.head();
    let mut plain = rig.subscribe(&["a"]);
    let mut granted = rig.subscribe_as(&["a"], start, |parts| parts.0.grants = parse(&["/me"]));
    rig.append(&["a"], "other", true);
    rig.append(&["a", "/me"], "mine", true);
    rig.append(&["/me"], "not asked for", true);
    rig.publish("a", "end");
    granted.expect_data(["mine".to_owned(), "end".to_owned()]);
    plain.expect_data(["end".to_owned()]);
    // The same through the log, where nothing was matched beforehand.
    let mut replayed = rig.subscribe_as(&["a"], start, |parts| parts.0.grants = parse(&["/me"]));
    replayed.expect_data(["mine".to_owned(), "end".to_owned()]);
}

#[test]
fn a_slow_reader_gets_everything_from_the_log() {
    let sizes = Sizes {
        log_events: 100_000,
        window_events: 16,
    };
    let rig = Rig::new(&sizes, |_| {});
    let mut slow = rig.subscribe(&["a"]);
    SockRef::from(&slow.socket)
        .set_recv_buffer_size(64 * 1024)
        .expect("a socket option");
    let mut quick = rig.subscribe(&["a"]);
    let data = |number: u32| format!("{number} {}", "x".repeat(2000));
    for number in 0..4000 {
        rig.publish("a", &data(number));
        if number % 16 == 0 {
            rig.publish("b", "not for them");
        }
    }
    quick.expect_data((0..4000).map(data));
    rig.wait_for("gush_subscribers_behind 1");
    slow.expect_data((0..4000).map(data));
    rig.wait_for("gush_subscribers_behind 0");
    rig.publish("a", "live again");
    slow.expect_data(["live again".to_owned()]);
}

#[test]
fn silence_is_broken_by_a_bare_comment() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.heartbeat = Duration::from_secs(24);
    });
    let mut peer = rig.subscribe(&["a"]);
    rig.wait_taken_in(1);
    rig.advance(Duration::from_secs(20));
    rig.publish("a", "restarts the timer");
    assert_eq!(peer.data(), "restarts the timer");
    rig.advance(Duration::from_secs(20));
    rig.advance(Duration::from_secs(4));
    assert_eq!(peer.chunk().as_deref(), Some(":\n"));
    rig.wait_for("gush_heartbeats_total 1");
}

#[test]
fn who_takes_no_byte_is_reset_after_the_write_timeout() {
    let rig = Rig::new(&ROOMY, |_| {});
    let mut stalled = rig.subscribe(&["a"]);
    let mut reading = rig.subscribe(&["a"]);
    rig.wait_taken_in(2);
    let data = "x".repeat(60_000);
    for _ in 0..400 {
        rig.publish("a", &data);
    }
    reading.expect_data((0..400).map(|_| data.clone()));
    rig.wait_for("gush_subscribers_behind 1");
    rig.advance(Duration::from_secs(29));
    rig.publish("a", "still there");
    reading.expect_data(["still there".to_owned()]);
    rig.wait_taken_in(2);
    rig.advance(Duration::from_secs(2));
    rig.wait_closed(CloseReason::WriteTimeout, 1);
    stalled.expect_reset();
    rig.wait_for("gush_subscribers_behind 0");
}

#[test]
fn a_stream_ends_with_its_token_and_not_before() {
    let rig = Rig::new(&ROOMY, |_| {});
    let mut peer = rig.subscribe_as(&["a"], rig.head(), |parts| parts.1 = Some(60_000));
    rig.wait_taken_in(1);
    rig.advance(Duration::from_millis(59_800));
    rig.publish("a", "still");
    while peer.chunk().expect("open") == ":\n" {}
    rig.advance(Duration::from_millis(200));
    rig.wait_closed(CloseReason::TokenExpired, 1);
    assert_eq!(peer.chunk(), None);
}

#[test]
fn a_stream_lives_no_longer_than_allowed() {
    let rig = Rig::new(&ROOMY, |settings| {
        settings.heartbeat = Duration::ZERO;
        settings.max_stream_life = Some(Duration::from_secs(200));
    });
    let mut peer = rig.subscribe(&["a"]);
    rig.wait_taken_in(1);
    rig.advance(Duration::from_secs(159));
    rig.publish("a", "still");
    assert_eq!(peer.data(), "still");
    rig.advance(Duration::from_secs(41));
    assert_eq!(peer.chunk(), None);
    rig.wait_closed(CloseReason::StreamLife, 1);
}

#[test]
fn a_drain_spreads_the_ends_and_gives_each_its_own_delay() {
    let mut rig = Rig::new(&ROOMY, |_| {});
    let mut peers: Vec<_> = (0..40).map(|_| rig.subscribe(&["a"])).collect();
    rig.wait_taken_in(40);
    rig.drain(Duration::from_secs(20));
    // Commands are obeyed in order: once this late one is in, the drain has begun.
    let _late = rig.subscribe(&["a"]);
    rig.wait_taken_in(41);
    for second in 1..=10 {
        rig.advance(Duration::from_secs(1));
        rig.wait_closed(CloseReason::Drain, second * 2);
    }
    rig.advance(Duration::from_secs(10));
    rig.wait_closed(CloseReason::Drain, 41);
    rig.thread
        .take()
        .expect("running")
        .join()
        .expect("no panic");
    rig.replayer.stop();
    let delays: BTreeSet<u64> = peers
        .iter_mut()
        .map(|peer| {
            let words = peer.chunk().expect("last words");
            assert_eq!(peer.chunk(), None);
            let delay = words
                .strip_prefix("retry: ")
                .and_then(|rest| rest.trim_end().parse().ok());
            delay.expect("a retry line")
        })
        .collect();
    assert!(delays.len() > 30, "{delays:?}");
    assert!(
        delays.iter().all(|delay| (1000..=3000).contains(delay)),
        "{delays:?}"
    );
}

#[test]
fn what_was_trimmed_away_is_told_or_ends_the_stream() {
    let sizes = Sizes {
        log_events: 50,
        window_events: 10,
    };
    let rig = Rig::new(&sizes, |_| {});
    let start = rig.head();
    for number in 0..100 {
        rig.publish("a", &number.to_string());
    }
    let mut told = rig.subscribe_as(&["a"], start, |parts| parts.0.wants_gap = true);
    let gap = told.chunk().expect("the gap event");
    assert_eq!(
        gap,
        "event: gush-gap\ndata: {\"events\":50,\"reason\":\"trimmed\"}\n\n"
    );
    told.expect_data((50..100).map(|number| number.to_string()));
    let mut plain = rig.subscribe_as(&["a"], start, |_| {});
    assert_eq!(plain.chunk(), None);
    rig.wait_closed(CloseReason::Gap, 1);
}

#[test]
fn bytes_behind_a_subscribe_are_thrown_away_up_to_a_bound() {
    use std::io::Write;
    let rig = Rig::new(&ROOMY, |_| {});
    let mut peer = rig.subscribe(&["a"]);
    peer.socket
        .write_all(b"POST / HTTP/1.1\r\n\r\n")
        .expect("written");
    rig.publish("a", "served");
    assert_eq!(peer.data(), "served");
    // Fails once the hub has reset the connection.
    let _ = peer.socket.write_all(&vec![b'x'; 1 << 20]);
    rig.wait_closed(CloseReason::ProtocolError, 1);
}

/// Subscribers come, go and resume at random while events are published; each sees exactly the
/// events for it from its cursor on, in order. Failures print the seed.
#[test]
fn nobody_misses_or_repeats_an_event_whatever_the_others_do() {
    for seed in 0..30 {
        churn(seed);
    }
}

fn churn(seed: u64) {
    struct Follower {
        peer: Peer,
        topics: Vec<usize>,
        expected: Vec<String>,
    }
    let mut random = fastrand::Rng::with_seed(seed);
    let sizes = Sizes {
        log_events: 100_000,
        window_events: random.usize(4..200),
    };
    let rig = Rig::new(&sizes, |_| {});
    let mut published: Vec<(usize, String)> = Vec::new();
    let mut followers: Vec<Follower> = Vec::new();
    let wanted = |topics: &[usize], from: usize, published: &[(usize, String)]| -> Vec<String> {
        published[from..]
            .iter()
            .filter(|(topic, _)| topics.contains(topic))
            .map(|(_, data)| data.clone())
            .collect()
    };
    for step in 0..300 {
        match random.u32(0..10) {
            0..6 => {
                for burst in 0..random.usize(1..30) {
                    let topic = random.usize(0..4);
                    let data = format!("{seed}.{step}.{burst}");
                    rig.publish(&topic.to_string(), &data);
                    published.push((topic, data.clone()));
                    for follower in &mut followers {
                        if follower.topics.contains(&topic) {
                            follower.expected.push(data.clone());
                        }
                    }
                }
            }
            6..9 => {
                let topics: Vec<usize> = (0..4).filter(|_| random.bool()).collect();
                if topics.is_empty() {
                    continue;
                }
                let from = random.usize(0..=published.len());
                let names: Vec<String> = topics.iter().map(ToString::to_string).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let start = Offset::FIRST.plus(from as u64);
                let peer = rig.subscribe_as(&names, start, |_| {});
                let expected = wanted(&topics, from, &published);
                followers.push(Follower {
                    peer,
                    topics,
                    expected,
                });
            }
            _ if followers.is_empty() => {}
            _ => {
                // Leaves at once, with whatever is under way.
                followers.swap_remove(random.usize(0..followers.len()));
            }
        }
    }
    for (number, follower) in followers.iter_mut().enumerate() {
        for (place, expected) in follower.expected.iter().enumerate() {
            let found = follower.peer.data();
            assert_eq!(
                &found, expected,
                "seed {seed}, follower {number}, event {place}"
            );
        }
    }
}

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
