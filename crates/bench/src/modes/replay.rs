//! Mode `replay`: streams that resume in a log, their time to the first event and their speed,
//! beside the speed of a plain file copied to a socket in the same run.

mod copy;
mod live;
mod witness;

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::common::per_second;
use super::publishing::{self, Load, run_topic};
use super::readers::{Outcome, Outcomes, Plan, Readers};
use crate::report::{Unit, latency_histogram};
use crate::{BenchError, BenchOptions, Progress, Report, Target};
use copy::Reference;
use live::Live;
use witness::Witness;

/// Events that are published first, unless the options say how many.
const EVENTS_DEFAULT: u64 = 100_000;
/// What a Mercure hub calls the place before its first event.
const EARLIEST: &str = "earliest";
/// Topic of a log that is there already: every topic of a Mercure hub.
const ANY_TOPIC: &str = "*";

/// Where the streams resume, and what has to come.
struct Place {
    topic: String,
    id: String,
    /// Number of the first event after the place.
    first: u32,
    /// Events after the place; `None` when the log is another's and nobody knows.
    events: Option<u64>,
}

/// Publishes a log (or takes the one there is), replays it and reports.
///
/// # Errors
/// [`BenchError`] when the target cannot be used or reached, or does not take the events; what it
/// does wrong in the replay is in the report's checks.
pub fn run(options: &BenchOptions, progress: &Progress) -> Result<Report, BenchError> {
    let target = Target::from_options(options)?;
    if options.subscribers == 0 {
        return Err(BenchError::Usage(
            "a replay needs at least one subscriber".into(),
        ));
    }
    let mut report = Report::new("replay", target.name());
    let place = place(options, &target, progress, &mut report)?;
    parameters(&mut report, options);

    let live = (options.live > 0)
        .then(|| Live::start(options, &target, progress))
        .transpose()?;
    // One after the other: a single time to the first event says little.
    let mut rounds = Vec::new();
    let mut reference = None;
    for _ in 0..options.rounds.max(1) {
        let round = replay(options, &target, &place, progress)?;
        // Copies would take from live streams what the replays leave them.
        if live.is_none() {
            copy_beside(&mut reference, &round, options, progress)?;
        }
        rounds.push(round);
    }
    figures(&mut report, &rounds);
    faults(&mut report, &place, &rounds);
    if let Some(live) = live {
        live.finish(&mut report)?;
        if let Some(last) = rounds.last() {
            copy_beside(&mut reference, last, options, progress)?;
        }
    }
    if let Some(reference) = reference {
        reference.report(&mut report);
    }
    Ok(report)
}

/// Copies a file like a replay that has just ended; the file is made for the first one.
fn copy_beside(
    reference: &mut Option<Reference>,
    replayed: &Outcomes,
    options: &BenchOptions,
    progress: &Progress,
) -> Result<(), BenchError> {
    progress.phase("copying a file to a socket", 0);
    let reference = match reference {
        Some(reference) => reference,
        none => none.insert(Reference::new(replayed, options)?),
    };
    reference.measure(replayed, options)
}

/// Publishes what is to be replayed, on one connection: then the log's order is known.
fn place(
    options: &BenchOptions,
    target: &Target,
    progress: &Progress,
    report: &mut Report,
) -> Result<Place, BenchError> {
    if let Some(id) = &options.resume_id {
        return Ok(Place {
            topic: ANY_TOPIC.into(),
            id: id.clone(),
            first: 0,
            events: None,
        });
    }
    let topic = run_topic("replay");
    let events = options.events.unwrap_or(EVENTS_DEFAULT).max(1);
    let before = before(events, options.resume_at);
    // One more, at the begin: its id is the place before all others. "earliest" would be that of
    // the whole log, with everything that other runs left there.
    let total = events + 1;
    let load = Load {
        publishers: 1,
        threads: 1,
        events: Some(total),
        rate: None,
        kept: Some(before),
        ..Load::of(options, target, &topic)
    };
    let number = u32::try_from(before).unwrap_or(u32::MAX);
    // A Mercure hub answers a publish with the id; of others one has to be read.
    let witness = options.publish.is_some();
    let witness = witness.then(|| Witness::start(target, &topic, number, options.patience));
    let witness = witness.transpose()?;
    progress.phase("publishing the log", total);
    let published = publishing::publish(&load, &AtomicBool::new(false), progress)?;
    if published.acknowledged != total {
        let why = published.error.unwrap_or_default();
        let text = format!(
            "only {} of {total} events were taken: {why}",
            published.acknowledged
        );
        return Err(BenchError::Server(text));
    }
    let rate = per_second(total, published.elapsed);
    report.result("publish_events_per_second", rate, Unit::PerSecond);
    let id = match witness {
        Some(witness) => witness.id()?,
        None => published.kept.unwrap_or_else(|| EARLIEST.to_owned()),
    };
    Ok(Place {
        topic,
        id,
        first: number.saturating_add(1),
        events: Some(events - before),
    })
}

/// Events before the place at `percent` of a log; at least one event is left.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a count, neither negative nor above 2^53"
)]
fn before(events: u64, percent: f64) -> u64 {
    let share = events as f64 * percent.clamp(0.0, 100.0) / 100.0;
    (share.floor() as u64).min(events - 1)
}

fn parameters(report: &mut Report, options: &BenchOptions) {
    report.parameter("subscribers", options.subscribers);
    report.parameter("rounds", options.rounds.max(1));
    if let Some(id) = &options.resume_id {
        report.parameter("resume_id", id.as_str());
    } else {
        report.parameter("events", options.events.unwrap_or(EVENTS_DEFAULT));
        report.parameter("resume_at_percent", options.resume_at);
        report.parameter("size_bytes", options.size);
    }
    report.parameter("live_subscribers", options.live);
}

fn replay(
    options: &BenchOptions,
    target: &Target,
    place: &Place,
    progress: &Progress,
) -> Result<Outcomes, BenchError> {
    let expected = place.events.unwrap_or_default() * options.subscribers;
    progress.phase("replaying", expected);
    let resume = format!("Last-Event-ID: {}\r\n", place.id);
    let readers = Readers::start(Plan {
        address: target.subscribe_address(),
        request: target.subscribe_request_with(&place.topic, &resume),
        streams: usize::try_from(options.subscribers).unwrap_or(usize::MAX),
        lanes: 1,
        first: place.first,
        core: options.pin_generator,
        patience: options.patience,
    })?;
    // Where nobody knows how much comes, the end is when nothing comes any more.
    let events = place.events.map(|_| expected);
    readers.wait_events(events, progress);
    Ok(readers.finish())
}

/// A figure of all streams of all rounds.
fn sum(rounds: &[Outcomes], of: impl Fn(&Outcome) -> u64) -> u64 {
    rounds.iter().map(|outcomes| outcomes.sum(&of)).sum()
}

fn figures(report: &mut Report, rounds: &[Outcomes]) {
    let mut first_event = latency_histogram();
    let mut whole = latency_histogram();
    let mut time = Duration::ZERO;
    for outcomes in rounds {
        let streams = outcomes.streams.iter();
        let streams = streams.filter(|stream| stream.first_event_ns > 0);
        for stream in streams.clone() {
            first_event.saturating_record(stream.first_event_ns - stream.asked_ns);
            whole.saturating_record(stream.last_event_ns - stream.asked_ns);
        }
        let asked_ns = streams.clone().map(|stream| stream.asked_ns).min();
        let ended_ns = streams.map(|stream| stream.last_event_ns).max();
        let passed_ns = ended_ns.unwrap_or(0) - asked_ns.unwrap_or(0);
        time += Duration::from_nanos(passed_ns);
    }
    let (bytes, events) = (sum(rounds, |s| s.bytes), sum(rounds, |s| s.delivered));
    report.latencies("first_event", &first_event);
    report.latencies("replay", &whole);
    let speed = per_second(bytes, time);
    report.result("replay_bytes_per_second", speed, Unit::BytesPerSecond);
    report.result(
        "replay_events_per_second",
        per_second(events, time),
        Unit::PerSecond,
    );
}

fn faults(report: &mut Report, place: &Place, rounds: &[Outcomes]) {
    let all = || rounds.iter().flat_map(|outcomes| &outcomes.streams);
    let streams = all().count();
    let events = all().map(|stream| stream.delivered + stream.foreign);
    let (least, most) = (events.clone().min().unwrap_or(0), events.max().unwrap_or(0));
    let opened = all().filter(|stream| stream.is_open).count();
    report.count("delivered_count", sum(rounds, |stream| stream.delivered));
    if let Some(error) = rounds.iter().find_map(Outcomes::first_error) {
        report.check("streams stay open", false, error);
    }
    let detail = format!("{opened} of {streams}");
    report.check("every stream is answered", opened == streams, detail);
    let Some(events) = place.events else {
        // Another's log: its numbers may begin anywhere and be of several runs.
        let is_alike = least == most && most > 0;
        let detail = format!("{least} to {most}");
        report.check("every stream gets as many events", is_alike, detail);
        return;
    };
    let until = u32::try_from(events).unwrap_or(u32::MAX);
    let missing = |outcomes: &Outcomes| -> u64 {
        let streams = 0..outcomes.streams.len();
        streams
            .map(|stream| outcomes.missing(stream, 0, until))
            .sum()
    };
    let lost = rounds.iter().map(missing).sum();
    let doubled = sum(rounds, |stream| stream.doubled);
    let reordered = sum(rounds, |stream| stream.reordered);
    report.count("expected_count", events * streams as u64);
    report.count("lost_count", lost);
    report.count("doubled_count", doubled);
    report.count("reordered_count", reordered);
    report.check_none("every event after the place is replayed", lost);
    report.check_none("nothing is replayed twice", doubled);
    report.check_none("events come in the log's order", reordered);
    let early = sum(rounds, |stream| stream.early);
    report.check_none("nothing from before the place comes", early);
}

#[cfg(test)]
mod tests {
    use super::before;

    #[test]
    fn a_place_leaves_at_least_one_event() {
        let places = [0.0, 50.0, 99.9, 100.0, 200.0].map(|percent| before(1000, percent));
        assert_eq!(places, [0, 500, 999, 999, 999]);
        assert_eq!(before(1, 100.0), 0);
    }
}
