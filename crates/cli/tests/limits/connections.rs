//! Connections and streams at a time: of one address, of one subject, of the whole hub.

use crate::support::{
    HUB, TOPIC, builder, expect_counted, expect_refused, expect_too_many, open, over_h2, refused,
    start, subscribe, subscribe_as,
};
use gush_testkit::{
    Claims, Connection, Curl, Failure, HubProcess, Outcome, PATIENCE, Request, SseStream,
    eventually, exchange, proxy_v2,
};

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
fn the_admin_listeners_own_bound_is_not_counted_as_max_connections() -> Outcome<()> {
    let hub = start(&[("--max-connections", "100")])?;
    let mut silent = Vec::new();
    // The hub's own bound is 64, and a probe of the test's start may be open yet.
    for _ in 0..70 {
        silent.push(Connection::open(hub.admin()?)?);
    }
    let refused = eventually("a refusal", PATIENCE, || {
        let answer = hub.get_admin("/drain")?;
        Ok((answer.status() == 503).then_some(answer))
    })?;
    assert!(refused.header("retry-after").is_some());
    expect_counted(&hub, "max_connections", 0)?;
    drop(silent);
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
