//! One generator thread: opens its share of the streams, reads them, checks what comes.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags};

use super::head::{self, Parsed};
use super::parse::{BodyParser, Item};
use super::shared::{Pace, Shared};
use super::stats::Stats;
use super::tracker::{Order, Tracker};
use super::{NO_TOPIC, Role};
use crate::clock::now_ns;
use crate::descriptors;
use crate::error::BenchError;
use crate::options::Wait;
use crate::stamp::Stamp;

/// Events taken from the kernel at once.
const BATCH: usize = 512;
/// Bytes of the buffer that all of a thread's streams are read into.
const BUFFER_BYTES: usize = 64 << 10;
/// Longest wait, in nanoseconds, before a thread looks for orders.
pub(super) const LOOK_NS: u64 = 50_000_000;

/// How long a thread sleeps that reads in ticks.
const TICK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 1_000_000,
};

/// How a thread is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) has_own_table: bool,
    pub(crate) core: Option<usize>,
    pub(crate) wait: Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Head,
    Body,
    /// Open, but nothing is read any more.
    Slow,
    Closed,
}

/// One stream: about 70 bytes.
pub(super) struct Stream {
    pub(super) body: BodyParser,
    /// When the connect began; once open, when the last sign of life (or the head) came.
    pub(super) at_ns: u64,
    pub(super) socket: Option<OwnedFd>,
    pub(super) role: Role,
    pub(super) state: State,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) index: usize,
    pub(super) epoll: OwnedFd,
    pub(super) streams: Vec<Stream>,
    pub(super) tracker: Tracker,
    /// Heads that came in pieces.
    heads: HashMap<usize, Vec<u8>>,
    pub(super) pace: Pace,
    pub(super) pace_version: u64,
    /// Streams that wait for their head.
    pub(super) pending: u64,
    wait: Wait,
}

/// Runs until the fleet closes. Says through `ready` whether it could be set up.
pub(crate) fn run(
    shared: Arc<Shared>,
    index: usize,
    setup: Setup,
    ready: &SyncSender<Result<(), BenchError>>,
) {
    match Worker::new(shared, index, setup) {
        Ok(mut worker) => {
            // Nobody to hear it means that nobody needs the thread.
            if ready.send(Ok(())).is_ok() {
                worker.work();
            }
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

impl Worker {
    fn new(shared: Arc<Shared>, index: usize, setup: Setup) -> Result<Self, BenchError> {
        if setup.has_own_table {
            descriptors::take_own_table()
                .map_err(|error| BenchError::io("take a descriptor table", error))?;
        }
        if let Some(core) = setup.core {
            descriptors::pin_to(core)
                .map_err(|error| BenchError::io(format!("pin to core {core}"), error))?;
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| BenchError::io("make an epoll instance", error))?;
        let tracker = Tracker::new(shared.plan.lanes);
        Ok(Self {
            shared,
            index,
            epoll,
            streams: Vec::new(),
            tracker,
            heads: HashMap::new(),
            pace: Pace::default(),
            pace_version: 0,
            pending: 0,
            wait: setup.wait,
        })
    }

    fn work(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        let mut events = Vec::with_capacity(BATCH);
        while !shared.is_closing.load(Ordering::Acquire) {
            let wait_ns = self.open_some();
            // A wait in the kernel is one that whoever sends first ends.
            let is_driven = shared.is_driven.load(Ordering::Acquire);
            let wait = if is_driven { self.wait } else { Wait::Sleep };
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: match wait {
                    Wait::Sleep => i64::try_from(wait_ns).unwrap_or(0),
                    Wait::Spin | Wait::Tick => 0,
                },
            };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(0) | Err(_) => {
                    match wait {
                        Wait::Sleep => {}
                        // A publisher may have been given the same core.
                        Wait::Spin => rustix::thread::sched_yield(),
                        Wait::Tick => {
                            let _ = rustix::thread::nanosleep(&TICK);
                        }
                    }
                    continue;
                }
                Ok(_) => {}
            }
            let mut stats = shared.stats_of(self.index);
            for event in &events {
                let data = event.data;
                let Ok(id) = usize::try_from(data.u64()) else {
                    continue;
                };
                self.ready(id, event.flags, &mut buffer, &mut stats);
            }
        }
        self.count_lost(&mut shared.stats_of(self.index));
    }

    /// Something happened on stream `id`.
    fn ready(&mut self, id: usize, flags: epoll::EventFlags, buffer: &mut [u8], stats: &mut Stats) {
        let Some(stream) = self.streams.get(id) else {
            return;
        };
        let (Some(handle), stage) = (&stream.socket, stream.state) else {
            return;
        };
        match stage {
            State::Connecting => {
                let data = epoll::EventData::new_u64(id as u64);
                let connected = net::sockopt::socket_error(handle).and_then(|result| result);
                let sent = connected.and_then(|()| {
                    if !flags.contains(epoll::EventFlags::OUT) {
                        return Err(Errno::CONNRESET);
                    }
                    self.send_request(handle, stream.role)?;
                    epoll::modify(&self.epoll, handle, data, epoll::EventFlags::IN)
                });
                match sent {
                    Ok(()) => self.streams[id].state = State::Head,
                    Err(error) => self.ended(id, error, stats),
                }
            }
            State::Head | State::Body => {
                match net::recv(handle, &mut *buffer, RecvFlags::empty()) {
                    Ok((_, 0)) => {
                        if stage == State::Head {
                            let text = || "a subscribe was closed without an answer".to_owned();
                            stats.first_error.get_or_insert_with(text);
                        }
                        self.ended(id, Errno::CONNRESET, stats);
                    }
                    Ok((_, length)) => {
                        stats.counts.reads += 1;
                        stats.counts.bytes += length as u64;
                        let now = now_ns();
                        if stage == State::Body {
                            self.body(id, &buffer[..length], now, stats);
                        } else {
                            self.head(id, &buffer[..length], now, stats);
                        }
                    }
                    Err(Errno::AGAIN | Errno::INTR) => {}
                    Err(error) => self.ended(id, error, stats),
                }
            }
            // Its only events are errors and hang-ups.
            State::Slow => self.ended(id, Errno::CONNRESET, stats),
            State::Closed => {}
        }
    }

    /// Bytes of a head, perhaps with the begin of the body.
    fn head(&mut self, id: usize, bytes: &[u8], now: u64, stats: &mut Stats) {
        let stream = &mut self.streams[id];
        let carried = self.heads.remove(&id);
        if carried.is_none() {
            let waited = now.saturating_sub(stream.at_ns);
            stats.latencies.first_byte.saturating_record(waited);
        }
        let joined = carried.map(|mut head| {
            head.extend_from_slice(bytes);
            head
        });
        let bytes = joined.as_deref().unwrap_or(bytes);
        match head::parse(bytes) {
            Parsed::Partial => {
                let head = bytes.to_vec();
                self.heads.insert(id, head);
            }
            Parsed::Head(head) => {
                if let Some(why) = head.refusal() {
                    stats.counts.refused += 1;
                    stats.first_error.get_or_insert(why);
                    self.pending -= 1;
                    return self.close(id);
                }
                stream.body = BodyParser::of(&head);
                stream.at_ns = now;
                stats.counts.opened += 1;
                self.pending -= 1;
                if stream.role.is_slow {
                    return self.stop_reading(id);
                }
                stream.state = State::Body;
                self.shared.join(stream.role.topic);
                self.body(id, &bytes[head.length..], now, stats);
            }
            Parsed::Broken => {
                let text = || "a subscribe got an answer that is not HTTP/1".to_owned();
                stats.first_error.get_or_insert_with(text);
                self.ended(id, Errno::PROTO, stats);
            }
        }
    }

    fn stop_reading(&mut self, id: usize) {
        let stream = &mut self.streams[id];
        stream.state = State::Slow;
        if let Some(socket) = &stream.socket {
            let data = epoll::EventData::new_u64(id as u64);
            let modified = epoll::modify(&self.epoll, socket, data, epoll::EventFlags::empty());
            modified.expect("the socket was added to this epoll instance");
        }
    }

    fn body(&mut self, id: usize, bytes: &[u8], now: u64, stats: &mut Stats) {
        let (shared, tracker) = (&self.shared, &mut self.tracker);
        let stream = &mut self.streams[id];
        let topic = stream.role.topic;
        let mut is_ended = false;
        let at_ns = &mut stream.at_ns;
        stream.body.feed(bytes, &mut |item| match item {
            Item::Event(Some(stamp)) => {
                let (of, lane) = shared.topic_and_lane(stamp.group);
                if of == topic && topic != NO_TOPIC {
                    let order = tracker.observe(id, lane, stamp.sequence);
                    delivered(shared, stats, (topic, lane, stamp), order, now);
                } else {
                    stats.counts.strayed += 1;
                }
            }
            Item::Event(None) => stats.counts.foreign += 1,
            Item::Comment | Item::Retry => {
                stats.counts.signs += 1;
                let gap = now.saturating_sub(*at_ns);
                stats.latencies.sign_gap.saturating_record(gap);
                *at_ns = now;
            }
            Item::End => is_ended = true,
        });
        if is_ended {
            self.ended(id, Errno::CONNRESET, stats);
        }
    }

    /// The stream ended without having been asked to.
    fn ended(&mut self, id: usize, why: Errno, stats: &mut Stats) {
        match self.streams[id].state {
            State::Connecting | State::Head => {
                self.pending -= 1;
                fail(stats, "open a stream", why);
            }
            State::Body => {
                stats.counts.dropped += 1;
                self.shared.leave(self.streams[id].role.topic);
            }
            State::Slow => stats.counts.cut += 1,
            State::Closed => {}
        }
        self.close(id);
    }

    fn close(&mut self, id: usize) {
        self.heads.remove(&id);
        let stream = &mut self.streams[id];
        stream.socket = None;
        stream.state = State::Closed;
    }

    /// Looks which events the open streams, and those that were dropped, did not get.
    fn count_lost(&self, stats: &mut Stats) {
        for (id, stream) in self.streams.iter().enumerate() {
            // A head makes the time that of the head; without one nothing was promised.
            let is_reader = stream.state != State::Slow && !stream.role.is_slow;
            if !is_reader || !stream.body.is_begun() {
                continue;
            }
            for lane in 0..self.shared.plan.lanes {
                let topic = stream.role.topic;
                let published = self.shared.published(topic, lane);
                if self.shared.is_unanswered(topic, lane) {
                    // Nobody knows whether that event was to come.
                    stats.counts.delivered -= self.tracker.beyond(id, lane, published);
                }
                let lost = self.tracker.missing(id, lane, published);
                stats.counts.lost += lost;
                if lost > 0 {
                    stats.wrong_topics.insert(topic);
                }
            }
        }
    }
}

/// Counts a delivery of an event of the stream's own topic.
fn delivered(
    shared: &Shared,
    stats: &mut Stats,
    (topic, lane, stamp): (u32, u32, Stamp),
    order: Order,
    now: u64,
) {
    if order == Order::Doubled {
        stats.counts.doubled += 1;
        stats.wrong_topics.insert(topic);
        return;
    }
    if order == Order::Late {
        stats.counts.reordered += 1;
        stats.wrong_topics.insert(topic);
    }
    stats.counts.delivered += 1;
    let latency = now.saturating_sub(stamp.sent_ns);
    stats.latencies.delivery.saturating_record(latency);
    if shared
        .arrivals
        .arrive(shared.event(topic, lane, stamp.sequence))
    {
        stats.latencies.to_all.saturating_record(latency);
    }
}

pub(super) fn fail(stats: &mut Stats, what: &str, error: Errno) {
    stats.counts.failed += 1;
    let text = || format!("cannot {what}: {error}");
    stats.first_error.get_or_insert_with(text);
}
