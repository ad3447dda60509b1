//! The generator: threads that open streams, read them and check what comes.

mod arrivals;
pub(crate) mod framing;
pub mod head;
pub mod load;
mod opening;
pub mod parse;
pub mod publisher;
mod shared;
mod source;
mod stats;
pub mod tracker;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::descriptors;
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::progress::Progress;
pub(crate) use opening::connect;
use shared::{Pace, Shared};
pub(crate) use source::Sources;
pub use stats::{Counts, Latencies};

/// Topic of streams that no event is for.
pub const NO_TOPIC: u32 = u32::MAX;

/// Time without a delivery after which no more is expected at the end: one that comes twice may
/// come late.
const SETTLED: Duration = Duration::from_millis(500);
/// Longest wait for that, for a server that sends on and on.
const SETTLING_MAX: Duration = Duration::from_secs(5);

/// Stack of a generator thread: it keeps nothing large there.
const STACK_BYTES: usize = 128 << 10;

/// What one stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Role {
    /// Number of its topic, or [`NO_TOPIC`].
    pub topic: u32,
    /// Whether it never reads after the head.
    pub is_slow: bool,
}

/// Gives stream number n its role.
pub type Assign = Box<dyn Fn(u64) -> Role + Send + Sync>;
/// The bytes of the subscribe of a role.
pub type Request = Box<dyn Fn(Role) -> Vec<u8> + Send + Sync>;

/// What a fleet of streams is made of.
pub struct Plan {
    /// Most streams that will be opened.
    pub streams: u64,
    /// Streams of other fleets that are open at the same time.
    pub beside: u64,
    /// Where to.
    pub address: SocketAddr,
    /// Topics that are published to, numbered from 0.
    pub topics: u32,
    /// Publishers, each of which numbers its events apart.
    pub lanes: u32,
    /// Role of each stream.
    pub assign: Assign,
    /// Request of each role.
    pub request: Request,
}

/// Open streams and the threads that read them. Dropping it closes everything.
pub struct Fleet {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    begun: u64,
    patience: Duration,
}

impl Fleet {
    /// Starts the threads; no stream is opened yet.
    ///
    /// # Errors
    /// [`BenchError::Usage`] for no stream at all, [`BenchError::Io`] when a thread cannot be
    /// started, pinned or given its descriptors.
    pub fn start(plan: Plan, options: &BenchOptions) -> Result<Self, BenchError> {
        if plan.streams == 0 {
            return Err(BenchError::Usage(
                "at least one subscriber is needed".into(),
            ));
        }
        let limit = descriptors::raise_limit();
        let has_own_tables = descriptors::needs_own_tables(plan.streams + plan.beside, limit);
        let per_table = descriptors::STREAMS_PER_TABLE.min(limit.saturating_sub(100).max(1));
        let needed = usize::try_from(plan.streams.div_ceil(per_table)).unwrap_or(1);
        let count = options.threads.unwrap_or(needed).max(1);
        if has_own_tables && count < needed {
            return Err(BenchError::Usage(format!(
                "{} streams need {needed} threads: each may open {per_table} descriptors",
                plan.streams
            )));
        }
        let shared = Arc::new(Shared::new(plan, count));
        let mut fleet = Self {
            shared: Arc::clone(&shared),
            threads: Vec::with_capacity(count),
            begun: 0,
            patience: options.patience,
        };
        let setup = worker::Setup {
            has_own_table: has_own_tables,
            core: options.pin_generator,
            wait: options.wait,
        };
        for index in 0..count {
            let (ready, is_ready) = std::sync::mpsc::sync_channel(1);
            let shared = Arc::clone(&shared);
            let body = move || worker::run(shared, index, setup, &ready);
            let thread = std::thread::Builder::new()
                .name(format!("load-{index}"))
                .stack_size(STACK_BYTES)
                .spawn(body)
                .map_err(|error| BenchError::io("start a generator thread", error))?;
            fleet.threads.push(thread);
            is_ready
                .recv()
                .unwrap_or_else(|_| Err(BenchError::Server("a generator thread ended".into())))?;
        }
        Ok(fleet)
    }

    /// Opens `count` more streams, at `rate` per second or as fast as they are answered, and waits
    /// until each is open or refused. Streams that nothing was heard of for the fleet's patience
    /// count as failed.
    pub fn open(&mut self, count: u64, rate: Option<f64>, progress: &Progress) -> Counts {
        let before = self.counts();
        let target = self.begun + count;
        self.shared.set_pace(Pace {
            first: self.begun,
            until: target,
            // Threads that wait hear of it only then, and would catch up in a burst.
            begin_ns: crate::clock::now_ns() + worker::LOOK_NS,
            rate,
        });
        self.begun = target;
        let mut last = (0, Instant::now());
        loop {
            let done = self.counts().since(before);
            progress.set(done.settled());
            if done.settled() >= count {
                return done;
            }
            if done.settled() != last.0 {
                last = (done.settled(), Instant::now());
            }
            let is_due = rate.is_none_or(|rate| rate * self.patience.as_secs_f64() > 2.0);
            if is_due && last.1.elapsed() > self.patience {
                let mut done = done;
                done.failed += count - done.settled();
                return done;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.shared
            .stats()
            .fold(Counts::default(), |sum, stats| sum.plus(stats.counts))
    }

    /// The times measured since they were last taken.
    pub fn take_latencies(&self) -> Latencies {
        let mut sum = Latencies::default();
        for mut stats in self.shared.stats() {
            stats.latencies.move_into(&mut sum);
        }
        sum
    }

    /// Topics with a delivery lost, doubled or reordered; complete after [`Fleet::finish`].
    pub fn wrong_topics(&self) -> u64 {
        let mut all = std::collections::HashSet::new();
        for stats in self.shared.stats() {
            all.extend(stats.wrong_topics.iter().copied());
        }
        all.len() as u64
    }

    /// The first thing that went wrong with a connection, in words.
    pub fn first_error(&self) -> Option<String> {
        self.shared
            .stats()
            .find_map(|stats| stats.first_error.clone())
    }

    /// Streams that events of `topic` should reach.
    pub fn members(&self, topic: u32) -> u32 {
        self.shared.members(topic)
    }

    /// Waits until no more deliveries come, closes all streams and gives the final totals, with
    /// what was lost.
    pub fn finish(&mut self) -> Counts {
        // They may add up long ago, and one still come a second time.
        if self.shared.has_published() {
            settle(|| {
                let counts = self.counts();
                counts.delivered + counts.doubled + counts.strayed
            });
        }
        self.close()
    }

    fn close(&mut self) -> Counts {
        self.shared.is_closing.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            // A panic there has been printed; the totals then do not add up, which fails the run.
            let _ = thread.join();
        }
        self.counts()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.close();
    }
}

/// Waits until `count` has not changed for a moment.
pub(crate) fn settle(count: impl Fn() -> u64) {
    let begin = Instant::now();
    let mut last = (count(), begin);
    while last.1.elapsed() < SETTLED && begin.elapsed() < SETTLING_MAX {
        std::thread::park_timeout(Duration::from_millis(20));
        let now = count();
        if now != last.0 {
            last = (now, Instant::now());
        }
    }
}
