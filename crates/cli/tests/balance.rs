//! `gush drain`: streams are closed at a rate, each with its own retry, and the hub goes on.

use gush_testkit::{HubBuilder, HubProcess, Outcome, PATIENCE, Request, exchange};
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
            Err(_) => assert!(stream.retry().is_some(), "each ends with its own retry"),
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
    exchange(hub.admin()?, &Request::get("/drain"))?.expect_status(&[405])?;
    for wrong in [
        &["drain"][..],
        &["drain", "--rate", "0"],
        &["drain", "--count", "1"],
    ] {
        assert_eq!(gush(&hub, wrong)?.status.code(), Some(2), "{wrong:?}");
    }
    Ok(())
}

/// The outcome of an upgrade is the command's exit code.
#[test]
fn gush_upgrade_says_what_happened() -> Outcome<()> {
    let directory = tempfile::tempdir()?;
    let link = directory.path().join("gush");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_gush"), &link)?;
    let mut hub = HubBuilder::new(&link)?.start()?;
    let output = gush(&hub, &["upgrade", "--json"])?;
    assert!(output.status.success(), "{}", said(&output));
    let digits: String = said(&output).chars().filter(char::is_ascii_digit).collect();
    hub.follow(digits.parse().unwrap_or_default());
    assert_eq!(hub.wait_exit(PATIENCE)?.code(), Some(0));
    std::fs::remove_file(&link)?;
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
