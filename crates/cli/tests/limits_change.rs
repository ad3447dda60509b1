//! Limits that change while streams go on: on the admin listener and by a reload.

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, Response, SseStream,
    eventually, exchange,
};

const TOPIC: &str = "https://limits-change.example/1";

fn start(options: &[(&str, &str)]) -> Outcome<HubProcess> {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    for (name, value) in options {
        builder = builder.option(name, value);
    }
    builder.start()
}

fn patch(hub: &HubProcess, body: &str) -> Outcome<Response> {
    let request = Request::new("PATCH", "/limits").header("Content-Type", "application/json");
    exchange(hub.admin()?, &request.body(body))
}

fn limits(hub: &HubProcess) -> Outcome<serde_json::Value> {
    let answer = hub.get_admin("/limits")?;
    answer.expect_status(&[200])?;
    parse(&answer)
}

fn parse(answer: &Response) -> Outcome<serde_json::Value> {
    serde_json::from_slice(&answer.body).map_err(|error| Failure::new(error.to_string()))
}

fn expect_value(value: &serde_json::Value, wanted: impl Into<serde_json::Value>) -> Outcome<()> {
    let wanted = wanted.into();
    if *value == wanted {
        return Ok(());
    }
    Failure::mismatch("limit", wanted, value)
}

fn subscribed(hub: &HubProcess) -> Outcome<Result<SseStream, u16>> {
    let mut connection = hub.connect()?;
    connection.send_request(&hub.subscribe_request(&[("topic", TOPIC)])?)?;
    match SseStream::answered(connection) {
        Ok(stream) => Ok(Ok(stream)),
        Err(failure) => {
            let text = failure.to_string();
            let status = ["429", "503"].iter().find(|status| text.contains(**status));
            match status {
                Some(status) => Ok(Err(status.parse().unwrap_or(0))),
                None => Err(failure),
            }
        }
    }
}

fn expect_refused(hub: &HubProcess, wanted: u16) -> Outcome<()> {
    match subscribed(hub)? {
        Err(status) if status == wanted => Ok(()),
        other => Failure::mismatch("subscribe", wanted, format!("{other:?}")),
    }
}

fn stream(hub: &HubProcess) -> Outcome<SseStream> {
    hub.subscribe(&[("topic", TOPIC)])
        .map_err(|f| f.within(hub.output()))
}

fn expect_all_alive(hub: &HubProcess, streams: &mut [SseStream], data: &str) -> Outcome<()> {
    hub.publish_on_admin(&[("topic", TOPIC), ("data", data)])?;
    for stream in streams {
        stream.expect_data(data)?;
    }
    Ok(())
}

#[test]
fn max_connections_changes_both_ways_and_no_stream_ends() -> Outcome<()> {
    let hub = start(&[])?;
    let mut streams = (0..5).map(|_| stream(&hub)).collect::<Outcome<Vec<_>>>()?;
    let answer = patch(&hub, r#"{"max_connections": 3}"#)?;
    answer.expect_status(&[200])?;
    expect_value(&parse(&answer)?["max_connections"], 3)?;
    expect_refused(&hub, 503)?;
    expect_all_alive(&hub, &mut streams, "lowered")?;
    hub.wait_metric("gush_connections_max", |max| max == 3)?;
    // Below the new limit there is room again.
    streams.truncate(2);
    streams.push(eventually("room", PATIENCE, || Ok(subscribed(&hub)?.ok()))?);
    expect_refused(&hub, 503)?;
    patch(&hub, r#"{"max_connections": 4}"#)?.expect_status(&[200])?;
    streams.push(stream(&hub)?);
    expect_refused(&hub, 503)?;
    patch(&hub, r#"{"max_connections": 0}"#)?.expect_status(&[200])?;
    streams.push(stream(&hub)?);
    expect_all_alive(&hub, &mut streams, "raised")
}

#[test]
fn more_connections_than_descriptors_are_refused_with_the_most_possible() -> Outcome<()> {
    let Some(builder) = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.with_descriptors(1024) else {
        return Ok(());
    };
    let hub = builder.option("--descriptor-tables", "shared").start()?;
    let mut streams = vec![stream(&hub)?];
    let answer = patch(&hub, r#"{"max_connections": 100000, "accept_rate": 7}"#)?;
    answer.expect_status(&[400])?;
    let possible = hub.metric("gush_connections_max")?.unwrap_or(0);
    let is_told = answer.text().contains(&format!("more than the {possible}"));
    if !is_told || possible >= 1024 {
        return Failure::mismatch("reason", possible, answer.text());
    }
    expect_value(&limits(&hub)?["accept_rate"], 0)?;
    let most = format!("{{\"max_connections\": {possible}}}");
    patch(&hub, &most)?.expect_status(&[200])?;
    expect_all_alive(&hub, &mut streams, "still")
}

#[test]
fn limits_per_address_and_subject_hold_for_what_is_open_already() -> Outcome<()> {
    let hub = start(&[])?;
    let mut streams = (0..3).map(|_| stream(&hub)).collect::<Outcome<Vec<_>>>()?;
    patch(&hub, r#"{"max_connections_per_address": 3}"#)?.expect_status(&[200])?;
    expect_refused(&hub, 429)?;
    expect_all_alive(&hub, &mut streams, "limited")?;
    patch(&hub, r#"{"max_connections_per_address": 4}"#)?.expect_status(&[200])?;
    streams.push(stream(&hub)?);
    expect_refused(&hub, 429)?;
    patch(&hub, r#"{"exempt_network": ["127.0.0.0/8"]}"#)?.expect_status(&[200])?;
    streams.push(stream(&hub)?);
    patch(
        &hub,
        r#"{"exempt_network": null, "max_connections_per_address": null}"#,
    )?
    .expect_status(&[200])?;
    streams.push(stream(&hub)?);
    expect_all_alive(&hub, &mut streams, "unlimited")
}

#[test]
fn rates_and_windows_change_at_once() -> Outcome<()> {
    let hub = start(&[])?;
    let mut streams = vec![stream(&hub)?];
    patch(&hub, r#"{"accept_rate": 1, "accept_burst": 1}"#)?.expect_status(&[200])?;
    eventually("a refusal", PATIENCE, || {
        Ok(subscribed(&hub)?.err().filter(|status| *status == 429))
    })?;
    patch(&hub, r#"{"accept_rate": 0}"#)?.expect_status(&[200])?;
    streams.push(stream(&hub)?);
    // A connection that is open already is concerned too.
    let mut publisher = hub.connect()?;
    let publish = hub.publish_request(&[("topic", TOPIC), ("data", "x")])?;
    publisher.exchange(&publish)?.expect_status(&[200])?;
    patch(
        &hub,
        r#"{"publish_rate_per_topic": 1, "publish_window": "1h"}"#,
    )?
    .expect_status(&[200])?;
    publisher.exchange(&publish)?.expect_status(&[200])?;
    publisher.exchange(&publish)?.expect_status(&[429])?;
    patch(&hub, r#"{"publish_rate_per_topic": 2}"#)?.expect_status(&[200])?;
    publisher.exchange(&publish)?.expect_status(&[200])?;
    publisher.exchange(&publish)?.expect_status(&[429])?;
    patch(&hub, r#"{"max_topics_per_stream": 1}"#)?.expect_status(&[200])?;
    let two = hub.subscribe_request(&[("topic", "a"), ("topic", "b")])?;
    exchange(hub.address(), &two)?.expect_status(&[400])?;
    patch(&hub, r#"{"max_body": "1KiB"}"#)?.expect_status(&[200])?;
    let large = hub.publish_request(&[("topic", "l"), ("data", &"x".repeat(2000))])?;
    publisher.exchange(&large)?.expect_status(&[400, 413])?;
    for data in ["x", "x", "x"] {
        streams[0].expect_data(data)?;
    }
    Ok(())
}

#[test]
fn a_change_is_all_or_nothing_and_says_everything_that_is_wrong() -> Outcome<()> {
    let hub = start(&[("--accept-rate", "10")])?;
    let before = limits(&hub)?;
    for (body, words) in [
        (
            r#"{"accept_rate": 5, "accept_burst": "lots", "shards": 2}"#,
            &[
                "accept_burst: is not a whole number",
                "shards: needs a restart",
            ][..],
        ),
        (
            r#"{"accept_rate": 5, "acept_rate": 5}"#,
            &["did you mean accept_rate?"],
        ),
        (
            r#"{"accept_rate": 5, "publisher_key": "x"}"#,
            &["publisher_key: is no limit"],
        ),
        (r#"{"accept_rate": 5.5}"#, &["accept_rate: "]),
        (
            r#"{"accept_rate": 99999999}"#,
            &["accept_rate: is out of range"],
        ),
        (
            r#"{"exempt_network": ["10.0.0.0/99"]}"#,
            &["exempt_network: "],
        ),
        (r#"["accept_rate"]"#, &["JSON object"]),
        ("accept_rate=5", &["JSON object"]),
        ("", &["JSON object"]),
    ] {
        let answer = patch(&hub, body)?;
        answer.expect_status(&[400])?;
        let text = answer.text();
        if !words.iter().all(|part| text.contains(part)) {
            return Failure::mismatch(body, format!("{words:?}"), text);
        }
    }
    if limits(&hub)? != before {
        return Failure::mismatch("limits", before, limits(&hub)?);
    }
    expect_value(&before["accept_rate"], 10)
}

#[test]
fn a_change_is_logged() -> Outcome<()> {
    let hub = start(&[])?;
    patch(&hub, r#"{"accept_rate": 50, "publish_window": "2s"}"#)?.expect_status(&[200])?;
    let line = hub.wait_stderr(&["limits changed", "accept_rate = 50"])?;
    if line.contains("publish_window = 2s") && !line.contains("max_body") {
        return Ok(());
    }
    Failure::mismatch("log line", "what has changed, and only that", line)
}

#[test]
fn limits_are_for_the_admin_listener_and_not_for_web_pages() -> Outcome<()> {
    let hub = start(&[("--cors-origin", "https://page.example")])?;
    hub.get("/limits")?.expect_status(&[404])?;
    let change = Request::new("PATCH", "/limits").header("Content-Type", "application/json");
    let body = r#"{"accept_rate": 5}"#;
    exchange(hub.address(), &change.clone().body(body))?.expect_status(&[404])?;
    let admin = hub.admin()?;
    let from_page = change.clone().header("Origin", "https://page.example");
    exchange(admin, &from_page.body(body))?.expect_status(&[403])?;
    let as_form = Request::new("PATCH", "/limits").header("Content-Type", "text/plain");
    exchange(admin, &as_form.body(body))?.expect_status(&[415])?;
    let large = format!("{{\"accept_rate\": 5{}}}", " ".repeat(100_000));
    exchange(admin, &change.body(large))?.expect_status(&[400, 413])?;
    let answer = exchange(admin, &Request::new("POST", "/limits").body(body))?;
    answer.expect_status(&[405])?;
    answer
        .head
        .expect_header("Allow", "GET, HEAD, PATCH, OPTIONS")?;
    expect_value(&limits(&hub)?["accept_rate"], 0)
}

#[test]
fn what_is_told_can_be_sent_back() -> Outcome<()> {
    let hub = start(&[("--accept-rate", "10"), ("--exempt-network", "10.0.0.0/8")])?;
    let told = limits(&hub)?;
    let answer = patch(&hub, &told.to_string())?;
    answer.expect_status(&[200])?;
    if parse(&answer)? == told && limits(&hub)? == told {
        return Ok(());
    }
    Failure::mismatch("limits", told, answer.text())
}

/// A hub with this file.
fn with_file(text: &str) -> Outcome<(HubProcess, std::path::PathBuf)> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    let file = builder.directory().join("gush.toml");
    std::fs::write(&file, text)?;
    let path = file.display().to_string();
    Ok((builder.option("--config", &path).start()?, file))
}

#[test]
fn a_reload_changes_limits_while_streams_go_on() -> Outcome<()> {
    let (hub, file) = with_file("max_connections = 10\n")?;
    let mut streams = (0..3).map(|_| stream(&hub)).collect::<Outcome<Vec<_>>>()?;
    std::fs::write(
        &file,
        "max_connections = 3\naccept_rate_per_address = 1000\n",
    )?;
    hub.signal("HUP")?;
    hub.wait_metric("gush_connections_max", |max| max == 3)?;
    expect_refused(&hub, 503)?;
    expect_all_alive(&hub, &mut streams, "lowered")?;
    expect_value(&limits(&hub)?["accept_rate_per_address"], 1000)?;
    // What the admin listener changed holds until the next reload.
    patch(&hub, r#"{"max_connections": 4}"#)?.expect_status(&[200])?;
    streams.push(stream(&hub)?);
    hub.signal("HUP")?;
    hub.wait_metric("gush_connections_max", |max| max == 3)?;
    expect_refused(&hub, 503)?;
    expect_all_alive(&hub, &mut streams, "reloaded")
}

#[test]
fn a_reload_with_too_many_connections_changes_nothing() -> Outcome<()> {
    let (hub, file) = with_file("max_connections = 10\n")?;
    let mut streams = vec![stream(&hub)?];
    std::fs::write(&file, "max_connections = 16000000\naccept_rate = 5\n")?;
    hub.signal("HUP")?;
    hub.wait_stderr(&["not reloaded", "max_connections"])?;
    expect_value(&limits(&hub)?["max_connections"], 10)?;
    expect_value(&limits(&hub)?["accept_rate"], 0)?;
    expect_all_alive(&hub, &mut streams, "still")
}

#[test]
fn a_publish_path_is_not_touched_by_a_change_on_another_connection() -> Outcome<()> {
    let hub = start(&[])?;
    let mut stream = stream(&hub)?;
    let mut publisher: Connection = hub.connect()?;
    for number in 0..40_u32 {
        let data = number.to_string();
        let rate = 1000 + number;
        patch(&hub, &format!("{{\"publish_rate_per_publisher\": {rate}}}"))?
            .expect_status(&[200])?;
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &data)])?;
        publisher.exchange(&request)?.expect_status(&[200])?;
        stream.expect_data(&data)?;
    }
    Ok(())
}
