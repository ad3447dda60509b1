//! Subscribers that do not read, or read slowly, and what the others notice of it: nothing.

use gush_testkit::{
    Failure, HubBuilder, HubProcess, Outcome, PATIENCE, SseEvent, SseStream, peers,
};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TOPIC: &str = "https://slow.example/1";
/// Enough in total that no socket buffer can swallow it (64 KiB send buffer, a few KiB to receive).
const EVENTS: usize = 600;
const SIZE: usize = 8 * 1024;

fn builder() -> Outcome<HubBuilder> {
    Ok(HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        // How events are synced does not matter here; how long publishing takes does.
        .option("--sync", "off")
        .option("--window-events", "64"))
}

fn numbered(n: usize) -> String {
    format!("{n} {}", "x".repeat(SIZE))
}

fn publish_all(hub: &HubProcess) -> Outcome<Vec<String>> {
    let mut connection = hub.connect()?;
    let mut ids = Vec::new();
    for n in 0..EVENTS {
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &numbered(n))])?;
        let response = connection.exchange(&request)?;
        response.expect_status(&[200])?;
        ids.push(response.text());
    }
    Ok(ids)
}

/// Publishes everything while `reading` reads it, so that it is never the one that does not read.
fn publish_to(hub: &HubProcess, reading: &mut SseStream) -> Outcome<Vec<String>> {
    std::thread::scope(|scope| {
        let publishing = scope.spawn(|| publish_all(hub));
        expect_from(reading, 0)?;
        publishing
            .join()
            .map_err(|_| Failure::new("the publisher panicked"))?
    })
}

fn expect_from(stream: &mut SseStream, first: usize) -> Outcome<()> {
    for n in first..EVENTS {
        stream.expect_data(&numbered(n))?;
    }
    Ok(())
}

#[test]
fn a_subscriber_that_never_reads_is_closed_and_named_and_others_get_everything() -> Outcome<()> {
    let hub = builder()?.option("--write-timeout", "1s").start()?;
    let mut reading = hub.subscribe(&[("topic", TOPIC)])?;
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    let mut stuck = peers::unread_request(hub.address(), &request)?;
    hub.wait_metric("gush_streams_opened_total", |streams| streams >= 2)?;
    let ids = publish_to(&hub, &mut reading)?;
    hub.wait_metric(
        "gush_streams_closed_total{reason=\"write_timeout\"}",
        |count| count == 1,
    )?;
    // What it has in its buffers is a beginning of the stream, and it can resume after that.
    let seen = String::from_utf8_lossy(&stuck.read_to_close(PATIENCE)?).into_owned();
    let whole_events = seen.matches("\ndata: ").count().saturating_sub(1);
    let last = &ids[whole_events.saturating_sub(1)];
    expect_from(
        &mut hub.resume(&[("topic", TOPIC)], last)?,
        whole_events.max(1),
    )
}

#[test]
fn a_slow_subscriber_gets_everything_in_order_from_disk() -> Outcome<()> {
    let hub = builder()?.option("--write-timeout", "5m").start()?;
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    let connection = peers::unread_request(hub.address(), &request)?;
    let mut slow = SseStream::answered(connection)?;
    let mut reading = hub.subscribe(&[("topic", TOPIC)])?;
    // Nothing is read while all is published: the window of 64 events is long past the cursor.
    publish_all(&hub)?;
    expect_from(&mut reading, 0)?;
    hub.wait_metric("gush_subscribers_behind", |count| count >= 1)?;
    expect_from(&mut slow, 0)?;
    hub.wait_metric("gush_subscribers_behind", |count| count == 0)?;
    // And live again.
    hub.publish(&[("topic", TOPIC), ("data", "live")])?;
    slow.expect_data("live")?;
    reading.expect_data("live").map(drop)
}

#[test]
fn a_reader_of_a_few_bytes_at_a_time_is_not_closed() -> Outcome<()> {
    let hub = builder()?.option("--write-timeout", "1s").start()?;
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    let connection = peers::unread_request(hub.address(), &request)?;
    // Reads on for longer than the write timeout, in small steps with a metric look-up between
    // them, while there is always more to send; taking some bytes is enough to stay.
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                publish_all(&hub)?;
            }
            Ok(())
        });
        let started = Instant::now();
        let read = || -> Outcome<()> {
            while started.elapsed() < Duration::from_millis(2500) {
                if peers::read_step(&connection, 2048, PATIENCE)? == 0 {
                    let text = format!("closed although it reads\n{}", hub.output());
                    return Err(Failure::new(text));
                }
                hub.metric("gush_streams_opened_total")?;
            }
            Ok(())
        };
        let outcome = read();
        done.store(true, Ordering::Relaxed);
        let ended = publisher
            .join()
            .map_err(|_| Failure::new("the publisher panicked"))?;
        outcome.and(ended)
    })?;
    let closed = hub.metric("gush_streams_closed_total{reason=\"write_timeout\"}")?;
    assert_eq!(closed.unwrap_or(0), 0);
    peers::reset(connection)
}

#[test]
fn a_crowd_that_never_reads_does_not_hold_up_the_others() -> Outcome<()> {
    let hub = builder()?.option("--write-timeout", "1s").start()?;
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    let mut crowd = Vec::new();
    for _ in 0..50 {
        crowd.push(peers::unread_request(hub.address(), &request)?);
    }
    hub.wait_metric("gush_streams_opened_total", |streams| streams >= 50)?;
    let mut reading = hub.subscribe(&[("topic", TOPIC)])?;
    publish_to(&hub, &mut reading)?;
    hub.wait_metric(
        "gush_streams_closed_total{reason=\"write_timeout\"}",
        |count| count == 50,
    )
    .map(drop)
}

/// A hub that keeps little, so that a subscriber that does not read loses events to retention.
fn forgetful() -> Outcome<HubProcess> {
    builder()?
        .option("--write-timeout", "5m")
        .option("--segment-bytes", "64KiB")
        .option("--retention-bytes", "64MiB")
        .option("--retention-events", "50")
        .start()
}

/// Subscribes without reading while everything is published.
fn behind(hub: &HubProcess, query: &[(&str, &str)]) -> Outcome<SseStream> {
    let connection = peers::unread_request(hub.address(), &hub.subscribe_request(query)?)?;
    let stream = SseStream::answered(connection)?;
    publish_all(hub)?;
    Ok(stream)
}

/// The events until the stream ends, be it in the middle of one: an event that is half out when
/// retention drops it cannot be finished.
fn until_cut(stream: &mut SseStream) -> Vec<SseEvent> {
    std::iter::from_fn(|| stream.next_event().ok()).collect()
}

fn number(event: &SseEvent) -> Option<usize> {
    event.data.split(' ').next()?.parse().ok()
}

#[test]
fn a_subscriber_overtaken_by_retention_is_closed_and_named() -> Outcome<()> {
    let hub = forgetful()?;
    let mut stream = behind(&hub, &[("topic", TOPIC)])?;
    let events = until_cut(&mut stream);
    for (n, event) in events.iter().enumerate() {
        if event.data != numbered(n) {
            return Failure::mismatch(format!("event {n}"), "its number", &event.data);
        }
    }
    if events.len() >= EVENTS {
        return Err(Failure::new("nothing was lost, so the test shows nothing"));
    }
    hub.wait_metric("gush_streams_closed_total{reason=\"gap\"}", |count| {
        count == 1
    })?;
    // It comes back with an id that is gone; the answer header is the protocol's signal.
    if let Some(id) = events.last().and_then(|event| event.id.clone()) {
        let stream = hub.resume(&[("topic", TOPIC)], &id)?;
        if stream.head().header("Last-Event-ID") == Some(&id) {
            return Err(Failure::new(
                "a trimmed id was echoed as if it had been found",
            ));
        }
    }
    Ok(())
}

#[test]
fn a_subscriber_overtaken_by_retention_is_told_in_band_when_it_asked() -> Outcome<()> {
    let hub = forgetful()?;
    let query = [("topic", TOPIC), ("gush_gap", "1")];
    let mut stream = behind(&hub, &query)?;
    let mut events: Vec<SseEvent> = Vec::new();
    let mut connections = 0;
    while events
        .last()
        .and_then(number)
        .is_none_or(|last| last + 1 < EVENTS)
    {
        match stream.next_event() {
            Ok(event) => events.push(event),
            // Cut in the middle of an event: it comes back with its id, as every client does.
            Err(_) if connections < 3 => {
                connections += 1;
                let id = events
                    .last()
                    .and_then(|event| event.id.clone())
                    .unwrap_or_default();
                stream = hub.resume(&query, &id)?;
                // For an id that is gone nothing is replayed; this one is live.
                hub.publish(&[("topic", TOPIC), ("data", &numbered(EVENTS))])?;
            }
            Err(failure) => return Err(failure),
        }
    }
    let gaps: Vec<_> = events
        .iter()
        .filter(|event| event.event == "gush-gap")
        .collect();
    if gaps.is_empty() || gaps.iter().any(|event| !event.data.contains("trimmed")) {
        return Failure::mismatch("gap events", "one that says trimmed", format!("{gaps:?}"));
    }
    // Numbers rise by one everywhere but at a gap event.
    for pair in events.windows(2) {
        if let (Some(one), Some(next)) = (number(&pair[0]), number(&pair[1]))
            && next != one + 1
        {
            return Failure::mismatch("number", one + 1, format!("{next}, without a word"));
        }
    }
    Ok(())
}

#[test]
fn a_very_large_event_arrives_whole() -> Outcome<()> {
    let hub = builder()?.start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let data = "0123456789abcdef".repeat(9 << 16);
    let id = hub.publish(&[("topic", TOPIC), ("data", &data)])?;
    hub.publish(&[("topic", TOPIC), ("data", "after")])?;
    for stream in [
        &mut stream,
        &mut hub.resume(&[("topic", TOPIC)], "earliest")?,
    ] {
        let event = stream.next_event()?;
        assert!(
            event.data == data,
            "{} bytes came of {}",
            event.data.len(),
            data.len()
        );
        assert_eq!(event.id.as_ref(), Some(&id));
        stream.expect_data("after")?;
    }
    Ok(())
}
