//! `kill -9` under load, again and again on one disk log: nothing acknowledged is lost, nothing is
//! told twice, the history that was seen once is never rewritten.

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseEvent, eventually,
};
use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://crash.example/events";
const PUBLISHERS: usize = 4;
/// Rounds go on until this much time is used up.
const BUDGET: Duration = Duration::from_secs(25);
/// However slow the machine.
const ROUNDS_AT_LEAST: usize = 5;

/// What publishers know: what was answered 200, and what was sent and never answered.
#[derive(Default)]
struct Ledger {
    /// Id and data, in the order the answers came to each publisher.
    acknowledged: Vec<(String, String)>,
    /// Data of requests that were cut off.
    open: HashSet<String>,
}

#[test]
fn nothing_acknowledged_is_lost_by_kill_9() -> Outcome<()> {
    let seed = gush_testkit::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        // Many segments, so that kills also hit the moments when a new one is begun.
        .option("--segment-bytes", "64KiB")
        .option("--retention-bytes", "64MiB");
    let mut ledger = Ledger::default();
    let mut history: Vec<SseEvent> = Vec::new();
    let mut followed: Vec<SseEvent> = Vec::new();
    let started = Instant::now();
    let mut round = 0;
    while round < ROUNDS_AT_LEAST || started.elapsed() < BUDGET {
        if random.u8(..) < 50 {
            builder.start_and_kill(Duration::from_micros(random.u64(100..60_000)))?;
        }
        let mut hub = builder.start()?;
        let place = |f: Failure| f.within(format!("round {round}, seed {seed}"));
        history = compare(&hub, &ledger, &history, round).map_err(place)?;
        resume_somewhere(&hub, &history, &mut random).map_err(place)?;
        load_and_kill(&mut hub, &mut ledger, &mut followed, round, &mut random).map_err(place)?;
        round += 1;
    }
    let hub = builder.start()?;
    let history = compare(&hub, &ledger, &history, round)?;
    check_followed(&history, &followed)?;
    println!(
        "{round} rounds, {} acknowledged, {} never answered, {} in the log",
        ledger.acknowledged.len(),
        ledger.open.len(),
        history.len()
    );
    Ok(())
}

/// Publishes from several threads while a subscriber follows, and kills the hub after a random
/// number of answers.
fn load_and_kill(
    hub: &mut HubProcess,
    ledger: &mut Ledger,
    followed: &mut Vec<SseEvent>,
    round: usize,
    random: &mut fastrand::Rng,
) -> Outcome<()> {
    let load = Load {
        ledger: Mutex::new(std::mem::take(ledger)),
        answers: AtomicUsize::new(0),
        killed: AtomicBool::new(false),
    };
    let kill_after = random.usize(1..600);
    let last = followed.last().and_then(|event| event.id.clone());
    let mut stream = match &last {
        Some(id) => hub.resume(&[("topic", TOPIC)], id)?,
        None => hub.subscribe(&[("topic", TOPIC), ("lastEventID", "earliest")])?,
    };
    if let Some(id) = &last {
        stream
            .head()
            .expect_header("Last-Event-ID", id)
            .map_err(|f| {
                f.within(
                    "the id of an event that was delivered before the kill is unknown after it",
                )
            })?;
    }
    let token = hub.publisher_token()?;
    let address = hub.address();
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (load, token) = (&load, &token);
            scope.spawn(move || {
                let name = format!("{round}/{publisher}");
                // Ends with an error when the hub is killed, which is the point.
                if let Ok(connection) = Connection::open(address) {
                    publish_until_killed(connection, token, &name, load);
                }
            });
        }
        let reader = scope.spawn(move || {
            let mut seen = Vec::new();
            while let Ok(event) = stream.next_event() {
                seen.push(event);
            }
            seen
        });
        let reached = eventually("answers under load", PATIENCE, || {
            Ok((load.answers.load(Ordering::Relaxed) >= kill_after).then_some(()))
        });
        load.killed.store(true, Ordering::Release);
        hub.sigkill()?;
        followed.extend(
            reader
                .join()
                .map_err(|_| Failure::new("the follower panicked"))?,
        );
        reached
    })?;
    *ledger = load
        .ledger
        .into_inner()
        .map_err(|_| Failure::new("a publisher panicked"))?;
    Ok(())
}

/// What the publishers of one round share.
struct Load {
    ledger: Mutex<Ledger>,
    answers: AtomicUsize,
    /// Set before the kill, so that a failure before it is told from one by it.
    killed: AtomicBool,
}

fn publish_until_killed(mut connection: Connection, token: &str, name: &str, load: &Load) {
    for n in 0.. {
        let data = format!("{name}/{n}");
        let own = format!("own:{data}");
        let mut fields = vec![("topic", TOPIC), ("data", &data)];
        if n % 3 == 0 {
            fields.push(("id", &own));
        }
        load.ledger
            .lock()
            .expect("no publisher panics")
            .open
            .insert(data.clone());
        let answer = connection.exchange(&Request::form(HUB, &fields).bearer(token));
        let mut ledger = load.ledger.lock().expect("no publisher panics");
        match answer {
            Ok(answer) if answer.status() == 200 => {
                ledger.open.remove(&data);
                ledger.acknowledged.push((answer.text(), data));
                load.answers.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => panic!("publish answered {}: {}", answer.status(), answer.text()),
            Err(failure) => {
                assert!(
                    load.killed.load(Ordering::Acquire),
                    "before the kill: {failure}"
                );
                return;
            }
        }
    }
}

/// Replays everything and compares it with the ledger and with what was replayed before.
fn compare(
    hub: &HubProcess,
    ledger: &Ledger,
    before: &[SseEvent],
    round: usize,
) -> Outcome<Vec<SseEvent>> {
    let end = format!("end of replay {round}");
    let mut stream = hub.subscribe(&[
        ("topic", TOPIC),
        ("topic", "https://crash.example/end"),
        ("lastEventID", "earliest"),
    ])?;
    hub.publish(&[("topic", "https://crash.example/end"), ("data", &end)])?;
    let mut history = Vec::new();
    loop {
        let event = stream.next_event()?;
        if event.data == end {
            break;
        }
        if !event.data.starts_with("end of replay") {
            history.push(event);
        }
    }
    let same_start = before
        .iter()
        .zip(&history)
        .all(|(old, new)| old.lines == new.lines);
    if history.len() < before.len() || !same_start {
        return Err(Failure::new(
            "events that were replayed before the kill changed or vanished",
        ));
    }
    let mut position = HashMap::new();
    for (at, event) in history.iter().enumerate() {
        if let Some(first) = position.insert(event.data.as_str(), at) {
            let text = format!("{:?} is in the log twice, at {first} and {at}", event.data);
            return Err(Failure::new(text));
        }
    }
    let mut previous: HashMap<&str, usize> = HashMap::new();
    for (id, data) in &ledger.acknowledged {
        let Some(&at) = position.get(data.as_str()) else {
            return Err(Failure::new(format!(
                "acknowledged {data:?} ({id}) is not in the log"
            )));
        };
        if history[at].id.as_deref() != Some(id) {
            return Failure::mismatch("id", id, format!("{:?}", history[at]));
        }
        let publisher = data.rsplit_once('/').map_or("", |(name, _)| name);
        if previous
            .insert(publisher, at)
            .is_some_and(|earlier| earlier > at)
        {
            return Err(Failure::new(format!(
                "{data:?} is before what was answered earlier"
            )));
        }
    }
    let known: HashSet<&str> = ledger
        .acknowledged
        .iter()
        .map(|(_, data)| data.as_str())
        .collect();
    for event in &history {
        if !known.contains(event.data.as_str()) && !ledger.open.contains(&event.data) {
            return Err(Failure::new(format!("never published: {event:?}")));
        }
    }
    Ok(history)
}

/// Resumes at a few random events of the past: each is known and followed by the right one.
fn resume_somewhere(
    hub: &HubProcess,
    history: &[SseEvent],
    random: &mut fastrand::Rng,
) -> Outcome<()> {
    for _ in 0..3.min(history.len()) {
        let at = random.usize(..history.len());
        let id = history[at].id.clone().unwrap_or_default();
        let mut stream = hub.resume(&[("topic", TOPIC)], &id)?;
        stream.head().expect_header("Last-Event-ID", &id)?;
        if let Some(next) = history.get(at + 1) {
            let got = stream.next_event()?;
            if got.lines != next.lines {
                return Failure::mismatch(
                    format!("event after {id}"),
                    format!("{next:?}"),
                    format!("{got:?}"),
                );
            }
        }
    }
    Ok(())
}

/// A subscriber that resumed after each kill saw the log from its first event on, each event once.
fn check_followed(history: &[SseEvent], followed: &[SseEvent]) -> Outcome<()> {
    for (at, (stored, seen)) in history.iter().zip(followed).enumerate() {
        if stored.lines != seen.lines {
            return Failure::mismatch(
                format!("event {at} as the follower saw it"),
                format!("{stored:?}"),
                format!("{seen:?}"),
            );
        }
    }
    if followed.len() > history.len() {
        return Err(Failure::new(
            "the follower saw events that are not in the log",
        ));
    }
    Ok(())
}
