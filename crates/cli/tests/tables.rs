//! Shards with descriptor tables of their own: more streams than one table holds.

use std::io::Read as _;
use std::process::{Command, Stdio};

use gush_testkit::{
    Connection, Deadline, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseItem, SseParser,
    SseStream, eventually, peers, write_certificate,
};

const TOPIC: &str = "https://tables.example/1";

/// Descriptors of one table, far fewer than the streams below.
const TABLE: u32 = 300;
const STREAMS: usize = 700;

fn start(options: &[(&str, &str)]) -> Outcome<Option<HubProcess>> {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    for (name, value) in options {
        builder = builder.option(name, value);
    }
    // Without prlimit(1) there is no small table to test with.
    let Some(builder) = builder.with_descriptors(TABLE) else {
        return Ok(None);
    };
    builder.start().map(Some)
}

#[test]
fn a_hub_holds_more_streams_than_one_table() -> Outcome<()> {
    let Some(hub) = start(&[("--max-connections", "1000")])? else {
        return Ok(());
    };
    hub.wait_stderr(&["each shard has a descriptor table of its own"])?;
    let mut streams = (0..STREAMS)
        .map(|_| hub.subscribe(&[("topic", TOPIC)]))
        .collect::<Outcome<Vec<SseStream>>>()?;
    for data in ["0", "1"] {
        hub.publish(&[("topic", TOPIC), ("data", data)])?;
    }
    for stream in &mut streams {
        stream.expect_all(&["0", "1"])?;
    }
    assert_eq!(
        hub.metric("gush_subscribers_open{sink=\"tcp\"}")?,
        Some(STREAMS as u64)
    );
    drop(streams);
    hub.wait_metric("gush_subscribers_open{sink=\"tcp\"}", |open| open == 0)?;
    // The places are free again.
    let again = (0..STREAMS).map(|_| hub.subscribe(&[("topic", TOPIC)]));
    again.collect::<Outcome<Vec<SseStream>>>()?;
    Ok(())
}

#[test]
fn a_shared_table_is_the_limit_without() -> Outcome<()> {
    let options = [
        ("--max-connections", "1000"),
        ("--descriptor-tables", "shared"),
    ];
    let Some(hub) = start(&options)? else {
        return Ok(());
    };
    hub.wait_stderr(&["--max-connections is more than the descriptor limit allows"])?;
    Ok(())
}

#[test]
fn a_resumed_stream_and_a_drain_work_from_an_own_table() -> Outcome<()> {
    let options = [
        ("--descriptor-tables", "own"),
        ("--shards", "3"),
        ("--drain-window", "1s"),
    ];
    let Some(mut hub) = start(&options)? else {
        return Ok(());
    };
    hub.publish(&[("topic", TOPIC), ("data", "0")])?;
    let mut streams = (0..6)
        .map(|_| hub.resume(&[("topic", TOPIC)], "earliest"))
        .collect::<Outcome<Vec<SseStream>>>()?;
    hub.publish(&[("topic", TOPIC), ("data", "1")])?;
    for stream in &mut streams {
        stream.expect_all(&["0", "1"])?;
    }
    hub.sigterm()?;
    for stream in &mut streams {
        stream.read_to_end(PATIENCE)?;
    }
    let status = hub.wait_exit(PATIENCE)?;
    assert!(status.success(), "{}", hub.output());
    Ok(())
}

/// Streams that go to another process together are in its first table for a moment, and those that
/// are on their way count against the limit of their user: both lost hundreds of them.
#[test]
fn an_upgrade_hands_more_streams_over_than_one_table_holds() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let Some(builder) = builder.with_descriptors(TABLE) else {
        return Ok(());
    };
    let mut hub = builder
        .without_privileges()
        .option("--descriptor-tables", "own")
        .option("--shards", "4")
        .start()?;
    let mut streams = (0..STREAMS)
        .map(|_| hub.subscribe(&[("topic", TOPIC)]))
        .collect::<Outcome<Vec<SseStream>>>()?;
    for _ in 0..3 {
        hub.upgrade()?;
        let all = STREAMS as u64;
        hub.wait_metric("gush_streams_taken_over_total", |taken| taken == all)?;
    }
    hub.publish(&[("topic", TOPIC), ("data", "0")])?;
    for stream in &mut streams {
        stream.expect_all(&["0"])?;
    }
    Ok(())
}

/// It was answered, and ended as if the hub drained.
#[test]
fn a_subscribe_that_finds_every_place_taken_is_refused_before_its_head() -> Outcome<()> {
    every_place_is_taken()
}

/// They take the room of streams: those that found none were answered, and ended.
#[test]
fn descriptors_from_whoever_started_the_hub_are_no_places_for_streams() -> Outcome<()> {
    let _inherited = peers::inherited_by_children(100)?;
    every_place_is_taken()
}

fn every_place_is_taken() -> Outcome<()> {
    let options = [("--descriptor-tables", "own"), ("--shards", "1")];
    let Some(hub) = start(&options)? else {
        return Ok(());
    };
    // At the limit of connections the rest is refused.
    let mut streams = Vec::new();
    let refused = loop {
        let mut connection = hub.connect()?;
        connection.send_request(&hub.subscribe_request(&[("topic", TOPIC)])?)?;
        let head = connection.read_head(Deadline::after(PATIENCE))?;
        if head.status != 200 {
            break connection;
        }
        streams.push(connection);
        assert!(streams.len() < STREAMS, "{}", hub.output());
    };
    drop(refused);
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    let answer = Connection::open(hub.admin()?)?.exchange(&request)?;
    answer.expect_status(&[503])?;
    assert_eq!(answer.problem()?, "the hub has no connection to spare");
    assert!(answer.header("Retry-After").is_some());
    // Somebody without a token learns nothing else than usual.
    let target = format!("/.well-known/mercure?topic={TOPIC}");
    let stranger = Request::get(&target);
    let answer = Connection::open(hub.admin()?)?.exchange(&stranger)?;
    answer.expect_status(&[401])?;
    streams.pop();
    let left = streams.len() as u64;
    hub.wait_metric("gush_subscribers_open{sink=\"tcp\"}", |open| open == left)?;
    SseStream::open(hub.admin()?, &request)?;
    Ok(())
}

/// A TLS session goes over with its socket, in the middle of what it has sent.
#[test]
fn streams_under_tls_work_from_an_own_table() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let files = write_certificate(builder.directory(), "hub.example")?;
    let mut hub = builder
        .option("--descriptor-tables", "own")
        .option("--shards", "2")
        .option("--drain-window", "1s")
        .option("--tls-cert", &files.certificate.display().to_string())
        .option("--tls-key", &files.key.display().to_string())
        .start()?;
    hub.publish_on_admin(&[("topic", TOPIC), ("data", "stored")])?;
    let big = "0123456789abcdef".repeat(20_000);
    let mut readers = Vec::new();
    for (number, version) in ["--http1.1", "--http2"].repeat(4).into_iter().enumerate() {
        let url = format!(
            "https://{}/.well-known/mercure?topic={TOPIC}",
            hub.address()
        );
        let token = format!("Authorization: Bearer {}", hub.subscriber_token()?);
        let mut child = Command::new("curl")
            .args(["--silent", "--insecure", "--no-buffer", "--max-time", "60"])
            .args([version, "--header", &token])
            .args(["--header", "Last-Event-ID: earliest", &url])
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = child.stdout.take().ok_or("curl was started with a pipe")?;
        readers.push(std::thread::spawn(move || -> Outcome<Vec<String>> {
            let mut bytes = Vec::new();
            output.read_to_end(&mut bytes)?;
            let mut items = Vec::new();
            SseParser::default().feed(&bytes, &mut items);
            let code = child.wait()?.code();
            assert_eq!(code, Some(0), "reader {number}");
            let events = items.into_iter().filter_map(|item| match item {
                SseItem::Event(event) => Some(event.data),
                _ => None,
            });
            Ok(events.collect())
        }));
    }
    for (sink, count) in [("tls", 4), ("h2", 4)] {
        let series = format!("gush_subscribers_open{{sink=\"{sink}\"}}");
        hub.wait_metric(&series, |open| open == count)?;
    }
    hub.publish_on_admin(&[("topic", TOPIC), ("data", &big)])?;
    hub.publish_on_admin(&[("topic", TOPIC), ("data", "last")])?;
    // Each has had the last event once it is counted.
    eventually("24 deliveries", PATIENCE, || {
        Ok((hub.metric_sum("gush_deliveries_total")? == 3 * 8).then_some(()))
    })?;
    hub.sigterm()?;
    for reader in readers {
        let events = reader.join().expect("no panic")?;
        assert_eq!(events, ["stored", &big, "last"]);
    }
    let status = hub.wait_exit(PATIENCE)?;
    assert!(status.success(), "{}", hub.output());
    Ok(())
}
