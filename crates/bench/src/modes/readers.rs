//! Streams that are read beside the publishing, and checked event by event; each stream's times
//! are kept apart.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::BenchError;
use crate::clock::now_ns;
use crate::descriptors;
use crate::engine::head::{self, HEAD_BYTES_MAX, Parsed};
use crate::engine::parse::{BodyParser, Item};
use crate::engine::settle;
use crate::engine::tracker::{Order, Tracker};
use crate::report::{Histogram, latency_histogram};

/// Bytes of the buffer that all streams are read into.
const BUFFER_BYTES: usize = 256 << 10;
/// Streams taken from the kernel at once.
const READY_MAX: usize = 256;
/// Longest wait before the thread looks for orders.
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 10_000_000,
};
/// Longest wait for a connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is opened.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// Where to.
    pub(super) address: SocketAddr,
    /// The same request for every stream.
    pub(super) request: Vec<u8>,
    pub(super) streams: usize,
    /// Publishers that number their events apart; an event's group says which.
    pub(super) lanes: u32,
    /// First number that is asked for; those before must not come.
    pub(super) first: u32,
    /// Core the thread is pinned to.
    pub(super) core: Option<usize>,
    /// Time without any progress after which what has not come is given up.
    pub(super) patience: Duration,
}

/// What one stream brought. Times are nanoseconds of the monotonic clock, 0 for "not yet".
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    pub(super) asked_ns: u64,
    pub(super) first_event_ns: u64,
    pub(super) last_event_ns: u64,
    /// Bytes read, with head and framing.
    pub(super) bytes: u64,
    /// Events, each counted once.
    pub(super) delivered: u64,
    pub(super) doubled: u64,
    pub(super) reordered: u64,
    /// Events from before the place that was asked for.
    pub(super) early: u64,
    /// Events that are not of this run.
    pub(super) foreign: u64,
    /// What went wrong with the stream, if anything.
    pub(super) error: Option<String>,
    /// Whether the answer began with 200.
    pub(super) is_open: bool,
    /// Whether its body is in chunked transfer coding.
    pub(super) is_chunked: bool,
}

/// What the thread tells while it runs.
#[derive(Debug, Default)]
struct Shared {
    opened: AtomicU64,
    ended: AtomicU64,
    /// Events of any kind, over all streams.
    events: AtomicU64,
    /// Events of this run, each counted once for each stream that got it.
    delivered: AtomicU64,
    is_closing: AtomicBool,
    /// Somebody waits for `latencies`.
    is_asked: AtomicBool,
    latencies: Mutex<Option<Histogram<u64>>>,
}

/// Streams being read by a thread of their own.
#[derive(Debug)]
pub(super) struct Readers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Outcomes>>,
    streams: u64,
    patience: Duration,
}

/// What all streams brought.
#[derive(Debug)]
pub(super) struct Outcomes {
    pub(super) streams: Vec<Outcome>,
    /// Time from sending to receipt, of the events since it was last asked for.
    pub(super) latencies: Histogram<u64>,
    tracker: Tracker,
}

impl Outcomes {
    /// Deliveries among the first `published` of a lane that stream `stream` did not get; counted
    /// from the place that was asked for.
    pub(super) fn missing(&self, stream: usize, lane: u32, published: u32) -> u64 {
        self.tracker.missing(stream, lane, published)
    }

    pub(super) fn sum(&self, of: impl Fn(&Outcome) -> u64) -> u64 {
        self.streams.iter().map(of).sum()
    }

    /// The first stream's trouble, if one had any.
    pub(super) fn first_error(&self) -> Option<&str> {
        self.streams
            .iter()
            .find_map(|stream| stream.error.as_deref())
    }
}

impl Readers {
    /// Connects all streams, then asks on each, and begins to read.
    pub(super) fn start(plan: Plan) -> Result<Self, BenchError> {
        descriptors::raise_limit();
        let mut sockets = Vec::with_capacity(plan.streams);
        for _ in 0..plan.streams {
            let socket = TcpStream::connect_timeout(&plan.address, CONNECT_TIMEOUT);
            sockets.push(
                socket.map_err(|e| BenchError::io(format!("connect to {}", plan.address), e))?,
            );
        }
        let shared = Arc::new(Shared::default());
        let (streams, patience) = (plan.streams as u64, plan.patience);
        let thread = {
            let shared = Arc::clone(&shared);
            let body = move || Reader::new(&plan, shared).work(sockets, &plan);
            std::thread::Builder::new()
                .name("reader".into())
                .spawn(body)
        };
        let thread = thread.map_err(|error| BenchError::io("start a reading thread", error))?;
        Ok(Self {
            shared,
            thread: Some(thread),
            streams,
            patience,
        })
    }

    /// Waits until every stream has its answer's head.
    pub(super) fn wait_open(&self) -> Result<(), BenchError> {
        let until = Instant::now() + self.patience;
        while self.shared.opened.load(Ordering::Acquire) < self.streams {
            let is_ended = self.shared.ended.load(Ordering::Acquire) > 0;
            if is_ended || Instant::now() > until {
                let opened = self.shared.opened.load(Ordering::Acquire);
                let text = format!("only {opened} of {} streams opened", self.streams);
                return Err(BenchError::Server(text));
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Events so far, of any kind, over all streams.
    pub(super) fn events(&self) -> u64 {
        self.shared.events.load(Ordering::Acquire)
    }

    /// Waits until all streams together have `events` of this run, each once, or have ended, or
    /// nothing comes for the patience; tells `progress` meanwhile. Without a number, until nothing
    /// comes.
    pub(super) fn wait_events(&self, events: Option<u64>, progress: &crate::Progress) {
        let mut last = (self.events(), Instant::now());
        loop {
            let now = self.events();
            let delivered = self.shared.delivered.load(Ordering::Acquire);
            progress.set(if events.is_some() { delivered } else { now });
            let is_ended = self.shared.ended.load(Ordering::Acquire) >= self.streams;
            let is_whole = events.is_some_and(|events| delivered >= events);
            if is_whole || is_ended || last.1.elapsed() > self.patience {
                return;
            }
            if now != last.0 {
                last = (now, Instant::now());
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    /// Time from sending to receipt, of the events since it was last asked for.
    pub(super) fn take_latencies(&self) -> Histogram<u64> {
        self.shared.is_asked.store(true, Ordering::Release);
        let is_running = || {
            self.thread
                .as_ref()
                .is_some_and(|thread| !thread.is_finished())
        };
        while self.shared.is_asked.load(Ordering::Acquire) && is_running() {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let mut kept = self
            .shared
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        kept.take().unwrap_or_else(latency_histogram)
    }

    /// Waits until no more events come, and closes the streams.
    pub(super) fn finish(mut self) -> Outcomes {
        let is_over = self.shared.ended.load(Ordering::Acquire) >= self.streams;
        if !is_over && self.events() > 0 {
            // All may be there, and one still come a second time.
            settle(|| self.events());
        }
        self.shared.is_closing.store(true, Ordering::Release);
        let joined = self.thread.take().and_then(|thread| thread.join().ok());
        // A panic there has been printed; no outcomes then fail every check on their number.
        joined.unwrap_or_else(|| Outcomes {
            streams: vec![],
            latencies: latency_histogram(),
            tracker: Tracker::default(),
        })
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.shared.is_closing.store(true, Ordering::Release);
    }
}

enum State {
    Head(Vec<u8>),
    Body(BodyParser),
    Closed,
}

struct Reader {
    shared: Arc<Shared>,
    tracker: Tracker,
    first: u32,
    lanes: u32,
    streams: Vec<(Option<TcpStream>, State)>,
    outcomes: Vec<Outcome>,
    latencies: Histogram<u64>,
}

impl Reader {
    fn new(plan: &Plan, shared: Arc<Shared>) -> Self {
        Self {
            shared,
            tracker: Tracker::new(plan.lanes),
            first: plan.first,
            lanes: plan.lanes.max(1),
            streams: vec![],
            outcomes: vec![],
            latencies: latency_histogram(),
        }
    }

    fn work(mut self, sockets: Vec<TcpStream>, plan: &Plan) -> Outcomes {
        let pinned = plan.core.map_or(Ok(()), descriptors::pin_to);
        let asked = pinned
            .map_err(io::Error::from)
            .and_then(|()| self.ask(sockets, &plan.request));
        match asked {
            Ok(epoll) => self.read_all(&epoll),
            Err(error) => {
                self.shared
                    .ended
                    .fetch_add(plan.streams as u64, Ordering::Release);
                let error = Some(error.to_string());
                self.outcomes.push(Outcome {
                    error,
                    ..Outcome::default()
                });
            }
        }
        Outcomes {
            streams: self.outcomes,
            latencies: self.latencies,
            tracker: self.tracker,
        }
    }

    fn ask(&mut self, sockets: Vec<TcpStream>, request: &[u8]) -> io::Result<OwnedFd> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (number, mut socket) in sockets.into_iter().enumerate() {
            let asked_ns = now_ns();
            socket.write_all(request)?;
            socket.set_nonblocking(true)?;
            let data = epoll::EventData::new_u64(number as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::IN)?;
            self.streams.push((Some(socket), State::Head(vec![])));
            self.outcomes.push(Outcome {
                asked_ns,
                ..Outcome::default()
            });
            self.tracker.push();
        }
        Ok(epoll)
    }

    fn read_all(&mut self, epoll: &OwnedFd) {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut ready = Vec::with_capacity(READY_MAX);
        while !self.shared.is_closing.load(Ordering::Acquire) {
            ready.clear();
            // Interrupted is no trouble, and there is no other error for a valid descriptor.
            let _ = epoll::wait(epoll, spare_capacity(&mut ready), Some(&LOOK));
            for event in &ready {
                let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                self.read(number, &mut buffer);
            }
            if self.shared.is_asked.load(Ordering::Acquire) {
                self.hand_over_latencies();
            }
        }
    }

    fn read(&mut self, number: usize, buffer: &mut [u8]) {
        let Some((Some(socket), _)) = self.streams.get_mut(number) else {
            return;
        };
        match socket.read(buffer) {
            Ok(0) => self.end(number, "the server ended the stream"),
            Ok(length) => {
                self.outcomes[number].bytes += length as u64;
                self.take(number, &buffer[..length]);
            }
            Err(e)
                if e.kind() == io::ErrorKind::WouldBlock
                    || e.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.end(number, &error.to_string()),
        }
    }

    fn take(&mut self, number: usize, bytes: &[u8]) {
        match &mut self.streams[number].1 {
            State::Head(begun) => {
                begun.extend_from_slice(bytes);
                match head::parse(begun) {
                    Parsed::Partial if begun.len() < HEAD_BYTES_MAX => {}
                    Parsed::Head(head) => {
                        if let Some(why) = head.refusal() {
                            return self.end(number, &why);
                        }
                        let rest = begun.split_off(head.length);
                        self.streams[number].1 = State::Body(BodyParser::of(&head));
                        self.outcomes[number].is_open = true;
                        self.outcomes[number].is_chunked = head.is_chunked;
                        self.shared.opened.fetch_add(1, Ordering::Release);
                        self.body(number, &rest);
                    }
                    _ => self.end(number, "the answer is not HTTP/1"),
                }
            }
            State::Body(_) => self.body(number, bytes),
            State::Closed => {}
        }
    }

    fn body(&mut self, number: usize, bytes: &[u8]) {
        let State::Body(parser) = &mut self.streams[number].1 else {
            return;
        };
        let (tracker, outcome) = (&mut self.tracker, &mut self.outcomes[number]);
        let (first, lanes, latencies) = (self.first, self.lanes, &mut self.latencies);
        let now = now_ns();
        let (mut events, mut is_ended) = (0, false);
        let delivered = outcome.delivered;
        parser.feed(bytes, &mut |item| match item {
            Item::Event(stamp) => {
                events += 1;
                let Some(stamp) = stamp.filter(|stamp| stamp.group < lanes) else {
                    outcome.foreign += 1;
                    return;
                };
                let Some(sequence) = stamp.sequence.checked_sub(first) else {
                    outcome.early += 1;
                    return;
                };
                match tracker.observe(number, stamp.group, sequence) {
                    Order::Doubled => outcome.doubled += 1,
                    Order::Late => {
                        outcome.delivered += 1;
                        outcome.reordered += 1;
                    }
                    Order::InOrder => outcome.delivered += 1,
                }
                latencies.saturating_record(now.saturating_sub(stamp.sent_ns));
            }
            Item::Comment | Item::Retry => {}
            Item::End => is_ended = true,
        });
        if events > 0 {
            if outcome.first_event_ns == 0 {
                outcome.first_event_ns = now;
            }
            outcome.last_event_ns = now;
            let delivered = outcome.delivered - delivered;
            self.shared
                .delivered
                .fetch_add(delivered, Ordering::Release);
            self.shared.events.fetch_add(events, Ordering::Release);
        }
        if is_ended {
            self.end(number, "the server ended the stream");
        }
    }

    fn end(&mut self, number: usize, why: &str) {
        self.streams[number] = (None, State::Closed);
        self.outcomes[number].error = Some(why.to_owned());
        self.shared.ended.fetch_add(1, Ordering::Release);
    }

    fn hand_over_latencies(&mut self) {
        let taken = std::mem::replace(&mut self.latencies, latency_histogram());
        let mut kept = self
            .shared
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *kept = Some(taken);
        self.shared.is_asked.store(false, Ordering::Release);
    }
}
