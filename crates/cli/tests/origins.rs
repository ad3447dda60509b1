//! Options about web pages: who may publish with the cookie, who may read, what the cookie is
//! called.

use gush_testkit::{
    Deadline, Failure, HubBuilder, HubProcess, Outcome, PATIENCE, Request, exchange,
};

const HUB: &str = "/.well-known/mercure";
const TOPIC: &str = "https://origins.example/1";

fn start(options: &[(&str, &str)]) -> Outcome<HubProcess> {
    let builder = HubBuilder::new(env!("CARGO_BIN_EXE_gush"))?;
    options
        .iter()
        .fold(builder, |builder, (name, value)| {
            builder.option(name, value)
        })
        .start()
}

/// The status of a publish with the token in the cookie, from this origin.
fn publish_from(hub: &HubProcess, cookie: &str, header: (&str, &str)) -> Outcome<u16> {
    let request = Request::form(HUB, &[("topic", TOPIC)])
        .header("Cookie", &format!("{cookie}={}", hub.publisher_token()?))
        .header(header.0, header.1);
    Ok(exchange(hub.address(), &request)?.status())
}

/// An entry of `publish_origin`, origins that it allows, and origins that it does not.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

#[rustfmt::skip]
const PUBLISH_ORIGINS: &[Row] = &[
    ("https://app.example", &["https://app.example"],
     &["http://app.example", "https://app.example:444", "https://x.app.example", "https://app.example.evil", "null"]),
    ("http://localhost:8080", &["http://localhost:8080"], &["http://localhost", "http://localhost:80"]),
    ("null", &["null"], &["https://app.example"]),
    ("*", &["https://app.example", "http://anything.example:1", "null"], &[]),
    ("https://*.app.example", &["https://a.app.example", "https://b.c.app.example"],
     &["https://app.example", "http://a.app.example", "https://a.app.example.evil", "https://evil.example"]),
];

#[test]
fn publish_origins_are_matched_as_written() -> Outcome<()> {
    for (entry, allowed, foreign) in PUBLISH_ORIGINS {
        let hub = start(&[("--publish-origin", entry)])?;
        for (origins, wanted) in [(allowed, 200), (foreign, 403)] {
            for origin in *origins {
                let got = publish_from(&hub, "mercureAuthorization", ("Origin", origin))?;
                if got != wanted {
                    let what = format!("publish_origin {entry}, Origin {origin}");
                    return Failure::mismatch(what, wanted, got);
                }
            }
        }
    }
    Ok(())
}

#[test]
fn several_origins_may_be_given() -> Outcome<()> {
    let hub = start(&[
        ("--publish-origin", "https://one.example"),
        ("--publish-origin", "https://two.example"),
    ])?;
    for (origin, wanted) in [
        ("https://one.example", 200),
        ("https://two.example", 200),
        ("https://three.example", 403),
    ] {
        let got = publish_from(&hub, "mercureAuthorization", ("Origin", origin))?;
        if got != wanted {
            return Failure::mismatch(origin, wanted, got);
        }
    }
    Ok(())
}

#[test]
fn the_cookie_may_have_another_name() -> Outcome<()> {
    let hub = start(&[
        ("--cookie-name", "hub_token"),
        ("--publish-origin", "https://app.example"),
    ])?;
    let origin = ("Origin", "https://app.example");
    let (own, default) = (
        publish_from(&hub, "hub_token", origin)?,
        publish_from(&hub, "mercureAuthorization", origin)?,
    );
    if (own, default) == (200, 401) {
        return Ok(());
    }
    Failure::mismatch(
        "own and default cookie name",
        "200 and 401",
        format!("{own}, {default}"),
    )
}

#[test]
fn cors_with_a_star_never_allows_credentials() -> Outcome<()> {
    let hub = start(&[("--cors-origin", "*")])?;
    let mut connection = hub.connect()?;
    let request = hub
        .subscribe_request(&[("topic", TOPIC)])?
        .header("Origin", "https://x.example");
    connection.send_request(&request)?;
    let head = connection.read_head(Deadline::after(PATIENCE))?;
    head.expect_status(&[200])?;
    let origin = head
        .header("Access-Control-Allow-Origin")
        .unwrap_or_default();
    let credentials = head.header("Access-Control-Allow-Credentials");
    match (origin, credentials) {
        ("*", None) => Ok(()),
        _ => Failure::mismatch("CORS answer", "a star alone", &head.raw),
    }
}

#[test]
fn a_preflight_allows_an_origin_once() -> Outcome<()> {
    let hub = start(&[("--cors-origin", "https://app.example")])?;
    let request = Request::new("OPTIONS", HUB)
        .header("Origin", "https://app.example")
        .header("Access-Control-Request-Method", "GET");
    let answer = exchange(hub.address(), &request)?;
    // Twice is as good as never: browsers refuse "https://app.example, https://app.example".
    for (name, value) in [
        ("Access-Control-Allow-Origin", "https://app.example"),
        ("Access-Control-Allow-Credentials", "true"),
        ("Vary", "Origin"),
    ] {
        let got = answer.head.joined(name);
        if got.as_deref() != Some(value) {
            return Failure::mismatch(name, value, &answer.head.raw);
        }
    }
    Ok(())
}
