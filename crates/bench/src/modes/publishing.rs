//! Publishers: keep-alive connections that each wait for an answer before the next request, many
//! to a thread.

mod answer;
mod connection;
mod schedule;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

use crate::clock::now_ns;
use crate::report::{Histogram, Series, Shape, latency_histogram};
use crate::{BenchError, BenchOptions, Progress, Target, descriptors};
use connection::{Connection, Settled};
use schedule::{Next, Schedule};

/// Longest wait for orders.
const LOOK_NS: u64 = 20_000_000;
/// Time without any answer after which a thread gives its requests up.
const ANSWER_NS_MAX: u64 = 30_000_000_000;
/// Bytes read at once.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections taken from the kernel at once.
const READY_MAX: usize = 256;
/// Time between two points of the rate.
const SAMPLE: Duration = Duration::from_millis(250);
/// How long to publish when neither a number nor a time was asked for.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);

/// What to publish.
#[derive(Debug, Clone)]
pub(super) struct Load<'a> {
    pub(super) target: &'a Target,
    pub(super) topic: &'a str,
    /// Connections. Each numbers its events apart, under its own number as group.
    pub(super) publishers: u32,
    /// Events in one request; 0 sends plain requests of one.
    pub(super) batch: u32,
    /// Bytes of an event's data.
    pub(super) size: usize,
    /// Events in all; goes before `duration`.
    pub(super) events: Option<u64>,
    pub(super) duration: Option<Duration>,
    /// Requests per second, of all publishers together.
    pub(super) rate: Option<f64>,
    pub(super) threads: usize,
    pub(super) core: Option<usize>,
    /// Keep the id of this acknowledged event, counted from 0.
    pub(super) kept: Option<u64>,
}

impl<'a> Load<'a> {
    /// The load that the options describe.
    pub(super) fn of(options: &BenchOptions, target: &'a Target, topic: &'a str) -> Self {
        Self {
            target,
            topic,
            publishers: options.publishers.max(1),
            batch: options.batch,
            size: options.size,
            events: options.events,
            duration: options.duration,
            rate: options.rate,
            threads: options.threads.unwrap_or(1).max(1),
            core: options.pin_generator,
            kept: None,
        }
    }
}

/// What became of a publisher's events.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// Events sent, numbered from 0.
    pub(super) sent: u32,
    /// Those that the server said no to.
    pub(super) refused: Vec<u32>,
    /// Those without an answer: they may have been published or not.
    pub(super) unknown: Vec<u32>,
}

/// What publishing brought.
#[derive(Debug)]
pub(super) struct Published {
    /// By publisher.
    pub(super) lanes: Vec<Lane>,
    pub(super) requests: u64,
    pub(super) acknowledged: u64,
    /// Hashes of the ids of acknowledged events.
    pub(super) ids: Vec<u64>,
    /// The id that was to be kept.
    pub(super) kept: Option<String>,
    /// From the moment a request was (or should have been) sent to the end of its answer.
    pub(super) latencies: Histogram<u64>,
    pub(super) elapsed: Duration,
    /// Connections made again.
    pub(super) reconnects: u64,
    /// The first thing that went wrong, in words.
    pub(super) error: Option<String>,
    /// Acknowledged events per second over time.
    pub(super) rate: Series,
}

impl Published {
    fn new() -> Self {
        Self {
            lanes: vec![],
            requests: 0,
            acknowledged: 0,
            ids: vec![],
            kept: None,
            latencies: latency_histogram(),
            elapsed: Duration::ZERO,
            reconnects: 0,
            error: None,
            rate: Series {
                chart: "Events acknowledged".into(),
                name: "publishers".into(),
                x_unit: "s".into(),
                y_unit: "events/s".into(),
                shape: Shape::Line,
                labels: vec![],
                points: vec![],
            },
        }
    }

    pub(super) fn refused(&self) -> u64 {
        self.lanes
            .iter()
            .map(|lane| lane.refused.len() as u64)
            .sum()
    }

    pub(super) fn unknown(&self) -> u64 {
        self.lanes
            .iter()
            .map(|lane| lane.unknown.len() as u64)
            .sum()
    }

    /// Ids that were given out more than once.
    pub(super) fn doubled_ids(&mut self) -> u64 {
        self.ids.sort_unstable();
        self.ids
            .windows(2)
            .filter(|pair| pair[0] == pair[1])
            .count() as u64
    }
}

/// Publishes until the load is done or `stop` says so, and waits for every answer.
pub(super) fn publish(
    load: &Load<'_>,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Published, BenchError> {
    let acknowledged = AtomicU64::new(0);
    let begin_ns = now_ns();
    let threads = load.threads.min(load.publishers as usize).max(1);
    let mut published = Published::new();
    let shares = std::thread::scope(|scope| {
        let works = (0..threads).map(|index| {
            let count = &acknowledged;
            let body = move || Worker::new(load, (index, threads), begin_ns)?.work(stop, count);
            std::thread::Builder::new()
                .name(format!("publish-{index}"))
                .spawn_scoped(scope, body)
        });
        let works = works.collect::<Result<Vec<_>, _>>();
        let works = works.map_err(|error| BenchError::io("start a publishing thread", error))?;
        let mut last = (begin_ns, 0);
        while works.iter().any(|work| !work.is_finished()) {
            std::thread::park_timeout(Duration::from_millis(5));
            progress.set(acknowledged.load(Ordering::Relaxed));
            last = sample(&mut published.rate, begin_ns, last, &acknowledged);
        }
        let gone = || Err(BenchError::Server("a publishing thread panicked".into()));
        let shares = works
            .into_iter()
            .map(|work| work.join().unwrap_or_else(|_| gone()));
        shares.collect::<Result<Vec<_>, BenchError>>()
    })?;
    published.elapsed = Duration::from_nanos(now_ns() - begin_ns);
    published
        .lanes
        .resize_with(load.publishers as usize, Lane::default);
    for share in shares {
        add(&mut published, share);
    }
    Ok(published)
}

/// A topic that no other run has used: a hub keeps what was published before.
pub(super) fn run_topic(mode: &str) -> String {
    format!("gush-bench-{mode}-{}-{:x}", std::process::id(), now_ns())
}

/// Adds a point of the rate, when it is time to.
fn sample(
    rate: &mut Series,
    begin_ns: u64,
    (last_ns, last_count): (u64, u64),
    acknowledged: &AtomicU64,
) -> (u64, u64) {
    let now = now_ns();
    let passed = Duration::from_nanos(now - last_ns);
    if passed < SAMPLE {
        return (last_ns, last_count);
    }
    let count = acknowledged.load(Ordering::Relaxed);
    #[expect(
        clippy::cast_precision_loss,
        reason = "events of a quarter of a second"
    )]
    let per_second = (count - last_count) as f64 / passed.as_secs_f64();
    let at = Duration::from_nanos(now - begin_ns).as_secs_f64();
    rate.points.push((at, per_second));
    (now, count)
}

fn add(published: &mut Published, share: Share) {
    for (number, lane) in share.lanes {
        published.lanes[number as usize] = lane;
    }
    published.requests += share.requests;
    published.acknowledged += share.acknowledged;
    published.ids.extend(share.ids);
    published.kept = published.kept.take().or(share.kept);
    let same = published.latencies.add(&share.latencies);
    same.expect("both have the same bounds");
    published.reconnects += share.reconnects;
    published.error = published.error.take().or(share.error);
}

/// One thread's part of what was published.
#[derive(Debug)]
struct Share {
    lanes: Vec<(u32, Lane)>,
    requests: u64,
    acknowledged: u64,
    ids: Vec<u64>,
    kept: Option<String>,
    latencies: Histogram<u64>,
    reconnects: u64,
    error: Option<String>,
}

struct Worker<'a> {
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
    fn new(
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

    fn work(mut self, stop: &AtomicBool, acknowledged: &AtomicU64) -> Result<Share, BenchError> {
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
                self.go_on(place, acknowledged)?;
            }
            if now_ns() - heard_ns > ANSWER_NS_MAX {
                self.give_up();
                break;
            }
        }
        let lanes = self
            .connections
            .iter_mut()
            .map(|connection| connection.take_lane());
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
    fn go_on(&mut self, place: usize, acknowledged: &AtomicU64) -> Result<(), BenchError> {
        if self
            .connections
            .get(place)
            .is_none_or(|connection| !connection.is_busy())
        {
            // An idle connection that the server closed is made again when it is needed.
            if let Some(connection) = self.connections.get_mut(place) {
                connection.forget_if_closed();
            }
            return Ok(());
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
        Ok(())
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
        let text = || format!("no answer for {} s", ANSWER_NS_MAX / 1_000_000_000);
        self.share.error.get_or_insert_with(text);
    }
}

/// 64 bits stand for an id: among ten million, two unlike ones meet with a chance of one in 370,000.
fn hash(id: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
