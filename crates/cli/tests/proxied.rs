//! Behind proxies that forward bytes: the PROXY protocol, version 2, and what is closed.

use gush_testkit::{
    Connection, Curl, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, SseStream,
    forward_to, proxy_v2, proxy_v2_with, write_certificate,
};
use std::net::SocketAddr;

const TOPIC: &str = "https://proxied.example/1";

fn builder() -> Outcome<HubBuilder> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let builder = builder.flag("--proxy-protocol");
    Ok(builder.option("--trusted-proxy", "127.0.0.1"))
}

fn client(text: &str) -> Outcome<SocketAddr> {
    text.parse()
        .map_err(|_| Failure::new(format!("{text} is no address")))
}

/// A connection that begins with these bytes.
fn begun_with(hub: &HubProcess, bytes: &[u8]) -> Outcome<Connection> {
    let mut connection = hub.connect()?;
    connection.send(bytes)?;
    Ok(connection)
}

/// The hub closes it without a word.
fn expect_closed(hub: &HubProcess, bytes: &[u8]) -> Outcome<()> {
    let mut connection = begun_with(hub, bytes)?;
    let got = connection.read_to_close(PATIENCE)?;
    if got.is_empty() {
        return Ok(());
    }
    Failure::mismatch("answer", "closed", String::from_utf8_lossy(&got))
}

#[test]
fn a_header_comes_before_every_kind_of_request() -> Outcome<()> {
    let hub = builder()?.start()?;
    for address in ["203.0.113.7:4711", "[2001:db8::7]:4711"] {
        let header = proxy_v2(client(address)?);
        let mut subscribed = begun_with(&hub, &header)?;
        subscribed.send_request(&hub.subscribe_request(&[("topic", TOPIC)])?)?;
        let mut stream = SseStream::answered(subscribed)?;
        let mut publisher = begun_with(&hub, &header)?;
        for data in ["one", "two"] {
            let request = hub.publish_request(&[("topic", TOPIC), ("data", data)])?;
            publisher.exchange(&request)?.expect_status(&[200])?;
            stream.expect_data(data)?;
        }
        // The header and the request in one packet, and one that hyper serves.
        let health = Request::get("/healthz").to_bytes("hub");
        let mut other = begun_with(&hub, &[header, health].concat())?;
        other.read_response()?.expect_status(&[200])?;
    }
    Ok(())
}

#[test]
fn a_header_that_comes_byte_by_byte_is_read() -> Outcome<()> {
    let hub = builder()?.start()?;
    let mut connection = hub.connect()?;
    let header = proxy_v2(client("203.0.113.7:4711")?);
    gush_testkit::peers::send_byte_by_byte(&mut connection, &header)?;
    connection
        .exchange(&Request::get("/healthz"))?
        .expect_status(&[200])
}

#[test]
fn the_proxys_own_checks_are_answered() -> Outcome<()> {
    let hub = builder()?.start()?;
    for header in [
        proxy_v2_with(0x20, 0x00, &[]),
        proxy_v2_with(0x20, 0x11, &[0; 12]),
        proxy_v2_with(0x21, 0x00, &[0; 40]),
        proxy_v2_with(0x21, 0x31, &[0; 216]),
    ] {
        let mut connection = begun_with(&hub, &header)?;
        let answer = connection.exchange(&Request::get("/healthz"))?;
        answer.expect_status(&[200])?;
    }
    Ok(())
}

#[test]
fn what_is_no_header_is_closed() -> Outcome<()> {
    let hub = builder()?.start()?;
    let health = Request::get("/healthz").to_bytes("hub");
    let v1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 443\r\n";
    for begin in [
        health.clone(),
        [&v1[..], &health].concat(),
        [proxy_v2_with(0x31, 0x11, &[0; 12]), health.clone()].concat(),
        [proxy_v2_with(0x21, 0x11, &[0; 11]), health.clone()].concat(),
        [proxy_v2_with(0x21, 0x21, &[0; 35]), health.clone()].concat(),
        [proxy_v2_with(0x21, 0x99, &[0; 12]), health.clone()].concat(),
        proxy_v2_with(0x21, 0x11, &vec![0; 60_000]),
    ] {
        expect_closed(&hub, &begin)?;
    }
    Ok(())
}

#[test]
fn a_header_from_an_unlisted_peer_is_closed() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .flag("--proxy-protocol")
        .option("--trusted-proxy", "192.0.2.0/24")
        .start()?;
    let header = proxy_v2(client("203.0.113.7:4711")?);
    let health = Request::get("/healthz").to_bytes("hub");
    expect_closed(&hub, &[header, health].concat())?;
    // The admin listener never expects a header: health checks go there.
    hub.get_admin("/healthz")?.expect_status(&[200])
}

#[test]
fn a_header_is_not_taken_where_none_is_expected() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--trusted-proxy", "127.0.0.1")
        .start()?;
    let header = proxy_v2(client("203.0.113.7:4711")?);
    let health = Request::get("/healthz").to_bytes("hub");
    let mut connection = begun_with(&hub, &[header, health].concat())?;
    connection.read_response()?.expect_status(&[400])
}

#[test]
fn a_header_that_never_ends_is_closed_after_the_head_timeout() -> Outcome<()> {
    let hub = builder()?.option("--head-timeout", "200ms").start()?;
    let header = proxy_v2(client("203.0.113.7:4711")?);
    expect_closed(&hub, &header[..header.len() - 1])
}

#[test]
fn tls_and_http2_stand_behind_the_header() -> Outcome<()> {
    let builder = builder()?;
    let files = write_certificate(builder.directory(), "hub.example")?;
    let hub = builder
        .option("--tls-cert", &files.certificate.display().to_string())
        .option("--tls-key", &files.key.display().to_string())
        .start()?;
    let proxy = forward_to(hub.address(), proxy_v2(client("[2001:db8::7]:4711")?))?;
    let topic = gush_testkit::encode_component(TOPIC);
    let url = format!("https://{proxy}/.well-known/mercure?topic={topic}");
    let token = hub.subscriber_token()?;
    let over_h2 = Curl::subscribe(&url, &token, &["--insecure", "--http2"])?;
    let over_h1 = Curl::subscribe(&url, &token, &["--insecure", "--http1.1"])?;
    hub.publish_on_admin(&[("topic", TOPIC), ("data", "seen")])?;
    over_h2.expect_data("seen")?;
    over_h1.expect_data("seen")
}

#[test]
fn the_header_without_a_listed_proxy_is_refused_at_the_start() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.flag("--proxy-protocol");
    let (code, _, stderr) = hub.start_to_exit()?;
    if code == Some(2) && stderr.contains("--trusted-proxy") {
        return Ok(());
    }
    Failure::mismatch(
        "start",
        "exit 2 and the option to set",
        format!("{code:?} {stderr}"),
    )
}
