//! Limits per address, per token subject, per publisher, per topic and of the whole hub, at each
//! door.

use gush_testkit::{
    Claims, Connection, Curl, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request,
    Response, SseStream, eventually, exchange, proxy_v2,
};
use std::process::Command;

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://limits.example/1";

fn builder(options: &[(&str, &str)]) -> Outcome<HubBuilder> {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    for (name, value) in options {
        builder = builder.option(name, value);
    }
    Ok(builder)
}

fn start(options: &[(&str, &str)]) -> Outcome<HubProcess> {
    builder(options)?.start()
}

fn subscribe(hub: &HubProcess) -> Outcome<Request> {
    hub.subscribe_request(&[("topic", TOPIC)])
}

/// A subscribe with a token of this subject.
fn subscribe_as(hub: &HubProcess, subject: &str) -> Outcome<Request> {
    let claims = Claims::new().subscribe(&["*"]);
    let token = hub
        .subscriber_key()
        .sign(&claims.claim("sub", subject.into()))?;
    let topic = gush_testkit::encode_component(TOPIC);
    Ok(Request::get(&format!("{HUB}?topic={topic}")).bearer(&token))
}

/// A publish with a token of this subject; without one if it is empty.
fn publish_as(hub: &HubProcess, subject: &str, topics: &[&str]) -> Outcome<Request> {
    let mut claims = Claims::new().publish(&["*"]);
    if !subject.is_empty() {
        claims = claims.claim("sub", subject.into());
    }
    let token = hub.publisher_key().sign(&claims)?;
    let fields: Vec<_> = topics.iter().map(|topic| ("topic", *topic)).collect();
    Ok(Request::form(HUB, &fields).bearer(&token))
}

fn open(hub: &HubProcess, request: &Request) -> Outcome<SseStream> {
    SseStream::open(hub.address(), request).map_err(|f| f.within(hub.output()))
}

/// 429 with a time to wait and a reason that contains these words.
fn expect_too_many(answer: &Response, words: &str) -> Outcome<()> {
    answer.expect_status(&[429])?;
    let wait = answer.header("Retry-After").unwrap_or_default();
    let is_wait = wait.parse::<u64>().is_ok_and(|seconds| seconds >= 1);
    let kind = answer.header("Content-Type").unwrap_or_default();
    if is_wait && kind == "application/problem+json" && answer.text().contains(words) {
        return Ok(());
    }
    Failure::mismatch("429", words, format!("{answer:?}\n{}", answer.text()))
}

/// A program is told by status, an event source by a stream that ends.
fn expect_refused(hub: &HubProcess, request: &Request, words: &str) -> Outcome<()> {
    expect_too_many(&exchange(hub.address(), request)?, words)?;
    let soft = request.clone().header("Accept", "text/event-stream");
    let answer = exchange(hub.address(), &soft)?;
    answer.expect_status(&[200])?;
    if answer.text().starts_with("retry: ") {
        return Ok(());
    }
    Failure::mismatch("soft refusal", "retry and the end", answer.text())
}

fn refused(hub: &HubProcess, limit: &str) -> Outcome<u64> {
    let series = format!("gush_limit_refusals_total{{limit=\"{limit}\"}}");
    Ok(hub.metric(&series)?.unwrap_or(0))
}

fn expect_counted(hub: &HubProcess, limit: &str, count: u64) -> Outcome<()> {
    match refused(hub, limit)? {
        counted if counted == count => Ok(()),
        other => Failure::mismatch(limit, count, other),
    }
}

/// What curl gets over HTTP/2 without TLS: the status.
fn over_h2(token: &str, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new("curl")
        .args(["--silent", "--http2-prior-knowledge", "--max-time", "20"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(arguments)
        .output()
        .map_err(|e| Failure::from(e).within("starting curl"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn url(hub: &HubProcess) -> String {
    let topic = gush_testkit::encode_component(TOPIC);
    format!("http://{}{HUB}?topic={topic}", hub.address())
}

#[test]
fn an_address_has_so_many_connections_and_gets_others_when_some_end() -> Outcome<()> {
    let hub = start(&[("--max-connections-per-address", "3")])?;
    let mut streams = Vec::new();
    for _ in 0..3 {
        streams.push(open(&hub, &subscribe(&hub)?)?);
    }
    expect_refused(&hub, &subscribe(&hub)?, "from this address")?;
    let publish = hub.publish_request(&[("topic", TOPIC), ("data", "no")])?;
    expect_too_many(&exchange(hub.address(), &publish)?, "from this address")?;
    // Probes are answered all the same, and the admin listener has no such limit.
    hub.get("/healthz")?.expect_status(&[200])?;
    hub.publish_on_admin(&[("topic", TOPIC), ("data", "seen")])?;
    for stream in &mut streams {
        stream.expect_data("seen")?;
    }
    drop(streams.pop());
    eventually("room for another", PATIENCE, || {
        Ok(open(&hub, &subscribe(&hub)?).ok())
    })?;
    if refused(&hub, "max_connections_per_address")? < 4 {
        return Err(Failure::new("the refusals are not counted"));
    }
    Ok(())
}

#[test]
fn a_connection_that_asks_nothing_counts_for_its_address() -> Outcome<()> {
    let hub = start(&[("--max-connections-per-address", "2")])?;
    let idle = (hub.connect()?, hub.connect()?);
    hub.wait_metric("gush_connections_open", |open| open >= 3)?;
    expect_refused(&hub, &subscribe(&hub)?, "from this address")?;
    drop(idle);
    eventually("room", PATIENCE, || Ok(open(&hub, &subscribe(&hub)?).ok())).map(drop)
}

/// So many subscribes on one connection of HTTP/2, written by hand: curl does not begin a second
/// one while the first has not ended.
fn multiplexed(hub: &HubProcess, streams: u32) -> Outcome<Connection> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let topic = gush_testkit::encode_component(TOPIC);
    // GET, http, and three fields whose names stand in HPACK's table.
    let mut block = vec![0x82, 0x86];
    let bearer = format!("Bearer {}", hub.subscriber_token()?);
    for (name, value) in [
        (&[0x04][..], format!("{HUB}?topic={topic}")),
        (&[0x01], "hub".to_owned()),
        (&[0x0f, 0x08], bearer),
    ] {
        block.extend(name);
        let mut length = value.len();
        if length < 127 {
            block.push(u8::try_from(length).unwrap_or(0));
        } else {
            block.push(127);
            length -= 127;
            while length >= 128 {
                block.push(u8::try_from(length % 128).unwrap_or(0) | 128);
                length /= 128;
            }
            block.push(u8::try_from(length).unwrap_or(0));
        }
        block.extend(value.bytes());
    }
    for stream in 0..streams {
        let [.., high, low] = block.len().to_be_bytes();
        bytes.extend([0, high, low, 1, 5]);
        bytes.extend((2 * stream + 1).to_be_bytes());
        bytes.extend(&block);
    }
    let mut connection = hub.connect()?;
    connection.send(&bytes)?;
    Ok(connection)
}

const H2_OPEN: &str = "gush_subscribers_open{sink=\"h2\"}";

#[test]
fn each_further_stream_inside_http2_counts_for_its_address() -> Outcome<()> {
    let hub = start(&[("--max-connections-per-address", "3")])?;
    let token = hub.subscriber_token()?;
    let three = multiplexed(&hub, 3)?;
    hub.wait_metric(H2_OPEN, |open| open == 3)?;
    expect_refused(&hub, &subscribe(&hub)?, "from this address")?;
    let status = over_h2(&token, &[&url(&hub)])?;
    if status != "429" {
        return Failure::mismatch("status", "429", status);
    }
    drop(three);
    hub.wait_metric(H2_OPEN, |open| open == 0)?;
    // Of five on one connection three are taken in.
    let _five = multiplexed(&hub, 5)?;
    hub.wait_metric(H2_OPEN, |open| open == 3)?;
    eventually("two refusals", PATIENCE, || {
        let counted = refused(&hub, "max_connections_per_address")?;
        Ok((counted >= 5).then_some(()))
    })?;
    match hub.metric(H2_OPEN)? {
        Some(3) => Ok(()),
        other => Failure::mismatch("streams", 3, format!("{other:?}")),
    }
}

#[test]
fn each_further_stream_inside_http2_counts_for_the_hub() -> Outcome<()> {
    let hub = start(&[("--max-connections", "3")])?;
    let two = multiplexed(&hub, 2)?;
    hub.wait_metric(H2_OPEN, |open| open == 2)?;
    let last = open(&hub, &subscribe(&hub)?)?;
    exchange(hub.address(), &subscribe(&hub)?)?.expect_status(&[503])?;
    let token = hub.subscriber_token()?;
    let status = over_h2(&token, &[&url(&hub)])?;
    if status != "503" {
        return Failure::mismatch("status", "503", status);
    }
    expect_counted(&hub, "max_connections", 2)?;
    drop((two, last));
    eventually("nothing open", PATIENCE, || {
        let open = hub.metric("gush_connections_open")?;
        // The connection that asks.
        Ok((open == Some(1)).then_some(()))
    })
}

#[test]
fn behind_a_listed_proxy_each_client_has_its_own_limit() -> Outcome<()> {
    let hub = start(&[
        ("--max-connections-per-address", "1"),
        ("--trusted-proxy", "127.0.0.1"),
    ])?;
    let from =
        |name: &str, value: &str| -> Outcome<Request> { Ok(subscribe(&hub)?.header(name, value)) };
    let _first = open(&hub, &from("X-Forwarded-For", "203.0.113.7")?)?;
    let again = from("X-Forwarded-For", "203.0.113.7")?;
    expect_refused(&hub, &again, "from this address")?;
    let same = from("Forwarded", "for=203.0.113.7;proto=https")?;
    expect_refused(&hub, &same, "from this address")?;
    // What the client wrote itself stands before what the proxy wrote.
    let invented = from("X-Forwarded-For", "198.51.100.9, 203.0.113.7")?;
    expect_refused(&hub, &invented, "from this address")?;
    let _second = open(&hub, &from("X-Forwarded-For", "203.0.113.8")?)?;
    // IPv6 counts by the network of a customer.
    let _third = open(&hub, &from("Forwarded", "for=\"[2001:db8:1:2::a]:4711\"")?)?;
    let neighbour = from("X-Forwarded-For", "2001:db8:1:2:ffff::b")?;
    expect_refused(&hub, &neighbour, "from this address")?;
    let _fourth = open(&hub, &from("X-Forwarded-For", "2001:db8:1:3::a")?)?;
    let token = hub.subscriber_token()?;
    let header = ["--header", "X-Forwarded-For: 203.0.113.8", &url(&hub)];
    match over_h2(&token, &header)? {
        status if status == "429" => Ok(()),
        other => Failure::mismatch("status", "429", other),
    }
}

/// Else a client that makes its name unreadable would have no limit at all.
#[test]
fn whom_a_listed_proxy_does_not_name_counts_for_the_proxy() -> Outcome<()> {
    let hub = start(&[
        ("--max-connections-per-address", "1"),
        ("--trusted-proxy", "127.0.0.1"),
    ])?;
    let _stream = open(&hub, &subscribe(&hub)?)?;
    for value in ["for=unknown", "for=_hidden;proto=https", "for=127.0.0.1"] {
        let request = subscribe(&hub)?.header("Forwarded", value);
        expect_refused(&hub, &request, "from this address")?;
    }
    // Its checks are no streams.
    hub.get("/healthz")?.expect_status(&[200])?;
    let named = subscribe(&hub)?.header("Forwarded", "for=203.0.113.7");
    open(&hub, &named).map(drop)
}

#[test]
fn what_an_unlisted_peer_says_about_its_address_is_ignored() -> Outcome<()> {
    let hub = start(&[
        ("--max-connections-per-address", "1"),
        ("--trusted-proxy", "192.0.2.0/24"),
    ])?;
    let _stream = open(&hub, &subscribe(&hub)?)?;
    for (name, value) in [
        ("X-Forwarded-For", "203.0.113.7"),
        ("Forwarded", "for=203.0.113.7"),
        ("X-Real-IP", "203.0.113.7"),
    ] {
        let request = subscribe(&hub)?.header(name, value);
        expect_refused(&hub, &request, "from this address")?;
    }
    Ok(())
}

#[test]
fn the_address_of_a_proxy_header_counts() -> Outcome<()> {
    let hub = builder(&[
        ("--max-connections-per-address", "1"),
        ("--trusted-proxy", "127.0.0.1"),
    ])?
    .flag("--proxy-protocol")
    .start()?;
    let connect = |client: &str| -> Outcome<Connection> {
        let client = client.parse().map_err(|_| Failure::new("an address"))?;
        let mut connection = hub.connect()?;
        connection.send(&proxy_v2(client))?;
        connection.send_request(&subscribe(&hub)?)?;
        Ok(connection)
    };
    let _first = SseStream::answered(connect("203.0.113.7:1")?)?;
    let _second = SseStream::answered(connect("[2001:db8::1]:1")?)?;
    for again in ["203.0.113.7:2", "[2001:db8::2]:1"] {
        expect_too_many(&connect(again)?.read_response()?, "from this address")?;
    }
    SseStream::answered(connect("203.0.113.8:1")?).map(drop)
}

#[test]
fn an_exempt_network_has_no_limit_per_address() -> Outcome<()> {
    let hub = start(&[
        ("--max-connections-per-address", "1"),
        ("--accept-rate-per-address", "1"),
        ("--accept-burst-per-address", "1"),
        ("--exempt-network", "127.0.0.0/8"),
    ])?;
    let streams = (0..5).map(|_| open(&hub, &subscribe(&hub)?));
    streams.collect::<Outcome<Vec<_>>>().map(drop)
}

#[test]
fn a_subject_has_so_many_streams_at_every_door() -> Outcome<()> {
    let hub = start(&[("--max-connections-per-subject", "2")])?;
    let request = subscribe_as(&hub, "alice")?;
    let first = open(&hub, &request)?;
    let claims = Claims::new().subscribe(&["*"]).claim("sub", "alice".into());
    let token = hub.subscriber_key().sign(&claims)?;
    let _over_h2 = Curl::subscribe(&url(&hub), &token, &["--http2-prior-knowledge"])?;
    expect_refused(&hub, &request, "subject")?;
    let status = over_h2(&token, &[&url(&hub)])?;
    if status != "429" {
        return Failure::mismatch("status", "429", status);
    }
    // The absolute form is served by hyper.
    let topic = gush_testkit::encode_component(TOPIC);
    let odd = Request::get(&format!("http://hub{HUB}?topic={topic}")).bearer(&token);
    expect_refused(&hub, &odd, "subject")?;
    let _other = open(&hub, &subscribe_as(&hub, "bob")?)?;
    // Tokens without a subject are nobody's.
    let _nameless: Vec<_> = (0..4)
        .map(|_| open(&hub, &subscribe(&hub)?))
        .collect::<Outcome<_>>()?;
    drop(first);
    eventually("room", PATIENCE, || Ok(open(&hub, &request).ok())).map(drop)
}

#[test]
fn streams_begin_at_the_rate_of_the_hub_the_address_and_the_subject() -> Outcome<()> {
    for (rate, burst, limit, words) in [
        (
            "--accept-rate",
            "--accept-burst",
            "accept_rate",
            "at the moment",
        ),
        (
            "--accept-rate-per-address",
            "--accept-burst-per-address",
            "accept_rate_per_address",
            "from this address",
        ),
        (
            "--accept-rate-per-subject",
            "--accept-burst-per-subject",
            "accept_rate_per_subject",
            "subject",
        ),
    ] {
        // One a second: what is refused at once is not refused for being late.
        let hub = start(&[(rate, "1"), (burst, "3")])?;
        let request = subscribe_as(&hub, "alice")?;
        let mut streams = Vec::new();
        let mut refused_answers = 0;
        for _ in 0..10 {
            let mut connection = hub.connect()?;
            connection.send_request(&request)?;
            match SseStream::answered(connection) {
                Ok(stream) => streams.push(stream),
                Err(_) => refused_answers += 1,
            }
        }
        if streams.len() < 3 || refused_answers == 0 {
            let got = format!("{} streams, {refused_answers} refused", streams.len());
            return Failure::mismatch(rate, "3 at once, then 1 a second", got);
        }
        expect_refused(&hub, &request, words)?;
        expect_counted(&hub, limit, refused_answers + 2)?;
        // In time there is another, and those that began go on.
        eventually("a token", PATIENCE, || Ok(open(&hub, &request).ok()))?;
        hub.publish(&[("topic", TOPIC), ("data", "seen")])?;
        for stream in &mut streams {
            stream.expect_data("seen")?;
        }
    }
    Ok(())
}

#[test]
fn a_flood_of_bad_tokens_spends_the_rate_of_its_address_alone() -> Outcome<()> {
    let hub = start(&[
        ("--accept-rate-per-address", "1"),
        ("--accept-burst-per-address", "2"),
        ("--trusted-proxy", "127.0.0.1"),
    ])?;
    let topic = gush_testkit::encode_component(TOPIC);
    let bad = Request::get(&format!("{HUB}?topic={topic}"))
        .bearer(&"x".repeat(60))
        .header("X-Forwarded-For", "203.0.113.7");
    let statuses: Vec<u16> = (0..8)
        .map(|_| Ok(exchange(hub.address(), &bad)?.status()))
        .collect::<Outcome<_>>()?;
    if statuses[..2] != [401, 401] || !statuses.contains(&429) {
        return Failure::mismatch("statuses", "401, then 429", format!("{statuses:?}"));
    }
    let other = subscribe(&hub)?.header("X-Forwarded-For", "203.0.113.8");
    open(&hub, &other).map(drop)
}

#[test]
fn a_publisher_has_so_many_events_in_a_window_at_every_door() -> Outcome<()> {
    let hub = start(&[
        ("--publish-rate-per-publisher", "4"),
        ("--publish-window", "1h"),
    ])?;
    let request = publish_as(&hub, "robot", &[TOPIC])?;
    // Plain requests on a connection that stays, and one that hyper serves.
    let mut connection = hub.connect()?;
    connection.exchange(&request)?.expect_status(&[200])?;
    connection.exchange(&request)?.expect_status(&[200])?;
    exchange(hub.address(), &request)?.expect_status(&[200])?;
    let claims = Claims::new().publish(&["*"]).claim("sub", "robot".into());
    let token = hub.publisher_key().sign(&claims)?;
    let plain_url = format!("http://{}{HUB}", hub.address());
    let form = ["--data", &format!("topic={TOPIC}"), &plain_url];
    let status = over_h2(&token, &form)?;
    if status != "200" {
        return Failure::mismatch("status", "200", status);
    }
    expect_too_many(&connection.exchange(&request)?, "publisher")?;
    expect_too_many(&exchange(hub.address(), &request)?, "publisher")?;
    let status = over_h2(&token, &form)?;
    if status != "429" {
        return Failure::mismatch("status", "429", status);
    }
    // The connection goes on, and another publisher is not concerned.
    let other = publish_as(&hub, "another", &[TOPIC])?;
    connection.exchange(&other)?.expect_status(&[200])?;
    // On a 200 an event source would think that its event is published.
    let as_browser = request.header("Accept", "text/event-stream");
    expect_too_many(&connection.exchange(&as_browser)?, "publisher")?;
    expect_counted(&hub, "publish_rate_per_publisher", 4)
}

#[test]
fn a_publisher_without_a_subject_is_its_address() -> Outcome<()> {
    let hub = start(&[
        ("--publish-rate-per-publisher", "1"),
        ("--publish-window", "1h"),
        ("--trusted-proxy", "127.0.0.1"),
    ])?;
    let from = |address: &str| -> Outcome<Request> {
        Ok(publish_as(&hub, "", &[TOPIC])?.header("X-Forwarded-For", address))
    };
    let mut connection = hub.connect()?;
    for address in ["203.0.113.7", "203.0.113.8", "2001:db8::1"] {
        let answer = connection.exchange(&from(address)?)?;
        answer.expect_status(&[200])?;
    }
    for address in ["203.0.113.7", "203.0.113.8", "2001:db8::2"] {
        expect_too_many(&connection.exchange(&from(address)?)?, "publisher")?;
        expect_too_many(&exchange(hub.address(), &from(address)?)?, "publisher")?;
    }
    Ok(())
}

#[test]
fn a_topic_has_so_many_events_in_a_window_whoever_publishes() -> Outcome<()> {
    let hub = start(&[
        ("--publish-rate-per-topic", "2"),
        ("--publish-rate-per-publisher", "3"),
        ("--publish-window", "1h"),
    ])?;
    let mut connection = hub.connect()?;
    let mut ask = |subject: &str, topics: &[&str]| -> Outcome<Response> {
        connection.exchange(&publish_as(&hub, subject, topics)?)
    };
    ask("a", &["full"])?.expect_status(&[200])?;
    ask("b", &["full"])?.expect_status(&[200])?;
    // As one of several topics it counts too, and then nothing of the event does.
    for _ in 0..5 {
        expect_too_many(&ask("c", &["free", "full"])?, "the topic \\\"full")?;
    }
    for _ in 0..2 {
        ask("c", &["free"])?.expect_status(&[200])?;
    }
    expect_too_many(&ask("c", &["free"])?, "the topic \\\"free")?;
    ask("c", &["another"])?.expect_status(&[200])?;
    expect_too_many(&ask("c", &["another"])?, "publisher")
}

/// A batch of so many events, each a line, and the lines of its answer.
fn batch(hub: &HubProcess, subject: &str, events: usize) -> Outcome<Vec<String>> {
    let claims = Claims::new().publish(&["*"]).claim("sub", subject.into());
    let token = hub.publisher_key().sign(&claims)?;
    let line = format!("{{\"topic\":\"{TOPIC}\",\"data\":\"x\"}}\n");
    let request = Request::new("POST", HUB)
        .header("Content-Type", "application/x-ndjson")
        .bearer(&token)
        .body(line.repeat(events));
    let answer = exchange(hub.address(), &request)?;
    answer.expect_status(&[200])?;
    Ok(answer.text().lines().map(str::to_owned).collect())
}

fn count_of(lines: &[String], words: &str) -> usize {
    lines.iter().filter(|line| line.contains(words)).count()
}

#[test]
fn each_event_of_a_batch_counts() -> Outcome<()> {
    let hub = start(&[
        ("--publish-rate-per-publisher", "3"),
        ("--publish-window", "1h"),
    ])?;
    let lines = batch(&hub, "robot", 5)?;
    let (ids, refused) = (
        count_of(&lines, "\"id\""),
        count_of(&lines, "\"status\":429"),
    );
    if (ids, refused) == (3, 2) {
        return Ok(());
    }
    Failure::mismatch("lines", "3 ids, 2 refusals", lines.join("\n"))
}

#[test]
fn a_publishers_share_of_what_waits_for_the_log_is_bounded() -> Outcome<()> {
    for (option, value) in [
        ("--max-in-flight-events-per-publisher", "2"),
        ("--max-in-flight-bytes-per-publisher", "64KiB"),
    ] {
        let hub = builder(&[(option, value)])?.disk().start()?;
        let token_topic = publish_as(&hub, "robot", &[TOPIC])?;
        let mut bytes = Vec::new();
        let data = "x".repeat(if value == "2" { 1 } else { 40_000 });
        let claims = Claims::new().publish(&["*"]).claim("sub", "robot".into());
        let token = hub.publisher_key().sign(&claims)?;
        for _ in 0..20 {
            let fields = [("topic", TOPIC), ("data", data.as_str())];
            let request = Request::form(HUB, &fields).bearer(&token);
            bytes.extend(request.to_bytes("hub"));
        }
        // What comes in one piece is appended together.
        let mut connection = hub.connect()?;
        let mut writer = connection.socket().try_clone()?;
        let sending = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &bytes));
        let mut statuses = Vec::new();
        for _ in 0..20 {
            let answer = connection.read_response()?;
            if answer.status() == 429 {
                expect_too_many(&answer, "waits for the event log")?;
            }
            statuses.push(answer.status());
        }
        sending
            .join()
            .map_err(|_| Failure::new("the writer panicked"))??;
        let is_known = statuses.iter().all(|status| [200, 429].contains(status));
        if !is_known || statuses[0] != 200 || (value == "2" && !statuses.contains(&429)) {
            return Failure::mismatch(option, "200, and 429 over it", format!("{statuses:?}"));
        }
        // Nothing is left behind.
        connection.exchange(&token_topic)?.expect_status(&[200])?;
    }
    Ok(())
}

#[test]
fn what_waits_for_the_log_in_all_is_bounded() -> Outcome<()> {
    let hub = builder(&[("--max-in-flight-events", "1")])?
        .disk()
        .start()?;
    let lines = batch(&hub, "robot", 20)?;
    let (ids, refused) = (
        count_of(&lines, "\"id\""),
        count_of(&lines, "\"status\":503"),
    );
    if ids == 0 || refused == 0 || ids + refused != 20 {
        return Failure::mismatch("lines", "ids and refusals", lines.join("\n"));
    }
    expect_counted(&hub, "max_in_flight", refused as u64)?;
    hub.publish(&[("topic", TOPIC)]).map(drop)
}

#[test]
fn a_stream_has_so_many_topics() -> Outcome<()> {
    let hub = start(&[("--max-topics-per-stream", "2")])?;
    let _stream = hub.subscribe(&[("topic", "a"), ("topic", "b")])?;
    let request = hub.subscribe_request(&[("topic", "a"), ("topic", "b"), ("topic", "c")])?;
    let answer = exchange(hub.address(), &request)?;
    answer.expect_status(&[400])?;
    if !answer.text().contains("more than 2 topics") {
        return Failure::mismatch("reason", "more than 2 topics", answer.text());
    }
    expect_counted(&hub, "max_topics_per_stream", 1)
}

#[test]
fn a_head_request_is_no_stream() -> Outcome<()> {
    let hub = start(&[
        ("--accept-rate", "1"),
        ("--accept-burst", "1"),
        ("--max-connections-per-subject", "1"),
    ])?;
    let topic = gush_testkit::encode_component(TOPIC);
    let token = hub.subscriber_token()?;
    let head = Request::new("HEAD", &format!("{HUB}?topic={topic}")).bearer(&token);
    for _ in 0..5 {
        exchange(hub.address(), &head)?.expect_status(&[200])?;
    }
    open(&hub, &subscribe_as(&hub, "alice")?).map(drop)
}
