//! What the limits count after an upgrade: streams that came over count as those that were there.

use gush_testkit::{
    Claims, HubBuilder, Outcome, PATIENCE, Request, SseStream, encode_component, exchange,
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
