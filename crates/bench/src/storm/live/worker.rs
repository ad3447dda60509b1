//! One thread with its share of the subscribers: opens, reads, drops, and tries again when each
//! one's behaviour says so.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fastrand::Rng;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendFlags};

use super::super::policy::Policy;
use super::super::tally::GivenUp;
use super::notes::{Note, What};
use super::subscriber::{State, Subscriber};
use crate::clock::now_ns;
use crate::descriptors;
use crate::engine::head::{self, Parsed};
use crate::engine::{Sources, connect};
use crate::error::BenchError;
use crate::target::Target;

const BATCH: usize = 512;
const BUFFER_BYTES: usize = 64 << 10;
/// Longest wait before a thread looks for orders: all sockets are closed within this and what the
/// closing takes.
const LOOK_NS: u64 = 5_000_000;
/// Attempts begun before sockets are looked at again.
const ATTEMPTS_PER_TURN: usize = 64;

/// What the threads share with the run.
pub(super) struct Shared {
    pub(super) target: Target,
    pub(super) address: SocketAddr,
    pub(super) topic: String,
    pub(super) policy: Policy,
    pub(super) sources: Sources,
    pub(super) subscribers: u32,
    /// How many of them are to close their sockets.
    pub(super) dropped: u32,
    pub(super) threads: u32,
    pub(super) seed: u64,
    /// When the first stream is opened, and the time to the next one.
    pub(super) begin_ns: u64,
    pub(super) step_ns: u64,
    pub(super) has_own_tables: bool,
    /// The clients are to close their sockets.
    pub(super) closes: AtomicBool,
    pub(super) is_over: AtomicBool,
    pub(super) open: AtomicU64,
    pub(super) given_up: AtomicU64,
    /// Rises with every event that comes. Heartbeats and delays do not count: of so many streams
    /// there is always one that gets one.
    pub(super) moved: AtomicU64,
}

/// What a thread hands back.
#[derive(Default)]
pub(super) struct Found {
    pub(super) notes: Vec<Note>,
    /// How often each event was passed over.
    pub(super) missed: HashMap<u32, u64>,
    pub(super) doubled: u64,
    /// The next event of each subscriber.
    pub(super) next: Vec<u32>,
    /// Times from connect to head, in nanoseconds.
    pub(super) services: Vec<u64>,
    /// The delays told when streams were lost.
    pub(super) told_ms: Vec<u64>,
    /// When streams were lost, and the `retry:` that each ended with.
    pub(super) endings: Vec<(u64, Option<Duration>)>,
}

struct Worker {
    shared: Arc<Shared>,
    first: u32,
    epoll: OwnedFd,
    subscribers: Vec<Subscriber>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    random: Rng,
    found: Found,
    has_closed: bool,
}

/// Runs until the run is over.
pub(super) fn run(shared: Arc<Shared>, index: u32) -> Result<Found, BenchError> {
    if shared.has_own_tables {
        descriptors::take_own_table()
            .map_err(|error| BenchError::io("take a descriptor table", error))?;
    }
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
        .map_err(|error| BenchError::io("make an epoll instance", error))?;
    let mut worker = Worker {
        first: index,
        epoll,
        subscribers: Vec::new(),
        due: BinaryHeap::new(),
        random: Rng::with_seed(shared.seed ^ u64::from(index)),
        found: Found::default(),
        has_closed: false,
        shared,
    };
    worker.plan_all();
    worker.work();
    let Worker {
        subscribers,
        mut found,
        ..
    } = worker;
    found.doubled = subscribers.iter().map(|one| one.doubled).sum();
    found.next = subscribers.iter().map(|one| one.next).collect();
    Ok(found)
}

impl Worker {
    fn number(&self, id: usize) -> u32 {
        u32::try_from(id).unwrap_or(u32::MAX) * self.shared.threads + self.first
    }

    fn plan_all(&mut self) {
        let (shared, mut id) = (Arc::clone(&self.shared), 0);
        while self.number(id) < shared.subscribers {
            let at = shared.begin_ns + u64::from(self.number(id)) * shared.step_ns;
            self.subscribers.push(Subscriber::default());
            self.due.push(Reverse((at, id)));
            id += 1;
        }
    }

    fn work(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut buffer = vec![0; BUFFER_BYTES].into_boxed_slice();
        let mut events = Vec::with_capacity(BATCH);
        while !shared.is_over.load(Ordering::Acquire) {
            if shared.closes.load(Ordering::Acquire) && !self.has_closed {
                self.has_closed = true;
                self.close_dropped();
            }
            let wait_ns = self.try_due();
            let timeout = Timespec {
                tv_sec: 0,
                tv_nsec: i64::try_from(wait_ns).unwrap_or(0),
            };
            events.clear();
            if epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)).is_err() {
                continue;
            }
            for event in &events {
                let data = event.data;
                let id = usize::try_from(data.u64()).unwrap_or(usize::MAX);
                self.ready(id, event.flags, &mut buffer);
            }
        }
    }

    /// Begins the attempts that are due; gives the time until the next one.
    fn try_due(&mut self) -> u64 {
        for _ in 0..ATTEMPTS_PER_TURN {
            let now = now_ns();
            match self.due.peek() {
                Some(Reverse((at, _))) if *at > now => return (*at - now).min(LOOK_NS),
                None => return LOOK_NS,
                Some(_) => {}
            }
            if let Some(Reverse((_, id))) = self.due.pop() {
                self.attempt(id, now);
            }
        }
        0
    }

    /// Closes the sockets of those who are to be dropped.
    fn close_dropped(&mut self) {
        let (all, dropped) = (self.shared.subscribers, self.shared.dropped);
        for id in 0..self.subscribers.len() {
            if self.subscribers[id].state == State::Open
                && is_dropped(self.number(id), dropped, all)
            {
                self.lost(id);
            }
        }
    }

    fn note(&mut self, what: What) {
        self.found.notes.push((now_ns(), what));
    }

    fn attempt(&mut self, id: usize, now: u64) {
        let (shared, number) = (Arc::clone(&self.shared), self.number(id));
        self.note(What::Tries);
        let one = &mut self.subscribers[id];
        let source = u64::from(number) + u64::from(one.attempts) * u64::from(shared.subscribers);
        one.attempts += 1;
        one.began_ns = now;
        let begun = connect(shared.address, shared.sources, source).and_then(|(socket, is_in)| {
            let data = epoll::EventData::new_u64(id as u64);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT;
            epoll::add(&self.epoll, &socket, data, flags)?;
            Ok((socket, is_in))
        });
        match begun {
            Ok((socket, _)) => {
                let one = &mut self.subscribers[id];
                one.socket = Some(socket);
                one.state = State::Connecting;
            }
            Err(_) => self.no_answer(id),
        }
    }

    fn ready(&mut self, id: usize, flags: epoll::EventFlags, buffer: &mut [u8]) {
        let Some(one) = self.subscribers.get(id) else {
            return;
        };
        match one.state {
            State::Away => {}
            State::Connecting => {
                if self.connected(id, flags).is_err() {
                    self.no_answer(id);
                }
            }
            State::Head | State::Open => self.read(id, buffer),
        }
    }

    fn connected(&mut self, id: usize, flags: epoll::EventFlags) -> Result<(), Errno> {
        let one = &mut self.subscribers[id];
        let Some(socket) = &one.socket else {
            return Ok(());
        };
        net::sockopt::socket_error(socket).and_then(|result| result)?;
        if !flags.contains(epoll::EventFlags::OUT) {
            return Err(Errno::CONNRESET);
        }
        let cursor = match one.last_id.as_str() {
            "" => String::new(),
            id => format!("Last-Event-ID: {id}\r\n"),
        };
        let shared = &self.shared;
        let request = shared.target.subscribe_request_with(&shared.topic, &cursor);
        if net::send(socket, &request, SendFlags::NOSIGNAL)? < request.len() {
            return Err(Errno::NOBUFS);
        }
        let data = epoll::EventData::new_u64(id as u64);
        epoll::modify(&self.epoll, socket, data, epoll::EventFlags::IN)?;
        one.state = State::Head;
        Ok(())
    }

    fn read(&mut self, id: usize, buffer: &mut [u8]) {
        let Some(socket) = &self.subscribers[id].socket else {
            return;
        };
        let length = match net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((_, length)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Err(_) => 0,
        };
        let is_open = self.subscribers[id].state == State::Open;
        match (length, is_open) {
            (0, true) => self.lost(id),
            (0, false) => self.no_answer(id),
            (length, true) => self.body(id, &buffer[..length]),
            (length, false) => self.head(id, &buffer[..length]),
        }
    }

    fn head(&mut self, id: usize, bytes: &[u8]) {
        let one = &mut self.subscribers[id];
        one.head.extend_from_slice(bytes);
        match head::parse(&one.head) {
            Parsed::Partial => {}
            Parsed::Broken => self.no_answer(id),
            Parsed::Head(head) if head.status == 200 => {
                let bytes = std::mem::take(&mut one.head);
                one.begin(&head);
                let before = one.told;
                let is_whole = one.body(&bytes[head.length..], &mut self.found.missed);
                if is_whole || head.content_length.is_some() {
                    return self.refused_softly(id, before);
                }
                let took = now_ns().saturating_sub(one.began_ns);
                one.state = State::Open;
                one.failures = 0;
                self.found.services.push(took);
                self.shared.open.fetch_add(1, Ordering::AcqRel);
                self.note(What::IsBack);
            }
            Parsed::Head(_) => {
                self.note(What::Hard);
                let survives = self
                    .shared
                    .policy
                    .behaviour(self.number(id))
                    .survives_status;
                self.failed(id, survives, GivenUp::Status);
            }
        }
    }

    fn body(&mut self, id: usize, bytes: &[u8]) {
        let one = &mut self.subscribers[id];
        let before = (one.next, one.doubled);
        let is_over = one.body(bytes, &mut self.found.missed);
        if before != (one.next, one.doubled) {
            self.shared.moved.fetch_add(1, Ordering::Relaxed);
        }
        if is_over {
            self.lost(id);
        }
    }

    /// A short answer. Its delay came with it, or what was told before holds.
    fn refused_softly(&mut self, id: usize, before: Option<Duration>) {
        let one = &mut self.subscribers[id];
        one.told = one.told.or(before);
        self.note(What::Softly);
        self.failed(id, true, GivenUp::Status);
    }

    fn no_answer(&mut self, id: usize) {
        self.note(What::NoAnswer);
        let behaviour = *self.shared.policy.behaviour(self.number(id));
        self.failed(id, behaviour.survives_no_answer, GivenUp::NoAnswer);
    }

    /// An open stream is gone.
    fn lost(&mut self, id: usize) {
        self.shared.open.fetch_sub(1, Ordering::AcqRel);
        self.note(What::Notices);
        let (told, words) = (self.subscribers[id].told, self.subscribers[id].last_words);
        self.found.endings.push((now_ns(), words));
        let told = told.and_then(|told| u64::try_from(told.as_millis()).ok());
        self.found.told_ms.extend(told);
        self.leave(id);
        self.plan(id);
    }

    fn failed(&mut self, id: usize, survives: bool, why: GivenUp) {
        self.leave(id);
        let attempts_max = self.shared.policy.behaviour(self.number(id)).attempts_max;
        let one = &mut self.subscribers[id];
        one.failures += 1;
        let why = match (survives, attempts_max > 0 && one.failures >= attempts_max) {
            (false, _) => Some(why),
            (true, true) => Some(GivenUp::Attempts),
            (true, false) => None,
        };
        match why {
            Some(why) => {
                self.shared.given_up.fetch_add(1, Ordering::AcqRel);
                self.note(What::GivesUp(why));
            }
            None => self.plan(id),
        }
    }

    fn leave(&mut self, id: usize) {
        let one = &mut self.subscribers[id];
        one.socket = None;
        one.state = State::Away;
        one.head.clear();
    }

    fn plan(&mut self, id: usize) {
        let behaviour = *self.shared.policy.behaviour(self.number(id));
        let one = &self.subscribers[id];
        let wait = behaviour.next_wait(one.failures, one.told, &mut self.random);
        let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 2);
        self.due
            .push(Reverse((now_ns().saturating_add(wait_ns), id)));
    }
}

/// Whether one is among so many of all that are picked at even distances.
const fn is_dropped(number: u32, dropped: u32, all: u32) -> bool {
    let (number, dropped, all) = (number as u64, dropped as u64, all as u64);
    (number + 1) * dropped / all > number * dropped / all
}

#[cfg(test)]
mod tests {
    use super::is_dropped;

    #[test]
    fn as_many_as_asked_for_are_picked_and_not_side_by_side() {
        for dropped in [0, 1, 3, 10, 999, 1000] {
            let picked: Vec<u32> = (0..1000)
                .filter(|number| is_dropped(*number, dropped, 1000))
                .collect();
            assert_eq!(picked.len(), dropped as usize);
        }
        assert!(is_dropped(99, 10, 1000) && !is_dropped(100, 10, 1000));
    }
}
