//! Restarts under load, counted: upgrades, then drains and `kill -9` in any order, while publishers
//! publish and readers resume with the ids they have. Every reader gets every event once, in the
//! log's order, and what was acknowledged is among them. Over the upgrades no stream ends, no
//! connection is refused and every publish is answered: Firefox, which never comes back after one
//! refused connection, would not notice.
//!
//! Five of each with the other tests. As many as you like:
//! `GUSH_RESTARTS=200 cargo test --release --package gush --test restarts -- --nocapture`

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseStream,
    encode_form, eventually, own_address, send_signal,
};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://restarts.example/1";
const END: &str = "the end";
const PUBLISHERS: u64 = 3;
const READERS: usize = 8;
const ROUNDS: usize = 5;

/// How a hub is taken down.
#[derive(Clone, Copy, Debug)]
enum Way {
    Upgrade,
    Drain,
    Kill,
}

/// What a publisher and the number of its event make: the event's data.
type Event = (u64, u64);

/// What publishers know.
#[derive(Default)]
struct Ledger {
    /// Answered with 200, in the order of the answers to each publisher.
    acknowledged: Vec<Event>,
    /// Sent, and the connection was gone before an answer: stored or not, nobody can know. They
    /// are never sent again, so whatever comes twice was doubled by the hub.
    unknown: HashSet<Event>,
}

/// What the threads share.
struct Load {
    address: SocketAddr,
    subscriber_token: String,
    publisher_token: String,
    ledger: Mutex<Ledger>,
    answers: AtomicU64,
    refused: AtomicU64,
    resumed: AtomicU64,
    probes: AtomicU64,
    is_upgraded: AtomicBool,
    is_over: AtomicBool,
}

#[test]
fn nothing_is_lost_or_doubled_by_upgrades_drains_and_kills() -> Outcome<()> {
    let rounds = match std::env::var("GUSH_RESTARTS") {
        Ok(text) => text
            .parse()
            .map_err(|_| Failure::new(format!("GUSH_RESTARTS={text} is no number")))?,
        Err(_) => ROUNDS,
    };
    let seed = gush_testkit::seed();
    let mut random = fastrand::Rng::with_seed(seed);
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .without_listeners()
        .option("--listen", &own_address().to_string())
        .option("--admin-listen", "127.0.0.1:0")
        // Many segments, so that restarts also hit the moments when a new one is begun.
        .option("--segment-bytes", "64KiB")
        .option("--retention-bytes", "1GiB")
        .option("--drain-window", "200ms");
    let upgrades = vec![Way::Upgrade; rounds];
    let mut ways = [vec![Way::Drain; rounds], vec![Way::Kill; rounds]].concat();
    random.shuffle(&mut ways);
    let hub = builder.start()?;
    let load = Load {
        address: hub.address(),
        subscriber_token: hub.subscriber_token()?,
        publisher_token: hub.publisher_token()?,
        ledger: Mutex::default(),
        answers: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        resumed: AtomicU64::new(0),
        probes: AtomicU64::new(0),
        is_upgraded: AtomicBool::new(false),
        is_over: AtomicBool::new(false),
    };
    let begun = Instant::now();
    let (hub, followed) = run(hub, &load, (&upgrades, &ways), &mut random)
        .map_err(|failure| failure.within(format!("seed {seed}")))?;
    let stored = follow(&load, &hub)?;
    check_readers(&stored, &followed)?;
    let ledger = load
        .ledger
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    let doubtful = check_ledger(&stored, &ledger)?;
    println!(
        "{rounds} upgrades, {rounds} drains and {rounds} kills in {:.0} s: {} events acknowledged \
         and {doubtful} of {} without an answer stored; {READERS} readers \
         resumed {} times, 0 lost, 0 doubled; {} \
         publishes refused; over the upgrades no stream ended and {} new connections were \
         answered",
        begun.elapsed().as_secs_f64(),
        ledger.acknowledged.len(),
        ledger.unknown.len(),
        load.resumed.load(Ordering::Relaxed),
        load.refused.load(Ordering::Relaxed),
        load.probes.load(Ordering::Relaxed),
    );
    Ok(())
}

/// Restarts under load; the last hub, and what each reader saw.
fn run(
    hub: HubProcess,
    load: &Load,
    (upgrades, ways): (&[Way], &[Way]),
    random: &mut fastrand::Rng,
) -> Outcome<(HubProcess, Vec<Vec<Event>>)> {
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| read(load))).collect();
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| scope.spawn(move || publish(load, publisher)))
            .collect();
        let probe = scope.spawn(|| keep_connecting(load));
        let after = restart_all(hub, load, upgrades, random);
        load.is_upgraded.store(true, Ordering::Release);
        let probed = probe
            .join()
            .map_err(|_| Failure::new("the probe panicked"))
            .flatten();
        let restarted = after
            .and_then(|hub| probed.and_then(|()| check_unnoticed(load)).map(|()| hub))
            .and_then(|hub| restart_all(hub, load, ways, random));
        load.is_over.store(true, Ordering::Release);
        let panicked = |_| Failure::new("a thread panicked");
        for publisher in publishers {
            publisher.join().map_err(panicked)??;
        }
        if let Ok(hub) = &restarted {
            hub.publish(&[("topic", TOPIC), ("data", END)])?;
        }
        let seen = readers
            .into_iter()
            .map(|reader| reader.join().map_err(panicked)?)
            .collect::<Outcome<Vec<_>>>();
        let hub = restarted?;
        Ok((hub, seen?))
    })
}

fn restart_all(
    mut hub: HubProcess,
    load: &Load,
    ways: &[Way],
    random: &mut fastrand::Rng,
) -> Outcome<HubProcess> {
    for (round, way) in ways.iter().enumerate() {
        let enough = load.answers.load(Ordering::Relaxed) + random.u64(1..200);
        eventually("answers under load", PATIENCE, || {
            Ok((load.answers.load(Ordering::Relaxed) >= enough).then_some(()))
        })
        .map_err(|failure| failure.within(format!("round {round}\n{}", hub.output())))?;
        let pid = hub.serving_pid();
        match way {
            Way::Upgrade => {
                hub.upgrade()?;
                wait_gone(&mut hub, pid, Some(0))?;
                continue;
            }
            Way::Kill => {
                send_signal("KILL", pid)?;
                wait_gone(&mut hub, pid, None)?;
            }
            Way::Drain => {
                send_signal("TERM", pid)?;
                wait_gone(&mut hub, pid, Some(0))?;
            }
        }
        hub = hub.builder().start()?;
    }
    Ok(hub)
}

/// Waits for the end of a process, and looks at its exit code where it is this one's child: after
/// an upgrade it is somebody else's.
fn wait_gone(hub: &mut HubProcess, pid: u32, code: Option<i32>) -> Outcome<()> {
    if pid == hub.pid() {
        let status = hub.wait_exit(PATIENCE)?;
        if status.code() == code {
            return Ok(());
        }
        return Failure::mismatch(
            "exit",
            format!("{code:?}"),
            format!("{status}\n{}", hub.output()),
        );
    }
    eventually("the process's end", PATIENCE, || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        let is_gone = stat.map_or(true, |stat| stat.contains(") Z "));
        Ok(is_gone.then_some(()))
    })
}

/// Connects again and again while the hub is upgraded: any failure is a Firefox lost.
fn keep_connecting(load: &Load) -> Outcome<()> {
    while !load.is_upgraded.load(Ordering::Acquire) {
        let answer = Connection::open(load.address)?.exchange(&Request::get("/healthz"))?;
        answer.expect_status(&[200])?;
        load.probes.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Over the upgrades no stream has ended, and no publish was refused or left without an answer.
fn check_unnoticed(load: &Load) -> Outcome<()> {
    let ledger = load.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let resumed = load.resumed.load(Ordering::Relaxed);
    let refused = load.refused.load(Ordering::Relaxed);
    if resumed + refused == 0 && ledger.unknown.is_empty() {
        return Ok(());
    }
    let got = format!(
        "{resumed} streams, {refused} refused, {:?} unanswered",
        ledger.unknown
    );
    Failure::mismatch("ended over upgrades", "nothing", got)
}

fn subscribe(load: &Load, last_id: Option<&str>) -> Outcome<SseStream> {
    let target = format!("{HUB}?{}", encode_form(&[("topic", TOPIC)]));
    let request = Request::get(&target)
        .bearer(&load.subscriber_token)
        .header("Last-Event-ID", last_id.unwrap_or("earliest"));
    SseStream::open(load.address, &request)
}

/// Follows the log over all restarts, with the id of the last event each time.
fn read(load: &Load) -> Outcome<Vec<Event>> {
    let mut seen = Vec::new();
    let mut last_id: Option<String> = None;
    loop {
        let mut stream = eventually("a stream", PATIENCE, || {
            if load.is_over.load(Ordering::Acquire) {
                // The last hub is up by now, or there is none: then why not is worth knowing.
                return subscribe(load, last_id.as_deref()).map(Some);
            }
            Ok(subscribe(load, last_id.as_deref()).ok())
        })?;
        if let Some(id) = &last_id {
            stream.head().expect_header("Last-Event-ID", id)?;
            load.resumed.fetch_add(1, Ordering::Relaxed);
        }
        while let Ok(event) = stream.next_event() {
            if event.data == END {
                return Ok(seen);
            }
            seen.push(parse(&event.data)?);
            last_id = event.id;
        }
    }
}

fn parse(data: &str) -> Outcome<Event> {
    let parts = data.split_once('/');
    parts
        .and_then(|(publisher, n)| Some((publisher.parse().ok()?, n.parse().ok()?)))
        .ok_or_else(|| Failure::new(format!("an event that nobody published: {data:?}")))
}

/// Publishes one event after the other until all is over.
fn publish(load: &Load, publisher: u64) -> Outcome<()> {
    let mut connection: Option<Connection> = None;
    for n in 0.. {
        if load.is_over.load(Ordering::Acquire) {
            break;
        }
        let event = (publisher, n);
        let data = format!("{publisher}/{n}");
        let request =
            Request::form(HUB, &[("topic", TOPIC), ("data", &data)]).bearer(&load.publisher_token);
        let mut open = match connection.take() {
            Some(open) => open,
            None => eventually("a connection", PATIENCE, || {
                Ok(Connection::open(load.address).ok())
            })?,
        };
        let answer = open.exchange(&request);
        let mut ledger = load.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Ok(answer) if answer.status() == 200 => {
                ledger.acknowledged.push(event);
                load.answers.fetch_add(1, Ordering::Relaxed);
                connection = Some(open);
            }
            // Refused is not stored: it must not be in the log.
            Ok(answer) if answer.status() == 503 => {
                load.refused.fetch_add(1, Ordering::Relaxed);
            }
            Ok(answer) => return Failure::mismatch("publish", "200 or 503", answer.status()),
            Err(_) => {
                ledger.unknown.insert(event);
            }
        }
    }
    Ok(())
}

/// The whole log, as a newcomer reads it.
fn follow(load: &Load, hub: &HubProcess) -> Outcome<Vec<Event>> {
    let mut stream = subscribe(load, None).map_err(|failure| failure.within(hub.output()))?;
    let mut stored = Vec::new();
    loop {
        let event = stream.next_event()?;
        if event.data == END {
            return Ok(stored);
        }
        stored.push(parse(&event.data)?);
    }
}

fn check_readers(stored: &[Event], seen: &[Vec<Event>]) -> Outcome<()> {
    for (reader, seen) in seen.iter().enumerate() {
        if seen == stored {
            continue;
        }
        let at = stored
            .iter()
            .zip(seen)
            .take_while(|(one, other)| one == other);
        let at = at.count();
        return Failure::mismatch(
            format!(
                "event {at} of reader {reader}, of {} and {}",
                stored.len(),
                seen.len()
            ),
            format!("{:?}", stored.get(at)),
            format!("{:?}", seen.get(at)),
        );
    }
    Ok(())
}

/// What was acknowledged is in the log once and in order, what was refused is not; how many of
/// those without an answer are.
fn check_ledger(stored: &[Event], ledger: &Ledger) -> Outcome<usize> {
    let mut places = HashMap::new();
    for (place, event) in stored.iter().enumerate() {
        if places.insert(*event, place).is_some() {
            return Err(Failure::new(format!("{event:?} is in the log twice")));
        }
    }
    let mut last = HashMap::new();
    for event in &ledger.acknowledged {
        let Some(place) = places.remove(event) else {
            return Err(Failure::new(format!(
                "{event:?} was acknowledged and is lost"
            )));
        };
        if last
            .insert(event.0, place)
            .is_some_and(|before| before > place)
        {
            return Err(Failure::new(format!("{event:?} is out of order")));
        }
    }
    match places.keys().find(|event| !ledger.unknown.contains(*event)) {
        Some(event) => Err(Failure::new(format!(
            "{event:?} was refused and is in the log"
        ))),
        None => Ok(places.len()),
    }
}
