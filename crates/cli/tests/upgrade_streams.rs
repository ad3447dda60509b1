//! Streams of every kind over an upgrade: what they asked for, may read and are in the middle of
//! goes over with them. Those that cannot go end with their own `retry:` and resume.

use gush_testkit::{
    BATCH_END, Claims, Connection, Curl, Failure, HubBuilder, HubProcess, Outcome, PATIENCE,
    ProgramLink, Request, SseItem, SseStream, begin_batch, encode_form, eventually, exchange,
    peers, proxy_v2, send_batch_line, write_certificate,
};
use std::net::SocketAddr;

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://streams.example/1";

fn builder() -> Outcome<HubBuilder> {
    HubBuilder::new(env!("CARGO_BIN_EXE_gush"))
}

fn publish(hub: &HubProcess, data: &str) -> Outcome<String> {
    hub.publish(&[("topic", TOPIC), ("data", data)])
}

/// An upgrade, and the old process's orderly end.
fn upgrade(hub: &mut HubProcess) -> Outcome<()> {
    hub.upgrade()?;
    let code = hub.wait_exit(PATIENCE)?.code();
    if code == Some(0) {
        return Ok(());
    }
    Failure::mismatch("exit", "0", format!("{code:?}\n{}", hub.output()))
}

/// A token for these selectors, with more claims.
fn token(hub: &HubProcess, selectors: &[&str], claims: Claims) -> Outcome<String> {
    hub.subscriber_key().sign(&claims.subscribe(selectors))
}

fn subscribe_with(hub: &HubProcess, topics: &[&str], token: &str) -> Outcome<SseStream> {
    let query: Vec<_> = topics.iter().map(|topic| ("topic", *topic)).collect();
    let target = format!("{HUB}?{}", encode_form(&query));
    SseStream::open(hub.address(), &Request::get(&target).bearer(token))
}

/// What cannot go over is told when to come back, and ends as a stream ends: nothing is lost.
fn ends_and_resumes(scheme: &str, options: &[&str]) -> Outcome<()> {
    let mut builder = builder()?.disk();
    if scheme == "https" {
        let files = write_certificate(builder.directory(), "hub.example")?;
        builder = builder
            .option("--tls-cert", &files.certificate.display().to_string())
            .option("--tls-key", &files.key.display().to_string());
    }
    let mut hub = builder.start()?;
    let url = format!(
        "{scheme}://{}{HUB}?{}",
        hub.address(),
        encode_form(&[("topic", TOPIC)])
    );
    let token = hub.subscriber_token()?;
    let mut stream = Curl::subscribe(&url, &token, options)?;
    let before = hub.publish_on_admin(&[("topic", TOPIC), ("data", "before")])?;
    stream.expect_data("before")?;
    let told = |stream: &Curl| -> Outcome<()> {
        loop {
            match stream.next_item()? {
                SseItem::Retry(_) => return Ok(()),
                SseItem::Event(event) => return Failure::mismatch("item", "retry", event.data),
                _ => {}
            }
        }
    };
    hub.upgrade()?;
    told(&stream)?;
    if stream.wait()? != Some(0) {
        return Err(Failure::new("the stream was cut instead of ended"));
    }
    hub.publish_on_admin(&[("topic", TOPIC), ("data", "between")])?;
    let resume = format!("Last-Event-ID: {before}");
    let options = [options, &["--header", &resume]].concat();
    let resumed = Curl::subscribe(&url, &token, &options)?;
    resumed.expect_data("between")?;
    hub.publish_on_admin(&[("topic", TOPIC), ("data", "after")])?;
    resumed.expect_data("after")
}

#[test]
fn a_stream_under_tls_1_2_ends_and_resumes() -> Outcome<()> {
    ends_and_resumes("https", &["--insecure", "--http1.1", "--tls-max", "1.2"])
}

#[test]
fn a_stream_of_http2_under_tls_ends_and_resumes() -> Outcome<()> {
    ends_and_resumes("https", &["--insecure", "--http2"])
}

#[test]
fn a_stream_of_http2_without_tls_ends_and_resumes() -> Outcome<()> {
    ends_and_resumes("http", &["--http2-prior-knowledge"])
}

/// A reader in the middle of a replay from the disk gets the rest of it once, and then what is new.
#[test]
fn a_replay_from_the_disk_goes_on() -> Outcome<()> {
    const EVENTS: usize = 3000;
    let mut hub = builder()?
        .disk()
        .option("--window-events", "16")
        .option("--segment-bytes", "1MiB")
        .start()?;
    let mut publisher = hub.connect()?;
    let filler = "x".repeat(2000);
    for n in 0..EVENTS {
        let data = format!("{n} {filler}");
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &data)])?;
        publisher.exchange(&request)?.expect_status(&[200])?;
    }
    let request = hub
        .subscribe_request(&[("topic", TOPIC)])?
        .header("Last-Event-ID", "earliest");
    let mut streams = Vec::new();
    for _ in 0..4 {
        let unread = peers::unread_request(hub.address(), &request)?;
        let mut stream = SseStream::answered(unread)?;
        stream.expect_data(&format!("0 {filler}"))?;
        streams.push(stream);
    }
    hub.wait_metric("gush_subscribers_behind", |behind| behind == 4)?;
    upgrade(&mut hub)?;
    publish(&hub, "new")?;
    for stream in &mut streams {
        for n in 1..EVENTS {
            stream.expect_data(&format!("{n} {filler}"))?;
        }
        stream.expect_data("new")?;
    }
    Ok(())
}

/// A reader that lags on a topic of which the newest counts gets that, of before the upgrade and of
/// after it, and never an older one behind a newer one.
#[test]
fn a_conflated_reader_gets_the_newest_of_each_key() -> Outcome<()> {
    const EVENTS: usize = 400;
    let mut hub = builder()?
        .disk()
        .option("--conflate-topic", TOPIC)
        .option("--send-buffer", "16KiB")
        .option("--write-timeout", "5m")
        .start()?;
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    let mut stuck = SseStream::answered(peers::unread_request(hub.address(), &request)?)?;
    let filler = "x".repeat(4000);
    for n in 0..EVENTS {
        if n == EVENTS / 2 {
            hub.wait_metric("gush_subscribers_behind", |behind| behind == 1)?;
            upgrade(&mut hub)?;
        }
        publish(&hub, &format!("{n} {filler}"))?;
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&(EVENTS - 1)) {
        let data = stuck.next_event()?.data;
        let n = data.split_once(' ').and_then(|(n, _)| n.parse().ok());
        seen.push(n.ok_or_else(|| Failure::new(data))?);
    }
    assert!(seen.is_sorted_by(|one, next| one < next), "{seen:?}");
    assert!(seen.len() < EVENTS / 2, "{seen:?}");
    // By the new process.
    eventually("events passed over", PATIENCE, || {
        let passed = hub.metric_sum("gush_conflated_events_total")?;
        Ok((passed > 0).then_some(()))
    })
}

/// The end of a token ends its stream in the new process as it would have in the old one.
#[test]
fn a_token_still_ends_its_stream() -> Outcome<()> {
    let mut hub = builder()?.start()?;
    // Longer than the upgrade and an event take on a busy machine.
    let token = token(&hub, &["*"], Claims::new().expires_in(8))?;
    let mut stream = subscribe_with(&hub, &[TOPIC], &token)?;
    let mut other = hub.subscribe(&[("topic", TOPIC)])?;
    upgrade(&mut hub)?;
    publish(&hub, "after")?;
    stream.expect_data("after")?;
    stream.read_to_end(PATIENCE)?;
    let closed = hub.metric("gush_streams_closed_total{reason=\"token_expired\"}")?;
    assert_eq!(closed, Some(1));
    publish(&hub, "later")?;
    other.expect_all(&["after", "later"])
}

#[test]
fn heartbeats_go_on() -> Outcome<()> {
    let mut hub = builder()?.option("--heartbeat", "1s").start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    upgrade(&mut hub)?;
    let before = stream.comments();
    while stream.comments() < before + 2 {
        let deadline = gush_testkit::Deadline::after(PATIENCE);
        if stream.next_item(deadline)?.is_none() {
            return Err(Failure::new("the stream ended"));
        }
    }
    Ok(())
}

/// What a subscriber may not read stays hidden from it, and what it may read comes.
#[test]
fn private_events_stay_private() -> Outcome<()> {
    const MINE: &str = "https://streams.example/mine";
    const THEIRS: &str = "https://streams.example/theirs";
    let mut hub = builder()?.disk().start()?;
    let token = token(&hub, &[MINE], Claims::new())?;
    let mut stream = subscribe_with(&hub, &[MINE, THEIRS], &token)?;
    upgrade(&mut hub)?;
    for (topic, data) in [(THEIRS, "hidden"), (MINE, "shown")] {
        hub.publish(&[("topic", topic), ("data", data), ("private", "on")])?;
    }
    hub.publish(&[("topic", THEIRS), ("data", "public")])?;
    stream.expect_all(&["shown", "public"])
}

/// A subscriber that leaves after an upgrade is told of once, under the name it came with.
#[test]
fn who_leaves_after_an_upgrade_is_told_of_once() -> Outcome<()> {
    let mut hub = builder()?.subscriptions().disk().start()?;
    let mut watching = hub.subscribe(&[("topic", "/.well-known/mercure/subscriptions/{t}/{s}")])?;
    watching.next_event()?;
    let stream = hub.subscribe(&[("topic", TOPIC)])?;
    let came = watching.next_event()?.data;
    assert!(came.contains("\"active\": true"), "{came}");
    upgrade(&mut hub)?;
    hub.wait_metric("gush_streams_taken_over_total", |taken| taken == 2)?;
    drop(stream);
    // A stream is found to be gone when it is written to, or by its socket.
    let left = watching.next_event()?.data;
    assert_eq!(left, came.replace("\"active\": true", "\"active\": false"));
    let _next = hub.subscribe(&[("topic", TOPIC)])?;
    let next = watching.next_event()?.data;
    assert!(next.contains("\"active\": true"), "{next}");
    Ok(())
}

/// A batch that is being sent is answered line for line; what comes late is relayed.
#[test]
fn a_batch_under_way_is_answered() -> Outcome<()> {
    let mut hub = builder()?.disk().option("--drain-window", "20s").start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut batch = begin_batch(&hub)?;
    send_batch_line(&mut batch, TOPIC, "0")?;
    stream.expect_data("0")?;
    hub.upgrade()?;
    publish(&hub, "between")?;
    stream.expect_data("between")?;
    for n in 1..100 {
        send_batch_line(&mut batch, TOPIC, &n.to_string())?;
    }
    batch.send(BATCH_END)?;
    let answer = batch.read_response()?.text();
    assert_eq!(answer.lines().count(), 100, "{answer}");
    assert!(
        answer.lines().all(|line| line.starts_with("{\"id\"")),
        "{answer}"
    );
    for n in 1..100 {
        stream.expect_data(&n.to_string())?;
    }
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    Ok(())
}

/// Whom a proxy named is who counts in the new process too, for a stream and for a connection that
/// is kept; its address has no more there than it had.
#[test]
fn whom_a_proxy_names_counts_as_before() -> Outcome<()> {
    let mut hub = builder()?
        .flag("--proxy-protocol")
        .option("--trusted-proxy", "127.0.0.1")
        .option("--max-connections-per-address", "2")
        .start()?;
    let client = |text: &str| -> Outcome<Vec<u8>> {
        let address: SocketAddr = text.parse().map_err(|_| Failure::new(text))?;
        Ok(proxy_v2(address))
    };
    let begun = |hub: &HubProcess, header: &[u8]| -> Outcome<Connection> {
        let mut connection = hub.connect()?;
        connection.send(header)?;
        Ok(connection)
    };
    let subscribe = hub.subscribe_request(&[("topic", TOPIC)])?;
    let publish = hub.publish_request(&[("topic", TOPIC), ("data", "x")])?;
    let one = client("203.0.113.7:1")?;
    let mut connection = begun(&hub, &one)?;
    connection.send_request(&subscribe)?;
    let mut stream = SseStream::answered(connection)?;
    let mut kept = begun(&hub, &one)?;
    kept.exchange(&publish)?.expect_status(&[200])?;
    upgrade(&mut hub)?;
    // No second header: it goes on where it was.
    kept.exchange(&publish)?.expect_status(&[200])?;
    begun(&hub, &one)?
        .exchange(&publish)?
        .expect_status(&[429])?;
    begun(&hub, &client("203.0.113.8:1")?)?
        .exchange(&publish)?
        .expect_status(&[200])?;
    stream.expect_all(&["x", "x", "x"])?;
    drop(kept);
    eventually("room for another", PATIENCE, || {
        let answer = begun(&hub, &one)?.exchange(&publish)?;
        Ok((answer.status() == 200).then_some(()))
    })
}

/// What is open stays open where the new configuration allows less: nobody else comes in until
/// enough have left.
#[test]
fn streams_go_over_to_a_lower_limit() -> Outcome<()> {
    let real = env!("CARGO_BIN_EXE_gush");
    let link = ProgramLink::to(real)?;
    let mut hub = HubBuilder::new(link.path())?.start()?;
    let mut streams = Vec::new();
    for _ in 0..4 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    link.replace(&format!("exec {real} \"$@\" --max-connections 2"))?;
    upgrade(&mut hub)?;
    hub.wait_metric("gush_streams_taken_over_total", |taken| taken == 4)?;
    // The admin listener has places of its own.
    let request = hub.publish_request(&[("topic", TOPIC), ("data", "all")])?;
    exchange(hub.address(), &request)?.expect_status(&[503])?;
    exchange(hub.admin()?, &request)?.expect_status(&[200])?;
    for stream in &mut streams {
        stream.expect_data("all")?;
    }
    Ok(())
}
