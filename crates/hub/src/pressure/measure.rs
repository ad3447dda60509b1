//! What presses on the hub, measured a few times a second by a thread that does nothing else: it
//! has to be on time when everything else is late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Weak};
use std::time::Duration;
use std::{fs, io};

use rustix::process::{Resource, getrlimit};

use super::crowd_gone::{self, CrowdGone};
use super::{Brownout, Change, Limits, Readings, SOURCES, Source, Step, StepCell};
use crate::budget::{self, STREAM_KERNEL_BYTES};
use crate::clock::Clock;
use crate::config::LimitSettings;
use crate::hub::Hub;
use crate::metrics::Number;
use crate::shard::AbortOnPanic;

/// Time between two looks. Patience is counted in these, so it is at least as long.
const LOOK: Duration = Duration::from_millis(250);

/// A time that was measured counts for as long again as it took, and for so long at most.
const HOLD_MAX: Duration = Duration::from_secs(10);

/// The step, and what led to it, for requests and for the metrics.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) step: StepCell,
    /// Steps taken up, and down.
    pub(crate) changes: [Number; 2],
    /// Bits of each source's ratio.
    ratios: [AtomicU64; SOURCES],
}

impl Gauges {
    /// The last reading of a source as a multiple of where its first step begins.
    pub(crate) fn ratio(&self, source: Source) -> f64 {
        f64::from_bits(self.ratios[source as usize].load(Ordering::Relaxed))
    }

    fn note(&self, readings: &Readings, limits: &Limits) {
        for (source, ratio) in Source::ALL.into_iter().zip(&self.ratios) {
            let bits = limits.ratio(source, readings).to_bits();
            ratio.store(bits, Ordering::Relaxed);
        }
    }

    fn change(&self, change: Change, readings: &Readings) {
        self.step.store(change.step);
        let step = change.step as u8;
        let name = change.step.name();
        if let Some(source) = change.by {
            self.changes[0].add(1);
            let reading = readings[source as usize];
            tracing::warn!(step, by = source.name(), reading, "brownout: {name}");
        } else {
            self.changes[1].add(1);
            tracing::info!(step, "brownout recedes: {name}");
        }
    }
}

/// Events on their way through the log.
#[derive(Debug)]
pub(crate) struct LogWaits {
    clock: Clock,
    events: AtomicU64,
    bytes: AtomicU64,
    /// When the log last had nothing to do or finished something, in the clock's milliseconds.
    moved_ms: AtomicU64,
    /// The longest wait that has ended since it was last asked for.
    longest_ms: AtomicU64,
}

/// Some events that wait for the log, until this is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    waits: Arc<LogWaits>,
    begun_ms: u64,
    events: u64,
    bytes: u64,
}

impl LogWaits {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            moved_ms: AtomicU64::new(0),
            longest_ms: AtomicU64::new(0),
        })
    }

    pub(crate) fn begin(self: &Arc<Self>, events: usize, bytes: usize) -> Waiting {
        let begun_ms = self.clock.now_ms();
        let (events, bytes) = (events as u64, bytes as u64);
        if self.events.fetch_add(events, Ordering::Relaxed) == 0 {
            self.moved_ms.fetch_max(begun_ms, Ordering::Relaxed);
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        Waiting {
            waits: Arc::clone(self),
            begun_ms,
            events,
            bytes,
        }
    }

    /// The longest wait since the last look, in milliseconds; also one that has not ended: a log
    /// that stands still ends none.
    fn longest_ms(&self) -> u64 {
        let ended_ms = self.longest_ms.swap(0, Ordering::Relaxed);
        let waits = self.events.load(Ordering::Relaxed) > 0;
        let since_ms = self.moved_ms.load(Ordering::Relaxed);
        let stands_ms = if waits {
            self.clock.now_ms().saturating_sub(since_ms)
        } else {
            0
        };
        ended_ms.max(stands_ms)
    }

    /// How full the room for what waits is, by the limits of now.
    fn fill(&self, limits: &LimitSettings) -> f64 {
        let share = |count: &AtomicU64, max: usize| {
            float(count.load(Ordering::Relaxed)) / float(max.max(1) as u64)
        };
        let events = share(&self.events, limits.in_flight_events);
        events.max(share(&self.bytes, limits.in_flight_bytes))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (waits, now_ms) = (&self.waits, self.waits.clock.now_ms());
        waits.moved_ms.fetch_max(now_ms, Ordering::Relaxed);
        let waited_ms = now_ms.saturating_sub(self.begun_ms);
        waits.longest_ms.fetch_max(waited_ms, Ordering::Relaxed);
        waits.events.fetch_sub(self.events, Ordering::Relaxed);
        waits.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Measures until the hub is gone or what this returns is dropped.
///
/// # Errors
///
/// The thread could not be started.
pub(crate) fn watch(hub: &Arc<Hub>) -> io::Result<SyncSender<()>> {
    let (alive, end) = mpsc::sync_channel(1);
    let weak = Arc::downgrade(hub);
    std::thread::Builder::new()
        .name("pressure".to_owned())
        .spawn(move || {
            let guard = AbortOnPanic;
            let machine_bytes = budget::machine_bytes();
            let mut watcher = Watcher::default();
            while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                let Some(hub) = Weak::upgrade(&weak) else {
                    break;
                };
                watcher.look(&hub, machine_bytes);
            }
            std::mem::forget(guard);
        })?;
    Ok(alive)
}

/// What is known from one look to the next.
#[derive(Debug, Default)]
struct Watcher {
    brownout: Brownout,
    turns: Peaks,
    log_waits: Peaks,
    crowd: CrowdGone,
}

impl Watcher {
    fn look(&mut self, hub: &Hub, machine_bytes: Option<usize>) {
        let policy = hub.policy.load_full();
        let limits = Limits::new(&policy.settings.overload);
        let budget_bytes = match policy.settings.overload.memory_budget {
            0 => machine_bytes,
            bytes => Some(bytes),
        };
        let now_ms = hub.clock.now_ms();
        let now = Duration::from_millis(now_ms);
        let readings = [
            self.turns.note(now, hub.metrics.longest_turn_ms(now_ms)),
            memory_share(hub, policy.settings.send_buffer, budget_bytes),
            descriptors_share(),
            self.log_waits.note(now, hub.log_waits.longest_ms()),
            hub.log_waits.fill(&policy.settings.limits),
        ];
        let gauges = &hub.metrics.pressure;
        gauges.note(&readings, &limits);
        if let Some(change) = self.brownout.note(now, &readings, &limits) {
            gauges.change(change, &readings);
        }
        if self.brownout.step() == Step::Readers {
            for shard in &hub.shards {
                shard.inbox.ask_to_shed();
            }
        }
        if self.crowd.note(hub.connections()) {
            for shard in &hub.shards {
                shard.inbox.drop_leftovers();
            }
            crowd_gone::give_back();
        }
    }
}

/// Times that were measured lately. Each counts for as long again as it took: until then the next
/// one could not have shown that it is as long. Else a disk that needs two seconds for each write
/// would look idle for a second after each.
#[derive(Debug, Default)]
struct Peaks(
    /// Milliseconds, and until when they count. No more than there are looks in the longest hold.
    Vec<(u64, Duration)>,
);

impl Peaks {
    /// The longest that counts now, this one included; in seconds.
    fn note(&mut self, now: Duration, seen_ms: u64) -> f64 {
        let until = now + Duration::from_millis(seen_ms).min(HOLD_MAX);
        self.0
            .retain(|(held_ms, held_until)| *held_until > now && *held_ms > seen_ms);
        self.0.push((seen_ms, until));
        seconds(
            self.0
                .iter()
                .map(|(held_ms, _)| *held_ms)
                .max()
                .unwrap_or(0),
        )
    }
}

/// The process's own memory, and what its sockets take of the kernel's: all of them idle, and the
/// send buffers of those who are behind full.
fn memory_share(hub: &Hub, send_buffer: usize, budget_bytes: Option<usize>) -> f64 {
    let Some(budget_bytes) = budget_bytes else {
        return 0.0;
    };
    let idle = hub.connections().saturating_mul(STREAM_KERNEL_BYTES);
    let behind = usize::try_from(hub.metrics.behind()).unwrap_or(usize::MAX);
    let full = behind.saturating_mul(send_buffer);
    let used = resident_bytes().saturating_add(idle).saturating_add(full);
    float(used as u64) / float(budget_bytes as u64)
}

/// 0 where it cannot be read: what is not known is no reason to refuse anybody.
pub(super) fn resident_bytes() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<usize>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Of the process's own table; a shard's own table is bounded by its places.
fn descriptors_share() -> f64 {
    let Some(limit) = getrlimit(Resource::Nofile)
        .current
        .filter(|limit| *limit > 0)
    else {
        return 0.0;
    };
    float(open_descriptors()) / float(limit)
}

fn open_descriptors() -> u64 {
    const TABLE: &str = "/proc/self/fd";
    // Since Linux 6.2 the directory's size is their number; before, they have to be counted.
    match fs::metadata(TABLE).map_or(0, |table| table.len()) {
        0 => fs::read_dir(TABLE).map_or(0, |entries| entries.count() as u64),
        count => count,
    }
}

fn seconds(milliseconds: u64) -> f64 {
    float(milliseconds) / 1000.0
}

#[expect(
    clippy::cast_precision_loss,
    reason = "shares and times need no 53 bits"
)]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
