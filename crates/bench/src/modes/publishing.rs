//! Publishers: keep-alive connections that each wait for an answer before the next request, many
//! to a thread.

mod answer;
mod connection;
mod schedule;
mod worker;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::now_ns;
use crate::descriptors;
use crate::report::{Histogram, Series, Shape, latency_histogram};
use crate::{BenchError, BenchOptions, Progress, Target};
use worker::{Share, Worker};

/// Time between two points of the rate.
const SAMPLE: Duration = Duration::from_millis(250);
/// How long to publish when neither a number nor a time was asked for.
pub(super) const DURATION_DEFAULT: Duration = Duration::from_secs(10);

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
    /// Time without any answer after which requests are given up.
    pub(super) patience: Duration,
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
            patience: options.patience,
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
    descriptors::raise_limit();
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
