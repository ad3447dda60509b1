//! The shard, what is before and behind it, and its peers.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use gush_log::{Conflation, Draft, Log, MemoryConfig, MemoryLog, Offset};
use gush_sse::Topic;
use socket2::SockRef;

use crate::admit::ConnectionPermit;
use crate::clock::Clock;
use crate::close::CloseReason;
use crate::config::Settings;
use crate::conflate::Conflation as Conflations;
use crate::crowd::Crowd;
use crate::frame::Framing;
use crate::metrics::Metrics;
use crate::policy::{Policy, PolicyCell};
use crate::replay::Replayer;
use crate::selection::Selection;
use crate::shard::{
    Command, Inbox, NewSubscriber, Resumed, Seat, Shard, ShardPlace, ShardThread, Shared, Table,
};
use crate::socket::{Arriving, Sink, TcpSink};
use crate::topic::Matcher;
use crate::window::Window;

pub(super) fn topic_of(text: &str) -> Topic {
    Topic::parse(text).expect("a topic")
}

/// How long a test waits for bytes before it fails: far beyond what a loaded machine needs.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

pub(super) struct Rig {
    pub(super) log: Arc<dyn Log>,
    pub(super) clock: Clock,
    pub(super) crowd: Arc<Crowd>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) metrics: Metrics,
    pub(super) replayer: Arc<Replayer>,
    pub(super) thread: Option<ShardThread>,
}

pub(super) struct Sizes {
    pub(super) log_events: usize,
    pub(super) window_events: usize,
}

impl Sizes {
    pub(super) fn memory(&self) -> MemoryConfig {
        MemoryConfig {
            bytes_max: 1 << 30,
            events_max: self.log_events,
        }
    }
}

pub(super) const ROOMY: Sizes = Sizes {
    log_events: 100_000,
    window_events: 10_000,
};

impl Rig {
    pub(super) fn new(sizes: &Sizes, change: impl FnOnce(&mut Settings)) -> Self {
        Self::over(Arc::new(MemoryLog::new(sizes.memory())), sizes, change)
    }

    pub(super) fn over(
        log: Arc<dyn Log>,
        sizes: &Sizes,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let seat = Seat::new(0, Table::Shared).expect("a poll");
        Self::at(seat, log, sizes, change)
    }

    /// With a shard that has no thread: the test takes its turns, step by step.
    pub(super) fn by_hand(sizes: &Sizes) -> (Self, Shard) {
        Self::by_hand_with(sizes, |_| {})
    }

    pub(super) fn by_hand_with(sizes: &Sizes, change: impl FnOnce(&mut Settings)) -> (Self, Shard) {
        let (start, started) = std::sync::mpsc::sync_channel(1);
        let seat = Seat {
            start,
            ..Seat::new(0, Table::Shared).expect("a poll")
        };
        let log = Arc::new(MemoryLog::new(sizes.memory()));
        let rig = Self::at(seat, log, sizes, change);
        (rig, started.recv().expect("a shard"))
    }

    fn at(
        seat: Seat,
        log: Arc<dyn Log>,
        sizes: &Sizes,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let mut settings = Settings::default();
        change(&mut settings);
        let inbox = Arc::clone(&seat.inbox);
        let next = log.bounds().next;
        let policy = Policy::new(settings).expect("valid settings");
        let policy = Arc::new(PolicyCell::new(policy));
        let conflation = Arc::new(Conflations::new(Arc::clone(&policy), next));
        let window = Window::new(next, 1 << 30, sizes.window_events, vec![Arc::clone(&inbox)]);
        let window = Arc::new(window.conflating(&conflation));
        log.set_tail(Arc::clone(&window) as Arc<dyn gush_log::Tail>);
        let clock = Clock::manual();
        let metrics = Metrics::new(1);
        let replayer = Replayer::start(&log, &conflation, &metrics.panics).expect("threads");
        let replayer = Arc::new(replayer);
        let crowd = Arc::<Crowd>::default();
        let shared = Shared {
            window,
            replayer: Arc::clone(&replayer),
            policy,
            clock: clock.clone(),
            crowd: Arc::clone(&crowd),
            panics: Arc::clone(&metrics.panics),
            stream_log: Arc::clone(&metrics.stream_log),
            conflation,
        };
        let counters = Arc::clone(&metrics.shards[0]);
        let thread = Shard::start(seat, Arc::new(shared), counters);
        Self {
            log,
            clock,
            crowd,
            inbox,
            metrics,
            replayer,
            thread: Some(thread),
        }
    }

    pub(super) fn publish(&self, topic: &str, data: &str) {
        self.append(&[topic], data, false);
    }

    pub(super) fn append(&self, topics: &[&str], data: &str, is_private: bool) {
        let draft = Draft {
            topics: topics.iter().map(|topic| topic_of(topic)).collect(),
            is_private,
            id: None,
            kind: None,
            retry_ms: None,
            conflation: Conflation::default(),
            data: data.into(),
        };
        self.append_draft(draft);
    }

    pub(super) fn append_draft(&self, draft: Draft) {
        self.log
            .append(draft, Box::new(|outcome| assert!(outcome.is_ok())));
    }

    pub(super) fn head(&self) -> Offset {
        self.log.bounds().next
    }

    pub(super) fn subscribe(&self, matchers: &[&str]) -> Peer {
        self.subscribe_as(matchers, self.head(), |_| {})
    }

    /// With sockets that take a few KiB only.
    pub(super) fn subscribe_small(&self, matchers: &[&str], start: Offset) -> Peer {
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

    pub(super) fn subscribe_as(
        &self,
        matchers: &[&str],
        start: Offset,
        change: impl FnOnce(&mut (Selection, Option<u64>)),
    ) -> Peer {
        self.hand_over(pair(), matchers, start, change)
    }

    pub(super) fn hand_over(
        &self,
        (ours, theirs): (TcpStream, TcpStream),
        matchers: &[&str],
        start: Offset,
        change: impl FnOnce(&mut (Selection, Option<u64>)),
    ) -> Peer {
        let descriptor = ours.as_raw_fd();
        ours.set_nonblocking(true).expect("a socket option");
        let sink = Sink::Tcp(TcpSink::new(ours, Framing::Chunked));
        self.give(sink, matchers, start, change);
        Peer {
            socket: theirs,
            descriptor,
            bytes: Vec::new(),
        }
    }

    /// A subscriber behind any sink.
    pub(super) fn give(
        &self,
        sink: Sink,
        matchers: &[&str],
        start: Offset,
        change: impl FnOnce(&mut (Selection, Option<u64>)),
    ) {
        let mut parts = (
            Selection {
                matchers: parse(matchers),
                ..Selection::default()
            },
            None,
        );
        change(&mut parts);
        self.send(sink, parts, (start, None));
    }

    /// One that another process handed over.
    pub(super) fn come_over(&self, matchers: &[&str], start: Offset) -> Peer {
        let (ours, theirs) = pair();
        let descriptor = ours.as_raw_fd();
        ours.set_nonblocking(true).expect("a socket option");
        let sink = Sink::Tcp(TcpSink::new(ours, Framing::Chunked));
        let selection = Selection {
            matchers: parse(matchers),
            ..Selection::default()
        };
        let resumed = Resumed {
            partial: 0,
            life_ticks: None,
            silent_ticks: 0,
        };
        self.send(sink, (selection, None), (start, Some(resumed)));
        Peer {
            socket: theirs,
            descriptor,
            bytes: Vec::new(),
        }
    }

    fn send(
        &self,
        sink: Sink,
        parts: (Selection, Option<u64>),
        (start, resumed): (Offset, Option<Resumed>),
    ) {
        let place = ShardPlace::claim(&self.inbox, 0, usize::MAX);
        let sent = self.inbox.send(Command::Subscribe(Box::new(NewSubscriber {
            sink: Arriving::Here(sink),
            selection: Arc::new(parts.0),
            start,
            expires_at_ms: parts.1,
            present: None,
            told_level: 0,
            place: place.expect("no limit"),
            client: None,
            connection: ConnectionPermit::default(),
            subject: None,
            resumed,
        })));
        assert!(sent.is_ok());
    }

    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.inbox.wake();
    }

    /// Reads the metrics page until a line is there: the shard is another thread.
    pub(super) fn wait_for(&self, line: &str) {
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
    pub(super) fn wait_taken_in(&self, count: u32) {
        self.wait_for(&format!("gush_subscribers_open{{sink=\"tcp\"}} {count}"));
    }

    pub(super) fn wait_closed(&self, reason: CloseReason, count: u32) {
        let name = reason.name();
        self.wait_for(&format!(
            "gush_streams_closed_total{{reason=\"{name}\"}} {count}"
        ));
    }

    pub(super) fn page(&self) -> String {
        self.metrics.page(&crate::metrics::Readings {
            connections: 0,
            log_first: 0,
            log_next: 0,
            log_writable: true,
            draining: false,
            uptime_seconds: 0.0,
            ..crate::metrics::Readings::default()
        })
    }

    pub(super) fn drain(&self, window: Duration) {
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

pub(super) fn parse<M: FromIterator<Matcher>>(matchers: &[&str]) -> M {
    matchers
        .iter()
        .map(|text| Matcher::parse(text).expect("a good matcher"))
        .collect()
}

pub(super) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let theirs = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (ours, _) = listener.accept().expect("accepts");
    theirs
        .set_read_timeout(Some(PATIENCE))
        .expect("a socket option");
    (ours, theirs)
}

/// The other end of a stream.
pub(super) struct Peer {
    pub(super) socket: TcpStream,
    /// The hub's end.
    pub(super) descriptor: RawFd,
    pub(super) bytes: Vec<u8>,
}

impl Peer {
    /// The next chunk of the body; `None` at its end.
    pub(super) fn chunk(&mut self) -> Option<String> {
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
    pub(super) fn data(&mut self) -> String {
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
    pub(super) fn expect_nothing(&mut self) {
        self.socket.set_nonblocking(true).expect("a socket option");
        for _ in 0..1000 {
            let mut buffer = [0; 1024];
            let read = self.socket.read(&mut buffer);
            assert!(read.is_err(), "{:?}", String::from_utf8_lossy(&buffer));
            std::thread::yield_now();
        }
        self.socket.set_nonblocking(false).expect("a socket option");
    }

    pub(super) fn expect_data(&mut self, expected: impl IntoIterator<Item = String>) {
        for expected in expected {
            assert_eq!(self.data(), expected);
        }
    }

    pub(super) fn expect_reset(&mut self) {
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

pub(super) fn take_chunk(bytes: &mut Vec<u8>) -> Option<String> {
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
