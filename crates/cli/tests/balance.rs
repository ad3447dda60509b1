//! `gush drain`: streams are closed at a rate, each with its own retry, and the hub goes on.

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, ProgramLink, Request,
    SseStream, eventually, exchange,
};
use std::process::{Command, Output};

const TOPIC: &str = "https://balance.example/1";
const CLOSED: &str = "gush_streams_closed_total{reason=\"rebalance\"}";

fn gush(hub: &HubProcess, arguments: &[&str]) -> Outcome<Output> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gush"));
    command.args(arguments);
    command.args(["--admin", &hub.admin()?.to_string()]);
    Ok(command.output()?)
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

#[test]
fn a_share_of_the_streams_is_closed_and_the_hub_goes_on() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    hub.wait_metric("mercure_subscribers_connected", |open| open == 10)?;
    let output = gush(&hub, &["drain", "--rate", "1000", "--share", "40%"])?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).starts_with("closing 4 of 10 streams, 1000 a second"));
    hub.wait_metric(CLOSED, |closed| closed == 4)?;
    // The hub is ready, and takes new streams.
    hub.get("/readyz")?.expect_status(&[200])?;
    let mut new = hub.subscribe(&[("topic", TOPIC)])?;
    hub.publish(&[("topic", TOPIC), ("data", "x")])?;
    new.expect_data("x")?;
    let mut left = 0;
    for mut stream in streams {
        match stream.next_event() {
            Ok(event) => {
                assert_eq!(event.data, "x");
                left += 1;
            }
            Err(_) => assert_eq!(stream.retries(), 2, "each ends with its own retry"),
        }
    }
    assert_eq!(left, 6);
    Ok(())
}

#[test]
fn an_order_is_cancelled() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    hub.wait_metric("mercure_subscribers_connected", |open| open == 5)?;
    // The first goes within a second; the last would in five.
    let output = gush(&hub, &["drain", "--rate", "1", "--json"])?;
    assert_eq!(said(&output).trim(), r#"{"closing":5,"open":5,"rate":1}"#);
    let output = gush(&hub, &["drain", "--cancel"])?;
    assert!(
        said(&output).starts_with("stopped after "),
        "{}",
        said(&output)
    );
    let output = gush(&hub, &["drain", "--cancel", "--json"])?;
    assert_eq!(said(&output).trim(), r#"{"cancelled":false}"#);
    assert!(hub.metric("mercure_subscribers_connected")? > Some(0));
    Ok(())
}

/// A rate is the server's, and the order is for those who were there: who comes back meanwhile, or
/// comes anew, keeps its stream, and the order ends.
#[test]
fn streams_that_come_later_are_left_alone() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--shards", "3")
        .start()?;
    let mut old = Vec::new();
    for _ in 0..30 {
        old.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    hub.wait_metric("mercure_subscribers_connected", |open| open == 30)?;
    // The first of them at once, so that their places are free for the new ones.
    let begun = order(&hub, r#"{"rate":20}"#)?;
    assert_eq!(begun, r#"{"closing":30,"open":30,"rate":20}"#);
    hub.wait_metric(CLOSED, |closed| closed >= 4)?;
    let mut new = Vec::new();
    for _ in 0..30 {
        new.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    for stream in &mut old {
        stream.read_to_end(PATIENCE)?;
        assert_eq!(stream.retries(), 2);
    }
    let done = eventually("done", PATIENCE, || {
        let told = status(&hub)?;
        Ok((told["state"] == "done").then_some(told))
    })?;
    let of = |name: &str| done[name].as_u64();
    assert_eq!(
        (of("closing"), of("closed"), of("left")),
        (Some(30), Some(30), Some(0)),
        "{done}"
    );
    assert_eq!(hub.metric(CLOSED)?, Some(30));
    assert_eq!(hub.metric("gush_drain_left")?, Some(0));
    hub.publish(&[("topic", TOPIC), ("data", "still here")])?;
    for stream in &mut new {
        stream.expect_data("still here")?;
    }
    Ok(())
}

/// Some of those that were to be closed leave by themselves: the order ends all the same.
#[test]
fn an_order_ends_when_those_it_was_for_have_left() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    hub.wait_metric("mercure_subscribers_connected", |open| open == 10)?;
    order(&hub, r#"{"rate":5}"#)?;
    drop(streams);
    let done = eventually("done", PATIENCE, || {
        let told = status(&hub)?;
        Ok((told["state"] == "done").then_some(told))
    })?;
    assert!(done["closed"].as_u64() < Some(10), "{done}");
    Ok(())
}

/// `--refuse` empties a hub: nobody new gets a stream, softly, and the balancer is told.
#[test]
fn a_hub_that_is_emptied_takes_nobody_in() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    hub.wait_metric("mercure_subscribers_connected", |open| open == 10)?;
    let output = gush(&hub, &["drain", "--rate", "40", "--refuse", "--wait"])?;
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        text,
        "closing 10 of 10 streams, 40 a second: done in 1 s\n\
         done: closed 10 of 10 streams; new streams are refused\n"
    );
    for stream in &mut streams {
        stream.read_to_end(PATIENCE)?;
    }
    hub.get("/readyz")?.expect_status(&[503])?;
    let subscribe = hub.subscribe_request(&[("topic", TOPIC)])?;
    exchange(hub.address(), &subscribe)?.expect_status(&[503])?;
    let mut connection = hub.connect()?;
    connection.send_request(&subscribe.header("Accept", "text/event-stream"))?;
    let mut browser = SseStream::answered(connection)?;
    assert!(browser.read_to_end(PATIENCE)?.is_empty());
    assert!(browser.retry().is_some());
    // Publishers are no matter of balance.
    hub.publish(&[("topic", TOPIC), ("data", "x")])?;
    let output = gush(&hub, &["drain", "--cancel"])?;
    assert_eq!(said(&output), "new streams are taken again\n");
    hub.get("/readyz")?.expect_status(&[200])?;
    hub.subscribe(&[("topic", TOPIC)])?;
    Ok(())
}

/// Whoever waits for an order is told when it does not come to its end.
#[test]
fn how_far_it_is_is_told() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    assert_eq!(
        status(&hub)?.to_string(),
        r#"{"refusing":false,"state":"idle"}"#
    );
    let output = gush(&hub, &["drain", "--status"])?;
    assert_eq!(said(&output), "no streams are being closed\n");
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    hub.wait_metric("mercure_subscribers_connected", |open| open == 5)?;
    order(&hub, r#"{"rate":1}"#)?;
    hub.wait_metric("gush_drain_left", |left| (1..=5).contains(&left))?;
    let told = status(&hub)?;
    assert_eq!(
        (&told["state"], &told["rate"], told["closing"].as_u64()),
        (&"closing".into(), &1.into(), Some(5)),
        "{told}"
    );
    let response = exchange(hub.admin()?, &Request::new("DELETE", "/drain"))?;
    response.expect_status(&[200])?;
    let text = response.text();
    assert!(text.starts_with(r#"{"cancelled":true,"#), "{text}");
    let output = gush(&hub, &["drain", "--status"])?;
    assert!(said(&output).starts_with("cancelled after "));
    assert_eq!(hub.metric("gush_drain_left")?, Some(0));
    // Another order takes the place of one that somebody waits for.
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| gush(&hub, &["drain", "--rate", "1", "--wait"]));
        hub.wait_metric("gush_drain_left", |left| left > 0)?;
        gush(&hub, &["drain", "--cancel"])?;
        waiting.join().map_err(|_| Failure::new("it panicked"))?
    })?;
    assert_eq!(waiting.status.code(), Some(1), "{}", said(&waiting));
    Ok(())
}

fn order(hub: &HubProcess, body: &str) -> Outcome<String> {
    let response = exchange(hub.admin()?, &Request::new("POST", "/drain").body(body))?;
    response.expect_status(&[200])?;
    Ok(response.text())
}

fn status(hub: &HubProcess) -> Outcome<serde_json::Value> {
    let response = hub.get_admin("/drain")?;
    response.expect_status(&[200])?;
    serde_json::from_str(&response.text()).map_err(|e| Failure::new(e.to_string()))
}

#[test]
fn an_order_that_never_comes_is_not_waited_for() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--body-timeout", "1s")
        .start()?;
    for framing in [
        "Content-Length: 10\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n5\r\n{",
    ] {
        let mut connection = Connection::open(hub.admin()?)?;
        let head = format!("POST /drain HTTP/1.1\r\nHost: h\r\n{framing}");
        connection.send(head.as_bytes())?;
        let refused = connection.read_response()?;
        refused.expect_status(&[400])?;
        assert!(refused.text().contains("too long"), "{}", refused.text());
    }
    Ok(())
}

#[test]
fn what_is_no_order_is_refused() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    for (body, says) in [
        ("", "drain: "),
        ("{}", "rate has to be"),
        (r#"{"rate":0}"#, "rate has to be"),
        (r#"{"rate":1,"count":1,"share":1}"#, "either count or share"),
        (r#"{"rate":1,"share":0}"#, "share has to be"),
        (r#"{"cancel":true,"rate":1}"#, "cancel stands alone"),
        (r#"{"rat":1}"#, "rat"),
    ] {
        let response = exchange(hub.admin()?, &Request::new("POST", "/drain").body(body))?;
        response.expect_status(&[400])?;
        assert!(
            response.text().contains(says),
            "{body}: {}",
            response.text()
        );
    }
    // Orders are not for web pages, not even the one to stop.
    for method in ["POST", "DELETE"] {
        let of_page = Request::new(method, "/drain").header("Origin", "https://page.example");
        exchange(hub.admin()?, &of_page.body(r#"{"rate":1}"#))?.expect_status(&[403])?;
    }
    let unknown = exchange(hub.admin()?, &Request::new("PUT", "/drain"))?;
    unknown.expect_status(&[405])?;
    assert_eq!(
        unknown.header("Allow"),
        Some("GET, HEAD, POST, DELETE, OPTIONS")
    );
    exchange(hub.address(), &Request::get("/drain"))?.expect_status(&[404])?;
    for wrong in [
        &["drain"][..],
        &["drain", "--rate", "0"],
        &["drain", "--count", "1"],
        &["drain", "--refuse"],
        &["drain", "--wait"],
        &["drain", "--status", "--cancel"],
    ] {
        assert_eq!(gush(&hub, wrong)?.status.code(), Some(2), "{wrong:?}");
    }
    Ok(())
}

/// The outcome of an upgrade is the command's exit code.
#[test]
fn gush_upgrade_says_what_happened() -> Outcome<()> {
    let link = ProgramLink::to(env!("CARGO_BIN_EXE_gush"))?;
    let mut hub = HubBuilder::new(link.path())?.start()?;
    let output = gush(&hub, &["upgrade", "--json"])?;
    assert!(output.status.success(), "{}", said(&output));
    let digits: String = said(&output).chars().filter(char::is_ascii_digit).collect();
    hub.follow(digits.parse().unwrap_or_default());
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    link.remove()?;
    let output = gush(&hub, &["upgrade"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains("the old process goes on: "),
        "{}",
        said(&output)
    );
    hub.get("/readyz")?.expect_status(&[200])?;
    Ok(())
}
