//! Measures what it costs to resume: the time from an id to the first event after it, in a log of
//! a thousand events and in one of many.
//!
//! ```text
//! cargo run --release -p gush-log --example replay_cost -- [events, default 1000000] [directory]
//! ```
//!
//! Every event has an id of its own in one log of the pair (`publisher`), and none in the other
//! (`generated`). Nothing is synced: the files are in the page cache where they fit.
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::error::Error;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use gush_log::{
    AppendErrorKind, Conflation, DiskConfig, DiskLog, Draft, Flow, Located, Log, Offset, ReadLimit,
    Sync,
};
use gush_sse::{EventId, Topic};

const STEPS: [u64; 3] = [1_000, 100_000, 1_000_000];
const PROBES: usize = 2_000;
/// Appends under way at once.
const WINDOW: usize = 20_000;

#[derive(Clone, Copy)]
enum Ids {
    Generated,
    Publisher,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let count: u64 = arguments
        .next()
        .map_or(Ok(1_000_000), |text| text.parse())?;
    let directory = arguments.next();
    let scratch = tempfile::tempdir()?;
    let root = directory
        .as_ref()
        .map_or(scratch.path(), |path| Path::new(path));
    for (name, ids) in [("generated", Ids::Generated), ("publisher", Ids::Publisher)] {
        let path = root.join(format!("replay-cost-{name}"));
        let config = DiskConfig {
            sync: Sync::Off,
            retention_bytes: None,
            ..DiskConfig::default()
        };
        let (log, _) = DiskLog::open(&path, config)?;
        let mut wire_ids = Vec::new();
        println!("{name} ids");
        let mut held = 0;
        let mut smallest = None;
        for events in STEPS
            .into_iter()
            .filter(|events| *events < count)
            .chain([count])
        {
            let start = Instant::now();
            fill(&log, ids, events - held, &mut wire_ids)?;
            let rate = (events - held) as f64 / start.elapsed().as_secs_f64();
            held = events;
            let [median, p99] = measure(&log, &wire_ids)?;
            let ratio = median.as_secs_f64() / smallest.get_or_insert(median).as_secs_f64();
            println!(
                "  {events:>10} events: median {median:>8.1?}  p99 {p99:>8.1?}  {ratio:.2} times \
                 the smallest; appended at {rate:.0} events/s"
            );
        }
        let start = Instant::now();
        log.close()?;
        drop(log);
        let closed = start.elapsed();
        let start = Instant::now();
        let (log, recovery) = DiskLog::open(&path, config)?;
        println!(
            "  close {closed:.1?}, open {:.1?} ({recovery})",
            start.elapsed()
        );
        let reopened = measure(&log, &wire_ids)?;
        println!(
            "  reopened: median {:.1?}  p99 {:.1?}",
            reopened[0], reopened[1]
        );
        let start = Instant::now();
        let bytes = read_all(&log)?;
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "  read all: {:.0} events/s, {:.0} MB/s",
            count as f64 / seconds,
            bytes / seconds
        );
        drop(log);
        std::fs::remove_dir_all(&path)?;
    }
    Ok(())
}

type Answer = Result<Box<str>, (AppendErrorKind, String)>;

/// Appends events and keeps some of their ids.
fn fill(
    log: &DiskLog,
    ids: Ids,
    count: u64,
    wire_ids: &mut Vec<Box<str>>,
) -> Result<(), Box<dyn Error>> {
    let (sender, receiver): (SyncSender<Answer>, Receiver<Answer>) = sync_channel(WINDOW);
    let first = log.bounds().next.as_u64();
    let every = (count / 10_000).max(1);
    let mut take = |index: u64| -> Result<(), Box<dyn Error>> {
        let id = receiver
            .recv()?
            .map_err(|(kind, detail)| format!("{kind:?}: {detail}"))?;
        if index.is_multiple_of(every) {
            wire_ids.push(id);
        }
        Ok(())
    };
    for index in 0..count {
        if index >= WINDOW as u64 {
            take(index)?;
        }
        let number = first + index;
        let id = match ids {
            Ids::Generated => None,
            Ids::Publisher => EventId::parse(&format!("https://example.com/orders/{number}"))?,
        };
        let draft = Draft {
            topics: [Topic::parse("https://example.com/orders")?].into(),
            is_private: false,
            id,
            kind: None,
            retry_ms: None,
            conflation: Conflation::default(),
            data: format!("{{\"order\":{number},\"status\":\"{:080}\"}}", 0).into(),
        };
        let sender = sender.clone();
        log.append(
            draft,
            Box::new(move |outcome| {
                let answer = outcome.map(|appended| appended.id().to_string().into());
                // The receiver lives as long as there are answers to come.
                let _ = sender.send(answer.map_err(|error| (error.kind, error.detail)));
            }),
        );
    }
    for index in 0..count.min(WINDOW as u64) {
        take(index)?;
    }
    Ok(())
}

/// Median and 99th percentile from an id to the first event after it.
fn measure(log: &DiskLog, wire_ids: &[Box<str>]) -> Result<[Duration; 2], Box<dyn Error>> {
    let mut times = Vec::with_capacity(PROBES);
    let mut random = fastrand::Rng::with_seed(1);
    for _ in 0..PROBES {
        let id = &wire_ids[random.usize(..wire_ids.len())];
        let start = Instant::now();
        let from = match log.locate(id) {
            Located::After(offset) => offset,
            Located::Search => log.search(id)?.ok_or("an id is not found")?,
            Located::Unknown => return Err("an id is not known".into()),
        };
        let mut bytes = 0;
        let limit = ReadLimit {
            events_max: 1,
            bytes_max: usize::MAX,
        };
        log.read(from, limit, &mut |record| {
            bytes += record.data.len();
            Flow::Continue
        })?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok([times[PROBES / 2], times[PROBES * 99 / 100]])
}

/// Millions of bytes of data.
fn read_all(log: &DiskLog) -> Result<f64, Box<dyn Error>> {
    let mut bytes = 0;
    let mut from = Offset::FIRST;
    while from < log.bounds().next {
        let limit = ReadLimit {
            events_max: usize::MAX,
            bytes_max: 4 << 20,
        };
        let end = log.read(from, limit, &mut |record| {
            bytes += record.data.len();
            Flow::Continue
        })?;
        from = end.next;
    }
    Ok(bytes as f64 / 1e6)
}
