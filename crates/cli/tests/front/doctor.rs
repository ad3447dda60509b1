//! `gush doctor` against the hub itself, the deployed configurations, and spoiled ones.

use gush_testkit::{Failure, HubBuilder, HubProcess, Outcome};
use serde_json::Value;
use std::process::{Command, Stdio};

use crate::proxy::{Edit, Front, Kind, hub};

const PUBLISHER_KEY: &str =
    "testkit publisher key, long enough for every HMAC size: 0123456789abcdef";
const SUBSCRIBER_KEY: &str =
    "testkit subscriber key, long enough for every HMAC size: fedcba9876543210";
const KEYS: [&str; 4] = [
    "--publisher-key",
    PUBLISHER_KEY,
    "--subscriber-key",
    SUBSCRIBER_KEY,
];

/// What the doctor said, and its exit code.
struct Said {
    code: Option<i32>,
    text: String,
}

fn doctor(arguments: &[&str]) -> Outcome<Said> {
    let mut command = Command::new("timeout");
    command.args(["60", env!("CARGO_BIN_EXE_gush"), "doctor"]);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("GUSH_") || text.starts_with("MERCURE_") {
            command.env_remove(&name);
        }
    }
    let output = command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Failure::from(e).within("starting gush doctor"))?;
    let out = String::from_utf8_lossy(&output.stdout);
    Ok(Said {
        code: output.status.code(),
        text: format!("{out}{}", String::from_utf8_lossy(&output.stderr)),
    })
}

/// A short look, with keys.
fn look(url: &str, more: &[&str]) -> Outcome<Said> {
    let short = ["--events", "3", "--idle", "4s"];
    doctor(&[&[url][..], &KEYS, &short, more].concat())
}

/// Expects this exit code and each of these texts.
fn expect(said: &Said, code: i32, parts: &[&str]) -> Outcome<()> {
    let missing = parts.iter().find(|part| !said.text.contains(**part));
    if said.code == Some(code) && missing.is_none() {
        return Ok(());
    }
    let got = format!("{:?}\n{}", said.code, said.text);
    Failure::mismatch("gush doctor", format!("{code}, {parts:?}"), got)
}

fn url(hub: &HubProcess) -> String {
    format!("http://{}", hub.address())
}

#[test]
fn the_hub_itself_is_found_good() -> Outcome<()> {
    let hub = hub(&[
        ("--heartbeat", "500ms"),
        ("--cors-origin", "https://app.example"),
    ])?;
    let origin = ["--origin", "https://app.example", "--json"];
    let said = look(&url(&hub), &origin)?;
    expect(&said, 0, &[])?;
    let report: Value = serde_json::from_str(said.text.trim())
        .map_err(|e| Failure::new(format!("{e}: {}", said.text)))?;
    let names = [
        "answer",
        "version",
        "proxies",
        "compression",
        "first byte",
        "events",
        "resume",
    ];
    for name in [&names[..], &["idle", "heartbeat", "CORS preflight", "CORS"]].concat() {
        let check = report["checks"]
            .as_array()
            .and_then(|checks| checks.iter().find(|check| check["name"] == name));
        // Plain HTTP is said, not found.
        let wanted = if name == "version" { "note" } else { "good" };
        if check.is_none_or(|check| check["level"] != wanted) {
            return Failure::mismatch(name, wanted, &said.text);
        }
    }
    Ok(())
}

#[test]
fn without_a_key_it_only_looks() -> Outcome<()> {
    let hub = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?
        .anonymous()
        .start()?;
    let said = doctor(&[&url(&hub), "--idle", "0"])?;
    expect(
        &said,
        0,
        &["note     events", "--publisher-key", "good     resume"],
    )?;
    let one_key = [
        "--publisher-key",
        PUBLISHER_KEY,
        "--events",
        "2",
        "--idle",
        "0",
    ];
    let said = doctor(&[&[url(&hub).as_str()][..], &one_key].concat())?;
    expect(&said, 0, &["2 of 2 at once"])
}

#[test]
fn what_is_no_hub_and_what_is_no_url_is_said() -> Outcome<()> {
    expect(&doctor(&["127.0.0.1:3000"])?, 2, &["URL 127.0.0.1:3000"])?;
    expect(&doctor(&["http://127.0.0.1:1"])?, 1, &["refused"])?;
    let local = "http://127.0.0.1:1";
    expect(
        &doctor(&[local, "--origin", "app.example"])?,
        2,
        &["--origin"],
    )?;
    expect(&doctor(&[local, "--idle", "30"])?, 2, &["--idle 30"])?;
    let hub = hub(&[])?;
    expect(&doctor(&[&url(&hub)])?, 1, &["401", "--subscriber-key"])?;
    expect(
        &look(&url(&hub), &["--origin", "https://app.example"])?,
        1,
        &["cors_origins"],
    )
}

#[test]
fn the_deployed_configurations_are_found_good() -> Outcome<()> {
    let hub = hub(&[("--heartbeat", "500ms")])?;
    for (kind, way) in [
        (Kind::Nginx, "server: nginx"),
        (Kind::HaProxy, "none that names itself"),
    ] {
        let front = Front::start(kind, &hub, &[])?;
        let certificate = front.certificate().display().to_string();
        let said = look(&front.url(), &["--ca", &certificate])?;
        expect(
            &said,
            0,
            &["HTTP/2", way, "3 of 3 at once", "2 of 2 events again"],
        )?;
    }
    Ok(())
}

/// With these changes the doctor has this to say, and gives this line against it.
fn spoiled(kind: Kind, edits: &[Edit], finding: &str, line: &str) -> Outcome<()> {
    let hub = hub(&[])?;
    let front = Front::start(kind, &hub, edits)?;
    expect(&look(&front.plain_url(), &[])?, 1, &[finding, line])
}

/// nginx holds an answer back only where it does not know its end: from an HTTP/1.0 upstream, which
/// is its default.
#[test]
fn an_nginx_that_buffers_is_named() -> Outcome<()> {
    let buffering = (
        "proxy_buffering off;",
        "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering;",
    );
    let old = ("proxy_http_version 1.1;", "proxy_http_version 1.0;");
    spoiled(
        Kind::Nginx,
        &[buffering, old],
        "buffering",
        "proxy_buffering off;",
    )
}

#[test]
fn an_nginx_that_compresses_is_named() -> Outcome<()> {
    let gzip = ("gzip off;", "gzip on; gzip_types text/event-stream;");
    spoiled(
        Kind::Nginx,
        &[gzip],
        "compression: Content-Encoding: gzip",
        "gzip off;",
    )
}

#[test]
fn an_nginx_that_cuts_silent_streams_is_named() -> Outcome<()> {
    let quick = ("proxy_read_timeout 5m;", "proxy_read_timeout 2s;");
    spoiled(
        Kind::Nginx,
        &[quick],
        "of silence",
        "proxy_read_timeout 5m;",
    )
}

#[test]
fn an_nginx_that_loses_the_cursor_is_named() -> Outcome<()> {
    let lost = (
        "proxy_set_header Forwarded \"\";",
        "proxy_set_header Last-Event-ID \"\";",
    );
    let line = "no proxy_set_header Last-Event-ID";
    spoiled(Kind::Nginx, &[lost], "no answer to Last-Event-ID", line)
}

#[test]
fn an_nginx_that_refuses_is_named() -> Outcome<()> {
    let full = ("limit_conn gush_streams 10000;", "return 503;");
    spoiled(
        Kind::Nginx,
        &[full],
        "the stream ended at once",
        "limit_conn",
    )?;
    let hard = (r#""~^GET .*text/event-stream"  @gush_soft;"#, "");
    spoiled(
        Kind::Nginx,
        &[full, hard],
        "503 with Retry-After",
        "error_page 502 503 504",
    )
}

#[test]
fn an_haproxy_that_cuts_silent_streams_is_named() -> Outcome<()> {
    let quick = ("timeout server       5m", "timeout server 2s");
    spoiled(Kind::HaProxy, &[quick], "of silence", "timeout server 5m")
}

/// Without that option it keeps each small piece for 200 ms, in the hope of a fuller packet.
#[test]
fn an_haproxy_that_waits_for_more_is_named() -> Outcome<()> {
    let waits = ("option http-no-delay", "");
    spoiled(Kind::HaProxy, &[waits], "delay", "option http-no-delay")
}

/// The head comes late and all that follows in time.
#[test]
fn an_haproxy_that_holds_the_begin_back_is_named() -> Outcome<()> {
    let waits = (
        "backend gush_streams",
        "backend gush_streams\n    http-response wait-for-body time 2s",
    );
    let line = "no `http-response wait-for-body`";
    let hub = hub(&[])?;
    let front = Front::start(Kind::HaProxy, &hub, &[waits])?;
    let said = look(&front.plain_url(), &[])?;
    expect(
        &said,
        1,
        &["finding  answer", "HEAD is answered after", line],
    )
}

#[test]
fn a_redirect_is_told_with_what_to_do() -> Outcome<()> {
    let hub = hub(&[])?;
    let moved = ("limit_conn gush_streams 10000;", "return 301 /elsewhere;");
    let front = Front::start(Kind::Nginx, &hub, &[moved])?;
    let said = look(&front.plain_url(), &[])?;
    expect(
        &said,
        1,
        &["redirects are not followed: give the final URL as URL"],
    )
}

/// One request for each connection, in both directions: nothing that a stream minds.
#[test]
fn an_nginx_that_closes_behind_each_request_is_found_good() -> Outcome<()> {
    let hub = hub(&[])?;
    let closes = (
        "proxy_http_version 1.1;",
        "proxy_http_version 1.1; keepalive_requests 1;",
    );
    let front = Front::start(Kind::Nginx, &hub, &[closes])?;
    expect(&look(&front.plain_url(), &[])?, 0, &["3 of 3 at once"])
}

#[test]
fn http_1_1_over_tls_is_named() -> Outcome<()> {
    let hub = hub(&[])?;
    for (kind, edits, line) in [
        (
            Kind::Nginx,
            [(" ssl http2;", " ssl;")],
            "listen 443 ssl http2;",
        ),
        (
            Kind::HaProxy,
            [("alpn h2,http/1.1", "alpn http/1.1")],
            "alpn h2,http/1.1",
        ),
    ] {
        let front = Front::start(kind, &hub, &edits)?;
        let certificate = front.certificate().display().to_string();
        let url = front.url();
        let passive = [&url, "--ca", &certificate, "--idle", "0"];
        let said = doctor(&[&passive[..], &KEYS[2..]].concat())?;
        expect(&said, 1, &["version: HTTP/1.1", "six connections", line])?;
    }
    Ok(())
}
