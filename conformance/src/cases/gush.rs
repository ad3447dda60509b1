//! What gush promises beyond the protocol, or where the protocol leaves it a choice.

use super::{ensure, gush_batch, gush_fields, nothing_before, same};
use crate::target::HUB;
use crate::{Case, Need, Target, case};
use gush_testkit::{Claims, Outcome, Request, Response, SseEvent, exchange};
use serde_json::{Value, json};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = operating();
    cases.extend(stream_start());
    cases.extend(cursors());
    cases.extend(gaps());
    cases.extend(no_gaps());
    cases.extend(choices());
    cases.extend(refusals());
    cases.extend(refusals_by_the_head());
    cases.extend(gush_fields::cases());
    cases.extend(gush_batch::cases());
    cases
}

fn operating() -> Vec<Case> {
    let admin = &[Need::Admin];
    vec![
        case(
            "gush/healthz",
            admin,
            "/healthz on both listeners: 200",
            |t| {
                t.send(&Request::get("/healthz"))?.expect_status(&[200])?;
                on_admin(t, "/healthz")?.expect_status(&[200])
            },
        ),
        case(
            "gush/readyz",
            admin,
            "/readyz on both listeners: 200 while serving",
            |t| {
                t.send(&Request::get("/readyz"))?.expect_status(&[200])?;
                on_admin(t, "/readyz")?.expect_status(&[200])
            },
        ),
        case(
            "gush/metrics-on-admin-only",
            admin,
            "/metrics: admin listener only",
            |t| {
                let response = on_admin(t, "/metrics")?;
                response.expect_status(&[200])?;
                ensure(
                    response.text().contains("\n# TYPE gush_") || response.text().contains("gush_"),
                    || format!("gush_ metrics expected, got\n{}", response.text()),
                )?;
                t.send(&Request::get("/metrics"))?.expect_status(&[404])
            },
        ),
        case(
            "gush/page-on-admin-only",
            admin,
            "the page: admin listener only",
            |t| {
                let response = on_admin(t, "/")?;
                response.expect_status(&[200])?;
                let kind = response
                    .header("Content-Type")
                    .unwrap_or_default()
                    .to_lowercase();
                ensure(kind.starts_with("text/html"), || {
                    format!("text/html, got {kind:?}")
                })?;
                t.send(&Request::get("/"))?.expect_status(&[404])
            },
        ),
        case(
            "gush/hub-on-admin",
            admin,
            "the admin listener serves the hub too",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                let request = Request::form(HUB, &[("topic", &topic), ("data", "x")])
                    .bearer(&t.publisher_token()?);
                exchange(t.admin.unwrap_or(t.address), &request)?.expect_status(&[200])?;
                stream.expect_data("x").map(drop)
            },
        ),
    ]
}

fn choices() -> Vec<Case> {
    vec![
        case(
            "gush/generated-id-version",
            &[],
            "generated ids are UUIDs of version 8",
            |t| {
                let id = t.say(&t.topic(), "x")?;
                ensure(id.as_bytes().get(23) == Some(&b'8'), || {
                    format!("version 8 expected: {id}")
                })
            },
        ),
        case(
            "gush/status-foreign-cookie",
            &[],
            "cookie publish from a foreign origin: 403",
            |t| {
                let request = Request::form(HUB, &[("topic", &t.topic())])
                    .header(
                        "Cookie",
                        &format!("mercureAuthorization={}", t.publisher_token()?),
                    )
                    .header("Origin", "https://evil.example");
                t.send(&request)?.expect_status(&[403])
            },
        ),
        case(
            "gush/status-outside-claim",
            &[],
            "publish outside the claim: 403",
            |t| {
                let token = t.publisher.sign(&Claims::new().publish(&["x"]))?;
                let request = Request::form(HUB, &[("topic", &t.topic())]).bearer(&token);
                t.send(&request)?.expect_status(&[403])
            },
        ),
        case(
            "gush/empty-topic",
            &[],
            "an empty topic: 400 on both sides",
            |t| {
                t.try_publish(&[("topic", "")])?.expect_status(&[400])?;
                let request = Request::get(&format!("{HUB}?topic=")).bearer(&t.subscriber_token()?);
                t.send(&request)?.expect_status(&[400])
            },
        ),
    ]
}

fn on_admin(t: &Target, path: &str) -> Outcome<Response> {
    exchange(t.admin.unwrap_or(t.address), &Request::get(path))
}

fn stream_start() -> Vec<Case> {
    vec![
        case(
            "gush/stream-start",
            &[],
            "the body starts with a bare comment line and `retry: N`, and no empty line after it",
            |t| {
                let topic = t.topic();
                let mut stream = t.subscribe(&[("topic", &topic)])?;
                nothing_before(t, &mut stream, &topic)?;
                let start = String::from_utf8_lossy(stream.start()).into_owned();
                let mut lines = start.split('\n');
                same("first line", &lines.next(), &Some(":"))?;
                let second = lines.next().unwrap_or_default();
                ensure(second.starts_with("retry: "), || {
                    format!("retry: expected in {start:?}")
                })?;
                let third = lines.next().unwrap_or_default();
                ensure(third.starts_with("id: "), || {
                    format!("the event at once, in {start:?}")
                })
            },
        ),
        case(
            "gush/retry-is-spread",
            &[],
            "the retry is 2 s within 50 %, and not the same for everybody",
            |t| {
                let mut seen = Vec::new();
                for _ in 0..12 {
                    let topic = t.topic();
                    let mut stream = t.subscribe(&[("topic", &topic)])?;
                    nothing_before(t, &mut stream, &topic)?;
                    let retry = stream.retry().unwrap_or_default();
                    ensure((1000..=3000).contains(&retry), || {
                        format!("1000 to 3000 ms expected, got {retry}")
                    })?;
                    seen.push(retry);
                }
                ensure(seen.iter().any(|retry| *retry != seen[0]), || {
                    format!("different values expected, got {seen:?}")
                })
            },
        ),
        case(
            "gush/no-transform",
            &[],
            "Cache-Control has no-transform",
            |t| {
                let stream = t.subscribe(&[("topic", &t.topic())])?;
                let value = stream.head().joined("Cache-Control").unwrap_or_default();
                ensure(value.contains("no-transform"), || {
                    format!("no-transform in {value:?}")
                })
            },
        ),
    ]
}

fn cursors() -> Vec<Case> {
    let needs = &[Need::History];
    let mut cases: Vec<Case> = ["lastEventId", "Last-Event-ID", "Last-Event-Id"]
        .into_iter()
        .map(|alias| {
            case(
                &format!("gush/cursor-alias-{alias}"),
                needs,
                "the names that polyfills send for the cursor are understood in the query",
                move |t| {
                    let topic = t.topic();
                    let id = t.say(&topic, "0")?;
                    t.say(&topic, "1")?;
                    t.subscribe(&[("topic", &topic), (alias, &id)])?
                        .expect_data("1")
                        .map(drop)
                },
            )
        })
        .collect();
    cases.push(case(
        "gush/unknown-id-names-the-last",
        needs,
        "for an unknown id the header names the last stored update the subscriber may read",
        |t| {
            let topic = t.topic();
            gush_testkit::eventually("header", gush_testkit::PATIENCE, || {
                // Subscription events of earlier cases may still come in between.
                let id = t.say(&topic, "last")?;
                let stream = t.resume(&topic, "no-such-id")?;
                Ok((stream.head().header("Last-Event-ID") == Some(&id)).then_some(()))
            })
        },
    ));
    cases
}

fn gap_of(event: &SseEvent) -> Outcome<Value> {
    same("type of the gap event", &event.event.as_str(), &"gush-gap")?;
    serde_json::from_str(&event.data)
        .map_err(|e| gush_testkit::Failure::new(format!("not JSON ({e}): {:?}", event.data)))
}

fn gaps() -> Vec<Case> {
    let needs = &[Need::History];
    vec![
        case(
            "gush/gap-event",
            needs,
            "gush_gap=1 and an unknown id: a gap event first",
            |t| {
                let topic = t.topic();
                t.say(&topic, "stored")?;
                let query = [
                    ("topic", topic.as_str()),
                    ("gush_gap", "1"),
                    ("lastEventID", "gone"),
                ];
                let mut stream = t.subscribe(&query)?;
                let event = stream.next_event()?;
                let expected = json!({"requested": "gone", "reason": "unknown"});
                same("gap", &gap_of(&event)?, &expected)?;
                ensure(event.id.is_some(), || {
                    format!("the last stored id expected in {event:?}")
                })?;
                let id = event.id.unwrap_or_default();
                nothing_before(t, &mut stream, &topic)?;
                // Whoever comes back with the id of the gap event goes on from there.
                t.resume(&topic, &id)?
                    .head()
                    .expect_header("Last-Event-ID", &id)
            },
        ),
        case(
            "gush/gap-hides-private-ids",
            needs,
            "the gap event's id is not one that a publisher gave to an update this subscriber may \
             not read",
            |t| {
                let topic = t.topic();
                let secret = format!("secret {}", t.unique());
                let fields = [("topic", "elsewhere"), ("id", &secret), ("private", "on")];
                t.publish(&fields)?;
                let query = [
                    ("topic", topic.as_str()),
                    ("gush_gap", "1"),
                    ("lastEventID", "gone"),
                ];
                let mut stream = t.subscribe_as(&t.plain_token()?, &query)?;
                let event = stream.next_event()?;
                gap_of(&event)?;
                ensure(event.id.as_ref() != Some(&secret), || {
                    format!("the id of a private update is told: {event:?}")
                })
            },
        ),
    ]
}

fn no_gaps() -> Vec<Case> {
    let needs = &[Need::History];
    vec![
        case(
            "gush/gap-not-asked-for",
            needs,
            "without the parameter there is none",
            |t| {
                let topic = t.topic();
                for query in [
                    vec![("topic", topic.as_str()), ("lastEventID", "gone")],
                    vec![
                        ("topic", topic.as_str()),
                        ("lastEventID", "gone"),
                        ("gush_gap", "0"),
                    ],
                ] {
                    nothing_before(t, &mut t.subscribe(&query)?, &topic)?;
                }
                Ok(())
            },
        ),
        case(
            "gush/gap-none-when-found",
            needs,
            "a cursor that is found: no gap event",
            |t| {
                let topic = t.topic();
                let id = t.say(&topic, "0")?;
                for cursor in [id.as_str(), ""] {
                    let query = [
                        ("topic", topic.as_str()),
                        ("gush_gap", "1"),
                        ("lastEventID", cursor),
                    ];
                    nothing_before(t, &mut t.subscribe(&query)?, &topic)?;
                }
                Ok(())
            },
        ),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        case(
            "gush/refusal-says-why",
            &[],
            "a 401 says why, with WWW-Authenticate: Bearer",
            |t| {
                for (claims, words) in [
                    (Claims::new().publish(&["*"]).expires_in(-12), "expired"),
                    (Claims::new().publish(&["*"]).not_before_in(600), "not"),
                ] {
                    let token = t.publisher.sign(&claims)?;
                    let request = Request::form(HUB, &[("topic", &t.topic())]).bearer(&token);
                    let response = t.send(&request)?;
                    response.expect_status(&[401])?;
                    response.head.expect_header("WWW-Authenticate", "Bearer")?;
                    ensure(response.text().contains(words), || {
                        format!("{words:?} expected in {:?}", response.text())
                    })?;
                }
                let response = t.send(&Request::form(HUB, &[("topic", &t.topic())]))?;
                response.expect_status(&[401])?;
                response.head.expect_header("WWW-Authenticate", "Bearer")?;
                ensure(!response.body.is_empty(), || "a reason expected".to_owned())
            },
        ),
        case(
            "gush/refusal-leaks-nothing",
            &[],
            "a refusal holds no token, no key and no path",
            |t| {
                let secret_topic = t.unique();
                let token = super::tokens::foreign_key().sign(&Claims::new().publish(&["*"]))?;
                let request = Request::form(HUB, &[("topic", &secret_topic)]).bearer(&token);
                let body = t.send(&request)?.text();
                for word in [
                    token.as_str(),
                    &token[..20],
                    "key-",
                    "/home",
                    "/work",
                    ".rs:",
                ] {
                    ensure(!body.contains(word), || {
                        format!("{word:?} found in {body:?}")
                    })?;
                }
                ensure(body.len() < 300, || {
                    format!("short text expected, got {body:?}")
                })
            },
        ),
    ]
}

fn refusals_by_the_head() -> Vec<Case> {
    vec![
        case(
            "gush/publish-too-large",
            &[],
            "a body over 10 MiB: 400 at once by its length",
            |t| {
                let request = Request::new("POST", HUB)
                    .header("Content-Type", "application/x-www-form-urlencoded")
                    .header("Content-Length", &(11 << 20).to_string())
                    .bearer(&t.publisher_token()?);
                let mut connection = t.connect()?;
                connection.send_request(&request)?;
                connection.read_response()?.expect_status(&[400])
            },
        ),
        case(
            "gush/bad-token-before-the-body",
            &[],
            "a bad token is refused from the head; the body is not waited for",
            |t| {
                let request = Request::new("POST", HUB)
                    .header("Content-Type", "application/x-www-form-urlencoded")
                    .header("Content-Length", "1000000")
                    .bearer(&"x".repeat(60));
                let mut connection = t.connect()?;
                connection.send_request(&request)?;
                connection.read_response()?.expect_status(&[401])
            },
        ),
    ]
}
