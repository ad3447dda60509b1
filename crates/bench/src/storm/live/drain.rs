//! A drain of real streams: what the hub promises for it, and what came of it.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::LiveOptions;
use super::notes::{Note, What};
use super::publishing::Published;
use super::server::Ended;
use super::subscriber::Subscriber;
use super::worker::Shared;
use crate::engine::head::{self, Parsed};
use crate::report::{Chart, Report, Series, Shape, Unit, shown};
use crate::storm::{Tally, summary};

/// Publishers with topics of their own, which nobody reads before the end.
pub(super) const ASIDES: usize = 4;
/// Events that each of them publishes per second.
pub(super) const ASIDE_RATE: f64 = 50.0;

/// How far a second of the window may be from the mean: a quarter, either way. Ours: a shard closes
/// what is due ten times a second, and what it is late by it closes at its next turn.
const UNEVEN_MAX: f64 = 0.25;
/// What the process may take beyond the window for its last answers and its log.
const SPARE: Duration = Duration::from_secs(5);

/// Longest silence of a log that is read to its end.
const READ_MAX: Duration = Duration::from_secs(10);

/// What is known of a drain once all are back.
pub(super) struct Drained {
    pub(super) ended: Ended,
    /// Events of the publishers aside that were answered: in the whole run, and while the hub
    /// was ending.
    pub(super) accepted: u64,
    pub(super) accepted_in_drain: u64,
    /// Those of them that the log does not have.
    pub(super) lost: u64,
}

impl Drained {
    /// Looks for what was accepted in the log of the hub that is there now.
    pub(super) fn look(shared: &Shared, ended: Ended, asides: &[Published]) -> Self {
        let mut drained = Self {
            ended,
            accepted: 0,
            accepted_in_drain: 0,
            lost: 0,
        };
        for (number, aside) in asides.iter().enumerate() {
            let sure = (0..aside.events).filter(|sequence| !aside.unsure.contains(sequence));
            let in_drain = |at_ns: &&u64| (ended.told_ns..=ended.at_ns).contains(*at_ns);
            drained.accepted += aside.answered_ns.len() as u64;
            drained.accepted_in_drain += aside.answered_ns.iter().filter(in_drain).count() as u64;
            let Some(last) = sure.clone().next_back() else {
                continue;
            };
            let topic = aside_topic(&shared.topic, number);
            let (next, missed) = read_log(shared, &topic, last);
            let is_lost = |sequence: &u32| *sequence >= next || missed.contains_key(sequence);
            drained.lost += sure.filter(is_lost).count() as u64;
        }
        drained
    }

    fn took(&self) -> Duration {
        Duration::from_nanos(self.ended.at_ns - self.ended.told_ns)
    }
}

pub(super) fn aside_topic(topic: &str, number: usize) -> String {
    format!("{topic}/aside/{number}")
}

/// Reads a topic from the begin of the log until an event has come; the one that would be next, and
/// those that were passed over. Whatever ends it shows as events that are not there.
fn read_log(shared: &Shared, topic: &str, last: u32) -> (u32, HashMap<u32, u64>) {
    let (mut reader, mut missed) = (Subscriber::default(), HashMap::new());
    let from = "Last-Event-ID: earliest\r\n";
    let request = shared.target.subscribe_request_with(topic, from);
    let mut read = || -> std::io::Result<()> {
        let mut socket = TcpStream::connect(shared.address)?;
        socket.set_read_timeout(Some(READ_MAX))?;
        socket.write_all(&request)?;
        let (mut bytes, mut buffer, mut is_begun) = (Vec::new(), vec![0; 1 << 16], false);
        while reader.next <= last {
            let length = socket.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            if is_begun {
                reader.body(&buffer[..length], &mut missed);
                continue;
            }
            bytes.extend_from_slice(&buffer[..length]);
            if let Parsed::Head(head) = head::parse(&bytes) {
                is_begun = true;
                reader.begin(&head);
                reader.body(&bytes[head.length..], &mut missed);
            }
        }
        Ok(())
    };
    let _ = read();
    (reader.next, missed)
}

/// The figures of the drain, and whether it kept what a drain promises.
pub(super) fn tell(
    options: &LiveOptions,
    drained: &Drained,
    (endings, notes): (&[(u64, Option<Duration>)], &[Note]),
    live: &Tally,
    report: &mut Report,
) {
    let ended = &drained.ended;
    let during = ended.told_ns..=ended.at_ns;
    let endings: Vec<_> = endings
        .iter()
        .filter(|(at_ns, _)| during.contains(at_ns))
        .map(|(at_ns, words)| (Duration::from_nanos(at_ns - ended.told_ns), *words))
        .collect();
    closes(options, &endings, report);
    retries(&endings, report);
    let of_drain = |what: What| {
        let all = notes.iter();
        all.filter(|(at_ns, one)| *one == what && during.contains(at_ns))
            .count() as u64
    };
    report.count("drain_tried_count", of_drain(What::Tries));
    report.count("drain_refused_softly_count", of_drain(What::Softly));
    report.count("publishes_accepted_count", drained.accepted);
    report.count(
        "publishes_accepted_in_drain_count",
        drained.accepted_in_drain,
    );
    let came_back = of_drain(What::IsBack);
    let detail = format!(
        "{came_back}; {} were sent away softly",
        of_drain(What::Softly)
    );
    report.check(
        "streams that the hub took while it drained",
        came_back == 0,
        detail,
    );
    report.check_none(
        "clients that it refused with a status",
        of_drain(What::Hard),
    );
    let detail = format!("{} of {}", drained.lost, drained.accepted);
    report.check(
        "accepted publishes not in the log",
        drained.lost == 0,
        detail,
    );
    let is_told = drained.accepted_in_drain > 0
        || options.publisher_key.is_none()
        || options.drain_window.is_zero();
    let detail = drained.accepted_in_drain.to_string();
    report.check("publishes accepted while it drains", is_told, detail);
    report.check(
        "exit code 0",
        ended.status.success(),
        ended.status.to_string(),
    );
    let (took, most) = (drained.took(), options.drain_window + SPARE);
    report.result("drain_exit_s", took.as_secs_f64(), Unit::Seconds);
    let name = "target: over within the window and 5 s";
    report.check(name, took <= most, shown(took.as_secs_f64(), Unit::Seconds));
    let all = u64::from(options.subscribers);
    report.check_none("target: not back", all.saturating_sub(live.back));
    let wrong = u64::from(!live.adds_up());
    report.check_none("counts that do not add up", wrong);
}

/// How steady the closes were.
#[expect(clippy::cast_precision_loss, reason = "some millions")]
fn closes(options: &LiveOptions, endings: &[(Duration, Option<Duration>)], report: &mut Report) {
    let window = usize::try_from(options.drain_window.as_secs()).unwrap_or(0);
    let mut seconds = vec![0_u64; window + 1];
    for (after, _) in endings {
        let second = usize::try_from(after.as_secs()).unwrap_or(usize::MAX);
        seconds[second.min(window)] += 1;
    }
    let (all, sum) = (u64::from(options.subscribers), endings.len() as u64);
    report.series(series(
        "Streams closed in a second of the drain",
        "closed",
        "streams",
        seconds.iter().map(|count| *count as f64),
    ));
    let detail = format!("{sum} of {all}");
    report.check(
        "every stream was closed once by the drain",
        sum == all,
        detail,
    );
    let whole = &seconds[..window];
    let mean = all as f64 / options.drain_window.as_secs_f64().max(1.0);
    let (Some(most), Some(least)) = (whole.iter().max(), whole.iter().min()) else {
        // All at once was asked for.
        return;
    };
    let (most, least) = (*most as f64 / mean, *least as f64 / mean);
    let squares = whole
        .iter()
        .map(|count| (*count as f64 / mean - 1.0).powi(2));
    let variation = (squares.sum::<f64>() / whole.len() as f64).sqrt();
    report.result("closed_per_second", mean, Unit::PerSecond);
    report.result("closed_most_to_mean_ratio", most, Unit::Ratio);
    report.result("closed_least_to_mean_ratio", least, Unit::Ratio);
    report.result("closed_variation_percent", variation * 100.0, Unit::Percent);
    let name = format!("target: each second within {UNEVEN_MAX} of the mean");
    let is_even = most <= 1.0 + UNEVEN_MAX && least >= 1.0 - UNEVEN_MAX;
    let detail = format!(
        "{least:.3} to {most:.3} x of {mean:.0}/s, off by {:.1} % (standard deviation)",
        variation * 100.0
    );
    report.check(&name, is_even, detail);
}

/// What each was told.
fn retries(endings: &[(Duration, Option<Duration>)], report: &mut Report) {
    let mut told: Vec<Duration> = endings.iter().filter_map(|(_, words)| *words).collect();
    told.sort_unstable();
    let untold = endings.len() - told.len();
    let same = told.chunk_by(|one, next| one == next);
    let different = same.clone().count();
    let most = same.map(<[_]>::len).max().unwrap_or(0);
    let at = |part| part_of(&told, part).as_secs_f64();
    let detail = format!(
        "{untold} of {}; {different} different ones, {:.1} to {:.1} s, half of them below {:.1} s, \
         no more than {most} alike",
        endings.len(),
        at(0.0),
        at(1.0),
        at(0.5)
    );
    let name = "streams that ended without a retry of their own";
    report.check(name, untold == 0, detail);
    report.count("retry_different_count", different as u64);
    report.count("retry_alike_most_count", most as u64);
    for (name, part) in [
        ("least", 0.0),
        ("p10", 0.1),
        ("p50", 0.5),
        ("p90", 0.9),
        ("most", 1.0),
    ] {
        report.result(&format!("retry_{name}_s"), at(part), Unit::Seconds);
    }
    let last = endings.iter().map(|(after, _)| after.as_secs()).max();
    for (name, part) in [("least", 0.0), ("half", 0.5), ("most", 1.0)] {
        let of_second = |second| {
            let of = endings
                .iter()
                .filter(|(after, _)| after.as_secs() == second);
            let mut told: Vec<Duration> = of.filter_map(|(_, words)| *words).collect();
            told.sort_unstable();
            part_of(&told, part).as_secs_f64()
        };
        let points = (0..=last.unwrap_or(0)).map(of_second);
        report.series(series("The retry that those got", name, "s", points));
    }
}

/// The one below which this part of them lies; zero if there are none.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in the list"
)]
fn part_of(sorted: &[Duration], part: f64) -> Duration {
    let place = (part * sorted.len().saturating_sub(1) as f64) as usize;
    sorted.get(place).copied().unwrap_or_default()
}

fn series(chart: &str, name: &str, y_unit: &str, values: impl Iterator<Item = f64>) -> Series {
    let mut second = -1.0;
    let points = values.map(|value| {
        second += 1.0;
        (second, value)
    });
    Series {
        chart: chart.to_owned(),
        name: name.to_owned(),
        x_unit: "s after SIGTERM".to_owned(),
        y_unit: y_unit.to_owned(),
        shape: Shape::Line,
        labels: vec![],
        points: points.collect(),
    }
}

/// The one chart of a run: how a drain closed the streams, else how they came back.
#[must_use]
pub fn chart(report: &Report, tallies: &[Tally]) -> Chart {
    let is_drain = |series: &&Series| series.x_unit == "s after SIGTERM";
    match report.series.iter().find(is_drain) {
        Some(first) => Chart::new(first.chart.clone(), vec![first.clone()]),
        None => summary::chart(tallies),
    }
}
