//! Awkward connections: reuse, pipelining, odd and hostile heads, peers that come and go.

use gush_testkit::{
    Connection, Deadline, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseItem,
    SseStream, eventually, peers,
};
use std::time::Duration;

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://connection.example/1";

fn start() -> Outcome<HubProcess> {
    HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()
}

fn publish_bytes(hub: &HubProcess, data: &str) -> Outcome<Vec<u8>> {
    Ok(hub
        .publish_request(&[("topic", TOPIC), ("data", data)])?
        .to_bytes("hub.example"))
}

#[test]
fn a_publish_and_then_a_subscribe_on_one_connection() -> Outcome<()> {
    let hub = start()?;
    let mut connection = hub.connect()?;
    for n in 0..3 {
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &n.to_string())])?;
        connection.exchange(&request)?.expect_status(&[200])?;
        connection
            .exchange(&Request::get("/healthz"))?
            .expect_status(&[200])?;
    }
    connection.send_request(
        &hub.subscribe_request(&[("topic", TOPIC)])?
            .header("Last-Event-ID", "earliest"),
    )?;
    SseStream::answered(connection)?.expect_all(&["0", "1", "2"])
}

#[test]
fn a_publish_and_a_subscribe_in_one_packet() -> Outcome<()> {
    let hub = start()?;
    let mut connection = hub.connect()?;
    let mut bytes = publish_bytes(&hub, "0")?;
    let subscribe = hub
        .subscribe_request(&[("topic", TOPIC)])?
        .header("Last-Event-ID", "earliest");
    bytes.extend(subscribe.to_bytes("hub.example"));
    connection.send(&bytes)?;
    connection.read_response()?.expect_status(&[200])?;
    let mut stream = SseStream::answered(connection)?;
    hub.publish(&[("topic", TOPIC), ("data", "1")])?;
    stream.expect_all(&["0", "1"])
}

#[test]
fn pipelined_publishes_are_all_answered_in_order() -> Outcome<()> {
    let hub = start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut connection = hub.connect()?;
    let mut bytes = Vec::new();
    for n in 0..40 {
        bytes.extend(publish_bytes(&hub, &n.to_string())?);
    }
    connection.send(&bytes)?;
    let mut ids = Vec::new();
    for _ in 0..40 {
        let response = connection.read_response()?;
        response.expect_status(&[200])?;
        ids.push(response.text());
    }
    for (n, id) in ids.iter().enumerate() {
        let event = stream.expect_data(&n.to_string())?;
        if event.id.as_ref() != Some(id) {
            return Failure::mismatch("id", id, format!("{event:?}"));
        }
    }
    Ok(())
}

#[test]
fn what_is_pipelined_behind_a_subscribe_is_never_executed() -> Outcome<()> {
    let hub = start()?;
    let mut watcher = hub.subscribe(&[("topic", TOPIC)])?;
    for later in [false, true] {
        let subscribe = hub
            .subscribe_request(&[("topic", TOPIC)])?
            .to_bytes("hub.example");
        let publish = publish_bytes(&hub, "smuggled")?;
        let mut connection = hub.connect()?;
        if later {
            connection.send(&subscribe)?;
            let mut stream = SseStream::answered(connection)?;
            // A hub may close at this, so a failing write is fine.
            let _ = stream.connection().send(&publish);
            let _ = stream.connection().send(&publish);
            hub.publish(&[("topic", TOPIC), ("data", "marker")])?;
        } else {
            connection.send(&[subscribe, publish].concat())?;
            hub.publish(&[("topic", TOPIC), ("data", "marker")])?;
            // The stream may be served or closed, but no answer to the publish is in it.
            let answer = SseStream::answered(connection);
            if let Ok(mut stream) = answer
                && let Ok(Some(SseItem::Event(event))) = stream.next_item(Deadline::after(PATIENCE))
            {
                assert_ne!(event.data, "smuggled");
            }
        }
        watcher.expect_data("marker")?;
    }
    hub.publish(&[("topic", TOPIC), ("data", "last")])?;
    watcher.expect_data("last").map(drop)
}

#[test]
fn head_keeps_no_subscriber() -> Outcome<()> {
    let hub = start()?;
    let target = format!("{HUB}?topic=x");
    for _ in 0..5 {
        let request = Request::new("HEAD", &target).bearer(&hub.subscriber_token()?);
        let mut connection = hub.connect()?;
        let response = connection.exchange(&request)?;
        response.expect_status(&[200])?;
        response
            .head
            .expect_header("Content-Type", "text/event-stream")?;
    }
    eventually("no open subscriber", PATIENCE, || {
        Ok((hub.metric_sum("gush_subscribers_open")? == 0).then_some(()))
    })
}

#[test]
fn a_request_byte_by_byte_is_served() -> Outcome<()> {
    let hub = start()?;
    let mut connection = hub.connect()?;
    let subscribe = hub
        .subscribe_request(&[("topic", TOPIC)])?
        .to_bytes("hub.example");
    peers::send_byte_by_byte(&mut connection, &subscribe)?;
    let mut stream = SseStream::answered(connection)?;
    let mut publisher = hub.connect()?;
    peers::send_byte_by_byte(&mut publisher, &publish_bytes(&hub, "slowly typed")?)?;
    publisher.read_response()?.expect_status(&[200])?;
    stream.expect_data("slowly typed").map(drop)
}

#[test]
fn leaving_in_every_way_frees_the_subscriber() -> Outcome<()> {
    let hub = start()?;
    for n in 0..60 {
        let mut stream = hub.subscribe(&[("topic", TOPIC), ("lastEventID", "earliest")])?;
        match n % 3 {
            0 => drop(stream),
            1 => {
                stream.connection().finish_sending()?;
                drop(stream);
            }
            _ => {
                let request = hub.subscribe_request(&[("topic", TOPIC)])?;
                peers::reset(peers::unread_request(hub.address(), &request)?)?;
            }
        }
        hub.publish(&[("topic", TOPIC), ("data", "x")])?;
    }
    eventually("no open subscriber", PATIENCE, || {
        Ok((hub.metric_sum("gush_subscribers_open")? == 0).then_some(()))
    })
}

#[test]
fn heartbeats_are_bare_comment_lines() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--heartbeat", "300ms")
        .start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut comments = Vec::new();
    while comments.len() < 5 {
        if let Some(SseItem::Comment(text)) = stream.next_item(Deadline::after(PATIENCE))? {
            comments.push(text);
        }
    }
    if comments.iter().any(|text| !text.is_empty()) {
        return Failure::mismatch("comments", "bare colons", format!("{comments:?}"));
    }
    let bytes = String::from_utf8_lossy(stream.start()).into_owned();
    if bytes.contains("\n\n") {
        return Failure::mismatch(
            "heartbeats",
            "no empty line between them",
            format!("{bytes:?}"),
        );
    }
    hub.publish(&[("topic", TOPIC), ("data", "x")])?;
    stream.expect_data("x").map(drop)
}

#[test]
fn a_stream_ends_at_its_greatest_age() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--max-stream-life", "2s")
        .start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    stream.read_to_end(PATIENCE)?;
    hub.wait_metric("gush_streams_closed_total{reason=\"stream_life\"}", |n| {
        n == 1
    })
    .map(drop)
}

#[test]
fn a_stream_ends_when_its_token_expires() -> Outcome<()> {
    let hub = start()?;
    let claims = gush_testkit::Claims::new().subscribe(&["*"]).expires_in(3);
    let token = hub.subscriber_key().sign(&claims)?;
    let request = Request::get(&format!("{HUB}?topic=x")).bearer(&token);
    SseStream::open(hub.address(), &request)?.read_to_end(PATIENCE)?;
    hub.wait_metric("gush_streams_closed_total{reason=\"token_expired\"}", |n| {
        n == 1
    })
    .map(drop)
}

/// What is sent, and the status codes that will do; the connection may also be closed without one.
#[rustfmt::skip]
const HEADS: &[(&str, &str, &[u16])] = &[
    ("no host", "GET /healthz HTTP/1.1\r\n\r\n", &[400]),
    ("two hosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", &[400]),
    ("space before colon", "GET /healthz HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n", &[400]),
    ("control in name", "GET /healthz HTTP/1.1\r\nHost: a\r\nX\x01: b\r\n\r\n", &[400]),
    ("nul in value", "GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", &[400]),
    ("bare cr in value", "GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", &[400]),
    ("folded line", "GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n", &[400, 200]),
    ("odd version", "GET /healthz HTTP/3.7\r\nHost: a\r\n\r\n", &[400, 505]),
    ("http 0.9", "GET /healthz\r\n\r\n", &[400, 505]),
    ("noise", "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\r\n\r\n", &[400]),
    ("two lengths", "POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", &[400]),
    ("list of lengths", "POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 6\r\n\r\nabcdef", &[400]),
    ("length with sign", "POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nabcde", &[400]),
    ("negative length", "POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", &[400]),
    ("length overflow", "POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", &[400, 413]),
    ("unknown coding", "POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", &[400, 501, 401]),
    ("chunk size with sign", "POST /.well-known/mercure HTTP/1.1\r\nHost: a\r\nAuthorization: T\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nabcde\r\n0\r\n\r\n", &[400, 401]),
    ("connect", "CONNECT x.example:80 HTTP/1.1\r\nHost: x.example:80\r\n\r\n", &[400, 404, 405]),
    ("upgrade is ignored", "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", &[200]),
    ("absolute form", "GET http://x.example/healthz HTTP/1.1\r\nHost: x.example\r\n\r\n", &[200]),
    ("path with dots", "GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n", &[400, 404]),
    ("range is ignored", "GET /healthz HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1,1-2\r\n\r\n", &[200]),
];

#[test]
fn odd_heads_get_the_right_answer_and_the_hub_goes_on() -> Outcome<()> {
    let hub = start()?;
    let mut wrong = Vec::new();
    for (name, bytes, allowed) in HEADS {
        let mut connection = hub.connect()?;
        connection.send(bytes.as_bytes())?;
        connection.finish_sending()?;
        let got = match connection.read_head(Deadline::after(PATIENCE)) {
            Ok(head) if allowed.contains(&head.status) => continue,
            Ok(head) => head.status.to_string(),
            // Closing without an answer is a refusal too, where a refusal is right.
            Err(_) if *allowed != [200] => continue,
            Err(failure) => failure.to_string(),
        };
        wrong.push(format!("{name}: expected {allowed:?}, got {got}"));
    }
    if !wrong.is_empty() {
        return Err(Failure::new(wrong.join("\n")));
    }
    hub.publish(&[("topic", TOPIC), ("data", "x")]).map(drop)
}

#[test]
fn two_framings_at_once_are_never_two_requests() -> Outcome<()> {
    let hub = start()?;
    let mut watcher = hub.subscribe(&[("topic", TOPIC)])?;
    let smuggled = publish_bytes(&hub, "smuggled")?;
    let head = format!(
        "POST {HUB} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        hub.publisher_token()?,
        smuggled.len() + 5,
    );
    let mut connection = hub.connect()?;
    connection.send(&[head.into_bytes(), smuggled].concat())?;
    // 400 and close; or served by its chunks and closed.
    connection.read_response()?.expect_status(&[400])?;
    let rest = connection.read_to_close(PATIENCE)?;
    assert!(
        rest.is_empty(),
        "a second answer: {:?}",
        String::from_utf8_lossy(&rest)
    );
    hub.publish(&[("topic", TOPIC), ("data", "marker")])?;
    watcher.expect_data("marker").map(drop)
}

#[test]
fn too_large_heads_are_refused() -> Outcome<()> {
    let hub = start()?;
    let long = "x".repeat(1 << 20);
    for head in [
        format!("GET /healthz HTTP/1.1\r\nHost: a\r\nX: {long}\r\n\r\n"),
        format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!(
            "GET /healthz HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(20_000)
        ),
    ] {
        let mut connection = hub.connect()?;
        // The hub may close before all is sent.
        let _ = connection.send(head.as_bytes());
        if let Ok(head) = connection.read_head(Deadline::after(PATIENCE)) {
            head.expect_status(&[400, 414, 431])?;
        }
    }
    hub.get("/healthz")?.expect_status(&[200])
}

#[test]
fn silent_and_half_finished_requests_are_closed() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--head-timeout", "500ms")
        .option("--body-timeout", "500ms")
        .start()?;
    let publish = publish_bytes(&hub, "cut short")?;
    let beginnings: [&[u8]; 4] = [
        b"",
        b"GET /healthz HT",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n",
        &publish[..publish.len() - 3],
    ];
    let mut open: Vec<Connection> = Vec::new();
    for bytes in beginnings {
        for _ in 0..10 {
            let mut connection = hub.connect()?;
            connection.send(bytes)?;
            open.push(connection);
        }
    }
    for mut connection in open {
        let got = connection.read_to_close(PATIENCE)?;
        let text = String::from_utf8_lossy(&got);
        assert!(
            !text.starts_with("HTTP/1.1 200"),
            "served half a request: {text}"
        );
    }
    hub.get("/healthz")?.expect_status(&[200])
}

#[test]
fn an_old_http_1_0_subscriber_gets_an_unchunked_stream_or_505() -> Outcome<()> {
    let hub = start()?;
    let mut connection = hub.connect()?;
    let head = format!(
        "GET {HUB}?topic=x HTTP/1.0\r\nAuthorization: Bearer {}\r\n\r\n",
        hub.subscriber_token()?
    );
    connection.send(head.as_bytes())?;
    let head = connection.read_head(Deadline::after(Duration::from_secs(20)))?;
    head.expect_status(&[200, 505, 400])?;
    let chunked = head.header("Transfer-Encoding").is_some();
    assert!(
        head.status != 200 || !chunked,
        "chunks for HTTP/1.0:\n{}",
        head.raw
    );
    Ok(())
}

#[test]
fn over_the_connection_limit_newcomers_are_told_and_the_others_stay() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--max-connections", "40")
        .start()?;
    let mut streams = Vec::new();
    let mut refused = 0;
    for _ in 0..60 {
        match hub.subscribe(&[("topic", TOPIC)]) {
            Ok(stream) => streams.push(stream),
            Err(failure) => {
                let text = failure.to_string();
                assert!(
                    text.contains(" 503 ") && text.contains("Retry-After"),
                    "{text}"
                );
                refused += 1;
            }
        }
    }
    assert!(
        refused >= 20 && streams.len() >= 30,
        "{} let in, {refused} refused",
        streams.len()
    );
    // Room for a publisher.
    drop(streams.pop());
    eventually("a free place", PATIENCE, || {
        Ok(hub
            .publish(&[("topic", TOPIC), ("data", "x")])
            .ok()
            .map(drop))
    })?;
    streams
        .iter_mut()
        .try_for_each(|stream| stream.expect_data("x").map(drop))?;
    drop(streams);
    eventually("a free place", PATIENCE, || {
        Ok(hub.subscribe(&[("topic", TOPIC)]).ok().map(drop))
    })
}
