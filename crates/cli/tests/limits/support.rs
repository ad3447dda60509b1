//! What these tests share.

use gush_testkit::{
    Claims, Failure, HubBuilder, HubProcess, Outcome, Request, Response, SseStream, exchange,
};
use std::process::Command;

pub(crate) const HUB: &str = "/.well-known/mercure";

pub(crate) const TOPIC: &str = "https://limits.example/1";

pub(crate) fn builder(options: &[(&str, &str)]) -> Outcome<HubBuilder> {
    let mut builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    for (name, value) in options {
        builder = builder.option(name, value);
    }
    Ok(builder)
}

pub(crate) fn start(options: &[(&str, &str)]) -> Outcome<HubProcess> {
    builder(options)?.start()
}

pub(crate) fn subscribe(hub: &HubProcess) -> Outcome<Request> {
    hub.subscribe_request(&[("topic", TOPIC)])
}

/// A subscribe with a token of this subject.
pub(crate) fn subscribe_as(hub: &HubProcess, subject: &str) -> Outcome<Request> {
    let claims = Claims::new().subscribe(&["*"]);
    let token = hub
        .subscriber_key()
        .sign(&claims.claim("sub", subject.into()))?;
    let topic = gush_testkit::encode_component(TOPIC);
    Ok(Request::get(&format!("{HUB}?topic={topic}")).bearer(&token))
}

pub(crate) fn open(hub: &HubProcess, request: &Request) -> Outcome<SseStream> {
    SseStream::open(hub.address(), request).map_err(|f| f.within(hub.output()))
}

/// 429 with a time to wait and a reason that contains these words.
pub(crate) fn expect_too_many(answer: &Response, words: &str) -> Outcome<()> {
    answer.expect_status(&[429])?;
    let wait = answer.header("Retry-After").unwrap_or_default();
    let is_wait = wait.parse::<u64>().is_ok_and(|seconds| seconds >= 1);
    let kind = answer.header("Content-Type").unwrap_or_default();
    if is_wait && kind == "application/problem+json" && answer.text().contains(words) {
        return Ok(());
    }
    Failure::mismatch("429", words, format!("{answer:?}\n{}", answer.text()))
}

/// A program is told by status, an event source by a stream that ends.
pub(crate) fn expect_refused(hub: &HubProcess, request: &Request, words: &str) -> Outcome<()> {
    expect_too_many(&exchange(hub.address(), request)?, words)?;
    let soft = request.clone().header("Accept", "text/event-stream");
    let answer = exchange(hub.address(), &soft)?;
    answer.expect_status(&[200])?;
    if answer.text().starts_with("retry: ") {
        return Ok(());
    }
    Failure::mismatch("soft refusal", "retry and the end", answer.text())
}

pub(crate) fn refused(hub: &HubProcess, limit: &str) -> Outcome<u64> {
    let series = format!("gush_limit_refusals_total{{limit=\"{limit}\"}}");
    Ok(hub.metric(&series)?.unwrap_or(0))
}

pub(crate) fn expect_counted(hub: &HubProcess, limit: &str, count: u64) -> Outcome<()> {
    match refused(hub, limit)? {
        counted if counted == count => Ok(()),
        other => Failure::mismatch(limit, count, other),
    }
}

/// What curl gets over HTTP/2 without TLS: the status.
pub(crate) fn over_h2(token: &str, arguments: &[&str]) -> Outcome<String> {
    let output = Command::new("curl")
        .args(["--silent", "--http2-prior-knowledge", "--max-time", "20"])
        .args(["--output", "/dev/null", "--write-out", "%{http_code}"])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(arguments)
        .output()
        .map_err(|e| Failure::from(e).within("starting curl"))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
