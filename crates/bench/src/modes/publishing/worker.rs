//! One publishing thread: sends what is due on free connections and reads the answers.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use super::connection::{Connection, Settled};
use super::schedule::{Next, Schedule};
use super::{Lane, Load};
use crate::clock::now_ns;
use crate::report::{Histogram, latency_histogram};
use crate::{BenchError, descriptors};

/// Longest wait for orders.
const LOOK_NS: u64 = 20_000_000;
/// Bytes read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections taken from the kernel at once.
const READY_MAX: usize = 256;

/// One thread's part of what was published.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) lanes: Vec<(u32, Lane)>,
    pub(super) requests: u64,
    pub(super) acknowledged: u64,
    pub(super) ids: Vec<u64>,
    pub(super) kept: Option<String>,
    pub(super) latencies: Histogram<u64>,
    pub(super) reconnects: u64,
    pub(super) error: Option<String>,
}

/// One thread and its connections.
pub(super) struct Worker<'a> {
    load: &'a Load<'a>,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Connections that wait for something to send.
    idle: Vec<usize>,
    schedule: Schedule,
    buffer: Vec<u8>,
    share: Share,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        load: &'a Load<'a>,
        (index, threads): (usize, usize),
        begin_ns: u64,
    ) -> Result<Self, BenchError> {
        if let Some(core) = load.core {
            descriptors::pin_to(core)
                .map_err(|error| BenchError::io(format!("pin to core {core}"), error))?;
        }
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)
            .map_err(|error| BenchError::io("make an epoll instance", error))?;
        let lanes = (0..load.publishers).skip(index).step_by(threads);
        let connections = lanes.map(Connection::new).collect::<Vec<_>>();
        let mut worker = Self {
            load,
            epoll,
            idle: (0..connections.len()).rev().collect(),
            connections,
            schedule: Schedule::new(load, (index, threads), begin_ns),
            buffer: vec![0; BUFFER_BYTES],
            share: Share {
                lanes: vec![],
                requests: 0,
                acknowledged: 0,
                ids: vec![],
                kept: None,
                latencies: latency_histogram(),
                reconnects: 0,
                error: None,
            },
        };
        for place in 0..worker.connections.len() {
            worker.connect(place)?;
        }
        Ok(worker)
    }

    fn connect(&mut self, place: usize) -> Result<(), BenchError> {
        let address = self.load.target.publish_address();
        let failed = |error| BenchError::io(format!("connect to {address}"), error);
        let connection = &mut self.connections[place];
        let socket = connection.connect(address).map_err(failed)?;
        let data = epoll::EventData::new_u64(place as u64);
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
        epoll::add(&self.epoll, socket, data, flags).map_err(|error| failed(error.into()))
    }

    /// Publishes until the load is done or `stop` says so, and waits for every answer.
    pub(super) fn work(
        mut self,
        stop: &AtomicBool,
        acknowledged: &AtomicU64,
    ) -> Result<Share, BenchError> {
        let mut ready = Vec::with_capacity(READY_MAX);
        let mut heard_ns = now_ns();
        loop {
            let wait_ns = self.send_due(stop.load(Ordering::Relaxed))?;
            let busy = self.connections.len() - self.idle.len();
            let Some(wait_ns) = wait_ns.or((busy > 0).then_some(LOOK_NS)) else {
                break;
            };
            ready.clear();
            let tv_nsec = i64::try_from(wait_ns.min(LOOK_NS)).unwrap_or(0);
            let timeout = Timespec { tv_sec: 0, tv_nsec };
            // Interrupted is no trouble, and there is no other error for a valid descriptor.
            let _ = epoll::wait(&self.epoll, spare_capacity(&mut ready), Some(&timeout));
            if busy == 0 || !ready.is_empty() {
                heard_ns = now_ns();
            }
            for event in &ready {
                let place = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
                self.go_on(place, acknowledged);
            }
            if Duration::from_nanos(now_ns() - heard_ns) > self.load.patience {
                self.give_up();
                break;
            }
        }
        let lanes = self.connections.iter_mut().map(Connection::take_lane);
        self.share.lanes = lanes.collect();
        Ok(self.share)
    }

    /// Sends what is due on idle connections. Nanoseconds until more is due; `None` when nothing
    /// will be.
    fn send_due(&mut self, is_stopped: bool) -> Result<Option<u64>, BenchError> {
        if is_stopped {
            self.schedule.end();
        }
        while let Some(place) = self.idle.last().copied() {
            let now = now_ns();
            let (due_ns, events) = match self.schedule.next(now) {
                Next::Send { due_ns, events } => (due_ns, events),
                Next::Wait(until_ns) => return Ok(Some(until_ns - now)),
                Next::Over => return Ok(None),
            };
            self.idle.pop();
            let has_socket = self.connections[place].is_connected();
            if !has_socket {
                self.share.reconnects += 1;
                self.connect(place)?;
            }
            let connection = &mut self.connections[place];
            connection.begin(self.load, due_ns, events);
            self.share.requests += 1;
            self.write(place);
        }
        // All are busy: what is due waits for an answer.
        Ok(None)
    }

    fn write(&mut self, place: usize) {
        if let Err(error) = self.connections[place].write() {
            self.broken(place, &error.to_string());
        }
    }

    /// A connection can be written to, or has something to read.
    fn go_on(&mut self, place: usize, acknowledged: &AtomicU64) {
        if self
            .connections
            .get(place)
            .is_none_or(|connection| !connection.is_busy())
        {
            // An idle connection that the server closed is made again when it is needed.
            if let Some(connection) = self.connections.get_mut(place) {
                connection.forget_if_closed();
            }
            return;
        }
        self.write(place);
        match self.connections[place].read(self.load.batch > 0, &mut self.buffer) {
            Ok(None) => {}
            Ok(Some(settled)) => {
                acknowledged.fetch_add(settled.acknowledged, Ordering::Relaxed);
                self.settle(settled);
                self.idle.push(place);
            }
            Err(error) => self.broken(place, &error.to_string()),
        }
    }

    fn settle(&mut self, settled: Settled) {
        let share = &mut self.share;
        share
            .latencies
            .saturating_record(now_ns().saturating_sub(settled.due_ns));
        let index = self
            .load
            .kept
            .and_then(|kept| kept.checked_sub(share.acknowledged));
        if let Some(id) = index.and_then(|index| settled.ids.get(usize::try_from(index).ok()?)) {
            share.kept = Some(id.clone());
        }
        share.acknowledged += settled.acknowledged;
        share.ids.extend(settled.ids.iter().map(|id| hash(id)));
        share.error = share.error.take().or(settled.error);
    }

    /// The connection broke with a request on its way.
    fn broken(&mut self, place: usize, why: &str) {
        let connection = &mut self.connections[place];
        if connection.is_busy() {
            connection.give_up();
            self.idle.push(place);
        }
        self.share.error.get_or_insert_with(|| why.to_owned());
    }

    fn give_up(&mut self) {
        for connection in &mut self.connections {
            connection.give_up();
        }
        let text = || format!("no answer for {} s", self.load.patience.as_secs_f64());
        self.share.error.get_or_insert_with(text);
    }
}

/// 64 bits stand for an id: among ten million, two unlike ones meet with a chance of one in
/// 370,000.
fn hash(id: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
