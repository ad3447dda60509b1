//! One test per defect that was once found in the running hub, named after it.

use std::io::Write;
use std::time::{Duration, Instant};

use gush_testkit::{Deadline, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseStream};

const TOPIC: &str = "https://regression.example/1";
const OPEN: &str = "gush_streams_closed_total{reason=\"peer_left\"}";

fn builder() -> Outcome<HubBuilder> {
    HubBuilder::new(env!("CARGO_BIN_EXE_gush"))
}

fn start() -> Outcome<HubProcess> {
    builder()?.option("--heartbeat", "off").start()
}

/// A subscribe that offers an upgrade (Java's client does so on each first request) streamed
/// inside hyper, which did not look at the peer's end until a write failed.
#[test]
fn a_peer_that_offered_an_upgrade_is_noticed_leaving() -> Outcome<()> {
    let hub = start()?;
    let request = hub
        .subscribe_request(&[("topic", TOPIC)])?
        .header("Connection", "Upgrade, HTTP2-Settings")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "AAMAAABkAAQAAP__");
    let mut connection = hub.connect()?;
    connection.send_request(&request)?;
    drop(SseStream::answered(connection)?);
    hub.wait_metric(OPEN, |closed| closed == 1)?;
    Ok(())
}

/// The same for a subscribe that came in one packet behind a publish.
#[test]
fn a_peer_whose_subscribe_was_pipelined_is_noticed_leaving() -> Outcome<()> {
    let hub = start()?;
    let publish = hub.publish_request(&[("topic", TOPIC), ("data", "0")])?;
    let mut bytes = publish.to_bytes("hub.example");
    bytes.extend(
        hub.subscribe_request(&[("topic", TOPIC)])?
            .to_bytes("hub.example"),
    );
    let mut connection = hub.connect()?;
    connection.send(&bytes)?;
    connection.read_response()?.expect_status(&[200])?;
    drop(SseStream::answered(connection)?);
    hub.wait_metric(OPEN, |closed| closed == 1)?;
    Ok(())
}

/// A drain told `retry: 1` where `retry` is off: each refused browser came back every millisecond.
#[test]
fn a_drain_never_tells_a_delay_of_nothing() -> Outcome<()> {
    let hub = builder()?
        .option("--retry", "off")
        .option("--drain-window", "60s")
        .start()?;
    // Keeps the drain from being over at once.
    let _stream = hub.subscribe(&[("topic", TOPIC)])?;
    hub.sigterm()?;
    hub.wait_stderr(&["draining"])?;
    let request = hub
        .subscribe_request(&[("topic", TOPIC)])?
        .header("Accept", "text/event-stream");
    let answer = hub.connect()?.exchange(&request)?;
    answer.expect_status(&[200])?;
    let text = answer.text();
    let delay: u64 = text
        .strip_prefix("retry: ")
        .and_then(|rest| rest.trim().parse().ok())
        .unwrap_or(0);
    assert!((1000..=3000).contains(&delay), "{text:?}");
    Ok(())
}

/// A refusal closed the connection on the rest of the body: a peer that sends all before it reads
/// got a reset instead of the reason.
#[test]
fn a_refused_large_body_still_gets_its_answer() -> Outcome<()> {
    let hub = start()?;
    let body = vec![b'x'; 5 * 1024 * 1024];
    let request = Request::form("/.well-known/mercure", &[])
        .bearer(&"bad.token".repeat(10))
        .body(body);
    let mut connection = hub.connect()?;
    connection.send_request(&request)?;
    connection.read_response()?.expect_status(&[401])
}

/// The rest of such a body is never taken for a request, whatever it says.
#[test]
fn an_unread_body_never_becomes_a_subscribe() -> Outcome<()> {
    let hub = start()?;
    let inner = hub
        .subscribe_request(&[("topic", TOPIC)])?
        .to_bytes("hub.example");
    let head = format!(
        "POST /.well-known/mercure HTTP/1.1\r\nHost: hub.example\r\nContent-Length: {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        inner.len()
    );
    let mut connection = hub.connect()?;
    connection.send(head.as_bytes())?;
    connection.read_response()?.expect_status(&[401])?;
    // The connection may be closed already; then there is nothing to misread.
    let _ = connection.socket().write_all(&inner);
    let _ = connection.finish_sending();
    let rest = connection
        .read_to_close(Duration::from_secs(20))
        .unwrap_or_default();
    let rest = String::from_utf8_lossy(&rest);
    assert!(!rest.contains("text/event-stream"), "{rest}");
    assert_eq!(hub.metric_sum("gush_streams_opened_total")?, 0);
    Ok(())
}

/// An HTTP/2 preface cut after its first byte was dropped.
#[test]
fn an_http2_preface_may_come_in_pieces() -> Outcome<()> {
    let hub = start()?;
    let connection = hub.connect()?;
    connection
        .socket()
        .set_nodelay(true)
        .expect("a socket option");
    let mut socket = connection.socket();
    for piece in [
        b"P".as_slice(),
        b"R",
        b"I * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0, 0, 0, 4, 0, 0, 0, 0, 0],
    ] {
        socket.write_all(piece).expect("sent");
    }
    let mut answer = [0; 9];
    std::io::Read::read_exact(&mut socket, &mut answer).expect("the hub's settings");
    assert_eq!(answer[3], 4, "a SETTINGS frame: {answer:?}");
    Ok(())
}

/// A publisher gave its event the id of a place far ahead: readers that resumed after it skipped
/// everything up to there, of all topics, without a word.
#[test]
fn a_publisher_cannot_claim_a_place_in_the_log() -> Outcome<()> {
    for log in ["memory", "disk"] {
        let builder = if log == "disk" {
            builder()?.disk()
        } else {
            builder()?
        };
        let hub = builder.start()?;
        let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
        let id = hub.publish(&[("topic", TOPIC), ("data", "0")])?;
        assert!(id.ends_with("-8000-000000000001"), "{id}");
        let ahead = id.replace("000000000001", "0000000003e8");
        let form = [("topic", TOPIC), ("data", "forged"), ("id", ahead.as_str())];
        let answer = hub.connect()?.exchange(&hub.publish_request(&form)?)?;
        answer.expect_status(&[400])?;
        // The id of another hub is one like any other.
        let foreign = "urn:uuid:01a203cf-d45e-8650-8000-0000000003e8";
        hub.publish(&[("topic", TOPIC), ("data", "1"), ("id", foreign)])?;
        stream.expect_all(&["0", "1"])?;
    }
    Ok(())
}

/// At the connection limit the admin listener was refused as well, and a probe killed the hub.
#[test]
fn health_and_metrics_answer_at_the_connection_limit() -> Outcome<()> {
    let hub = builder()?.option("--max-connections", "2").start()?;
    let _streams = [
        hub.subscribe(&[("topic", TOPIC)])?,
        hub.subscribe(&[("topic", TOPIC)])?,
    ];
    hub.get("/other")?.expect_status(&[503])?;
    hub.get("/healthz")?.expect_status(&[200])?;
    hub.get_admin("/healthz")?.expect_status(&[200])?;
    hub.wait_metric("gush_connections_open", |open| open >= 2)?;
    Ok(())
}

/// An HTTP/2 connection without a request stayed for ever.
#[test]
fn an_http2_connection_that_asks_for_nothing_is_closed() -> Outcome<()> {
    let hub = builder()?.option("--head-timeout", "200ms").start()?;
    let mut connection = hub.connect()?;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    connection.send(preface)?;
    connection.read_to_close(Duration::from_secs(20))?;
    Ok(())
}

/// A thousand templates of six expressions each, and a cursor nobody knows, held the hub for
/// minutes: each stored event was matched against all of them.
#[test]
fn the_expressions_of_one_subscribe_are_bounded() -> Outcome<()> {
    let hub = start()?;
    let topics: Vec<String> = (0..600)
        .map(|number| format!("/{{a}}/{{b}}/{{c}}/{{d}}/q{number}"))
        .collect();
    let query: Vec<(&str, &str)> = topics.iter().map(|topic| ("topic", &**topic)).collect();
    let answer = hub.connect()?.exchange(&hub.subscribe_request(&query)?)?;
    answer.expect_status(&[400])?;
    // Two expressions for each of a thousand topics are taken.
    let topics: Vec<String> = (0..1000)
        .map(|number| format!("/{{a}}/{{b}}/{number}"))
        .collect();
    let query: Vec<(&str, &str)> = topics.iter().map(|topic| ("topic", &**topic)).collect();
    hub.subscribe(&query)?;
    Ok(())
}

/// A coded body was read as if it were plain.
#[test]
fn a_coded_body_is_refused() -> Outcome<()> {
    let hub = start()?;
    let publish = hub.publish_request(&[("topic", TOPIC), ("data", "0")])?;
    let coded = publish.header("Content-Encoding", "gzip");
    hub.connect()?.exchange(&coded)?.expect_status(&[415])
}

/// One event larger than a socket takes at once was read and framed anew for each part of it.
#[test]
fn a_large_event_is_replayed_whole() -> Outcome<()> {
    let hub = builder()?.disk().option("--window-events", "16").start()?;
    let data = "x".repeat(8 * 1024 * 1024);
    hub.publish(&[("topic", TOPIC), ("data", &data)])?;
    for number in 0..16 {
        hub.publish(&[("topic", "other"), ("data", &number.to_string())])?;
    }
    hub.publish(&[("topic", TOPIC), ("data", "after it")])?;
    let mut stream = hub.resume(&[("topic", TOPIC)], "earliest")?;
    stream.expect_all(&[&data, "after it"])
}

/// A peer that ends its side behind its request got no answer.
#[test]
fn a_half_closed_peer_gets_its_answer() -> Outcome<()> {
    let hub = start()?;
    for _ in 0..20 {
        let request = hub.publish_request(&[("topic", TOPIC), ("data", "0")])?;
        let mut connection = hub.connect()?;
        connection.send_request(&request)?;
        connection.finish_sending()?;
        connection.read_response()?.expect_status(&[200])?;
        connection.read_to_close(Duration::from_secs(20))?;
    }
    Ok(())
}

/// The answer's header was left out for an id that is not ASCII.
#[test]
fn an_id_that_is_not_ascii_is_answered_as_it_is() -> Outcome<()> {
    let hub = start()?;
    hub.publish(&[("topic", TOPIC), ("data", "0"), ("id", "é1")])?;
    hub.publish(&[("topic", TOPIC), ("data", "1")])?;
    let mut stream = hub.subscribe(&[("topic", TOPIC), ("lastEventID", "é1")])?;
    assert!(stream.head().header("Last-Event-ID").is_some());
    stream.expect_all(&["1"])
}

/// The deadline of a body was only set anew when something else was waited for, so a publisher
/// whose packets always ended within the next body was refused after `body_timeout`.
#[test]
fn a_publisher_whose_packets_end_within_the_next_body_goes_on() -> Outcome<()> {
    let body_timeout = Duration::from_secs(2);
    let hub = builder()?.option("--body-timeout", "2s").start()?;
    let request = hub.publish_request(&[("topic", TOPIC), ("data", &"x".repeat(1000))])?;
    let bytes = request.to_bytes("hub.example");
    let (begin, end) = bytes.split_at(bytes.len() - 500);
    let mut connection = hub.connect()?;
    connection.send(begin)?;
    let started = Instant::now();
    while started.elapsed() < 3 * body_timeout {
        connection.send(&[end, begin].concat())?;
        connection.read_response()?.expect_status(&[200])?;
    }
    Ok(())
}

/// Heads whose lines end with LF alone waited for an empty line with CRLF until their time was up.
#[test]
fn a_head_with_other_line_ends_is_answered() -> Outcome<()> {
    let hub = start()?;
    for head in [
        "POST /.well-known/mercure HTTP/1.1\nHost: a\nContent-Length: 0\n\n",
        "GET /.well-known/mercure?topic=a HTTP/1.1\r\nHost: a\n\r\n",
    ] {
        let mut connection = hub.connect()?;
        connection.send(head.as_bytes())?;
        let answer = connection.read_head(Deadline::after(PATIENCE))?;
        answer.expect_status(&[400, 401, 200])?;
    }
    Ok(())
}
