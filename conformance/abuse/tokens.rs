//! Rows 60, 65 to 67 and 73: tokens, and what errors tell.

use super::{CLOSED, Healthy, status};
use crate::cases::ensure;
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Claims, Failure, Outcome, Request, TokenKey};
use std::net::TcpListener;

pub(super) fn cases() -> Vec<Case> {
    vec![
        malformed(),
        pointing(),
        critical(),
        huge(),
        guessable(),
        telling(),
    ]
}

fn publish_with(t: &Target, name: &str, value: &str) -> Outcome<u16> {
    let topic = t.topic();
    let request = Request::form(HUB, &[("topic", &topic), ("data", "x")]).header(name, value);
    let mut connection = t.connect()?;
    let _ = connection.send_request(&request);
    status(&mut connection)
}

fn refused(t: &Target, token: &str, what: &str) -> Outcome<()> {
    let got = publish_with(t, "Authorization", &format!("Bearer {token}"))?;
    ensure([400, 401, 431, CLOSED].contains(&got), || {
        format!("{what}: 401 was to come, not {got}")
    })
}

fn malformed() -> Case {
    case(
        "abuse/60-no-or-malformed-authorization",
        &[],
        "no or a malformed Authorization: 401 with WWW-Authenticate",
        |t| {
            let mut healthy = Healthy::open(t)?;
            let topic = t.topic();
            let bare = Request::form(HUB, &[("topic", &topic)]);
            for value in [
                None,
                Some(""),
                Some("Bearer"),
                Some("Bearer "),
                Some("Basic YTpi"),
                Some("Bearer a b"),
                Some("Digest x=y"),
                Some("Bearer \t"),
            ] {
                let request = match value {
                    Some(value) => bare.clone().header("Authorization", value),
                    None => bare.clone(),
                };
                let answer = t.send(&request)?;
                answer
                    .expect_status(&[401])
                    .map_err(|failure| failure.within(format!("{value:?}")))?;
                ensure(answer.header("www-authenticate").is_some(), || {
                    answer.head.raw.clone()
                })?;
            }
            healthy.check(t)
        },
    )
}

/// A header's JSON with more fields.
fn header(fields: &str) -> String {
    format!("{{\"alg\":\"HS256\",\"typ\":\"JWT\"{fields}}}")
}

fn pointing() -> Case {
    case(
        "abuse/65-tokens-that-point-elsewhere",
        &[Need::Hmac],
        "kid as a path, SQL or URL, jku, jwk, x5u: 401, and no connection to anywhere",
        |t| {
            let mut healthy = Healthy::open(t)?;
            let elsewhere = TcpListener::bind("127.0.0.1:0")?;
            elsewhere.set_nonblocking(true)?;
            let url = format!("http://{}/keys.json", elsewhere.local_addr()?);
            let foreign = TokenKey::hmac("HS256", &"f".repeat(64));
            let all = Claims::new().publish(&["*"]).to_json();
            for fields in [
                format!(",\"jku\":\"{url}\""),
                format!(",\"x5u\":\"{url}\""),
                format!(",\"kid\":\"{url}\""),
                ",\"kid\":\"../../../../etc/passwd\"".to_owned(),
                ",\"kid\":\"x' OR '1'='1\"".to_owned(),
                ",\"kid\":\"\\u0000\"".to_owned(),
                ",\"jwk\":{\"kty\":\"oct\",\"k\":\"ZmZmZmZm\"}".to_owned(),
                ",\"x5c\":[\"MII\"]".to_owned(),
            ] {
                refused(t, &foreign.sign_texts(&header(&fields), &all)?, &fields)?;
            }
            healthy.check(t)?;
            match elsewhere.accept() {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
                other => Failure::mismatch("where a token points", "nobody", format!("{other:?}")),
            }
        },
    )
}

fn critical() -> Case {
    case(
        "abuse/66-unknown-crit",
        &[Need::Hmac],
        "a critical header nobody knows: 401, whatever the signature",
        |t| {
            let all = Claims::new().publish(&["*"]).to_json();
            for fields in [
                ",\"crit\":[\"x\"],\"x\":1",
                ",\"crit\":[]",
                ",\"crit\":\"x\"",
                ",\"crit\":[\"b64\"],\"b64\":false",
            ] {
                refused(t, &t.publisher.sign_texts(&header(fields), &all)?, fields)?;
            }
            Ok(())
        },
    )
}

fn huge() -> Case {
    case(
        "abuse/67-huge-and-deep-tokens",
        &[Need::Hmac],
        "4 MiB, thousands of dots, JSON 100,000 deep: 401 or 431 in flat memory and stack",
        |t| {
            let mut healthy = Healthy::open(t)?;
            let before = t.memory_bytes()?;
            let deep = "[".repeat(3000) + &"]".repeat(3000);
            let deep_claim = format!("{{\"mercure\":{{\"publish\":{deep}}}}}");
            for (what, token) in [
                ("4 MiB", "a".repeat(4 << 20)),
                ("dots", ".".repeat(4000)),
                ("a million dots", ".".repeat(1_000_000)),
                ("deep payload", t.publisher.sign_texts(&header(""), &deep)?),
                (
                    "deep claim",
                    t.publisher.sign_texts(&header(""), &deep_claim)?,
                ),
                ("deep header", t.publisher.sign_texts(&deep, "{}")?),
                (
                    "100,000 deep",
                    t.publisher.sign_texts(&header(""), &"[".repeat(100_000))?,
                ),
                ("empty payload", t.publisher.sign_texts(&header(""), "")?),
                (
                    "payload of a number",
                    t.publisher.sign_texts(&header(""), "7")?,
                ),
            ] {
                for _ in 0..5 {
                    refused(t, &token, what)?;
                }
            }
            healthy.check(t)?;
            t.memory_grew_less(before, 32 << 20)
        },
    )
}

fn guessable() -> Case {
    case(
        "abuse/62-guessable-keys",
        &[Need::Hmac],
        "tokens of empty, sample and neighbouring keys: 401",
        |t| {
            let claims = Claims::new().publish(&["*"]);
            for key in [
                "",
                "!ChangeMe!",
                "secret",
                "changeme",
                "password",
                "mercure",
                "\0",
            ] {
                // A test library that refuses to sign with such a key has nothing to send.
                if let Ok(token) = TokenKey::hmac("HS256", key).sign(&claims) {
                    refused(t, &token, key)?;
                }
            }
            let neighbour = t.subscriber.sign(&claims)?;
            refused(t, &neighbour, "the subscribers' key")
        },
    )
}

/// What no answer may hold.
const INSIDES: &[&str] = &[
    "/src/",
    ".rs:",
    "panicked",
    "stack backtrace",
    "/home/",
    "/root/",
];

fn telling() -> Case {
    case(
        "abuse/73-errors-tell-nothing",
        &[],
        "bodies of errors are short and tell no path, trace, key or token",
        |t| {
            let canary = "eyJhbGciOiJIUzI1NiJ9.Y2FuYXJ5.c2VjcmV0";
            let long = "x".repeat(3000);
            let requests = [
                Request::get("/nothing/here"),
                Request::get(&format!("{HUB}?topic=%00")),
                Request::get(&format!("{HUB}?topic=x")).bearer(canary),
                Request::get(HUB).bearer(&t.subscriber_token()?),
                Request::new("BREW", HUB),
                Request::form(HUB, &[("topic", "x")]).bearer(canary),
                Request::form(HUB, &[("id", &long)]).bearer(&t.publisher_token()?),
                Request::form(HUB, &[("retry", &long), ("topic", "x")])
                    .bearer(&t.publisher_token()?),
            ];
            for request in requests {
                let answer = t.send(&request)?;
                let text = answer.text();
                let refused = (400..500).contains(&answer.status()) || answer.status() == 501;
                ensure(refused, || answer.head.raw.clone())?;
                ensure(text.len() < 1024, || {
                    format!("{} bytes: {text}", text.len())
                })?;
                let told = INSIDES.iter().find(|inside| text.contains(**inside));
                let told = told.copied().or(text.contains(canary).then_some(canary));
                ensure(told.is_none(), || format!("tells {told:?}: {text}"))?;
                let server = answer.header("server").unwrap_or_default();
                ensure(!server.contains(|c: char| c.is_ascii_digit()), || {
                    format!("a version in {server:?}")
                })?;
            }
            Ok(())
        },
    )
}
