//! Publishes events on a schedule or by a window, and waits until they have come.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Fleet;
use super::publisher::Publisher;
use crate::clock::now_ns;
use crate::descriptors;
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::progress::Progress;
use crate::report::{Histogram, latency_histogram};
use crate::stamp::Stamp;
use crate::target::Target;

/// Events under way where neither a rate nor a window was given.
pub const DEFAULT_WINDOW: u32 = 4;
/// Time to publish where neither a number of events nor a time was given.
pub const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Refusals in a row after which a publisher stops.
const REFUSALS_MAX: u32 = 8;
/// Time between two looks at the totals.
const LOOK: Duration = Duration::from_millis(5);

/// What to publish.
#[derive(Clone, Copy)]
pub struct Load<'a> {
    /// Where to.
    pub target: &'a Target,
    /// Name of each topic that is published to.
    pub topic: &'a (dyn Fn(u32) -> String + Sync),
    /// Stop after so many events; nothing: after `duration`.
    pub events: Option<u64>,
    /// How long to publish.
    pub duration: Duration,
    /// Events per second, on a schedule that does not wait for the server.
    pub rate: Option<f64>,
    /// Without a rate: most events that have not reached everybody.
    pub window: u32,
    /// Bytes of data.
    pub size: usize,
    /// Core of the publishing threads.
    pub core: Option<usize>,
    /// Time without progress after which missing events are given up.
    pub patience: Duration,
}

impl<'a> Load<'a> {
    /// What the options say.
    pub fn from_options(
        options: &BenchOptions,
        target: &'a Target,
        topic: &'a (dyn Fn(u32) -> String + Sync),
    ) -> Self {
        Self {
            target,
            topic,
            events: options.events,
            duration: options.duration_or(DEFAULT_DURATION),
            rate: options.rate,
            window: options.window.unwrap_or(DEFAULT_WINDOW).max(1),
            size: options.size,
            core: options.pin_generator,
            patience: options.patience,
        }
    }
}

impl Load<'_> {
    /// Begins the part of the run in which this is published and reaches `streams` streams.
    pub fn begin(&self, name: &str, streams: u64, progress: &Progress) {
        match self.events {
            Some(events) => progress.phase(name, events.saturating_mul(streams)),
            None => progress.timed_phase(name, self.duration),
        }
    }
}

/// What publishing came to.
#[derive(Clone, Debug)]
pub struct Driven {
    /// Events the server accepted.
    pub published: u64,
    /// Events the server refused; they are sent again under the same number.
    pub refused: u64,
    /// Events whose publish got no answer: they may have been taken or not.
    pub unanswered: u64,
    /// Deliveries that are due for the accepted events.
    pub expected: u64,
    /// Times that everything under way was given up, because nothing moved for too long.
    pub given_up: u64,
    /// From the first publish to the last delivery; where one is missing, at least to the last
    /// publish.
    pub elapsed: Duration,
    /// From the begin of a publish to its answer, in nanoseconds.
    pub answer: Histogram<u64>,
    /// How late publishes began, against their schedule, in nanoseconds.
    pub late: Histogram<u64>,
    /// What stopped a publisher early.
    pub error: Option<String>,
}

impl Default for Driven {
    fn default() -> Self {
        Self {
            published: 0,
            refused: 0,
            unanswered: 0,
            expected: 0,
            given_up: 0,
            elapsed: Duration::ZERO,
            answer: latency_histogram(),
            late: latency_histogram(),
            error: None,
        }
    }
}

impl Fleet {
    /// Publishes with as many publishers as the plan has lanes, and waits for the deliveries. May
    /// be called again; the numbering goes on.
    ///
    /// # Errors
    /// [`BenchError::Io`] when the first connection to publish on cannot be made.
    pub fn drive(&self, load: &Load<'_>, progress: &Progress) -> Result<Driven, BenchError> {
        let mut publishers = Vec::new();
        for _ in 0..self.shared.plan.lanes.max(1) {
            let address = load.target.publish_address();
            let mut publisher = Publisher::new(address, load.patience);
            publisher
                .connect()
                .map_err(|error| BenchError::io("connect to publish", error))?;
            publishers.push(publisher);
        }
        self.shared.is_driven.store(true, Ordering::Release);
        let total = Mutex::new(Driven::default());
        let running = AtomicUsize::new(publishers.len());
        let before = self.counts().delivered;
        let begin = Instant::now();
        let begin_ns = now_ns();
        let (given_up, end) = std::thread::scope(|scope| {
            for (lane, publisher) in (0..).zip(publishers) {
                let (total, running) = (&total, &running);
                scope.spawn(move || {
                    let driven = self.publish_lane(lane, publisher, load, begin_ns);
                    driven.merge_into(&mut total.lock().unwrap_or_else(PoisonError::into_inner));
                    running.fetch_sub(1, Ordering::Release);
                });
            }
            let expected = || {
                total
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .expected
            };
            self.wait_delivered(&running, before, load.patience, (progress, &expected))
        });
        self.shared.is_driven.store(false, Ordering::Release);
        self.shared.arrivals.unsubscribe_all();
        let mut driven = total.into_inner().unwrap_or_else(PoisonError::into_inner);
        driven.given_up = given_up;
        driven.elapsed = end.duration_since(begin);
        Ok(driven)
    }

    /// Waits until all publishers are done and all is delivered, or nothing moves any more. Gives
    /// how often what was under way had to be given up, and when the last progress was.
    fn wait_delivered(
        &self,
        running: &AtomicUsize,
        before: u64,
        patience: Duration,
        (progress, expected): (&Progress, &dyn Fn() -> u64),
    ) -> (u64, Instant) {
        let mut given_up = 0;
        let (mut last, mut moved_at) = (before, Instant::now());
        let mut published_at = None;
        loop {
            let is_published = running.load(Ordering::Acquire) == 0;
            if is_published {
                published_at.get_or_insert_with(Instant::now);
            }
            let delivered = self.counts().delivered;
            if delivered != last {
                (last, moved_at) = (delivered, Instant::now());
                progress.set(delivered - before);
            }
            if is_published && delivered - before >= expected() {
                return (given_up, moved_at);
            }
            if moved_at.elapsed() > patience {
                let in_flight = self.shared.arrivals.in_flight();
                self.shared.arrivals.give_up();
                if is_published {
                    let end = published_at.map_or(moved_at, |at| at.max(moved_at));
                    return (given_up + u64::from(in_flight > 0), end);
                }
                given_up += u64::from(in_flight > 0);
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn publish_lane(
        &self,
        lane: u32,
        mut publisher: Publisher,
        load: &Load<'_>,
        begin_ns: u64,
    ) -> Driven {
        let mut driven = Driven::default();
        if let Some(core) = load.core
            && let Err(error) = descriptors::pin_to(core)
        {
            driven.error = Some(format!("cannot pin to core {core}: {error}"));
            return driven;
        }
        let (shared, topics) = (&self.shared, self.shared.plan.topics);
        if load.rate.is_none() {
            shared.arrivals.subscribe(std::thread::current());
        }
        let mut turn = Turn::new(self, lane);
        let mut bytes = Bytes::default();
        let mut refusals = 0;
        while refusals < REFUSALS_MAX
            && let Some(moment) = self.next_moment(&turn, load, begin_ns)
        {
            let topic = u32::try_from(turn.number % u64::from(topics)).unwrap_or(0);
            let sequence = shared.published(topic, lane);
            let event = shared.event(topic, lane, sequence);
            let members = shared.members(topic);
            shared.arrivals.expect(event, members);
            let now = now_ns();
            let stamp = Stamp {
                group: shared.group(topic, lane),
                sequence,
                sent_ns: moment.due_ns.unwrap_or(now),
            };
            let answer = publisher.request(bytes.fill(stamp, topic, load));
            driven
                .late
                .saturating_record(now.saturating_sub(stamp.sent_ns));
            driven.answer.saturating_record(now_ns() - now);
            match answer {
                Ok(200..=299) => {
                    refusals = 0;
                    shared.set_published(topic, lane, sequence + 1);
                    turn.number += 1;
                    driven.published += 1;
                    driven.expected += u64::from(members);
                }
                Ok(status) => {
                    refusals += 1;
                    driven.refused += 1;
                    driven.error = Some(format!("a publish was answered with status {status}"));
                    shared.arrivals.abandon(event);
                }
                Err(error) => {
                    // Whether the event was taken is not known, so the numbering cannot go on.
                    shared.set_unanswered(topic, lane);
                    driven.unanswered += 1;
                    driven.error = Some(format!("a publish got no answer: {error}"));
                    break;
                }
            }
        }
        driven
    }

    /// Waits until the next event may be sent. `None` when the load is done.
    fn next_moment(&self, turn: &Turn, load: &Load<'_>, begin_ns: u64) -> Option<Moment> {
        let place = turn.place();
        if load.events.is_some_and(|events| place >= events) {
            return None;
        }
        let duration_ns = u64::try_from(load.duration.as_nanos()).unwrap_or(u64::MAX);
        let end_ns = if load.events.is_some() {
            u64::MAX
        } else {
            begin_ns.saturating_add(duration_ns)
        };
        let due_ns = load
            .rate
            .map(|rate| begin_ns.saturating_add(nanos_of(place, rate)));
        if due_ns.is_some_and(|due| due >= end_ns) {
            return None;
        }
        loop {
            let now = now_ns();
            match due_ns {
                Some(due) if now >= due => {
                    self.shared.arrivals.try_start(None);
                    return Some(Moment { due_ns });
                }
                Some(due) => std::thread::park_timeout(Duration::from_nanos(due - now)),
                None if now >= end_ns => return None,
                None if self.shared.arrivals.try_start(Some(load.window)) => {
                    return Some(Moment { due_ns });
                }
                None => std::thread::park_timeout(Duration::from_millis(50)),
            }
        }
    }
}

/// Nanoseconds after the begin at which event number `place` is due.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "times of a schedule, far below 2^52 ns"
)]
fn nanos_of(place: u64, rate: f64) -> u64 {
    (place as f64 / rate * 1e9) as u64
}

/// When an event is sent.
struct Moment {
    /// When it was due, where there is a schedule.
    due_ns: Option<u64>,
}

/// Buffers of a publisher, used again for each event.
#[derive(Default)]
struct Bytes {
    data: String,
    request: Vec<u8>,
}

impl Bytes {
    /// The request that publishes the event.
    fn fill(&mut self, stamp: Stamp, topic: u32, load: &Load<'_>) -> &[u8] {
        self.data.clear();
        self.request.clear();
        stamp.push_data(load.size, &mut self.data);
        load.target
            .push_publish_request(&(load.topic)(topic), &self.data, &mut self.request);
        &self.request
    }
}

/// Whose turn it is within a lane, and where that is among all events of this load.
struct Turn {
    /// Number of the next event of the lane, counted over all loads: chooses the topic.
    number: u64,
    /// The same at the begin of this load.
    first: u64,
    lane: u64,
    lanes: u64,
}

impl Turn {
    fn new(fleet: &Fleet, lane: u32) -> Self {
        let plan = &fleet.shared.plan;
        let published = |topic| u64::from(fleet.shared.published(topic, lane));
        let number = (0..plan.topics).map(published).sum();
        Self {
            number,
            first: number,
            lane: u64::from(lane),
            lanes: u64::from(plan.lanes.max(1)),
        }
    }

    /// Place of the next event in the schedule of all lanes.
    fn place(&self) -> u64 {
        (self.number - self.first) * self.lanes + self.lane
    }
}

impl Driven {
    fn merge_into(self, sum: &mut Self) {
        sum.published += self.published;
        sum.refused += self.refused;
        sum.unanswered += self.unanswered;
        sum.expected += self.expected;
        let same = "both have the same bounds";
        sum.answer.add(&self.answer).expect(same);
        sum.late.add(&self.late).expect(same);
        sum.error = sum.error.take().or(self.error);
    }
}
