//! Subscribers that do not read, or read slowly, and what the others notice of it: nothing.

use gush_testkit::{Failure, HubBuilder, HubProcess, Outcome, PATIENCE, SseStream, peers};
use std::time::{Duration, Instant};

const TOPIC: &str = "https://slow.example/1";
/// Enough in total that no socket buffer can swallow it (64 KiB send buffer, a few KiB to receive).
const EVENTS: usize = 600;
const SIZE: usize = 8 * 1024;

fn builder() -> Outcome<HubBuilder> {
    Ok(HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
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
    let hub = builder()?.start()?;
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
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| publish_all(&hub));
        let started = Instant::now();
        while started.elapsed() < Duration::from_millis(2500) || !publisher.is_finished() {
            if peers::read_step(&connection, 2048, PATIENCE)? == 0 {
                return Err(Failure::new(format!(
                    "closed although it reads\n{}",
                    hub.output()
                )));
            }
            hub.metric("gush_streams_opened_total")?;
        }
        publisher
            .join()
            .map_err(|_| Failure::new("the publisher panicked"))?
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
