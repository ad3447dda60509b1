//! The run: open, hold, drop, wait until all are back; then the simulation, and both side by side.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::drain::{self, ASIDE_RATE, ASIDES, Drained};
use super::model::Model;
use super::notes::{Note, What, count};
use super::publishing::{Published, publish};
use super::server::{Ended, Hub};
use super::worker::{self, Found, Shared};
use super::{Drop, LiveOptions};
use crate::clock::now_ns;
use crate::descriptors;
use crate::engine::Sources;
use crate::error::BenchError;
use crate::options::BenchOptions;
use crate::progress::Progress;
use crate::report::{Report, Unit, shown};
use crate::storm::summary::{curve, results};
use crate::storm::{Scenario, Tally};
use crate::target::Target;

/// Time without news after which nothing more is expected.
const QUIET: Duration = Duration::from_secs(3);
/// Longest wait for that: somebody else may publish to the hub, too.
const QUIET_AFTER_MAX: Duration = Duration::from_secs(30);
/// Time between two looks at the counts.
const LOOK: Duration = Duration::from_millis(20);
/// How much longer than its window a drain may take before it is given up.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// Most that the worst second may be of the mean.
const PEAK_MAX: f64 = 2.0;

/// Runs the storm. Gives the report, and the two tallies: of real sockets, and simulated.
///
/// # Errors
/// [`BenchError`] when the hub cannot be started or not all streams can be opened.
pub fn run(options: &LiveOptions, progress: &Progress) -> Result<(Report, Vec<Tally>), BenchError> {
    let mut hub = match &options.hub {
        Some((program, arguments)) => Some(Hub::start(program.clone(), arguments)?),
        None => None,
    };
    let url = match &hub {
        Some(hub) => format!("http://{}/.well-known/mercure", hub.address),
        None => options.url.clone(),
    };
    let shared = Arc::new(shared(options, &url)?);
    let threads = start(&shared)?;
    let stop = AtomicBool::new(false);
    let (gone, published) = std::thread::scope(|scope| {
        let (shared, stop) = (&shared, &stop);
        let publishing = options.publisher_key.is_some() && options.event_rate > 0.0;
        let begin = |topic: String, rate: f64| {
            let address = shared.target.publish_address();
            scope.spawn(move || publish(&shared.target, address, &topic, (rate, stop)))
        };
        let asides = if options.drop == Drop::Drain {
            ASIDES
        } else {
            0
        };
        let gone = storm(options, shared, (&mut hub, progress), &|| {
            if !publishing {
                return vec![];
            }
            let mut all = vec![begin(shared.topic.clone(), options.event_rate)];
            let topics = (0..asides).map(|number| drain::aside_topic(&shared.topic, number));
            all.extend(topics.map(|topic| begin(topic, ASIDE_RATE)));
            all
        });
        stop.store(true, Ordering::Release);
        let (mut gone, threads) = match gone {
            Ok(gone) => gone,
            Err(error) => return (Err(error), None),
        };
        let joined = threads.into_iter().filter_map(|thread| {
            thread.thread().unpark();
            thread.join().ok()
        });
        let mut published = joined.collect::<Vec<_>>().into_iter();
        let to_all = published.next();
        quiet(shared);
        if let Some(ended) = gone.ended {
            gone.drained = Some(Drained::look(shared, ended, published.as_slice()));
        }
        (Ok(gone), to_all)
    });
    shared.is_over.store(true, Ordering::Release);
    let mut all = Vec::new();
    for thread in threads {
        let found = thread.join();
        all.push(found.map_err(|_| BenchError::Server("a client thread panicked".into()))??);
    }
    progress.end();
    Ok(finish(options, &url, (gone?, published), all))
}

/// When all were dropped, and when the server was back.
struct Gone {
    dropped_ns: u64,
    back_ns: u64,
    /// Of a hub that was told to end.
    ended: Option<Ended>,
    drained: Option<Drained>,
}

type Publisher<'scope> = std::thread::ScopedJoinHandle<'scope, Published>;

fn storm<'scope>(
    options: &LiveOptions,
    shared: &Shared,
    (hub, progress): (&mut Option<Hub>, &Progress),
    publish: &dyn Fn() -> Vec<Publisher<'scope>>,
) -> Result<(Gone, Vec<Publisher<'scope>>), BenchError> {
    let all = u64::from(options.subscribers);
    progress.phase("opening streams", all);
    let opening = Duration::from_secs_f64(f64::from(options.subscribers) / options.connect_rate);
    if !until_back(shared, all, opening + Duration::from_mins(1), progress) {
        let open = shared.open.load(Ordering::Acquire);
        return Err(BenchError::Server(format!(
            "{open} of {all} streams opened"
        )));
    }
    let publishers = publish();
    progress.phase("holding", 0);
    std::thread::park_timeout(options.growth.held);
    progress.phase("all dropped: coming back", all);
    let dropped_ns = now_ns();
    let (mut back_ns, mut ended) = (dropped_ns, None);
    match (options.drop, hub) {
        (Drop::Kill, Some(hub)) => {
            hub.kill();
            hub.restart()?;
            back_ns = now_ns();
        }
        (Drop::Drain, Some(hub)) => {
            ended = Some(hub.drain(options.drain_window + DRAIN_MAX)?);
            hub.restart()?;
            back_ns = now_ns();
        }
        (Drop::Kill | Drop::Drain, None) => {
            let text = "only a hub that the run started can be killed or drained";
            return Err(BenchError::Usage(text.into()));
        }
        (Drop::Close, _) => shared.closes.store(true, Ordering::Release),
    }
    // Until the last one has noticed, all would seem to be there still.
    let begin = Instant::now();
    while shared.open.load(Ordering::Acquire) == all && begin.elapsed() < QUIET {
        std::thread::park_timeout(Duration::from_millis(1));
    }
    until_back(shared, all, options.end, progress);
    let gone = Gone {
        dropped_ns,
        back_ns,
        ended,
        drained: None,
    };
    Ok((gone, publishers))
}

fn until_back(shared: &Shared, all: u64, most: Duration, progress: &Progress) -> bool {
    let begin = Instant::now();
    loop {
        let open = shared.open.load(Ordering::Acquire);
        progress.set(open);
        let gone = shared.given_up.load(Ordering::Acquire);
        if open + gone >= all {
            return gone == 0;
        }
        if begin.elapsed() > most {
            return false;
        }
        std::thread::park_timeout(LOOK);
    }
}

/// Waits until no event comes any more.
fn quiet(shared: &Shared) {
    let begin = Instant::now();
    let (mut last, mut since) = (0, begin);
    while since.elapsed() < QUIET && begin.elapsed() < QUIET_AFTER_MAX {
        let moved = shared.moved.load(Ordering::Relaxed);
        if moved != last {
            (last, since) = (moved, Instant::now());
        }
        std::thread::park_timeout(LOOK);
    }
}

fn shared(options: &LiveOptions, url: &str) -> Result<Shared, BenchError> {
    let target = Target::from_options(&BenchOptions {
        url: url.to_owned(),
        publisher_key: options.publisher_key.clone(),
        ..BenchOptions::default()
    })?;
    let limit = descriptors::raise_limit();
    let streams = u64::from(options.subscribers);
    let per_table = descriptors::STREAMS_PER_TABLE.min(limit.saturating_sub(100).max(1));
    let threads = u32::try_from(streams.div_ceil(per_table))
        .unwrap_or(1)
        .max(1);
    let address = target.subscribe_address();
    Ok(Shared {
        address,
        topic: format!("https://bench.example/storm/{}", std::process::id()),
        policy: options.policy("real sockets"),
        sources: Sources::new(address, streams),
        subscribers: options.subscribers,
        dropped: options.dropped,
        threads,
        seed: options.seed,
        begin_ns: now_ns(),
        step_ns: u64::try_from(
            Duration::from_secs_f64(1.0 / options.connect_rate.clamp(0.001, 1e9)).as_nanos(),
        )
        .unwrap_or(u64::MAX),
        has_own_tables: descriptors::needs_own_tables(streams, limit),
        closes: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
        open: AtomicU64::new(0),
        given_up: AtomicU64::new(0),
        moved: AtomicU64::new(0),
        target,
    })
}

type Thread = std::thread::JoinHandle<Result<Found, BenchError>>;

fn start(shared: &Arc<Shared>) -> Result<Vec<Thread>, BenchError> {
    let spawn = |index| {
        let shared = Arc::clone(shared);
        std::thread::Builder::new()
            .name(format!("storm-{index}"))
            .spawn(move || worker::run(shared, index))
            .map_err(|error| BenchError::io("start a client thread", error))
    };
    (0..shared.threads).map(spawn).collect()
}

fn finish(
    options: &LiveOptions,
    url: &str,
    (gone, published): (Gone, Option<Published>),
    all: Vec<Found>,
) -> (Report, Vec<Tally>) {
    let mut sum = sum(all);
    let notes: Vec<Note> = std::mem::take(&mut sum.notes)
        .into_iter()
        .filter(|(at_ns, _)| *at_ns >= gone.dropped_ns)
        .collect();
    let (begin_ns, noticed) = noticed(&notes, gone.dropped_ns);
    let dropped = noticed.len() as u64;
    sum.services.sort_unstable();
    let service = sum.services.get(sum.services.len() / 2).copied();
    let scenario = Scenario {
        subscribers: options.dropped,
        away: Duration::from_nanos(gone.back_ns.saturating_sub(begin_ns)),
        notice: noticed.last().copied().unwrap_or_default(),
        service: Duration::from_nanos(service.unwrap_or(0)),
        end: options.end,
        seed: options.seed,
    };
    let mut live = Tally::new("real sockets", &scenario);
    count(&notes, begin_ns, &mut live);
    let settled = live.back + live.given_up();
    let trying = live.subscribers.saturating_sub(settled);
    live.finish(usize::try_from(trying).unwrap_or(0));
    let mut report = Report::new("storm run", url);
    parameters(options, &scenario, &mut report);
    let mut tallies = vec![live];
    let model = if let Some(drained) = &gone.drained {
        let seen = (sum.endings.as_slice(), notes.as_slice());
        drain::tell(options, drained, seen, &tallies[0], &mut report);
        // It knows no server that refuses everybody for a while and is away after it.
        None
    } else {
        Some(Model::play(&scenario, &noticed, options))
    };
    tallies.extend(model.as_ref().map(|model| model.first().clone()));
    for tally in &tallies {
        results(&mut report, tally);
        report.series(curve(tally));
    }
    let curves = model.as_ref().map(|model| model.curves(&tallies[0]));
    for series in curves.into_iter().flatten() {
        report.series(series);
    }
    sum.told_ms.sort_unstable();
    report.count("dropped_count", dropped);
    told(&sum.told_ms, &mut report);
    events(published, &sum, &mut report);
    if let Some(model) = &model {
        verdicts(options, (&tallies, dropped), &mut report);
        model.verdicts(&tallies[0], options.margin, &mut report);
    }
    (report, tallies)
}

/// What all threads found.
fn sum(all: Vec<Found>) -> Found {
    let mut sum = Found::default();
    for found in all {
        sum.notes.extend(found.notes);
        sum.next.extend(found.next);
        sum.services.extend(found.services);
        sum.told_ms.extend(found.told_ms);
        sum.endings.extend(found.endings);
        sum.doubled += found.doubled;
        for (sequence, times) in found.missed {
            *sum.missed.entry(sequence).or_default() += times;
        }
    }
    sum
}

/// When the first client noticed that its stream is gone, and how much later each did, in rising
/// order. A process that is killed takes a while until its first socket is closed: the time counts
/// from there.
fn noticed(notes: &[Note], dropped_ns: u64) -> (u64, Vec<Duration>) {
    let noticed = notes.iter().filter(|(_, what)| *what == What::Notices);
    let mut noticed: Vec<u64> = noticed.map(|(at_ns, _)| *at_ns).collect();
    noticed.sort_unstable();
    let begin_ns = noticed.first().copied().unwrap_or(dropped_ns);
    let since_begin = noticed
        .iter()
        .map(|at_ns| Duration::from_nanos(at_ns - begin_ns));
    (begin_ns, since_begin.collect())
}

fn parameters(options: &LiveOptions, scenario: &Scenario, report: &mut Report) {
    report.parameter("subscribers", options.subscribers);
    report.parameter("dropped", options.dropped);
    report.parameter("drop", options.drop.name());
    if options.drop == Drop::Drain {
        report.parameter("drain_window_s", options.drain_window.as_secs_f64());
    }
    report.parameter("retry_s", options.rule.retry.as_secs_f64());
    report.parameter("comeback_rate", options.rule.per_second);
    report.parameter("connect_rate", options.connect_rate);
    report.parameter("heartbeat_s", options.growth.heartbeat.as_secs_f64());
    report.parameter("hold_s", options.growth.held.as_secs_f64());
    report.parameter("events_per_second", options.event_rate);
    report.parameter("measured_away_s", scenario.away.as_secs_f64());
    report.parameter("measured_notice_s", scenario.notice.as_secs_f64());
    report.parameter("measured_service_s", scenario.service.as_secs_f64());
    report.parameter("seed", options.seed);
}

fn events(published: Option<Published>, sum: &Found, report: &mut Report) {
    let Some(published) = published else { return };
    let mut missed: HashMap<u32, u64> = sum.missed.clone();
    for next in &sum.next {
        for sequence in *next..published.events {
            *missed.entry(sequence).or_default() += 1;
        }
    }
    let all = sum.next.len() as u64;
    let never = |sequence: &u32, times: u64| published.unsure.contains(sequence) && times == all;
    let lost = missed
        .iter()
        .filter(|(sequence, times)| !never(sequence, **times));
    report.count("events_published_count", u64::from(published.events));
    report.count("events_unsure_count", published.unsure.len() as u64);
    report.check_none("events lost", lost.map(|(_, times)| times).sum());
    report.check_none("events doubled", sum.doubled);
}

/// The delays that had been told, in rising order.
#[expect(clippy::cast_precision_loss, reason = "some minutes in milliseconds")]
fn told(told_ms: &[u64], report: &mut Report) {
    for (name, place) in [
        ("told_median_s", told_ms.len() / 2),
        ("told_max_s", told_ms.len().saturating_sub(1)),
    ] {
        if let Some(told) = told_ms.get(place) {
            report.result(name, *told as f64 / 1000.0, Unit::Seconds);
        }
    }
}

fn verdicts(options: &LiveOptions, (tallies, dropped): (&[Tally], u64), report: &mut Report) {
    let (live, all) = (&tallies[0], u64::from(options.dropped));
    let sum = format!("{dropped} of {all}");
    report.check("every stream was dropped once", dropped == all, sum);
    let wrong = tallies.iter().filter(|tally| !tally.adds_up());
    report.check_none("counts that do not add up", wrong.count() as u64);
    report.check_none("target: not back", all.saturating_sub(live.back));
    let failed = live.attempts.saturating_sub(live.admitted);
    report.check_none("target: failed attempts", failed);
    // Of a few who are dropped among many, chance makes the worst second.
    if options.dropped == options.subscribers {
        let ratio = live.peak_to_mean();
        let name = format!("target: worst second at most {PEAK_MAX} x the mean");
        report.check(&name, ratio <= PEAK_MAX, shown(ratio, Unit::Ratio));
    }
}
