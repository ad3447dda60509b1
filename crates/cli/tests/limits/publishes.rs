//! What one publisher and one topic may publish, and what may wait for the log.

use crate::support::{HUB, TOPIC, builder, expect_counted, expect_too_many, over_h2, start};
use gush_testkit::{Claims, Failure, HubProcess, Outcome, Request, Response, exchange};

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
