//! The stream log: a record when a stream begins and one when it ends, and what happens where
//! nobody takes them.

use gush_testkit::{
    Claims, Curl, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseStream,
    encode_component, eventually, peers, write_certificate,
};
use serde_json::{Value, json};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

const TOPIC: &str = "https://stream-log.example/1";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A hub whose records are JSON in a file of its directory.
fn builder() -> Outcome<(HubBuilder, PathBuf)> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let path = builder.directory().join("streams.log");
    let builder = builder
        .option("--stream-log", &path.display().to_string())
        .option("--stream-log-format", "json");
    Ok((builder, path))
}

/// The records in a file, once `enough` holds for them.
fn records(path: &Path, enough: impl Fn(&[Value]) -> bool) -> Outcome<Vec<Value>> {
    eventually("the records", PATIENCE, || {
        let text = std::fs::read_to_string(path)?;
        // A line that is being written has no end yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parsed = whole.lines().map(serde_json::from_str);
        let found: Result<Vec<Value>, _> = parsed.collect();
        let found = found.map_err(|error| Failure::new(format!("{error} in {text}")))?;
        Ok(enough(&found).then_some(found))
    })
}

fn closed(path: &Path, count: usize) -> Outcome<Vec<Value>> {
    let is_closed = |record: &&Value| record["record"] == "stream closed";
    let all = records(path, |all| all.iter().filter(is_closed).count() >= count)?;
    Ok(all
        .into_iter()
        .filter(|record| is_closed(&record))
        .collect())
}

fn expect(record: &Value, name: &str, wanted: &Value) -> Outcome<()> {
    if &record[name] == wanted {
        return Ok(());
    }
    Failure::mismatch(name, wanted, record)
}

#[test]
fn a_stream_is_recorded_at_its_begin_and_at_its_end() -> Outcome<()> {
    let (builder, path) = builder()?;
    let hub = builder.start()?;
    let token = hub.subscriber_key().sign(
        &Claims::new()
            .subscribe(&["*"])
            .claim("sub", json!("user\u{1b}[2J 7"))
            .expires_in(600),
    )?;
    let query = format!(
        "/.well-known/mercure?topic={}&topic=b%2F%7Bid%7D&authorization={token}",
        encode_component(TOPIC)
    );
    let request =
        Request::get(&query).header("traceparent", &format!("00-{TRACE_ID}-00f067aa0ba902b7-01"));
    let mut stream = SseStream::open(hub.address(), &request)?;
    // An event that comes before its shard has looked at it finds it behind by one.
    hub.wait_metric("gush_streams_opened_total", |streams| streams == 1)?;
    hub.wait_metric("gush_subscribers_behind", |behind| behind == 0)?;
    for n in 0..5 {
        hub.publish(&[("topic", TOPIC), ("data", &n.to_string())])?;
        stream.expect_data(&n.to_string())?;
    }
    let begun = records(&path, |all| all.len() == 1)?.remove(0);
    drop(stream);
    let ended = closed(&path, 1)?.remove(0);
    for record in [&begun, &ended] {
        expect(record, "peer", &json!("127.0.0.1"))?;
        expect(record, "subject", &json!("user\u{1b}[2J 7"))?;
        expect(record, "topics", &json!([TOPIC, "b/{id}"]))?;
        expect(record, "trace_id", &json!(TRACE_ID))?;
    }
    expect(&begun, "record", &json!("stream opened"))?;
    expect(&begun, "reason", &Value::Null)?;
    expect(&ended, "events", &json!(5))?;
    expect(&ended, "greatest_lag", &json!(0))?;
    expect(&ended, "reason", &json!("peer_left"))?;
    let bytes = hub.metric_sum("gush_delivered_bytes_total")?;
    expect(&ended, "bytes", &json!(bytes))?;
    if !ended["duration_ms"].is_u64() {
        return Failure::mismatch("duration_ms", "a number", &ended);
    }
    let text = std::fs::read_to_string(&path)?;
    if text.contains(&token) || text.contains('\u{1b}') {
        return Failure::mismatch("the log", "no token, no control character", text);
    }
    Ok(())
}

#[test]
fn each_end_has_its_reason_in_the_record() -> Outcome<()> {
    let (builder, path) = builder()?;
    let mut hub = builder
        .option("--write-timeout", "1s")
        .option("--drain-window", "0")
        .start()?;
    // Its token ends first of all. Times are whole seconds: an expiry a second away may be over
    // by the time the hub looks.
    let token = hub
        .subscriber_key()
        .sign(&Claims::new().subscribe(&["*"]).expires_in(3))?;
    let target = format!("/.well-known/mercure?topic={}", encode_component(TOPIC));
    let request = Request::get(&target).bearer(&token);
    SseStream::open(hub.address(), &request)?.read_to_end(PATIENCE)?;
    let ended = closed(&path, 1)?.remove(0);
    expect(&ended, "reason", &json!("token_expired"))?;
    // Sends what no subscriber has to send.
    let mut noisy = hub.subscribe(&[("topic", TOPIC)])?;
    // Fails once the hub has had enough.
    let _ = noisy.connection().send(&vec![b'x'; 1 << 20]);
    expect(&closed(&path, 2)?[1], "reason", &json!("protocol_error"))?;
    // Never reads; what it is behind by is in its record.
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    let stuck = peers::unread_request(hub.address(), &request)?;
    hub.wait_metric("gush_streams_opened_total", |streams| streams == 3)?;
    let data = "x".repeat(8 * 1024);
    for _ in 0..100 {
        hub.publish(&[("topic", TOPIC), ("data", &data)])?;
    }
    let ended = closed(&path, 3)?.remove(2);
    expect(&ended, "reason", &json!("write_timeout"))?;
    let (lag, events) = (ended["greatest_lag"].as_u64(), ended["events"].as_u64());
    // The frame it stopped in counts as one that it has not had.
    if lag
        .zip(events)
        .is_none_or(|(lag, events)| lag + events != 100 || events == 0)
    {
        return Failure::mismatch("greatest_lag", "what it has not had", &ended);
    }
    drop(stuck);
    let _last = hub.subscribe(&[("topic", TOPIC)])?;
    hub.wait_metric("gush_subscribers_open{sink=\"tcp\"}", |open| open == 1)?;
    hub.sigterm()?;
    hub.wait_exit(PATIENCE)?;
    expect(&closed(&path, 4)?[3], "reason", &json!("drain"))
}

#[test]
fn streams_of_tls_and_http2_are_recorded_as_well() -> Outcome<()> {
    let (builder, path) = builder()?;
    let files = write_certificate(builder.directory(), "hub.example")?;
    let hub = builder
        .option("--tls-cert", &files.certificate.display().to_string())
        .option("--tls-key", &files.key.display().to_string())
        .start()?;
    let url = format!(
        "https://{}/.well-known/mercure?topic={}",
        hub.address(),
        encode_component(TOPIC)
    );
    for (number, version) in ["--http1.1", "--http2"].into_iter().enumerate() {
        let curl = Curl::subscribe(&url, &hub.subscriber_token()?, &["--insecure", version])?;
        hub.wait_metric("gush_streams_opened_total", |streams| {
            streams == number as u64 + 1
        })?;
        let request = hub.publish_request(&[("topic", TOPIC), ("data", "one")])?;
        gush_testkit::exchange(hub.admin()?, &request)?.expect_status(&[200])?;
        curl.expect_data("one")?;
        drop(curl);
        let ended = closed(&path, number + 1)?.remove(number);
        expect(&ended, "topics", &json!([TOPIC]))?;
        expect(&ended, "events", &json!(1))?;
        expect(&ended, "reason", &json!("peer_left"))?;
    }
    Ok(())
}

/// By default records stand on stdout, as text, apart from the hub's own lines.
#[test]
fn records_go_to_stdout_unless_told_otherwise() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    drop(hub.subscribe(&[("topic", TOPIC)])?);
    let has = |text: &str, word: &str| {
        let mut lines = text.lines();
        let peer = "peer=127.0.0.1";
        lines.any(|line| line.contains(&format!("record=\"{word}\"")) && line.contains(peer))
    };
    eventually("both records", PATIENCE, || {
        let text = hub.stdout();
        Ok((has(&text, "stream opened") && has(&text, "stream closed")).then_some(()))
    })?;
    if hub.stderr().contains("stream opened") {
        return Failure::mismatch("stderr", "no record", hub.output());
    }
    let off = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let mut off = off.option("--stream-log", "off").start()?;
    drop(off.subscribe(&[("topic", TOPIC)])?);
    off.wait_metric("gush_streams_closed_total{reason=\"peer_left\"}", |count| {
        count == 1
    })?;
    off.sigterm()?;
    off.wait_exit(PATIENCE)?;
    if off.stdout().contains("record=") {
        return Failure::mismatch("stdout", "no record", off.output());
    }
    Ok(())
}

/// A pipe that nobody reads takes 64 KiB, and then nothing more.
#[test]
fn a_sink_that_is_stuck_costs_records_and_delays_no_stream() -> Outcome<()> {
    let (builder, path) = builder()?;
    make_pipe(&path)?;
    let mut hub = builder.option("--drain-window", "0").start()?;
    let mut stays = hub.subscribe(&[("topic", TOPIC)])?;
    // Its reader comes, now that there is a writer, and reads nothing.
    let pipe = std::fs::File::open(&path)?;
    let topic = "t".repeat(4000);
    let dropped = |hub: &HubProcess| hub.metric_sum("gush_stream_log_dropped_total");
    let mut comes_and_goes = 0;
    while dropped(&hub)? == 0 {
        comes_and_goes += 1;
        if comes_and_goes > 100_000 {
            return Failure::mismatch("dropped records", "some", 0);
        }
        drop(hub.subscribe(&[("topic", &topic)])?);
    }
    // Streams begin, deliver and end as if nothing were.
    for n in 0..20 {
        let mut new = hub.subscribe(&[("topic", TOPIC)])?;
        hub.publish(&[("topic", TOPIC), ("data", &n.to_string())])?;
        stays.expect_data(&n.to_string())?;
        new.expect_data(&n.to_string())?;
    }
    hub.sigterm()?;
    hub.wait_exit(PATIENCE)?;
    drop(pipe);
    Ok(())
}

#[test]
fn a_pipe_without_a_reader_keeps_the_hub_from_nothing() -> Outcome<()> {
    let (builder, path) = builder()?;
    make_pipe(&path)?;
    let mut hub = builder.option("--drain-window", "0").start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    hub.publish(&[("topic", TOPIC), ("data", "one")])?;
    stream.expect_data("one")?;
    // The reader that comes late finds what was written meanwhile.
    let mut pipe = std::fs::File::open(&path)?;
    let mut first = [0; 64];
    let count = pipe.read(&mut first)?;
    if !first[..count].starts_with(b"{") {
        return Failure::mismatch("the pipe", "a record", String::from_utf8_lossy(&first));
    }
    hub.sigterm()?;
    hub.wait_exit(PATIENCE)?;
    Ok(())
}

#[test]
fn sighup_begins_the_file_anew() -> Outcome<()> {
    let (builder, path) = builder()?;
    let hub = builder.start()?;
    let old = path.with_extension("1");
    let first = hub.subscribe(&[("topic", TOPIC)])?;
    records(&path, |all| all.len() == 1)?;
    std::fs::rename(&path, &old)?;
    hub.signal("HUP")?;
    // It is there though nothing was written.
    eventually("a new file", PATIENCE, || Ok(path.exists().then_some(())))?;
    drop(first);
    let ended = closed(&path, 1)?;
    expect(&ended[0], "reason", &json!("peer_left"))?;
    let kept = records(&old, |all| !all.is_empty())?;
    if kept.len() != 1 {
        return Failure::mismatch("the old file", "the first record alone", kept.len());
    }
    Ok(())
}

#[test]
fn a_file_that_cannot_be_written_is_named_at_the_start() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let builder = builder.option("--stream-log", "missing/streams.log");
    let (code, _, stderr) = builder.start_to_exit()?;
    if code == Some(0) || !stderr.contains("--stream-log missing/streams.log") {
        return Failure::mismatch("the start", "a refusal that names the option", stderr);
    }
    Ok(())
}

fn make_pipe(path: &Path) -> Outcome<()> {
    let made = Command::new("mkfifo").arg(path).status()?;
    if made.success() {
        return Ok(());
    }
    Err(Failure::new("mkfifo failed"))
}
