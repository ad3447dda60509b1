//! A drain under attack: told again, over peers that never read, beside unfinished requests, in the
//! middle of a replay. It ends with 0, says why streams ended, and keeps what it answered.

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseStream,
    begin_batch, eventually, exchange, peers::unread_request, send_batch_line,
};
use std::collections::HashSet;
use std::time::Duration;

const TOPIC: &str = "https://drain.example/attack";

fn builder(options: &[(&str, &str)]) -> Outcome<HubBuilder> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.disk();
    let with = |builder: HubBuilder, (name, value): &(&str, &str)| builder.option(name, value);
    Ok(options.iter().fold(builder, with))
}

fn streams(hub: &HubProcess, count: usize) -> Outcome<Vec<SseStream>> {
    let streams = (0..count).map(|_| hub.subscribe(&[("topic", TOPIC)]));
    let streams = streams.collect::<Outcome<Vec<_>>>()?;
    hub.wait_metric("mercure_subscribers_connected", |open| open == count as u64)?;
    Ok(streams)
}

fn wait_not_ready(hub: &HubProcess) -> Outcome<()> {
    eventually("readyz 503", PATIENCE, || {
        Ok((hub.get("/readyz")?.status() == 503).then_some(()))
    })
}

fn expect_success(hub: &mut HubProcess) -> Outcome<()> {
    let status = hub.wait_exit(PATIENCE)?;
    if status.code() == Some(0) {
        return Ok(());
    }
    Failure::mismatch("exit", "0", format!("{status}\n{}", hub.output()))
}

/// Each has ended in good order, with a retry of its own.
fn expect_farewells(streams: Vec<SseStream>) -> Outcome<()> {
    for mut stream in streams {
        stream.read_to_end(PATIENCE)?;
        if stream.retries() != 2 {
            return Failure::mismatch("retries", "one at each end", stream.retries());
        }
    }
    Ok(())
}

fn stored(stopped: &HubProcess) -> Outcome<Vec<String>> {
    let hub = stopped.builder().start()?;
    let end = hub.publish(&[("topic", TOPIC), ("data", "end of the log")])?;
    let mut stream = hub.subscribe(&[("topic", TOPIC), ("lastEventID", "earliest")])?;
    let mut ids = Vec::new();
    loop {
        let id = stream.next_event()?.id.unwrap_or_default();
        if id == end {
            return Ok(ids);
        }
        ids.push(id);
    }
}

/// The second signal closes all that is left in good order, each with its own retry.
#[test]
fn a_second_signal_closes_all_streams_in_good_order() -> Outcome<()> {
    let mut hub = builder(&[("--drain-window", "10m")])?.start()?;
    let id = hub.publish(&[("topic", TOPIC), ("data", "kept")])?;
    let streams = streams(&hub, 50)?;
    hub.sigterm()?;
    wait_not_ready(&hub)?;
    hub.sigterm()?;
    expect_farewells(streams)?;
    expect_success(&mut hub)?;
    if stored(&hub)? == [id.clone()] {
        return Ok(());
    }
    Failure::mismatch("log", id, "something else")
}

/// The third does not wait for a request either.
#[test]
fn a_third_signal_waits_for_nobody() -> Outcome<()> {
    let mut hub = builder(&[("--drain-window", "10m"), ("--drain-delay", "10m")])?.start()?;
    let mut stuck = hub.connect()?;
    stuck.send(b"POST /.well-known/mercure HTTP/1.1\r\nHost: h\r\nContent-Len")?;
    let _streams = streams(&hub, 5)?;
    hub.sigterm()?;
    wait_not_ready(&hub)?;
    hub.sigterm()?;
    hub.wait_stderr(&["second signal"])?;
    hub.sigterm()?;
    expect_success(&mut hub)?;
    hub.wait_stderr(&["third signal"])?;
    Ok(())
}

/// A balancer has time to notice: until then everything goes on.
#[test]
fn the_delay_is_for_the_balancer() -> Outcome<()> {
    let mut hub = builder(&[("--drain-delay", "10m"), ("--drain-window", "10m")])?.start()?;
    let mut old = streams(&hub, 1)?;
    hub.sigterm()?;
    wait_not_ready(&hub)?;
    hub.get("/healthz")?.expect_status(&[200])?;
    let mut new = hub.subscribe(&[("topic", TOPIC)])?;
    hub.publish(&[("topic", TOPIC), ("data", "as before")])?;
    old[0].expect_data("as before")?;
    new.expect_data("as before")?;
    hub.sigterm()?;
    old.push(new);
    expect_farewells(old)?;
    expect_success(&mut hub)
}

/// While the hub waits for what it has begun, a browser that comes is told to come again; a
/// listener that is closed, or that lets it wait and then resets it, would lose it for ever.
#[test]
fn until_the_very_end_browsers_are_told_to_come_again() -> Outcome<()> {
    let mut hub = builder(&[("--drain-window", "0")])?.start()?;
    let request = hub.publish_request(&[("topic", TOPIC), ("data", "late")])?;
    let bytes = request.to_bytes("hub");
    let (begin, rest) = bytes.split_at(bytes.len() - 3);
    let mut publisher = hub.connect()?;
    publisher.send(begin)?;
    let mut idle = hub.connect()?;
    idle.exchange(&hub.publish_request(&[("topic", TOPIC), ("data", "early")])?)?
        .expect_status(&[200])?;
    hub.sigterm()?;
    // That one has nothing to do: it is closed when the hub comes to its last requests.
    idle.read_to_close(PATIENCE)?;
    let subscribe = hub.subscribe_request(&[("topic", TOPIC)])?;
    let mut connection = hub.connect()?;
    connection.send_request(&subscribe.clone().header("Accept", "text/event-stream"))?;
    let mut browser = SseStream::answered(connection)?;
    if !browser.read_to_end(PATIENCE)?.is_empty() || browser.retry().is_none() {
        return Failure::mismatch("soft refusal", "a retry, the end", format!("{browser:?}"));
    }
    let program = exchange(hub.address(), &subscribe)?;
    program.expect_status(&[503])?;
    if !program.text().contains("shutting down") {
        return Failure::mismatch("reason", "shutting down", program.text());
    }
    // What it waits for is answered, and kept.
    publisher.send(rest)?;
    let answer = publisher.read_response()?;
    answer.expect_status(&[200])?;
    expect_success(&mut hub)?;
    if stored(&hub)?.last() == Some(&answer.text()) {
        return Ok(());
    }
    Failure::mismatch("log", answer.text(), "something else")
}

/// Peers that never read hold neither the window nor the end up.
#[test]
fn peers_that_never_read_do_not_hold_it_up() -> Outcome<()> {
    let mut hub = builder(&[("--drain-window", "1s"), ("--send-buffer", "4KiB")])?.start()?;
    let subscribe = hub.subscribe_request(&[("topic", TOPIC)])?;
    let mut deaf = Vec::new();
    for _ in 0..20 {
        deaf.push(unread_request(hub.address(), &subscribe)?);
    }
    hub.wait_metric("mercure_subscribers_connected", |open| open == 20)?;
    let mut ids = Vec::new();
    let data = "x".repeat(200_000);
    for _ in 0..40 {
        ids.push(hub.publish(&[("topic", TOPIC), ("data", &data)])?);
    }
    hub.wait_metric("gush_subscribers_behind", |behind| behind == 20)?;
    hub.sigterm()?;
    expect_success(&mut hub)?;
    drop(deaf);
    if stored(&hub)? == ids {
        return Ok(());
    }
    Failure::mismatch("log", "all that was answered", "something else")
}

/// Who is in the middle of a long replay goes on with the next hub, with nothing missed or doubled.
#[test]
fn a_replay_is_resumed_where_the_drain_ended_it() -> Outcome<()> {
    let mut hub = builder(&[("--drain-window", "0"), ("--send-buffer", "4KiB")])?.start()?;
    let data = "y".repeat(20_000);
    let mut ids = Vec::new();
    for _ in 0..300 {
        ids.push(hub.publish(&[("topic", TOPIC), ("data", &data)])?);
    }
    let mut readers = Vec::new();
    for _ in 0..5 {
        let mut reader = hub.resume(&[("topic", TOPIC)], "earliest")?;
        let first = reader.next_event()?.id.unwrap_or_default();
        readers.push((reader, vec![first]));
    }
    hub.sigterm()?;
    for (reader, got) in &mut readers {
        // To the end of what the kernel had, in whatever way that ends.
        while let Ok(event) = reader.next_event() {
            got.push(event.id.unwrap_or_default());
        }
    }
    expect_success(&mut hub)?;
    let hub = hub.builder().start()?;
    for (_, mut got) in readers {
        let last = got.last().cloned().unwrap_or_default();
        let mut reader = hub.resume(&[("topic", TOPIC)], &last)?;
        while got.len() < ids.len() {
            got.push(reader.next_event()?.id.unwrap_or_default());
        }
        if got != ids {
            return Failure::mismatch("events", "each once", format!("{} of them", got.len()));
        }
    }
    Ok(())
}

/// An order for balance is under way: the drain takes over, and each stream ends once.
#[test]
fn a_drain_in_the_middle_of_balancing_takes_over() -> Outcome<()> {
    let mut hub = builder(&[("--drain-window", "500ms")])?.start()?;
    let streams = streams(&hub, 40)?;
    let order = Request::new("POST", "/drain").body(r#"{"rate":20}"#);
    exchange(hub.admin()?, &order)?.expect_status(&[200])?;
    hub.wait_metric("gush_drain_left", |left| (1..40).contains(&left))?;
    hub.sigterm()?;
    expect_farewells(streams)?;
    expect_success(&mut hub)?;
    let ends = hub.stdout_to_end();
    let ended = |reason: &str| ends.matches(&format!("reason={reason}")).count();
    let (balanced, drained) = (ended("rebalance"), ended("drain"));
    if balanced > 0 && drained > 0 && balanced + drained == 40 {
        return Ok(());
    }
    Failure::mismatch(
        "ends",
        "40, of both kinds",
        format!("{balanced}, {drained}\n{ends}"),
    )
}

/// A publisher in the middle of the body of a batch: what it was told is kept, and one that
/// sends no further does not hold the end up.
#[test]
fn every_answered_line_of_a_batch_is_kept() -> Outcome<()> {
    let mut hub = builder(&[("--drain-window", "300ms")])?.start()?;
    let mut others = Vec::new();
    for _ in 0..10 {
        // Of another topic: these do not read until the end.
        others.push(hub.subscribe(&[("topic", "https://drain.example/quiet")])?);
    }
    hub.wait_metric("mercure_subscribers_connected", |open| open == 10)?;
    let mut stuck = batch(&hub)?;
    send_line(&mut stuck, "half of it, and no more")?;
    send_line(&mut stuck, "half of it, and no more")?;
    let mut busy = batch(&hub)?;
    hub.sigterm()?;
    let mut sent = 0;
    while sent < 100_000 && send_line(&mut busy, &format!("line {sent}")).is_ok() {
        sent += 1;
    }
    let answers = busy.read_to_close(PATIENCE).unwrap_or_default();
    expect_farewells(others)?;
    expect_success(&mut hub)?;
    let text = String::from_utf8_lossy(&answers).into_owned();
    // The last may be cut.
    let parts = text.split("\"id\":\"").skip(1);
    let answered: Vec<&str> = parts
        .filter_map(|part| Some(part.split_once("\"}")?.0))
        .collect();
    if answered.is_empty() {
        return Failure::mismatch("answers", "some", text);
    }
    let stored: HashSet<String> = stored(&hub)?.into_iter().collect();
    let lost = answered.iter().filter(|id| !stored.contains(**id)).count();
    if lost == 0 {
        return Ok(());
    }
    Failure::mismatch("lost", "none", format!("{lost} of {}", answered.len()))
}

fn batch(hub: &HubProcess) -> Outcome<Connection> {
    let connection = begin_batch(hub)?;
    connection
        .socket()
        .set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(connection)
}

fn send_line(connection: &mut Connection, data: &str) -> Outcome<()> {
    send_batch_line(connection, TOPIC, data)
}
