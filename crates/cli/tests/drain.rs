//! SIGTERM: readiness fails, streams are closed over the drain window each with its own retry,
//! publishes are answered to the end and kept, exit 0.

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, eventually, exchange,
};
use std::collections::HashSet;
use std::time::{Duration, Instant};

const TOPIC: &str = "https://drain.example/1";
const STREAMS: usize = 200;
const WINDOW: Duration = Duration::from_secs(2);

/// How one stream ended.
struct Ending {
    /// Since SIGTERM.
    after: Duration,
    /// Told at the end, after the one of the begin.
    retry: Option<u64>,
}

#[test]
fn streams_are_closed_over_the_window_each_with_its_own_retry() -> Outcome<()> {
    let mut hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--drain-window", "2s")
        .start()?;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    let mut publisher = hub.connect()?;
    let request = hub.publish_request(&[("topic", TOPIC), ("data", "in drain")])?;
    publisher.exchange(&request)?.expect_status(&[200])?;
    hub.get("/readyz")?.expect_status(&[200])?;

    hub.sigterm()?;
    let started = Instant::now();
    let (endings, acknowledged) = std::thread::scope(|scope| {
        let readers: Vec<_> = streams
            .into_iter()
            .map(|mut stream| {
                scope.spawn(move || {
                    stream.read_to_end(WINDOW + PATIENCE)?;
                    Ok(Ending {
                        after: started.elapsed(),
                        retry: stream.retry().filter(|_| stream.retries() == 2),
                    })
                })
            })
            .collect();
        let publishing = scope.spawn(|| publish_until_closed(&mut publisher, &request));
        let join = |reader: std::thread::ScopedJoinHandle<'_, Outcome<Ending>>| {
            reader
                .join()
                .map_err(|_| Failure::new("a reader panicked"))?
        };
        let endings = readers.into_iter().map(join).collect::<Outcome<Vec<_>>>();
        let acknowledged = publishing
            .join()
            .map_err(|_| Failure::new("the publisher panicked"));
        endings.and_then(|endings| acknowledged.map(|ids| (endings, ids)))
    })
    .map_err(|f| f.within(hub.output()))?;
    let status = hub.wait_exit(WINDOW + Duration::from_secs(5) + PATIENCE)?;
    if status.code() != Some(0) {
        return Failure::mismatch("exit", "0", format!("{status}\n{}", hub.output()));
    }
    check_spread(endings)?;
    check_kept(&hub, &acknowledged)
}

fn check_spread(mut endings: Vec<Ending>) -> Outcome<()> {
    endings.sort_by_key(|ending| ending.after);
    let retries: HashSet<u64> = endings.iter().filter_map(|ending| ending.retry).collect();
    if endings.iter().any(|ending| ending.retry.is_none()) || retries.len() < STREAMS / 4 {
        return Failure::mismatch("retry of each stream", "its own", format!("{retries:?}"));
    }
    // The middle eight tenths must take a fifth of the window at least: far from all at once, and
    // no demand on how fast this machine is.
    let at = |tenths: usize| endings[STREAMS * tenths / 10].after;
    let spread = at(9).saturating_sub(at(1));
    if spread < WINDOW / 5 {
        return Failure::mismatch("spread of the closes", ">= 400 ms", format!("{spread:?}"));
    }
    Ok(())
}

/// Publishes one after the other until the hub closes the connection; the ids it answered.
fn publish_until_closed(publisher: &mut Connection, request: &Request) -> Vec<String> {
    let mut ids = Vec::new();
    while let Ok(response) = publisher.exchange(request) {
        if response.status() != 200 {
            break;
        }
        ids.push(response.text());
    }
    ids
}

/// Every id that was answered during the drain is in the log.
fn check_kept(stopped: &HubProcess, acknowledged: &[String]) -> Outcome<()> {
    if acknowledged.is_empty() {
        return Err(Failure::new("no publish was answered during the drain"));
    }
    let hub = stopped.builder().start()?;
    let mut stream = hub.subscribe(&[("topic", TOPIC), ("lastEventID", "earliest")])?;
    stream.next_event()?;
    for id in acknowledged {
        let event = stream
            .next_event()
            .map_err(|f| f.within("replaying what was acknowledged"))?;
        if event.id.as_ref() != Some(id) {
            return Failure::mismatch("replayed id", id, format!("{:?}", event.id));
        }
    }
    Ok(())
}

#[test]
fn while_draining_new_streams_are_refused_softly() -> Outcome<()> {
    let mut hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--drain-window", "4s")
        .start()?;
    // Some streams, so that there is something to drain for a while.
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    hub.sigterm()?;
    eventually("readyz 503", PATIENCE, || {
        Ok((hub.get("/readyz")?.status() == 503).then_some(()))
    })
    .map_err(|f| f.within(hub.output()))?;
    hub.get("/healthz")?.expect_status(&[200])?;
    let subscribe = hub.subscribe_request(&[("topic", TOPIC)])?;

    let refused = exchange(hub.address(), &subscribe)?;
    refused.expect_status(&[503])?;
    if refused.header("Retry-After").is_none() {
        return Failure::mismatch("503 while draining", "Retry-After", &refused.head.raw);
    }

    // A browser gives up for good on anything but 200.
    let mut connection = hub.connect()?;
    connection.send_request(&subscribe.clone().header("Accept", "text/event-stream"))?;
    let mut browser = gush_testkit::SseStream::answered(connection)?;
    let events = browser.read_to_end(PATIENCE)?;
    if browser.retry().is_none() || !events.is_empty() {
        let got = format!("{:?}, {events:?}", browser.retry());
        return Failure::mismatch("soft refusal", "a retry, no event, the end", got);
    }
    let publish = hub.publish_request(&[("topic", TOPIC), ("data", "x")])?;
    exchange(hub.address(), &publish)?.expect_status(&[200])?;
    let status = hub.wait_exit(Duration::from_secs(9) + PATIENCE)?;
    if status.success() {
        Ok(())
    } else {
        Failure::mismatch("exit", "0", status)
    }
}

#[test]
fn a_hub_without_streams_ends_well_before_the_window() -> Outcome<()> {
    let mut hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .option("--drain-window", "1m")
        .start()?;
    hub.publish(&[("topic", TOPIC), ("data", "x")])?;
    hub.sigterm()?;
    let status = hub.wait_exit(PATIENCE)?;
    if status.success() {
        Ok(())
    } else {
        Failure::mismatch("exit", "0", status)
    }
}

#[test]
fn subscription_events_of_drained_streams_are_kept() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .disk()
        .subscriptions()
        .option("--drain-window", "500ms");
    let mut hub = builder.start()?;
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(hub.subscribe(&[("topic", TOPIC)])?);
    }
    hub.sigterm()?;
    for stream in &mut streams {
        stream.read_to_end(PATIENCE)?;
    }
    let status = hub.wait_exit(PATIENCE)?;
    if !status.success() {
        return Failure::mismatch("exit", "0", format!("{status}\n{}", hub.output()));
    }
    let hub = builder.start()?;
    let selector = "/.well-known/mercure/subscriptions{/topic}{/subscriber}";
    let mut stream = hub.subscribe(&[("topic", selector), ("lastEventID", "earliest")])?;
    let mut active = std::collections::HashMap::new();
    for _ in 0..20 {
        let event = stream
            .next_event()
            .map_err(|f| f.within(format!("{active:?}")))?;
        let document: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
        let subscriber = document["subscriber"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        active.insert(subscriber, document["active"].as_bool());
        if active.len() > 10 {
            return Err(Failure::new("more subscribers than there were"));
        }
    }
    if active.values().any(|active| *active != Some(false)) {
        return Failure::mismatch("last word on each", "inactive", format!("{active:?}"));
    }
    Ok(())
}

#[test]
fn a_second_signal_does_not_wait_for_the_window() -> Outcome<()> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.disk();
    let mut hub = builder.option("--drain-window", "10m").start()?;
    let id = hub.publish(&[("topic", TOPIC), ("data", "kept")])?;
    let mut stream = hub.subscribe(&[("topic", TOPIC)])?;
    hub.sigterm()?;
    eventually("readyz 503", PATIENCE, || {
        Ok((hub.get("/readyz")?.status() == 503).then_some(()))
    })?;
    hub.sigterm()?;
    hub.wait_exit(PATIENCE)?;
    // In whatever way: somebody wants it gone now.
    let _ = stream.read_to_end(PATIENCE);
    let hub = hub.builder().start()?;
    let mut stream = hub.resume(&[("topic", TOPIC)], "earliest")?;
    let event = stream.expect_data("kept")?;
    if event.id.as_ref() == Some(&id) {
        Ok(())
    } else {
        Failure::mismatch("id", id, format!("{event:?}"))
    }
}
