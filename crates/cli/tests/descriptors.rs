//! A hub whose descriptors run out under way: it answers by means of a spare one, goes on with what
//! is open, does not ask in vain, and accepts again when there are some.

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Response, eventually, exchange,
};
use std::process::Command;

const TOPIC: &str = "https://descriptors.example/1";
const ERRORS: &str = "gush_accept_errors_total{reason=\"descriptors\"}";

/// Changes the limit of a running process, with the `prlimit` program; `false` where there is none.
fn set_limit(hub: &HubProcess, count: u64) -> Outcome<bool> {
    let changed = Command::new("prlimit")
        .args(["--pid", &hub.pid().to_string()])
        .arg(format!("--nofile={count}:"))
        .status();
    match changed {
        Ok(status) if status.success() => Ok(true),
        Ok(status) => Err(Failure::new(format!("prlimit: {status}"))),
        Err(_) => Ok(false),
    }
}

/// The lowest number that no descriptor has: some may have high ones from whoever started the hub.
fn lowest_free(hub: &HubProcess) -> Outcome<u64> {
    let mut taken = std::collections::HashSet::new();
    for entry in std::fs::read_dir(format!("/proc/{}/fd", hub.pid()))? {
        taken.insert(entry?.file_name().to_string_lossy().parse::<u64>().ok());
    }
    (0..1 << 20)
        .find(|number| !taken.contains(&Some(*number)))
        .ok_or_else(|| Failure::new("a full table"))
}

fn event_source(hub: &HubProcess) -> Outcome<gush_testkit::Request> {
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    Ok(request.header("Accept", "text/event-stream"))
}

/// Streams until one is refused.
fn fill(hub: &HubProcess) -> Outcome<Vec<Connection>> {
    let mut streams = Vec::new();
    for _ in 0..200 {
        let mut connection = hub.connect()?;
        connection.send_request(&event_source(hub)?)?;
        let head = connection.read_head(gush_testkit::Deadline::after(PATIENCE))?;
        head.expect_status(&[200])?;
        if head.header("Content-Length").is_some() {
            // A stream has none: this is a soft refusal.
            return Ok(streams);
        }
        streams.push(connection);
    }
    Failure::mismatch("descriptors", "an end of them", hub.output())
}

fn publish_on(connection: &mut Connection, hub: &HubProcess, data: &str) -> Outcome<()> {
    let request = hub.publish_request(&[("topic", TOPIC), ("data", data)])?;
    connection.exchange(&request)?.expect_status(&[200])
}

fn errors(hub: &HubProcess) -> Outcome<u64> {
    Ok(hub.metric(ERRORS)?.unwrap_or(0))
}

#[test]
fn without_descriptors_the_hub_answers_and_goes_on_and_recovers() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--descriptor-tables", "shared")
        .option("--brownout-descriptors", "off")
        .start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let mut publisher = hub.connect()?;
    publish_on(&mut publisher, &hub, "before")?;
    stream.expect_data("before")?;
    if !set_limit(&hub, lowest_free(&hub)? + 3)? {
        return Ok(());
    }
    let mut streams = fill(&hub)?;

    // What is open goes on, and whoever comes is answered.
    publish_on(&mut publisher, &hub, "during")?;
    stream.expect_data("during")?;
    hub.get("/healthz")?.expect_status(&[200])?;
    hub.get("/readyz")?.expect_status(&[200])?;
    let program = hub.subscribe_request(&[("topic", TOPIC)])?;
    let refused: Response = exchange(hub.address(), &program)?;
    refused.expect_status(&[503])?;
    refused.problem()?;
    hub.get_admin("/healthz")?.expect_status(&[200])?;

    // It asks when somebody comes, not in between: as often as there are newcomers, and a little.
    let before = errors(&hub)?;
    for number in 0..300 {
        publish_on(&mut publisher, &hub, &number.to_string())?;
        stream.expect_data(&number.to_string())?;
    }
    let between = errors(&hub)? - before;
    assert!(between <= 10, "{between} accepts in vain");
    for _ in 0..20 {
        exchange(hub.address(), &event_source(&hub)?)?.expect_status(&[200])?;
    }
    let with_newcomers = errors(&hub)? - before - between;
    assert!((20..=60).contains(&with_newcomers), "{with_newcomers}");

    // With one stream less there is a descriptor again.
    assert!(set_limit(&hub, 1024)?);
    streams.pop();
    eventually("a stream", PATIENCE, || {
        let mut more = hub.subscribe(&[("topic", TOPIC)])?;
        publish_on(&mut publisher, &hub, "after")?;
        more.expect_data("after").map(Some)
    })?;
    hub.wait_stderr(&["there are descriptors again"])?;
    // Once for each of the two listeners, however many were refused.
    let log = hub.stderr();
    let told = log.matches("out of descriptors").count();
    assert!((1..=2).contains(&told), "{log}");
    Ok(())
}

/// A stream's answer for who has a token, and for who has none.
fn subscribes(hub: &HubProcess) -> Outcome<[u16; 2]> {
    let target = "/.well-known/mercure?topic=x";
    let anonymous = gush_testkit::Request::new("HEAD", target);
    let known = anonymous.clone().bearer(&hub.subscriber_token()?);
    let [known, anonymous] = [known, anonymous].map(|request| exchange(hub.address(), &request));
    Ok([known?.status(), anonymous?.status()])
}

/// The steps that the log tells of, in order, each with the source that led to it.
fn steps_told(hub: &HubProcess) -> Vec<(char, bool)> {
    let log = hub.stderr();
    let told = log.lines().filter_map(|line| {
        let (_, rest) = line.split_once("brownout")?;
        let (_, step) = rest.split_once("step=")?;
        Some((step.chars().next()?, line.contains("descriptors")))
    });
    told.collect()
}

#[test]
fn the_brownout_by_descriptors_refuses_newcomers_and_recedes() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .anonymous()
        .option("--descriptor-tables", "shared")
        .option("--brownout-descriptors", "40")
        .option("--brownout-dwell", "250ms")
        .option("--brownout-turn", "off")
        .option("--brownout-memory", "off")
        .start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    let open = std::fs::read_dir(format!("/proc/{}/fd", hub.pid()))?.count() as u64;
    // The steps begin at 40 and at 55 percent, and some are open only while the test asks.
    for (percent, step, answers) in [(44, 1, [200, 503]), (65, 2, [503, 503])] {
        if !set_limit(&hub, open * 100 / percent)? {
            return Ok(());
        }
        hub.wait_metric("gush_brownout_step", |now| now == step)?;
        assert_eq!(subscribes(&hub)?, answers, "on step {step}");
        hub.get("/healthz")?.expect_status(&[200])?;
        hub.get("/readyz")?.expect_status(&[200])?;
        hub.publish(&[("topic", TOPIC), ("data", "still")])?;
        stream.expect_data("still")?;
    }
    assert!(set_limit(&hub, 1024)?);
    hub.wait_metric("gush_brownout_step", |now| now == 0)?;
    assert_eq!(subscribes(&hub)?, [200, 200]);
    // It goes down a step before it says so.
    hub.wait_stderr(&["brownout recedes: everything is served"])?;
    let told = [('1', true), ('2', true), ('1', false), ('0', false)];
    assert_eq!(steps_told(&hub), told, "{}", hub.stderr());
    Ok(())
}
