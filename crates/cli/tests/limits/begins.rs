//! How fast streams may begin, and what one may ask for.

use crate::support::{
    HUB, TOPIC, expect_counted, expect_refused, open, start, subscribe, subscribe_as,
};
use gush_testkit::{Failure, Outcome, PATIENCE, Request, SseStream, eventually, exchange};

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

/// Its token has to be checked all the same.
#[test]
fn a_head_request_counts_for_the_rate_of_its_address() -> Outcome<()> {
    let hub = start(&[
        ("--accept-rate-per-address", "1"),
        ("--accept-burst-per-address", "2"),
    ])?;
    let topic = gush_testkit::encode_component(TOPIC);
    let bad = Request::new("HEAD", &format!("{HUB}?topic={topic}")).bearer("not.a.token");
    let mut refused_answers = 0;
    for _ in 0..20 {
        let answer = exchange(hub.address(), &bad)?;
        answer.expect_status(&[401, 429])?;
        refused_answers += u64::from(answer.status() == 429);
    }
    assert!(refused_answers > 0, "20 were let in at one a second");
    expect_counted(&hub, "accept_rate_per_address", refused_answers)
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
