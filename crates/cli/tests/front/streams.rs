//! Streams through the deployed configurations, byte for byte.

use gush_testkit::{
    Deadline, Failure, HubProcess, Outcome, PATIENCE, Request, SseItem, SseStream, eventually,
};
use std::time::Duration;

use crate::curl::{self, version};
use crate::proxy::{Edit, Front, HUB, Kind, hub, subscribe};

const TOPIC: &str = "https://front.example/1";

/// The timeouts of the deployed files, made short.
const QUICK_NGINX: &[Edit] = &[("proxy_read_timeout 5m;", "proxy_read_timeout 2s;")];
const QUICK_HAPROXY: &[Edit] = &[
    ("timeout client       5m", "timeout client 2s"),
    ("timeout server       5m", "timeout server 2s"),
];
/// Room for two streams.
const FULL_NGINX: &[Edit] = &[("gush_streams 10000;", "gush_streams 2;")];
const FULL_HAPROXY: &[Edit] = &[("be_conn gt 10000", "be_conn gt 2")];
/// A header that tells the configuration after the reload from the one before.
const MARKED_NGINX: &[Edit] = &[(
    "location = /healthz {",
    "location = /healthz { add_header X-Reloaded yes;",
)];
const MARKED_HAPROXY: &[Edit] = &[(
    "    default_backend gush\n",
    "    http-response set-header X-Reloaded yes\n    default_backend gush\n",
)];

fn publish(hub: &HubProcess, data: &str) -> Outcome<String> {
    hub.publish(&[("topic", TOPIC), ("data", data)])
}

/// Each event is published only when the one before has been read: nothing is kept for later.
fn at_once(kind: Kind) -> Outcome<()> {
    let hub = hub(&[])?;
    let front = Front::start(kind, &hub, &[])?;
    let mut stream = front.subscribe(&hub, TOPIC)?;
    let first = stream.next_item(Deadline::after(PATIENCE))?;
    if !matches!(first, Some(SseItem::Comment(_))) {
        return Failure::mismatch("first item", "a comment", format!("{first:?}"));
    }
    let over_h2 = curl::subscribe(&front, &hub, TOPIC)?;
    for n in 0..20 {
        let request = hub.publish_request(&[("topic", TOPIC), ("data", &n.to_string())])?;
        front.exchange(&request)?.expect_status(&[200])?;
        stream.expect_data(&n.to_string())?;
        over_h2.expect_data(&n.to_string())?;
    }
    let big = "0123456789abcdef".repeat(20_000);
    publish(&hub, &big)?;
    stream.expect_data(&big)?;
    over_h2.expect_data(&big)?;
    let got = version(&front)?;
    if got == "2 200" {
        return Ok(());
    }
    Failure::mismatch("version and status", "2 200", got)
}

#[test]
fn nginx_hands_on_each_event_at_once() -> Outcome<()> {
    at_once(Kind::Nginx)
}

#[test]
fn haproxy_hands_on_each_event_at_once() -> Outcome<()> {
    at_once(Kind::HaProxy)
}

/// With heartbeats a stream outlives the proxy's timeouts; without them it is cut, which shows
/// that the timeouts were there.
fn lives_by_heartbeats(kind: Kind, quick: &[Edit]) -> Outcome<()> {
    let beating = hub(&[("--heartbeat", "500ms")])?;
    let front = Front::start(kind, &beating, quick)?;
    let mut stream = front.subscribe(&beating, TOPIC)?;
    let deadline = Deadline::after(PATIENCE);
    // Fourteen take 7 s, three times the timeout.
    while stream.comments() < 15 {
        if stream.next_item(deadline)?.is_none() {
            return Err(Failure::new("cut in spite of heartbeats"));
        }
    }
    publish(&beating, "still there")?;
    stream.expect_data("still there")?;

    let silent = hub(&[("--heartbeat", "off")])?;
    let front = Front::start(kind, &silent, quick)?;
    let mut stream = front.subscribe(&silent, TOPIC)?;
    let cut = stream.read_to_end(PATIENCE);
    // An end, or the middle of an answer; only no end at all would be wrong.
    match cut {
        Ok(events) if !events.is_empty() => {
            Failure::mismatch("silent stream", "no event", format!("{events:?}"))
        }
        Err(failure) if failure.to_string().contains("nothing came in time") => Err(failure),
        Ok(_) | Err(_) => Ok(()),
    }
}

#[test]
fn a_quiet_stream_through_nginx_lives_by_heartbeats() -> Outcome<()> {
    lives_by_heartbeats(Kind::Nginx, QUICK_NGINX)
}

#[test]
fn a_quiet_stream_through_haproxy_lives_by_heartbeats() -> Outcome<()> {
    lives_by_heartbeats(Kind::HaProxy, QUICK_HAPROXY)
}

/// An `EventSource` is told when to come back; others get 503 with Retry-After.
fn expect_refusals(front: &Front, hub: &HubProcess) -> Outcome<()> {
    let mut soft = SseStream::answered(front.sent(&subscribe(hub, TOPIC)?)?)?;
    let events = soft.read_to_end(PATIENCE)?;
    let retry = soft.retry().unwrap_or_default();
    if !events.is_empty() || !(5000..=10_000).contains(&retry) {
        let got = format!("{events:?}, retry {retry}");
        return Failure::mismatch("soft refusal", "a retry of 5 to 10 s and the end", got);
    }
    let program = hub.subscribe_request(&[("topic", TOPIC)])?;
    let hard = front.exchange(&program)?;
    hard.expect_status(&[503])?;
    let wait = hard
        .header("Retry-After")
        .and_then(|wait| wait.parse::<u32>().ok());
    match wait {
        Some(5..=10) => Ok(()),
        _ => Failure::mismatch("503", "Retry-After of 5 to 10", &hard.head.raw),
    }
}

fn past_the_limit(kind: Kind, full: &[Edit]) -> Outcome<()> {
    let hub = hub(&[])?;
    let front = Front::start(kind, &hub, full)?;
    let mut first = front.subscribe(&hub, TOPIC)?;
    let second = front.subscribe(&hub, TOPIC)?;
    expect_refusals(&front, &hub)?;
    // Publishes are not counted.
    let request = hub.publish_request(&[("topic", TOPIC), ("data", "to a full house")])?;
    front.exchange(&request)?.expect_status(&[200])?;
    first.expect_data("to a full house")?;
    drop(second);
    let program = hub.subscribe_request(&[("topic", TOPIC)])?;
    eventually("a place that was left is free", PATIENCE, || {
        Ok(SseStream::answered(front.sent(&program)?).ok().map(drop))
    })
}

#[test]
fn past_its_limit_nginx_answers_itself() -> Outcome<()> {
    past_the_limit(Kind::Nginx, FULL_NGINX)
}

#[test]
fn past_its_limit_haproxy_answers_itself() -> Outcome<()> {
    past_the_limit(Kind::HaProxy, FULL_HAPROXY)
}

#[test]
fn without_the_line_everybody_gets_503() -> Outcome<()> {
    let soft = r#"    "~^GET .*text/event-stream"  @gush_soft;"#;
    let line = "    http-request set-var(txn.is_soft) bool(true)";
    let edits: [(Kind, &[Edit]); 2] = [
        (
            Kind::Nginx,
            &[(soft, ""), ("gush_streams 10000;", "gush_streams 1;")],
        ),
        (
            Kind::HaProxy,
            &[(line, "    # "), ("be_conn gt 10000", "be_conn gt 1")],
        ),
    ];
    for (kind, edits) in edits {
        let hub = hub(&[])?;
        let front = Front::start(kind, &hub, edits)?;
        let _stream = front.subscribe(&hub, TOPIC)?;
        let refused = front.exchange(&subscribe(&hub, TOPIC)?)?;
        refused.expect_status(&[503])?;
        if refused.header("Retry-After").is_none() {
            return Failure::mismatch("503", "Retry-After", &refused.head.raw);
        }
    }
    Ok(())
}

/// A drain, then a kill: whoever resumes by id has everything, and nobody is told to stop.
fn restarts_lose_nothing(kind: Kind) -> Outcome<()> {
    let mut hub = hub(&[("--drain-window", "500ms")])?;
    let front = Front::start(kind, &hub, &[])?;
    let mut stream = front.subscribe(&hub, TOPIC)?;
    let mut last = publish(&hub, "start")?;
    stream.expect_data("start")?;
    for round in 0..2 {
        publish(&hub, &format!("before {round}"))?;
        if round == 0 {
            hub.sigterm()?;
            let events = stream.read_to_end(PATIENCE)?;
            if stream.retry().is_none() || events.len() > 1 {
                let got = format!("{events:?}, {:?}", stream.retry());
                return Failure::mismatch("drained stream", "a retry and the end", got);
            }
            hub.wait_exit(PATIENCE)?;
        } else {
            hub.sigkill()?;
            // Cut in its middle; how that looks is the proxy's affair.
            let _ = stream.read_to_end(PATIENCE);
        }
        expect_refusals(&front, &hub).map_err(|f| f.within("while the hub is away"))?;
        let away = hub.publish_request(&[("topic", TOPIC), ("data", "lost")])?;
        front.exchange(&away)?.expect_status(&[503])?;
        hub = hub.builder().start()?;
        let after = publish(&hub, &format!("after {round}"))?;
        let request = subscribe(&hub, TOPIC)?.header("Last-Event-ID", &last);
        stream = SseStream::answered(front.sent(&request)?)?;
        stream.expect_all(&[&format!("before {round}"), &format!("after {round}")])?;
        last = after;
    }
    Ok(())
}

#[test]
fn behind_nginx_a_restart_of_the_hub_loses_nothing() -> Outcome<()> {
    restarts_lose_nothing(Kind::Nginx)
}

#[test]
fn behind_haproxy_a_restart_of_the_hub_loses_nothing() -> Outcome<()> {
    restarts_lose_nothing(Kind::HaProxy)
}

/// Streams of both versions go on through a reload of the proxy.
fn reloads(kind: Kind, marked: &[Edit]) -> Outcome<()> {
    let hub = hub(&[])?;
    let front = Front::start(kind, &hub, &[])?;
    let mut stream = front.subscribe(&hub, TOPIC)?;
    let over_h2 = curl::subscribe(&front, &hub, TOPIC)?;
    front.reload(marked)?;
    eventually("the new configuration", PATIENCE, || {
        let answer = front.exchange(&Request::get("/healthz"))?;
        Ok(answer.header("X-Reloaded").map(drop))
    })?;
    for n in 0..5 {
        publish(&hub, &n.to_string())?;
        stream.expect_data(&n.to_string())?;
        over_h2.expect_data(&n.to_string())?;
    }
    Ok(())
}

#[test]
fn a_reload_of_nginx_cuts_no_stream() -> Outcome<()> {
    reloads(Kind::Nginx, MARKED_NGINX)
}

#[test]
fn a_reload_of_haproxy_cuts_no_stream() -> Outcome<()> {
    reloads(Kind::HaProxy, MARKED_HAPROXY)
}

#[test]
fn only_the_hub_is_handed_on() -> Outcome<()> {
    let hub = hub(&[])?;
    for kind in [Kind::Nginx, Kind::HaProxy] {
        let front = Front::start(kind, &hub, &[])?;
        for (path, status) in [
            ("/healthz", 200),
            ("/", 404),
            ("/metrics", 404),
            ("/readyz", 404),
        ] {
            front
                .exchange(&Request::get(path))?
                .expect_status(&[status])?;
        }
        // The hub's own word, not the proxy's.
        front
            .exchange(&Request::new("PUT", HUB))?
            .expect_status(&[405])?;
    }
    Ok(())
}

#[test]
fn a_token_in_the_query_is_not_in_the_log_of_nginx() -> Outcome<()> {
    let hub = hub(&[])?;
    let front = Front::start(Kind::Nginx, &hub, &[])?;
    drop(front.subscribe(&hub, TOPIC)?);
    let log = eventually("a line in the log", Duration::from_secs(20), || {
        Ok(Some(front.access_log()?).filter(|log| log.contains(HUB)))
    })?;
    if log.contains("authorization") {
        return Failure::mismatch("log", "no query", log);
    }
    Ok(())
}
