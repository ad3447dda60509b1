//! What the limits count after an upgrade: streams that came over count as those that were there.

use gush_testkit::{
    Claims, Failure, HubBuilder, Outcome, PATIENCE, Request, SseStream, encode_component, exchange,
};

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://upgrade.example/limits";

/// Whom a stream is for is known whether or not its end is to be recorded.
#[test]
fn streams_that_came_over_count_also_without_a_stream_log() -> Outcome<()> {
    for (limit, words) in [
        ("--max-connections-per-subject", "token's subject"),
        ("--max-connections-per-address", "from this address"),
    ] {
        let mut hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
            .option("--stream-log", "off")
            .option(limit, "1")
            .start()?;
        let claims = Claims::new().subscribe(&["*"]).claim("sub", "ann".into());
        let token = hub.subscriber_key().sign(&claims)?;
        let target = format!("{HUB}?topic={}", encode_component(TOPIC));
        let request = Request::get(&target).bearer(&token);
        let _stream = SseStream::open(hub.address(), &request)?;
        hub.upgrade()?;
        assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
        hub.wait_metric("gush_streams_taken_over_total", |taken| taken == 1)?;
        let answer = exchange(hub.address(), &request)?;
        answer.expect_status(&[429])?;
        assert!(answer.text().contains(words), "{}", answer.text());
    }
    Ok(())
}

/// A stream that the new process has no room for has left, and those who watch are told.
#[test]
fn a_stream_without_room_in_the_new_process_leaves_the_active_subscriptions() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.subscriptions();
    let file = builder.directory().join("gush.toml");
    std::fs::write(&file, "max_connections = 10\n")?;
    let mut hub = builder
        .option("--config", &file.display().to_string())
        .start()?;
    let before = hub.publish(&[("topic", TOPIC), ("data", "before")])?;
    let _streams = [
        hub.subscribe(&[("topic", TOPIC)])?,
        hub.subscribe(&[("topic", TOPIC)])?,
        hub.subscribe(&[("topic", TOPIC)])?,
    ];
    std::fs::write(&file, "max_connections = 2\n")?;
    hub.upgrade()?;
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    hub.wait_metric("gush_streams_taken_over_total", |taken| taken == 2)?;
    let room = Request::new("PATCH", "/limits")
        .header("Content-Type", "application/json")
        .body(r#"{"max_connections": 10}"#);
    exchange(hub.admin()?, &room)?.expect_status(&[200])?;
    let all = "/.well-known/mercure/subscriptions/{topic}/{subscriber}";
    let mut watching = hub.resume(&[("topic", all)], &before)?;
    // Three came, one has left; where the watching one's own comes among these is its own affair.
    for number in 0..5 {
        let told = watching
            .next_event()
            .map_err(|f| f.within(format!("event {number} of 5")))?;
        let document: serde_json::Value = serde_json::from_str(&told.data).unwrap_or_default();
        if document["active"] == false {
            return Ok(());
        }
    }
    Failure::mismatch("subscription events", "one that has left", "none")
}
