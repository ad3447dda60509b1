//! How a hub says no: softly to an event source, with a status and a problem document to everybody
//! else, and with 204 to who has to stop. The same at every door.

use gush_testkit::{
    Connection, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, Response, SseStream,
    eventually, exchange, write_certificate,
};
use std::collections::BTreeSet;
use std::process::Command;

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://refusals.example/1";
const ORIGIN: &str = "https://page.example";

/// Fewer than any test needs at a time.
const PLACES: usize = 3;

fn builder() -> Outcome<HubBuilder> {
    Ok(HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--cors-origin", ORIGIN)
        .option("--max-connections", &PLACES.to_string()))
}

/// A hub whose places are all taken.
fn full(builder: &HubBuilder) -> Outcome<(HubProcess, Vec<SseStream>)> {
    let hub = builder.start()?;
    let streams = (0..PLACES)
        .map(|_| hub.subscribe(&[("topic", TOPIC)]))
        .collect::<Outcome<_>>()?;
    Ok((hub, streams))
}

/// As a browser asks.
fn event_source(hub: &HubProcess) -> Outcome<Request> {
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    Ok(request
        .header("Accept", "text/event-stream")
        .header("Origin", ORIGIN))
}

/// 200, the headers of a stream, a delay, the end.
fn expect_soft(answer: &Response) -> Outcome<u64> {
    answer.expect_status(&[200])?;
    let head = &answer.head;
    head.expect_header("Content-Type", "text/event-stream")?;
    head.expect_header("X-Accel-Buffering", "no")?;
    head.expect_header("Access-Control-Allow-Origin", ORIGIN)?;
    let cached = head.header("Cache-Control").unwrap_or_default();
    let retry = answer.text();
    let retry = retry
        .strip_prefix("retry: ")
        .and_then(|rest| rest.strip_suffix('\n'));
    match retry.and_then(|retry| retry.parse().ok()) {
        Some(retry) if cached.contains("no-store") => Ok(retry),
        _ => Failure::mismatch("soft refusal", "retry and no-store", format!("{answer:?}")),
    }
}

/// 503 and why, with a delay.
fn expect_hard(answer: &Response) -> Outcome<String> {
    answer.expect_status(&[503])?;
    let wait = answer.header("Retry-After").unwrap_or_default();
    assert!(wait.parse().is_ok_and(|wait: u64| wait >= 1), "{wait:?}");
    answer.problem()
}

#[test]
fn over_the_limit_a_browser_is_refused_softly_and_served_when_it_comes_back() -> Outcome<()> {
    let (hub, mut streams) = full(&builder()?)?;
    let request = event_source(&hub)?;
    let delay = expect_soft(&exchange(hub.address(), &request)?)?;
    assert!((1_000..=2_000).contains(&delay), "{delay} ms for one");
    drop(streams.pop());
    eventually("a place", PATIENCE, || {
        let mut stream = SseStream::open(hub.address(), &request)?;
        hub.publish_on_admin(&[("topic", TOPIC), ("data", "x")])?;
        Ok(stream.next_event().ok().map(drop))
    })
}

#[test]
fn over_the_limit_programs_get_a_status_and_a_problem() -> Outcome<()> {
    let (hub, _streams) = full(&builder()?)?;
    let full = "the hub has no connection to spare";
    let subscribe = hub.subscribe_request(&[("topic", TOPIC)])?;
    let publish = hub.publish_request(&[("topic", TOPIC), ("data", "x")])?;
    // For a publish, 200 would be a lie.
    let odd = publish.clone().header("Accept", "text/event-stream");
    for request in [subscribe, publish, odd, Request::get("/other")] {
        let mut connection = hub.connect()?;
        let answer = connection.exchange(&request)?;
        assert_eq!(expect_hard(&answer)?, full);
        answer.head.expect_header("Connection", "close")?;
        assert!(connection.read_to_close(PATIENCE)?.is_empty());
    }
    Ok(())
}

/// It counts whole seconds: what is drawn within one of them would be the same for all.
#[test]
fn programs_that_are_refused_together_are_told_different_retry_afters() -> Outcome<()> {
    let (hub, _streams) = full(&builder()?)?;
    let request = hub.subscribe_request(&[("topic", TOPIC)])?;
    let mut told = BTreeSet::new();
    for _ in 0..40 {
        let answer = exchange(hub.address(), &request)?;
        expect_hard(&answer)?;
        told.insert(answer.header("Retry-After").map(str::to_owned));
    }
    assert!(told.len() > 1, "{told:?}");
    Ok(())
}

#[test]
fn probes_are_answered_over_the_limit() -> Outcome<()> {
    let (hub, _streams) = full(&builder()?)?;
    for _ in 0..50 {
        hub.get("/healthz")?.expect_status(&[200])?;
        hub.get("/readyz")?.expect_status(&[200])?;
    }
    let read = hub.metric_sum("gush_connections_refused_total{head=\"read\"}")?;
    assert!(read >= 100, "{read}");
    Ok(())
}

/// Each of those whose head is read holds a place for some seconds at most; the rest is told at
/// once, and nobody waits without an answer.
#[test]
fn silent_peers_over_the_limit_do_not_keep_others_from_their_answer() -> Outcome<()> {
    let Some(builder) = builder()?.with_descriptors(512) else {
        return Ok(());
    };
    let (hub, _streams) = full(&builder)?;
    let told = |head: &str| {
        hub.metric(&format!(
            "gush_connections_refused_total{{head=\"{head}\"}}"
        ))
    };
    // Some fewer are read where the hub has descriptors from whoever started it.
    let places = 512 / 32;
    let silent: Vec<Connection> = (0..places).map(|_| hub.connect()).collect::<Outcome<_>>()?;
    let unread = eventually("all are told", PATIENCE, || {
        let (read, unread) = (told("read")?.unwrap_or(0), told("unread")?.unwrap_or(0));
        Ok((read + unread == places).then_some(unread))
    })?;
    assert!(unread < places / 2, "few are read: {unread} are not");
    let answer = hub.connect()?.read_response()?;
    expect_hard(&answer)?;
    hub.wait_metric("gush_connections_refused_total{head=\"unread\"}", |n| {
        n == unread + 1
    })?;
    // They end by themselves, and then a browser is read again.
    for mut connection in silent {
        connection.read_to_close(PATIENCE)?;
    }
    let request = event_source(&hub)?;
    expect_soft(&exchange(hub.address(), &request)?).map(drop)
}

#[test]
fn delays_widen_with_the_number_of_the_refused() -> Outcome<()> {
    let (hub, _streams) = full(&builder()?.option("--retry-rate", "2"))?;
    let request = event_source(&hub)?;
    let mut delays = Vec::new();
    for _ in 0..60 {
        delays.push(expect_soft(&exchange(hub.address(), &request)?)?);
    }
    // The last are drawn from a window of nearly a minute: thirty of them below a tenth of it, or
    // all alike, are less likely than a broken machine.
    let late = &delays[30..];
    assert!(late.iter().any(|delay| *delay > 6_000), "{delays:?}");
    assert!(late.iter().any(|delay| *delay != late[0]), "{delays:?}");
    assert!(delays.iter().all(|delay| *delay <= 60_000), "{delays:?}");
    Ok(())
}

#[test]
fn refusals_are_made_hard_by_a_reload() -> Outcome<()> {
    let builder = builder()?;
    let file = builder.directory().join("gush.toml");
    std::fs::write(&file, "refusals = \"soft\"\n")?;
    let builder = builder.option("--config", &file.display().to_string());
    let (hub, _streams) = full(&builder)?;
    let request = event_source(&hub)?;
    expect_soft(&exchange(hub.address(), &request)?)?;
    std::fs::write(&file, "refusals = \"hard\"\n")?;
    hub.signal("HUP")?;
    hub.wait_stderr(&["configuration reloaded", "refusals"])?;
    let answer = exchange(hub.address(), &request)?;
    // A page reads why, too.
    answer
        .head
        .expect_header("Access-Control-Allow-Origin", ORIGIN)?;
    expect_hard(&answer).map(drop)
}

/// `curl` with these options, as a browser asks; what it printed.
fn curl(hub: &HubProcess, scheme: &str, options: &[&str]) -> Outcome<String> {
    let topic = gush_testkit::encode_component(TOPIC);
    let url = format!("{scheme}://{}{HUB}?topic={topic}", hub.address());
    let token = format!("Authorization: Bearer {}", hub.subscriber_token()?);
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--max-time", "20"])
        .args(["--include", "--header", "Accept: text/event-stream"])
        .args(["--header", &token])
        .args(options)
        .arg(url)
        .output()
        .map_err(|e| Failure::from(e).within("starting curl"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn over_the_limit_tls_and_http2_are_refused_softly_too() -> Outcome<()> {
    let builder = builder()?;
    let files = write_certificate(builder.directory(), "hub.example")?;
    let builder = builder
        .option("--tls-cert", &files.certificate.display().to_string())
        .option("--tls-key", &files.key.display().to_string());
    let hub = builder.start()?;
    let token = hub.subscriber_token()?;
    let url = format!("https://{}{HUB}?topic=x", hub.address());
    let curls = (0..PLACES).map(|_| gush_testkit::Curl::subscribe(&url, &token, &["--insecure"]));
    let _curls: Vec<_> = curls.collect::<Outcome<_>>()?;
    for (version, begin) in [("--http2", "HTTP/2 200"), ("--http1.1", "HTTP/1.1 200")] {
        let answer = curl(&hub, "https", &[version])?;
        let is_soft = answer.starts_with(begin) && answer.contains("\nretry: ");
        assert!(is_soft, "{version}: {answer}");
    }
    let health = Command::new("curl")
        .args(["--silent", "--insecure", "--http2"])
        .arg(format!("https://{}/healthz", hub.address()))
        .output()
        .map_err(|e| Failure::from(e).within("starting curl"))?;
    assert!(String::from_utf8_lossy(&health.stdout).contains("\"ok\""));
    Ok(())
}

/// With the body of the answer behind its head, a client of HTTP/2 takes the stream for broken.
#[test]
fn head_is_answered_over_http2_without_a_body() -> Outcome<()> {
    let (hub, _streams) = full(&builder()?)?;
    let token = format!("Authorization: Bearer {}", hub.subscriber_token()?);
    for (target, begin) in [
        ("/healthz", "HTTP/2 200"),
        ("/.well-known/mercure?topic=x", "HTTP/2 503"),
        ("/nothing", "HTTP/2 503"),
    ] {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--head"])
            .args(["--http2-prior-knowledge", "--header", &token])
            .arg(format!("http://{}{target}", hub.address()))
            .output()
            .map_err(|e| Failure::from(e).within("starting curl"))?;
        let head = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = String::from_utf8_lossy(&output.stderr);
        let is_good = head.starts_with(begin) && head.contains("\ncontent-length: ");
        assert!(output.status.success() && is_good, "{complaint}{head}");
    }
    Ok(())
}

#[test]
fn a_draining_hub_refuses_softly_over_http2_too() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--drain-window", "20s")
        .start()?;
    let _streams = [
        hub.subscribe(&[("topic", TOPIC)])?,
        hub.subscribe(&[("topic", TOPIC)])?,
    ];
    hub.sigterm()?;
    hub.wait_stderr(&["draining"])?;
    let answer = curl(&hub, "http", &["--http2-prior-knowledge"])?;
    let is_soft = answer.starts_with("HTTP/2 200") && answer.contains("\nretry: ");
    assert!(is_soft, "{answer}");
    Ok(())
}

#[test]
fn a_refused_token_is_a_real_401() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let claims = gush_testkit::Claims::new().subscribe(&["*"]).expires_in(-9);
    let expired = hub.subscriber_key().sign(&claims)?;
    for token in [expired.as_str(), "no.token.at-all"] {
        let request = Request::get(&format!("{HUB}?topic=x"))
            .bearer(token)
            .header("Accept", "text/event-stream");
        let answer = exchange(hub.address(), &request)?;
        answer.expect_status(&[401])?;
        answer.head.expect_header("WWW-Authenticate", "Bearer")?;
        assert!(answer.header("Retry-After").is_none());
        assert!(!answer.problem()?.contains(token));
    }
    Ok(())
}

#[test]
fn errors_are_problem_documents() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?.start()?;
    let publish = |fields: &[(&str, &str)]| hub.publish_request(fields);
    let requests = [
        (400, publish(&[("data", "x")])?),
        (403, publish(&[("topic", "/.well-known/mercure/x")])?),
        (401, Request::form(HUB, &[("topic", TOPIC)])),
        (404, Request::get("/nothing")),
        (405, Request::new("DELETE", HUB)),
    ];
    for (status, request) in requests {
        let answer = exchange(hub.address(), &request)?;
        answer.expect_status(&[status])?;
        answer.problem()?;
    }
    Ok(())
}

#[test]
fn who_asks_only_for_ended_topics_is_told_to_stop() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .option("--ended-topic", "https://match.example/2024/{game}")
        .option("--ended-topic", "https://refusals.example/over")
        .start()?;
    let over = "https://match.example/2024/7";
    for topics in [
        vec![("topic", over)],
        vec![("topic", over), ("topic", "https://refusals.example/over")],
        vec![("topic", "https://match.example/2024/{game}")],
    ] {
        let request = hub.subscribe_request(&topics)?;
        let answer = exchange(
            hub.address(),
            &request.header("Accept", "text/event-stream"),
        )?;
        answer.expect_status(&[204])?;
        assert!(answer.body.is_empty() && answer.header("Retry-After").is_none());
    }
    let stopped = hub.metric_sum("gush_requests_rejected_total{class=\"stop\"}")?;
    assert_eq!(stopped, 3);
    // Something else beside is something to wait for.
    hub.subscribe(&[("topic", over), ("topic", TOPIC)])?;
    hub.subscribe(&[("topic", "*")])?;
    // A token comes first: a stranger does not learn what has ended.
    let stranger = Request::get(&format!("{HUB}?topic=https://match.example/2024/7"));
    exchange(hub.address(), &stranger)?.expect_status(&[401])
}
