//! What the limits count after an upgrade: streams that came over count as those that were there.

use gush_testkit::{
    Claims, HubBuilder, Outcome, PATIENCE, ProgramLink, Request, SseStream, encode_component,
    eventually, exchange,
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

/// Streams that find no place in the new process are told of as having left: the old one says
/// nothing, for it has handed them over.
#[test]
fn who_finds_no_place_after_an_upgrade_has_left() -> Outcome<()> {
    const STREAMS: usize = 300;
    // Two tables of it have fewer places than there are streams, whatever else is in them: how
    // much that is depends on what a process inherits from those who run this test.
    const TABLE_SIZE: usize = 140;
    let real = env!("CARGO_BIN_EXE_gush");
    let link = ProgramLink::to(real)?;
    let mut hub = HubBuilder::new(link.path())?
        .disk()
        .subscriptions()
        .option("--descriptor-tables", "own")
        .option("--shards", "2")
        .start()?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    link.replace(&format!("ulimit -n {TABLE_SIZE}\nexec {real} \"$@\""))?;
    hub.upgrade()?;
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    // Who leaves sooner makes room for those who are still coming over.
    eventually("both shards have taken what they can", PATIENCE, || {
        Ok((hub.stderr().matches("streams taken over").count() == 2).then_some(()))
    })?;
    // The hub is full: some have to leave before anybody is heard, more than found no place.
    let _stay: Vec<_> = streams.into_iter().step_by(2).collect();
    let request = Request::get(&format!("{HUB}/subscriptions")).bearer(&hub.subscriber_token()?);
    let names = |text: &str| text.matches("\"active\": true").count();
    let listed = eventually("those without a place have left", PATIENCE, || {
        let answer = exchange(hub.address(), &request)?;
        if answer.status() == 503 {
            return Ok(None);
        }
        answer.expect_status(&[200])?;
        let listed = names(&answer.text());
        let open = hub.metric_sum("gush_subscribers_open")?;
        let have_left = listed as u64 == open && listed <= STREAMS / 2;
        Ok(have_left.then_some(listed))
    })?;
    let taken = hub.metric("gush_streams_taken_over_total")?;
    assert!(taken < Some(STREAMS as u64), "{taken:?}");
    assert!(listed > 0);
    // It is in the log too.
    let told = "/.well-known/mercure/subscriptions/{t}/{s}";
    let request = hub.subscribe_request(&[("topic", told)])?;
    let request = request.header("Last-Event-ID", "earliest");
    let mut stream = SseStream::open(hub.address(), &request)?;
    let (mut came, mut left) = (0, 0);
    while came < STREAMS || left < STREAMS - listed {
        let data = stream.next_event()?.data;
        if data.contains("\"active\": true") {
            came += 1;
        } else {
            left += 1;
        }
    }
    Ok(())
}
