//! Live streams beside the replays: their latency alone, and while others replay.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::publishing::{self, Load, Published, run_topic};
use super::super::readers::{Plan, Readers};
use crate::report::{Histogram, Report, Unit};
use crate::{BenchError, BenchOptions, Progress, Target};

/// Events per second to the live streams, unless the options say another rate.
const RATE_DEFAULT: f64 = 100.0;
/// How long they are measured alone, unless the options say how long.
const ALONE_DEFAULT: Duration = Duration::from_secs(5);

/// The live streams, and the thread that publishes to them until it is told to stop.
pub(super) struct Live {
    readers: Readers,
    stop: Arc<AtomicBool>,
    publisher: JoinHandle<Result<Published, BenchError>>,
    alone: Histogram<u64>,
    streams: u64,
}

impl Live {
    /// Opens the streams and measures them alone.
    pub(super) fn start(
        options: &BenchOptions,
        target: &Target,
        progress: &Progress,
    ) -> Result<Self, BenchError> {
        let topic = run_topic("live");
        let readers = Readers::start(Plan {
            address: target.subscribe_address(),
            request: target.subscribe_request(&topic),
            streams: usize::try_from(options.live).unwrap_or(usize::MAX),
            lanes: 1,
            first: 0,
            core: options.pin_generator,
            patience: options.patience,
        })?;
        readers.wait_open()?;
        let stop = Arc::new(AtomicBool::new(false));
        let publisher = publisher(options, target.clone(), topic, Arc::clone(&stop))?;
        let time = options.duration_or(ALONE_DEFAULT);
        progress.phase("measuring live streams alone", time.as_secs());
        let begin = std::time::Instant::now();
        while begin.elapsed() < time && !publisher.is_finished() {
            std::thread::park_timeout(Duration::from_millis(20));
            progress.set(begin.elapsed().as_secs());
        }
        let alone = readers.take_latencies();
        Ok(Self {
            readers,
            stop,
            publisher,
            alone,
            streams: options.live,
        })
    }

    /// Stops publishing, waits for what is on its way, and adds figures and checks.
    pub(super) fn finish(self, report: &mut Report) -> Result<(), BenchError> {
        // Before the wait for the last events: the time measured is that of the replays.
        let beside = self.readers.take_latencies();
        self.stop.store(true, Ordering::Relaxed);
        let gone = || Err(BenchError::Server("the live publisher panicked".into()));
        let published = self.publisher.join().unwrap_or_else(|_| gone())?;
        let expected = published.acknowledged * self.streams;
        self.readers
            .wait_events(Some(expected), &Progress::silent());
        let outcomes = self.readers.finish();
        let count = u32::try_from(published.acknowledged).unwrap_or(u32::MAX);
        let streams = outcomes.streams.len();
        let lost = (0..streams)
            .map(|stream| outcomes.missing(stream, 0, count))
            .sum();
        report.latencies("live_alone", &self.alone);
        report.latencies("live_beside_replays", &beside);
        let ratio = p99(&beside) / p99(&self.alone);
        report.result("live_p99_ratio", ratio, Unit::Ratio);
        report.count(
            "live_delivered_count",
            outcomes.sum(|stream| stream.delivered),
        );
        report.check_none("live streams lose nothing", lost);
        let doubled = outcomes.sum(|stream| stream.doubled);
        report.check_none("live streams get nothing twice", doubled);
        let reordered = outcomes.sum(|stream| stream.reordered);
        report.check_none("live streams get all in order", reordered);
        let refused = published.refused() + published.unknown();
        report.check_none("every live event is acknowledged", refused);
        Ok(())
    }
}

fn publisher(
    options: &BenchOptions,
    target: Target,
    topic: String,
    stop: Arc<AtomicBool>,
) -> Result<JoinHandle<Result<Published, BenchError>>, BenchError> {
    let rate = options.rate.unwrap_or(RATE_DEFAULT);
    let (size, core, patience) = (options.size, options.pin_generator, options.patience);
    let body = move || {
        let load = Load {
            target: &target,
            topic: &topic,
            publishers: 1,
            batch: 0,
            size,
            events: None,
            duration: Some(Duration::MAX),
            rate: Some(rate),
            threads: 1,
            core,
            kept: None,
            patience,
        };
        publishing::publish(&load, &stop, &Progress::silent())
    };
    let thread = std::thread::Builder::new().name("live".into()).spawn(body);
    thread.map_err(|error| BenchError::io("start a publishing thread", error))
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds below 2^53")]
fn p99(nanos: &Histogram<u64>) -> f64 {
    nanos.value_at_quantile(0.99) as f64
}
